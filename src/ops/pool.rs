//! Pooling over one and two spatial axes, as PyTorch's: greatest or mean of windows, and the same
//! to a given output size.
//!
//! Everything is a reduction over windows, which are views.

use crate::dtype::{DType, Number};
use crate::graph::op::{Reduction, WindowSpec};
use crate::graph::tensor::Tensor;
use crate::ops::conv::{per_axis, spatial_dims};
use crate::ops::upsample::whole_steps;
use crate::shape::{AxisSet, Dims, Shape};

/// How windows lie: `PoolOptions::default().stride(2).padding(1)`.
///
/// What goes by spatial axis is given as one number for all of them or as an array.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// `None` for the window's size.
    stride: Option<Vec<isize>>,
    padding: Vec<isize>,
    dilation: Vec<isize>,
    count_include_pad: bool,
}

impl Default for PoolOptions {
    /// Windows side by side, no padding, dilation 1; means count what is padded.
    fn default() -> PoolOptions {
        PoolOptions { stride: None, padding: vec![0], dilation: vec![1], count_include_pad: true }
    }
}

impl PoolOptions {
    /// Distance between windows, at least 1; by default a window's size.
    pub fn stride(mut self, stride: impl Dims) -> PoolOptions {
        self.stride = Some(stride.dims());
        self
    }

    /// Elements added on both sides, at most half a window: 0 for a mean, the least for a maximum.
    pub fn padding(mut self, padding: impl Dims) -> PoolOptions {
        self.padding = padding.dims();
        self
    }

    /// Distance between elements of a window, at least 1.
    pub fn dilation(mut self, dilation: impl Dims) -> PoolOptions {
        self.dilation = dilation.dims();
        self
    }

    /// Whether a mean divides by a window's size or by how many of its elements are not padding.
    pub fn count_include_pad(mut self, count: bool) -> PoolOptions {
        self.count_include_pad = count;
        self
    }
}

/// What a pool does with a window.
#[derive(Clone, Copy, PartialEq)]
enum Pool {
    Max,
    Mean,
}

impl Tensor {
    /// The greatest element of each window, `[n, c, l]` to `[n, c, l']` with
    /// `l' = (l + 2 padding - dilation (kernel - 1) - 1) / stride + 1`; a tie shares the gradient.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[1.0, 3.0, 2.0, 0.0]]], &Device::cpu());
    /// assert_eq!(x.max_pool1d(2, PoolOptions::default()).to_vec::<f32>()?, [3.0, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn max_pool1d(&self, kernel: impl Dims, options: PoolOptions) -> Tensor {
        self.pooled("max_pool1d", 1, Pool::Max, &kernel.dims(), &options)
    }

    /// The greatest element of each window, `[n, c, h, w]` to `[n, c, h', w']` with
    /// `h' = (h + 2 padding - dilation (kernel - 1) - 1) / stride + 1`; a tie shares the gradient.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[[1.0, 3.0], [2.0, 0.0]]]], &Device::cpu());
    /// assert_eq!(x.max_pool2d([1, 2], PoolOptions::default()).to_vec::<f32>()?, [3.0, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn max_pool2d(&self, kernel: impl Dims, options: PoolOptions) -> Tensor {
        self.pooled("max_pool2d", 2, Pool::Max, &kernel.dims(), &options)
    }

    /// The mean of each window, `[n, c, l]` to `[n, c, l']` with
    /// `l' = (l + 2 padding - dilation (kernel - 1) - 1) / stride + 1`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[1.0, 3.0, 2.0, 0.0]]], &Device::cpu());
    /// let options = PoolOptions::default().stride(1).padding(1).count_include_pad(false);
    /// assert_eq!(x.avg_pool1d(2, options).to_vec::<f32>()?, [1.0, 2.0, 2.5, 1.0, 0.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn avg_pool1d(&self, kernel: impl Dims, options: PoolOptions) -> Tensor {
        self.pooled("avg_pool1d", 1, Pool::Mean, &kernel.dims(), &options)
    }

    /// The mean of each window, `[n, c, h, w]` to `[n, c, h', w']` with
    /// `h' = (h + 2 padding - dilation (kernel - 1) - 1) / stride + 1`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[[1.0, 3.0], [2.0, 0.0]]]], &Device::cpu());
    /// assert_eq!(x.avg_pool2d(2, PoolOptions::default()).item::<f32>()?, 1.5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn avg_pool2d(&self, kernel: impl Dims, options: PoolOptions) -> Tensor {
        self.pooled("avg_pool2d", 2, Pool::Mean, &kernel.dims(), &options)
    }

    /// The mean of each of `size` windows that cover the axis, `[n, c, l]` to `[n, c, size]`.
    /// Window `i` goes from `floor(i l / size)` up to `ceil((i + 1) l / size)`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[1.0, 3.0, 2.0]]], &Device::cpu());
    /// assert_eq!(x.adaptive_avg_pool1d(2).to_vec::<f32>()?, [2.0, 2.5]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn adaptive_avg_pool1d(&self, size: impl Dims) -> Tensor {
        self.adapted("adaptive_avg_pool1d", 1, Pool::Mean, &size.dims())
    }

    /// The mean of each of `size` windows that cover the image, `[n, c, h, w]` to `[n, c, size…]`.
    /// Window `i` goes from `floor(i h / size)` up to `ceil((i + 1) h / size)`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[[1.0, 3.0], [2.0, 0.0]]]], &Device::cpu());
    /// assert_eq!(x.adaptive_avg_pool2d([2, 1]).to_vec::<f32>()?, [2.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn adaptive_avg_pool2d(&self, size: impl Dims) -> Tensor {
        self.adapted("adaptive_avg_pool2d", 2, Pool::Mean, &size.dims())
    }

    /// The greatest element of each of `size` windows that cover the axis, `[n, c, l]` to
    /// `[n, c, size]`; the windows are those of [`Tensor::adaptive_avg_pool1d`].
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[1.0, 3.0, 2.0]]], &Device::cpu());
    /// assert_eq!(x.adaptive_max_pool1d(1).to_vec::<f32>()?, [3.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn adaptive_max_pool1d(&self, size: impl Dims) -> Tensor {
        self.adapted("adaptive_max_pool1d", 1, Pool::Max, &size.dims())
    }

    /// The greatest element of each of `size` windows that cover the image, `[n, c, h, w]` to
    /// `[n, c, size…]`; the windows are those of [`Tensor::adaptive_avg_pool2d`].
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[[1.0, 3.0], [2.0, 0.0]]]], &Device::cpu());
    /// assert_eq!(x.adaptive_max_pool2d([1, 2]).to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn adaptive_max_pool2d(&self, size: impl Dims) -> Tensor {
        self.adapted("adaptive_max_pool2d", 2, Pool::Max, &size.dims())
    }

    #[track_caller]
    fn pooled(
        &self,
        word: &'static str,
        spatial: usize,
        pool: Pool,
        kernel: &[isize],
        options: &PoolOptions,
    ) -> Tensor {
        let (padding, spec) = given!(word, &[self], {
            ranks(self, spatial)?;
            let size = per_axis("kernel", kernel, spatial, 1)?;
            let stride = per_axis("stride", options.stride.as_deref().unwrap_or(kernel), spatial, 1)?;
            let dilation = per_axis("dilation", &options.dilation, spatial, 1)?;
            let padding = per_axis("padding", &options.padding, spatial, 0)?;
            if let Some((p, k)) = padding.iter().zip(&size).find(|(p, k)| **p > **k / 2) {
                return Err(format!("padding {p} is more than half of the kernel {k}"));
            }
            let axes = (2..2 + spatial).collect();
            Ok((padding, WindowSpec { axes, size, stride, dilation }))
        });
        let x = pool.operand(self);
        let last = (2 + spatial..2 + 2 * spatial).fold(AxisSet::default(), AxisSet::and);
        let y = match pool {
            Pool::Max => {
                let least = Reduction::Max.identity(x.dtype());
                x.padded(word, &padding, least).window(word, spec).reduce(word, Reduction::Max, last)
            }
            Pool::Mean => {
                let sums = x.padded(word, &padding, Number::Int(0)).window(word, spec.clone());
                let sums = sums.reduce(word, Reduction::Sum, last);
                if options.count_include_pad || padding.iter().all(|&p| p == 0) {
                    sums / spec.size.iter().fold(1.0, |n, &k| n * k as f64)
                } else {
                    let shape = given!(word, &[self], Shape::new(&[&[1, 1], spatial_dims(self)].concat()));
                    let ones = Tensor::constant(Number::Int(1), shape, x.dtype(), x.device());
                    let counts = ones.padded(word, &padding, Number::Int(0)).window(word, spec);
                    sums / counts.reduce(word, Reduction::Sum, last)
                }
            }
        };
        y.cast(pool.dtype(self))
    }

    /// `padding[k]` elements of `fill` on both sides of spatial axis `k`.
    #[track_caller]
    fn padded(&self, word: &str, padding: &[usize], fill: Number) -> Tensor {
        let both = [&[0, 0], padding].concat();
        self.pad_spec(word, both.clone(), both, vec![0; padding.len() + 2], fill)
    }

    #[track_caller]
    fn adapted(&self, word: &'static str, spatial: usize, pool: Pool, size: &[isize]) -> Tensor {
        let size = given!(word, &[self], {
            ranks(self, spatial)?;
            if spatial_dims(self).contains(&0) {
                return Err(format!("the windows of {} have no elements", self.shape()));
            }
            per_axis("size", size, spatial, 0)
        });
        let mut x = pool.operand(self);
        for (k, &out) in size.iter().enumerate() {
            x = x.adapted_axis(word, k + 2, out, pool);
        }
        x.cast(pool.dtype(self))
    }

    /// `axis` reduced to `out` windows that cover it.
    #[track_caller]
    fn adapted_axis(&self, word: &'static str, axis: usize, out: usize, pool: Pool) -> Tensor {
        let (before, n, after) = match self.dims().split_at_checked(axis) {
            Some((before, &[n, ref after @ ..])) => (before, n, after),
            _ => return self.clone(),
        };
        let inner = AxisSet::one(axis + 1);
        if out > 0 && n % out == 0 {
            let split = self.to_dims(word, &[before, &[out, n / out], after].concat());
            return match pool {
                Pool::Max => split.reduce(word, Reduction::Max, inner),
                Pool::Mean => split.average(word, inner, false),
            };
        }
        let step = given!(word, &[self], whole_steps((n as u64, out as u64), out));
        // No window is longer than the mean length rounded up and one element more.
        let width = n.div_ceil(out.max(1)).saturating_add(1).min(n);
        let shape = given!(word, &[self], Shape::new(&[out, width]));
        let (start, end) = cover(&Tensor::iota(0, shape, self.device()), step);
        let k = &start + Tensor::iota(1, shape, self.device());
        let inside = k.lt(&end);
        let windows = self.taken(word, &inside.where_(k, 0), axis as isize);
        let around = [&[out, width], &vec![1; after.len()][..]].concat();
        let kind = if pool == Pool::Max { Reduction::Max } else { Reduction::Sum };
        let none = Tensor::constant(kind.identity(self.dtype()), Shape::SCALAR, self.dtype(), self.device());
        let y = inside.to_dims(word, &around).where_(windows, none).reduce(word, kind, inner);
        match pool {
            Pool::Max => y,
            Pool::Mean => {
                let counts = (end - start).slice_spec(word, vec![0; 2], vec![1; 2], &[out, 1]);
                y / counts.to_dims(word, &[&[out], &vec![1; after.len()][..]].concat())
            }
        }
    }
}

/// First element and end of windows `i`, each `num / den` elements after the one before.
#[track_caller]
fn cover(i: &Tensor, (num, den): (i64, i64)) -> (Tensor, Tensor) {
    let start = i * num;
    let end = &start + (num + den - 1);
    (start.floor_divide(den), end.floor_divide(den))
}

impl Pool {
    /// What is pooled: means are of `f32`, where sums do not overflow.
    #[track_caller]
    fn operand(self, x: &Tensor) -> Tensor {
        if self == Pool::Mean { x.wide() } else { x.clone() }
    }

    /// The dtype of what comes out.
    fn dtype(self, x: &Tensor) -> DType {
        if self == Pool::Mean { x.float_dtype() } else { x.dtype() }
    }
}

fn ranks(x: &Tensor, spatial: usize) -> Result<(), String> {
    match x.rank() == spatial + 2 {
        true => Ok(()),
        false => Err(format!("takes {} dimensions, got {}", spatial + 2, x.shape())),
    }
}
