//! Every test of the crate's public face, in one binary.

#[cfg(feature = "gpu")]
mod gpu_runtime;
mod gradients;
mod jax;
mod ops_basic;
mod ops_nn;
mod ops_product;
mod oracle;
mod scalars;
mod support;
mod torch;
