//! [`MultiHeadAttention`]: projections around [`Tensor::scaled_dot_product_attention`].
//!
//! Heads may share keys and values, positions may be rotary, and what earlier calls computed may
//! lie in a [`KvCache`]. The attention itself is the word's business.

use crate::dtype::DType;
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::nn::cache::KvCache;
use crate::nn::linear::linear;
use crate::nn::{Linear, Module, at_caller, refused};
use crate::ops::attention::AttentionOptions;
use crate::ops::given;
use crate::params::{Init, Param, Params, Pass};

/// Attention in several heads, on `[n, t, size]`.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let attention = nn::MultiHeadAttention::new(&params.at("attn"), 8, 2).causal();
/// let y = attention.forward(&Tensor::ones([1, 5, 8], &device), &Pass::eval());
/// assert_eq!(y.dims(), [1, 5, 8]);
/// ```
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    /// `in_proj_weight: [size + 2 kv heads (size / heads), size]`: queries, keys, values.
    pub in_proj_weight: Param,
    /// `in_proj_bias`.
    pub in_proj_bias: Option<Param>,
    /// `out_proj`.
    pub out_proj: Linear,
    heads: usize,
    kv_heads: usize,
    /// Elements of a head.
    width: usize,
    causal: bool,
    dropout: f64,
    /// How far each pair of elements turns from one position to the next.
    turns: Option<Tensor>,
}

const WORD: &str = "multi_head_attention";

impl MultiHeadAttention {
    /// `heads` heads of `size / heads` elements, with biases.
    #[track_caller]
    pub fn new(params: &Params, size: usize, heads: usize) -> MultiHeadAttention {
        let made = MultiHeadAttention::without_bias(params, size, heads, heads);
        let bias = params.weight("in_proj_bias", [size.saturating_mul(3)], Init::Zeros);
        let out_bias = params.weight("out_proj.bias", [size], Init::Zeros);
        let out_proj = Linear { bias: Some(out_bias), ..made.out_proj };
        MultiHeadAttention { in_proj_bias: Some(bias), out_proj, ..made }
    }

    /// Without biases; each of `kv_heads` keys and values serves `heads / kv_heads` neighbouring heads.
    #[track_caller]
    pub fn without_bias(params: &Params, size: usize, heads: usize, kv_heads: usize) -> MultiHeadAttention {
        let out_proj = Linear::without_bias(&params.at("out_proj"), size, size);
        let fits = heads > 0 && kv_heads > 0 && size.is_multiple_of(heads) && heads.is_multiple_of(kv_heads);
        let width = size.checked_div(heads).unwrap_or(0);
        let in_proj_weight = match fits {
            true => {
                let rows = width.saturating_mul(kv_heads.saturating_mul(2)).saturating_add(size);
                params.weight("in_proj_weight", [rows, size], Init::XavierUniform { gain: 1.0 })
            }
            false => {
                let fact = format!("{size} elements do not make {heads} heads that share {kv_heads}");
                refused(params, "in_proj_weight", WORD, fact)
            }
        };
        MultiHeadAttention {
            in_proj_weight,
            in_proj_bias: None,
            out_proj,
            heads,
            kv_heads,
            width,
            causal: false,
            dropout: 0.0,
            turns: None,
        }
    }

    /// A position sees itself and those before it only.
    pub fn causal(self) -> MultiHeadAttention {
        MultiHeadAttention { causal: true, ..self }
    }

    /// Queries and keys turn with their position: element `i` of a head together with element
    /// `i + width / 2`, by `position * base^(-2 i / width)`; a usual base is 10,000.
    #[track_caller]
    pub fn rotary(self, base: f64) -> MultiHeadAttention {
        let device = self.in_proj_weight.value().device().clone();
        let turns = match self.width % 2 {
            0 => turns(self.width / 2, base, &device),
            _ => Tensor::from_error(at_caller("rotary", format!("{} elements have no halves", self.width)), &device),
        };
        MultiHeadAttention { turns: Some(turns), ..self }
    }

    /// Drops weights of the attention with probability `p` in training.
    pub fn dropout(self, p: f64) -> MultiHeadAttention {
        MultiHeadAttention { dropout: p, ..self }
    }

    /// The result for `x: [n, t, size]` where each position sees those of `memory: [n, s, size]`
    /// that `mask` lets it see; see [`AttentionOptions::mask`].
    ///
    /// A mask is `[t, s]` for all, `[n, t, s]` for each sequence, or `[n, heads, t, s]`; axes of 1
    /// broadcast, so `[n, 1, s]` hides what a sequence was padded with.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let params = Params::new(&device, 42);
    /// let attention = nn::MultiHeadAttention::new(&params.at("attn"), 8, 2);
    /// let (x, memory) = (Tensor::ones([1, 5, 8], &device), Tensor::ones([1, 3, 8], &device));
    /// let y = attention.attend(&x, &memory, None, &Pass::eval());
    /// assert_eq!(y.dims(), [1, 5, 8]);
    /// ```
    #[track_caller]
    pub fn attend(&self, x: &Tensor, memory: &Tensor, mask: Option<&Tensor>, pass: &Pass) -> Tensor {
        let (weight, bias) = (self.in_proj_weight.tensor(pass), self.in_proj_bias.as_ref().map(|b| b.tensor(pass)));
        given!(WORD, &[x, memory, &weight], {
            self.fits(x)?;
            self.fits(memory)?;
            match mask.filter(|mask| !(2..=4).contains(&mask.rank())) {
                Some(mask) => Err(format!("takes a mask [t, s], [n, t, s] or [n, heads, t, s], got {}", mask.shape())),
                None => Ok(()),
            }
        });
        // Without an axis for the heads, the word would take sequences for them.
        let mask = mask.map(|mask| if mask.rank() == 3 { mask.unsqueeze(1) } else { mask.clone() });
        let size = weight.dim(-1);
        let part = |x: &Tensor, start: usize, n: usize| {
            let w = pass.operand(&weight.narrow(0, start, n));
            let y = pass.operand(&x.cast(weight.dtype())).matmul(&w.t());
            pass.result(&match &bias {
                Some(bias) => y + bias.narrow(0, start, n),
                None => y,
            })
        };
        let shared = self.kv_heads.saturating_mul(self.width);
        let q = part(x, 0, size);
        let [k, v] = part(memory, size, shared.saturating_mul(2)).split([shared, shared], -1);
        let start = Tensor::full((), 0, x.device());
        let (q, k) = (self.positioned(self.apart(&q, self.heads), &start), self.apart(&k, self.kv_heads));
        let k = self.positioned(k, &start);
        self.finish(&q, &k, &self.apart(&v, self.kv_heads), mask.as_ref(), self.causal, pass)
    }

    /// The result for the positions of `x: [n, t, size]` that follow those in `cache`; each sees
    /// itself and all before it. The cache keeps their keys and values from [`KvCache::advance`] on.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let params = Params::new(&device, 42);
    /// let attention = nn::MultiHeadAttention::new(&params.at("attn"), 8, 2).causal();
    /// let x = Tensor::ones([1, 1, 8], &device);
    /// let mut cache = nn::KvCache::new(16, &device);
    /// for _ in 0..3 {
    ///     let y = attention.forward_cached(&x, &mut cache, &Pass::eval());
    ///     cache.advance([&y])?;
    /// }
    /// assert_eq!(cache.len(), 3);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn forward_cached(&self, x: &Tensor, cache: &mut KvCache, pass: &Pass) -> Tensor {
        let [q, k, v] = match self.heads_of(x, pass) {
            Ok(parts) => parts,
            Err(bad) => return bad,
        };
        let start = cache.start();
        let (q, k) = (self.positioned(q, &start), self.positioned(k, &start));
        // The cache keeps them in 16 bits, where they are rounded anyway.
        let dtype = pass.autocast_dtype().filter(|_| k.dtype() == DType::F32).unwrap_or(k.dtype());
        let [k, v] = [k, v].map(|x| x.cast(dtype));
        let [k, v] = match cache.extend(&self.in_proj_weight.path(), &k, &v) {
            Ok(parts) => parts,
            Err(bad) => return bad,
        };
        self.finish(&q, &k, &v, Some(&cache.mask(x.dim(1))), false, pass)
    }

    fn fits(&self, x: &Tensor) -> Result<(), String> {
        let size = self.heads.saturating_mul(self.width);
        match x.dims() {
            [_, _, n] if *n == size => Ok(()),
            _ => Err(format!("takes [n, t, {size}], got {}", x.shape())),
        }
    }

    /// Queries, keys and values of the same tensor, by heads; or what is wrong.
    #[track_caller]
    fn heads_of(&self, x: &Tensor, pass: &Pass) -> Result<[Tensor; 3], Tensor> {
        // Not `map`: a closure would hide the caller's line.
        Tensor::examine(WORD, &[x, &self.in_proj_weight.tensor(pass)], || self.fits(x))?;
        let all = linear(WORD, x, &self.in_proj_weight, self.in_proj_bias.as_ref(), pass);
        if !all.is_valid() {
            return Err(all);
        }
        let shared = self.kv_heads.saturating_mul(self.width);
        let [q, k, v] = all.split([self.heads.saturating_mul(self.width), shared, shared], -1);
        Ok([self.apart(&q, self.heads), self.apart(&k, self.kv_heads), self.apart(&v, self.kv_heads)])
    }

    /// `[n, t, heads · width]` as `[n, heads, t, width]`.
    #[track_caller]
    fn apart(&self, x: &Tensor, heads: usize) -> Tensor {
        x.reshape([x.dim(0), x.dim(1), heads, self.width]).transpose(1, 2)
    }

    /// `x: [n, heads, t, width]` turned by its positions, which begin at `start`.
    #[track_caller]
    fn positioned(&self, x: Tensor, start: &Tensor) -> Tensor {
        match &self.turns {
            Some(turns) => rotate(&x, turns, start),
            None => x,
        }
    }

    #[track_caller]
    fn finish(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool, pass: &Pass) -> Tensor {
        let mut options = AttentionOptions::default();
        if causal {
            options = options.causal();
        }
        if let Some(mask) = mask {
            options = options.mask(mask);
        }
        if let Some(key) = pass.key()
            && self.dropout != 0.0
        {
            options = options.dropout(self.dropout, &key);
        }
        let y = q.scaled_dot_product_attention(k, v, options);
        let y = y.transpose(1, 2).reshape([q.dim(0), q.dim(2), self.heads.saturating_mul(self.width)]);
        self.out_proj.forward(&y, pass)
    }
}

impl Module for MultiHeadAttention {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [q, k, v] = match self.heads_of(x, pass) {
            Ok(parts) => parts,
            Err(bad) => return bad,
        };
        let start = Tensor::full((), 0, x.device());
        let (q, k) = (self.positioned(q, &start), self.positioned(k, &start));
        self.finish(&q, &k, &v, None, self.causal, pass)
    }
}

/// `base^(-i / half)` for each `i` of `0..half`, from the host so that all devices agree.
#[track_caller]
fn turns(half: usize, base: f64, device: &Device) -> Tensor {
    let turn = |i: usize| libm::pow(base, -(i as f64) / half as f64) as f32;
    Tensor::from_vec((0..half).map(turn).collect::<Vec<_>>(), [half], device)
}

/// The halves of the last axis of `x: [.., t, e]` turned against each other, by position.
#[track_caller]
fn rotate(x: &Tensor, turns: &Tensor, start: &Tensor) -> Tensor {
    given!("rotary", &[x, turns, start], Ok(()));
    let t = x.dim(-2);
    let positions = Tensor::arange(0, t as i64, 1, x.device()).cast(turns.dtype()) + start.cast(turns.dtype());
    let angle = positions.reshape([t, 1]) * turns;
    let (cos, sin) = (angle.cos(), angle.sin());
    let half = turns.dim(0);
    let [a, b] = x.cast(turns.dtype()).split([half, half], -1);
    Tensor::cat(&[&a * &cos - &b * &sin, &b * &cos + &a * &sin], -1).cast(x.dtype())
}
