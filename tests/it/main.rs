//! Every test of the crate's public face, in one binary.

mod gradients;
mod oracle;
mod scalars;
mod support;
