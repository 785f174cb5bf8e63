//! Steps that kernels are built around: reductions, products, indexing, sorting, random numbers.

use wgrad::graph::Op;
use wgrad::graph::op::{ConvSpec, Extreme, Reduction, ScatterMode, Word};
use wgrad::prelude::*;
use wgrad::shape::AxisSet;

use super::{Gen, NUMEL_MAX, Val};

impl Gen<'_> {
    pub(super) fn reduce(&mut self) -> Val {
        let mut v = self.any();
        if v.x.rank() == 0 {
            v = self.such(&|v| v.x.rank() > 0).unwrap_or_else(|| self.leaf(DType::F32, &[6, 7]));
        }
        if v.x.dtype() == DType::Bool && self.chance(80) {
            v = Val { x: v.x.cast(self.one_of(&[DType::F32, DType::I32, DType::U8])), size: 1.0 };
        }
        let (dims, dtype, rank) = (v.x.dims().to_vec(), v.x.dtype(), v.x.rank());
        let axis = self.rng.below(rank);
        let mut kinds = vec![Reduction::Sum, Reduction::Sum, Reduction::Prod];
        match self.rng.below(10) {
            0 if dims[axis] > 0 => {
                let extreme = self.one_of(&[Extreme::Max, Extreme::Min]);
                let size = dims[axis] as f64;
                Val { x: self.prim(Op::ArgReduce(extreme, axis), &[&v.x], &dims, dtype), size }
            }
            1 | 2 if dtype != DType::Bool => {
                kinds.extend([Reduction::Max, Reduction::Min]);
                let kind = self.one_of(&kinds);
                let (x, size) = self.before(kind, &v, dims[axis]);
                Val { x: self.prim(Op::Scan(kind, axis), &[&x], &dims, dtype), size }
            }
            _ => {
                let mut set = AxisSet::one(axis);
                for k in 0..rank {
                    if self.chance(25) {
                        set = set.and(k);
                    }
                }
                let n: usize = set.iter().map(|k| dims[k]).product();
                if n > 0 {
                    kinds.extend([Reduction::Max, Reduction::Min]);
                }
                if dtype == DType::Bool {
                    kinds.drain(..3);
                }
                if kinds.is_empty() {
                    return v;
                }
                let kind = self.one_of(&kinds);
                let (x, size) = self.before(kind, &v, n);
                Val { x: self.prim(Op::Reduce(kind, set), &[&x], &dims, dtype), size }
            }
        }
    }

    /// What is reduced, made fit for `kind` over `n` elements, and the size of the result.
    fn before(&mut self, kind: Reduction, v: &Val, n: usize) -> (Tensor, f64) {
        match kind {
            Reduction::Sum if v.x.dtype() == DType::F16 && v.size * n as f64 > 3e4 => {
                ((&v.x * (1.0 / n as f64)).cast(DType::F16), v.size)
            }
            Reduction::Sum => (v.x.clone(), v.size * n.max(1) as f64),
            Reduction::Prod if v.x.dtype().is_float() => {
                let width = 1.5 / n.max(1) as f64;
                (self.within(v, 1.0 - width, 1.0 + width), 5.0)
            }
            Reduction::Prod | Reduction::Max | Reduction::Min => (v.x.clone(), v.size),
        }
    }

    /// Words that are chains of reductions over the same rows.
    pub(super) fn chain(&mut self) -> Val {
        let v = self.float();
        if v.x.rank() == 0 || v.x.numel() == 0 {
            return v;
        }
        let axis = self.rng.below(v.x.rank()) as isize;
        let x = &v.x;
        let (x, size) = match self.rng.below(8) {
            0 => (x.softmax(axis), 1.0),
            1 => (x.log_softmax(axis), 2.0 * v.size + 6.0),
            2 => (x.layer_norm(axis, None, None, 1e-2), 4.0),
            3 => (x.rms_norm(axis, None, 1e-2), 4.0),
            4 => (x.var(axis), v.size * v.size),
            5 => (x.logsumexp(axis), v.size + 6.0),
            6 => (x.mean(keepdim(axis)), v.size),
            _ => (x - x.max(keepdim(axis)), 2.0 * v.size),
        };
        let size = if x.dim(axis) <= 1 { size.max(1.0) } else { size };
        Val { x, size }
    }

    /// A product with what comes before and after it.
    pub(super) fn dot(&mut self) -> Val {
        let v = match self.chance(85) {
            true => self.float(),
            false => self.int(),
        };
        let dtype = v.x.dtype();
        let dims = v.x.dims().to_vec();
        let (b, m, k) = match dims[..] {
            [] => (1, 1, 1),
            [k] => (1, 1, k),
            [m, k] => (1, m, k),
            [b, m, k] => (b, m, k),
            [.., k] => (1, v.x.numel() / k.max(1), k),
        };
        let x = v.x.reshape([b, m, k]);
        let x = if self.chance(25) { x.flip(-1) } else { x };
        let n = self.one_of(&[1, 2, 3, 5, 8, 17, 33]);
        let most = 4000 / (b * m.max(k)).max(1);
        let n = n.min(most.max(1));
        let transposed = self.chance(40);
        let w = match transposed {
            true => self.leaf(dtype, &[b, n, k]),
            false => self.leaf(dtype, &[b, k, n]),
        };
        let z = if transposed { w.x.transpose(-1, -2) } else { w.x };
        let z = if self.chance(25) && dtype.is_float() { z.sin() } else { z };
        let (x, z) = if self.chance(30) { (z.transpose(-1, -2), x.transpose(-1, -2)) } else { (x, z) };
        let y = self.prim(Op::Dot, &[&x, &z], &[], dtype);
        self.steps.push(y.clone());
        let size = v.size * w.size * k.max(1) as f64;
        if !dtype.is_float() || size > 3e4 {
            return Val { x: y, size: size.max(1.0) };
        }
        let y = match self.rng.below(4) {
            0 => y.relu() + 0.5,
            1 => y * (1.0 / size.max(1.0)),
            2 => {
                let n = y.dim(-1);
                let bias = self.leaf(dtype, &[n]);
                &y + &bias.x
            }
            _ => y,
        };
        Val { x: y, size: size.max(1.0) + 6.0 }
    }

    pub(super) fn conv(&mut self) -> Val {
        let spatial = self.rng.below(3) + 1;
        let (groups, c, o) = (self.one_of(&[1, 1, 2]), self.rng.below(3) + 1, self.rng.below(3) + 1);
        let float = self.float_dtype();
        let dtype = if self.chance(85) { float } else { DType::I32 };
        let mut dims = vec![self.rng.below(3) + 1, c * groups];
        let mut kernel = vec![o * groups, c];
        let mut s = ConvSpec { stride: vec![], lo: vec![], hi: vec![], spread: vec![], dilation: vec![], groups };
        for _ in 0..spatial {
            let n = self.rng.below(if spatial > 2 { 4 } else { 9 }) + 1;
            let size = self.rng.below(3) + 1;
            s.stride.push(self.one_of(&[1, 1, 2]));
            s.spread.push(self.one_of(&[1, 1, 1, 2, 3]));
            s.dilation.push(self.one_of(&[1, 1, 2]));
            s.lo.push(self.rng.below(4) as isize - 1);
            // Wide enough for one window.
            let spread = (n - 1) * s.spread[s.spread.len() - 1] + 1;
            let span = (size - 1) * s.dilation[s.dilation.len() - 1] + 1;
            let least = span as isize - spread as isize - s.lo[s.lo.len() - 1];
            s.hi.push((self.rng.below(4) as isize - 1).max(least));
            dims.push(n);
            kernel.push(size);
        }
        let x = match self.such(&|v| v.x.dtype() == dtype && v.x.dims() == dims) {
            Some(v) => v,
            None => self.leaf(dtype, &dims),
        };
        let x = if self.chance(40) && dtype.is_float() { Val { x: x.x.sin() * 2.0, size: 2.0 } } else { x };
        let w = self.leaf(dtype, &kernel);
        let taps = kernel[1..].iter().product::<usize>() as f64;
        Val { x: self.prim(Op::Conv(s.into()), &[&x.x, &w.x], &[], dtype), size: x.size * w.size * taps }
    }

    /// Indices under `n` of these dimensions, some of them out of range.
    fn indices(&mut self, dims: &[usize], n: usize) -> Tensor {
        let stray = self.chance(25);
        if self.chance(25)
            && n > 0
            && let Some(v) = self.such(&|v| v.x.dtype() == DType::I32 && v.x.dims() == dims)
        {
            return if stray { v.x } else { v.x.rem(n as i32) };
        }
        let numel = dims.iter().product();
        let v: Vec<i32> = (0..numel)
            .map(|_| match stray && self.chance(20) {
                true => self.one_of(&[-1, n as i32, i32::MAX, i32::MIN, -7, n as i32 + 5]),
                false => self.rng.below(n.max(1)) as i32,
            })
            .collect();
        Tensor::from_vec(v, dims, self.device)
    }

    pub(super) fn indexed(&mut self) -> Val {
        let v = self.any();
        let Some(axis) = self.axis(&v) else { return v };
        let mut dims = v.x.dims().to_vec();
        let (n, dtype) = (dims[axis], v.x.dtype());
        dims[axis] = self.one_of(&[1, 2, 3, 7, 20]);
        if dims.iter().product::<usize>() > NUMEL_MAX {
            dims[axis] = 1;
        }
        let index = self.indices(&dims, n);
        if self.chance(50) {
            let op = Op::Gather { axis, word: Word("gather") };
            return Val { x: self.prim(op, &[&v.x, &index], &dims, dtype), size: v.size };
        }
        let updates = self.leaf(dtype, &dims);
        let updates = match self.chance(40) && dtype.is_float() {
            true => Val { x: updates.x.cos(), size: 1.0 },
            false => updates,
        };
        let mode = if self.chance(50) && dtype != DType::Bool { ScatterMode::Add } else { ScatterMode::Set };
        let size = v.size + updates.size * dims[axis] as f64;
        let op = Op::Scatter { axis, mode, word: Word("scatter") };
        Val { x: self.prim(op, &[&v.x, &index, &updates.x], &dims, dtype), size }
    }

    pub(super) fn sorted(&mut self) -> Val {
        // Computed halves tie where exact numbers do not.
        let v = match self.such(&|v| !matches!(v.x.dtype(), DType::F16 | DType::BF16)) {
            Some(v) => v,
            None => self.leaf(DType::F32, &[9, 4]),
        };
        let Some(axis) = self.axis(&v) else { return v };
        let descending = self.chance(50);
        if self.chance(30) {
            return Val { x: v.x.sort(axis as isize, descending).0, size: v.size };
        }
        let size = v.x.dims()[axis] as f64;
        Val { x: self.prim(Op::ArgSort { axis, descending }, &[&v.x], &[], DType::I32), size }
    }

    pub(super) fn random(&mut self) -> Val {
        let dims = self.dims();
        let key = Tensor::key(self.rng.bits(), self.device);
        let key = if self.chance(50) { key.fold_in(Tensor::input(7, self.device)) } else { key };
        match self.rng.below(4) {
            0 => Val { x: Tensor::bits(&dims[..], &key), size: 4e9 },
            1 => Val { x: Tensor::uniform(&dims[..], &key), size: 1.0 },
            2 => Val { x: Tensor::normal(&dims[..], &key), size: 4.0 },
            _ => {
                let v = self.float();
                Val { x: v.x.dropout(0.3, &key), size: 2.0 * v.size }
            }
        }
    }

    pub(super) fn mark(&mut self) -> Val {
        let v = self.any();
        match self.rng.below(4) {
            0 => Val { x: v.x.detach(), ..v },
            1 => Val { x: v.x.tracked(), ..v },
            2 => {
                let axis = self.axis(&v).unwrap_or(0);
                let x = self.prim(Op::Iota { axis }, &[], v.x.dims(), DType::I32);
                let _ = x;
                v
            }
            _ => {
                let at = self.rng.uniform(-2.0..2.0);
                Val { x: &v.x + Tensor::input(at, self.device), size: v.size + 2.0 }
            }
        }
    }
}
