//! Random graphs of every primitive and dtype: the oracle and each device find the same.
//!
//! `SEED=7` replays one graph, `GRAPHS=100` says how many (from `SEED` on, when both are given).

use wgrad::compile::plan::{Limits, Target};
use wgrad::graph::Op;
use wgrad::graph::Scalar;
use wgrad::graph::op::{
    ConvSpec, Extreme, PadSpec, Perm, Reduction, ScatterMode, SliceSpec, WindowSpec, Word,
};
use wgrad::graph::scalar::Family;
use wgrad::prelude::*;
use wgrad::shape::AxisSet;

use crate::compare::{Case, How, Tally, disagreement};
use crate::devices::devices_for_faults;
use crate::support::Rng;

/// Graphs on each device when nobody says how many.
const GRAPHS: u64 = 60;
/// Elements of the largest tensor.
const NUMEL_MAX: usize = 6000;
/// Numbers grow no larger than this before they are scaled down.
const TAME: f64 = 40.0;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(how: &How) {
    let first = number("SEED");
    let count = number("GRAPHS").unwrap_or(if first.is_some() { 1 } else { GRAPHS });
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + count;
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for seed in seeds {
        match disagreement(&format!("SEED={seed}"), how, &|device| graph(seed, device)) {
            Ok(found) => {
                if std::env::var("SHOW").is_ok() { eprintln!("{}", wgrad::compile::graph::Graph::flatten(&graph(seed, &Device::cpu()).roots).0); }
                if found.skipped > 0 { eprintln!("SKIP {seed} {} of {}", found.skipped, found.skipped + found.compared); }
                tally.add(found)
            }
            Err(text) => {
                eprintln!("{text}");
                wrong.push(seed);
            }
        }
    }
    assert!(wrong.is_empty(), "graphs that disagree, by seed: {wrong:?}");
    eprintln!("{how}: {tally:?}");
    tally.check();
}

#[test]
fn the_cpu_agrees_on_random_graphs() {
    run(&How::Realize(Device::cpu()));
}

#[test]
fn a_gpu_agrees_on_random_graphs() {
    let (devices, _turn) = devices_for_faults();
    devices.into_iter().skip(1).for_each(|device| run(&How::Realize(device)));
}

#[test]
fn the_cpu_runs_plans_for_a_gpu() {
    run(&How::Foreign(Device::cpu(), narrow(Target::Gpu).into()));
    run(&How::Foreign(Device::cpu(), narrow(Target::SoftwareGpu).into()));
}

#[test]
fn a_software_gpu_runs_plans_for_a_real_one() {
    let (devices, _turn) = devices_for_faults();
    devices.into_iter().skip(1).for_each(|device| run(&How::Foreign(device, narrow(Target::Gpu).into())));
}

/// The least a GPU may have, and bindings so short that most tensors need several.
fn narrow(target: Target) -> Limits {
    Limits {
        target,
        buffers_max: 7,
        binding_bytes_max: 16384,
        buffer_bytes_max: u64::MAX,
        invocations_max: 256,
        workgroup_bytes_max: 16384,
        groups_max: 65535,
        sort_block: 16,
        memory_bytes_max: u64::MAX,
    }
}

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
fn graph(seed: u64, device: &Device) -> Case {
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
        let unit = if self.chance(50) { (x * (1.0 / v.size.max(1.0))).sin() } else { (x * (1.5 / v.size.max(1.0))).tanh() };
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

    fn row(&mut self, wanted: impl Fn(Scalar) -> bool) -> Scalar {
        let rows: Vec<Scalar> = Scalar::ALL.iter().copied().filter(|&row| wanted(row)).collect();
        self.one_of(&rows)
    }

    /// The greatest size of the results of `row` on operands of these ranges.
    fn size_of(&self, row: Scalar, x: (f64, f64), z: (f64, f64)) -> f64 {
        let Some(f) = row.spec().f64 else { return 1.0 };
        let at = |(lo, hi): (f64, f64), k: i32| lo + (hi - lo) * f64::from(k) / 16.0;
        let mut size = 0f64;
        for a in 0..=16 {
            for b in 0..=16 {
                let y = f(at(x, a), at(z, b)).abs();
                size = if y.is_finite() { size.max(y) } else { size };
            }
        }
        size.max(1e-3)
    }

    fn unary(&mut self) -> Val {
        let row = self.row(|row| row.spec().arity == 1);
        let spec = row.spec();
        let v = match spec.family {
            Family::Logic => self.such(&|v| !v.x.dtype().is_float()).unwrap_or_else(|| self.leaf(DType::Bool, &[5])),
            Family::Number | Family::Round if self.chance(30) => self.int(),
            _ => self.float(),
        };
        if spec.family == Family::Logic || !(v.x.dtype().is_float() || spec.family == Family::Float) {
            return Val { x: self.prim(Op::Scalar(row), &[&v.x], &[], DType::F32), size: 256.0 };
        }
        let (lo, hi) = (spec.domain.start, spec.domain.end);
        // Outside its domain a row may give NaN or an infinity, as it likes to everywhere.
        let (x, range) = match self.chance(93) {
            true => (self.within(&v, lo, hi), (lo, hi)),
            false => (v.x.clone(), (-v.size, v.size)),
        };
        Val { x: self.prim(Op::Scalar(row), &[&x], &[], DType::F32), size: self.size_of(row, range, range) }
    }

    fn binary(&mut self) -> Val {
        let row = self.row(|row| row.spec().arity == 2);
        let spec = row.spec();
        let v = match spec.family {
            Family::Logic if self.chance(40) => {
                self.such(&|v| v.x.dtype() == DType::Bool).unwrap_or_else(|| self.leaf(DType::Bool, &[5]))
            }
            Family::Logic | Family::Shift => self.int(),
            Family::Number | Family::Compare if self.chance(30) => self.int(),
            _ => self.float(),
        };
        let other = match self.chance(80) || matches!(spec.family, Family::Logic | Family::Shift) {
            true => v.x.dtype(),
            false => self.dtype(),
        };
        let w = if self.chance(8) { v.clone() } else { self.beside(&v, other) };
        let (v, w) = if self.chance(50) { (v, w) } else { (w, v) };
        let ints = !v.x.dtype().is_float() && !w.x.dtype().is_float();
        if ints && spec.family != Family::Float {
            let z = match row {
                // A large power or product says little.
                Scalar::Pow => w.x.rem(5),
                _ => w.x.clone(),
            };
            let size = if spec.family == Family::Compare { 1.0 } else { 4e9 };
            return Val { x: self.prim(Op::Scalar(row), &[&v.x, &z], &[], DType::F32), size };
        }
        if self.chance(10) && matches!(row, Scalar::Add | Scalar::Sub | Scalar::Mul | Scalar::Maximum | Scalar::Minimum) {
            let c = self.rng.uniform(-2.0..2.0);
            let c = v.x.full_like(c);
            return Val { x: self.prim(Op::Scalar(row), &[&v.x, &c], &[], DType::F32), size: v.size * 2.0 + 2.0 };
        }
        let domain = (spec.domain.start, spec.domain.end);
        let tame = matches!(row, Scalar::Add | Scalar::Sub | Scalar::Mul | Scalar::Maximum | Scalar::Minimum)
            || spec.family == Family::Compare;
        if tame || self.chance(4) {
            let (a, b) = ((-v.size, v.size), (-w.size, w.size));
            return Val { x: self.prim(Op::Scalar(row), &[&v.x, &w.x], &[], DType::F32), size: self.size_of(row, a, b) };
        }
        let (x, z) = (self.within(&v, domain.0, domain.1), self.within(&w, domain.0, domain.1));
        Val { x: self.prim(Op::Scalar(row), &[&x, &z], &[], DType::F32), size: self.size_of(row, domain, domain) }
    }

    fn choose(&mut self) -> Val {
        let v = self.any();
        let w = self.beside(&v, v.x.dtype());
        let whole = v.x.shape().broadcast(w.x.shape()).map_or(v.x.clone(), |shape| v.x.expand(shape));
        let c = self.beside(&Val { x: whole, ..v.clone() }, DType::Bool);
        let size = v.size.max(w.size);
        Val { x: self.prim(Op::Scalar(Scalar::Where), &[&c.x, &v.x, &w.x], &[], DType::F32), size }
    }

    fn convert(&mut self) -> Val {
        let v = self.any();
        if self.chance(15) && matches!(v.x.dtype(), DType::I32 | DType::U32) {
            let to = if v.x.dtype() == DType::I32 { DType::U32 } else { DType::I32 };
            return Val { x: v.x.bitcast(to), size: 4e9 };
        }
        if self.chance(10) {
            let x = self.leaf(DType::F32, v.x.dims()).x;
            // Not a leaf that moves: the last bit counts here.
            self.leaves.pop();
            return Val { x: x.bitcast(DType::U32), size: 4e9 };
        }
        let to = self.dtype();
        // Too large for f16, or for the comparison of what wraps.
        let x = match v.size > 300.0 && !v.x.dtype().is_float() && to.is_float() {
            true => v.x.rem(17),
            false => v.x.clone(),
        };
        let size = if v.size > 300.0 { 17.0 } else { v.size };
        Val { x: x.cast(to), size: if to == DType::U8 || to == DType::U32 { 4e9 } else { size } }
    }

    fn view(&mut self) -> Val {
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
        let mut each = |g: &mut Self, f: &dyn Fn(&mut Rng, usize) -> usize| -> Vec<usize> {
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

    fn reduce(&mut self) -> Val {
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
    fn chain(&mut self) -> Val {
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
    fn dot(&mut self) -> Val {
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

    fn conv(&mut self) -> Val {
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
            s.spread.push(self.one_of(&[1, 1, 1, 2]));
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

    fn indexed(&mut self) -> Val {
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

    fn sorted(&mut self) -> Val {
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

    fn random(&mut self) -> Val {
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

    fn mark(&mut self) -> Val {
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
