//! Every test of the crate's public face, in one binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agree;
mod arrays;
mod augment;
mod autocast;
mod compare;
mod cooperative;
mod cpu_kernels;
#[cfg(unix)]
mod crash;
mod curves;
mod custom;
mod data;
mod devices;
mod edges;
mod errors;
mod examples;
mod faults;
mod flash;
mod fuzz;
mod generate;
#[cfg(feature = "gpu")]
mod gpu_kept;
#[cfg(feature = "gpu")]
mod gpu_late;
#[cfg(feature = "gpu")]
mod gpu_runtime;
#[cfg(feature = "gpu")]
mod gpu_slices;
mod gradients;
mod hostile;
#[cfg(feature = "image")]
mod images;
mod io;
mod jax;
mod judge;
mod kept;
mod kernels;
mod large;
mod lines;
mod loader;
mod loops;
mod nn;
mod ops_basic;
mod ops_gradients;
mod ops_nn;
mod ops_product;
mod ops_reduce;
mod optim;
mod oracle;
#[cfg(feature = "gpu")]
mod overwrite;
mod params;
#[cfg(feature = "parquet")]
mod parquet;
mod passes;
mod random_graphs;
mod random_steps;
mod recompute;
mod rows;
mod scalars;
#[cfg(feature = "gpu")]
mod steps;
mod support;
mod tidy;
mod tiles;
mod torch;
mod trace;
mod tracking;
mod train;
#[cfg(feature = "gpu")]
mod tune;
mod updates;
mod waves;
mod wgsl;
