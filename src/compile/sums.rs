//! Sums: the sum of an operand of a product along what the product contracts is taken where the
//! product loads it anyway. So the gradient of a bias comes with that of its weight.
//!
//! Works on kernels that are made already, and only for GPUs, whose template has room for it.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Access, Dot, Expr, ExprId, FoldKind, I, J, K, Kernel, Kind, Loop, O, Reduce, Store};
use crate::compile::lower::Lowered;
use crate::compile::plan::{Limits, Target};
use crate::compile::schedule::bindings;
use crate::dtype::DType;
use crate::graph::op::Reduction;
use crate::graph::source::ALL_KERNELS;

/// Elements of a sum; longer ones are better added up in pieces, as kernels of their own do.
const LENGTH_MAX: usize = 4096;

/// Merges what can be merged.
pub fn merge(lowered: &mut Lowered, limits: &Limits) {
    if limits.target == Target::Cpu {
        return;
    }
    let kernels = &mut lowered.kernels;
    let mut at = 0;
    while at < kernels.len() {
        let home = Sum::of(&kernels[at]).and_then(|sum| {
            let place = (0..kernels.len()).find_map(|k| {
                let side = sum.side(&kernels[k])?;
                let fits = bindings(&kernels[k], limits) < limits.buffers_max && in_time(kernels, at, k, sum.slot());
                fits.then_some((k, side))
            });
            place.map(|(k, side)| (k, side, sum.store.clone(), kernels[at].buffers[sum.store.buffer].clone()))
        });
        let Some((k, side, store, written)) = home else {
            at += 1;
            continue;
        };
        let product = &mut kernels[k];
        let known = product.buffers.iter().position(|b| b.slot == written.slot && b.access == Access::Write);
        let buffer = known.unwrap_or(product.buffers.len());
        if known.is_none() {
            product.buffers.push(written);
        }
        product.body.push(Expr::Reduced(1));
        product.dtypes.push(DType::F32);
        let value = product.body.len() as ExprId - 1;
        let index = renamed(&store.index, &[(O, [I, J][side])]);
        if let Kind::Dot(dot) = &mut product.kind {
            dot.sums[side] = Some(Store { buffer, index, value, each_element: false });
        }
        kernels.remove(at);
    }
}

/// A column sum of one buffer, as a kernel of its own.
struct Sum<'k> {
    kernel: &'k Kernel,
    spec: &'k Loop,
    store: &'k Store,
    slot: usize,
    element: &'k Lin,
}

impl<'k> Sum<'k> {
    fn of(kernel: &'k Kernel) -> Option<Sum<'k>> {
        let Kind::Loop(spec) = &kernel.kind else { return None };
        let ([reduce], [store]) = (&spec.reduces[..], &spec.stores[..]) else { return None };
        let plain = reduce.fold == FoldKind::Value(Reduction::Sum) && reduce.dtype == DType::F32;
        let stored = matches!(kernel.body[store.value as usize], Expr::Reduced(0));
        let floats = kernel.buffers.iter().all(|b| b.dtype.is_float());
        let (buffer, element) = loaded(kernel, reduce.value)?;
        let fits = plain && stored && floats && spec.inner <= LENGTH_MAX && kernel.faults.is_empty();
        fits.then(|| Sum { kernel, spec, store, slot: kernel.buffers[buffer].slot, element })
    }

    /// The slot it is written to.
    fn slot(&self) -> usize {
        self.kernel.buffers[self.store.buffer].slot
    }

    /// Which operand of product `kernel` it is the sum of: 0 the left one, 1 the right one.
    fn side(&self, kernel: &Kernel) -> Option<usize> {
        let Kind::Dot(dot) = &kernel.kind else { return None };
        let Dot { batch: 1, m, n, k, dtype: DType::F32, lhs, rhs, sums, .. } = dot else { return None };
        if *k != self.spec.inner || !crate::compile::wgsl::is_tiled(dot) {
            return None;
        }
        let is = |operand: ExprId, extent: usize, var: Var| {
            let Some((buffer, index)) = loaded(kernel, operand) else { return false };
            let same = renamed(self.element, &[(O, var), (I, K)]) == *index;
            same && kernel.buffers[buffer].slot == self.slot && extent == self.spec.outer
        };
        let sides = [is(*lhs, *m, I), is(*rhs, *n, J)];
        (0..2).find(|&side| sides[side] && sums[side].is_none())
    }
}

/// Which buffer `value` is loaded from, and where, as it is or as the `f32` that its 16 bits stand for.
fn loaded(kernel: &Kernel, value: ExprId) -> Option<(usize, &Lin)> {
    match &kernel.body[value as usize] {
        Expr::Load { buffer, index, mask: None } => Some((*buffer, index)),
        Expr::Cast { src, .. } if ALL_KERNELS => {
            let widens = kernel.dtypes[value as usize] == DType::F32 && kernel.dtypes[*src as usize].bytes() == 2;
            loaded(kernel, *src).filter(|_| widens)
        }
        _ => None,
    }
}

/// The sums beside a product as kernels of their own, over the same buffers.
pub fn apart(kernel: &Kernel) -> Vec<Kernel> {
    let mut all = Vec::new();
    let Kind::Dot(dot) = &kernel.kind else { return all };
    for (store, (value, var, outer)) in dot.sums.iter().zip([(dot.lhs, I, dot.m), (dot.rhs, J, dot.n)]) {
        let Some(store) = store else { continue };
        let mut alone = kernel.clone();
        let names = [(var, O), (K, I)];
        for expr in &mut alone.body {
            if let Some(index) = expr.index_mut() {
                *index = renamed(index, &names);
            }
        }
        alone.body.push(Expr::Reduced(0));
        alone.dtypes.push(DType::F32);
        let sum = alone.body.len() as ExprId - 1;
        let reduces = vec![Reduce { fold: FoldKind::Value(Reduction::Sum), value, dtype: DType::F32, stage: 0 }];
        let stores = vec![Store { index: renamed(&store.index, &names), value: sum, ..*store }];
        alone.kind = Kind::Loop(Loop { outer, inner: dot.k, reduces, stores, rows: false });
        all.push(alone);
    }
    all
}

/// Whether what kernel `from` writes to `slot` may be written by kernel `to` instead.
fn in_time(kernels: &[Kernel], from: usize, to: usize, slot: usize) -> bool {
    // Earlier than before is always well: the product reads the same.
    let between = kernels.get(from..to).unwrap_or_default();
    let own = |kernel: &Kernel, access: Access| kernel.buffers.iter().any(|b| b.slot == slot && b.access == access);
    !between.iter().any(|kernel| own(kernel, Access::Read)) && !own(&kernels[to], Access::Read)
}

/// `lin` with variables renamed.
fn renamed(lin: &Lin, names: &[(Var, Var)]) -> Lin {
    lin.replace(&|atom| match atom {
        Atom::Var(v, n) => names.iter().find(|(from, _)| from == v).map(|(_, to)| Lin::var(*to, *n)),
        Atom::Div(..) | Atom::Mod(..) | Atom::Value(..) => None,
    })
}
