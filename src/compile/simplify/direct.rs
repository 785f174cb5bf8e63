//! Convolutions in which few products come to each result, such as depthwise ones: a tile would
//! have nothing to share, so on a GPU each result is the sum of its products, written out.
//!
//! Rewrites of the graph, by rules over its shapes; a page does without them.

use std::sync::Arc;

use super::Pass;
use crate::compile::graph::{Id, Node};
use crate::compile::plan::Target;
use crate::compile::wgsl::TILED_MIN;
use crate::dtype::Number;
use crate::graph::op::{ConvSpec, Op, PadSpec, SliceSpec};
use crate::graph::scalar::Scalar;
use crate::graph::source::NATIVE;
use crate::shape::Shape;

/// Products of a result that are written out.
const PRODUCTS_MAX: usize = 32;

impl Pass<'_> {
    /// A convolution as the sum of its products, each of a part of the input and one weight of each
    /// output channel, where these are few.
    pub(super) fn convolution_written_out(&mut self, node: &Node, spec: &ConvSpec) -> Option<Id> {
        if !NATIVE || self.limits.target == Target::Cpu {
            return None;
        }
        let (x, w) = (self.out.node(node.src[0]).shape, self.out.node(node.src[1]).shape);
        let (&[rows, channels, ref taps @ ..], &[batch, _, ref out @ ..]) = (w.dims(), node.shape.dims()) else {
            return None;
        };
        let (groups, m) = (spec.groups, rows / spec.groups.max(1));
        let products = w.numel() / rows.max(1);
        if m >= TILED_MIN || products > PRODUCTS_MAX {
            return None;
        }
        let padded = self.padded(node, x.dims(), spec)?;
        let dims = self.out.node(padded).shape.dims()[2..].to_vec();
        let padded = self.seen(node, Op::Reshape, padded, &[&[batch, groups, channels], &dims[..]].concat())?;
        let all = [&[batch, groups, m], out].concat();
        let mut sum = None;
        for n in 0..products {
            let (channel, tap) = (n * channels / products, place(n, taps));
            let from = tap.iter().zip(&spec.dilation).map(|(t, d)| t * d);
            let slice = SliceSpec {
                start: [0, 0, channel].into_iter().chain(from).collect(),
                step: [1, 1, 1].into_iter().chain(spec.stride.iter().copied()).collect(),
            };
            let part = self.seen(node, Op::Slice(Arc::new(slice)), padded, &[&[batch, groups, 1], out].concat())?;
            let part = self.seen(node, Op::Expand, part, &all)?;
            let one = SliceSpec { start: [&[0, channel], &tap[..]].concat(), step: vec![1; w.rank()] };
            let ones = vec![1; out.len()];
            let weight = self.seen(node, Op::Slice(Arc::new(one)), node.src[1], &[&[rows, 1], &ones[..]].concat())?;
            let weight = self.seen(node, Op::Reshape, weight, &[&[1, groups, m], &ones[..]].concat())?;
            let weight = self.seen(node, Op::Expand, weight, &all)?;
            let shape = Shape::new(&all).ok()?;
            let product = self.derived(node, Op::Scalar(Scalar::Mul), &[part, weight], shape, node.dtype);
            sum = Some(match sum {
                Some(sum) => self.derived(node, Op::Scalar(Scalar::Add), &[sum, product], shape, node.dtype),
                None => product,
            });
        }
        self.seen(node, Op::Reshape, sum?, node.shape.dims())
    }

    /// The input as the windows of a convolution see it: spread, with zeros around it, and cropped.
    fn padded(&mut self, node: &Node, dims: &[usize], spec: &ConvSpec) -> Option<Id> {
        let outside = |edge: &[isize]| -> Vec<usize> {
            [0, 0].into_iter().chain(edge.iter().map(|&n| n.max(0) as usize)).collect()
        };
        let (lo, hi) = (outside(&spec.lo), outside(&spec.hi));
        let interior: Vec<usize> = [0, 0].into_iter().chain(spec.spread.iter().map(|n| n - 1)).collect();
        let long = |k: usize| lo[k] + hi[k] + dims[k] + (dims[k] - 1) * interior[k];
        let long: Vec<usize> = (0..dims.len()).map(long).collect();
        let pad = PadSpec { lo, hi, interior, fill: Number::Float(0.0) };
        let padded = self.seen(node, Op::Pad(Arc::new(pad)), node.src[0], &long)?;
        let cropped = |n: isize| n.min(0).unsigned_abs();
        let start: Vec<usize> = [0, 0].into_iter().chain(spec.lo.iter().map(|&n| cropped(n))).collect();
        let short = |(k, &n): (usize, &usize)| n - start[k] - k.checked_sub(2).map_or(0, |k| cropped(spec.hi[k]));
        let dims: Vec<usize> = long.iter().enumerate().map(short).collect();
        let step = vec![1; dims.len()];
        self.seen(node, Op::Slice(Arc::new(SliceSpec { start, step })), padded, &dims)
    }
}

/// Where element `n` of `[.., taps]` is in `taps`.
fn place(mut n: usize, taps: &[usize]) -> Vec<usize> {
    let mut place = vec![0; taps.len()];
    for (at, &len) in place.iter_mut().zip(taps).rev() {
        *at = n % len;
        n /= len;
    }
    place
}
