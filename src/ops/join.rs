//! Joining and cutting: `cat`, `stack`, `split`, and what repeats a tensor along its axes.

use std::borrow::Borrow;

use crate::dtype::DType;
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::ops::movement::new_axis;
use crate::shape::{Axes, Dims, Shape, axis_set, shape_of};

/// Most parts that a word makes of one tensor.
pub(crate) const PARTS_MAX: usize = 1 << 16;

/// How [`Tensor::split`] cuts: a number is the size of every part (the last may be smaller), an array,
/// slice or vector the size of each part in order.
pub trait Sections {
    /// A vector of the parts; an array of them where the sizes are an array.
    type Parts;
    /// The sizes of the parts of `n` elements.
    fn sizes(&self, n: usize) -> Result<Vec<usize>, String>;
    /// As many parts as asked for, the last ones being `rest` where `parts` are too few.
    fn collect(&self, parts: Vec<Tensor>, rest: Tensor) -> Self::Parts;
}

impl Sections for usize {
    type Parts = Vec<Tensor>;
    fn sizes(&self, n: usize) -> Result<Vec<usize>, String> {
        let size = *self;
        if size == 0 || n / size >= PARTS_MAX {
            return Err(format!("{n} elements in parts of {size}"));
        }
        Ok((0..n.div_ceil(size).max(1)).map(|k| size.min(n - k * size)).collect())
    }
    fn collect(&self, parts: Vec<Tensor>, rest: Tensor) -> Vec<Tensor> {
        if parts.is_empty() { vec![rest] } else { parts }
    }
}

impl Sections for &[usize] {
    type Parts = Vec<Tensor>;
    fn sizes(&self, n: usize) -> Result<Vec<usize>, String> {
        match self.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) {
            Some(sum) if sum == n => Ok(self.to_vec()),
            _ => Err(format!("{n} elements in parts of {self:?}")),
        }
    }
    fn collect(&self, mut parts: Vec<Tensor>, rest: Tensor) -> Vec<Tensor> {
        parts.resize(self.len(), rest);
        parts
    }
}

impl Sections for Vec<usize> {
    type Parts = Vec<Tensor>;
    fn sizes(&self, n: usize) -> Result<Vec<usize>, String> {
        self.as_slice().sizes(n)
    }
    fn collect(&self, parts: Vec<Tensor>, rest: Tensor) -> Vec<Tensor> {
        self.as_slice().collect(parts, rest)
    }
}

impl<const N: usize> Sections for [usize; N] {
    type Parts = [Tensor; N];
    fn sizes(&self, n: usize) -> Result<Vec<usize>, String> {
        self.as_slice().sizes(n)
    }
    fn collect(&self, parts: Vec<Tensor>, rest: Tensor) -> [Tensor; N] {
        let mut parts = parts.into_iter();
        [(); N].map(|()| parts.next().unwrap_or_else(|| rest.clone()))
    }
}

impl Tensor {
    /// The tensors one after another along `axis`, in their promoted dtype.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1], [2]], &Device::cpu());
    /// assert_eq!(Tensor::cat(&[&x, &x], 1).to_vec::<i32>()?, [1, 1, 2, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cat<T: Borrow<Tensor>>(tensors: &[T], axis: isize) -> Tensor {
        let parts: Vec<&Tensor> = tensors.iter().map(Borrow::borrow).collect();
        Tensor::joined("cat", &parts, axis)
    }

    /// `cat` under the name of another word.
    #[track_caller]
    pub(crate) fn joined(word: &str, parts: &[&Tensor], axis: isize) -> Tensor {
        if let Some(&bad) = parts.iter().find(|x| !x.is_valid()) {
            return bad.clone();
        }
        let Some(first) = parts.first() else {
            return Tensor::invalid(word, "no tensors", &Device::nowhere());
        };
        let axis = checked!(first, word, first.shape().axis(axis));
        let dtype = parts.iter().map(|x| x.dtype()).fold(first.dtype(), DType::promote);
        let parts: Vec<Tensor> = parts.iter().map(|x| x.cast(dtype)).collect();
        match &parts[..] {
            [one] => one.clone(),
            _ => Tensor::concat(word, &parts.iter().collect::<Vec<_>>(), axis),
        }
    }

    /// The tensors, all of one shape, along a new axis in front of `axis`, in their promoted dtype.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2], &Device::cpu());
    /// assert_eq!(Tensor::stack(&[&x, &x], 0).dims(), [2, 2]);
    /// assert_eq!(Tensor::stack(&[&x, &x], -1).to_vec::<i32>()?, [1, 1, 2, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn stack<T: Borrow<Tensor>>(tensors: &[T], axis: isize) -> Tensor {
        let parts: Vec<&Tensor> = tensors.iter().map(Borrow::borrow).collect();
        if let Some(&bad) = parts.iter().find(|x| !x.is_valid()) {
            return bad.clone();
        }
        let Some(first) = parts.first() else {
            return Tensor::invalid("stack", "no tensors", &Device::nowhere());
        };
        if let Some(other) = parts.iter().find(|x| x.shape() != first.shape()) {
            return first.refuse("stack", format!("shapes differ: {} and {}", first.shape(), other.shape()));
        }
        let axis = checked!(first, "stack", new_axis(first.shape(), axis));
        let parts: Vec<Tensor> = parts.iter().map(|x| x.unsqueeze(axis as isize)).collect();
        Tensor::joined("stack", &parts.iter().collect::<Vec<_>>(), axis as isize)
    }

    /// The tensor cut along `axis`: into parts of one size, the last perhaps smaller, or into parts of
    /// the given sizes. An array of sizes gives an array of parts; every part of a wrong call is invalid.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 5, 1, &Device::cpu());
    /// assert_eq!(x.split(2, 0).len(), 3);
    /// let [a, b] = x.split([2, 3], 0);
    /// assert_eq!((a.to_vec::<i32>()?, b.to_vec::<i32>()?), (vec![0, 1], vec![2, 3, 4]));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn split<S: Sections>(&self, sections: S, axis: isize) -> S::Parts {
        let plan = self.shape().axis(axis).and_then(|axis| Ok((axis, sections.sizes(self.dims()[axis])?)));
        match plan {
            Ok((axis, sizes)) if self.is_valid() => {
                let parts = self.parts("split", axis, &sizes);
                sections.collect(parts, self.clone())
            }
            Ok(_) => sections.collect(Vec::new(), self.clone()),
            Err(fact) => sections.collect(Vec::new(), self.refuse("split", fact)),
        }
    }

    /// The tensor cut along `axis` into `n` parts of one size, the last perhaps smaller; fewer than `n`
    /// where that size leaves none.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 5, 1, &Device::cpu());
    /// assert_eq!(x.chunk(2, 0)[1].to_vec::<i32>()?, [3, 4]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn chunk(&self, n: usize, axis: isize) -> Vec<Tensor> {
        let all = |x: Tensor| vec![x; n.clamp(1, PARTS_MAX)];
        if n == 0 || n > PARTS_MAX {
            return all(self.refuse("chunk", format!("{n} parts")));
        }
        match self.shape().axis(axis) {
            Ok(axis) => {
                let dim = self.dims()[axis];
                let size = dim.div_ceil(n).max(1);
                let count = dim.div_ceil(size).max(1);
                let sizes: Vec<usize> = (0..count).map(|k| size.min(dim - k * size)).collect();
                self.parts("chunk", axis, &sizes)
            }
            Err(fact) => all(self.refuse("chunk", fact)),
        }
    }

    #[track_caller]
    fn parts(&self, word: &str, axis: usize, sizes: &[usize]) -> Vec<Tensor> {
        let (mut parts, mut start) = (Vec::with_capacity(sizes.len()), 0);
        for &size in sizes {
            parts.push(self.part(word, axis, start, size));
            start += size;
        }
        parts
    }

    /// Each element `n` times along `axis`, one copy beside the other, as NumPy's `repeat`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2], &Device::cpu());
    /// assert_eq!(x.repeat(2, 0).to_vec::<i32>()?, [1, 1, 2, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn repeat(&self, n: usize, axis: isize) -> Tensor {
        let axis = checked!(self, "repeat", self.shape().axis(axis));
        self.copies("repeat", axis, n, true)
    }

    /// The whole tensor repeated `reps[k]` times along axis `k`; with more numbers than axes new axes
    /// stand in front, with fewer the first axes stay, as NumPy's `tile`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2], &Device::cpu());
    /// assert_eq!(x.tile([2, 2]).to_vec::<i32>()?, [1, 2, 1, 2, 1, 2, 1, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn tile(&self, reps: impl Dims) -> Tensor {
        let reps = checked!(self, "tile", shape_of(&reps));
        if !self.is_valid() {
            return self.clone();
        }
        let mut x = self.clone();
        for _ in self.rank()..reps.rank() {
            x = x.unsqueeze(0);
        }
        let first = x.rank() - reps.rank();
        for (k, &n) in reps.dims().iter().enumerate() {
            x = x.copies("tile", first + k, n, false);
        }
        x
    }

    /// `n` copies of `axis`: of each element beside it, or of the whole after it.
    #[track_caller]
    fn copies(&self, word: &str, axis: usize, n: usize, each: bool) -> Tensor {
        if n == 1 || !self.is_valid() {
            return self.clone();
        }
        let dim = self.dims().get(axis).copied().unwrap_or(0);
        let Some(long) = dim.checked_mul(n) else { return self.refuse(word, format!("{n} times {dim} elements")) };
        let grown = checked!(self, word, self.shape().with(axis, long));
        let before: usize = self.dims().iter().take(axis).product();
        let after: usize = self.dims().iter().skip(axis + 1).product();
        let (one, many) = match each {
            true => ([before, dim, 1, after], [before, dim, n, after]),
            false => ([before, 1, dim, after], [before, n, dim, after]),
        };
        let (one, many) = (checked!(self, word, Shape::new(&one)), checked!(self, word, Shape::new(&many)));
        self.to_shape(word, one).expand_to(word, many).to_shape(word, grown)
    }

    /// Shifted cyclically: along `axes[k]` element `i` goes to `i + shifts[k]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 5, 1, &Device::cpu());
    /// assert_eq!(x.roll(2, 0).to_vec::<i32>()?, [3, 4, 0, 1, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn roll(&self, shifts: impl Dims, axes: impl Axes) -> Tensor {
        let shifts = shifts.dims();
        checked!(self, "roll", axis_set(self.shape(), &axes));
        let axes = axes.axes().unwrap_or_else(|| (0..self.rank() as isize).collect());
        if shifts.len() != axes.len() {
            return self.refuse("roll", format!("{} shifts for {} axes", shifts.len(), axes.len()));
        }
        let mut x = self.clone();
        for (shift, axis) in shifts.into_iter().zip(axes) {
            let axis = checked!(self, "roll", self.shape().axis(axis));
            let n = self.dims()[axis];
            let cut = n - shift.checked_rem_euclid(n as isize).unwrap_or(0) as usize;
            if cut < n {
                let (a, b) = (x.part("roll", axis, 0, cut), x.part("roll", axis, cut, n - cut));
                x = Tensor::joined("roll", &[&b, &a], axis as isize);
            }
        }
        x
    }
}
