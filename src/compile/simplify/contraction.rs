//! Contractions that a GPU had too few workgroups for: long ones are cut into parts that are added
//! up, and those of few rows, whose operands lie along the contraction, become sums of rows.
//!
//! Rewrites of the graph, by rules over its shapes and the limits.

use std::sync::Arc;

use smallvec::smallvec;

use super::Pass;
use crate::compile::graph::{Id, Node};
use crate::compile::plan::Target;
use crate::compile::wgsl::{NARROW_GROUP, TILED_MIN};
use crate::graph::op::{ConvSpec, Op, Perm, Reduction};
use crate::graph::scalar::Scalar;
use crate::shape::{AxisSet, RANK_MAX, Shape};

/// Steps that make a contraction of few rows long enough for a workgroup to share each sum.
const ROW_MIN: usize = 64;

impl Pass<'_> {
    /// A product of a 32-bit dtype, in whatever form suits the device.
    pub(super) fn product(&mut self, node: Node) -> Id {
        if self.limits.target != Target::Gpu {
            return self.intern(node);
        }
        self.rows(&node).or_else(|| self.product_in_parts(&node)).unwrap_or_else(|| self.intern(node))
    }

    /// A convolution of a 32-bit dtype, in whatever form suits the device.
    pub(super) fn convolution(&mut self, node: Node, spec: &ConvSpec) -> Id {
        if let Some(found) = self.convolution_by_phases(&node, spec) {
            return found;
        }
        let found = match self.limits.target {
            Target::Cpu => None,
            Target::SoftwareGpu => self.convolution_by_shifts(&node, spec),
            Target::Gpu => self.convolution_by_shifts(&node, spec).or_else(|| self.convolution_in_parts(&node, spec)),
        };
        found.unwrap_or_else(|| self.intern(node))
    }

    /// A product of few rows or columns as a sum along rows, where the larger operand lies that way.
    fn rows(&mut self, node: &Node) -> Option<Id> {
        let (&[b, m, n], k) = (node.shape.dims(), self.depth(node)) else { return None };
        let along = if m < n { self.is_turned(node.src[1]) } else { !self.is_turned(node.src[0]) };
        if m.min(n) >= TILED_MIN || k < ROW_MIN || !along {
            return None;
        }
        let right = self.seen(node, Op::Permute(exchanged(1, 3)), node.src[1], &[b, n, k])?;
        let [left, right] = [(node.src[0], [b, m, 1, k]), (right, [b, 1, n, k])].map(|(x, dims)| {
            let lined = self.seen(node, Op::Reshape, x, &dims)?;
            self.seen(node, Op::Expand, lined, &[b, m, n, k])
        });
        let shape = Shape::new(&[b, m, n, k]).ok()?;
        let products = self.derived(node, Op::Scalar(Scalar::Mul), &[left?, right?], shape, node.dtype);
        self.sum(node, products, node.shape.dims(), 3)
    }

    /// Whether the last two axes of an operand are those of its memory exchanged.
    fn is_turned(&self, mut x: Id) -> bool {
        loop {
            let Node { op, src, shape, .. } = self.out.node(x);
            let last = shape.rank().saturating_sub(2);
            match op {
                // A batch of one is put before a matrix.
                Op::Reshape if self.out.node(src[0]).shape.dims().ends_with(&shape.dims()[last..]) => x = src[0],
                Op::Permute(perm) => return perm.0[last..][..2] == [last as u8 + 1, last as u8],
                _ => return false,
            }
        }
    }

    /// `lhs[b, m, k] · rhs[b, k, n]` as the sum of products of parts of `k`, which are a batch.
    fn product_in_parts(&mut self, node: &Node) -> Option<Id> {
        let (&[b, m, n], k) = (node.shape.dims(), self.depth(node)) else { return None };
        let parts = self.parts([b, m, n, k], k)?;
        let step = k / parts;
        let cut = self.seen(node, Op::Reshape, node.src[0], &[b, m, parts, step])?;
        let cut = self.seen(node, Op::Permute(exchanged(1, 4)), cut, &[b, parts, m, step])?;
        let lhs = self.seen(node, Op::Reshape, cut, &[b * parts, m, step])?;
        let rhs = self.seen(node, Op::Reshape, node.src[1], &[b * parts, step, n])?;
        let shape = Shape::new(&[b * parts, m, n]).ok()?;
        let product = self.intern(Node { src: smallvec![lhs, rhs], shape, ..node.clone() });
        let product = self.seen(node, Op::Reshape, product, &[b, parts, m, n])?;
        self.sum(node, product, node.shape.dims(), 1)
    }

    /// A convolution as the sum of those of parts of its channels, which are more groups.
    pub(super) fn convolution_in_parts(&mut self, node: &Node, spec: &ConvSpec) -> Option<Id> {
        let weight = self.out.node(node.src[1]).shape;
        let (&[rows, channels, ref taps @ ..], &[batch, _, ref out @ ..]) = (weight.dims(), node.shape.dims()) else {
            return None;
        };
        let (groups, each) = (spec.groups.max(1), out.iter().product::<usize>());
        let m = rows / groups;
        let parts = self.parts([groups, m, each * batch, weight.numel() / rows.max(1)], channels)?;
        let step = channels / parts;
        let mut dims = [&[groups, m, parts, step], taps].concat();
        let cut = self.seen(node, Op::Reshape, node.src[1], &dims)?;
        dims.swap(1, 2);
        let cut = self.seen(node, Op::Permute(exchanged(1, dims.len())), cut, &dims)?;
        let weight = self.seen(node, Op::Reshape, cut, &[&[rows * parts, step], taps].concat())?;
        let op = Op::Conv(Arc::new(ConvSpec { groups: groups * parts, ..spec.clone() }));
        let shape = Shape::new(&[&[batch, rows * parts], out].concat()).ok()?;
        let y = self.intern(Node { op, src: smallvec![node.src[0], weight], shape, ..node.clone() });
        let y = self.seen(node, Op::Reshape, y, &[batch * groups, parts, m * each])?;
        let y = self.sum(node, y, &[batch * groups, m * each], 1)?;
        self.seen(node, Op::Reshape, y, node.shape.dims())
    }

    /// The sum over axis `axis` of `x`: `dims`.
    fn sum(&mut self, like: &Node, x: Id, dims: &[usize], axis: usize) -> Option<Id> {
        self.seen(like, Op::Reduce(Reduction::Sum, AxisSet::one(axis)), x, dims)
    }

    /// `op`, which has one operand and keeps the dtype, of `x`: `dims`.
    pub(super) fn seen(&mut self, like: &Node, op: Op, x: Id, dims: &[usize]) -> Option<Id> {
        Some(self.derived(like, op, &[x], Shape::new(dims).ok()?, like.dtype))
    }

    /// Steps of a product.
    fn depth(&self, node: &Node) -> usize {
        self.out.node(node.src[0]).shape.dims().last().copied().unwrap_or(0)
    }

    /// Into how many parts the contraction of `[batch, m, n, k]` is cut, if into any; their number
    /// divides `whole`.
    fn parts(&self, [batch, m, n, k]: [usize; 4], whole: usize) -> Option<usize> {
        let tiles = &self.limits.tiles;
        match m.min(n) >= TILED_MIN {
            true => tiles.parts([batch, m, n, k], whole),
            false => tiles.narrow_parts((batch * m * n).div_ceil(NARROW_GROUP), k, whole),
        }
    }
}

/// Axes in order, but `axis` and the one behind it.
fn exchanged(axis: usize, rank: usize) -> Perm {
    let mut perm = Perm([0; RANK_MAX]);
    (0..rank).for_each(|k| perm.0[k] = k as u8);
    perm.0.swap(axis, axis + 1);
    perm
}
