//! The oracle: a node-by-node interpreter of the raw graph. (skeleton)
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::tensor::Tensor;

/// How floats are kept between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// `f64` throughout; only casts round.
    Exact,
    /// Each node's result is rounded to its dtype.
    PerNode,
}

/// Elements as the oracle holds them.
#[derive(Clone, Debug)]
pub enum Values {
    /// Elements of a float dtype.
    Float(Vec<f64>),
    /// Elements of any other dtype as the 32 bits they are computed in.
    Bits(Vec<u32>),
}

/// What the oracle found.
pub struct Evaluation {
    /// One for each root.
    pub values: Vec<Values>,
    /// Indices that were out of range, each naming its op and line.
    pub faults: Vec<Error>,
}

impl Values {
    /// The elements as they lie in memory in `dtype`.
    pub fn to_bytes(&self, _dtype: DType) -> Vec<u8> {
        Vec::new()
    }
}

/// Evaluates `roots`.
pub fn evaluate(_roots: &[Tensor], _rounding: Rounding) -> Result<Evaluation> {
    Ok(Evaluation { values: Vec::new(), faults: Vec::new() })
}
