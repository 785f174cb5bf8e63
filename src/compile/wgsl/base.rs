//! Base: binds a buffer where a kernel begins to use it, instead of at its start.
//!
//! Weights lie one after another in slabs, and the same layer further on differs in nothing but
//! where its weights begin. Bound there, all such layers have one text and are compiled once.

use crate::compile::index::{Atom, Lin};
use crate::compile::kernel::{Access, Buffer, Expr, Kernel, Kind};
use crate::compile::plan::Limits;

/// Where bindings may start: every device allows multiples of this.
const ALIGNMENT_BYTES: u64 = 256;

/// `kernel` with indices into each buffer less what all of them have in common, and those bytes.
pub fn rebase(kernel: &Kernel, limits: &Limits) -> (Kernel, Vec<u64>) {
    let mut kernel = kernel.clone();
    // The element before which the kernel never touches each buffer.
    let mut least = vec![i64::MAX; kernel.buffers.len()];
    if matches!(kernel.kind, Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_)) {
        least.fill(0);
    }
    let mut touch = |buffer: usize, index: &Lin| {
        // A value that is out of range is caught, but still computed with.
        let caught = index.terms.iter().any(|(atom, _)| matches!(atom, Atom::Value(..)));
        least[buffer] = least[buffer].min(if caught { 0 } else { index.range().0 });
    };
    for expr in &kernel.body {
        if let Expr::Load { buffer, index, .. } = expr {
            touch(*buffer, index);
        }
    }
    kernel.stores_mut().into_iter().for_each(|s| touch(s.buffer, &s.index));
    let mut bytes = Vec::with_capacity(least.len());
    for (buffer, least) in kernel.buffers.iter_mut().zip(&mut least) {
        *least = start(buffer, *least, limits);
        buffer.numel -= *least as usize;
        bytes.push(*least as u64 * buffer.dtype.bytes() as u64);
    }
    for expr in &mut kernel.body {
        if let Expr::Load { buffer, index, .. } = expr {
            index.constant -= least[*buffer];
        }
    }
    kernel.stores_mut().into_iter().for_each(|s| s.index.constant -= least[s.buffer]);
    (kernel, bytes)
}

/// Where a binding of `buffer` may start, of which no element before `least` is touched.
fn start(buffer: &Buffer, least: i64, limits: &Limits) -> i64 {
    let each = buffer.dtype.bytes() as u64;
    let start = least / (ALIGNMENT_BYTES / each) as i64 * (ALIGNMENT_BYTES / each) as i64;
    let windows = (buffer.numel as u64).saturating_mul(each) > limits.binding_bytes_max;
    let possible = (1..buffer.numel as i64).contains(&start);
    if possible && !windows && buffer.access != Access::ReadWrite { start } else { 0 }
}
