//! Modules: layers with weights of their own, and how they are put together.
//!
//! You have numbers and want a network that maps them to other numbers. Write a struct of modules,
//! make each at its path of a [`Params`], and give the struct a `forward`:
//!
//! ```
//! # use wgrad::prelude::*;
//! struct Mlp {
//!     fc1: nn::Linear,
//!     fc2: nn::Linear,
//! }
//!
//! impl Mlp {
//!     fn new(params: &Params) -> Mlp {
//!         let fc1 = nn::Linear::new(&params.at("fc1"), 784, 128);
//!         Mlp { fc1, fc2: nn::Linear::new(&params.at("fc2"), 128, 10) }
//!     }
//! }
//!
//! impl Module for Mlp {
//!     fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
//!         self.fc2.forward(&self.fc1.forward(x, pass).relu(), pass)
//!     }
//! }
//!
//! let device = Device::cpu();
//! let params = Params::new(&device, 42);
//! let model = Mlp::new(&params.at("mlp"));
//! let y = model.forward(&Tensor::zeros([32, 784], &device), &Pass::eval());
//! assert_eq!(y.dims(), [32, 10]);
//! assert!(params.get("mlp.fc1.weight").is_some());
//! ```
//!
//! What decides which weights there are is said to the constructor (`new`, `without_bias`, and what
//! the word of the same name takes as options); everything else is said to a method afterwards, as
//! in `LayerNorm::new(&params, 64).eps(1e-6)`. Names, shapes and first values of weights are those
//! of PyTorch, so its state dicts load by name.
//!
//! Whether a model trains is an argument of every `forward`, the [`Pass`]: dropout drops and running
//! statistics are updated in a training pass only. A wrong shape gives an invalid tensor that says
//! which weight it did not fit; see [`Tensor::error`].
//!
//! The modules know weights and words; they know no optimizer, no file and no dataset.

mod activation;
mod batch_norm;
mod conv;
mod dropout;
mod linear;
mod norm;
mod pool;
mod sequential;

pub use activation::Activation;
pub use batch_norm::BatchNorm;
pub use conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use dropout::Dropout;
pub use linear::{Embedding, Linear};
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d, Flatten,
    MaxPool1d, MaxPool2d,
};
pub use sequential::{Residual, Sequential};

use crate::graph::tensor::Tensor;
use crate::params::{Init, Param, Params, Pass};

/// What maps one tensor to one tensor: every layer here, and closures `|x, pass| …`.
///
/// ```
/// # use wgrad::prelude::*;
/// let double = |x: &Tensor, _: &Pass| x * 2.0;
/// let y = double.forward(&Tensor::new(3.0, &Device::cpu()), &Pass::eval());
/// assert_eq!(y.item::<f32>()?, 6.0);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub trait Module {
    /// The result for `x`, in training or in evaluation.
    #[track_caller]
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor;
}

impl<F: Fn(&Tensor, &Pass) -> Tensor> Module for F {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        self(x, pass)
    }
}

/// Evenly within `1 / sqrt(fan in)`: how PyTorch's layers draw weights and biases.
fn uniform(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { low: -bound, high: bound }
}

/// The cell of a weight that cannot be: whatever uses it gives the error.
#[track_caller]
fn refused(params: &Params, name: &str, word: &str, fact: String) -> Param {
    params.buffer(name, &Tensor::from_error(at_caller(word, fact), params.device()))
}

/// An error of `word` at the user's line.
#[track_caller]
fn at_caller(word: &str, fact: String) -> crate::Error {
    crate::Error::new(crate::ErrorKind::Operand, word, fact).at(std::panic::Location::caller())
}
