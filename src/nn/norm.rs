//! [`LayerNorm`], [`RmsNorm`] and [`GroupNorm`]: the norms without running statistics.

use crate::graph::tensor::Tensor;
use crate::nn::Module;
use crate::params::{Init, Param, Params, Pass};
use crate::shape::Dims;

/// `(x - mean) / sqrt(var + eps) * weight + bias` with mean and variance over the last axes.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let norm = nn::LayerNorm::new(&Params::new(&device, 42), 2);
/// let y = norm.forward(&Tensor::new([[1.0, 3.0], [-10.0, 10.0]], &device), &Pass::eval());
/// assert!((y.abs() - 1.0).abs().max(..).item::<f32>()? < 1e-4);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `weight` of the normalised axes, at first 1.
    pub weight: Param,
    /// `bias` of the normalised axes, at first 0.
    pub bias: Option<Param>,
    axes: Vec<isize>,
    eps: f64,
}

impl LayerNorm {
    /// Over the last axes, which have the sizes `dims`: one number for the last axis alone.
    #[track_caller]
    pub fn new(params: &Params, dims: impl Dims) -> LayerNorm {
        let dims = dims.dims();
        let norm = LayerNorm::without_bias(params, &dims);
        LayerNorm { bias: Some(params.weight("bias", dims, Init::Zeros)), ..norm }
    }

    /// With a weight alone.
    #[track_caller]
    pub fn without_bias(params: &Params, dims: impl Dims) -> LayerNorm {
        let dims = dims.dims();
        let axes = last(dims.len());
        LayerNorm { weight: params.weight("weight", dims, Init::Ones), bias: None, axes, eps: 1e-5 }
    }

    /// What is added to the variance; 1e-5 by default.
    pub fn eps(self, eps: f64) -> LayerNorm {
        LayerNorm { eps, ..self }
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let (weight, bias) = (self.weight.tensor(pass), self.bias.as_ref().map(|b| b.tensor(pass)));
        x.layer_norm(self.axes.as_slice(), Some(&weight), bias.as_ref(), self.eps)
    }
}

/// `x / sqrt(mean(x²) + eps) * weight` with the mean over the last axes.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let norm = nn::RmsNorm::new(&Params::new(&device, 42), 2);
/// let y = norm.forward(&Tensor::new([[3.0, -3.0]], &device), &Pass::eval());
/// assert!((y.abs() - 1.0).abs().max(..).item::<f32>()? < 1e-4);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// `weight` of the normalised axes, at first 1.
    pub weight: Param,
    axes: Vec<isize>,
    eps: f64,
}

impl RmsNorm {
    /// Over the last axes, which have the sizes `dims`: one number for the last axis alone.
    #[track_caller]
    pub fn new(params: &Params, dims: impl Dims) -> RmsNorm {
        let dims = dims.dims();
        let axes = last(dims.len());
        RmsNorm { weight: params.weight("weight", dims, Init::Ones), axes, eps: f64::from(f32::EPSILON) }
    }

    /// What is added to the mean of squares; the distance from 1 to the next `f32` by default.
    pub fn eps(self, eps: f64) -> RmsNorm {
        RmsNorm { eps, ..self }
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        x.rms_norm(self.axes.as_slice(), Some(&self.weight.tensor(pass)), self.eps)
    }
}

/// Layer norm over each of `groups` groups of channels of `[n, channels, …]`.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let norm = nn::GroupNorm::new(&Params::new(&device, 42), 2, 4);
/// let y = norm.forward(&Tensor::new([[1.0, 3.0, 10.0, 30.0]], &device), &Pass::eval());
/// assert!((y.abs() - 1.0).abs().max(..).item::<f32>()? < 1e-4);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GroupNorm {
    /// `weight: [channels]`, at first 1.
    pub weight: Param,
    /// `bias: [channels]`, at first 0.
    pub bias: Param,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// `channels` in `groups` groups.
    #[track_caller]
    pub fn new(params: &Params, groups: usize, channels: usize) -> GroupNorm {
        let weight = params.weight("weight", [channels], Init::Ones);
        GroupNorm { weight, bias: params.weight("bias", [channels], Init::Zeros), groups, eps: 1e-5 }
    }

    /// What is added to the variance; 1e-5 by default.
    pub fn eps(self, eps: f64) -> GroupNorm {
        GroupNorm { eps, ..self }
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        x.group_norm(self.groups, Some(&self.weight.tensor(pass)), Some(&self.bias.tensor(pass)), self.eps)
    }
}

/// The last `n` axes.
fn last(n: usize) -> Vec<isize> {
    (1..=n as isize).rev().map(|k| -k).collect()
}
