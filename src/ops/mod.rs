//! Words: everything a user calls that is a function of primitives.
//!
//! Each word checks its arguments, normalises them (negative axes, broadcasting, dtypes) and
//! builds graph from primitives. None knows how anything is computed.

pub mod activation;
pub mod attention;
pub mod conv;
pub mod create;
pub mod index;
pub mod loss;
pub mod matmul;
pub mod movement;
pub mod normalize;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod threefry;
