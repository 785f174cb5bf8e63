//! [`BatchNorm`]: the norm that remembers.
//!
//! A training pass normalises with the batch's own statistics and notes new running ones in the
//! pass; the optimizer's step computes and keeps them, if the pass is still there by then.
//! Evaluation uses them and changes nothing.

use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::nn::Module;
use crate::params::{Init, Param, Params, Pass};
use crate::shape::Shape;

/// `(x - mean) / sqrt(var + eps) * weight + bias` on each channel of `[n, c]`, `[n, c, l]`,
/// `[n, c, h, w]` and so on.
///
/// In training, bind the pass (`let pass = Pass::train(&params);`): a pass that is gone before the
/// optimizer's step takes the new running statistics with it, but for what a later pass went on from.
/// Several passes before one step move them one after another.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let norm = nn::BatchNorm::new(&params, 1);
/// let x = Tensor::new([[1.0], [3.0]], &device);
/// let y = norm.forward(&x, &Pass::train(&params));
/// assert!((y.abs() - 1.0).abs().max(..).item::<f32>()? < 1e-4);
/// let y = norm.forward(&x, &Pass::eval());
/// assert!((y - &x).abs().max(..).item::<f32>()? < 1e-4);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// `weight: [channels]`, at first 1.
    pub weight: Option<Param>,
    /// `bias: [channels]`, at first 0.
    pub bias: Option<Param>,
    /// The running mean, at first 0.
    pub running_mean: Param,
    /// The running unbiased variance, at first 1.
    pub running_var: Param,
    /// How many training passes there were, an `i32` scalar.
    pub num_batches_tracked: Param,
    momentum: f64,
    eps: f64,
}

impl BatchNorm {
    /// With weight, bias and running statistics for `channels`.
    #[track_caller]
    pub fn new(params: &Params, channels: usize) -> BatchNorm {
        let weight = Some(params.weight("weight", [channels], Init::Ones));
        let bias = Some(params.weight("bias", [channels], Init::Zeros));
        BatchNorm { weight, bias, ..BatchNorm::without_affine(params, channels) }
    }

    /// With running statistics alone.
    #[track_caller]
    pub fn without_affine(params: &Params, channels: usize) -> BatchNorm {
        let device = params.device();
        BatchNorm {
            weight: None,
            bias: None,
            running_mean: params.buffer("running_mean", &filled(channels, 0.0, device)),
            running_var: params.buffer("running_var", &filled(channels, 1.0, device)),
            num_batches_tracked: params.buffer("num_batches_tracked", &Tensor::new(0, device)),
            momentum: 0.1,
            eps: 1e-5,
        }
    }

    /// How much of a running statistic a training pass replaces; 0.1 by default.
    pub fn momentum(self, momentum: f64) -> BatchNorm {
        BatchNorm { momentum, ..self }
    }

    /// What is added to the variance; 1e-5 by default.
    pub fn eps(self, eps: f64) -> BatchNorm {
        BatchNorm { eps, ..self }
    }
}

impl Module for BatchNorm {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let (weight, bias) = (self.weight.as_ref().map(|w| w.tensor(pass)), self.bias.as_ref().map(|b| b.tensor(pass)));
        let (running_mean, running_var) = (self.running_mean.tensor(pass), self.running_var.tensor(pass));
        if !pass.is_train() {
            return x.batch_norm_with(&running_mean, &running_var, weight.as_ref(), bias.as_ref(), self.eps);
        }
        let (y, mean, var) = x.batch_norm(weight.as_ref(), bias.as_ref(), self.eps);
        let moved = |old: &Tensor, new: &Tensor| old * (1.0 - self.momentum) + new * self.momentum;
        let updates =
            [(&self.running_mean, moved(&running_mean, &mean)), (&self.running_var, moved(&running_var, &var))];
        // A mistake is in the result already; a step that does not use that must not fail for it.
        if y.is_valid() {
            updates.iter().for_each(|(param, value)| pass.record(param, value));
            pass.record(&self.num_batches_tracked, &(self.num_batches_tracked.tensor(pass) + 1));
        }
        y
    }
}

/// Elements in memory: a constant would make the first step a graph of its own.
#[track_caller]
fn filled(channels: usize, value: f32, device: &Device) -> Tensor {
    match Shape::new(&[channels]) {
        Ok(shape) => Tensor::from_vec(vec![value; channels], shape, device),
        Err(_) => Tensor::zeros([channels], device),
    }
}
