//! Random graphs: a few leaves, a dozen steps of every primitive, some roots, some gradients.
//!
//! The same seed makes the same graph on every device.

mod elementwise;
mod heroes;
mod views;

use wgrad::graph::Op;
use wgrad::prelude::*;

use crate::compare::Case;
use crate::support::Rng;

/// Elements of the largest tensor.
const NUMEL_MAX: usize = 6000;
/// Numbers grow no larger than this before they are scaled down.
const TAME: f64 = 40.0;

/// A tensor whose elements are usually within `size` of 0.
#[derive(Clone)]
struct Val {
    x: Tensor,
    size: f64,
}

struct Gen<'a> {
    rng: Rng,
    device: &'a Device,
    pool: Vec<Val>,
    leaves: Vec<Tensor>,
    /// Float dtypes this graph uses.
    floats: Vec<DType>,
    /// Axis lengths this graph uses.
    lengths: Vec<usize>,
    /// Every tensor so far.
    steps: Vec<Tensor>,
}

/// The graph of `seed`.
pub fn graph(seed: u64, device: &Device) -> Case {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let floats = match rng.below(10) {
        0..6 => vec![DType::F32],
        6 | 7 => vec![DType::F32, DType::F16],
        8 => vec![DType::F32, DType::BF16],
        _ => vec![DType::F32, DType::F16, DType::BF16],
    };
    let choice = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 100, 130];
    let mut lengths: Vec<usize> = (0..3).map(|_| choice[rng.below(choice.len())]).collect();
    lengths.extend([1, 2, 3, 4]);
    if rng.below(12) == 0 {
        lengths.push(0);
    }
    let mut g = Gen { rng, device, pool: Vec::new(), leaves: Vec::new(), floats, lengths, steps: Vec::new() };
    for _ in 0..g.rng.below(3) + 1 {
        let dims = g.dims();
        let dtype = g.dtype();
        g.leaf(dtype, &dims);
    }
    for _ in 0..g.rng.below(12) + 3 {
        let made = g.step();
        g.keep(made);
    }
    g.finish()
}

impl Gen<'_> {
    // ---- draws

    fn chance(&mut self, percent: usize) -> bool {
        self.rng.below(100) < percent
    }

    fn one_of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len())].clone()
    }

    fn float_dtype(&mut self) -> DType {
        self.one_of(&self.floats.clone())
    }

    fn dtype(&mut self) -> DType {
        match self.rng.below(10) {
            0..6 => self.float_dtype(),
            6 | 7 => DType::I32,
            8 => DType::U32,
            _ => self.one_of(&[DType::U8, DType::Bool]),
        }
    }

    fn dims(&mut self) -> Vec<usize> {
        let rank = self.one_of(&[0, 1, 1, 2, 2, 2, 3, 3, 4]);
        let mut dims = Vec::new();
        for _ in 0..rank {
            let n = self.one_of(&self.lengths.clone());
            let room = dims.iter().product::<usize>() * n <= 2000;
            dims.push(if room { n } else { 2 });
        }
        dims
    }

    // ---- values

    fn keep(&mut self, v: Val) -> Val {
        self.steps.push(v.x.clone());
        let v = self.tamed(v);
        self.pool.push(v.clone());
        v
    }

    /// The value, scaled down where it may have grown large.
    fn tamed(&mut self, v: Val) -> Val {
        if v.x.dtype().is_float() && v.size > TAME {
            let x = &v.x * (2.0 / v.size);
            self.steps.push(x.clone());
            return Val { x, size: 2.0 };
        }
        v
    }

    fn leaf(&mut self, dtype: DType, dims: &[usize]) -> Val {
        let n = dims.iter().product();
        let size = if dtype == DType::Bool { 1.0 } else { self.one_of(&[1.0, 2.0, 5.0]) };
        let quantised = self.chance(20);
        // Negative numbers wrap.
        let unsigned = matches!(dtype, DType::U32 | DType::U8) && self.chance(80);
        let least = if unsigned { 0.0 } else { -size };
        let v: Vec<f64> = (0..n)
            .map(|_| {
                let x = self.rng.uniform(least..size);
                if quantised { (x * 2.0).round() / 2.0 } else { x }
            })
            .collect();
        let x = self.data(&v, dims, dtype);
        if dtype.is_float() {
            self.leaves.push(x.clone());
        }
        let size = match dtype {
            DType::U32 if !unsigned => 4e9,
            DType::U8 if !unsigned => 256.0,
            DType::I32 | DType::U32 | DType::U8 => 3.0 * size,
            _ => size,
        };
        let v = Val { x, size };
        self.steps.push(v.x.clone());
        self.pool.push(v.clone());
        v
    }

    /// The numbers as a leaf of `dtype`.
    fn data(&mut self, v: &[f64], dims: &[usize], dtype: DType) -> Tensor {
        let d = self.device;
        match dtype {
            DType::F32 => Tensor::from_vec(v.iter().map(|&x| x as f32).collect::<Vec<_>>(), dims, d),
            DType::F16 => Tensor::from_vec(v.iter().map(|&x| half::f16::from_f64(x)).collect::<Vec<_>>(), dims, d),
            DType::BF16 => Tensor::from_vec(v.iter().map(|&x| half::bf16::from_f64(x)).collect::<Vec<_>>(), dims, d),
            DType::I32 => Tensor::from_vec(v.iter().map(|&x| (x * 3.0) as i32).collect::<Vec<_>>(), dims, d),
            DType::U32 => Tensor::from_vec(v.iter().map(|&x| (x * 3.0) as i32 as u32).collect::<Vec<_>>(), dims, d),
            DType::U8 => Tensor::from_vec(v.iter().map(|&x| (x * 3.0) as i32 as u8).collect::<Vec<_>>(), dims, d),
            DType::Bool => Tensor::from_vec(v.iter().map(|&x| x > 0.0).collect::<Vec<_>>(), dims, d),
        }
    }

    /// A value that there is already, recent ones sooner.
    fn any(&mut self) -> Val {
        self.such(&|_| true).unwrap_or_else(|| self.leaf(DType::F32, &[3]))
    }

    fn such(&mut self, wanted: &dyn Fn(&Val) -> bool) -> Option<Val> {
        let found: Vec<usize> = (0..self.pool.len()).filter(|&k| wanted(&self.pool[k])).collect();
        if found.is_empty() {
            return None;
        }
        let k = self.rng.below(found.len()).max(self.rng.below(found.len()));
        Some(self.pool[found[k]].clone())
    }

    fn float(&mut self) -> Val {
        let found = self.such(&|v| v.x.dtype().is_float());
        found.unwrap_or_else(|| {
            let (dtype, dims) = (self.float_dtype(), self.dims());
            self.leaf(dtype, &dims)
        })
    }

    fn int(&mut self) -> Val {
        let found = self.such(&|v| v.x.dtype().is_int());
        found.unwrap_or_else(|| {
            let (dtype, dims) = (self.one_of(&[DType::I32, DType::U32, DType::U8]), self.dims());
            self.leaf(dtype, &dims)
        })
    }

    /// A value to go with `v`: of its shape, or one that broadcasts with it.
    fn beside(&mut self, v: &Val, dtype: DType) -> Val {
        let dims = v.x.dims().to_vec();
        let numel = v.x.numel();
        let found = self.such(&|w| {
            let whole = w.x.shape().broadcast(v.x.shape());
            w.x.dtype() == dtype && whole.is_ok_and(|s| s.numel() <= numel.max(200) && (s.numel() > 0 || numel == 0))
        });
        match (found, self.chance(70)) {
            (Some(found), true) => found,
            _ => {
                let mut dims = dims;
                for n in &mut dims {
                    if self.chance(25) && *n != 0 {
                        *n = 1;
                    }
                }
                while !dims.is_empty() && self.chance(15) {
                    dims.remove(0);
                }
                self.leaf(dtype, &dims)
            }
        }
    }

    /// `v` as floats that lie within `lo` and `hi`.
    fn within(&mut self, v: &Val, lo: f64, hi: f64) -> Tensor {
        let x = if v.x.dtype().is_float() { v.x.clone() } else { v.x.cast(DType::F32) };
        if -v.size >= lo && v.size <= hi {
            return x;
        }
        let (middle, half) = ((lo + hi) / 2.0, (hi - lo) / 2.0 * 0.95);
        let unit =
            if self.chance(50) { (x * (1.0 / v.size.max(1.0))).sin() } else { (x * (1.5 / v.size.max(1.0))).tanh() };
        unit * half + middle
    }

    fn prim(&self, op: Op, src: &[&Tensor], dims: &[usize], dtype: DType) -> Tensor {
        match Shape::new(dims) {
            Ok(shape) => Tensor::primitive(op, src, shape, dtype),
            Err(fact) => panic!("{op}: {fact}"),
        }
    }

    fn axis(&mut self, v: &Val) -> Option<usize> {
        (v.x.rank() > 0).then(|| self.rng.below(v.x.rank()))
    }

    // ---- steps

    fn step(&mut self) -> Val {
        match self.rng.below(100) {
            0..12 => self.unary(),
            12..26 => self.binary(),
            26..30 => self.choose(),
            30..34 => self.convert(),
            34..58 => self.view(),
            58..70 => self.reduce(),
            70..75 => self.chain(),
            75..81 => self.dot(),
            81..84 => self.conv(),
            84..91 => self.indexed(),
            91..94 => self.sorted(),
            94..96 => self.random(),
            96..98 => self.mark(),
            _ => {
                let (dtype, dims) = (self.dtype(), self.dims());
                self.leaf(dtype, &dims)
            }
        }
    }

    // ---- roots

    fn finish(mut self) -> Case {
        let mut roots = Vec::new();
        for _ in 0..self.rng.below(3) + 1 {
            roots.push(self.any().x);
        }
        if let Some(last) = self.pool.last() {
            roots.push(last.x.clone());
        }
        if self.chance(40) && !self.leaves.is_empty() {
            let (a, b) = (self.float(), self.float());
            let targets: Vec<Tensor> = (0..2).map(|_| self.one_of(&self.leaves.clone())).collect();
            let targets: Vec<&Tensor> = targets.iter().collect();
            // A mean keeps the gradient of a large tensor within f16.
            let loss = (&a.x * &a.x.detach()).sum(..).cast(DType::F32) + b.x.sum(..).cast(DType::F32) * 0.5;
            for dx in loss.grad(&targets) {
                self.steps.push(dx.clone());
                roots.push(dx);
            }
            roots.push(loss);
        }
        self.steps.extend(roots.iter().cloned());
        Case { roots, leaves: self.leaves, steps: self.steps }
    }
}
