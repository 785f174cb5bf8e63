//! Slicing: parts of a tensor, by ranges and by starts known only when the plan runs.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::dtype::DType;
use crate::graph::tensor::Tensor;
use crate::shape::{AxisSet, Shape};

/// What is taken of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// One element; the axis disappears.
    At(isize),
    /// From the first bound up to the second, as Python's `start:end`.
    Span(Option<isize>, Option<isize>),
}

/// What [`Tensor::slice`] takes: for each axis from the first on a range or an index, in a tuple, an
/// array, or alone; the axes that are not named stay whole.
///
/// Negative numbers count from the end, and ranges are cut to the axis, as in Python; an index keeps
/// inside or the result is invalid, and its axis disappears.
pub trait Slices {
    /// The picks as written, one for each axis.
    fn picks(&self) -> Vec<Pick>;
}

impl Slices for RangeFull {
    fn picks(&self) -> Vec<Pick> {
        vec![Pick::Span(None, None)]
    }
}
impl Slices for Pick {
    fn picks(&self) -> Vec<Pick> {
        vec![*self]
    }
}

macro_rules! integer_slices {
    ($($t:ty),*) => {$(
        impl Slices for $t {
            fn picks(&self) -> Vec<Pick> { vec![Pick::At(bound(*self as i128))] }
        }
        impl Slices for Range<$t> {
            fn picks(&self) -> Vec<Pick> {
                vec![Pick::Span(Some(bound(self.start as i128)), Some(bound(self.end as i128)))]
            }
        }
        impl Slices for RangeFrom<$t> {
            fn picks(&self) -> Vec<Pick> { vec![Pick::Span(Some(bound(self.start as i128)), None)] }
        }
        impl Slices for RangeTo<$t> {
            fn picks(&self) -> Vec<Pick> { vec![Pick::Span(None, Some(bound(self.end as i128)))] }
        }
        impl Slices for RangeInclusive<$t> {
            fn picks(&self) -> Vec<Pick> {
                vec![Pick::Span(Some(bound(*self.start() as i128)), after(*self.end() as i128))]
            }
        }
        impl Slices for RangeToInclusive<$t> {
            fn picks(&self) -> Vec<Pick> { vec![Pick::Span(None, after(self.end as i128))] }
        }
    )*};
}
integer_slices!(i32, isize, usize);

impl<S: Slices, const N: usize> Slices for [S; N] {
    fn picks(&self) -> Vec<Pick> {
        self.as_slice().picks()
    }
}
impl<S: Slices> Slices for &[S] {
    fn picks(&self) -> Vec<Pick> {
        self.iter().flat_map(Slices::picks).collect()
    }
}
impl<S: Slices> Slices for Vec<S> {
    fn picks(&self) -> Vec<Pick> {
        self.as_slice().picks()
    }
}

macro_rules! tuple_slices {
    ($($S:ident)*) => {
        impl<$($S: Slices),*> Slices for ($($S,)*) {
            fn picks(&self) -> Vec<Pick> {
                #[allow(non_snake_case, reason = "one name for a type and its value")]
                let ($($S,)*) = self;
                [$($S.picks()),*].concat()
            }
        }
    };
}
tuple_slices!(A);
tuple_slices!(A B);
tuple_slices!(A B C);
tuple_slices!(A B C D);
tuple_slices!(A B C D E);
tuple_slices!(A B C D E F);
tuple_slices!(A B C D E F G);
tuple_slices!(A B C D E F G H);

impl Tensor {
    /// The part that `slices` names, as NumPy's `x[...]`: ranges are cut to their axis, negative numbers
    /// count from the end, an index drops its axis.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 12, 1, &Device::cpu()).reshape([3, 4]);
    /// assert_eq!(x.slice((1.., ..2)).to_vec::<i32>()?, [4, 5, 8, 9]);
    /// assert_eq!(x.slice((.., -1)).to_vec::<i32>()?, [3, 7, 11]);
    /// assert_eq!(x.slice(0).dims(), [4]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn slice(&self, slices: impl Slices) -> Tensor {
        let picks = slices.picks();
        if picks.len() > self.rank() {
            return self.refuse("slice", format!("{} axes are named, but the shape is {}", picks.len(), self.shape()));
        }
        let (mut start, mut dims) = (vec![0; self.rank()], self.dims().to_vec());
        let mut gone = AxisSet::default();
        for (axis, pick) in picks.into_iter().enumerate() {
            let n = dims[axis];
            (start[axis], dims[axis]) = match pick {
                Pick::Span(from, to) => span(from, to, n),
                Pick::At(index) => {
                    gone = gone.and(axis);
                    (checked!(self, "slice", element(self.shape(), axis, index)), 1)
                }
            };
        }
        let part = self.slice_spec("slice", start, vec![1; self.rank()], &dims);
        part.to_shape("slice", part.shape().without(gone))
    }

    /// Every `step`-th element of a range of one axis; a negative step goes from the range's end to its
    /// beginning, as Rust's `range.rev().step_by(n)`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 7, 1, &Device::cpu());
    /// assert_eq!(x.slice_axis(0, 1.., 2).to_vec::<i32>()?, [1, 3, 5]);
    /// assert_eq!(x.slice_axis(0, ..5, -3).to_vec::<i32>()?, [4, 1]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn slice_axis(&self, axis: isize, range: impl Slices, step: isize) -> Tensor {
        let axis = checked!(self, "slice_axis", self.shape().axis(axis));
        let [Pick::Span(from, to)] = range.picks()[..] else {
            return self.refuse("slice_axis", "takes one range");
        };
        if step == 0 {
            return self.refuse("slice_axis", "a step of 0");
        }
        let n = self.dims()[axis];
        let (first, len) = span(from, to, n);
        // Backwards is forwards on the flipped axis.
        let (x, first) = match step > 0 {
            true => (self.clone(), first),
            false => (self.flip_axes("slice_axis", AxisSet::one(axis)), n - first - len),
        };
        let stride = step.unsigned_abs();
        let (mut start, mut steps, mut dims) = (vec![0; self.rank()], vec![1; self.rank()], self.dims().to_vec());
        (start[axis], steps[axis], dims[axis]) = (first, stride, len.div_ceil(stride));
        x.slice_spec("slice_axis", start, steps, &dims)
    }

    /// `len` elements of `axis` from `start`, which must all be there.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 5, 1, &Device::cpu());
    /// assert_eq!(x.narrow(0, 1, 3).to_vec::<i32>()?, [1, 2, 3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Tensor {
        let axis = checked!(self, "narrow", self.shape().axis(axis));
        self.part("narrow", axis, start, len)
    }

    /// `len` elements of `axis` from `start`, under the name of another word.
    #[track_caller]
    pub(crate) fn part(&self, word: &str, axis: usize, start: usize, len: usize) -> Tensor {
        let n = self.dims().get(axis).copied().unwrap_or(0);
        if start.checked_add(len).is_none_or(|end| end > n) {
            return self.refuse(word, format!("{len} elements from {start} leave axis {axis} of {}", self.shape()));
        }
        let (mut starts, mut dims) = (vec![0; self.rank()], self.dims().to_vec());
        if let (Some(first), Some(dim)) = (starts.get_mut(axis), dims.get_mut(axis)) {
            (*first, *dim) = (start, len);
        }
        self.slice_spec(word, starts, vec![1; self.rank()], &dims)
    }

    /// `len` elements of `axis` from `start`, an integer scalar that may change from run to run
    /// without a new plan; a start too small or too great is moved until the part is inside.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 5, 1, &Device::cpu());
    /// let start = Tensor::input(2, &Device::cpu());
    /// assert_eq!(x.narrow_at(0, &start, 2).to_vec::<i32>()?, [2, 3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn narrow_at(&self, axis: isize, start: &Tensor, len: usize) -> Tensor {
        given!("narrow_at", &[self, start], Ok(()));
        let axis = checked!(self, "narrow_at", self.shape().axis(axis));
        self.slice_at("narrow_at", axis, &start.index_for("narrow_at"), len)
    }

    /// This tensor with `part` written over it along `axis` from `start`, an integer scalar that may
    /// change from run to run without a new plan; moved like that of [`Tensor::narrow_at`].
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 5, 1, &Device::cpu());
    /// let start = Tensor::input(2, &Device::cpu());
    /// assert_eq!(x.update_at(0, &start, &Tensor::new([8, 9], &Device::cpu())).to_vec::<i32>()?, [0, 1, 8, 9, 4]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn update_at(&self, axis: isize, start: &Tensor, part: &Tensor) -> Tensor {
        given!("update_at", &[self, start, part], Ok(()));
        let axis = checked!(self, "update_at", self.shape().axis(axis));
        self.write_at("update_at", axis, part, &start.index_for("update_at"))
    }

    /// This integer tensor as indices for `word`: in `i32`.
    #[track_caller]
    pub(crate) fn index_for(&self, word: &str) -> Tensor {
        match self.dtype().is_int() {
            true => self.cast(DType::I32),
            false => self.refuse(word, format!("indices are integers, got {}", self.dtype())),
        }
    }
}

/// A bound that does not fit stays far out of range.
fn bound(x: i128) -> isize {
    x.clamp(isize::MIN as i128, isize::MAX as i128) as isize
}

/// The bound behind an inclusive one; behind the last element there is none.
fn after(x: i128) -> Option<isize> {
    (x != -1).then(|| bound(x + 1))
}

/// The first element and the number of elements of a range of an axis of `n`.
fn span(from: Option<isize>, to: Option<isize>, n: usize) -> (usize, usize) {
    let (from, to) = (from.map_or(0, |from| cut(from, n)), to.map_or(n, |to| cut(to, n)));
    (from, to.saturating_sub(from))
}

/// A bound of an axis of `n` elements, negative from the end, cut to `0..=n`.
fn cut(bound: isize, n: usize) -> usize {
    match bound {
        0.. => (bound as usize).min(n),
        _ => n.saturating_sub(bound.unsigned_abs()),
    }
}

/// `index` on `axis`, negative from the end, which must be there.
fn element(shape: &Shape, axis: usize, index: isize) -> Result<usize, String> {
    let n = shape.dims().get(axis).copied().unwrap_or(0);
    let at = if index < 0 { n.checked_sub(index.unsigned_abs()) } else { Some(index as usize) };
    at.filter(|&at| at < n).ok_or_else(|| format!("index {index} is out of range for axis {axis} of {shape}"))
}
