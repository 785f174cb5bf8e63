//! Base: binds a buffer where a kernel begins to use it, instead of at its start.
//!
//! Weights lie one after another in slabs, and the same layer further on differs in nothing but
//! where its weights begin. Bound there, all such layers have one text and are compiled once.

use crate::compile::index::{Atom, Lin};
use crate::compile::kernel::{Access, Expr, Kernel, Kind};
use crate::compile::plan::Limits;

/// Where bindings may start: every device allows multiples of this.
const ALIGNMENT_BYTES: u64 = 256;

/// `kernel` with indices into each buffer less what all of them have in common, and those bytes.
pub fn rebase(kernel: &Kernel, limits: &Limits) -> (Kernel, Vec<u64>) {
    let mut kernel = kernel.clone();
    let starts: Vec<usize> = (0..kernel.buffers.len()).map(|k| start(&kernel, k, limits)).collect();
    let bytes = starts.iter().zip(&kernel.buffers).map(|(&start, b)| (start * b.dtype.bytes()) as u64).collect();
    for expr in &mut kernel.body {
        if let Expr::Load { buffer, index, .. } = expr {
            index.constant -= starts[*buffer] as i64;
        }
    }
    let (stores, sums) = match &mut kernel.kind {
        Kind::Loop(l) => (&mut l.stores[..], None),
        Kind::Dot(d) => (&mut d.stores[..], Some(&mut d.sums)),
        Kind::Scan(s) => (std::slice::from_mut(&mut s.store), None),
        Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_) => (&mut [][..], None),
    };
    let all = stores.iter_mut().chain(sums.into_iter().flatten().flatten());
    all.for_each(|s| s.index.constant -= starts[s.buffer] as i64);
    kernel.buffers.iter_mut().zip(&starts).for_each(|(b, start)| b.numel -= start);
    (kernel, bytes)
}

/// The element before which the kernel never touches buffer `k`, where a binding may start.
fn start(kernel: &Kernel, k: usize, limits: &Limits) -> usize {
    let buffer = &kernel.buffers[k];
    let bytes = (buffer.numel as u64).saturating_mul(buffer.dtype.bytes() as u64);
    if buffer.access == Access::ReadWrite || bytes > limits.binding_bytes_max {
        return 0;
    }
    let mut least = i64::MAX;
    let mut touch = |index: &Lin| {
        // A value that is out of range is caught, but still computed with.
        let caught = index.terms.iter().any(|(atom, _)| matches!(atom, Atom::Value(..)));
        least = least.min(if caught { 0 } else { index.range().0 });
    };
    for expr in &kernel.body {
        if let Expr::Load { buffer, index, .. } = expr
            && *buffer == k
        {
            touch(index);
        }
    }
    let (stores, sums) = match &kernel.kind {
        Kind::Loop(l) => (&l.stores[..], None),
        Kind::Dot(d) => (&d.stores[..], Some(&d.sums)),
        Kind::Scan(s) => (std::slice::from_ref(&s.store), None),
        Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_) => return 0,
    };
    stores.iter().chain(sums.into_iter().flatten().flatten()).filter(|s| s.buffer == k).for_each(|s| touch(&s.index));
    let granule = ALIGNMENT_BYTES as i64 / buffer.dtype.bytes() as i64;
    match usize::try_from(least / granule * granule) {
        Ok(start) if start < buffer.numel => start,
        _ => 0,
    }
}
