//! Sorting along an axis. Stable; a NaN is greater than every number.

use crate::graph::tensor::Tensor;

impl Tensor {
    /// The elements in ascending or descending order along `axis`, and the `i32` index each came from.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (values, indices) = Tensor::new([3.0, 1.0, 2.0], &Device::cpu()).sort(0, false);
    /// assert_eq!(values.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
    /// assert_eq!(indices.to_vec::<i32>()?, [1, 2, 0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn sort(&self, axis: isize, descending: bool) -> (Tensor, Tensor) {
        self.ordered("sort", axis, descending, None)
    }

    /// The `i32` indices that put `axis` in ascending or descending order.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([3.0, 1.0, 2.0], &Device::cpu());
    /// assert_eq!(x.argsort(0, true).to_vec::<i32>()?, [0, 2, 1]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn argsort(&self, axis: isize, descending: bool) -> Tensor {
        let axis = checked!(self, "argsort", self.shape().axis(axis));
        self.arg_sort("argsort", axis, descending)
    }

    /// The `k` greatest elements along `axis` in descending order, and the `i32` index of each.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (values, indices) = Tensor::new([3.0, 1.0, 2.0], &Device::cpu()).topk(2, 0);
    /// assert_eq!(values.to_vec::<f32>()?, [3.0, 2.0]);
    /// assert_eq!(indices.to_vec::<i32>()?, [0, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn topk(&self, k: usize, axis: isize) -> (Tensor, Tensor) {
        self.ordered("topk", axis, true, Some(k))
    }

    /// The first `len` elements of the order, or all, with where they came from.
    #[track_caller]
    fn ordered(&self, word: &'static str, axis: isize, descending: bool, len: Option<usize>) -> (Tensor, Tensor) {
        let axis = match self.shape().axis(axis) {
            Ok(axis) => axis,
            Err(fact) => {
                let bad = self.refuse(word, fact);
                return (bad.clone(), bad);
            }
        };
        let indices = self.arg_sort(word, axis, descending);
        let indices = match len {
            Some(len) => indices.part(word, axis, 0, len),
            None => indices,
        };
        (self.gather_axis(word, axis, &indices), indices)
    }
}
