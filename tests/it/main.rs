//! Every test of the crate's public face, in one binary.

mod agree;
mod compare;
mod devices;
#[cfg(feature = "gpu")]
mod gpu_runtime;
mod gradients;
mod jax;
mod ops_basic;
mod oracle;
mod random_graphs;
mod scalars;
mod support;
