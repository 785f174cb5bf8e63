//! Shapes and axes: plain arithmetic on dimensions, without panics.
//!
//! A fact that does not hold comes back as `Err(String)`; the op that asked puts its own name and
//! the user's line in front of it. Knows no tensors.

use std::fmt;

/// Most dimensions a tensor may have.
pub const RANK_MAX: usize = 8;

/// The dimensions of a tensor, outermost first; at most eight of them.
///
/// Has no panicking index: use [`Shape::dim`] or [`Shape::dims`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: u8,
    dims: [usize; RANK_MAX],
}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Shape = Shape { rank: 0, dims: [0; RANK_MAX] };

    /// A shape of `dims`; at most [`RANK_MAX`] of them and at most 2^32 - 1 elements, where a 0
    /// counts as 1.
    pub fn new(dims: &[usize]) -> Result<Shape, String> {
        if dims.len() > RANK_MAX {
            return Err(format!("{} dimensions, but at most {RANK_MAX} are possible", dims.len()));
        }
        // A zero makes the tensor empty, but strides, and the shape without that axis, must stay sane.
        let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1) as u64));
        if elements.is_none_or(|n| n > u64::from(u32::MAX)) {
            return Err(format!("{dims:?} has more than 2^32 - 1 elements"));
        }
        let mut shape = Shape { rank: dims.len() as u8, dims: [0; RANK_MAX] };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// The dimensions as a slice.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..usize::from(self.rank)]
    }

    /// How many dimensions there are.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// How many elements there are; 1 for a scalar.
    pub fn numel(&self) -> usize {
        self.dims().iter().product()
    }

    /// The size of one dimension, counted from the end when `axis` is negative; `None` when there
    /// is no such axis.
    pub fn dim(&self, axis: isize) -> Option<usize> {
        self.axis(axis).ok().map(|axis| self.dims[axis])
    }

    /// `axis` as an index into [`Shape::dims`]; negative axes count from the end.
    pub fn axis(&self, axis: isize) -> Result<usize, String> {
        let rank = self.rank() as isize;
        let index = if axis < 0 { axis + rank } else { axis };
        if (0..rank).contains(&index) {
            Ok(index as usize)
        } else {
            Err(format!("axis {axis} is out of range for {self}"))
        }
    }

    /// The shape with `axis` set to `n`; unchanged where there is no such axis.
    pub fn with(&self, axis: usize, n: usize) -> Result<Shape, String> {
        let mut shape = *self;
        if let Some(dim) = shape.dims.get_mut(axis) {
            *dim = n;
        }
        Shape::new(shape.dims())
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> [usize; RANK_MAX] {
        let mut strides = [0; RANK_MAX];
        let mut stride = 1;
        for axis in (0..self.rank()).rev() {
            strides[axis] = stride;
            stride *= self.dims[axis];
        }
        strides
    }

    /// The shape two operands broadcast to, by NumPy's rule.
    pub fn broadcast(&self, other: &Shape) -> Result<Shape, String> {
        if self == other {
            return Ok(*self);
        }
        let rank = self.rank().max(other.rank());
        let mut dims = [0; RANK_MAX];
        for back in 1..=rank {
            let (a, b) = (self.behind(back), other.behind(back));
            dims[rank - back] = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return Err(format!("shapes {self} and {other} do not broadcast")),
            };
        }
        Shape::new(&dims[..rank])
    }

    /// The dimension `back` places from the end, counted from 1; 1 in front of the first.
    fn behind(&self, back: usize) -> usize {
        self.rank().checked_sub(back).map_or(1, |axis| self.dims[axis])
    }

    /// Whether this shape broadcasts to exactly `to`.
    pub fn expands_to(&self, to: &Shape) -> bool {
        // Asked of every operand, so it makes no message that nobody reads.
        self.rank <= to.rank
            && self.dims().iter().rev().zip(to.dims().iter().rev()).all(|(&own, &dim)| own == dim || own == 1)
    }

    /// The shape without the axes of `set`.
    pub fn without(&self, set: AxisSet) -> Shape {
        let mut shape = Shape::SCALAR;
        for (axis, &dim) in self.dims().iter().enumerate() {
            if !set.has(axis) {
                shape.dims[usize::from(shape.rank)] = dim;
                shape.rank += 1;
            }
        }
        shape
    }

    /// The shape with the axes of `set` made 1.
    pub fn kept(&self, set: AxisSet) -> Shape {
        let mut shape = *self;
        for axis in 0..self.rank() {
            if set.has(axis) {
                shape.dims[axis] = 1;
            }
        }
        shape
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

/// A set of axes of one tensor, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AxisSet(u8);

impl AxisSet {
    /// The set of one axis.
    pub fn one(axis: usize) -> AxisSet {
        AxisSet(0).and(axis)
    }
    /// Every axis of a tensor of `rank`.
    pub fn all(rank: usize) -> AxisSet {
        (0..rank).fold(AxisSet(0), AxisSet::and)
    }
    /// This set and `axis`.
    pub fn and(self, axis: usize) -> AxisSet {
        AxisSet(self.0 | 1u8.checked_shl(axis as u32).unwrap_or(0))
    }
    /// Whether `axis` is in the set.
    pub fn has(self, axis: usize) -> bool {
        axis < RANK_MAX && self.0 & (1 << axis) != 0
    }
    /// Whether no axis is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The axes in ascending order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = usize> {
        (0..RANK_MAX).filter(move |&axis| self.has(axis))
    }
}

impl fmt::Display for AxisSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.iter().collect::<Vec<_>>())
    }
}

/// What may be given as dimensions: arrays, slices and vectors of integers, one integer, a [`Shape`].
///
/// `-1` stands for "what is left" in `reshape` and "as it is" in `expand`.
pub trait Dims {
    /// The dimensions as written.
    fn dims(&self) -> Vec<isize>;
}

/// What may be given as axes: an integer, an array, slice or vector of them, or `..` for all;
/// wrapped in [`keepdim`] the reduced axes stay, with size 1.
pub trait Axes {
    /// The axes as written; `None` for all.
    fn axes(&self) -> Option<Vec<isize>>;
    /// Whether reduced axes stay with size 1.
    fn keep(&self) -> bool {
        false
    }
}

/// Axes whose dimensions stay, with size 1; see [`keepdim`].
#[derive(Clone, Copy, Debug)]
pub struct Keepdim<A>(A);

/// Marks the axes of a reduction to stay with size 1, as NumPy's `keepdims=True`.
///
/// ```
/// # use wgrad::prelude::*;
/// let x = Tensor::ones([2, 3], &Device::cpu());
/// assert_eq!(x.sum(-1).dims(), [2]);
/// assert_eq!(x.sum(keepdim(-1)).dims(), [2, 1]);
/// ```
pub fn keepdim<A: Axes>(axes: A) -> Keepdim<A> {
    Keepdim(axes)
}

impl<A: Axes> Axes for Keepdim<A> {
    fn axes(&self) -> Option<Vec<isize>> {
        self.0.axes()
    }
    fn keep(&self) -> bool {
        true
    }
}

impl Axes for std::ops::RangeFull {
    fn axes(&self) -> Option<Vec<isize>> {
        None
    }
}

impl Dims for Shape {
    fn dims(&self) -> Vec<isize> {
        Shape::dims(self).iter().map(|&d| d as isize).collect()
    }
}
impl Dims for &Shape {
    fn dims(&self) -> Vec<isize> {
        Dims::dims(*self)
    }
}
/// The scalar shape.
impl Dims for () {
    fn dims(&self) -> Vec<isize> {
        Vec::new()
    }
}

macro_rules! integers_are_dims {
    ($($t:ty),*) => {$(
        impl Dims for $t {
            fn dims(&self) -> Vec<isize> { vec![saturate(*self as i128)] }
        }
        impl<const N: usize> Dims for [$t; N] {
            fn dims(&self) -> Vec<isize> { self.as_slice().dims() }
        }
        impl<const N: usize> Dims for &[$t; N] {
            fn dims(&self) -> Vec<isize> { self.as_slice().dims() }
        }
        impl Dims for &[$t] {
            fn dims(&self) -> Vec<isize> { self.iter().map(|&d| saturate(d as i128)).collect() }
        }
        impl Dims for Vec<$t> {
            fn dims(&self) -> Vec<isize> { self.as_slice().dims() }
        }
        impl Dims for &Vec<$t> {
            fn dims(&self) -> Vec<isize> { self.as_slice().dims() }
        }
        impl Axes for $t {
            fn axes(&self) -> Option<Vec<isize>> { Some(Dims::dims(self)) }
        }
        impl<const N: usize> Axes for [$t; N] {
            fn axes(&self) -> Option<Vec<isize>> { Some(Dims::dims(self)) }
        }
        impl Axes for &[$t] {
            fn axes(&self) -> Option<Vec<isize>> { Some(Dims::dims(self)) }
        }
        impl Axes for Vec<$t> {
            fn axes(&self) -> Option<Vec<isize>> { Some(Dims::dims(self)) }
        }
    )*};
}
integers_are_dims!(i32, isize, usize, i64, u32);

/// A dimension that does not fit stays far out of range instead of wrapping into it.
fn saturate(d: i128) -> isize {
    d.clamp(isize::MIN as i128, isize::MAX as i128) as isize
}

/// `dims` as the shape of a new tensor: no dimension may be negative.
pub fn shape_of(dims: &dyn Dims) -> Result<Shape, String> {
    let dims = dims.dims();
    if dims.iter().any(|&d| d < 0) {
        return Err(format!("{dims:?} has a negative dimension"));
    }
    Shape::new(&dims.iter().map(|&d| d as usize).collect::<Vec<_>>())
}

/// `axes` as a set of axes of `shape`, each at most once.
pub fn axis_set(shape: &Shape, axes: &dyn Axes) -> Result<AxisSet, String> {
    let Some(axes) = axes.axes() else { return Ok(AxisSet::all(shape.rank())) };
    let mut set = AxisSet::default();
    for &axis in &axes {
        let axis = shape.axis(axis)?;
        if set.has(axis) {
            return Err(format!("axis {axis} is named twice in {axes:?}"));
        }
        set = set.and(axis);
    }
    Ok(set)
}

/// How many windows of `size`, `stride` apart, fit into `n` elements.
pub(crate) fn windows(n: usize, size: usize, stride: usize, dilation: usize) -> Result<usize, String> {
    if size == 0 || stride == 0 || dilation == 0 {
        return Err(format!("window size {size}, stride {stride} and dilation {dilation} must be at least 1"));
    }
    let span = (size - 1).checked_mul(dilation).and_then(|s| s.checked_add(1));
    match span {
        Some(span) if span <= n => Ok((n - span) / stride + 1),
        _ => Err(format!("a window of {size} with dilation {dilation} does not fit into {n} elements")),
    }
}
