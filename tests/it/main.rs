//! Every test of the crate's public face, in one binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "gpu")]
mod gpu_runtime;
mod cpu_kernels;
mod gradients;
mod jax;
mod ops_basic;
mod ops_nn;
mod ops_product;
mod oracle;
mod scalars;
mod support;
mod torch;
