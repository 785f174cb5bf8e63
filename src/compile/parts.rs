//! Parts: which nodes a kernel computes for its own sake.
//!
//! A node is a part when it must be (a root, a reduction, a product, what a sort reads), or when
//! computing it again wherever it is used would cost more than storing it once. The costs are
//! rough counts of operations; which cluster a part lands in decides later whether it is stored.

use crate::compile::graph::{Graph, Id};
use crate::compile::plan::Limits;
use crate::compile::schedule::windows;
use crate::dtype::DType;
use crate::graph::mix::Ids;
use crate::graph::op::{Op, Reduction};
use crate::graph::scalar::{Family, Scalar};
use crate::graph::source::ALL_KERNELS;

/// Operations a value may cost to be computed once more for each further use.
const RECOMPUTE_MAX: u32 = 2;
/// Nodes inlined into one expression at most; keeps recursion shallow.
const INLINE_MAX: u32 = 160;

/// The choice.
pub struct Parts {
    /// Whether each node is a part.
    pub part: Vec<bool>,
    /// Where each part lies that is written into its place in a concat, so that it costs nothing.
    pub pieces: Vec<Option<Piece>>,
}

/// A range of a concat that is never computed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The concat.
    pub of: Id,
    /// The first element of the range.
    pub offset: usize,
}

/// Whether a kernel must be built around the node.
pub fn is_hero(graph: &Graph, id: Id) -> bool {
    let node = graph.node(id);
    match &node.op {
        Op::Reduce(..)
        | Op::ArgReduce(..)
        | Op::Fold(_)
        | Op::Scan(..)
        | Op::Dot
        | Op::Conv(_)
        | Op::ArgSort { .. }
        | Op::Custom(_) => true,
        // One update a line is a map: each element compares its own position.
        Op::Scatter { axis, .. } => graph.node(node.src[1]).shape.dims()[*axis] > 1,
        Op::Data
        | Op::Input(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::Random
        | Op::Invalid(_)
        | Op::Scalar(_)
        | Op::Cast
        | Op::Bitcast
        | Op::Reshape
        | Op::Permute(_)
        | Op::Expand
        | Op::Slice(_)
        | Op::SliceAt { .. }
        | Op::UpdateAt { .. }
        | Op::Flip(_)
        | Op::Pad(_)
        | Op::Concat { .. }
        | Op::Window(_)
        | Op::Gather { .. }
        | Op::Detach
        | Op::Tracked
        | Op::Fence(_)
        | Op::Block(_) => false,
    }
}

/// What an operation costs where it is inlined; 0 for what only moves elements.
fn weight(graph: &Graph, id: Id) -> u32 {
    let node = graph.node(id);
    match &node.op {
        Op::Scalar(op) => match op {
            Scalar::Exp | Scalar::Ln | Scalar::Log2 | Scalar::Sin | Scalar::Cos | Scalar::Tan | Scalar::Pow => 6,
            Scalar::Expm1 | Scalar::Log1p | Scalar::Asin | Scalar::Acos | Scalar::Atan | Scalar::Atan2 => 10,
            Scalar::Sinh | Scalar::Cosh | Scalar::Tanh | Scalar::Erf => 10,
            Scalar::Sqrt | Scalar::Rsqrt | Scalar::Div | Scalar::Recip | Scalar::Rem | Scalar::FloorDiv => 2,
            _ => 1,
        },
        Op::Random => 24,
        Op::Gather { .. } | Op::Scatter { .. } => 3,
        Op::UpdateAt { .. } | Op::Concat { .. } => 2,
        Op::Pad(_) => 1,
        _ => 0,
    }
}

/// Whether node `id` rounds 32 bits to 16.
fn rounds(graph: &Graph, id: Id) -> bool {
    let node = graph.node(id);
    ALL_KERNELS && matches!(node.op, Op::Cast) && node.dtype.bytes() == 2 && graph.node(node.src[0]).dtype == DType::F32
}

/// What is computed of which `id` compares elements with the greatest or least. Computed again in
/// another kernel it might differ in its last bit, and then no element would be the greatest.
fn extreme_of(graph: &Graph, id: Id) -> Option<Id> {
    let node = graph.node(id);
    let Op::Scalar(row) = node.op else { return None };
    if row.spec().family != Family::Compare {
        return None;
    }
    let shown = |mut x: Id, through: &dyn Fn(&Op) -> bool| {
        while through(&graph.node(x).op) {
            x = graph.src(x, 0);
        }
        x
    };
    let moves = |op: &Op| {
        matches!(
            op,
            Op::Reshape
                | Op::Permute(_)
                | Op::Expand
                | Op::Slice(_)
                | Op::Flip(_)
                | Op::Window(_)
                | Op::Cast
                | Op::Fence(_)
        )
    };
    let extreme = |op: &Op| matches!(op, Op::Reduce(kind, _) | Op::Scan(kind, _) if matches!(kind, Reduction::Max | Reduction::Min));
    let (x, z) = (shown(node.src[0], &moves), shown(node.src[1], &moves));
    let joins = |op: &Op| ALL_KERNELS && matches!(op, Op::Scalar(Scalar::Maximum | Scalar::Minimum));
    [(x, z), (z, x)].into_iter().find_map(|(x, y)| {
        // A long reduction was padded and cut in two, a long scan into blocks that were joined again.
        let of = shown(y, &|op| extreme(op) || moves(op) || joins(op) || matches!(op, Op::Pad(_)));
        let y = shown(y, &|op| joins(op) || moves(op));
        (extreme(&graph.node(y).op) && of == x).then_some(x)
    })
}

/// Chooses the parts of `graph`.
pub fn choose(graph: &Graph, limits: &Limits) -> Parts {
    let n = graph.nodes.len();
    let mut users: Vec<u32> = vec![0; n];
    for node in &graph.nodes {
        let distinct = node.src.iter().enumerate().filter(|&(k, s)| !node.src[..k].contains(s));
        distinct.for_each(|(_, &s)| users[s as usize] += 1);
    }
    let mut p = Choice {
        graph,
        part: vec![false; n],
        cost: vec![0; n],
        size: vec![0; n],
        reads: vec![0; n],
        hero_below: vec![false; n],
        product_below: vec![false; n],
        pieces: vec![None; n],
        whole: vec![false; n],
    };
    for &root in &graph.roots {
        p.part[root as usize] = !matches!(graph.node(root).op, Op::Data);
    }
    let reads_max = limits.buffers_max.saturating_sub(2).max(2) as u32;
    for id in 0..n as Id {
        let k = id as usize;
        let node = graph.node(id);
        if let Some(compared) = extreme_of(graph, id) {
            p.store(compared, limits);
        }
        if p.assemble(id, &users, limits) {
            continue;
        }
        p.demand(id, &users, limits);
        p.sum(id, limits);
        if ALL_KERNELS && p.reads[k] > reads_max {
            p.reads[k] = p.bindings(id, &users, limits);
        }
        while p.reads[k] > reads_max {
            // The operand that reads most is stored instead, until the rest fits.
            let Some(&most) = node.src.iter().filter(|&&s| !p.settled(s)).max_by_key(|&&s| p.reads[s as usize]) else {
                break;
            };
            if !p.store(most, limits) {
                break;
            }
            p.sum(id, limits);
        }
        let again = users[k] >= 2 && p.cost[k] >= RECOMPUTE_MAX;
        if again && node.dtype.bytes() < 4 && !is_hero(graph, id) && !rounds(graph, id) {
            // A packed value cannot be stored beside a product; what it is computed from can.
            for &s in &node.src {
                p.store(s, limits);
            }
            p.sum(id, limits);
        }
        let dear = p.size[k] > INLINE_MAX || (users[k] >= 2 && p.cost[k] >= RECOMPUTE_MAX && weight(graph, id) > 0);
        if dear || is_hero(graph, id) {
            p.part[k] = true;
        } else if rounds(graph, id) && p.product_below[k] {
            // Whoever reads a rounded product then reads 16 bits, and nobody the sums in 32.
            p.part[k] = true;
            p.product_below[k] = false;
        } else if users[k] >= 2 && p.cost[k] >= RECOMPUTE_MAX && !matches!(node.op, Op::Data) {
            // A view used twice: what it views is computed once.
            p.store(id, limits);
            p.sum(id, limits);
        }
    }
    Parts { part: p.part, pieces: p.pieces }
}

/// The parts and leaves that node `id` reads, through what is inlined.
pub fn operands(graph: &Graph, parts: &Parts, id: Id) -> Vec<Id> {
    let mut found = Vec::new();
    let mut seen = Ids::default();
    let mut open: Vec<Id> = graph.node(id).src.to_vec();
    while let Some(x) = open.pop() {
        if !seen.insert(u64::from(x)) {
            continue;
        }
        if parts.part[x as usize] || matches!(graph.node(x).op, Op::Data) {
            found.push(x);
        } else {
            open.extend(&graph.node(x).src);
        }
    }
    found.sort_unstable();
    found
}

struct Choice<'g> {
    graph: &'g Graph,
    part: Vec<bool>,
    /// Operations of the inlined expression.
    cost: Vec<u32>,
    /// Nodes of the inlined expression.
    size: Vec<u32>,
    /// Bindings of the inlined expression, counting repeats.
    reads: Vec<u32>,
    /// Whether a hero's result is read without being stored for its own sake.
    hero_below: Vec<bool>,
    /// Whether one of a product is, element by element.
    product_below: Vec<bool>,
    pieces: Vec<Option<Piece>>,
    /// Whether each node is a concat that has pieces.
    whole: Vec<bool>,
}

impl Choice<'_> {
    /// Whether `id` is a concat whose operands are better written into their places in it: they
    /// follow one another in memory, nobody else reads them, and most are stored anyway.
    fn assemble(&mut self, id: Id, users: &[u32], limits: &Limits) -> bool {
        let graph = self.graph;
        let node = graph.node(id);
        let Op::Concat { axis } = node.op else { return false };
        if node.dtype.bytes() < 4 || node.shape.numel() == 0 || node.shape.dims()[..axis].iter().any(|&n| n != 1) {
            return false;
        }
        // Whoever writes a piece binds the whole, and kernels are given room for one binding.
        if windows(limits, node.shape.numel() * node.dtype.bytes()) > 1 {
            return false;
        }
        let alone = |x: Id| users[x as usize] == 1 && !graph.roots.contains(&x) && self.pieces[x as usize].is_none();
        let computes = |x: Id| !matches!(graph.node(x).op, Op::Data | Op::ArgSort { .. } | Op::Custom(_));
        let mut pieces: Vec<(Id, usize)> = Vec::new();
        let (mut offset, mut stored) = (0, 0);
        for &s in &node.src {
            let (start, numel) = (offset, graph.node(s).shape.numel());
            offset += numel;
            if numel == 0 {
                continue;
            }
            // A reshape of what nobody else reads leaves it where it is.
            let mut x = s;
            while alone(x) && matches!(graph.node(x).op, Op::Reshape) && alone(graph.src(x, 0)) {
                x = graph.src(x, 0);
            }
            let x = if computes(x) { x } else { s };
            if !(alone(x) && computes(x)) || pieces.iter().any(|&(known, _)| known == x) {
                return false;
            }
            if is_hero(graph, x) || self.part[x as usize] || self.hero_below[x as usize] {
                stored += numel;
            }
            pieces.push((x, start));
        }
        if 2 * stored < node.shape.numel() {
            return false;
        }
        for (x, offset) in pieces {
            if std::mem::take(&mut self.whole[x as usize]) {
                // Pieces of a piece are pieces of the whole.
                self.part[x as usize] = false;
                for piece in self.pieces.iter_mut().flatten().filter(|piece| piece.of == x) {
                    *piece = Piece { of: id, offset: offset + piece.offset };
                }
            } else {
                self.part[x as usize] = true;
                self.pieces[x as usize] = Some(Piece { of: id, offset });
            }
        }
        self.part[id as usize] = true;
        self.whole[id as usize] = true;
        true
    }

    /// Whether node `x` is read from a buffer anyway, or is nothing to read.
    fn settled(&self, x: Id) -> bool {
        self.part[x as usize]
            || matches!(self.graph.node(x).op, Op::Data | Op::Const(_) | Op::Input(_) | Op::Iota { .. })
    }

    /// Makes a part of `x`, or of what it is a view of; false when that is nothing new.
    fn store(&mut self, x: Id, limits: &Limits) -> bool {
        let mut views = Vec::new();
        let mut x = x;
        while weight(self.graph, x) == 0 && !self.settled(x) && self.graph.node(x).src.len() == 1 {
            views.push(x);
            x = self.graph.src(x, 0);
        }
        if self.settled(x) {
            return false;
        }
        // What was rounded on the way lies in memory as that.
        let small = |view: &Id| {
            let node = self.graph.node(*view);
            rounds(self.graph, *view) && node.shape.numel() <= self.graph.node(x).shape.numel()
        };
        if let Some(at) = views.iter().position(small) {
            x = views[at];
            views.truncate(at);
        }
        self.part[x as usize] = true;
        // What the views cost was counted before.
        views.iter().rev().for_each(|&view| self.sum(view, limits));
        true
    }

    /// Stores operands that `id` would compute many times over.
    fn demand(&mut self, id: Id, users: &[u32], limits: &Limits) {
        let node = self.graph.node(id);
        let numel = node.shape.numel();
        for (k, &s) in node.src.iter().enumerate() {
            let (cost, below) = (self.cost[s as usize], self.graph.node(s));
            let dear = match &node.op {
                Op::ArgSort { .. } | Op::Custom(_) => {
                    // These read buffers as they lie, so even a view is stored.
                    if !matches!(below.op, Op::Data) {
                        self.part[s as usize] = true;
                    }
                    false
                }
                // Each element is loaded again for every tile of the result.
                Op::Dot | Op::Conv(_) => {
                    let repeated = users[s as usize] > 1 || self.hero_below[s as usize];
                    cost > RECOMPUTE_MAX || (cost > 0 && repeated)
                }
                Op::Gather { .. } => k == 0 && cost > RECOMPUTE_MAX,
                Op::Expand | Op::Window(_) => cost > RECOMPUTE_MAX && numel >= 2 * below.shape.numel(),
                Op::Fold(_) => cost > RECOMPUTE_MAX,
                // Elements look for theirs among the indices that were sorted.
                Op::Scatter { .. } if k == 1 && node.src.len() > 3 => cost > RECOMPUTE_MAX,
                Op::Scatter { .. } => k > 0 && cost > RECOMPUTE_MAX && !is_hero(self.graph, id),
                _ => false,
            };
            if dear && !self.settled(s) {
                self.store(s, limits);
            }
        }
        // What a stored operand no longer costs is seen by `sum`.
    }

    /// Bindings of the inlined expression of `id`, each counted once, and of what may yet be stored for another's sake.
    fn bindings(&self, id: Id, users: &[u32], limits: &Limits) -> u32 {
        let may_be = |x: Id| users[x as usize] >= 2 && self.cost[x as usize] > 0;
        let (mut found, mut seen, mut open) = (0, Ids::default(), self.graph.node(id).src.to_vec());
        while let Some(x) = open.pop() {
            let (node, stored) = (self.graph.node(x), self.part[x as usize]);
            if !seen.insert(u64::from(x)) {
                continue;
            }
            if stored || may_be(x) || matches!(node.op, Op::Data | Op::Input(_)) {
                found += windows(limits, node.shape.numel() * node.dtype.bytes()) as u32;
            }
            if !stored {
                open.extend(&node.src);
            }
        }
        found
    }

    fn sum(&mut self, id: Id, limits: &Limits) {
        let k = id as usize;
        let node = self.graph.node(id);
        (self.cost[k], self.size[k], self.reads[k]) = (weight(self.graph, id), 1, 0);
        self.hero_below[k] = false;
        let product = matches!(node.op, Op::Dot | Op::Conv(_));
        self.product_below[k] = ALL_KERNELS && product;
        for &s in &node.src {
            let below = self.graph.node(s);
            let x = s as usize;
            let open = !self.part[x] || is_hero(self.graph, s);
            self.product_below[k] |=
                ALL_KERNELS && open && self.product_below[x] && below.shape.numel() == node.shape.numel();
            self.hero_below[k] |= is_hero(self.graph, s) || (!self.settled(s) && self.hero_below[x]);
            if self.settled(s) {
                if !matches!(below.op, Op::Const(_) | Op::Iota { .. }) {
                    self.reads[k] += windows(limits, below.shape.numel() * below.dtype.bytes()) as u32;
                }
            } else {
                self.cost[k] = self.cost[k].saturating_add(self.cost[x]);
                self.size[k] = self.size[k].saturating_add(self.size[x]);
                self.reads[k] = self.reads[k].saturating_add(self.reads[x]);
            }
        }
        // Elsewhere than where the product has it, it is read as it lies.
        let moved = matches!(node.op, Op::Permute(_) | Op::Flip(_));
        self.product_below[k] &= !ALL_KERNELS || product || !(moved || is_hero(self.graph, id));
    }
}
