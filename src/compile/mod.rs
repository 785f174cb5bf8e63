//! The compiler: a graph in, a [`plan::Plan`] out; pure, with limits coming in as data.

pub mod index;
pub mod kernel;
pub mod plan;
pub mod shader;
