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

pub mod activation;
pub mod attention;
pub mod conv;
pub mod create;
pub mod dropout;
pub mod einsum;
pub mod index;
pub mod loss;
pub mod matmul;
pub mod movement;
pub mod normalize;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod threefry;
pub mod upsample;
