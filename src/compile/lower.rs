//! Lower: makes the kernels of a schedule, last cluster first, so that only what is read is stored.
//!
//! Buffers are still named by the nodes that lie in them (and by numbers past the graph's for
//! scratch space); `memory` turns them into slots.

use crate::compile::express::{Express, SCALARS};
use crate::compile::graph::{Graph, Id};
use crate::compile::index::{Lin, flatten, unflatten};
use crate::compile::kernel::{self, Access, Expr, FaultSite, FoldKind, I, J, K, Kernel, Kind, O, Reduce, Store};
use crate::compile::plan::Limits;
use crate::compile::schedule::{Cluster, Schedule, Space, is_reduction, part_values};
use crate::dtype::DType;
use crate::graph::op::Op;
use crate::graph::source::ALL_KERNELS;

/// The kernels of a schedule in the order they run.
#[derive(Clone)]
pub struct Lowered {
    /// Kernels; a buffer's `slot` is a node, [`SCALARS`], or scratch past the graph's nodes.
    pub kernels: Vec<Kernel>,
    /// Dtype and elements of each scratch buffer.
    pub scratch: Vec<(DType, usize)>,
}

/// Makes the kernels.
pub fn lower(graph: &Graph, schedule: &Schedule, limits: &Limits) -> Lowered {
    let mut needed = vec![false; graph.nodes.len()];
    graph.roots.iter().for_each(|&r| needed[r as usize] = true);
    let mut out = Lowered { kernels: Vec::new(), scratch: Vec::new() };
    for (c, cluster) in schedule.clusters.iter().enumerate().rev() {
        let read = |p: Id| needed[schedule.pieces[p as usize].map_or(p, |piece| piece.of) as usize];
        let wanted: Vec<Id> = cluster.parts.iter().copied().filter(|&p| read(p)).collect();
        if wanted.is_empty() {
            continue;
        }
        let mut made = match &cluster.space {
            Space::Solo => solo(graph, schedule, c as u32, cluster, limits, &mut out.scratch),
            _ => vec![looped(graph, schedule, c as u32, cluster, &wanted)],
        };
        for kernel in &mut made {
            kernel.name = name(graph, cluster);
            for buffer in kernel.buffers.iter().filter(|b| b.access == Access::Read && b.slot < graph.nodes.len()) {
                needed[buffer.slot] = true;
            }
        }
        made.reverse();
        out.kernels.extend(made);
    }
    out.kernels.reverse();
    out
}

/// A map, a chain of reductions, or a product with its epilogue.
fn looped(graph: &Graph, schedule: &Schedule, c: u32, cluster: &Cluster, wanted: &[Id]) -> Kernel {
    let space = &cluster.space;
    let view = |x: Id| schedule.view(graph, x, c, space, &cluster.parts);
    let mut e = Express::new(graph, &view, Kind::Loop(crate::compile::schedule::empty_loop()));
    let reductions: Vec<Id> = cluster.parts.iter().copied().filter(|&p| is_reduction(&graph.node(p).op)).collect();

    // What is stored; a reduction's own result is stored through its number.
    let mut stores = Vec::new();
    for &part in wanted {
        let node = graph.node(part);
        let (value, index, each_element) = match (space, &node.op) {
            (Space::Rows(rows), op) if is_reduction(op) => {
                let n = reductions.iter().position(|&r| r == part).unwrap_or(0);
                (e.push(Expr::Reduced(n), node.dtype), Lin::var(O, rows.outer), false)
            }
            (Space::Rows(rows), _) => {
                let each = node.shape.numel() == rows.outer * rows.inner;
                let index = if each { rows.element.clone() } else { Lin::var(O, rows.outer) };
                (first(part_values(&mut e, graph, space, part)), index, each)
            }
            (Space::Product(p), Op::Dot | Op::Conv(_)) => {
                (e.push(Expr::Reduced(0), node.dtype), p.position.clone(), true)
            }
            (Space::Product(p), _) => (first(part_values(&mut e, graph, space, part)), p.position.clone(), true),
            _ => (first(part_values(&mut e, graph, space, part)), Lin::var(O, node.shape.numel()), false),
        };
        let (buffer, offset) = place(&mut e, graph, schedule, part, Access::Write);
        stores.push(Store { buffer, index: index.offset(offset), value, each_element });
    }

    e.kernel.kind = match space {
        Space::Product(p) => {
            let hero = cluster.parts[0];
            let operands = part_values(&mut e, graph, space, hero);
            let [batch, m, n, k] = p.extents;
            let dtype = graph.node(hero).dtype;
            Kind::Dot(kernel::Dot {
                batch,
                m,
                n,
                k,
                dtype,
                lhs: operands[0],
                rhs: operands[1],
                stores,
                sums: [None, None],
            })
        }
        Space::Rows(rows) => {
            let reduces = reduces(&mut e, graph, space, &reductions);
            Kind::Loop(kernel::Loop { outer: rows.outer, inner: rows.inner, reduces, stores, rows: rows.rows })
        }
        Space::Map(n) => Kind::Loop(kernel::Loop { outer: *n, inner: 1, reduces: Vec::new(), stores, rows: true }),
        Space::Solo => e.kernel.kind.clone(),
    };
    e.kernel
}

/// The buffer that a part is written to, and where in it its first element lies.
fn place(e: &mut Express<'_>, graph: &Graph, schedule: &Schedule, part: Id, access: Access) -> (usize, i64) {
    let piece = schedule.pieces[part as usize];
    let (whole, offset) = piece.map_or((part, 0), |piece| (piece.of, piece.offset as i64));
    let node = graph.node(whole);
    (e.buffer(whole as usize, node.dtype, node.shape.numel(), access), offset)
}

/// The reductions that the stores use, directly or through each other, renumbered.
fn reduces(e: &mut Express<'_>, graph: &Graph, space: &Space, reductions: &[Id]) -> Vec<Reduce> {
    let mut values: Vec<Option<kernel::ExprId>> = vec![None; reductions.len()];
    loop {
        let used: Vec<usize> =
            e.kernel.body.iter().filter_map(|x| if let Expr::Reduced(n) = x { Some(*n) } else { None }).collect();
        let mut grew = false;
        for n in used {
            if values[n].is_none() {
                values[n] = Some(first(part_values(e, graph, space, reductions[n])));
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let mut number = vec![0; reductions.len()];
    let mut kept = 0;
    for (n, value) in values.iter().enumerate() {
        number[n] = kept;
        kept += usize::from(value.is_some());
    }
    for expr in &mut e.kernel.body {
        if let Expr::Reduced(n) = expr {
            *n = number[*n];
        }
    }
    let deps = e.kernel.dependencies();
    let mut made: Vec<Reduce> = Vec::with_capacity(kept);
    for (value, &id) in values.iter().zip(reductions).filter_map(|(v, id)| v.map(|v| (v, id))) {
        let node = graph.node(id);
        let fold = match &node.op {
            Op::Reduce(kind, _) => FoldKind::Value(*kind),
            Op::ArgReduce(extreme, _) => FoldKind::Arg(*extreme),
            _ => FoldKind::Value(crate::graph::op::Reduction::Sum),
        };
        let earlier = deps[value as usize] >> 8;
        let stage =
            made.iter().enumerate().filter(|(k, _)| earlier >> (*k).min(55) & 1 == 1).map(|(_, r)| r.stage + 1).max();
        let dtype = e.kernel.dtypes[value as usize];
        made.push(Reduce { fold, value, dtype, stage: stage.unwrap_or(0) });
    }
    made
}

/// Kernels of a part that fuses with nothing but what it reads.
fn solo(
    graph: &Graph,
    schedule: &Schedule,
    c: u32,
    cluster: &Cluster,
    limits: &Limits,
    scratch: &mut Vec<(DType, usize)>,
) -> Vec<Kernel> {
    let id = cluster.parts[0];
    let node = graph.node(id);
    let view = |x: Id| schedule.view(graph, x, c, &cluster.space, &cluster.parts);
    let mut e = Express::new(graph, &view, Kind::Loop(crate::compile::schedule::empty_loop()));
    let dims = node.shape.dims();
    // Index of position `along` on line O of `dims` along `axis`.
    let line = |axis: usize, along: Lin| -> Vec<Lin> {
        let mut rest = dims.to_vec();
        rest[axis] = 1;
        let lines = rest.iter().product();
        let mut at = unflatten(&rest, &Lin::var(O, lines));
        at[axis] = along;
        at
    };
    match &node.op {
        Op::Scan(kind, axis) => {
            let n = dims[*axis];
            let at = line(*axis, Lin::var(I, n));
            let value = e.value(node.src[0], &at, None);
            let (buffer, offset) = place(&mut e, graph, schedule, id, Access::Write);
            let store = Store { buffer, index: flatten(dims, &at).offset(offset), value, each_element: true };
            let lines = node.shape.numel() / n;
            e.kernel.kind = Kind::Scan(kernel::Scan { lines, n, kind: *kind, value, store });
            vec![e.kernel]
        }
        Op::Scatter { axis, mode, word } => {
            let n = dims[*axis];
            let updates = graph.node(node.src[1]).shape.dims()[*axis];
            e.kernel.faults.push(FaultSite { word: word.0, bound: n, at: node.at });
            let at = line(*axis, Lin::var(I, n));
            let base = e.value(node.src[0], &at, None);
            let from = line(*axis, Lin::var(J, updates));
            let index = e.value(node.src[1], &from, None);
            let value = e.value(node.src[2], &from, None);
            let sorted = line(*axis, Lin::var(K, updates));
            let order = node.src.get(3).filter(|_| ALL_KERNELS).map(|&order| e.value(order, &sorted, None));
            let (out, offset) = place(&mut e, graph, schedule, id, Access::ReadWrite);
            let scatter = kernel::Scatter {
                lines: node.shape.numel() / n,
                axis: n,
                updates,
                mode: *mode,
                base,
                index,
                value,
                order,
                out,
                out_index: flatten(dims, &at).offset(offset),
            };
            e.kernel.kind = Kind::Scatter(scatter);
            vec![e.kernel]
        }
        Op::ArgSort { axis, .. } => sort(graph, id, *axis, limits, scratch, e),
        Op::Custom(call) => {
            // A binding for each input, even where two are equal: the shader counts on their numbers.
            for &src in &node.src {
                let (slot, dtype, numel) = (src as usize, graph.node(src).dtype, graph.node(src).shape.numel());
                e.kernel.buffers.push(kernel::Buffer { slot, dtype, numel, access: Access::Read });
            }
            for (k, (shape, dtype)) in call.results.iter().enumerate() {
                let part = cluster.parts.iter().find(|&&p| matches!(&graph.node(p).op, Op::Custom(c) if c.output == k));
                let slot = match part {
                    Some(&part) => part as usize,
                    None => {
                        scratch.push((*dtype, shape.numel()));
                        graph.nodes.len() + scratch.len() - 1
                    }
                };
                e.kernel.buffers.push(kernel::Buffer {
                    slot,
                    dtype: *dtype,
                    numel: shape.numel(),
                    access: Access::Write,
                });
            }
            e.kernel.kind = Kind::Custom(call.kernel.clone());
            vec![e.kernel]
        }
        _ => Vec::new(),
    }
}

/// The passes of a sort along `axis`; keys and positions lie as `[before, n, after]`.
fn sort(
    graph: &Graph,
    id: Id,
    axis: usize,
    limits: &Limits,
    scratch: &mut Vec<(DType, usize)>,
    mut e: Express<'_>,
) -> Vec<Kernel> {
    let node = graph.node(id);
    let (n, numel) = (node.shape.dims()[axis], node.shape.numel());
    let stride = node.shape.dims()[axis + 1..].iter().product();
    let block = limits.sort_block.max(1);
    let keys = e.buffer(node.src[0] as usize, DType::U32, numel, Access::Read);
    let mut passes = vec![0];
    let mut run = block;
    while run < n {
        passes.push(run);
        run *= 2;
    }
    let mut kernels = Vec::new();
    let mut before: Option<usize> = None;
    for (k, &merge) in passes.iter().enumerate() {
        let last = k + 1 == passes.len();
        let slot = if last {
            id as usize
        } else {
            scratch.push((DType::I32, numel));
            graph.nodes.len() + scratch.len() - 1
        };
        let mut kernel = e.kernel.clone();
        let mut add = |slot: usize, access: Access| {
            kernel.buffers.push(kernel::Buffer { slot, dtype: DType::I32, numel, access });
            kernel.buffers.len() - 1
        };
        let runs = before.map(|slot| add(slot, Access::Read));
        let out = add(slot, Access::Write);
        kernel.kind = Kind::Sort(kernel::Sort { lines: numel / n, n, stride, block, merge, keys, runs, out });
        kernels.push(kernel);
        before = Some(slot);
    }
    kernels
}

/// What a person reads: the ops that are not mere movement, in order.
fn name(graph: &Graph, cluster: &Cluster) -> String {
    let mut words: Vec<String> = Vec::new();
    for &part in &cluster.parts {
        let word = match &graph.node(part).op {
            Op::Custom(call) => call.kernel.name.clone(),
            op => op.name().to_string(),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.truncate(6);
    words.join("+")
}

fn first(values: Vec<kernel::ExprId>) -> kernel::ExprId {
    values.first().copied().unwrap_or(0)
}

/// Whether `slot` names the runtime scalars.
pub fn is_scalars(slot: usize) -> bool {
    slot == SCALARS
}
