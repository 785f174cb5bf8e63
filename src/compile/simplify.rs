//! Simplify: rebuilds the graph node by node through one smart constructor.
//!
//! The constructor merges equal nodes, folds constants, drops what changes nothing and rewrites
//! what no kernel computes directly. Every rule keeps the documented treatment of NaN, infinities and
//! -0, and the result's bits on ordinary numbers, but for sums that a shape or a device has cut in parts.

mod contraction;
mod first;
mod lines;
mod phases;
mod pieces;
mod shifts;

use std::sync::Arc;

use smallvec::smallvec;

use crate::compile::graph::{Graph, Id, Node, Operands};
use crate::compile::plan::{Limits, Target};
use crate::dtype::{DType, Number};
use crate::graph::mix::{ById, Mix};
use crate::graph::op::{CustomCall, CustomShader, Op, PadSpec, Perm, Reduction, WindowSpec};
use crate::graph::scalar::Scalar;
use crate::graph::source::ALL_KERNELS;
use crate::shape::{AxisSet, RANK_MAX, Shape};

/// The simplified graph for a device of these limits, with only what the roots need.
pub fn simplify(graph: &Graph, limits: &Limits) -> Graph {
    let mut pass = Pass { out: Graph::default(), known: ById::default(), limits };
    let mut new: Vec<Id> = Vec::with_capacity(graph.nodes.len());
    let needed = needed(graph, |node| definition_only(graph, node, limits));
    let mut users: Vec<u32> = vec![0; graph.nodes.len()];
    let sources = graph.nodes.iter().zip(&needed).filter(|(_, needed)| **needed).flat_map(|(node, _)| &node.src);
    sources.chain(&graph.roots).for_each(|&s| users[s as usize] += 1);
    for (id, node) in graph.nodes.iter().enumerate() {
        if !needed[id] {
            new.push(0);
            continue;
        }
        let turned = product_below(graph, &users, node).and_then(|dot| pass.turned(node, graph.node(dot), &new));
        let found = turned.or_else(|| pass.first_of(graph, &users, node, &new));
        new.push(found.unwrap_or_else(|| {
            let mut node = node.clone();
            node.src.iter_mut().for_each(|s| *s = new[*s as usize]);
            pass.make(node)
        }));
    }
    pass.out.roots = graph.roots.iter().map(|&r| new[r as usize]).collect();
    prune(pass.out)
}

/// The product of two matrices that `node` exchanges the axes of, when nobody else uses it.
fn product_below(graph: &Graph, users: &[u32], node: &Node) -> Option<Id> {
    let Op::Permute(perm) = node.op else { return None };
    if node.shape.rank() != 2 || perm.0[..2] != [1, 0] {
        return None;
    }
    let mut x = node.src[0];
    while users[x as usize] == 1 {
        match graph.node(x).op {
            Op::Dot => return Some(x),
            Op::Reshape | Op::Detach | Op::Tracked => x = graph.src(x, 0),
            _ => return None,
        }
    }
    None
}

/// Which operands of `node` are read: `Some(true)` only the definition, `Some(false)` all but the
/// definition.
fn definition_only(graph: &Graph, node: &Node, limits: &Limits) -> Option<bool> {
    match &node.op {
        Op::Block(_) => Some(true),
        Op::Custom(call) => Some(!launched(graph, node, call, limits)),
        _ => None,
    }
}

/// Whether the kernel of a node of `graph` computes it, and not its definition.
fn launched(graph: &Graph, node: &Node, call: &CustomCall, limits: &Limits) -> bool {
    match &call.kernel.shader {
        CustomShader::Own { .. } => limits.target != Target::Cpu,
        CustomShader::Template(templated) => {
            let inputs = node.src.iter().skip(1).map(|&s| (graph.node(s).shape, graph.node(s).dtype));
            let fits = |(shape, dtype): (Shape, DType)| {
                (shape.numel() as u64).saturating_mul(dtype.bytes() as u64) <= limits.binding_bytes_max
            };
            templated.flops >= limits.template_flops_min
                && node.src.len() - 1 + call.results.len() <= limits.buffers_max
                && inputs.chain(call.results.iter().copied()).all(fits)
        }
    }
}

/// Which nodes the roots need.
fn needed(graph: &Graph, choice: impl Fn(&Node) -> Option<bool>) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes.len()];
    for &root in &graph.roots {
        needed[root as usize] = true;
    }
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if needed[id] {
            let src = match choice(node) {
                None => &node.src[..],
                Some(true) => &node.src[..1],
                Some(false) => &node.src[1..],
            };
            src.iter().for_each(|&s| needed[s as usize] = true);
        }
    }
    needed
}

/// The graph without nodes that no root needs.
fn prune(graph: Graph) -> Graph {
    let needed = needed(&graph, |_| None);
    let mut number = vec![0; graph.nodes.len()];
    let mut out = Graph::default();
    for (id, mut node) in graph.nodes.into_iter().enumerate() {
        if needed[id] {
            number[id] = out.nodes.len() as Id;
            node.src.iter_mut().for_each(|s| *s = number[*s as usize]);
            out.nodes.push(node);
        }
    }
    out.roots = graph.roots.iter().map(|&r| number[r as usize]).collect();
    out
}

/// A stack of matrices as that of their transposes.
const EXCHANGED: Perm = Perm([0, 2, 1, 0, 0, 0, 0, 0]);

struct Pass<'l> {
    out: Graph,
    known: ById<Vec<Id>>,
    limits: &'l Limits,
}

impl Pass<'_> {
    /// `node`, the transpose of the product `dot`, as the product of the transposed operands the
    /// other way round: the same sums in the same order, written where they belong.
    fn turned(&mut self, node: &Node, dot: &Node, new: &[Id]) -> Option<Id> {
        let &[m, n] = dot.shape.dims() else { return None };
        if node.shape.dims() != [n, m] || node.dtype != dot.dtype {
            return None;
        }
        let operands = [dot.src[1], dot.src[0]].map(|x| {
            let x = new[x as usize];
            let Node { shape, dtype, .. } = *self.out.node(x);
            let &[rows, columns] = shape.dims() else { return None };
            Some(self.derived(node, node.op.clone(), &[x], Shape::new(&[columns, rows]).ok()?, dtype))
        });
        let [Some(a), Some(b)] = operands else { return None };
        Some(self.derived(node, Op::Dot, &[a, b], node.shape, node.dtype))
    }

    /// `x`, an operand of a product, as a stack of matrices; its transpose as that of the same stack, so that
    /// both are seen to read one tensor.
    fn stacked(&mut self, like: &Node, mut x: Id) -> Id {
        let mut turned = false;
        while let (Op::Permute(Perm([1, 0, ..])), 2) = (&self.out.node(x).op, self.out.node(x).shape.rank()) {
            (x, turned) = (self.out.src(x, 0), !turned);
        }
        let Node { shape, dtype, .. } = *self.out.node(x);
        let &[m, n] = shape.dims() else { return x };
        let [Ok(stack), Ok(back)] = [[1, m, n], [1, n, m]].map(|dims| Shape::new(&dims)) else { return x };
        let stacked = self.derived(like, Op::Reshape, &[x], stack, dtype);
        if turned { self.derived(like, Op::Permute(EXCHANGED), &[stacked], back, dtype) } else { stacked }
    }

    /// The number of a node that means what `node` means.
    fn make(&mut self, node: Node) -> Id {
        if node.shape.numel() == 0 && !matches!(node.op, Op::Const(_) | Op::Data) {
            return self.constant(&node, Number::Int(0));
        }
        match node.op.clone() {
            Op::Detach | Op::Tracked | Op::Block(_) => node.src[0],
            Op::Custom(call) => match launched(&self.out, &node, &call, self.limits) {
                true => self.custom(node, call),
                false => node.src[0],
            },
            Op::Scalar(op) => self.scalar(node, op),
            Op::Cast => match self.constant_of(node.src[0]) {
                Some(value) => {
                    let bits = value.bits(self.out.node(node.src[0]).dtype);
                    let value = number(bits, self.out.node(node.src[0]).dtype);
                    self.constant(&node, number(value.bits(node.dtype), node.dtype))
                }
                None if self.out.node(node.src[0]).dtype == node.dtype => node.src[0],
                None if self.widened(node.src[0]) == Some(node.dtype) => self.out.src(node.src[0], 0),
                None => self.intern(node),
            },
            Op::Reshape | Op::Expand => self.view(node),
            Op::Permute(_) | Op::Flip(_) | Op::Slice(_) | Op::Window(_) => match self.constant_of(node.src[0]) {
                Some(value) => self.constant(&node, value),
                None => self.unpadded(&node).unwrap_or_else(|| self.intern(node)),
            },
            Op::Reduce(kind, set) => self.reduce(node, kind, set),
            Op::ArgReduce(_, axis) if self.out.node(node.src[0]).shape.dims()[axis] == 1 => {
                self.constant(&node, Number::Int(0))
            }
            Op::ArgReduce(..) => {
                let Node { shape, dtype, .. } = *self.out.node(node.src[0]);
                match dtype == dtype.compute() {
                    true => self.intern(node),
                    false => {
                        let wide = self.derived(&node, Op::Cast, &node.src, shape, dtype.compute());
                        self.intern(Node { src: smallvec![wide], ..node })
                    }
                }
            }
            Op::Scan(kind, axis) => self.in_compute_dtype(node, |pass, node| pass.scan(node, kind, axis)),
            Op::Fold(_) if self.out.node(node.src[0]).shape.numel() == 0 => self.constant(&node, Number::Int(0)),
            Op::Fold(spec) => self.fold(node, &spec),
            Op::Dot => {
                if self.out.node(node.src[0]).shape.numel() == 0 {
                    return self.constant(&node, Number::Int(0));
                }
                if let &[m, n] = node.shape.dims()
                    && let Ok(shape) = Shape::new(&[1, m, n])
                {
                    let src = [node.src[0], node.src[1]].map(|x| self.stacked(&node, x));
                    let product = self.derived(&node, Op::Dot, &src, shape, node.dtype);
                    return self.derived(&node, Op::Reshape, &[product], node.shape, node.dtype);
                }
                self.in_compute_dtype(node, |pass, node| pass.product(node))
            }
            Op::Conv(spec) => {
                let empty = node.src.iter().any(|&s| self.out.node(s).shape.numel() == 0);
                if empty {
                    return self.constant(&node, Number::Int(0));
                }
                self.in_compute_dtype(node, |pass, node| pass.convolution(node, &spec))
            }
            Op::Scatter { axis, .. } => {
                if self.out.node(node.src[1]).shape.numel() == 0 {
                    return node.src[0];
                }
                self.in_compute_dtype(node, |pass, node| pass.scatter(node, axis))
            }
            Op::Pad(spec) if self.out.node(node.src[0]).shape.numel() == 0 => self.constant(&node, spec.fill),
            Op::ArgSort { axis, descending } => self.arg_sort(node, axis, descending),
            Op::Concat { axis } => {
                let mut node = node;
                node.src.retain(|s| self.out.node(*s).shape.numel() > 0);
                match node.src[..] {
                    [only] => only,
                    // A kernel binds only so many buffers: long joins are made of shorter ones.
                    _ if node.src.len() > 4 => {
                        let mut joined = Operands::new();
                        for src in node.src.chunks(4) {
                            let n = src.iter().map(|&s| self.out.node(s).shape.dims()[axis]).sum();
                            let shape = node.shape.with(axis, n).unwrap_or(node.shape);
                            joined.push(self.derived(&node, Op::Concat { axis }, src, shape, node.dtype));
                        }
                        self.make(Node { op: Op::Concat { axis }, src: joined, ..node })
                    }
                    _ => {
                        node.op = Op::Concat { axis };
                        self.intern(node)
                    }
                }
            }
            Op::UpdateAt { .. } if self.out.node(node.src[1]).shape.numel() == 0 => node.src[0],
            Op::Data
            | Op::Input(_)
            | Op::Const(_)
            | Op::Iota { .. }
            | Op::Random
            | Op::Invalid(_)
            | Op::Bitcast
            | Op::SliceAt { .. }
            | Op::UpdateAt { .. }
            | Op::Pad(_)
            | Op::Gather { .. }
            | Op::Fence(_) => self.intern(node),
        }
    }

    /// What was padded, of a slice that takes just the padding away.
    fn unpadded(&self, node: &Node) -> Option<Id> {
        if !ALL_KERNELS {
            return None;
        }
        let padded = self.out.node(node.src[0]);
        let (Op::Slice(slice), Op::Pad(pad)) = (&node.op, &padded.op) else { return None };
        let steps = slice.step.iter().zip(&pad.interior).all(|(step, gap)| *step == gap + 1);
        let whole = self.out.node(padded.src[0]).shape == node.shape;
        (slice.start == pad.lo && steps && whole).then_some(padded.src[0])
    }

    /// The node itself, or an equal one that is there.
    fn intern(&mut self, node: Node) -> Id {
        use std::hash::{Hash, Hasher};
        let mut h = Mix::default();
        node.hash(&mut h);
        let bucket = self.known.entry(h.finish()).or_default();
        if let Some(&id) = bucket.iter().find(|&&id| self.out.nodes[id as usize] == node) {
            return id;
        }
        let id = self.out.nodes.len() as Id;
        bucket.push(id);
        self.out.nodes.push(node);
        id
    }

    /// A node that the rewriting of `like` needs.
    fn derived(&mut self, like: &Node, op: Op, src: &[Id], shape: Shape, dtype: DType) -> Id {
        self.make(Node { op, src: src.into(), shape, dtype, leaf: 0, at: like.at })
    }

    fn constant(&mut self, like: &Node, value: Number) -> Id {
        self.intern(Node { op: Op::Const(value), src: Operands::new(), leaf: 0, ..like.clone() })
    }

    fn constant_of(&self, id: Id) -> Option<Number> {
        match self.out.node(id).op {
            Op::Const(value) => Some(value),
            _ => None,
        }
    }

    /// The dtype of 16 bits whose numbers node `id` has in 32.
    fn widened(&self, id: Id) -> Option<DType> {
        let Node { op: Op::Cast, src, dtype: DType::F32, .. } = self.out.node(id) else { return None };
        Some(self.out.node(src[0]).dtype).filter(|dtype| dtype.bytes() == 2)
    }

    fn custom(&mut self, mut node: Node, call: CustomCall) -> Id {
        node.src.remove(0);
        node.op = Op::Custom(call);
        self.intern(node)
    }

    fn scalar(&mut self, node: Node, op: Scalar) -> Id {
        let values: Vec<Option<Number>> = node.src.iter().map(|&s| self.constant_of(s)).collect();
        // By bits: -0 is no 0.
        let is =
            |k: usize, n: f64| values.get(k).copied().flatten().is_some_and(|v| v.as_f64().to_bits() == n.to_bits());
        let float = node.dtype.is_float();
        match (op, &node.src[..]) {
            (Scalar::Mul, &[x, _]) if is(1, 1.0) => return x,
            (Scalar::Mul, &[_, z]) if is(0, 1.0) => return z,
            (Scalar::Div | Scalar::Pow, &[x, _]) if is(1, 1.0) => return x,
            (Scalar::Sub, &[x, _]) if is(1, 0.0) => return x,
            // In floats -0 + 0 is 0, so only integers may drop a zero.
            (Scalar::Add, &[x, _]) if !float && is(1, 0.0) => return x,
            (Scalar::Add, &[_, z]) if !float && is(0, 0.0) => return z,
            (Scalar::Pow, &[x, _]) if float && is(1, 2.0) => {
                return self.make(Node { op: Op::Scalar(Scalar::Mul), src: smallvec![x, x], ..node });
            }
            (Scalar::Pow, &[x, _]) if float && is(1, -1.0) => {
                return self.make(Node { op: Op::Scalar(Scalar::Recip), src: smallvec![x], ..node });
            }
            (Scalar::Neg, &[x]) => {
                if let Node { op: Op::Scalar(Scalar::Neg), src, .. } = self.out.node(x) {
                    return src[0];
                }
            }
            (Scalar::Where, &[c, x, z]) => {
                if x == z {
                    return x;
                }
                if let Some(c) = self.constant_of(c) {
                    return if c.as_f64() != 0.0 { x } else { z };
                }
            }
            _ => {}
        }
        if let Some(values) = values.into_iter().collect::<Option<Vec<Number>>>() {
            let dtype = self.out.node(node.src[0]).dtype;
            if let Some(value) = fold(op, &values, dtype, node.dtype) {
                return self.constant(&node, value);
            }
        }
        self.intern(node)
    }

    /// A reshape or expand, looked through others of its kind.
    fn view(&mut self, mut node: Node) -> Id {
        if let Some(value) = self.constant_of(node.src[0]) {
            return self.constant(&node, value);
        }
        let below = self.out.node(node.src[0]);
        if below.shape == node.shape {
            return node.src[0];
        }
        if below.op == node.op {
            node.src = below.src.clone();
            return self.view(node);
        }
        self.intern(node)
    }

    /// Windows that lie side by side need no sum: their elements are only put back in order, as the
    /// gradient of most poolings is.
    fn fold(&mut self, node: Node, spec: &WindowSpec) -> Id {
        let x = node.src[0];
        let Node { shape, dtype, .. } = *self.out.node(x);
        let rank = node.shape.rank();
        let apart = spec.size.iter().zip(&spec.stride).zip(&spec.dilation);
        if !apart.into_iter().all(|((size, stride), dilation)| size == stride && (*dilation == 1 || *size == 1)) {
            return self.in_compute_dtype(node, |pass, node| pass.intern(node));
        }
        let (mut perm, mut split, mut tiled) = (Perm([0; RANK_MAX]), Vec::with_capacity(shape.rank()), node.shape);
        for axis in 0..rank {
            perm.0[split.len()] = axis as u8;
            split.push(shape.dims()[axis]);
            if let Some(k) = spec.axes.iter().position(|&a| a == axis) {
                perm.0[split.len()] = (rank + k) as u8;
                split.push(spec.size[k]);
                tiled = tiled.with(axis, shape.dims()[axis] * spec.size[k]).unwrap_or(tiled);
            }
        }
        let Ok(split) = Shape::new(&split) else {
            return self.in_compute_dtype(node, |pass, node| pass.intern(node));
        };
        let ordered = self.derived(&node, Op::Permute(perm), &[x], split, dtype);
        let whole = self.derived(&node, Op::Reshape, &[ordered], tiled, dtype);
        // Elements behind the last window have no gradient.
        let hi: Vec<usize> = node.shape.dims().iter().zip(tiled.dims()).map(|(n, m)| n.saturating_sub(*m)).collect();
        match hi.iter().all(|&n| n == 0) {
            true => whole,
            false => {
                let pad = PadSpec { lo: vec![0; rank], hi, interior: vec![0; rank], fill: Number::Int(0) };
                self.derived(&node, Op::Pad(Arc::new(pad)), &[whole], node.shape, dtype)
            }
        }
    }

    fn reduce(&mut self, node: Node, kind: Reduction, set: AxisSet) -> Id {
        let x = node.src[0];
        let Node { shape, dtype, .. } = self.out.node(x).clone();
        let inner: usize = set.iter().map(|axis| shape.dims()[axis]).product();
        if inner == 0 {
            return self.constant(&node, kind.identity(node.dtype));
        }
        // A sum of one -0 stays -0, which from 0 on would be 0: not worth an addition for each element.
        if inner == 1 {
            return self.derived(&node, Op::Reshape, &[x], node.shape, node.dtype);
        }
        if let (Some(value), Reduction::Max | Reduction::Min) = (self.constant_of(x), kind) {
            return self.constant(&node, value);
        }
        if let (Some(value), Reduction::Sum) = (self.constant_of(x), kind) {
            // A sum of -0 begins with a 0.
            let sum = value.as_f64() * inner as f64 + 0.0;
            // Exact in every order of summation.
            if dtype == DType::F32 && value.as_f64().fract() == 0.0 && sum.abs() < 16_777_216.0 {
                return self.constant(&node, Number::Float(sum));
            }
        }
        if dtype != dtype.compute() {
            return self.in_compute_dtype(node, |pass, node| pass.make(node));
        }
        self.in_pieces(&node, kind, set).unwrap_or_else(|| self.intern(node))
    }

    /// The node computed in its 32-bit compute dtype and cast at the end, so that kernels which
    /// write one element an invocation never share a word.
    fn in_compute_dtype(&mut self, node: Node, make: impl FnOnce(&mut Pass, Node) -> Id) -> Id {
        let dtype = node.dtype;
        if dtype == dtype.compute() {
            return make(self, node);
        }
        let mut wide = node.clone();
        wide.dtype = dtype.compute();
        // Indices of a scatter keep their own dtype.
        for s in &mut wide.src {
            if self.out.node(*s).dtype == dtype {
                let shape = self.out.node(*s).shape;
                *s = self.derived(&node, Op::Cast, &[*s], shape, wide.dtype);
            }
        }
        let wide = make(self, wide);
        self.derived(&node, Op::Cast, &[wide], node.shape, dtype)
    }

    /// Sorting by `u32` keys in ascending order: floats are mapped so that their order is the
    /// keys' order, -0 equals 0 and every NaN is greatest.
    fn arg_sort(&mut self, node: Node, axis: usize, descending: bool) -> Id {
        let x = node.src[0];
        let Node { shape, dtype, .. } = self.out.node(x).clone();
        let like = Node { shape, dtype: DType::U32, ..node.clone() };
        let word = |pass: &mut Pass, n: u32| pass.constant(&like, Number::Int(i64::from(n)));
        let scalar = |pass: &mut Pass, op: Scalar, src: &[Id], dtype: DType| {
            pass.derived(&like, Op::Scalar(op), src, shape, dtype)
        };
        let mut key = match dtype.compute() {
            DType::F32 => {
                let wide = self.derived(&like, Op::Cast, &[x], shape, DType::F32);
                let bits = self.derived(&like, Op::Bitcast, &[wide], shape, DType::U32);
                let (sign, zero, all) = (word(self, 1 << 31), word(self, 0), word(self, u32::MAX));
                let bits = {
                    let is_zero = scalar(self, Scalar::Eq, &[bits, sign], DType::Bool);
                    scalar(self, Scalar::Where, &[is_zero, zero, bits], DType::U32)
                };
                let negative = scalar(self, Scalar::Ge, &[bits, sign], DType::Bool);
                let mask = scalar(self, Scalar::Where, &[negative, all, sign], DType::U32);
                let ordered = scalar(self, Scalar::Xor, &[bits, mask], DType::U32);
                let nan = scalar(self, Scalar::IsNan, &[wide], DType::Bool);
                scalar(self, Scalar::Where, &[nan, all, ordered], DType::U32)
            }
            DType::I32 => {
                let bits = self.derived(&like, Op::Bitcast, &[x], shape, DType::U32);
                let sign = word(self, 1 << 31);
                scalar(self, Scalar::Xor, &[bits, sign], DType::U32)
            }
            _ => self.derived(&like, Op::Cast, &[x], shape, DType::U32),
        };
        if descending {
            key = scalar(self, Scalar::Not, &[key], DType::U32);
        }
        self.intern(Node { op: Op::ArgSort { axis, descending: false }, src: smallvec![key], ..node })
    }
}

/// The number that `bits` are in `dtype`.
fn number(bits: u32, dtype: DType) -> Number {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Number::Float(f64::from(f32::from_bits(bits))),
        DType::I32 => Number::Int(i64::from(bits as i32)),
        DType::U32 | DType::U8 => Number::Int(i64::from(bits)),
        DType::Bool => Number::Bool(bits != 0),
    }
}

/// A row of the table on constants of `dtype`, by the CPU's meaning.
fn fold(op: Scalar, values: &[Number], dtype: DType, result: DType) -> Option<Number> {
    let spec = op.spec();
    let lanes = match dtype.compute() {
        DType::F32 => spec.lanes_f32,
        DType::I32 => spec.lanes_i32,
        _ => spec.lanes_u32,
    }?;
    let a = [values.first()?.bits(dtype)];
    let b = [values.last()?.bits(dtype)];
    let mut out = [0];
    lanes(&a, &b, &mut out);
    let bits = match result {
        DType::U8 => out[0] & 255,
        DType::Bool => out[0] & 1,
        _ => out[0],
    };
    Some(number(bits, result))
}
