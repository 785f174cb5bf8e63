//! Scans: what has come together so far along an axis.

use crate::dtype::DType;
use crate::graph::op::Reduction;
use crate::graph::tensor::Tensor;

impl Tensor {
    /// The running sum along `axis`, `y[i] = x[0] + … + x[i]`; bool and u8 count in `i32`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2, 3], &Device::cpu());
    /// assert_eq!(x.cumsum(0).to_vec::<i32>()?, [1, 3, 6]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cumsum(&self, axis: isize) -> Tensor {
        let axis = checked!(self, "cumsum", self.shape().axis(axis));
        self.counted().scan("cumsum", Reduction::Sum, axis)
    }

    /// The running product along `axis`, `y[i] = x[0] * … * x[i]`; bool and u8 count in `i32`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2, 3], &Device::cpu());
    /// assert_eq!(x.cumprod(0).to_vec::<i32>()?, [1, 2, 6]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cumprod(&self, axis: isize) -> Tensor {
        let axis = checked!(self, "cumprod", self.shape().axis(axis));
        self.counted().scan("cumprod", Reduction::Prod, axis)
    }

    /// The greatest element so far along `axis`, and the `i32` index of its last occurrence so far;
    /// a NaN stays.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (values, indices) = Tensor::new([1, 3, 2, 3], &Device::cpu()).cummax(0);
    /// assert_eq!(values.to_vec::<i32>()?, [1, 3, 3, 3]);
    /// assert_eq!(indices.to_vec::<i32>()?, [0, 1, 1, 3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cummax(&self, axis: isize) -> (Tensor, Tensor) {
        let axis = match self.shape().axis(axis) {
            Ok(axis) => axis,
            Err(fact) => {
                let bad = self.refuse("cummax", fact);
                return (bad.clone(), bad);
            }
        };
        // Bools have no running extreme of their own.
        let x = if self.dtype() == DType::Bool { self.cast(DType::U8) } else { self.clone() };
        let values = x.scan("cummax", Reduction::Max, axis);
        let mut here = x.eq(&values);
        if x.dtype().is_float() {
            here = here | x.isnan();
        }
        let index = Tensor::iota(axis, *x.shape(), x.device());
        (values.cast(self.dtype()), here.where_(index, 0).scan("cummax", Reduction::Max, axis))
    }
}
