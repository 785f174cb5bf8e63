//! The graph: what a [`Tensor`] is.
//!
//! A tensor is a handle on a [`Node`]: an [`Op`], its operands, a shape, a dtype, a device and the
//! user's line. Nodes are immutable but for a write-once value; operands are always older than
//! their users, so the creation number is a topological order.
//!
//! An op with bad operands gives a node of `Op::Invalid`, and so does every op built on it: there
//! is no panic and no `Result` in a formula.
//!
//! Does no I/O, runs nothing, and knows no device beyond the handle it passes on.

pub mod below;
pub mod build;
pub mod device;
mod examine;
pub(crate) mod float;
pub mod mix;
pub mod op;
pub mod operators;
mod primitive;
pub mod print;
pub mod scalar;
pub(crate) mod source;
pub mod tensor;
pub(crate) mod wide;

pub use device::{Backend, Device, Storage};
pub use mix::{ById, Ids, Map, Mix};
pub use op::Op;
pub use scalar::Scalar;
pub use tensor::{Node, Operand, Tensor};
