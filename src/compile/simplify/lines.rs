//! Work along few lines, of which each would be one invocation's on a GPU: long lines of a scan are
//! cut into blocks, and updates of a scatter are sorted, so that every element finds its own.
//!
//! Rewrites of the graph, by rules over its shapes and the limits; a page does without them. A scan in blocks takes nothing
//! away again, so that an infinity stays one; a sorted scatter adds what it did in the same order.

use std::sync::Arc;

use super::Pass;
use crate::compile::graph::{Id, Node};
use crate::compile::plan::Target;
use crate::dtype::DType;
use crate::graph::op::{Op, PadSpec, Reduction, SliceSpec};
use crate::graph::source::ALL_KERNELS;

/// Elements of a block, which are fewer than a long line's: what an invocation combines one by one.
const BLOCK: usize = 128;
/// Elements from which on a line is worth more kernels than one.
const LONG: usize = 1024;
/// Lines that a workgroup takes.
const LINES: usize = 64;

impl Pass<'_> {
    /// A scan of a 32-bit dtype along `axis`, in whatever form suits the device.
    pub(super) fn scan(&mut self, node: Node, kind: Reduction, axis: usize) -> Id {
        let n = node.shape.dims()[axis];
        let lines = node.shape.numel() / n.max(1);
        match n >= LONG && self.idle(lines, n.next_multiple_of(BLOCK)) {
            true => self.scan_in_blocks(&node, kind, axis).unwrap_or_else(|| self.intern(node)),
            false => self.intern(node),
        }
    }

    /// A scatter of a 32-bit dtype, whose fourth operand, if it has one, is the order of its indices.
    pub(super) fn scatter(&mut self, mut node: Node, axis: usize) -> Id {
        let index = node.src[1];
        let (n, updates) = (node.shape.dims()[axis], self.out.node(index).shape.dims()[axis]);
        let lines = node.shape.numel() / n.max(1);
        if updates > 1 && n + updates >= LONG && self.idle(lines, n.max(updates)) {
            let Node { ref op, ref src, shape, .. } = *self.out.node(index);
            // Lines that have their indices in common have one order.
            let below = src.first().map_or(shape, |&x| self.out.node(x).shape);
            let common = *op == Op::Expand && below.rank() == shape.rank() && below.dims()[axis] == updates;
            let (one, below) = if common { (src[0], below) } else { (index, shape) };
            let order = self.derived(&node, Op::ArgSort { axis, descending: false }, &[one], below, DType::I32);
            let order = self.derived(&node, Op::Expand, &[order], shape, DType::I32);
            node.src.push(order);
        }
        self.intern(node)
    }

    /// Whether an invocation for each of `lines` lines of `n` elements would leave most of a GPU idle,
    /// and what else is bound has room: each buffer takes one binding.
    fn idle(&self, lines: usize, n: usize) -> bool {
        let bytes = (lines as u64).saturating_mul(n as u64).saturating_mul(4);
        let few = lines < LINES * self.limits.tiles.busy();
        ALL_KERNELS && self.limits.target == Target::Gpu && few && bytes <= self.limits.binding_bytes_max
    }

    fn scan_in_blocks(&mut self, node: &Node, kind: Reduction, axis: usize) -> Option<Id> {
        let dims = node.shape.dims();
        let (before, n, after) = (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product());
        let blocks = n.div_ceil(BLOCK);
        let cut = [before, blocks, BLOCK, after];
        let x = self.seen(node, Op::Reshape, node.src[0], &[before, n, after])?;
        let x = self.filled(node, kind, x, [0, blocks * BLOCK - n], [before, blocks * BLOCK, after])?;
        let x = self.seen(node, Op::Reshape, x, &cut)?;
        let within = self.seen(node, Op::Scan(kind, 2), x, &cut)?;
        // What comes before a block is the totals of those before it.
        let last = Op::Slice(Arc::new(SliceSpec { start: vec![0, 0, BLOCK - 1, 0], step: vec![1; 4] }));
        let totals = self.seen(node, last, within, &[before, blocks - 1, 1, after])?;
        let totals = self.seen(node, Op::Reshape, totals, &[before, blocks - 1, after])?;
        let totals = self.filled(node, kind, totals, [1, 0], [before, blocks, after])?;
        let come = self.seen(node, Op::Scan(kind, 1), totals, &[before, blocks, after])?;
        let come = self.seen(node, Op::Reshape, come, &[before, blocks, 1, after])?;
        let come = self.seen(node, Op::Expand, come, &cut)?;
        let shape = self.out.node(within).shape;
        let y = self.derived(node, Op::Scalar(kind.combine()), &[within, come], shape, node.dtype);
        let y = self.seen(node, Op::Reshape, y, &[before, blocks * BLOCK, after])?;
        let first = Op::Slice(Arc::new(SliceSpec { start: vec![0; 3], step: vec![1; 3] }));
        let y = if n == blocks * BLOCK { y } else { self.seen(node, first, y, &[before, n, after])? };
        Some(self.derived(node, Op::Reshape, &[y], node.shape, node.dtype))
    }

    /// `x` with the identity of `kind` put before and after its middle axis, which makes it `dims`.
    fn filled(&mut self, like: &Node, kind: Reduction, x: Id, [lo, hi]: [usize; 2], dims: [usize; 3]) -> Option<Id> {
        if lo + hi == 0 {
            return Some(x);
        }
        let around = |n| vec![0, n, 0];
        let fill = kind.identity(like.dtype);
        let pad = PadSpec { lo: around(lo), hi: around(hi), interior: around(0), fill };
        self.seen(like, Op::Pad(Arc::new(pad)), x, &dims)
    }
}
