//! [`Sequential`] and [`Residual`]: modules made of modules.

use std::fmt;
use std::panic::Location;
use std::path::Path;

use crate::graph::tensor::Tensor;
use crate::nn::Module;
use crate::params::Pass;

/// One module after another.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let model = nn::Sequential::new()
///     .then(nn::Linear::new(&params.at("0"), 4, 8))
///     .then(nn::Activation::Relu)
///     .then(nn::Linear::new(&params.at("2"), 8, 2))
///     .then(|x: &Tensor, _: &Pass| x * 0.5);
/// assert_eq!(model.forward(&Tensor::ones([3, 4], &device), &Pass::eval()).dims(), [3, 2]);
/// ```
#[derive(Default)]
pub struct Sequential {
    modules: Vec<Box<dyn Module + Send + Sync>>,
}

impl Sequential {
    /// No module: what comes in goes out.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// `module` behind those that are there.
    pub fn then(mut self, module: impl Module + Send + Sync + 'static) -> Sequential {
        self.modules.push(Box::new(module));
        self
    }

    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let mut y = x.clone();
        for module in &self.modules {
            y = at_user(&y, module.forward(&y, pass));
        }
        y
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequential of {}", self.len())
    }
}

/// `x + module(x)`, on the same shape.
///
/// ```
/// # use wgrad::prelude::*;
/// let x = Tensor::new([1.0, 2.0], &Device::cpu());
/// let y = nn::Residual::new(|x: &Tensor, _: &Pass| x * 2.0).forward(&x, &Pass::eval());
/// assert_eq!(y.to_vec::<f32>()?, [3.0, 6.0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Residual<M>(pub M);

impl<M: Module> Residual<M> {
    /// Around `module`.
    pub fn new(module: M) -> Residual<M> {
        Residual(module)
    }
}

impl<M: Module> Module for Residual<M> {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        x + at_user(x, self.0.forward(x, pass))
    }
}

/// `y`, with the caller's line in an error that `x` did not have: a boxed module or a closure of
/// this crate does not see who called.
#[track_caller]
fn at_user(x: &Tensor, y: Tensor) -> Tensor {
    let ours = |at: &Location| Path::new(at.file()).parent() == Path::new(file!()).parent();
    match y.error() {
        Some(error) if x.is_valid() && error.location().is_none_or(ours) => {
            Tensor::from_error(error.clone().at(Location::caller()), y.device())
        }
        _ => y,
    }
}
