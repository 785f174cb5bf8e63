//! Arguments for random calls: mostly such as fit, now and then absurd ones, each written down.

use wgrad::dtype::Element;
use wgrad::ops::slice::Pick;
use wgrad::prelude::*;
use wgrad::shape::Axes;

use crate::support::Rng;

/// Shapes that tensors start with.
const SHAPES: [&[usize]; 14] = [
    &[],
    &[0],
    &[1],
    &[4],
    &[2, 3],
    &[3, 3],
    &[1, 4],
    &[3, 0],
    &[2, 1, 3],
    &[2, 0, 3],
    &[2, 4, 5],
    &[1, 2, 4, 4],
    &[1, 2, 3, 2, 3],
    &[1, 2, 1, 1, 2, 1, 1, 2],
];
/// Numbers of elements that are hardly meant.
const WILD: [usize; 14] = [
    0,
    7,
    9,
    1000,
    65_535,
    65_536,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    usize::MAX / 2,
    usize::MAX - 1,
    usize::MAX,
];
/// Floats that ops must live with.
const SPECIAL: [f64; 12] =
    [0.0, -0.0, 1.0, -1.0, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, -1e300, 1e-40, 3e9];

/// A tensor that calls may take.
#[derive(Clone)]
pub struct Item {
    pub x: Tensor,
    /// How many calls its history is long.
    pub depth: usize,
}

/// Random arguments for one call, and what has been said of them.
pub struct Args {
    pub rng: Rng,
    pub pool: Vec<Item>,
    pub devices: Vec<Device>,
    /// Valid tensors that nobody could compute, which calls take seldom.
    pub giants: Vec<Tensor>,
    /// Invalid tensors, which calls take seldom.
    pub broken: Vec<Tensor>,
    /// What was given, in words.
    pub said: String,
    /// The tensors given.
    pub given: Vec<Tensor>,
    /// How long the longest history of a tensor given is.
    pub depth: usize,
    /// Whether something absurd was given.
    pub wild: bool,
    /// Whether a tensor was made with infinities and the like.
    pub special: bool,
    /// Whether tensors are given as tracked leaves.
    pub track: bool,
}

/// Axes as a user may write them.
pub struct AnyAxes {
    axes: Option<Vec<isize>>,
    keep: bool,
}

impl Axes for AnyAxes {
    fn axes(&self) -> Option<Vec<isize>> {
        self.axes.clone()
    }
    fn keep(&self) -> bool {
        self.keep
    }
}

/// Whether a tensor of `dims` is not worth making.
fn many(dims: &[usize]) -> bool {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none_or(|n| n > 4096)
}

impl Args {
    pub fn new(seed: u64, devices: Vec<Device>) -> Args {
        let mut args = Args {
            rng: Rng::new(seed),
            pool: Vec::new(),
            giants: Vec::new(),
            broken: Vec::new(),
            devices,
            said: String::new(),
            given: Vec::new(),
            depth: 0,
            wild: false,
            special: false,
            track: false,
        };
        let device = args.devices[0].clone();
        args.broken = vec![
            Tensor::new([[1.0], [2.0]], &device).reshape([3]),
            Tensor::from(Error::new(wgrad::ErrorKind::Memory, "elsewhere", "a mistake made before")),
        ];
        let key = Tensor::key(1, &device);
        args.giants = vec![
            Tensor::zeros([u32::MAX], &device),
            Tensor::ones([65_535, 65_537], &device),
            Tensor::ones([1u32 << 31], &device).cast(DType::F16),
            Tensor::full([1 << 16, 1, 1 << 15], 7, &device),
            Tensor::uniform([3, 1 << 29], &key),
            Tensor::bits([1 << 15, 2, 1 << 15], &key),
            Tensor::arange(0, i32::MAX, 1, &device),
            Tensor::zeros([0, u32::MAX], &device),
            Tensor::zeros([u32::MAX, 0, 1], &device),
            Tensor::zeros([1 << 16, 0, 1 << 15], &device),
            Tensor::new([[1.0], [2.0]], &device).expand([1 << 10, 1, 2, 1 << 20]),
            Tensor::uniform([1, 1, 1 << 16, 1 << 15], &key).gt(0.5),
        ];
        for _ in 0..48 {
            let x = args.seedling();
            args.pool.push(Item { x, depth: 0 });
        }
        args
    }

    /// One, on the device that most tensors are on.
    pub fn unit(&self) -> Tensor {
        Tensor::new(1.0, &self.devices[0])
    }

    /// Forgets the last call.
    pub fn start(&mut self) {
        self.said.clear();
        self.given.clear();
        (self.depth, self.wild, self.special, self.track) = (0, false, false, false);
    }

    pub fn say(&mut self, what: impl std::fmt::Debug) {
        if !self.said.is_empty() {
            self.said.push_str(", ");
        }
        self.said.push_str(&format!("{what:?}"));
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.rng.below(100) < percent
    }

    /// A random entry of `all`.
    pub fn one<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.below(all.len())]
    }

    /// [`Args::one`], said.
    pub fn any<T: Copy + std::fmt::Debug>(&mut self, all: &[T]) -> T {
        let it = self.one(all);
        self.say(it);
        it
    }

    pub fn flag(&mut self) -> bool {
        self.any(&[false, true])
    }

    // ---- tensors

    /// A new tensor of any dtype and shape.
    pub fn seedling(&mut self) -> Tensor {
        let dims = self.one(&SHAPES);
        let dtype = if self.chance(55) { DType::F32 } else { self.one(&DType::ALL) };
        self.fresh(dims, dtype)
    }

    /// A new tensor, of few elements when `dims` are; a device's own, or the first one's.
    pub fn fresh(&mut self, dims: &[usize], dtype: DType) -> Tensor {
        let n: usize = dims.iter().product();
        let special = self.chance(12);
        let values: Vec<f64> = (0..n)
            .map(|_| if special && self.chance(30) { self.one(&SPECIAL) } else { self.rng.uniform(-4.0..4.0) })
            .collect();
        self.special |= special;
        let device = if self.chance(6) { self.rng.below(self.devices.len()) } else { 0 };
        let device = self.devices[device].clone();
        fn tensor<T: Element>(values: &[f64], dims: &[usize], device: &Device, f: impl Fn(f64) -> T) -> Tensor {
            Tensor::from_vec(values.iter().map(|&x| f(x)).collect(), dims, device)
        }
        match dtype {
            DType::Bool => tensor(&values, dims, &device, |x| x > 0.0),
            DType::U8 => tensor(&values, dims, &device, |x| x.abs() as u8),
            DType::U32 => tensor(&values, dims, &device, |x| x.abs() as u32),
            DType::I32 => tensor(&values, dims, &device, |x| x as i32),
            DType::F16 => tensor(&values, dims, &device, half::f16::from_f64),
            DType::BF16 => tensor(&values, dims, &device, half::bf16::from_f64),
            DType::F32 => tensor(&values, dims, &device, |x| x as f32),
        }
    }

    fn give(&mut self, x: Tensor, depth: usize) -> Tensor {
        let x = if self.track && x.is_valid() && x.dtype().is_float() {
            // A result that is stored, and so rounded, must not meet its operands unrounded in the oracle.
            let leaf = x.tracked();
            let _ = if many(x.dims()) { Ok(()) } else { leaf.realize() };
            leaf
        } else {
            x
        };
        self.say(&x);
        self.given.push(x.clone());
        self.depth = self.depth.max(depth);
        x
    }

    /// Any tensor there is, seldom an invalid one.
    pub fn x(&mut self) -> Tensor {
        if self.chance(2) {
            let k = self.rng.below(self.broken.len());
            let x = self.broken[k].clone();
            return self.give(x, 0);
        }
        if self.chance(3) {
            self.wild = true;
            let k = self.rng.below(self.giants.len());
            let x = self.giants[k].clone();
            return self.give(x, 0);
        }
        let k = self.rng.below(self.pool.len());
        let Item { x, depth } = self.pool[k].clone();
        self.give(x, depth)
    }

    /// A tensor that often broadcasts with `x`.
    pub fn beside(&mut self, x: &Tensor) -> Tensor {
        match self.rng.below(10) {
            0 => self.x(),
            1 | 2 => self.fit(&[]),
            3 | 4 => {
                let skip = self.rng.below(x.rank() + 1);
                let mut dims = x.dims()[skip..].to_vec();
                if let Some(dim) = dims.last_mut() {
                    *dim = 1;
                }
                self.fit(&dims)
            }
            _ => self.fit(x.dims()),
        }
    }

    /// A tensor of `dims`, mostly a float.
    pub fn fit(&mut self, dims: &[usize]) -> Tensor {
        let dtype = if self.chance(75) { DType::F32 } else { self.one(&DType::ALL) };
        self.fit_as(dims, dtype)
    }

    /// A tensor of `dims` and `dtype`, seldom any other.
    pub fn fit_as(&mut self, dims: &[usize], dtype: DType) -> Tensor {
        if self.chance(7) || many(dims) {
            return self.x();
        }
        let x = self.fresh(dims, dtype);
        self.give(x, 0)
    }

    /// Indices below `n`, now and then beyond.
    pub fn indices(&mut self, dims: &[usize], n: usize) -> Tensor {
        if self.chance(10) || many(dims) {
            return self.x();
        }
        let out = self.chance(8);
        let len: usize = dims.iter().product();
        let index: Vec<i32> = (0..len)
            .map(|_| match out && self.chance(20) {
                true => self.one(&[-1, n as i32, i32::MIN, i32::MAX]),
                false => self.rng.below(n.max(1)) as i32,
            })
            .collect();
        let x = Tensor::from_vec(index, dims, &self.devices[0]);
        self.give(x, 0)
    }

    /// Perhaps a tensor of `dims`.
    pub fn maybe(&mut self, dims: &[usize]) -> Option<Tensor> {
        if self.chance(40) {
            self.say("None");
            return None;
        }
        Some(self.fit(dims))
    }

    /// Up to four tensors.
    pub fn xs(&mut self) -> Vec<Tensor> {
        (0..self.rng.below(4)).map(|_| self.x()).collect()
    }

    /// A random key, mostly.
    pub fn key(&mut self) -> Tensor {
        if self.chance(10) {
            return self.x();
        }
        let key = Tensor::key(self.rng.bits(), &self.devices[0]);
        self.give(key, 0)
    }

    pub fn device(&mut self) -> Device {
        let k = self.rng.below(self.devices.len());
        self.say(self.devices[k].clone());
        self.devices[k].clone()
    }

    // ---- numbers

    /// A number below `n`, or an absurd one.
    pub fn size(&mut self, n: usize) -> usize {
        let size = if self.chance(10) {
            self.wild = true;
            self.one(&WILD)
        } else {
            self.rng.below(n)
        };
        self.say(size);
        size
    }

    /// A number around 0, or an absurd one.
    pub fn int(&mut self) -> isize {
        let x = if self.chance(10) {
            self.wild = true;
            let x = self.one(&WILD);
            self.one(&[x as isize, (x as isize).wrapping_neg(), isize::MIN, isize::MIN + 1])
        } else {
            self.rng.below(9) as isize - 4
        };
        self.say(x);
        x
    }

    /// An axis of a tensor of `rank`, mostly.
    pub fn axis(&mut self, rank: usize) -> isize {
        if rank == 0 || self.chance(10) {
            let axis = self.one(&[0, -1, 1, 7, 8, -8, -9, isize::MAX, isize::MIN]);
            self.say(axis);
            return axis;
        }
        let axis = self.rng.below(2 * rank) as isize - rank as isize;
        self.say(axis);
        axis
    }

    pub fn axes(&mut self, rank: usize) -> AnyAxes {
        let keep = self.chance(30);
        let axes = match self.rng.below(10) {
            0..3 => None,
            3 => Some((0..self.rng.below(10)).map(|_| self.rng.below(18) as isize - 9).collect()),
            4 => Some(vec![self.one(&[isize::MAX, isize::MIN, 8, -1, 0])]),
            5..8 => Some((0..rank).filter(|_| self.chance(50)).map(|k| k as isize).collect()),
            _ => Some(vec![self.rng.below(2 * rank.max(1)) as isize - rank as isize]),
        };
        self.say((&axes, keep));
        AnyAxes { axes, keep }
    }

    /// `n` numbers from `least`, or absurd ones, or one for all, or another count.
    pub fn sizes(&mut self, n: usize, least: usize) -> Vec<isize> {
        let n = match self.rng.below(20) {
            0 => self.rng.below(10),
            1..8 => 1,
            _ => n,
        };
        let wild = self.chance(6);
        let sizes: Vec<isize> = (0..n)
            .map(|_| match wild && self.chance(50) {
                true => self.one(&WILD) as isize,
                false => (least + self.rng.below(3)) as isize,
            })
            .collect();
        self.wild |= wild;
        self.say(&sizes);
        sizes
    }

    /// Dimensions of a tensor, small ones mostly.
    pub fn dims(&mut self) -> Vec<isize> {
        let rank = if self.chance(5) { self.rng.below(12) } else { self.rng.below(5) };
        let wild = self.chance(12);
        let dims: Vec<isize> = (0..rank)
            .map(|_| match wild && self.chance(60) {
                true => match self.rng.below(6) {
                    4 => self.one(&[0, 0, 1 << 16, 65_535]),
                    5 => self.one(&[0, (1 << 32) - 1, 1 << 31]),
                    0 => -(self.rng.below(3) as isize),
                    1 => self.one(&[isize::MIN, isize::MAX, -1]),
                    _ => self.one(&WILD) as isize,
                },
                false => self.rng.below(5) as isize,
            })
            .collect();
        self.wild |= wild;
        self.say(&dims);
        dims
    }

    /// Dimensions that `x` can be brought to, mostly: with as many elements, or broadcast.
    pub fn dims_for(&mut self, x: &Tensor, broadcast: bool) -> Vec<isize> {
        if self.chance(15) {
            return self.dims();
        }
        let mut dims: Vec<isize> = x.dims().iter().map(|&d| d as isize).collect();
        if broadcast {
            for dim in &mut dims {
                if *dim == 1 {
                    *dim = self.rng.below(4) as isize;
                }
            }
            if self.chance(30) {
                dims.insert(0, self.rng.below(3) as isize);
            }
        } else {
            for _ in 0..self.rng.below(3) {
                let k = self.rng.below(dims.len() + 1);
                dims.insert(k, 1);
            }
            if dims.len() > 1 && self.chance(50) {
                let last = dims.pop().unwrap_or(1);
                let k = self.rng.below(dims.len());
                dims[k] = dims[k].saturating_mul(last);
            }
        }
        if !dims.is_empty() && self.chance(20) {
            let k = self.rng.below(dims.len());
            dims[k] = -1;
        }
        self.say(&dims);
        dims
    }

    pub fn float(&mut self) -> f64 {
        let x = if self.chance(20) { self.one(&SPECIAL) } else { self.rng.uniform(-3.0..3.0) };
        self.say(x);
        x
    }

    /// A number from 0 to 1, mostly.
    pub fn part(&mut self) -> f64 {
        let x = if self.chance(20) { self.one(&SPECIAL) } else { self.rng.uniform(0.0..1.0) };
        self.say(x);
        x
    }

    pub fn number(&mut self) -> Number {
        let x = match self.rng.below(12) {
            0 => Number::Int(self.one(&[i64::MIN, i64::MAX, 1 << 31, 1 << 32, -1, 0])),
            1..4 => Number::Int(self.rng.below(9) as i64 - 4),
            4 => Number::Bool(self.chance(50)),
            5 => Number::Float(self.one(&SPECIAL)),
            _ => Number::Float(self.rng.uniform(-3.0..3.0)),
        };
        self.say(x);
        x
    }

    pub fn picks(&mut self, x: &Tensor) -> Vec<Pick> {
        let n = if self.chance(5) { self.rng.below(12) } else { self.rng.below(x.rank() + 1) };
        let mut picks = Vec::new();
        for k in 0..n {
            let dim = x.dim(k as isize) as isize;
            let bound = |a: &mut Args| match a.rng.below(20) {
                0 => a.one(&[isize::MIN, isize::MAX, -9, 9, 0]),
                _ => a.rng.below(dim.saturating_mul(2).max(1) as usize) as isize - dim,
            };
            picks.push(match self.rng.below(4) {
                0 => Pick::At(bound(self)),
                1 => Pick::Span(None, Some(bound(self))),
                2 => Pick::Span(Some(bound(self)), None),
                _ => Pick::Span(Some(bound(self)), Some(bound(self))),
            });
        }
        self.say(&picks);
        picks
    }

    /// An equation of `einsum` and operands that mostly fit.
    pub fn equation(&mut self) -> (String, Vec<Tensor>) {
        let sizes = [2, 3, 1, 4, self.rng.below(2)];
        let (mut terms, mut tensors, mut met) = (Vec::new(), Vec::new(), Vec::new());
        let dots = self.chance(15);
        for _ in 0..1 + self.rng.below(3) {
            let labels: Vec<usize> = (0..self.rng.below(4)).map(|_| self.rng.below(5)).collect();
            let mut dims: Vec<usize> = labels.iter().map(|&l| if self.chance(4) { 1 } else { sizes[l] }).collect();
            let mut term: String = labels.iter().map(|&l| (b'a' + l as u8) as char).collect();
            if dots && self.chance(70) {
                term.insert_str(0, "...");
                dims.insert(0, 2);
            }
            met.extend(labels);
            terms.push(term);
            tensors.push(self.fit(&dims));
        }
        let mut equation = terms.join(",");
        if self.chance(80) {
            met.sort_unstable();
            met.dedup();
            equation.push_str("->");
            if dots {
                equation.push_str("...");
            }
            let kept: Vec<usize> = met.into_iter().filter(|_| self.rng.below(2) == 0).collect();
            equation.extend(kept.into_iter().map(|l| (b'a' + l as u8) as char));
        }
        for _ in 0..if self.chance(15) { 1 + self.rng.below(3) } else { 0 } {
            let at: Vec<usize> = equation.char_indices().map(|(at, _)| at).chain([equation.len()]).collect();
            let at = self.one(&at);
            equation.insert(at, self.one(&['a', 'Z', '.', ',', '-', '>', ' ', 'é', '\0', '1']));
        }
        self.say(&equation);
        (equation, tensors)
    }
}
