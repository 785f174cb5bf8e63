#![doc = include_str!("../README.md")]
//!
//! # In these pages
//!
//! - [`Tensor`] has all the words: creation, operators, reductions, products, losses and the rest.
//! - [`Device`] says where tensors live: [`Device::best`], [`Device::cpu`] and the GPUs by name.
//! - [`Tensor::grad`] differentiates; [`checkpoint`], [`checkpoint_with`] and [`custom_gradient`] change how.
//! - [`realize`] runs several results in one plan; [`explain`](fn@explain) shows what would run.
//! - [`tune`] finds out which products run best how on your own GPU.
//! - [`Error`] is what reading gives where a formula was wrong: see [`Tensor::error`].
//! - [`DType`] has the table of promotions, [`shape`] what may be given as dimensions and axes.
//! - [`device::CustomKernel`] runs your own WGSL.
//! - [`Params`] keeps weights by path; [`nn`] has the layers that use them.
//! - [`data`] reads datasets and makes batches; [`io`] reads and writes safetensors and NumPy's files.
//! - [`optim`] has the optimizers and [`train`] the loop around them.
//! - [`from_pytorch`] says what things are called here.
//! - [`mod@reference`] is the oracle, [`compile`] the compiler, both as libraries.

pub mod dtype;
pub mod error;
pub mod graph;
pub mod shape;

pub mod grad;
pub mod ops;
pub mod reference;

pub mod compile;
pub mod device;

pub mod params;

pub mod data;
pub mod io;
pub mod nn;
pub mod optim;

pub mod train;

pub mod from_pytorch;

pub use device::explain;
pub use device::realize::realize;
#[cfg(not(target_arch = "wasm32"))]
pub use device::tune;
pub use dtype::{DType, Element, Number};
pub use error::{Error, ErrorKind, Result};
pub use grad::{Recompute, checkpoint, checkpoint_with, custom_gradient};
pub use graph::{Device, Operand, Tensor};
pub use ops::attention::AttentionOptions;
pub use ops::conv::ConvOptions;
pub use ops::loss::{ClassOptions, Reduce};
pub use ops::pad::PadMode;
pub use ops::pool::PoolOptions;
pub use ops::upsample::Upsample;
pub use params::{Gradients, Init, Param, Params, Pass};
pub use shape::{Shape, keepdim};
#[cfg(feature = "gpu")]
pub use wgpu;

/// The words most programs use: `use wgrad::prelude::*;`.
pub mod prelude {
    pub use crate::nn::{self, Module};
    pub use crate::{AttentionOptions, ClassOptions, ConvOptions, PadMode, PoolOptions, Reduce, Upsample};
    pub use crate::{DType, Device, Error, Number, Shape, Tensor, keepdim};
    pub use crate::{Gradients, Init, Param, Params, Pass};
}
