//! Reductions of few results over many elements, which would leave most of a device idle: inside
//! pieces first, then across them. A softmax's sum of exponentials goes along with its maximum.
//!
//! Rewrites of the graph, by rules over its shapes and the limits.

use std::sync::Arc;

use smallvec::smallvec;

use super::Pass;
use crate::compile::graph::{Id, Node};
use crate::compile::plan::Limits;
use crate::dtype::{DType, Number};
use crate::graph::op::{Op, PadSpec, Reduction};
use crate::graph::scalar::Scalar;
use crate::graph::source::ALL_KERNELS;
use crate::shape::{AxisSet, Shape};

/// A tensor cut into pieces along one axis, which becomes two.
struct Cut {
    x: Id,
    shape: Shape,
    /// The axes that are reduced inside the pieces.
    inside: AxisSet,
    /// The axis of the pieces among what is left then.
    across: usize,
}

impl Pass<'_> {
    /// The reduction `node` over `set` in two steps, where that suits the device.
    pub(super) fn in_pieces(&mut self, node: &Node, kind: Reduction, set: AxisSet) -> Option<Id> {
        if ALL_KERNELS
            && kind == Reduction::Sum
            && let Some(found) = self.exponentials(node, set)
        {
            return Some(found);
        }
        let cut = self.cut(node, node.src[0], kind, set)?;
        let partial = self.inside(node, kind, &cut, cut.x);
        Some(self.across(node, kind, &cut, partial))
    }

    /// `x` in the pieces that a reduction over `set` has, filled up with what changes nothing.
    fn cut(&mut self, node: &Node, x: Id, kind: Reduction, set: AxisSet) -> Option<Cut> {
        let Node { shape, dtype, .. } = *self.out.node(x);
        let (axis, pieces) = split(&shape, set, self.limits)?;
        let n = shape.dims()[axis];
        let piece = n.div_ceil(pieces);
        let (mut padded, mut long) = (x, shape);
        if piece * pieces != n {
            let mut hi = vec![0; shape.rank()];
            hi[axis] = piece * pieces - n;
            let none = vec![0; shape.rank()];
            let pad = PadSpec { lo: none.clone(), hi, interior: none, fill: kind.identity(dtype) };
            long = shape.with(axis, piece * pieces).unwrap_or(shape);
            padded = self.derived(node, Op::Pad(Arc::new(pad)), &[x], long, dtype);
        }
        let mut dims = long.dims().to_vec();
        dims[axis] = pieces;
        dims.insert(axis + 1, piece);
        // A tensor of the highest rank cannot be cut further.
        let shape = Shape::new(&dims).ok()?;
        let x = self.derived(node, Op::Reshape, &[padded], shape, dtype);
        // Everything but the pieces goes first; then the pieces.
        let up = |a: usize| if a >= axis { a + 1 } else { a };
        let inside = set.iter().fold(AxisSet::default(), |s, a| s.and(up(a)));
        let across = (0..axis).filter(|&a| !set.has(a)).count();
        Some(Cut { x, shape, inside, across })
    }

    /// `x`, which is cut that way, reduced inside its pieces.
    fn inside(&mut self, node: &Node, kind: Reduction, cut: &Cut, x: Id) -> Id {
        let shape = cut.shape.without(cut.inside);
        self.intern(Node { op: Op::Reduce(kind, cut.inside), src: smallvec![x], shape, ..node.clone() })
    }

    /// What was found inside the pieces, reduced across them.
    fn across(&mut self, node: &Node, kind: Reduction, cut: &Cut, partial: Id) -> Id {
        self.intern(Node { op: Op::Reduce(kind, AxisSet::one(cut.across)), src: smallvec![partial], ..node.clone() })
    }

    /// The sum of `exp(x - max(x))`: inside each piece below its own maximum, where the kernel that
    /// finds it has the elements at hand, and then made smaller by how far that is below the whole one.
    fn exponentials(&mut self, node: &Node, set: AxisSet) -> Option<Id> {
        let of = |pass: &Self, x: Id, op: Scalar| {
            let Node { op: found, src, .. } = pass.out.node(x);
            (*found == Op::Scalar(op)).then(|| src.clone())
        };
        let below = of(self, node.src[0], Scalar::Exp)?;
        let below = of(self, below[0], Scalar::Sub)?;
        let Node { shape, dtype, .. } = *self.out.node(below[0]);
        let &Node { op: Op::Expand, ref src, .. } = self.out.node(below[1]) else { return None };
        let mut greatest = src[0];
        let kept = |axis: usize| if set.has(axis) { 1 } else { shape.dims()[axis] };
        let along = self.out.node(greatest).shape.dims().iter().copied().eq((0..shape.rank()).map(kept));
        if !along || dtype != DType::F32 || split(&shape, set, self.limits).is_none() {
            return None;
        }
        while self.out.node(greatest).op == Op::Reshape {
            greatest = self.out.node(greatest).src[0];
        }
        let cut = self.cut(node, below[0], Reduction::Max, set)?;
        let tops = self.inside(node, Reduction::Max, &cut, cut.x);
        if self.across(node, Reduction::Max, &cut, tops) != greatest {
            return None;
        }
        let pieces = self.out.node(tops).shape;
        let spread = |pass: &mut Self, x: Id, gone: AxisSet, shape: Shape| {
            let dims: Vec<usize> = (0..shape.rank()).map(|a| if gone.has(a) { 1 } else { shape.dims()[a] }).collect();
            let x = pass.derived(node, Op::Reshape, &[x], Shape::new(&dims).ok()?, dtype);
            Some(pass.derived(node, Op::Expand, &[x], shape, dtype))
        };
        let scalar = |pass: &mut Self, op: Scalar, src: &[Id], shape: Shape, dtype: DType| {
            pass.derived(node, Op::Scalar(op), src, shape, dtype)
        };
        let top = spread(self, tops, cut.inside, cut.shape)?;
        let low = scalar(self, Scalar::Sub, &[cut.x, top], cut.shape, dtype);
        let low = scalar(self, Scalar::Exp, &[low], cut.shape, dtype);
        let sums = self.inside(node, Reduction::Sum, &cut, low);
        // Of nothing but the least number the difference is NaN; beside other pieces it is nothing.
        let like = Node { shape: pieces, dtype, ..node.clone() };
        let [least, zero] = [f64::NEG_INFINITY, 0.0].map(|x| self.constant(&like, Number::Float(x)));
        let none = scalar(self, Scalar::Eq, &[tops, least], pieces, DType::Bool);
        let sums = scalar(self, Scalar::Where, &[none, zero, sums], pieces, dtype);
        let whole = spread(self, greatest, AxisSet::one(cut.across), pieces)?;
        let less = scalar(self, Scalar::Sub, &[tops, whole], pieces, dtype);
        let less = scalar(self, Scalar::Exp, &[less], pieces, dtype);
        let sums = scalar(self, Scalar::Mul, &[sums, less], pieces, dtype);
        Some(self.across(node, Reduction::Sum, &cut, sums))
    }
}

/// Whether a reduction is cut in two, and where: few results over many elements would leave most
/// of a device idle.
pub fn split(shape: &Shape, set: AxisSet, limits: &Limits) -> Option<(usize, usize)> {
    let inner: usize = set.iter().map(|axis| shape.dims()[axis]).product();
    let outer = (shape.numel() / inner.max(1)).max(1);
    let axis = set.iter().max_by_key(|&axis| shape.dims()[axis])?;
    let n = shape.dims()[axis];
    // A row is shared by a whole workgroup; a column belongs to one invocation.
    let rows = set.iter().last() == Some(shape.rank() - 1);
    let (few, long) = if rows { (64, 8192) } else { (4096, 256) };
    // A real GPU hides its memory's latency behind many more.
    let busy = limits.tiles.busy();
    let wanted = few * busy.div_ceil(8);
    // Rows of one axis stay whole where there are a few: most often more than a sum is made of them.
    let enough = if inner < 2 * long || (rows && inner == n) { few } else { wanted / 2 };
    // Where a processor stands in for a GPU a second kernel costs more than several short axes.
    let whole = if busy > 1 { inner } else { n };
    if outer >= enough || whole < long {
        return None;
    }
    let pieces = (wanted / outer).min(8 * inner / long).min(n).max(2);
    Some((axis, pieces.next_power_of_two()))
}
