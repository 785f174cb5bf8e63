//! The first few of an order, as `topk` asks for them, without a sort: each is the least of those that come after the
//! one before it, so all of them are reductions of the same rows, one kernel.
//!
//! A rewrite of the graph, by rules over its shapes and the limits; a page that counts its bytes sorts.

use smallvec::smallvec;

use super::Pass;
use super::pieces::split;
use crate::compile::graph::{Graph, Id, Node};
use crate::compile::plan::Target;
use crate::dtype::{DType, Number};
use crate::graph::op::{Extreme, Op, Reduction};
use crate::graph::scalar::Scalar;
use crate::graph::source::ALL_KERNELS;
use crate::shape::{AxisSet, Shape};

/// So many are found one after the other: each is one more time along the row.
const FIRST_MAX: usize = 16;

impl Pass<'_> {
    /// `node` of `graph`, if it is the beginning of an order that nobody else uses; `new` has its operands.
    pub(super) fn first_of(&mut self, graph: &Graph, users: &[u32], node: &Node, new: &[Id]) -> Option<Id> {
        let (true, Op::Slice(spec)) = (ALL_KERNELS, &node.op) else { return None };
        let sort = node.src[0];
        let Op::ArgSort { axis, .. } = graph.node(sort).op else { return None };
        let start = spec.start.iter().all(|&start| start == 0) && spec.step.iter().all(|&step| step == 1);
        let floats = graph.node(graph.src(sort, 0)).dtype.is_float();
        let whole = graph.node(sort).shape;
        let (k, set) = (node.shape.dims()[axis], AxisSet::one(axis));
        let rows = whole.with(axis, k).is_ok_and(|shape| shape == node.shape);
        let n = whole.dims()[axis];
        // A processor sorts a row faster than it goes along it many times.
        let most = if self.limits.target == Target::Cpu {
            n.next_power_of_two().ilog2() as usize / 2
        } else {
            FIRST_MAX.min(n / 4)
        };
        let few = (1..=most).contains(&k);
        // Rows that are cut in pieces would be a few kernels for each.
        let short = split(&whole, set, self.limits).is_none();
        if users[sort as usize] != 1 || !(start && floats && rows && few && short) {
            return None;
        }
        // An order of no rows is a constant.
        let sorted = self.out.node(new[sort as usize]);
        let keys = *sorted.src.first().filter(|_| matches!(sorted.op, Op::ArgSort { .. }))?;
        self.first(node, keys, axis, k)
    }

    /// Where the first `k` along an axis of `keys` are, which are those of floats: none of them is the greatest number
    /// but that of a NaN.
    fn first(&mut self, node: &Node, keys: Id, axis: usize, k: usize) -> Option<Id> {
        let like = Node { shape: self.out.node(keys).shape, dtype: DType::U32, ..node.clone() };
        let kept = like.shape.with(axis, 1).ok()?;
        let (line, set) = (kept.without(AxisSet::one(axis)), AxisSet::one(axis));
        let gone = self.constant(&like, Number::Int(i64::from(u32::MAX)));
        let last = self.constant(&like, Number::Int(i64::from(u32::MAX - 1)));
        let at = Op::Iota { axis };
        let at = self.intern(Node { op: at, src: smallvec![], leaf: 0, dtype: DType::I32, ..like.clone() });
        let keys = self.derived(&like, Op::Scalar(Scalar::Minimum), &[keys, last], like.shape, DType::U32);
        let stacked = Shape::new(&[&[1], line.dims()].concat()).ok()?;
        let (mut left, mut found) = (keys, Vec::with_capacity(k));
        loop {
            let place = self.derived(&like, Op::ArgReduce(Extreme::Min, axis), &[left], line, DType::I32);
            found.push(self.derived(&like, Op::Reshape, &[place], stacked, DType::I32));
            if found.len() == k {
                break;
            }
            let least = self.derived(&like, Op::Reduce(Reduction::Min, set), &[left], line, DType::U32);
            let [least, place] = [(least, DType::U32), (place, DType::I32)].map(|(x, dtype)| {
                let lined = self.derived(&like, Op::Reshape, &[x], kept, dtype);
                self.derived(&like, Op::Expand, &[lined], like.shape, dtype)
            });
            let mut word = |op, src: &[Id], dtype| self.derived(&like, Op::Scalar(op), src, like.shape, dtype);
            let (greater, equal) =
                (word(Scalar::Gt, &[keys, least], DType::Bool), word(Scalar::Eq, &[keys, least], DType::Bool));
            let behind = word(Scalar::Gt, &[at, place], DType::Bool);
            let behind = word(Scalar::And, &[equal, behind], DType::Bool);
            let after = word(Scalar::Or, &[greater, behind], DType::Bool);
            left = word(Scalar::Where, &[after, keys, gone], DType::U32);
        }
        let all = Shape::new(&[&[k], line.dims()].concat()).ok()?;
        let all = self.derived(&like, Op::Concat { axis: 0 }, &found, all, DType::I32);
        let order = (1..=axis).chain([0]).chain(axis + 1..like.shape.rank());
        self.permuted(&Node { dtype: DType::I32, ..like }, all, order)
    }
}
