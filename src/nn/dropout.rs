//! [`Dropout`]: it drops in a training pass, by the pass's key, and does nothing in evaluation.

use crate::graph::tensor::Tensor;
use crate::nn::Module;
use crate::ops::given;
use crate::params::Pass;

/// In training, each element is 0 with probability `p`, otherwise `x / (1 - p)`.
///
/// ```
/// # use wgrad::prelude::*;
/// let params = Params::new(&Device::cpu(), 42);
/// let x = Tensor::ones([100], &Device::cpu());
/// let dropout = nn::Dropout::new(0.5);
/// let zeros = |y: Tensor| y.eq(0.0).any(..).item::<bool>();
/// assert!(!zeros(dropout.forward(&x, &Pass::eval()))?);
/// assert!(zeros(dropout.forward(&x, &Pass::train(&params)))?);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability.
    pub p: f64,
}

impl Dropout {
    /// Drops with probability `p`.
    pub fn new(p: f64) -> Dropout {
        Dropout { p }
    }
}

impl Module for Dropout {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        given!("dropout", &[x], {
            match (0.0..=1.0).contains(&self.p) {
                true => Ok(()),
                false => Err(format!("p is {}, but a probability is in 0..=1", self.p)),
            }
        });
        match pass.key() {
            Some(key) => x.dropout(self.p, &key),
            None => x.clone(),
        }
    }
}
