//! [`Linear`] and [`Embedding`]: matrices that multiply, and matrices that are looked up in.
//!
//! The product computes in the dtype of its weight, rounded as the pass says.

use crate::graph::tensor::Tensor;
use crate::nn::{Module, uniform};
use crate::ops::given;
use crate::params::{Init, Param, Params, Pass};

/// `x Wᵀ + b` on the last axis: `[.., inputs]` to `[.., outputs]`.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let fc = nn::Linear::new(&params.at("fc"), 3, 2);
/// let y = fc.forward(&Tensor::ones([5, 3], &device), &Pass::eval());
/// assert_eq!(y.dims(), [5, 2]);
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    /// `weight: [outputs, inputs]`.
    pub weight: Param,
    /// `bias: [outputs]`.
    pub bias: Option<Param>,
}

impl Linear {
    /// Weight and bias, both drawn evenly within `1 / sqrt(inputs)`.
    #[track_caller]
    pub fn new(params: &Params, inputs: usize, outputs: usize) -> Linear {
        let linear = Linear::without_bias(params, inputs, outputs);
        Linear { bias: Some(params.weight("bias", [outputs], uniform(inputs))), ..linear }
    }

    /// A weight alone.
    #[track_caller]
    pub fn without_bias(params: &Params, inputs: usize, outputs: usize) -> Linear {
        Linear { weight: params.weight("weight", [outputs, inputs], uniform(inputs)), bias: None }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        linear("linear", x, &self.weight, self.bias.as_ref(), pass)
    }
}

/// `x Wᵀ + b` under the name of `word`.
#[track_caller]
pub(super) fn linear(word: &str, x: &Tensor, weight: &Param, bias: Option<&Param>, pass: &Pass) -> Tensor {
    let w = weight.tensor(pass);
    given!(word, &[x, &w], {
        match (x.dims(), w.dims()) {
            ([.., n], [_, inputs]) if n == inputs => Ok(()),
            _ => Err(format!("{} {} does not fit the input {}", weight.path(), w.shape(), x.shape())),
        }
    });
    let y = pass.operand(&x.cast(w.dtype())).multiplied(word, &pass.operand(&w).t());
    pass.result(&match bias {
        Some(bias) => y + bias.tensor(pass),
        None => y,
    })
}

/// A row for each of `count` numbers: integers `[..]` to `[.., size]`.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let table = nn::Embedding::new(&params.at("tokens"), 10, 4);
/// let y = table.forward(&Tensor::new([[1, 2, 9]], &device), &Pass::eval());
/// assert_eq!(y.dims(), [1, 3, 4]);
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `weight: [count, size]`.
    pub weight: Param,
}

impl Embedding {
    /// Rows from a normal distribution with mean 0 and standard deviation 1.
    #[track_caller]
    pub fn new(params: &Params, count: usize, size: usize) -> Embedding {
        Embedding { weight: params.weight("weight", [count, size], Init::Normal { mean: 0.0, std: 1.0 }) }
    }
}

impl Module for Embedding {
    fn forward(&self, ids: &Tensor, pass: &Pass) -> Tensor {
        let weight = self.weight.tensor(pass);
        // A mistake that is older than this call comes first.
        given!("embedding", &[ids, &weight], Ok(()));
        weight.embedding(ids)
    }
}
