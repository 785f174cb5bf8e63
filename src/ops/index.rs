//! Indexing by tensors of integers and bools.
//!
//! An index out of range reads 0 or writes nothing, and comes out as an error naming the word at the
//! next read of the device. Indices of any integer dtype are taken as `i32`.

use crate::dtype::DType;
use crate::graph::op::ScatterMode;
use crate::graph::tensor::{Operand, Tensor};
use crate::shape::Shape;

impl Tensor {
    /// `y[.., i, ..] = x[.., index[.., i, ..], ..]` along `axis`, as PyTorch's `gather`.
    ///
    /// `index` has as many axes as `x` and may be shorter along the others.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 2], [3, 4]], &Device::cpu());
    /// let index = Tensor::new([[0, 0], [1, 0]], &Device::cpu());
    /// assert_eq!(x.gather(1, &index).to_vec::<i32>()?, [1, 1, 4, 3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn gather(&self, axis: isize, index: &Tensor) -> Tensor {
        given!("gather", &[self, index], Ok(()));
        let axis = checked!(self, "gather", self.shape().axis(axis));
        let index = index.index_for("gather");
        if !index.is_valid() {
            return index;
        }
        checked!(self, "gather", reaches(self.shape(), index.shape(), axis));
        self.corner("gather", axis, index.shape()).gather_axis("gather", axis, &index)
    }

    /// `x` with `y[.., index[.., i, ..], ..] = source[.., i, ..]` along `axis`, as PyTorch's `scatter`;
    /// of several writes to one place the last stays.
    ///
    /// `source` is a number, or a tensor at least as large as `index`, which may be shorter than `x`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([0, 0, 0], &Device::cpu());
    /// let index = Tensor::new([2, 0], &Device::cpu());
    /// assert_eq!(x.scatter(0, &index, Tensor::new([5, 6], &Device::cpu())).to_vec::<i32>()?, [6, 0, 5]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn scatter(&self, axis: isize, index: &Tensor, source: impl Operand) -> Tensor {
        self.scattered("scatter", ScatterMode::Set, axis, index, &source.operand(self))
    }

    /// `x` with `y[.., index[.., i, ..], ..] += source[.., i, ..]` along `axis`, as PyTorch's
    /// `scatter_add`; arguments as in [`Tensor::scatter`].
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 1, 1], &Device::cpu());
    /// let index = Tensor::new([2, 2], &Device::cpu());
    /// assert_eq!(x.scatter_add(0, &index, Tensor::new([5, 6], &Device::cpu())).to_vec::<i32>()?, [1, 1, 12]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn scatter_add(&self, axis: isize, index: &Tensor, source: impl Operand) -> Tensor {
        self.scattered("scatter_add", ScatterMode::Add, axis, index, &source.operand(self))
    }

    #[track_caller]
    fn scattered(&self, word: &'static str, mode: ScatterMode, axis: isize, index: &Tensor, source: &Tensor) -> Tensor {
        given!(word, &[self, index, source], Ok(()));
        let axis = checked!(self, word, self.shape().axis(axis));
        let index = index.index_for(word);
        if !index.is_valid() {
            return index;
        }
        checked!(self, word, reaches(self.shape(), index.shape(), axis));
        if self.dtype().promote(source.dtype()) != self.dtype() {
            return self.refuse(word, format!("{} into {}", source.dtype(), self.dtype()));
        }
        let source = source.cast(self.dtype());
        let source = if source.rank() == 0 {
            source.expand_to(word, *index.shape())
        } else if source.rank() == index.rank() && (0..index.rank()).all(|k| index.dims()[k] <= source.dims()[k]) {
            source.slice_spec(word, vec![0; index.rank()], vec![1; index.rank()], index.dims())
        } else {
            return self.refuse(word, format!("source {} for indices {}", source.shape(), index.shape()));
        };
        let mut y = self.corner(word, axis, index.shape()).scatter_axis(word, mode, axis, &index, &source);
        // The rest of `x` goes back around the corner, one axis after the other.
        for k in (0..self.rank()).rev().filter(|&k| k != axis) {
            let (short, long) = (index.dims()[k], self.dims()[k]);
            if short < long {
                let inner = checked!(self, word, y.shape().with(k, long));
                let rest = self.corner(word, self.rank(), &inner).part(word, k, short, long - short);
                y = Tensor::joined(word, &[&y, &rest], k as isize);
            }
        }
        y
    }

    /// The part of this tensor that begins where it begins and has the dimensions `shape`, but is
    /// whole along `axis`.
    #[track_caller]
    fn corner(&self, word: &str, axis: usize, shape: &Shape) -> Tensor {
        let mut dims = shape.dims().to_vec();
        if let (Some(dim), Some(&own)) = (dims.get_mut(axis), self.dims().get(axis)) {
            *dim = own;
        }
        self.slice_spec(word, vec![0; self.rank()], vec![1; self.rank()], &dims)
    }

    /// The elements of `axis` at `index: [n]`, in that order, as PyTorch's `index_select`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 2], [3, 4]], &Device::cpu());
    /// let index = Tensor::new([1, 1], &Device::cpu());
    /// assert_eq!(x.index_select(0, &index).to_vec::<i32>()?, [3, 4, 3, 4]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn index_select(&self, axis: isize, index: &Tensor) -> Tensor {
        given!("index_select", &[self, index], Ok(()));
        if index.rank() != 1 {
            return self.refuse("index_select", format!("an index has one axis, got {}", index.shape()));
        }
        self.taken("index_select", index, axis)
    }

    /// The elements of `axis` at `index` of any shape, whose axes take the place of `axis`, as NumPy's
    /// `take`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([10, 20, 30], &Device::cpu());
    /// let index = Tensor::new([[0, 2], [1, 1]], &Device::cpu());
    /// assert_eq!(x.take(&index, 0).to_vec::<i32>()?, [10, 30, 20, 20]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn take(&self, index: &Tensor, axis: isize) -> Tensor {
        self.taken("take", index, axis)
    }

    /// The rows of this matrix at `ids`: `[n, d]` and `[..]` give `[.., d]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let weight = Tensor::new([[1.0, 2.0], [3.0, 4.0]], &Device::cpu());
    /// let ids = Tensor::new([[1, 0, 1]], &Device::cpu());
    /// assert_eq!(weight.embedding(&ids).dims(), [1, 3, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn embedding(&self, ids: &Tensor) -> Tensor {
        given!("embedding", &[self, ids], Ok(()));
        if self.rank() != 2 {
            return self.refuse("embedding", format!("the weight is a matrix, got {}", self.shape()));
        }
        self.taken("embedding", ids, 0)
    }

    #[track_caller]
    pub(crate) fn taken(&self, word: &'static str, index: &Tensor, axis: isize) -> Tensor {
        given!(word, &[self, index], Ok(()));
        let axis = checked!(self, word, self.shape().axis(axis));
        let index = index.index_for(word);
        if !index.is_valid() {
            return index;
        }
        let (before, after) = (&self.dims()[..axis], &self.dims()[axis + 1..]);
        let result = checked!(self, word, Shape::new(&[before, index.dims(), after].concat()));
        let mut line = vec![1; self.rank()];
        line[axis] = index.numel();
        let line = checked!(self, word, Shape::new(&line));
        let full = checked!(self, word, self.shape().with(axis, index.numel()));
        let index = index.to_shape(word, line).expand_to(word, full);
        self.gather_axis(word, axis, &index).to_shape(word, result)
    }

    /// `value` where `mask` is true, elsewhere `x`; the mask broadcasts to `x`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0, 3.0], &Device::cpu());
    /// assert_eq!(x.masked_fill(&x.gt(1.5), 0.0).to_vec::<f32>()?, [1.0, 0.0, 0.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor, value: impl Operand) -> Tensor {
        let value = value.operand(self);
        given!("masked_fill", &[self, mask, &value], Ok(()));
        if mask.dtype() != DType::Bool {
            return self.refuse("masked_fill", format!("a mask is bool, got {}", mask.dtype()));
        }
        if self.dtype().promote(value.dtype()) != self.dtype() {
            return self.refuse("masked_fill", format!("{} into {}", value.dtype(), self.dtype()));
        }
        if value.rank() != 0 {
            return self.refuse("masked_fill", format!("the value is a scalar, got {}", value.shape()));
        }
        let mask = mask.expand_to("masked_fill", *self.shape());
        mask.where_(value.cast(self.dtype()), self)
    }
}

/// Whether `index` goes along `axis` of `shape` and is nowhere longer on the other axes.
fn reaches(shape: &Shape, index: &Shape, axis: usize) -> Result<(), String> {
    let inside = |k: usize| k == axis || index.dims()[k] <= shape.dims()[k];
    match index.rank() == shape.rank() && (0..shape.rank()).all(inside) {
        true => Ok(()),
        false => Err(format!("indices {index} along axis {axis} of {shape}")),
    }
}
