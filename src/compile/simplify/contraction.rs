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
        if self.limits.target != Target::Gpu {
            return self.intern(node);
        }
        self.convolution_in_parts(&node, spec).unwrap_or_else(|| self.intern(node))
    }

    /// A product of few rows or columns as a sum along rows, where the larger operand lies that way.
    fn rows(&mut self, node: &Node) -> Option<Id> {
        let (&[b, m, n], k) = (node.shape.dims(), self.depth(node)) else { return None };
        let along = if m < n { self.is_turned(node.src[1]) } else { !self.is_turned(node.src[0]) };
        if m.min(n) >= TILED_MIN || k < ROW_MIN || !along {
            return None;
        }
        let whole = Shape::new(&[b, m, n, k]).ok()?;
        let mut last = Perm([0; RANK_MAX]);
        last.0[..3].copy_from_slice(&[0, 2, 1]);
        let right = self.derived(node, Op::Permute(last), &[node.src[1]], Shape::new(&[b, n, k]).ok()?, node.dtype);
        let operands = [(node.src[0], [b, m, 1, k]), (right, [b, 1, n, k])];
        let mut wide = [0; 2];
        for ((x, dims), wide) in operands.into_iter().zip(&mut wide) {
            let lined = self.derived(node, Op::Reshape, &[x], Shape::new(&dims).ok()?, node.dtype);
            *wide = self.derived(node, Op::Expand, &[lined], whole, node.dtype);
        }
        let products = self.derived(node, Op::Scalar(Scalar::Mul), &wide, whole, node.dtype);
        Some(self.derived(node, Op::Reduce(Reduction::Sum, AxisSet::one(3)), &[products], node.shape, node.dtype))
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
        let mut exchanged = Perm([0; RANK_MAX]);
        exchanged.0[..4].copy_from_slice(&[0, 2, 1, 3]);
        let step = k / parts;
        let cut = self.derived(node, Op::Reshape, &[node.src[0]], Shape::new(&[b, m, parts, step]).ok()?, node.dtype);
        let cut =
            self.derived(node, Op::Permute(exchanged), &[cut], Shape::new(&[b, parts, m, step]).ok()?, node.dtype);
        let lhs = self.derived(node, Op::Reshape, &[cut], Shape::new(&[b * parts, m, step]).ok()?, node.dtype);
        let rhs = Shape::new(&[b * parts, step, n]).ok()?;
        let rhs = self.derived(node, Op::Reshape, &[node.src[1]], rhs, node.dtype);
        let shape = Shape::new(&[b * parts, m, n]).ok()?;
        let product = self.intern(Node { src: smallvec![lhs, rhs], shape, ..node.clone() });
        self.sum_of_parts(node, product, Shape::new(&[b, parts, m, n]).ok()?)
    }

    /// A convolution as the sum of those of parts of its channels, which are groups.
    fn convolution_in_parts(&mut self, node: &Node, spec: &ConvSpec) -> Option<Id> {
        let weight = self.out.node(node.src[1]).shape;
        let (&[m, channels, ref taps @ ..], &[batch, _, ref out @ ..]) = (weight.dims(), node.shape.dims()) else {
            return None;
        };
        if spec.groups != 1 {
            return None;
        }
        let n = out.iter().product::<usize>() * batch;
        let parts = self.parts([1, m, n, weight.numel() / m.max(1)], channels)?;
        let step = channels / parts;
        let mut exchanged = Perm([0; RANK_MAX]);
        for (axis, to) in exchanged.0.iter_mut().enumerate() {
            *to = if axis < 2 { 1 - axis as u8 } else { axis as u8 };
        }
        let rank = weight.rank() + 1;
        exchanged.0.get_mut(rank..)?.fill(0);
        let with = |first: &[usize], rest: &[usize]| Shape::new(&[first, rest].concat()).ok();
        let cut = self.derived(node, Op::Reshape, &[node.src[1]], with(&[m, parts, step], taps)?, node.dtype);
        let cut = self.derived(node, Op::Permute(exchanged), &[cut], with(&[parts, m, step], taps)?, node.dtype);
        let weight = self.derived(node, Op::Reshape, &[cut], with(&[parts * m, step], taps)?, node.dtype);
        let op = Op::Conv(Arc::new(ConvSpec { groups: parts, ..spec.clone() }));
        let shape = with(&[batch, parts * m], out)?;
        let y = self.intern(Node { op, src: smallvec![node.src[0], weight], shape, ..node.clone() });
        self.sum_of_parts(node, y, with(&[batch, parts, m], out)?)
    }

    /// The sum over axis 1 of `x`, seen as `shape`.
    fn sum_of_parts(&mut self, like: &Node, x: Id, shape: Shape) -> Option<Id> {
        let parts = self.derived(like, Op::Reshape, &[x], shape, like.dtype);
        let sum = Op::Reduce(Reduction::Sum, AxisSet::one(1));
        Some(self.derived(like, sum, &[parts], like.shape, like.dtype))
    }

    /// Steps of a product.
    fn depth(&self, node: &Node) -> usize {
        self.out.node(node.src[0]).shape.dims().last().copied().unwrap_or(0)
    }

    /// Into how many parts the contraction of `[batch, m, n, k]` is cut, if into any; their number
    /// divides `whole`.
    fn parts(&self, [batch, m, n, k]: [usize; 4], whole: usize) -> Option<usize> {
        let tiles = &self.limits.tiles;
        let groups = match m.min(n) >= TILED_MIN {
            true => tiles.smallest().groups([batch, m, n]),
            false => (batch * m * n).div_ceil(NARROW_GROUP),
        };
        tiles.parts(groups, k, whole)
    }
}
