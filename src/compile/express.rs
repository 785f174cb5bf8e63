//! Express: the value of a node at an index, as kernel expressions.
//!
//! Movement ops disappear here into index arithmetic, padding into guards, constants into
//! literals. Nodes that lie in a buffer become loads, and nodes the kernel itself computes become
//! references to its own results, provided they are asked for at the very element that is at hand;
//! where they are not, the kernel cannot be built this way, and `misfit` says so.

use crate::compile::graph::{Graph, Id};
use crate::compile::index::{Lin, flatten, reshaped, unflatten};
use crate::compile::kernel::{Access, Buffer, Expr, ExprId, FaultSite, Kernel, Kind};
use crate::dtype::{DType, Number};
use crate::graph::mix::Map;
use crate::graph::op::Op;
use crate::graph::scalar::{Family, Scalar};
use crate::graph::source::ALL_KERNELS;

/// How the kernel being built sees a node.
#[derive(Clone, Debug)]
pub enum View {
    /// Its elements lie in a buffer (named by the node).
    Stored,
    /// It is result `n` of the kernel, valid at this flat position only.
    Reduced(usize, Lin),
    /// The kernel computes it at this flat position; asked for elsewhere it cannot be had.
    Mapped(Lin),
}

/// Builds the expressions of one kernel.
pub struct Express<'g> {
    graph: &'g Graph,
    view: &'g dyn Fn(Id) -> Option<View>,
    /// The kernel so far; its buffers' slots are node numbers until the plan assigns slots.
    pub kernel: Kernel,
    /// A result of the kernel was asked for at another element.
    pub misfit: bool,
    seen: Map<(Expr, DType), ExprId>,
    values: Map<(Id, Vec<Lin>, Option<ExprId>), ExprId>,
}

/// Whether neighbouring numbers may have very different results.
fn tells_apart(op: Scalar) -> bool {
    matches!(op.spec().family, Family::Compare | Family::Test | Family::Round)
        || matches!(op, Scalar::Sign | Scalar::FloorDiv | Scalar::Rem)
}

/// The buffer of the runtime scalars, beside those named by nodes.
pub const SCALARS: usize = usize::MAX;

impl<'g> Express<'g> {
    /// A kernel without expressions over `graph`, whose nodes it sees through `view`.
    pub fn new(graph: &'g Graph, view: &'g dyn Fn(Id) -> Option<View>, kind: Kind) -> Express<'g> {
        let kernel = Kernel {
            name: String::new(),
            kind,
            body: Vec::new(),
            dtypes: Vec::new(),
            buffers: Vec::new(),
            faults: Vec::new(),
        };
        Express { graph, view, kernel, misfit: false, seen: Map::default(), values: Map::default() }
    }

    /// The number of an expression of `dtype`, shared with an equal one.
    pub fn push(&mut self, expr: Expr, dtype: DType) -> ExprId {
        self.kernel.intern(&mut self.seen, expr, dtype)
    }

    /// The kernel's number for the buffer that `node` lies in.
    pub fn buffer(&mut self, node: usize, dtype: DType, numel: usize, access: Access) -> usize {
        let known = self.kernel.buffers.iter().position(|b| b.slot == node && b.access == access);
        known.unwrap_or_else(|| {
            self.kernel.buffers.push(Buffer { slot: node, dtype, numel, access });
            self.kernel.buffers.len() - 1
        })
    }

    /// The literal `value`.
    pub fn literal(&mut self, value: Number, dtype: DType) -> ExprId {
        self.push(Expr::Const(value.bits(dtype)), dtype)
    }

    /// A row of the table; missing operands repeat the first.
    pub fn scalar(&mut self, op: Scalar, src: &[ExprId], dtype: DType) -> ExprId {
        let first = src.first().copied().unwrap_or(0);
        let at = |k: usize| src.get(k).copied().unwrap_or(first);
        self.push(Expr::Scalar { op, src: [at(0), at(1), at(2)] }, dtype)
    }

    /// `value` rounded to its 16-bit dtype, if it has one and was not rounded yet: equal numbers
    /// are equal however they were come by, and nothing stored differs from what was compared.
    fn rounded(&mut self, value: ExprId) -> ExprId {
        let dtype = self.kernel.dtypes[value as usize];
        match self.kernel.body[value as usize] {
            Expr::Load { .. } | Expr::Const(_) | Expr::Cast { .. } => value,
            _ if dtype.bytes() != 2 => value,
            _ => self.push(Expr::Cast { src: value, from: DType::F32 }, dtype),
        }
    }

    /// Both conditions.
    fn both(&mut self, mask: Option<ExprId>, other: Option<ExprId>) -> Option<ExprId> {
        match (mask, other) {
            (Some(a), Some(b)) if a != b => Some(self.scalar(Scalar::And, &[a, b], DType::Bool)),
            (a, b) => a.or(b),
        }
    }

    /// The condition `0 <= index < bound`, or none where it always holds.
    fn inside(&mut self, index: &Lin, bound: usize) -> Option<ExprId> {
        let (lo, hi) = index.range();
        if lo >= 0 && hi < bound as i64 {
            return None;
        }
        Some(self.push(Expr::Inside { index: index.clone(), bound }, DType::Bool))
    }

    /// The condition that every index is inside its bound, beside `mask`.
    pub fn all_inside(&mut self, conditions: &[(Lin, usize)], mask: Option<ExprId>) -> Option<ExprId> {
        conditions.iter().fold(mask, |mask, (index, bound)| {
            let inside = self.inside(index, *bound);
            self.both(mask, inside)
        })
    }

    /// `value` where `mask` holds, else 0.
    pub fn or_zero(&mut self, mask: Option<ExprId>, value: ExprId, dtype: DType) -> ExprId {
        match self.kernel.body[value as usize] {
            // A load under a mask is 0 where the mask is false.
            Expr::Load { mask: own, .. } if own.is_some() && own == mask => value,
            _ => {
                let zero = self.literal(Number::Int(0), dtype);
                self.choose(mask, value, zero, dtype)
            }
        }
    }

    /// `value` where `mask` holds, else `other`.
    fn choose(&mut self, mask: Option<ExprId>, value: ExprId, other: ExprId, dtype: DType) -> ExprId {
        match mask {
            None => value,
            Some(mask) => self.scalar(Scalar::Where, &[mask, value, other], dtype),
        }
    }

    /// Node `id` at the flat position `flat`.
    pub fn flat(&mut self, id: Id, flat: &Lin, mask: Option<ExprId>) -> ExprId {
        let at = unflatten(self.graph.node(id).shape.dims(), flat);
        self.value(id, &at, mask)
    }

    /// Node `id` at `at`. Where `mask` is given and false the value is not used, and nothing is
    /// loaded for it.
    pub fn value(&mut self, id: Id, at: &[Lin], mask: Option<ExprId>) -> ExprId {
        let key = (id, at.to_vec(), mask);
        if let Some(&known) = self.values.get(&key) {
            return known;
        }
        let value = match (self.view)(id) {
            Some(View::Stored) => self.load(id, at, mask),
            Some(View::Reduced(n, position)) => {
                self.misfit |= flatten(self.graph.node(id).shape.dims(), at) != position;
                self.push(Expr::Reduced(n), self.graph.node(id).dtype)
            }
            Some(View::Mapped(position)) => {
                self.misfit |= flatten(self.graph.node(id).shape.dims(), at) != position;
                self.compute(id, at, mask)
            }
            None => self.compute(id, at, mask),
        };
        self.values.insert(key, value);
        value
    }

    /// A load of node `id` from its buffer.
    fn load(&mut self, id: Id, at: &[Lin], mask: Option<ExprId>) -> ExprId {
        let node = self.graph.node(id);
        let (dtype, numel) = (node.dtype, node.shape.numel());
        let index = flatten(node.shape.dims(), at);
        let slot = match node.op {
            // Runtime scalars share one buffer, a word each.
            Op::Input(_) => {
                let buffer = self.buffer(SCALARS, dtype, 0, Access::Read);
                let index = Lin::constant(node.leaf as i64);
                let known = &mut self.kernel.buffers[buffer];
                known.numel = known.numel.max(node.leaf + 1);
                known.dtype = DType::U32;
                let bits = self.push(Expr::Load { buffer, index, mask: None }, DType::U32);
                return match dtype.compute() {
                    DType::U32 => bits,
                    _ => self.push(Expr::Bitcast(bits), dtype),
                };
            }
            _ => id as usize,
        };
        let buffer = self.buffer(slot, dtype, numel, Access::Read);
        self.push(Expr::Load { buffer, index, mask }, dtype)
    }

    /// Node `id` at `at`, computed here.
    pub fn compute(&mut self, id: Id, at: &[Lin], mask: Option<ExprId>) -> ExprId {
        let graph = self.graph;
        let node = graph.node(id);
        let (dtype, dims) = (node.dtype, node.shape.dims());
        let src = |k: usize| node.src[k];
        let src_dims = |k: usize| graph.node(node.src[k]).shape.dims();
        match &node.op {
            Op::Const(value) => self.literal(*value, dtype),
            Op::Input(_) => self.load(id, at, mask),
            Op::Iota { axis } => self.push(Expr::Index(at[*axis].clone()), dtype),
            Op::Random => {
                let key = [0, 1].map(|k| self.value(src(0), &[Lin::constant(k)], None));
                self.push(Expr::Random { key, counter: flatten(dims, at) }, dtype)
            }
            Op::Scalar(op) => {
                let mut src: Vec<ExprId> = node.src.iter().map(|&s| self.value(s, at, mask)).collect();
                if tells_apart(*op) {
                    src.iter_mut().for_each(|x| *x = self.rounded(*x));
                }
                self.scalar(*op, &src, dtype)
            }
            Op::Cast => {
                let from = graph.node(src(0)).dtype;
                let src = self.value(src(0), at, mask);
                let src = self.rounded(src);
                self.push(Expr::Cast { src, from }, dtype)
            }
            Op::Bitcast => {
                let src = self.value(src(0), at, mask);
                self.push(Expr::Bitcast(src), dtype)
            }
            Op::Fence(_) | Op::Detach | Op::Tracked | Op::Block(_) => self.value(src(0), at, mask),
            Op::Reshape => {
                let at = reshaped(dims, at, src_dims(0));
                self.value(src(0), &at, mask)
            }
            Op::Permute(perm) => {
                let mut from = vec![Lin::default(); dims.len()];
                for (k, i) in at.iter().enumerate() {
                    from[usize::from(perm.0[k])] = i.clone();
                }
                self.value(src(0), &from, mask)
            }
            Op::Expand => {
                let below = src_dims(0);
                let lead = dims.len() - below.len();
                let from: Vec<Lin> = below
                    .iter()
                    .zip(&at[lead..])
                    .map(|(&n, i)| if n == 1 { Lin::default() } else { i.clone() })
                    .collect();
                self.value(src(0), &from, mask)
            }
            Op::Slice(spec) => {
                let from: Vec<Lin> = at
                    .iter()
                    .enumerate()
                    .map(|(k, i)| i.times(spec.step[k] as i64).offset(spec.start[k] as i64))
                    .collect();
                self.value(src(0), &from, mask)
            }
            Op::SliceAt { axis } => {
                let start = self.start(src(1), src_dims(0)[*axis] - dims[*axis]);
                let mut from = at.to_vec();
                from[*axis] = from[*axis].plus(&start);
                self.value(src(0), &from, mask)
            }
            Op::UpdateAt { axis } => {
                let start = self.start(src(2), dims[*axis] - src_dims(1)[*axis]);
                let mut from = at.to_vec();
                from[*axis] = from[*axis].plus(&start.times(-1));
                let here = self.inside(&from[*axis], src_dims(1)[*axis]);
                let written = self.both(mask, here);
                let written = self.value(src(1), &from, written);
                let kept = self.value(src(0), at, mask);
                self.choose(here, written, kept, dtype)
            }
            Op::Flip(set) => {
                let from: Vec<Lin> = at
                    .iter()
                    .enumerate()
                    .map(|(k, i)| if set.has(k) { i.times(-1).offset(dims[k] as i64 - 1) } else { i.clone() })
                    .collect();
                self.value(src(0), &from, mask)
            }
            Op::Pad(spec) => {
                let mut from = Vec::with_capacity(at.len());
                let mut conditions = Vec::new();
                for (k, i) in at.iter().enumerate() {
                    let shifted = i.offset(-(spec.lo[k] as i64));
                    let (n, gap) = (src_dims(0)[k], spec.interior[k] + 1);
                    conditions.push((shifted.clone(), n.saturating_sub(1) * gap + usize::from(n > 0)));
                    conditions.push((shifted.rem(gap), 1));
                    from.push(shifted.div(gap));
                }
                let here = self.all_inside(&conditions, None);
                let kept = self.both(mask, here);
                let value = self.value(src(0), &from, kept);
                if ALL_KERNELS && kept == here && spec.fill.bits(dtype) == 0 {
                    return self.or_zero(here, value, dtype);
                }
                let fill = self.literal(spec.fill, dtype);
                self.choose(here, value, fill, dtype)
            }
            Op::Concat { axis } => {
                let mut offset = 0;
                let mut joined = None;
                for &part in &node.src {
                    let n = graph.node(part).shape.dims()[*axis];
                    let mut from = at.to_vec();
                    from[*axis] = from[*axis].offset(-offset);
                    offset += n as i64;
                    let (lo, hi) = from[*axis].range();
                    if hi < 0 || lo >= n as i64 {
                        continue;
                    }
                    let here = self.inside(&from[*axis], n);
                    let within = self.both(mask, here);
                    let value = self.value(part, &from, within);
                    joined = Some(match joined {
                        None => value,
                        Some(rest) => self.choose(here, value, rest, dtype),
                    });
                }
                joined.unwrap_or_else(|| self.literal(Number::Int(0), dtype))
            }
            Op::Window(spec) => {
                let rank = src_dims(0).len();
                let mut from = at[..rank].to_vec();
                for (k, &axis) in spec.axes.iter().enumerate() {
                    let inner = at[rank + k].times(spec.dilation[k] as i64);
                    from[axis] = from[axis].times(spec.stride[k] as i64).plus(&inner);
                }
                self.value(src(0), &from, mask)
            }
            Op::Gather { axis, word } => {
                let bound = src_dims(0)[*axis];
                let index = self.value(src(1), at, mask);
                let fault = self.kernel.faults.len();
                self.kernel.faults.push(FaultSite { word: word.0, bound, at: node.at });
                let here = self.push(Expr::Checked { value: index, bound, mask, fault }, DType::Bool);
                let zero = self.literal(Number::Int(0), dtype);
                if bound == 0 {
                    return self.choose(Some(here), zero, zero, dtype);
                }
                let mut from = at.to_vec();
                from[*axis] = Lin::value(index, bound);
                let within = self.both(mask, Some(here));
                let found = self.value(src(0), &from, within);
                self.choose(Some(here), found, zero, dtype)
            }
            // One update a line: every element knows for itself whether it is the one.
            Op::Scatter { axis, mode, word } => {
                let bound = dims[*axis];
                let mut from = at.to_vec();
                from[*axis] = Lin::default();
                let index = self.value(src(1), &from, mask);
                let fault = self.kernel.faults.len();
                self.kernel.faults.push(FaultSite { word: word.0, bound, at: node.at });
                let valid = self.push(Expr::Checked { value: index, bound, mask, fault }, DType::Bool);
                let distance = at[*axis].plus(&Lin::value(index, bound).times(-1));
                let here = self.push(Expr::Inside { index: distance, bound: 1 }, DType::Bool);
                let here = self.both(Some(valid), Some(here));
                let base = self.value(src(0), at, mask);
                let mut update = self.value(src(2), &from, mask);
                if *mode == crate::graph::op::ScatterMode::Add {
                    update = self.scalar(Scalar::Add, &[base, update], dtype);
                }
                self.choose(here, update, base, dtype)
            }
            // Reductions, products and the like are kernels' results, never inlined; a kernel
            // built as if they were does not fit.
            Op::Reduce(..)
            | Op::ArgReduce(..)
            | Op::Fold(_)
            | Op::Scan(..)
            | Op::Dot
            | Op::Conv(_)
            | Op::ArgSort { .. }
            | Op::Custom(_)
            | Op::Data
            | Op::Invalid(_) => {
                self.misfit = true;
                self.literal(Number::Int(0), dtype)
            }
        }
    }

    /// A start index taken from a tensor, clamped to `0..=last`.
    fn start(&mut self, node: Id, last: usize) -> Lin {
        if last == 0 {
            return Lin::default();
        }
        let value = self.value(node, &[], None);
        let (zero, last_value) =
            (self.literal(Number::Int(0), DType::I32), self.literal(Number::Int(last as i64), DType::I32));
        let value = self.scalar(Scalar::Maximum, &[value, zero], DType::I32);
        let value = self.scalar(Scalar::Minimum, &[value, last_value], DType::I32);
        Lin::value(value, last + 1)
    }
}
