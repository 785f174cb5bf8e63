//! [`TransformerBlock`]: attention and two or three products, each behind a norm and beside a
//! residual path.
//!
//! Two kinds: PyTorch's `TransformerEncoderLayer(norm_first=True)` with layer norms and biases, and
//! the one with RMS norms, SwiGLU and no biases.

use crate::grad::{Recompute, checkpoint_with};
use crate::graph::tensor::Tensor;
use crate::nn::cache::KvCache;
use crate::nn::{Activation, Dropout, LayerNorm, Linear, Module, MultiHeadAttention, RmsNorm};
use crate::params::{Params, Pass};

/// A layer of a transformer, on `[n, t, size]`; its norms come before what they normalise for.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let block = nn::TransformerBlock::new(&params.at("block.0"), 8, 2).causal().dropout(0.1);
/// let y = block.forward(&Tensor::ones([1, 5, 8], &device), &Pass::train(&params));
/// assert_eq!(y.dims(), [1, 5, 8]);
/// assert!(params.get("block.0.self_attn.in_proj_weight").is_some());
/// ```
#[derive(Clone, Debug)]
pub struct TransformerBlock {
    /// `self_attn`.
    pub self_attn: MultiHeadAttention,
    /// `linear1`: to the hidden elements; in SwiGLU, those that go through the activation.
    pub linear1: Linear,
    /// `linear2`: from the hidden elements.
    pub linear2: Linear,
    /// `linear3`: the factor of the hidden elements in SwiGLU.
    pub linear3: Option<Linear>,
    norms: [Norm; 2],
    activation: Activation,
    dropout: Dropout,
    recompute: Option<Recompute>,
}

#[derive(Clone, Debug)]
enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl TransformerBlock {
    /// With layer norms, biases, and `4 size` hidden elements behind a GELU.
    #[track_caller]
    pub fn new(params: &Params, size: usize, heads: usize) -> TransformerBlock {
        let hidden = size.saturating_mul(4);
        TransformerBlock {
            self_attn: MultiHeadAttention::new(&params.at("self_attn"), size, heads),
            linear1: Linear::new(&params.at("linear1"), size, hidden),
            linear2: Linear::new(&params.at("linear2"), hidden, size),
            linear3: None,
            norms: [
                Norm::Layer(LayerNorm::new(&params.at("norm1"), size)),
                Norm::Layer(LayerNorm::new(&params.at("norm2"), size)),
            ],
            activation: Activation::Gelu,
            dropout: Dropout::new(0.0),
            recompute: None,
        }
    }

    /// With RMS norms, no biases, `heads` heads that share `kv_heads` keys and values, and SwiGLU:
    /// `linear2(silu(linear1(x)) * linear3(x))` with `hidden` elements.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let params = Params::new(&device, 42);
    /// let block = nn::TransformerBlock::swiglu(&params.at("block.0"), 8, 4, 2, 24).causal().rotary(10_000.0);
    /// let y = block.forward(&Tensor::ones([1, 5, 8], &device), &Pass::eval());
    /// assert_eq!(y.dims(), [1, 5, 8]);
    /// ```
    #[track_caller]
    pub fn swiglu(params: &Params, size: usize, heads: usize, kv_heads: usize, hidden: usize) -> TransformerBlock {
        TransformerBlock {
            self_attn: MultiHeadAttention::without_bias(&params.at("self_attn"), size, heads, kv_heads),
            linear1: Linear::without_bias(&params.at("linear1"), size, hidden),
            linear2: Linear::without_bias(&params.at("linear2"), hidden, size),
            linear3: Some(Linear::without_bias(&params.at("linear3"), size, hidden)),
            norms: [
                Norm::Rms(RmsNorm::new(&params.at("norm1"), size).eps(1e-5)),
                Norm::Rms(RmsNorm::new(&params.at("norm2"), size).eps(1e-5)),
            ],
            activation: Activation::Silu,
            dropout: Dropout::new(0.0),
            recompute: None,
        }
    }

    /// A position sees itself and those before it only.
    pub fn causal(self) -> TransformerBlock {
        TransformerBlock { self_attn: self.self_attn.causal(), ..self }
    }

    /// Positions by rotation; see [`MultiHeadAttention::rotary`].
    #[track_caller]
    pub fn rotary(self, base: f64) -> TransformerBlock {
        TransformerBlock { self_attn: self.self_attn.rotary(base), ..self }
    }

    /// Another activation of the hidden elements.
    pub fn activation(self, activation: Activation) -> TransformerBlock {
        TransformerBlock { activation, ..self }
    }

    /// Drops with probability `p` in training: weights of the attention, hidden elements, and what
    /// joins the residual path.
    pub fn dropout(self, p: f64) -> TransformerBlock {
        TransformerBlock { self_attn: self.self_attn.dropout(p), dropout: Dropout::new(p), ..self }
    }

    /// Keeps less for the backward pass of training and computes it again there; see
    /// [`checkpoint_with`].
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// use wgrad::Recompute;
    /// let params = Params::new(&Device::cpu(), 42);
    /// let block = nn::TransformerBlock::new(&params.at("block.0"), 8, 2).recompute(Recompute::Cheap);
    /// ```
    pub fn recompute(self, recompute: Recompute) -> TransformerBlock {
        TransformerBlock { recompute: Some(recompute), ..self }
    }

    /// The result for the positions that follow those in `cache`; see
    /// [`MultiHeadAttention::forward_cached`].
    #[track_caller]
    pub fn forward_cached(&self, x: &Tensor, cache: &mut KvCache, pass: &Pass) -> Tensor {
        let [norm1, _] = &self.norms;
        let y = self.self_attn.forward_cached(&norm1.forward(x, pass), cache, pass);
        self.finish(x, &y, pass)
    }

    #[track_caller]
    fn whole(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [norm1, _] = &self.norms;
        let y = self.self_attn.forward(&norm1.forward(x, pass), pass);
        self.finish(x, &y, pass)
    }

    /// Both residual sums, when the attention of `x` is `y`.
    #[track_caller]
    fn finish(&self, x: &Tensor, y: &Tensor, pass: &Pass) -> Tensor {
        let [_, norm2] = &self.norms;
        let x = x + self.dropped(y, pass);
        let z = norm2.forward(&x, pass);
        let hidden = self.activation.forward(&self.linear1.forward(&z, pass), pass);
        let hidden = match &self.linear3 {
            Some(linear3) => hidden * linear3.forward(&z, pass),
            None => hidden,
        };
        let y = self.linear2.forward(&self.dropped(&hidden, pass), pass);
        x + self.dropped(&y, pass)
    }

    #[track_caller]
    fn dropped(&self, x: &Tensor, pass: &Pass) -> Tensor {
        // Without a key where nothing is dropped.
        if self.dropout.p == 0.0 { x.clone() } else { self.dropout.forward(x, pass) }
    }
}

impl Module for TransformerBlock {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let again = self.recompute.filter(|_| pass.is_train());
        let kept = again.map(|recompute| checkpoint_with(recompute, |_| self.whole(x, pass), &[x]));
        // A mistake inside a closure would not be at the user's line.
        match kept.filter(Tensor::is_valid) {
            Some(y) => y,
            None => self.whole(x, pass),
        }
    }
}

impl Module for Norm {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        match self {
            Norm::Layer(norm) => norm.forward(x, pass),
            Norm::Rms(norm) => norm.forward(x, pass),
        }
    }
}
