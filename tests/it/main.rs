//! Every test of the crate's public face, in one binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod arrays;
#[cfg(feature = "gpu")]
mod gpu_runtime;
mod errors;
mod fuzz;
mod gradients;
mod jax;
mod kernels;
mod ops_basic;
mod ops_gradients;
mod ops_nn;
mod ops_product;
mod ops_reduce;
mod oracle;
mod scalars;
mod support;
mod torch;
