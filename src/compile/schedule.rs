//! Schedule: cuts the graph into kernels.
//!
//! Some nodes are *parts*: results of reductions, products and the like, roots, and values too
//! dear to compute twice. Each part joins the cluster of something it reads, or of a sibling that
//! reads the same, when it can be computed over the same iteration space without asking for
//! another element's result; a cluster becomes one kernel. What no other cluster reads is never
//! stored. Everything that is not a part is computed wherever it is used.
//!
//! `parts` chooses the parts, this file groups them, `lower` makes the kernels.

use crate::compile::express::{Express, View};
use crate::compile::graph::{Graph, Id};
use crate::compile::index::{Lin, flatten, unflatten};
use crate::compile::kernel::{self, I, J, K, Kind, O};
use crate::compile::parts::{self, Piece};
use crate::compile::plan::{Limits, Target};
use crate::compile::wgsl::{TILED_MIN, grouped};
use crate::graph::op::Op;
use crate::graph::source::ALL_KERNELS;
use crate::shape::{AxisSet, Shape};

/// Expressions one kernel may have; more would only make it slow to compile.
const BODY_MAX: usize = 700;

/// A cluster of parts: what becomes one kernel.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What the kernel runs over.
    pub space: Space,
    /// The parts in graph order.
    pub parts: Vec<Id>,
    /// The last fence that one of its parts is behind; see [`Graph::regions`].
    region: u64,
    /// The clusters whose results it reads, directly or not, as a bit set.
    before: Vec<u64>,
    /// The nodes it loads.
    reads: Vec<Id>,
}

/// What a kernel runs over.
#[derive(Clone, Debug, PartialEq)]
pub enum Space {
    /// Every element of a shape with this many.
    Map(usize),
    /// Rows of elements, each reduced.
    Rows(Rows),
    /// A product; its parts see elements of the result at [`Product::position`].
    Product(Product),
    /// Something that fuses with nothing: scan, scatter, sort, custom.
    Solo,
}

/// The iteration space of reductions over `set` of a tensor of `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// What is left of the shape.
    pub outer: usize,
    /// How many elements a row has.
    pub inner: usize,
    /// The flat position of element `(O, I)`.
    pub element: Lin,
    /// Whether neighbours on a row are neighbours in memory.
    pub rows: bool,
}

/// The iteration space of a product.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// Batch, rows, columns, contracted.
    pub extents: [usize; 4],
    /// The flat position of `(O, I, J)` in the result.
    pub position: Lin,
}

/// The graph's parts in clusters, in an order in which they can run.
pub struct Schedule {
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// The cluster of each node that is a part.
    pub of: Vec<Option<u32>>,
    /// Parts that are written into their place in a concat, which has no cluster.
    pub pieces: Vec<Option<Piece>>,
    /// The pieces of each such concat, none of every other node.
    assembled: Vec<Vec<Id>>,
}

/// Groups the parts of `graph` into clusters. Which parts will be stored is only known at the end;
/// a `careful` schedule takes it that all will, so that no kernel binds too many buffers.
pub fn schedule(graph: &Graph, limits: &Limits, careful: bool) -> Schedule {
    let chosen = parts::choose(graph, limits);
    let mut assembled: Vec<Vec<Id>> = vec![Vec::new(); graph.nodes.len()];
    for (x, piece) in (0..).zip(&chosen.pieces) {
        piece.iter().for_each(|piece| assembled[piece.of as usize].push(x));
    }
    let pieces = chosen.pieces.clone();
    let mut s = Schedule { clusters: Vec::new(), of: vec![None; graph.nodes.len()], pieces, assembled };
    let mut readers: Vec<Vec<u32>> = vec![Vec::new(); graph.nodes.len()];
    let regions = graph.regions();
    for id in (0..graph.nodes.len() as Id).filter(|&id| chosen.part[id as usize]) {
        if !s.assembled[id as usize].is_empty() {
            continue;
        }
        let own = own_space(graph, id);
        let near = parts::operands(graph, &chosen, id);
        let mut candidates: Vec<u32> = near.iter().filter_map(|&x| s.of[x as usize]).collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.reverse();
        // A concat is there when all of its pieces are.
        let whole: Vec<u32> =
            near.iter().flat_map(|&x| &s.assembled[x as usize]).filter_map(|&x| s.of[x as usize]).collect();
        let before = s.before(&[&candidates[..], &whole].concat());
        let siblings: Vec<u32> = near
            .iter()
            .filter(|&&x| graph.node(x).shape.numel() >= graph.node(id).shape.numel().max(2))
            .flat_map(|&x| readers[x as usize].iter().rev().take(3).copied())
            .filter(|c| !candidates.contains(c))
            .collect();
        let n_direct = candidates.len();
        candidates.extend(siblings);
        let joined = candidates.iter().enumerate().find_map(|(k, &c)| {
            // Joining may not make a cluster wait for its own result.
            let waits = |d: u32| has(&s.clusters[d as usize].before, c);
            // What is computed again must not run before its fence, beside what it is a copy of.
            let region = |d: u32| s.clusters[d as usize].region;
            let (r, direct) = (regions[id as usize], &candidates[..n_direct]);
            let behind = k < n_direct && (region(c) > 0 || direct.iter().any(|&d| region(d) == r));
            if region(c) != r && !behind {
                return None;
            }
            let cyclic = candidates[..n_direct].iter().any(|&d| d != c && waits(d));
            if cyclic || whole.iter().any(|&d| d == c || waits(d)) {
                return None;
            }
            let space = merge(graph, limits, &s.clusters[c as usize], &own, id, k < n_direct)?;
            s.try_join(graph, limits, careful, c, id, space).map(|(space, reads)| (c, space, reads))
        });
        let c = match joined {
            Some((c, space, reads)) => {
                let cluster = &mut s.clusters[c as usize];
                cluster.space = space;
                cluster.region = cluster.region.max(regions[id as usize]);
                cluster.parts.push(id);
                cluster.reads = reads;
                c
            }
            None => {
                let c = s.clusters.len() as u32;
                let (region, before, reads) = (regions[id as usize], Vec::new(), near.clone());
                s.clusters.push(Cluster { space: own, parts: vec![id], region, before, reads });
                c
            }
        };
        s.of[id as usize] = Some(c);
        s.add_before(c, &before);
        // What the part brings together may be one kernel altogether.
        for &other in candidates[..n_direct].iter().filter(|&&other| other != c) {
            s.try_unite(graph, limits, careful, c, other);
        }
        for &x in &near {
            if !readers[x as usize].contains(&c) {
                readers[x as usize].push(c);
            }
        }
    }
    s.in_order()
}

impl Schedule {
    /// The clusters of `direct` and all before them, as a bit set.
    fn before(&self, direct: &[u32]) -> Vec<u64> {
        let mut set = Vec::new();
        for &c in direct {
            union(&mut set, &self.clusters[c as usize].before);
            insert(&mut set, c);
        }
        set
    }

    /// Cluster `c` and all that wait for it now also wait for `before`.
    fn add_before(&mut self, c: u32, before: &[u64]) {
        let mut before = before.to_vec();
        remove(&mut before, c);
        union(&mut self.clusters[c as usize].before, &before);
        let all = self.clusters[c as usize].before.clone();
        for other in &mut self.clusters {
            if has(&other.before, c) {
                union(&mut other.before, &all);
            }
        }
    }

    /// Moves the parts of cluster `other` into `c`, where all can be one kernel.
    fn try_unite(&mut self, graph: &Graph, limits: &Limits, careful: bool, c: u32, other: u32) {
        let (a, b) = (&self.clusters[c as usize], &self.clusters[other as usize]);
        let space = match (&a.space, &b.space) {
            (Space::Map(n), Space::Map(m)) if n == m => a.space.clone(),
            (Space::Rows(x), Space::Rows(z)) if x == z => a.space.clone(),
            (Space::Rows(x), Space::Map(n)) if *n == x.outer * x.inner || *n == x.outer => a.space.clone(),
            _ => return,
        };
        // No third cluster may lie between the two.
        let between = |x: &Cluster, k: u32| {
            (has(&x.before, other) && has(&a.before, k)) || (has(&x.before, c) && has(&b.before, k))
        };
        if b.parts.is_empty()
            || (a.region == 0) != (b.region == 0)
            || (0..).zip(&self.clusters).any(|(k, x)| k != c && k != other && between(x, k))
        {
            return;
        }
        let mut parts = [a.parts.clone(), b.parts.clone()].concat();
        parts.sort_unstable();
        let (moved, region) = (b.parts.clone(), a.region.max(b.region));
        moved.iter().for_each(|&p| self.of[p as usize] = Some(c));
        match self.fits(graph, limits, careful, c, &parts, &space) {
            None => moved.iter().for_each(|&p| self.of[p as usize] = Some(other)),
            Some(reads) => {
                let gone = &mut self.clusters[other as usize];
                let before = std::mem::take(&mut gone.before);
                gone.parts.clear();
                self.clusters[c as usize].parts = parts;
                self.clusters[c as usize].reads = reads;
                self.clusters[c as usize].region = region;
                for x in &mut self.clusters {
                    if has(&x.before, other) {
                        remove(&mut x.before, other);
                        insert(&mut x.before, c);
                    }
                }
                remove(&mut self.clusters[c as usize].before, c);
                self.add_before(c, &before);
            }
        }
    }

    /// Whether cluster `c` with `id` can be one kernel over `space`, and what it then reads.
    fn try_join(
        &self,
        graph: &Graph,
        limits: &Limits,
        careful: bool,
        c: u32,
        id: Id,
        space: Space,
    ) -> Option<(Space, Vec<Id>)> {
        let cluster = &self.clusters[c as usize];
        let parts: Vec<Id> = cluster.parts.iter().copied().chain([id]).collect();
        let packed = graph.node(id).dtype.bytes() < 4;
        if matches!(&space, Space::Product(p) if packed && !stores_words(p, limits)) {
            return None;
        }
        self.fits(graph, limits, careful, c, &parts, &space).map(|reads| (space, reads))
    }

    /// Whether `parts` can be one kernel over `space` as cluster `c`, and what it reads.
    fn fits(
        &self,
        graph: &Graph,
        limits: &Limits,
        careful: bool,
        c: u32,
        parts: &[Id],
        space: &Space,
    ) -> Option<Vec<Id>> {
        let view = |x: Id| self.view(graph, x, c, space, parts);
        let mut e = Express::new(graph, &view, Kind::Loop(empty_loop()));
        for &part in parts {
            part_values(&mut e, graph, space, part);
            if e.misfit || e.kernel.body.len() > BODY_MAX {
                return None;
            }
        }
        let bindings: usize = e.kernel.buffers.iter().map(|b| windows(limits, b.dtype.bytes() * b.numel)).sum();
        let written: usize = parts
            .iter()
            .filter(|p| careful || graph.roots.contains(p))
            .map(|&p| windows(limits, graph.node(p).dtype.bytes() * graph.node(p).shape.numel()))
            .sum();
        let faults = usize::from(!e.kernel.faults.is_empty());
        if bindings + written + faults > limits.buffers_max {
            return None;
        }
        // No kernel reads the concat that it writes a piece of.
        let own_piece =
            |p: &Id| self.pieces[*p as usize].is_some_and(|p| e.kernel.buffers.iter().any(|b| b.slot as Id == p.of));
        if parts.iter().any(own_piece) {
            return None;
        }
        let reads = e.kernel.buffers.iter().map(|b| b.slot as Id).collect();
        // A packed element shares words with its neighbours: rows must lie in one piece, in whole words.
        let packed = |p: &Id| graph.node(*p).dtype.bytes() < 4;
        if let Space::Rows(rows) = space
            && parts.iter().any(packed)
        {
            let in_order = Lin::var(O, rows.outer).times(rows.inner as i64).plus(&Lin::var(I, rows.inner));
            let whole = |p: &Id| {
                let node = graph.node(*p);
                let each = node.shape.numel() == rows.outer * rows.inner;
                each && rows.element == in_order && rows.inner % node.dtype.per_word() == 0
            };
            if !parts.iter().all(|p| !packed(p) || whole(p)) {
                return None;
            }
        }
        Some(reads)
    }

    /// How cluster `c`, running over `space` with `parts`, sees node `x`.
    pub fn view(&self, graph: &Graph, x: Id, c: u32, space: &Space, parts: &[Id]) -> Option<View> {
        let node = graph.node(x);
        if matches!(node.op, Op::Data) || !self.assembled[x as usize].is_empty() {
            return Some(View::Stored);
        }
        let here = self.of[x as usize] == Some(c) || (self.of[x as usize].is_none() && parts.last() == Some(&x));
        if !here {
            return self.of[x as usize].map(|_| View::Stored);
        }
        let numel = node.shape.numel();
        match (space, &node.op) {
            (Space::Rows(rows), Op::Reduce(..) | Op::ArgReduce(..) | Op::Fold(_)) => {
                let n = parts.iter().filter(|&&p| p < x && is_reduction(&graph.node(p).op)).count();
                Some(View::Reduced(n, Lin::var(O, rows.outer)))
            }
            (Space::Rows(rows), _) if numel == rows.outer * rows.inner => Some(View::Mapped(rows.element.clone())),
            (Space::Rows(rows), _) => Some(View::Mapped(Lin::var(O, rows.outer))),
            (Space::Product(p), Op::Dot | Op::Conv(_)) => Some(View::Reduced(0, p.position.clone())),
            (Space::Product(p), _) => Some(View::Mapped(p.position.clone())),
            (Space::Map(n), _) => Some(View::Mapped(Lin::var(O, *n))),
            (Space::Solo, _) => None,
        }
    }

    /// The clusters in an order in which they can run: as written, as far as possible.
    fn in_order(self) -> Schedule {
        let n = self.clusters.len();
        let mut order: Vec<u32> = (0..n as u32).collect();
        // Everything before a cluster has fewer clusters before it.
        let depth: Vec<u32> = self.clusters.iter().map(|c| c.before.iter().map(|w| w.count_ones()).sum()).collect();
        let last = |c: u32| self.clusters[c as usize].parts.last().copied().unwrap_or(0);
        let mut waiting: Vec<u32> = depth.clone();
        let mut ready: std::collections::BinaryHeap<std::cmp::Reverse<(Id, u32)>> =
            order.iter().filter(|&&c| depth[c as usize] == 0).map(|&c| std::cmp::Reverse((last(c), c))).collect();
        order.clear();
        let mut after: Vec<Vec<u32>> = vec![Vec::new(); n];
        for (c, cluster) in self.clusters.iter().enumerate() {
            (0..n as u32).filter(|&b| has(&cluster.before, b)).for_each(|b| after[b as usize].push(c as u32));
        }
        while let Some(std::cmp::Reverse((_, c))) = ready.pop() {
            order.push(c);
            for &next in &after[c as usize] {
                waiting[next as usize] -= 1;
                if waiting[next as usize] == 0 {
                    ready.push(std::cmp::Reverse((last(next), next)));
                }
            }
        }
        let mut place = vec![0u32; n];
        order.iter().enumerate().for_each(|(k, &c)| place[c as usize] = k as u32);
        let of = self.of.iter().map(|c| c.map(|c| place[c as usize])).collect();
        let clusters = order.iter().map(|&c| self.clusters[c as usize].clone()).collect();
        Schedule { clusters, of, ..self }
    }
}

/// The space a part has by itself.
fn own_space(graph: &Graph, id: Id) -> Space {
    let node = graph.node(id);
    let operand = |k: usize| graph.node(node.src[k]).shape;
    match &node.op {
        Op::Reduce(_, set) => Space::Rows(rows(&operand(0), *set)),
        Op::ArgReduce(_, axis) => Space::Rows(rows(&operand(0), AxisSet::one(*axis))),
        Op::Fold(spec) => {
            let (outer, inner) = (node.shape.numel(), spec.size.iter().product());
            // No tensor has this shape; positions of elements are only told apart.
            let element = Lin::var(O, outer).times(inner as i64).plus(&Lin::var(I, inner));
            Space::Rows(Rows { outer, inner, element, rows: false })
        }
        Op::Dot => {
            let (x, z) = (operand(0), operand(1));
            let extents = [x.dims()[0], x.dims()[1], z.dims()[2], x.dims()[2]];
            let at = [(O, extents[0]), (I, extents[1]), (J, extents[2])].map(|(v, n)| Lin::var(v, n));
            Space::Product(Product { extents, position: flatten(node.shape.dims(), &at) })
        }
        Op::Conv(spec) => {
            let (x, w) = (operand(0), operand(1));
            let spatial: usize = node.shape.dims()[2..].iter().product();
            let (batch, channels) = (x.dims()[0], node.shape.dims()[1]);
            let per_group = channels / spec.groups;
            let k = w.dims()[1..].iter().product();
            let extents = [spec.groups, per_group, batch * spatial, k];
            let column = Lin::var(J, extents[2]);
            let channel = Lin::var(O, spec.groups).times(per_group as i64).plus(&Lin::var(I, per_group));
            let position = flatten(&[batch, channels, spatial], &[column.div(spatial), channel, column.rem(spatial)]);
            Space::Product(Product { extents, position })
        }
        Op::Scan(..) | Op::ArgSort { .. } | Op::Custom(_) => Space::Solo,
        Op::Scatter { .. } if parts::is_hero(graph, id) => Space::Solo,
        _ => Space::Map(node.shape.numel()),
    }
}

/// The space of `cluster` with part `id`, whose own space is `own`, when there may be one.
fn merge(graph: &Graph, limits: &Limits, cluster: &Cluster, own: &Space, id: Id, direct: bool) -> Option<Space> {
    match (&cluster.space, own) {
        (Space::Map(n), Space::Map(m)) if n == m => Some(Space::Map(*n)),
        (Space::Map(n), Space::Rows(rows))
            if *n == rows.outer * rows.inner && !matches!(graph.node(id).op, Op::Fold(_)) =>
        {
            // A map has an invocation an element; as columns it would have one a column.
            let keeps_busy = rows.rows || rows.inner <= 64 || limits.target == Target::Cpu;
            (keeps_busy && direct).then(|| own.clone())
        }
        (Space::Rows(rows), Space::Map(m)) if *m == rows.outer * rows.inner || *m == rows.outer => {
            Some(cluster.space.clone())
        }
        (Space::Rows(a), Space::Rows(b)) if a == b => Some(cluster.space.clone()),
        (Space::Product(p), Space::Map(m)) if *m == p.extents[..3].iter().product::<usize>() && direct => {
            Some(cluster.space.clone())
        }
        (Space::Solo, Space::Solo) => match (&graph.node(cluster.parts[0]).op, &graph.node(id).op) {
            // Outputs of one call of a user's kernel are one launch.
            (Op::Custom(a), Op::Custom(b))
                if a.kernel == b.kernel
                    && a.results == b.results
                    && graph.node(cluster.parts[0]).src == graph.node(id).src =>
            {
                Some(Space::Solo)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The iteration space of a reduction over `set`.
fn rows(shape: &Shape, set: AxisSet) -> Rows {
    let kept = shape.without(set);
    let outer = kept.numel();
    let inner = shape.numel() / outer.max(1);
    let at = reduced_at(shape, set);
    let contiguous = set.iter().last().is_some_and(|last| {
        // Trailing axes of size 1 do not matter for who is whose neighbour.
        shape.dims()[last + 1..].iter().all(|&n| n == 1)
    });
    Rows { outer, inner, element: flatten(shape.dims(), &at), rows: contiguous }
}

/// The indices of element `(O, I)` of a reduction over `set` of `shape`.
pub fn reduced_at(shape: &Shape, set: AxisSet) -> Vec<Lin> {
    let kept = shape.without(set);
    let inner_dims: Vec<usize> = set.iter().filter(|&a| a < shape.rank()).map(|a| shape.dims()[a]).collect();
    let inner = inner_dims.iter().product();
    let mut outer_at = unflatten(kept.dims(), &Lin::var(O, kept.numel())).into_iter();
    let mut inner_at = unflatten(&inner_dims, &Lin::var(I, inner)).into_iter();
    (0..shape.rank())
        .map(|axis| if set.has(axis) { inner_at.next() } else { outer_at.next() }.unwrap_or_default())
        .collect()
}

/// Whether `op` reduces rows.
pub fn is_reduction(op: &Op) -> bool {
    matches!(op, Op::Reduce(..) | Op::ArgReduce(..) | Op::Fold(_))
}

/// The expressions a part needs in `space`: its value, or the elements it combines.
pub fn part_values(e: &mut Express<'_>, graph: &Graph, space: &Space, id: Id) -> Vec<kernel::ExprId> {
    let node = graph.node(id);
    match (space, &node.op) {
        (Space::Rows(_), Op::Reduce(_, set)) => {
            vec![e.value(node.src[0], &reduced_at(&graph.node(node.src[0]).shape, *set), None)]
        }
        (Space::Rows(_), Op::ArgReduce(_, axis)) => {
            vec![e.value(node.src[0], &reduced_at(&graph.node(node.src[0]).shape, AxisSet::one(*axis)), None)]
        }
        (Space::Rows(rows), Op::Fold(spec)) => vec![fold_value(e, graph, id, spec, rows)],
        (Space::Rows(rows), _) => {
            let each_element = node.shape.numel() == rows.outer * rows.inner;
            let position = if each_element { rows.element.clone() } else { Lin::var(O, rows.outer) };
            vec![e.compute(id, &unflatten(node.shape.dims(), &position), None)]
        }
        (Space::Product(p), Op::Dot) => {
            let [b, m, n, k] = p.extents;
            let (o, i, j, k) = (Lin::var(O, b), Lin::var(I, m), Lin::var(J, n), Lin::var(K, k));
            vec![e.value(node.src[0], &[o.clone(), i, k.clone()], None), e.value(node.src[1], &[o, k, j], None)]
        }
        (Space::Product(p), Op::Conv(spec)) => conv_values(e, graph, id, spec, p),
        (Space::Product(p), _) => vec![e.compute(id, &unflatten(node.shape.dims(), &p.position), None)],
        (Space::Map(n), _) => vec![e.compute(id, &unflatten(node.shape.dims(), &Lin::var(O, *n)), None)],
        (Space::Solo, _) => Vec::new(),
    }
}

/// The element of window `I` that falls on element `O` of a fold's result, or 0.
fn fold_value(
    e: &mut Express<'_>,
    graph: &Graph,
    id: Id,
    spec: &crate::graph::op::WindowSpec,
    rows: &Rows,
) -> kernel::ExprId {
    let node = graph.node(id);
    let windows = graph.node(node.src[0]).shape;
    let at = unflatten(node.shape.dims(), &Lin::var(O, rows.outer));
    let within = unflatten(&spec.size, &Lin::var(I, rows.inner));
    let mut from = at;
    let mut conditions = Vec::new();
    for (k, &axis) in spec.axes.iter().enumerate() {
        let shifted = from[axis].plus(&within[k].times(-(spec.dilation[k] as i64)));
        let n = windows.dims()[axis];
        conditions.push((shifted.clone(), (n - 1) * spec.stride[k] + 1));
        conditions.push((shifted.rem(spec.stride[k]), 1));
        from[axis] = shifted.div(spec.stride[k]);
    }
    from.extend(within);
    let mask = e.all_inside(&conditions, None);
    let value = e.value(node.src[0], &from, mask);
    e.or_zero(mask, value, node.dtype)
}

/// Weight and input elements of a convolution: `lhs(O, I, K)` and `rhs(O, K, J)`.
fn conv_values(
    e: &mut Express<'_>,
    graph: &Graph,
    id: Id,
    spec: &crate::graph::op::ConvSpec,
    p: &Product,
) -> Vec<kernel::ExprId> {
    let node = graph.node(id);
    let (x, w) = (graph.node(node.src[0]).shape, graph.node(node.src[1]).shape);
    let [groups, per_group, columns, depth] = p.extents;
    let (o, i, j, k) = (Lin::var(O, groups), Lin::var(I, per_group), Lin::var(J, columns), Lin::var(K, depth));
    let kernel_at = unflatten(&w.dims()[1..], &k);
    let mut weight_at = vec![o.times(per_group as i64).plus(&i)];
    weight_at.extend(kernel_at.iter().cloned());
    let lhs = e.value(node.src[1], &weight_at, None);

    let mut column_dims = vec![x.dims()[0]];
    column_dims.extend(&node.shape.dims()[2..]);
    let column_at = unflatten(&column_dims, &j);
    let mut from = vec![column_at[0].clone(), o.times(w.dims()[1] as i64).plus(&kernel_at[0])];
    let mut conditions = Vec::new();
    for axis in 0..spec.stride.len() {
        let out = column_at[axis + 1].times(spec.stride[axis] as i64);
        let tap = kernel_at[axis + 1].times(spec.dilation[axis] as i64);
        let shifted = out.plus(&tap).offset(-(spec.lo[axis] as i64));
        let n = x.dims()[axis + 2];
        conditions.push((shifted.clone(), (n - 1) * spec.spread[axis] + 1));
        conditions.push((shifted.rem(spec.spread[axis]), 1));
        from.push(shifted.div(spec.spread[axis]));
    }
    let mask = e.all_inside(&conditions, None);
    let value = e.value(node.src[0], &from, mask);
    vec![lhs, e.or_zero(mask, value, node.dtype)]
}

/// Whether four neighbours of a product are stored at once, so that packed elements are whole words;
/// a CPU stores any element by itself, and so do matrix units, which for that store 32 bits.
fn stores_words(p: &Product, limits: &Limits) -> bool {
    let [_, m, n, _] = p.extents;
    let fours = ALL_KERNELS && limits.cooperative.is_none() && m.min(n) >= TILED_MIN;
    limits.target == Target::Cpu || (fours && n.is_multiple_of(4) && grouped(&p.position, J, &[]))
}

/// How many bindings an operand of `bytes` takes.
pub fn windows(limits: &Limits, bytes: usize) -> usize {
    (bytes as u64).div_ceil(limits.binding_bytes_max.max(256) & !255).max(1) as usize
}

/// How many storage bindings `kernel` takes.
pub fn bindings(kernel: &kernel::Kernel, limits: &Limits) -> usize {
    let windows = |b: &kernel::Buffer| windows(limits, b.dtype.bytes() * b.numel);
    kernel.buffers.iter().map(windows).sum::<usize>() + usize::from(!kernel.faults.is_empty())
}

/// The loops of a kernel that is not made yet.
pub fn empty_loop() -> kernel::Loop {
    kernel::Loop { outer: 0, inner: 1, reduces: Vec::new(), stores: Vec::new(), rows: true }
}

fn has(set: &[u64], n: u32) -> bool {
    set.get(n as usize / 64).is_some_and(|w| w >> (n % 64) & 1 == 1)
}
fn insert(set: &mut Vec<u64>, n: u32) {
    if set.len() <= n as usize / 64 {
        set.resize(n as usize / 64 + 1, 0);
    }
    set[n as usize / 64] |= 1 << (n % 64);
}
fn remove(set: &mut [u64], n: u32) {
    if let Some(w) = set.get_mut(n as usize / 64) {
        *w &= !(1 << (n % 64));
    }
}
fn union(set: &mut Vec<u64>, other: &[u64]) {
    if set.len() < other.len() {
        set.resize(other.len(), 0);
    }
    set.iter_mut().zip(other).for_each(|(a, b)| *a |= b);
}
