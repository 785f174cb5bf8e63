//! Convolutions of few channels a group, depthwise ones above all, as sums of shifted images.
//!
//! A tile of a product would be mostly empty, and an invocation that computes one result divides for every tap to find
//! its element. So the last taps are written out, each the image shifted times a weight, and what is summed by a loop
//! is channels and the other taps; a kernel of nine taps is no more than a map. Where the kernel is larger than the
//! result, as for the gradient of a weight, the last results are written out instead, each a sum of the whole image.
//! A rewrite of the graph for GPUs, by rules over its shapes; a page that counts its bytes does without.

use std::sync::Arc;

use smallvec::smallvec;

use super::Pass;
use super::pieces::split;
use crate::compile::graph::{Id, Node};
use crate::compile::plan::Target;
use crate::compile::wgsl::TILED_MIN;
use crate::dtype::Number;
use crate::graph::op::{ConvSpec, Op, PadSpec, Reduction, SliceSpec, WindowSpec};
use crate::graph::scalar::Scalar;
use crate::graph::source::ALL_KERNELS;
use crate::shape::{AxisSet, RANK_MAX, Shape};

/// Taps or results that are written out: so many at four neighbours are as much as a kernel is worth.
const WRITTEN_MAX: usize = 9;

/// Terms that a loop adds up, channels times the taps that are not written out: with more, what a kernel cannot take in
/// at once would be stored for each of them.
const SUMMED_MAX: usize = 64;

/// Elements `offset + i * step` of an axis, for `i < count`.
struct Range {
    offset: isize,
    step: usize,
    count: usize,
}

impl Pass<'_> {
    /// The convolution as sums of shifted images, if its groups have too few channels for a tile.
    pub(super) fn convolution_by_shifts(&mut self, node: &Node, spec: &ConvSpec) -> Option<Id> {
        if !ALL_KERNELS {
            return None;
        }
        let (x, w) = (node.src[0], node.src[1]);
        let shape = self.out.node(w).shape;
        let (&[rows, channels, ref taps @ ..], &[batch, _, ref out @ ..]) = (shape.dims(), node.shape.dims()) else {
            return None;
        };
        let (n, groups) = (out.len(), spec.groups.max(1));
        if rows / groups >= TILED_MIN {
            return None;
        }
        // An element lies at `step` times a number that is written out plus `pace` times one that runs.
        let by_taps = taps.iter().product::<usize>() <= out.iter().product();
        let (written, step, running, pace) = match by_taps {
            true => (taps, &spec.dilation, out, &spec.stride),
            false => (out, &spec.stride, taps, &spec.dilation),
        };
        let fits = |&rest: &usize| written[rest..].iter().product::<usize>() <= WRITTEN_MAX;
        // Taps or results along the axes before `rest` are not written out: they become windows.
        let rest = (0..n).find(fits)?;
        // Axes of a term, and those of them before the ones that run, once they stand last.
        let [lead, whole] = [3 + rest, 3 + rest + n];
        let summed = channels * written[..rest].iter().product::<usize>();
        if whole + usize::from(rows > groups) > RANK_MAX || by_taps && summed > SUMMED_MAX {
            return None;
        }
        // Few results of many channels keep a GPU busier as a product in parts.
        if by_taps
            && channels > 1
            && self.limits.target == Target::Gpu
            && let Some(found) = self.convolution_in_parts(node, spec)
        {
            return Some(found);
        }
        let windows = WindowSpec {
            axes: (2..2 + rest).collect(),
            size: written[..rest].to_vec(),
            stride: pace[..rest].to_vec(),
            dilation: step[..rest].to_vec(),
        };
        // [n, o, c / groups, …], what runs and then the windows.
        let dims = [&[batch, rows, channels], running, &written[..rest]].concat();
        let weights = match by_taps {
            true => [&[1, rows, channels], &vec![1; n][..], &written[..rest]].concat(),
            false => [&[1, rows, channels], running, &vec![1; rest][..]].concat(),
        };
        let mut terms = Vec::new();
        for t in 0..written[rest..].iter().product() {
            let mut at = vec![0; n];
            (rest..n).rev().fold(t, |t, k| {
                at[k] = t % written[k];
                t / written[k]
            });
            let range = |k: usize| match k < rest {
                true => {
                    let count = (written[k] - 1) * step[k] + (running[k] - 1) * pace[k] + 1;
                    Range { offset: -spec.lo[k], step: 1, count }
                }
                false => Range { offset: (at[k] * step[k]) as isize - spec.lo[k], step: pace[k], count: running[k] },
            };
            let ranges: Vec<Range> = (0..n).map(range).collect();
            let mut image = self.shifted(node, x, spec, &ranges)?;
            if rest > 0 {
                let seen = self.out.node(image).shape.dims()[..2].to_vec();
                image = self.seen(
                    node,
                    Op::Window(Arc::new(windows.clone())),
                    image,
                    &[&seen, running, &written[..rest]].concat(),
                )?;
            }
            if rows > groups {
                // Once for each row of a group.
                let mut apart = [&[batch, groups, 1, channels], &dims[3..]].concat();
                image = self.seen(node, Op::Reshape, image, &apart)?;
                apart[2] = rows / groups;
                image = self.seen(node, Op::Expand, image, &apart)?;
            }
            image = self.seen(node, Op::Reshape, image, &dims)?;
            let mut weight = w;
            if by_taps {
                let start = [&[0, 0], &at[..]].concat();
                let one = [&[rows, channels], &taps[..rest], &vec![1; n - rest][..]].concat();
                let slice = SliceSpec { start, step: vec![1; n + 2] };
                weight = self.seen(node, Op::Slice(Arc::new(slice)), weight, &one)?;
            }
            weight = self.seen(node, Op::Reshape, weight, &weights)?;
            weight = self.seen(node, Op::Expand, weight, &dims)?;
            let shape = Shape::new(&dims).ok()?;
            terms.push(self.derived(node, Op::Scalar(Scalar::Mul), &[image, weight], shape, node.dtype));
        }

        let axes = |range: std::ops::Range<usize>| range.fold(AxisSet::default(), AxisSet::and);
        if by_taps {
            let shape = self.out.node(terms[0]).shape;
            let add = |sum: Id, term: Id, pass: &mut Self| {
                pass.derived(node, Op::Scalar(Scalar::Add), &[sum, term], shape, node.dtype)
            };
            let sum = terms.iter().copied().reduce(|sum, term| add(sum, term, self))?;
            // What is summed stands before what runs: neighbours in memory are neighbours among the results.
            let sum = self.permuted(node, sum, (0..3).chain(3 + n..whole).chain(3..3 + n))?;
            return self.seen(node, Op::Reduce(Reduction::Sum, axes(2..lead)), sum, node.shape.dims());
        }
        // A piece of one channel is summed first, all results in one kernel, and they lie side by side when pieces are.
        let lines = Shape::new(&[&[batch * rows * summed], taps].concat()).ok()?;
        let pieces = split(&lines, axes(1..1 + n), self.limits).map_or(1, |(_, pieces)| pieces.min(taps[0]));
        let pieces = (1..=pieces).rev().find(|&pieces| taps[0].is_multiple_of(pieces)).unwrap_or(1);
        let cut = [&[batch, rows], &out[..rest], &[channels * pieces, taps[0] / pieces], &taps[1..]].concat();
        let each = Shape::new(&cut[..lead]).ok()?;
        let mut sums = Vec::new();
        for term in terms {
            let term = self.permuted(node, term, (0..2).chain(3 + n..whole).chain(2..3 + n))?;
            let term = self.seen(node, Op::Reshape, term, &cut)?;
            let op = Op::Reduce(Reduction::Sum, axes(lead..whole));
            let sum = self.intern(Node { op, src: smallvec![term], shape: each, ..node.clone() });
            sums.push(self.seen(node, Op::Reshape, sum, &[&[1], each.dims()].concat())?);
        }
        let (channels, each) = (channels * pieces, each.dims());
        let stacked = Shape::new(&[&[sums.len()], each].concat()).ok()?;
        let y = self.derived(node, Op::Concat { axis: 0 }, &sums, stacked, node.dtype);
        let y = self.permuted(node, y, (1..lead).chain([0, lead]))?;
        let y = self.seen(node, Op::Reshape, y, &[node.shape.dims(), &[channels]].concat())?;
        self.seen(node, Op::Reduce(Reduction::Sum, AxisSet::one(2 + n)), y, node.shape.dims())
    }

    /// These elements of the spatial axes of `x`, spread as they are and with zeros where there are none.
    fn shifted(&mut self, like: &Node, x: Id, spec: &ConvSpec, ranges: &[Range]) -> Option<Id> {
        let rank = ranges.len() + 2;
        let dims = self.out.node(x).shape.dims().to_vec();
        let mut pad = PadSpec { lo: vec![0; rank], hi: vec![0; rank], interior: vec![0; rank], fill: Number::Int(0) };
        let mut slice = SliceSpec { start: vec![0; rank], step: vec![1; rank] };
        let (mut padded, mut seen) = (dims.clone(), dims.clone());
        for (k, range) in ranges.iter().enumerate() {
            let (axis, end) = (k + 2, range.offset + ((range.count - 1) * range.step) as isize + 1);
            let n = (dims[axis] - 1) * spec.spread[k] + 1;
            pad.interior[axis] = spec.spread[k] - 1;
            pad.lo[axis] = (-range.offset).max(0) as usize;
            pad.hi[axis] = (end - n as isize).max(0) as usize;
            padded[axis] = pad.lo[axis] + n + pad.hi[axis];
            slice.start[axis] = range.offset.max(0) as usize;
            slice.step[axis] = range.step;
            seen[axis] = range.count;
        }
        let mut image = x;
        if padded != dims {
            image = self.seen(like, Op::Pad(Arc::new(pad)), image, &padded)?;
        }
        match seen == padded {
            true => Some(image),
            false => self.seen(like, Op::Slice(Arc::new(slice)), image, &seen),
        }
    }
}
