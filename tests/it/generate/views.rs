//! Steps that move elements: chains of views.

use wgrad::graph::Op;
use wgrad::graph::op::{PadSpec, Perm, SliceSpec, WindowSpec};
use wgrad::prelude::*;
use wgrad::shape::AxisSet;

use super::{Gen, NUMEL_MAX, Val};
use crate::support::Rng;

impl Gen<'_> {
    pub(super) fn view(&mut self) -> Val {
        let mut v = self.any();
        for _ in 0..self.rng.below(3) + 1 {
            let x = self.moved(&v);
            if x.numel() > NUMEL_MAX || x.rank() > 7 {
                break;
            }
            self.steps.push(x.clone());
            v = Val { x, size: v.size };
        }
        v
    }

    fn moved(&mut self, v: &Val) -> Tensor {
        let dims = v.x.dims().to_vec();
        let (rank, dtype) = (dims.len(), v.x.dtype());
        let each = |g: &mut Self, f: &dyn Fn(&mut Rng, usize) -> usize| -> Vec<usize> {
            dims.iter().map(|&n| f(&mut g.rng, n)).collect()
        };
        match self.rng.below(12) {
            0 | 1 => {
                // Axes merge and split again.
                let mut dims = dims.clone();
                for _ in 0..2 {
                    if dims.len() > 1 && self.chance(60) {
                        let k = self.rng.below(dims.len() - 1);
                        let n = dims.remove(k + 1);
                        dims[k] *= n;
                    }
                    let k = if dims.is_empty() { 0 } else { self.rng.below(dims.len()) };
                    let factors: Vec<usize> = match dims.get(k) {
                        Some(&n) if n > 0 && rank < 6 => (1..=n).filter(|d| n % d == 0).collect(),
                        _ => vec![1],
                    };
                    let d = self.one_of(&factors);
                    match dims.get_mut(k) {
                        Some(n) if rank < 6 => {
                            *n /= d;
                            dims.insert(k + self.rng.below(2), d);
                        }
                        Some(_) => {}
                        None => dims.push(1),
                    }
                }
                self.prim(Op::Reshape, &[&v.x], &dims, dtype)
            }
            2 | 3 => {
                let mut perm = [0u8; 8];
                let mut left: Vec<u8> = (0..rank as u8).collect();
                for p in perm.iter_mut().take(rank) {
                    *p = left.remove(self.rng.below(left.len()));
                }
                let to: Vec<usize> = (0..rank).map(|k| dims[usize::from(perm[k])]).collect();
                self.prim(Op::Permute(Perm(perm)), &[&v.x], &to, dtype)
            }
            4 => {
                let mut to: Vec<usize> =
                    dims.iter().map(|&n| if n == 1 && self.chance(60) { self.rng.below(5) + 1 } else { n }).collect();
                if self.chance(40) {
                    to.insert(0, self.rng.below(4) + 1);
                }
                if to.iter().product::<usize>() > NUMEL_MAX {
                    to = dims.clone();
                }
                self.prim(Op::Expand, &[&v.x], &to, dtype)
            }
            5 => {
                let set = (0..rank).filter(|_| self.chance(50)).fold(AxisSet::default(), AxisSet::and);
                self.prim(Op::Flip(set), &[&v.x], &dims, dtype)
            }
            6 | 7 => {
                let start = each(self, &|rng, n| if n == 0 { 0 } else { rng.below(n).min(rng.below(n)) });
                let step = each(self, &|rng, _| [1, 1, 1, 2, 3][rng.below(5)]);
                let to: Vec<usize> = (0..rank)
                    .map(|k| match dims[k] {
                        0 => 0,
                        n => self.rng.below((n - start[k]).div_ceil(step[k])) + 1,
                    })
                    .collect();
                self.prim(Op::Slice(SliceSpec { start, step }.into()), &[&v.x], &to, dtype)
            }
            8 => {
                let lo = each(self, &|rng, _| [0, 0, 1, 2][rng.below(4)]);
                let hi = each(self, &|rng, _| [0, 0, 1, 3][rng.below(4)]);
                let interior = each(self, &|rng, _| [0, 0, 0, 1, 2][rng.below(5)]);
                let fill = match dtype {
                    DType::Bool => Number::Bool(self.chance(50)),
                    _ => Number::Int(self.rng.below(3) as i64),
                };
                self.prim(Op::Pad(PadSpec { lo, hi, interior, fill }.into()), &[&v.x], &dims, dtype)
            }
            9 => {
                let Some(axis) = self.axis(v) else { return v.x.clone() };
                let part = self.such(&|w| {
                    let same = w.x.rank() == rank && (0..rank).all(|k| k == axis || w.x.dims()[k] == dims[k]);
                    same && w.x.dtype() == dtype
                });
                let part = part.map_or(v.x.clone(), |w| w.x);
                let mut parts = vec![&v.x, &part];
                if self.chance(30) {
                    parts.push(&v.x);
                }
                if self.chance(50) {
                    parts.reverse();
                }
                self.prim(Op::Concat { axis }, &parts, &dims, dtype)
            }
            10 => {
                let Some(axis) = self.axis(v) else { return v.x.clone() };
                let n = dims[axis];
                let len = if n == 0 { 0 } else { self.rng.below(n) + 1 };
                let start = self.start(n);
                if self.chance(50) {
                    let mut to = dims.clone();
                    to[axis] = len;
                    return self.prim(Op::SliceAt { axis }, &[&v.x, &start], &to, dtype);
                }
                let part = v.x.flip(axis as isize).slice_axis(axis as isize, 0..len, 1);
                self.prim(Op::UpdateAt { axis }, &[&v.x, &part, &start], &dims, dtype)
            }
            _ => {
                let Some(spec) = self.window_spec(v) else { return v.x.clone() };
                let x = self.prim(Op::Window(spec.clone().into()), &[&v.x], &dims, dtype);
                if dtype == DType::Bool || x.numel() > NUMEL_MAX || self.chance(50) {
                    return x;
                }
                self.steps.push(x.clone());
                let y = if self.chance(50) { &x * 0.5 } else { x };
                let y = y.cast(dtype);
                self.prim(Op::Fold(spec.into()), &[&y], &dims, dtype)
            }
        }
    }

    /// A start for a slice of `n` elements: the host's or the device's, perhaps out of range.
    fn start(&mut self, n: usize) -> Tensor {
        let at = self.rng.below(n + 4) as i32 - 2;
        match self.such(&|v| v.x.dtype() == DType::I32 && v.x.numel() > 0) {
            Some(v) if self.chance(50) => v.x.reshape([-1]).slice_axis(0, 0..1, 1).reshape(()),
            _ => Tensor::input(at, self.device),
        }
    }

    fn window_spec(&mut self, v: &Val) -> Option<WindowSpec> {
        let rank = v.x.rank();
        let axes: Vec<usize> = (0..rank).filter(|_| self.chance(60)).collect();
        if axes.is_empty() || rank + axes.len() > 7 || v.x.numel() == 0 {
            return None;
        }
        let mut spec = WindowSpec { size: Vec::new(), stride: Vec::new(), dilation: Vec::new(), axes: axes.clone() };
        for axis in axes {
            let n = v.x.dims()[axis];
            let dilation = self.one_of(&[1, 1, 2]);
            let most = ((n - 1) / dilation + 1).min(5);
            spec.size.push(self.rng.below(most) + 1);
            spec.stride.push(self.one_of(&[1, 1, 2, 3]));
            spec.dilation.push(dilation);
        }
        Some(spec)
    }
}
