//! The integration tests.

#[cfg(feature = "gpu")]
mod gpu_runtime;
