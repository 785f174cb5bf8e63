//! Memory: gives every buffer of the kernels a slot, and slots that are not alive together one
//! allocation.
//!
//! Outputs get memory of their own, because they outlive the run, or that of a leaf which does not.
//! A slot's allocation is free again after the last kernel that reads it, and those of its wave.

use crate::compile::graph::{Graph, Id};
use crate::compile::kernel::{Access, Expr, Kernel, Kind, Store};
use crate::compile::lower::{Lowered, is_scalars};
use crate::compile::overwrite::overwrite;
use crate::compile::plan::{Home, Limits, Plan, Slot, Step};
use crate::compile::waves::{ARE_MADE, Wave};
use crate::dtype::DType;
use crate::graph::mix::ById;
use crate::graph::op::{CustomShader, Op};
use crate::graph::source::ALL_KERNELS;

/// The plan of the lowered kernels, which run in turn but for `waves` that they may be in; it may
/// overwrite the leaves of the numbers `dying`.
pub fn assign(graph: &Graph, lowered: Lowered, waves: &[usize], dying: &[usize], limits: &Limits) -> Plan {
    let mut plan = Plan {
        slots: Vec::new(),
        steps: Vec::new(),
        leaves: Vec::new(),
        overwritten: Vec::new(),
        scalars: None,
        outputs: Vec::new(),
        allocations: Vec::new(),
        peak_bytes: 0,
    };
    let mut slots: ById<usize> = ById::default();
    for (id, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Data) {
            slots.insert(id as u64, plan.slots.len());
            plan.slots.push(Slot { dtype: node.dtype, numel: node.shape.numel(), home: Home::Leaf(plan.leaves.len()) });
            plan.leaves.push(node.leaf);
        }
    }
    let mut last_use: ById<usize> = ById::default();
    for (k, kernel) in lowered.kernels.iter().enumerate() {
        kernel.buffers.iter().for_each(|b| {
            last_use.insert(b.slot as u64, k);
        });
    }
    // A run that faults on the way shall leave its leaves as they were.
    let last_fault = lowered.kernels.iter().rposition(|kernel| ALL_KERNELS && !kernel.faults.is_empty());
    let safe_from = last_fault.map_or(0, |k| k + 1);
    let mut wave = Wave::default();
    let mut outputs_bytes = 0;
    for (k, mut kernel) in lowered.kernels.into_iter().enumerate() {
        if ALL_KERNELS {
            let joined = overwrite(&mut kernel, &|operand, result| {
                let home = slots.get(&(operand.slot as u64)).map(|&slot| plan.slots[slot].home);
                let [outlives, asked] = [result, operand].map(|buffer| graph.roots.contains(&(buffer.slot as Id)));
                let bytes = operand.numel as u64 * operand.dtype.bytes() as u64;
                let dies = !asked && last_use.get(&(operand.slot as u64)) == Some(&k);
                dies && bytes <= limits.binding_bytes_max
                    && match home {
                        Some(Home::Temp(_)) => !outlives,
                        Some(Home::Leaf(n)) => outlives && k >= safe_from && dying.contains(&plan.leaves[n]),
                        _ => false,
                    }
            });
            for [operand, result] in joined {
                let slot = slots.get(&(operand as u64)).copied().unwrap_or(0);
                if let Home::Leaf(n) = plan.slots[slot].home {
                    plan.overwritten.push(n);
                }
                slots.insert(result as u64, slot);
            }
        }
        let home = |name: usize| slots.get(&(name as u64)).map(|&slot| (slot, plan.slots[slot].home));
        wave.enter(waves.get(k).copied().unwrap_or(k), &kernel, home);
        for buffer in &kernel.buffers {
            let name = buffer.slot;
            if slots.contains_key(&(name as u64)) {
                continue;
            }
            let mut slot = Slot { dtype: buffer.dtype, numel: buffer.numel, home: Home::Output };
            if is_scalars(name) {
                slot.home = Home::Scalars;
                slot.numel =
                    graph.nodes.iter().filter(|n| matches!(n.op, Op::Input(_))).map(|n| n.leaf + 1).max().unwrap_or(0);
                plan.scalars = Some(plan.slots.len());
            } else if graph.roots.contains(&(name as Id)) {
                outputs_bytes += slot.bytes();
            } else {
                slot.home = Home::Temp(take(&mut plan.allocations, wave.free(), slot.bytes()));
            }
            slots.insert(name as u64, plan.slots.len());
            plan.slots.push(slot);
        }
        // Freed only now: a kernel's output shares no memory with inputs but those it overwrites.
        for buffer in &kernel.buffers {
            if last_use.get(&(buffer.slot as u64)) == Some(&k)
                && let Some(&slot) = slots.get(&(buffer.slot as u64))
                && let Home::Temp(allocation) = plan.slots[slot].home
            {
                wave.release(allocation);
            }
        }
        for buffer in &mut kernel.buffers {
            buffer.slot = slots.get(&(buffer.slot as u64)).copied().unwrap_or(0);
            if buffer.access == Access::Read && plan.scalars == Some(buffer.slot) {
                buffer.numel = plan.slots[buffer.slot].numel;
            }
        }
        let (bytes, flops) = cost(&kernel);
        if ARE_MADE {
            let (at, wave) = wave.place(plan.steps.len(), &kernel, &plan.slots);
            plan.steps.insert(at, Step { kernel, bytes, flops, wave });
        } else {
            plan.steps.push(Step { kernel, bytes, flops, wave: k });
        }
    }
    // No device has memory for a slot that is not there: a wrong plan is an error, not another's elements.
    plan.outputs = graph.roots.iter().map(|&r| slots.get(&u64::from(r)).copied().unwrap_or(usize::MAX)).collect();
    plan.peak_bytes = outputs_bytes + plan.allocations.iter().sum::<u64>();
    plan
}

/// An allocation of at least `bytes`: a free one that wastes little, or a new one.
fn take(allocations: &mut Vec<u64>, free: Option<&mut Vec<usize>>, bytes: u64) -> usize {
    let Some(free) = free else {
        allocations.push(bytes);
        return allocations.len() - 1;
    };
    let fits = |&&a: &&usize| allocations[a] >= bytes && allocations[a] / 2 <= bytes.max(128);
    let best = free.iter().filter(fits).min_by_key(|&&a| allocations[a]).copied();
    // Else the largest free one grows: it costs only the difference.
    let best =
        best.or_else(|| free.iter().filter(|&&a| allocations[a] < bytes).max_by_key(|&&a| allocations[a]).copied());
    match best {
        Some(a) => {
            free.retain(|&x| x != a);
            allocations[a] = allocations[a].max(bytes);
            a
        }
        None => {
            allocations.push(bytes);
            allocations.len() - 1
        }
    }
}

/// Bytes moved and operations done by a kernel, by prediction: what it reads once, what it stores.
fn cost(kernel: &Kernel) -> (u64, u64) {
    let buffers = kernel.buffers.iter().enumerate();
    let is_loop = ALL_KERNELS && matches!(kernel.kind, Kind::Loop(_));
    let bytes = buffers.map(|(k, b)| {
        let times = if is_loop && b.access == Access::ReadWrite { 2 } else { 1 };
        (touched(kernel, k).min(b.numel) * times * b.dtype.bytes()) as u64
    });
    let bytes = bytes.sum();
    let operations = kernel.body.iter().filter(|e| matches!(e, Expr::Scalar { .. })).count() as u64;
    let (elements, each) = match &kernel.kind {
        Kind::Loop(l) => ([l.outer, l.inner, 1], operations + l.reduces.len() as u64),
        Kind::Dot(d) => ([d.batch, d.m, d.n], 2 * d.k as u64 + operations),
        Kind::Scatter(s) => ([s.lines, s.axis + s.updates, 1], operations + 1),
        Kind::Scan(s) => ([s.lines, s.n, 1], operations + 1),
        Kind::Custom(spec) => match &spec.shader {
            CustomShader::Template(templated) => ([1; 3], templated.flops),
            CustomShader::Own { .. } => ([0; 3], 0),
        },
        // A first pass compares with all of a block; a merge looks up, in turns that wait for memory.
        Kind::Sort(s) if s.runs.is_none() => ([s.lines, s.n, 1], 2 * s.block.min(s.n) as u64),
        Kind::Sort(s) => ([s.lines, s.n, 1], 8 * u64::from(s.merge.max(1).ilog2())),
    };
    // Two tensors of 2^32 elements have more products than 64 bits count.
    let flops = elements.iter().fold(each, |n, &m| n.saturating_mul(m as u64));
    (bytes, flops)
}

/// Elements of buffer `k` that a kernel touches at most; of a concat it may write only its piece.
fn touched(kernel: &Kernel, k: usize) -> usize {
    let stores = |stores: &[Store], each: usize, row: usize| {
        let mut own = stores.iter().filter(|store| store.buffer == k).peekable();
        own.peek()?;
        Some(own.map(|store| if store.each_element { each } else { row }).sum())
    };
    let found = match &kernel.kind {
        Kind::Loop(l) => stores(&l.stores, l.outer.saturating_mul(l.inner), l.outer),
        Kind::Dot(d) => {
            let each = d.batch.saturating_mul(d.m).saturating_mul(d.n);
            let sum = |side: usize, n: usize| d.sums[side].iter().filter(|s| s.buffer == k).count() * n;
            stores(&d.stores, each, each).map_or_else(
                || Some(sum(0, d.m) + sum(1, d.n)).filter(|&n| n > 0),
                |n| Some(n + sum(0, d.m) + sum(1, d.n)),
            )
        }
        Kind::Scatter(s) if s.out == k => Some(s.lines * s.axis),
        Kind::Scan(s) => stores(std::slice::from_ref(&s.store), s.lines * s.n, s.lines),
        Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_) => None,
    };
    found.unwrap_or(usize::MAX)
}

/// The dtype of the runtime scalars' slot.
pub const SCALARS_DTYPE: DType = DType::U32;
