//! Reductions over any set of axes: one axis, several, or `..` for all; `keepdim(axes)` keeps them
//! with size 1.

use crate::dtype::{DType, Number};
use crate::graph::op::{Extreme, Reduction};
use crate::graph::tensor::Tensor;
use crate::shape::{Axes, AxisSet, Shape, axis_set};

impl Tensor {
    /// The sum over `axes`; bool and u8 count in `i32`. No elements sum to 0.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 2], [3, 4]], &Device::cpu());
    /// assert_eq!(x.sum(0).to_vec::<i32>()?, [4, 6]);
    /// assert_eq!(x.sum(..).item::<i32>()?, 10);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn sum(&self, axes: impl Axes) -> Tensor {
        let set = checked!(self, "sum", axis_set(self.shape(), &axes));
        self.counted().reduced("sum", Reduction::Sum, set, axes.keep())
    }

    /// The product over `axes`; bool and u8 count in `i32`. No elements multiply to 1.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 2], [3, 4]], &Device::cpu());
    /// assert_eq!(x.prod(1).to_vec::<i32>()?, [2, 12]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn prod(&self, axes: impl Axes) -> Tensor {
        let set = checked!(self, "prod", axis_set(self.shape(), &axes));
        self.counted().reduced("prod", Reduction::Prod, set, axes.keep())
    }

    /// The greatest element over `axes`, NaN if there is one; equal greatest ones share the gradient.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 4], [3, 2]], &Device::cpu());
    /// assert_eq!(x.max(1).to_vec::<i32>()?, [4, 3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn max(&self, axes: impl Axes) -> Tensor {
        let set = checked!(self, "max", axis_set(self.shape(), &axes));
        self.reduced("max", Reduction::Max, set, axes.keep())
    }

    /// The least element over `axes`, NaN if there is one; equal least ones share the gradient.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 4], [3, 2]], &Device::cpu());
    /// assert_eq!(x.min(1).to_vec::<i32>()?, [1, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn min(&self, axes: impl Axes) -> Tensor {
        let set = checked!(self, "min", axis_set(self.shape(), &axes));
        self.reduced("min", Reduction::Min, set, axes.keep())
    }

    /// The mean over `axes`, `sum(x) / n`; integers and bools give `f32`. No elements give NaN.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1.0, 2.0], [3.0, 5.0]], &Device::cpu());
    /// assert_eq!(x.mean(0).to_vec::<f32>()?, [2.0, 3.5]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn mean(&self, axes: impl Axes) -> Tensor {
        let set = checked!(self, "mean", axis_set(self.shape(), &axes));
        self.wide().average("mean", set, axes.keep()).cast(self.float_dtype())
    }

    /// The unbiased variance over `axes`, `sum((x - mean)^2) / (n - 1)`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0, 3.0, 6.0], &Device::cpu());
    /// assert!((x.var(0).item::<f32>()? - 14.0 / 3.0).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn var(&self, axes: impl Axes) -> Tensor {
        self.spread("var", &axes, 1.0).cast(self.float_dtype())
    }

    /// The variance over `axes`, `sum((x - mean)^2) / (n - correction)`: 1 is unbiased, 0 that of the
    /// elements themselves. NaN where `n` is not above `correction` and the elements do not differ.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0, 3.0, 6.0], &Device::cpu());
    /// assert_eq!(x.var_with(0, 0.0).item::<f32>()?, 3.5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn var_with(&self, axes: impl Axes, correction: f64) -> Tensor {
        self.spread("var_with", &axes, correction).cast(self.float_dtype())
    }

    /// The square root of [`Tensor::var`].
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 3.0, 5.0], &Device::cpu());
    /// assert_eq!(x.std(0).item::<f32>()?, 2.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn std(&self, axes: impl Axes) -> Tensor {
        self.spread("std", &axes, 1.0).but_at_zero(Tensor::sqrt).cast(self.float_dtype())
    }

    /// The square root of [`Tensor::var_with`].
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 3.0], &Device::cpu());
    /// assert_eq!(x.std_with(0, 0.0).item::<f32>()?, 1.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn std_with(&self, axes: impl Axes, correction: f64) -> Tensor {
        self.spread("std_with", &axes, correction).but_at_zero(Tensor::sqrt).cast(self.float_dtype())
    }

    /// The `i32` index of the first greatest element along one axis, or with `..` in the whole tensor
    /// in row-major order; a NaN counts as greatest.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 4], [3, 2]], &Device::cpu());
    /// assert_eq!(x.argmax(-1).to_vec::<i32>()?, [1, 0]);
    /// assert_eq!(x.argmax(..).item::<i32>()?, 1);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn argmax(&self, axes: impl Axes) -> Tensor {
        self.arg("argmax", Extreme::Max, &axes)
    }

    /// The `i32` index of the first least element along one axis, or with `..` in the whole tensor in
    /// row-major order; a NaN counts as least.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 4], [3, 2]], &Device::cpu());
    /// assert_eq!(x.argmin(-1).to_vec::<i32>()?, [0, 1]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn argmin(&self, axes: impl Axes) -> Tensor {
        self.arg("argmin", Extreme::Min, &axes)
    }

    /// Whether any element over `axes` is true, or not 0; no elements give false.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[0, 4], [0, 0]], &Device::cpu());
    /// assert_eq!(x.any(1).to_vec::<bool>()?, [true, false]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn any(&self, axes: impl Axes) -> Tensor {
        self.logic("any", Reduction::Max, &axes)
    }

    /// Whether every element over `axes` is true, or not 0; no elements give true.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[5, 4], [3, 0]], &Device::cpu());
    /// assert_eq!(x.all(1).to_vec::<bool>()?, [true, false]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn all(&self, axes: impl Axes) -> Tensor {
        self.logic("all", Reduction::Min, &axes)
    }

    /// The `p`-norm over `axes`, `sum(|x|^p)^(1/p)`; the greatest and least `|x|` for plus and minus
    /// infinity, and the count of what is not 0 for 0.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([3.0, -4.0], &Device::cpu());
    /// assert_eq!(x.norm(0, 2.0).item::<f32>()?, 5.0);
    /// assert_eq!(x.norm(0, f64::INFINITY).item::<f32>()?, 4.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn norm(&self, axes: impl Axes, p: f64) -> Tensor {
        let set = checked!(self, "norm", axis_set(self.shape(), &axes));
        let (x, keep) = (self.wide().abs(), axes.keep());
        let y = if p.is_nan() {
            return self.refuse("norm", "p is NaN");
        } else if p == f64::INFINITY {
            x.reduced("norm", Reduction::Max, set, keep)
        } else if p == f64::NEG_INFINITY {
            x.reduced("norm", Reduction::Min, set, keep)
        } else if p == 0.0 {
            x.ne(0.0).cast(DType::F32).reduced("norm", Reduction::Sum, set, keep)
        } else if p == 1.0 {
            x.reduced("norm", Reduction::Sum, set, keep)
        } else {
            let powers = if p == 2.0 {
                &x * &x
            } else if p < 1.0 {
                // The slope at 0 is infinite: the gradient of a 0 is 0, as below.
                let (zero, power) = (x.eq(0.0), if p < 0.0 { f64::INFINITY } else { 0.0 });
                zero.where_(power, zero.where_(1.0, &x).pow(p))
            } else {
                x.pow(p)
            };
            let sum = powers.reduced("norm", Reduction::Sum, set, keep);
            match p {
                2.0 => sum.but_at_zero(Tensor::sqrt),
                _ if p < 0.0 => sum.pow(1.0 / p),
                _ => sum.but_at_zero(|sum| sum.pow(1.0 / p)),
            }
        };
        y.cast(self.float_dtype())
    }

    /// `ln(sum(e^x))` over `axes` without overflow; minus infinity, with gradient 0, where every
    /// element is or there is none.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1000.0, 1000.0], &Device::cpu());
    /// assert!((x.logsumexp(0).item::<f32>()? - 1000.6931).abs() < 1e-3);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn logsumexp(&self, axes: impl Axes) -> Tensor {
        let set = checked!(self, "logsumexp", axis_set(self.shape(), &axes));
        let least = Number::Float(f64::NEG_INFINITY);
        if set.iter().any(|axis| self.dims()[axis] == 0) {
            return Tensor::constant(least, self.left(set, axes.keep()), self.float_dtype(), self.device());
        }
        let x = self.wide();
        let top = x.reduced("logsumexp", Reduction::Max, set, true).detach();
        let shift = top.isinf().where_(0.0, &top);
        let sum = (x - &shift).exp().reduced("logsumexp", Reduction::Sum, set, true);
        let none = sum.eq(0.0);
        let y = none.where_(least, none.where_(1.0, &sum).ln() + shift);
        y.to_shape("logsumexp", self.left(set, axes.keep())).cast(self.float_dtype())
    }

    // ---- what the words share

    /// The reduced axes gone, or kept with size 1.
    #[track_caller]
    pub(crate) fn reduced(&self, word: &str, kind: Reduction, set: AxisSet, keep: bool) -> Tensor {
        self.reduce(word, kind, set).to_shape(word, self.left(set, keep))
    }

    /// The shape that a reduction over `set` leaves.
    fn left(&self, set: AxisSet, keep: bool) -> Shape {
        if keep { self.shape().kept(set) } else { self.shape().without(set) }
    }

    /// This tensor in a dtype that can be summed: bool and u8 become i32.
    #[track_caller]
    pub(crate) fn counted(&self) -> Tensor {
        match self.dtype() {
            DType::Bool | DType::U8 => self.cast(DType::I32),
            _ => self.clone(),
        }
    }

    /// This tensor in `f32`, where sums neither overflow nor lose what a half would.
    #[track_caller]
    pub(crate) fn wide(&self) -> Tensor {
        self.cast(DType::F32)
    }

    /// The dtype itself if it is a float, otherwise `f32`.
    pub(crate) fn float_dtype(&self) -> DType {
        if self.dtype().is_float() { self.dtype() } else { DType::F32 }
    }

    #[track_caller]
    pub(crate) fn average(&self, word: &str, set: AxisSet, keep: bool) -> Tensor {
        self.reduced(word, Reduction::Sum, set, keep) / self.count(set)
    }

    /// How many elements a reduction over `set` takes together.
    fn count(&self, set: AxisSet) -> f64 {
        set.iter().map(|axis| self.dims()[axis] as f64).product()
    }

    /// The variance, in two passes: sums of squares less the square of the sum would cancel.
    #[track_caller]
    fn spread(&self, word: &str, axes: &dyn Axes, correction: f64) -> Tensor {
        let set = checked!(self, word, axis_set(self.shape(), axes));
        let x = self.wide();
        let away = &x - x.average(word, set, true);
        let sum = (&away * &away).reduced(word, Reduction::Sum, set, axes.keep());
        sum / (self.count(set) - correction).max(0.0)
    }

    /// `f` of this tensor, and the tensor itself at 0, where the slope of `f` is infinite: of a square or
    /// an absolute value, the gradient of 0 is 0 then.
    #[track_caller]
    fn but_at_zero(&self, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let zero = self.eq(0.0);
        zero.where_(self, f(&zero.where_(1.0, self)))
    }

    #[track_caller]
    fn arg(&self, word: &str, extreme: Extreme, axes: &dyn Axes) -> Tensor {
        let set = checked!(self, word, axis_set(self.shape(), axes));
        let (x, axis) = match (axes.axes(), set.iter().next()) {
            (None, _) => (self.to_shape(word, checked!(self, word, Shape::new(&[self.numel()]))), 0),
            (Some(named), Some(axis)) if named.len() == 1 => (self.clone(), axis),
            _ => return self.refuse(word, format!("takes one axis or `..`, got axes {set}")),
        };
        x.arg_reduce(word, extreme, axis).to_shape(word, self.left(set, axes.keep()))
    }

    #[track_caller]
    fn logic(&self, word: &str, kind: Reduction, axes: &dyn Axes) -> Tensor {
        let set = checked!(self, word, axis_set(self.shape(), axes));
        if set.iter().any(|axis| self.dims()[axis] == 0) {
            let none = kind.identity(DType::Bool);
            return Tensor::constant(none, self.left(set, axes.keep()), DType::Bool, self.device());
        }
        self.cast(DType::Bool).reduced(word, kind, set, axes.keep())
    }
}
