//! No products on matrix units for a page: no browser offers them.

use std::convert::Infallible;

use crate::compile::kernel::{Dot, Kernel};
use crate::compile::plan::Limits;
use crate::compile::wgsl::text::Text;

/// Nothing stands before a shader.
pub const ENABLES: &str = "";

/// There are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cooperative(Infallible);

/// There are none.
pub struct Cut(Infallible);

/// How a product is cut for them.
pub fn cut(_: &Kernel, _: &Dot, _: &Limits) -> Option<Cut> {
    None
}

/// The template.
pub fn dot(_: &mut Text<'_>, _: &Dot, cut: &Cut) -> u64 {
    match cut.0 {}
}
