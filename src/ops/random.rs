//! Random numbers from explicit keys: the same key gives the same numbers on every device.
//!
//! A key is a `u32 [2]` tensor. The bits are JAX's with `jax_threefry_partitionable=True`: raw bits,
//! integers, uniforms and permutations are equal everywhere, normals within rounding. A key whose
//! words the host knows is folded and split there; one that comes out of a graph is folded in it.

use std::ops::Range;

use crate::dtype::{DType, Number};
use crate::graph::device::{Device, HostData};
use crate::graph::op::Op;
use crate::graph::tensor::{Operand, Tensor};
use crate::ops::join::PARTS_MAX;
use crate::ops::threefry::{PARITY, ROTATIONS, threefry2x32};
use crate::shape::{Dims, Shape, shape_of};

impl Tensor {
    /// The key of `seed`: its high and its low word.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let key = Tensor::key(42, &Device::cpu());
    /// assert_eq!(key.to_vec::<u32>()?, [0, 42]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn key(seed: u64, device: &Device) -> Tensor {
        Tensor::new([(seed >> 32) as u32, seed as u32], device)
    }

    /// A new key of this one and `data`, an integer or an integer scalar tensor.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let key = Tensor::key(42, &Device::cpu());
    /// assert_ne!(key.fold_in(1).to_vec::<u32>()?, key.fold_in(2).to_vec::<u32>()?);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn fold_in(&self, data: impl Operand) -> Tensor {
        let data = data.operand(self);
        if let Some(bad) = [self, &data].into_iter().find(|x| !x.is_valid()) {
            return bad.clone();
        }
        checked!(self, "fold_in", self.is_key());
        if data.rank() != 0 || !data.dtype().is_int() {
            let fact = format!("data are an integer scalar, got {} {}", data.dtype(), data.shape());
            return self.refuse("fold_in", fact);
        }
        if self.device() != data.device() {
            return Tensor::build("fold_in", &[self, &data], || Err("operands on different devices".into()));
        }
        if let (Some(key), Op::Const(number)) = (self.words(), &data.0.op) {
            return Tensor::new(threefry2x32(key, [0, number.bits(DType::U32)]), self.device());
        }
        let low = data.cast(DType::U32).unsqueeze(0);
        let [x, z] = self.threefry(&low.zeros_like(), &low);
        Tensor::joined("fold_in", &[&x, &z], 0)
    }

    /// `n` keys of this one, independent of each other; use each once, and this one no more.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let keys = Tensor::key(42, &Device::cpu()).split_key(2);
    /// assert_ne!(keys[0].to_vec::<u32>()?, keys[1].to_vec::<u32>()?);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn split_key(&self, n: usize) -> Vec<Tensor> {
        let possible = if n > PARTS_MAX { Err(format!("{n} keys")) } else { self.is_key() };
        if let Err(fact) = possible {
            return vec![self.refuse("split_key", fact); n.min(PARTS_MAX)];
        }
        let mut keys = Vec::with_capacity(n);
        if let Some(key) = self.words() {
            for i in 0..n {
                keys.push(Tensor::new(threefry2x32(key, [0, i as u32]), self.device()));
            }
            return keys;
        }
        let low = Tensor::arange(0, n as i64, 1, self.device()).cast(DType::U32);
        let [x, z] = self.threefry(&low.zeros_like(), &low);
        for i in 0..n {
            let words = [x.part("split_key", 0, i, 1), z.part("split_key", 0, i, 1)];
            keys.push(Tensor::joined("split_key", &[&words[0], &words[1]], 0));
        }
        keys
    }

    /// `dims` random `u32`, every bit pattern equally likely.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let bits = Tensor::bits([2], &Tensor::key(0, &Device::cpu()));
    /// assert_eq!(bits.to_vec::<u32>()?, [4070199207, 4202968722]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn bits(dims: impl Dims, key: &Tensor) -> Tensor {
        key.drawn("bits", &dims)
    }

    /// `dims` random `f32` in `[0, 1)`, multiples of `2^-23`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::uniform([2], &Tensor::key(0, &Device::cpu()));
    /// assert_eq!(x.to_vec::<f32>()?, [0.947667, 0.9785799]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn uniform(dims: impl Dims, key: &Tensor) -> Tensor {
        key.unit("uniform", &dims)
    }

    /// `dims` random `f32` in `[low, high)`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::uniform_in([100], -1.0..1.0, &Tensor::key(0, &Device::cpu()));
    /// assert!(x.to_vec::<f32>()?.iter().all(|x| (-1.0..1.0).contains(x)));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn uniform_in(dims: impl Dims, range: Range<f64>, key: &Tensor) -> Tensor {
        let (low, high) = (range.start as f32, range.end as f32);
        let span = high - low;
        if !span.is_finite() || span < 0.0 {
            return key.refuse("uniform_in", format!("no numbers in {}..{}", range.start, range.end));
        }
        // Rounded, a sum may be `high`; of an empty range all are `low`.
        let top = high.next_down().max(low);
        let x = key.unit("uniform_in", &dims) * f64::from(span) + f64::from(low);
        x.maximum(f64::from(low)).minimum(f64::from(top))
    }

    /// `dims` random `f32` from the normal distribution of mean 0 and variance 1.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::normal([2], &Tensor::key(0, &Device::cpu())).to_vec::<f32>()?;
    /// assert!((x[0] - 1.62264).abs() < 1e-4 && (x[1] - 2.02526).abs() < 1e-4);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn normal(dims: impl Dims, key: &Tensor) -> Tensor {
        // The open interval from -1 to 1: its least number is the one after -1.
        let low = f64::from(-1.0f32.next_down());
        let unit = (key.unit("normal", &dims) * 2.0 + low).maximum(low);
        unit.erfinv() * std::f64::consts::SQRT_2
    }

    /// `dims` bools, each true with probability `p`, a number or a tensor that broadcasts to `dims`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::bernoulli([1000], 0.25, &Tensor::key(0, &Device::cpu()));
    /// let n = x.sum(..).item::<i32>()?;
    /// assert!((200..300).contains(&n));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn bernoulli(dims: impl Dims, p: impl Operand, key: &Tensor) -> Tensor {
        given!("bernoulli", &[key, &p.operand(key)], Ok(()));
        let unit = key.unit("bernoulli", &dims);
        if !unit.is_valid() {
            return unit;
        }
        let p = p.operand(&unit);
        if !p.shape().expands_to(unit.shape()) {
            return key.refuse("bernoulli", format!("p {} does not broadcast to {}", p.shape(), unit.shape()));
        }
        match p.0.op {
            Op::Const(p) if !(0.0..=1.0).contains(&p.as_f64()) => {
                key.refuse("bernoulli", format!("{p} is no probability"))
            }
            _ => unit.lt(p),
        }
    }

    /// `dims` random `i32` in `[low, high)`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::randint([100], -5..5, &Tensor::key(0, &Device::cpu()));
    /// assert!(x.to_vec::<i32>()?.iter().all(|x| (-5..5).contains(x)));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn randint(dims: impl Dims, range: Range<i64>, key: &Tensor) -> Tensor {
        let shape = checked!(key, "randint", shape_of(&dims));
        let (low, high) = (i128::from(range.start), i128::from(range.end));
        let fits =
            (i128::from(i32::MIN)..=i128::from(i32::MAX) + 1).contains(&high) && i32::try_from(range.start).is_ok();
        let span = match u32::try_from(high - low) {
            Ok(span) if fits && span > 0 => span,
            _ => return key.refuse("randint", format!("no i32 in {}..{}", range.start, range.end)),
        };
        checked!(key, "randint", key.is_key());
        let [upper, lower] = &key.split_key(2)[..] else { return key.refuse("randint", "no keys") };
        let (upper, lower) = (upper.random_bits("randint", shape), lower.random_bits("randint", shape));
        // 2^32 modulo the span, so that the upper words count as such.
        let half = (1u32 << 16) % span;
        let scale = half.wrapping_mul(half) % span;
        let offset = (upper.rem(span) * Number::from(scale) + lower.rem(span)).rem(span);
        offset.cast(DType::I32) + range.start
    }

    /// The `i32` numbers from 0 to `n - 1` in random order.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let mut x = Tensor::permutation(5, &Tensor::key(0, &Device::cpu())).to_vec::<i32>()?;
    /// x.sort();
    /// assert_eq!(x, [0, 1, 2, 3, 4]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn permutation(n: usize, key: &Tensor) -> Tensor {
        checked!(key, "permutation", key.is_key());
        let shape = checked!(key, "permutation", Shape::new(&[n]));
        let Ok(end) = i32::try_from(n) else { return key.refuse("permutation", format!("{n} does not fit i32")) };
        // Sorted by random numbers until no two elements can be expected to have drawn alike each time.
        let rounds = (3.0 * (n.max(1) as f64).ln() / f64::from(u32::MAX).ln()).ceil() as usize;
        let (mut x, mut key) = (Tensor::arange(0, end, 1, key.device()), key.clone());
        for _ in 0..rounds {
            let [next, draw] = &key.split_key(2)[..] else { return key.refuse("permutation", "no keys") };
            let order = draw.random_bits("permutation", shape).arg_sort("permutation", 0, false);
            (x, key) = (x.gather_axis("permutation", 0, &order), next.clone());
        }
        x
    }

    /// One class for each row of logits, drawn as often as `softmax` along the last axis says:
    /// `[.., classes]` to `i32 [..]`. Divide the logits by a temperature first; -inf is never drawn.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let logits = Tensor::new([[0.0, 100.0], [100.0, 0.0]], &Device::cpu());
    /// assert_eq!(logits.categorical(&Tensor::key(0, &Device::cpu())).to_vec::<i32>()?, [1, 0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn categorical(&self, key: &Tensor) -> Tensor {
        given!("categorical", &[self, key], {
            key.is_key()?;
            match self.dtype().is_float() && self.dim(-1) > 0 {
                true => Ok(()),
                false => Err(format!("logits [.., classes] are needed, got {} {}", self.dtype(), self.shape())),
            }
        });
        // The greatest of logits with Gumbel noise: as JAX draws, and no sums over the classes.
        let unit = key.unit("categorical", self.shape()).maximum(f64::from(f32::MIN_POSITIVE));
        (self.wide() - (-unit.ln()).ln()).argmax(-1)
    }

    /// The inverse of `erf`, for `-1 < x < 1`; infinite at the ends.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new(0.5, &Device::cpu());
    /// assert!((x.erfinv().item::<f32>()? - 0.476936).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn erfinv(&self) -> Tensor {
        let x = self.wide();
        // Apart, so that their slopes are infinite as they are, and not NaN.
        let ends = x.abs().eq(1.0);
        let (x, end) = (ends.where_(0.0, &x), ends.where_(&x, 1.0));
        // Giles, "Approximating the erfinv function" (2010), single precision: one polynomial for
        // the middle and one for the tails.
        const MIDDLE: [f64; 9] = [
            2.81022636e-08,
            3.43273939e-07,
            -3.5233877e-06,
            -4.39150654e-06,
            0.00021858087,
            -0.00125372503,
            -0.00417768164,
            0.246640727,
            1.50140941,
        ];
        const TAILS: [f64; 9] = [
            -0.000200214257,
            0.000100950558,
            0.00134934322,
            -0.00367342844,
            0.00573950773,
            -0.0076224613,
            0.00943887047,
            1.00167406,
            2.83297682,
        ];
        let w = -(-(&x * &x)).log1p();
        let middle = w.lt(5.0);
        // The root is taken of tails only: its slope at 0 is infinite.
        let w = middle.where_(&w - 2.5, middle.where_(5.0, &w).sqrt() - 3.0);
        let mut y = middle.where_(MIDDLE[0], TAILS[0]);
        for (a, b) in MIDDLE.into_iter().zip(TAILS).skip(1) {
            y = y * &w + middle.where_(a, b);
        }
        ends.where_(end * f64::INFINITY, y * x).cast(self.float_dtype())
    }

    // ---- what the words share

    /// Whether this tensor has a key's shape and dtype.
    fn is_key(&self) -> Result<(), String> {
        match self.dims() == [2] && self.dtype() == DType::U32 {
            true => Ok(()),
            false => Err(format!("a key is u32 [2], got {} {}", self.dtype(), self.shape())),
        }
    }

    /// The words of a key that still lies with the host.
    fn words(&self) -> Option<[u32; 2]> {
        let value = self.value().filter(|_| self.0.op == Op::Data)?;
        let bytes = &value.as_any().downcast_ref::<HostData>()?.0;
        let word = |k: usize| Some(u32::from_le_bytes(bytes.get(k..k + 4)?.try_into().ok()?));
        Some([word(0)?, word(4)?])
    }

    /// The blocks of the counters `(x, z)`, both of one shape, under this key.
    #[track_caller]
    fn threefry(&self, x: &Tensor, z: &Tensor) -> [Tensor; 2] {
        let (a, b) = (self.part("threefry", 0, 0, 1), self.part("threefry", 0, 1, 1));
        let schedule = [a.clone(), b.clone(), a ^ b ^ PARITY];
        let (mut x, mut z) = (x + &schedule[0], z + &schedule[1]);
        for group in 0..5 {
            for r in ROTATIONS[group % 2] {
                x = x + &z;
                z = ((&z << r) | (&z >> (32 - r))) ^ &x;
            }
            x = x + &schedule[(group + 1) % 3];
            z = z + &schedule[(group + 2) % 3] + (group as u32 + 1);
        }
        [x, z]
    }

    #[track_caller]
    fn drawn(&self, word: &str, dims: &dyn Dims) -> Tensor {
        let shape = checked!(self, word, shape_of(dims));
        self.random_bits(word, shape)
    }

    /// Uniform in `[0, 1)`: the upper 23 bits become the fraction of a number in `[1, 2)`.
    #[track_caller]
    fn unit(&self, word: &str, dims: &dyn Dims) -> Tensor {
        let bits = self.drawn(word, dims);
        ((bits >> 9) | 0x3f80_0000).bitcast(DType::F32) - 1.0
    }
}
