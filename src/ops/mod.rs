//! Words: everything a user calls that is a function of primitives.
//!
//! Each word checks its arguments, normalises them (negative axes, broadcasting, dtypes) and
//! builds graph from primitives. None knows how anything is computed.

/// The value of a `Result<_, String>`; its error becomes what the calling word returns.
///
/// `checked!(x, "sum", axis_set(..))` reports the fact under `"sum"` at the user's line, unless `x`
/// is invalid already.
macro_rules! checked {
    ($x:expr, $word:expr, $value:expr) => {
        match $value {
            Ok(value) => value,
            Err(fact) => return $x.refuse($word, fact),
        }
    };
}

pub mod activation;
pub mod attention;
pub mod conv;
pub mod create;
pub mod index;
pub mod join;
pub mod loss;
pub mod matmul;
pub mod movement;
pub mod normalize;
pub mod pad;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod scan;
pub mod slice;
pub mod sort;
pub mod threefry;

use crate::graph::tensor::Tensor;

impl Tensor {
    /// This tensor if it is invalid, otherwise the invalid tensor of `word` and `fact`.
    #[track_caller]
    pub(crate) fn refuse(&self, word: &str, fact: impl Into<String>) -> Tensor {
        if self.is_valid() { Tensor::invalid(word, fact, self.device()) } else { self.clone() }
    }
}
