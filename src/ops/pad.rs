//! Padding: more elements around a tensor.

use crate::dtype::Number;
use crate::graph::tensor::Tensor;
use crate::shape::AxisSet;

/// What [`Tensor::pad`] puts around a tensor; a number stands for [`PadMode::Constant`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This number.
    Constant(Number),
    /// The elements mirrored at the outermost, which is not repeated.
    Reflect,
    /// The outermost element.
    Replicate,
}

impl<N: Into<Number>> From<N> for PadMode {
    fn from(value: N) -> PadMode {
        PadMode::Constant(value.into())
    }
}

impl Tensor {
    /// With `pairs[k] = (before, after)` more elements along each of the last axes.
    ///
    /// As many pairs as axes pad them all, as NumPy's `pad`; fewer pad the last ones, and the last
    /// pair is that of the last axis.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2, 3], &Device::cpu());
    /// assert_eq!(x.pad(&[(1, 2)], 0).to_vec::<i32>()?, [0, 1, 2, 3, 0, 0]);
    /// assert_eq!(x.pad(&[(2, 1)], PadMode::Reflect).to_vec::<i32>()?, [3, 2, 1, 2, 3, 2]);
    /// assert_eq!(x.pad(&[(0, 2)], PadMode::Replicate).to_vec::<i32>()?, [1, 2, 3, 3, 3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn pad(&self, pairs: &[(usize, usize)], mode: impl Into<PadMode>) -> Tensor {
        let Some(first) = self.rank().checked_sub(pairs.len()) else {
            return self.refuse("pad", format!("{} pairs, but the shape is {}", pairs.len(), self.shape()));
        };
        let mode = mode.into();
        if let PadMode::Constant(fill) = mode {
            given!("pad", &[self], fill.fits(self.dtype()));
            let (mut lo, mut hi) = (vec![0; first], vec![0; first]);
            lo.extend(pairs.iter().map(|pair| pair.0));
            hi.extend(pairs.iter().map(|pair| pair.1));
            return self.pad_spec("pad", lo, hi, vec![0; self.rank()], fill);
        }
        let mut x = self.clone();
        for (k, &pair) in pairs.iter().enumerate().filter(|(_, pair)| **pair != (0, 0)) {
            x = x.pad_edge(first + k, pair, mode == PadMode::Reflect);
        }
        x
    }

    /// Mirrors or repeats what is at both ends of `axis`.
    #[track_caller]
    fn pad_edge(&self, axis: usize, (lo, hi): (usize, usize), reflect: bool) -> Tensor {
        let n = self.dims().get(axis).copied().unwrap_or(0);
        let need = if reflect { lo.max(hi).saturating_add(1) } else { 1 };
        if n < need {
            let kind = if reflect { "reflection" } else { "replication" };
            return self.refuse("pad", format!("{kind} by ({lo}, {hi}) of axis {axis} of {}", self.shape()));
        }
        let [mut before, mut after] = match reflect {
            true => [self.part("pad", axis, 1, lo), self.part("pad", axis, n - 1 - hi, hi)],
            false => [self.part("pad", axis, 0, 1), self.part("pad", axis, n - 1, 1)],
        };
        if reflect {
            let set = AxisSet::one(axis);
            (before, after) = (before.flip_axes("pad", set), after.flip_axes("pad", set));
        } else {
            let shapes = self.shape().with(axis, lo).and_then(|low| Ok((low, self.shape().with(axis, hi)?)));
            let (low, high) = checked!(self, "pad", shapes);
            (before, after) = (before.expand_to("pad", low), after.expand_to("pad", high));
        }
        let mut parts = vec![self];
        if lo > 0 {
            parts.insert(0, &before);
        }
        if hi > 0 {
            parts.push(&after);
        }
        Tensor::joined("pad", &parts, axis as isize)
    }
}
