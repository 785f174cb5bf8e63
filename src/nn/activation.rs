//! [`Activation`]: the words that map each element, as modules.

use crate::graph::tensor::Tensor;
use crate::nn::Module;
use crate::params::Pass;

/// An activation by name, for a [`Sequential`](crate::nn::Sequential) or an option.
///
/// ```
/// # use wgrad::prelude::*;
/// let x = Tensor::new([-1.0, 2.0], &Device::cpu());
/// let y = nn::Activation::Relu.forward(&x, &Pass::eval());
/// assert_eq!(y.to_vec::<f32>()?, [0.0, 2.0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// [`Tensor::relu`].
    Relu,
    /// [`Tensor::leaky_relu`] with this slope; PyTorch's is 0.01.
    LeakyRelu(f64),
    /// [`Tensor::elu`] with this alpha; PyTorch's is 1.
    Elu(f64),
    /// [`Tensor::gelu`].
    Gelu,
    /// [`Tensor::gelu_tanh`].
    GeluTanh,
    /// [`Tensor::silu`].
    Silu,
    /// [`Tensor::mish`].
    Mish,
    /// [`Tensor::softplus`].
    Softplus,
    /// [`Tensor::sigmoid`].
    Sigmoid,
    /// [`Tensor::tanh`].
    Tanh,
    /// [`Tensor::hardswish`].
    Hardswish,
    /// [`Tensor::glu`] along this axis.
    Glu(isize),
    /// [`Tensor::softmax`] along this axis.
    Softmax(isize),
    /// [`Tensor::log_softmax`] along this axis.
    LogSoftmax(isize),
}

impl Module for Activation {
    fn forward(&self, x: &Tensor, _: &Pass) -> Tensor {
        match *self {
            Activation::Relu => x.relu(),
            Activation::LeakyRelu(slope) => x.leaky_relu(slope),
            Activation::Elu(alpha) => x.elu(alpha),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Silu => x.silu(),
            Activation::Mish => x.mish(),
            Activation::Softplus => x.softplus(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Tanh => x.tanh(),
            Activation::Hardswish => x.hardswish(),
            Activation::Glu(axis) => x.glu(axis),
            Activation::Softmax(axis) => x.softmax(axis),
            Activation::LogSoftmax(axis) => x.log_softmax(axis),
        }
    }
}
