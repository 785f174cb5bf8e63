//! Overwrite: a map stores its results over operands that die in it, element by element.
//!
//! What an invocation loads of such an operand is the very element that it stores later, so the
//! kernel binds one buffer for both. Knows no homes of buffers: who may die is up to `memory`.

use crate::compile::kernel::{Access, Buffer, Expr, Kernel, Kind};

/// Joins each result of `kernel` with an operand that `may` (operand, result) be overwritten by it,
/// where there is one; gives the slots of operand and result.
pub fn overwrite(kernel: &mut Kernel, may: &dyn Fn(&Buffer, &Buffer) -> bool) -> Vec<[usize; 2]> {
    let Kind::Loop(map) = &kernel.kind else { return Vec::new() };
    if map.inner != 1 || !map.reduces.is_empty() {
        return Vec::new();
    }
    // Operand and result, by their places in `buffers`.
    let mut pairs: Vec<[usize; 2]> = Vec::new();
    for store in &map.stores {
        let result = &kernel.buffers[store.buffer];
        let whole = result.numel == map.outer && map.stores.iter().filter(|s| s.buffer == store.buffer).count() == 1;
        let fits = |from: usize, operand: &Buffer| {
            let alike = (operand.access, operand.dtype, operand.numel) == (Access::Read, result.dtype, result.numel);
            let elsewhere = |expr: &Expr| match expr {
                Expr::Load { buffer, index, mask } => *buffer == from && (*index != store.index || mask.is_some()),
                _ => false,
            };
            alike
                && may(operand, result)
                && !pairs.iter().any(|pair| pair[0] == from)
                && !kernel.body.iter().any(elsewhere)
        };
        if whole && result.access == Access::Write {
            let found = kernel.buffers.iter().enumerate().find(|(from, operand)| fits(*from, operand));
            pairs.extend(found.map(|(from, _)| [from, store.buffer]));
        }
    }
    let slots = pairs.iter().map(|pair| pair.map(|k| kernel.buffers[k].slot)).collect();
    join(kernel, &pairs);
    slots
}

/// Makes one buffer, that of the result, of each pair.
fn join(kernel: &mut Kernel, pairs: &[[usize; 2]]) {
    if pairs.is_empty() {
        return;
    }
    let gone = |k: usize| pairs.iter().find(|pair| pair[0] == k).map(|pair| pair[1]);
    let mut left = 0;
    let places: Vec<usize> = (0..kernel.buffers.len())
        .map(|k| {
            left += usize::from(gone(k).is_none());
            left.wrapping_sub(1)
        })
        .collect();
    let place = |k: usize| places[gone(k).unwrap_or(k)];
    for expr in &mut kernel.body {
        if let Expr::Load { buffer, .. } = expr {
            *buffer = place(*buffer);
        }
    }
    kernel.stores_mut().into_iter().for_each(|store| store.buffer = place(store.buffer));
    pairs.iter().for_each(|pair| kernel.buffers[pair[1]].access = Access::ReadWrite);
    let mut k = 0;
    kernel.buffers.retain(|_| {
        k += 1;
        gone(k - 1).is_none()
    });
}
