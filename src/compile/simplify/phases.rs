//! Convolutions over a spread input, as a transposed one is and what flows back through a stride.
//!
//! Of their taps only each `spread`-th meets an element, and which ones they are repeats along the result with that
//! period. So each phase of the period becomes channels of its own over the input as it is, with the taps that it
//! has, and the results are put side by side: as many products as elements ask for, and none with a zero between two.
//! A rewrite of the graph, by rules over its shapes; a page that counts its bytes does without.

use std::iter::once;
use std::sync::Arc;

use smallvec::smallvec;

use super::Pass;
use crate::compile::graph::{Id, Node};
use crate::dtype::Number;
use crate::graph::op::{ConvSpec, Op, PadSpec, Perm, SliceSpec};
use crate::graph::source::ALL_KERNELS;
use crate::shape::{AxisSet, RANK_MAX, Shape};

/// The widest spread whose arithmetic surely stays within a page's integers; one element may have any.
const SPREAD_MAX: usize = 1 << 16;

/// A spatial axis of such a convolution.
struct Axis {
    /// How far elements of the input lie apart, and how many phases of that meet a tap at all.
    period: usize,
    phases: usize,
    /// Taps of each phase, and how many zeros stand before the first one of all.
    taps: usize,
    front: usize,
    /// Periods of the result, and how many results of the first one come too early.
    count: usize,
    early: usize,
}

impl Pass<'_> {
    /// The convolution by phases, if its input is spread along an axis where nothing else is.
    pub(super) fn convolution_by_phases(&mut self, node: &Node, spec: &ConvSpec) -> Option<Id> {
        let n = spec.stride.len();
        let is_spread =
            |k: usize| (2..=SPREAD_MAX).contains(&spec.spread[k]) && spec.stride[k] == 1 && spec.dilation[k] == 1;
        if !ALL_KERNELS || !(0..n).any(is_spread) {
            return None;
        }
        let (x, w) = (self.out.node(node.src[0]).shape, self.out.node(node.src[1]).shape);
        let (&[rows, channels, ref sizes @ ..], &[batch, _, ref out @ ..]) = (w.dims(), node.shape.dims()) else {
            return None;
        };
        let (groups, each) = (spec.groups.max(1), rows / spec.groups.max(1));
        let mut phased = spec.clone();
        let mut axes = Vec::with_capacity(n);
        for (k, (&size, &out)) in sizes.iter().zip(out).enumerate() {
            let period = if is_spread(k) { spec.spread[k] } else { 1 };
            // A period begins where all of its phases meet the same elements.
            let early = (period as isize - 1 - spec.lo[k]).rem_euclid(period as isize) as usize;
            let taps = size.div_ceil(period);
            // Zeros before the first tap come for nothing where a phase would have one behind the last.
            let (front, early) = if taps > 1 && size + early <= taps * period { (early, 0) } else { (0, early) };
            let count = (out + early).div_ceil(period);
            if period > 1 {
                phased.spread[k] = 1;
                phased.lo[k] = (spec.lo[k] + (front + early) as isize + 1 - period as isize) / period as isize;
                phased.hi[k] = (count + taps) as isize - 1 - x.dims()[k + 2] as isize - phased.lo[k];
            }
            axes.push(Axis { period, phases: period.min(size), taps, front, count, early });
        }
        let all = |of: fn(&Axis) -> usize| axes.iter().map(of);
        let phases: usize = all(|axis| axis.phases).product();

        // The last tap of a period is that of the first phase.
        let front = dims(&[0, 0], all(|axis| axis.front));
        let behind = all(|axis| axis.taps * axis.phases - axis.front).zip(sizes).map(|(whole, size)| whole - size);
        let weight = self.padded(node, node.src[1], front, dims(&[0, 0], behind))?;
        let apart = dims(&[groups, each * channels], axes.iter().flat_map(|axis| [axis.taps, axis.phases]));
        let weight = self.seen(node, Op::Reshape, weight, &apart)?;
        let within = (0..n).map(|k| 2 * k + 3);
        let turned = within.clone().fold(AxisSet::default(), AxisSet::and);
        let weight = self.seen(node, Op::Flip(turned), weight, &apart)?;
        let weight =
            self.permuted(node, weight, once(0).chain(within).chain(once(1)).chain((0..n).map(|k| 2 * k + 2)))?;
        let weight = self.seen(node, Op::Reshape, weight, &dims(&[rows * phases, channels], all(|axis| axis.taps)))?;

        let shape = Shape::new(&dims(&[batch, rows * phases], all(|axis| axis.count))).ok()?;
        let op = Op::Conv(Arc::new(phased.clone()));
        let y = self.convolution(Node { op, src: smallvec![node.src[0], weight], shape, ..node.clone() }, &phased);

        let apart = once(batch * groups).chain(all(|axis| axis.phases)).chain(once(each)).chain(all(|axis| axis.count));
        let y = self.seen(node, Op::Reshape, y, &apart.collect::<Vec<_>>())?;
        let y = self.permuted(node, y, [0, n + 1].into_iter().chain((0..n).flat_map(|k| [n + 2 + k, 1 + k])))?;
        // The first phases of a period are those that meet no tap.
        let none = axes.iter().flat_map(|axis| [0, axis.period - axis.phases]);
        let y = self.padded(node, y, dims(&[0, 0], none), vec![0; 2 * n + 2])?;
        let whole = dims(&[batch, rows], all(|axis| axis.period * axis.count));
        let y = self.seen(node, Op::Reshape, y, &whole)?;
        if whole == node.shape.dims() {
            return Some(y);
        }
        let slice = SliceSpec { start: dims(&[0, 0], all(|axis| axis.early)), step: vec![1; n + 2] };
        self.seen(node, Op::Slice(Arc::new(slice)), y, node.shape.dims())
    }

    /// `x` with zeros before and after its elements.
    fn padded(&mut self, like: &Node, x: Id, lo: Vec<usize>, hi: Vec<usize>) -> Option<Id> {
        let old = self.out.node(x).shape;
        let new: Vec<usize> = old.dims().iter().zip(lo.iter().zip(&hi)).map(|(n, (lo, hi))| n + lo + hi).collect();
        if new == old.dims() {
            return Some(x);
        }
        let pad = PadSpec { interior: vec![0; lo.len()], lo, hi, fill: Number::Int(0) };
        self.seen(like, Op::Pad(Arc::new(pad)), x, &new)
    }

    /// `x` with its axes in this order.
    pub(super) fn permuted(&mut self, like: &Node, x: Id, order: impl Iterator<Item = usize>) -> Option<Id> {
        let (old, mut perm, mut new) = (self.out.node(x).shape, Perm([0; RANK_MAX]), Vec::new());
        for (to, from) in perm.0.iter_mut().zip(order) {
            *to = from as u8;
            new.push(*old.dims().get(from)?);
        }
        self.seen(like, Op::Permute(perm), x, &new)
    }
}

/// These dimensions, and those of each spatial axis.
fn dims(first: &[usize], spatial: impl Iterator<Item = usize>) -> Vec<usize> {
    first.iter().copied().chain(spatial).collect()
}
