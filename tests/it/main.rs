//! Every test of the crate's public face, in one binary.

mod gradients;
mod scalars;
mod support;
