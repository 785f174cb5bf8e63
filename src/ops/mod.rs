//! Words: everything a user calls that is a function of primitives.
//!
//! Each word checks its arguments, normalises them (negative axes, broadcasting, dtypes) and
//! builds graph from primitives. None knows how anything is computed.

/// What a word needs to know of its operands; where that cannot be found out, the word returns the
/// invalid tensor that says why. A macro, because a closure would hide the caller's line.
macro_rules! given {
    ($word:expr, $src:expr, $rule:expr) => {
        match $crate::Tensor::examine($word, $src, || $rule) {
            Ok(found) => found,
            Err(bad) => return bad,
        }
    };
}

pub(crate) use given;

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
pub mod dropout;
pub mod einsum;
#[cfg_attr(all(target_arch = "wasm32", not(feature = "all-kernels")), path = "no_flash.rs")]
pub(crate) mod flash;
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
pub mod upsample;

use crate::graph::tensor::Tensor;

impl Tensor {
    /// This tensor if it is invalid, otherwise the invalid tensor of `word` and `fact`.
    #[track_caller]
    pub(crate) fn refuse(&self, word: &str, fact: impl Into<String>) -> Tensor {
        if self.is_valid() { Tensor::invalid(word, fact, self.device()) } else { self.clone() }
    }
}
