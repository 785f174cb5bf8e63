//! Normalisation: layers, groups, batches, instances, and by root mean square.
//!
//! Each is a chain of reductions and maps over the same rows: the mean, then the mean of squared
//! distances from it, then a scale and a shift. Half-precision floats are computed in `f32`.

use crate::graph::tensor::Tensor;
use crate::shape::{Axes, AxisSet, Shape, axis_set};

impl Tensor {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` with mean and (biased) variance over `axes`;
    /// weight and bias have the dimensions of those axes.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1.0, 3.0], [5.0, 5.0]], &Device::cpu());
    /// let y = x.layer_norm(-1, None, None, 1e-12);
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn layer_norm(&self, axes: impl Axes, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        let src = operands(self, weight, bias);
        let (set, affine) = given!("layer_norm", &src, {
            let set = axis_set(self.shape(), &axes)?;
            Ok((set, affine_shape(self, set, weight, bias)?))
        });
        self.standardized("layer_norm", set, eps).affine("layer_norm", affine, weight, bias).cast(self.float_dtype())
    }

    /// `x / sqrt(mean(x²) + eps) * weight` with the mean over `axes`; the weight has the dimensions
    /// of those axes.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([3.0, -3.0], &Device::cpu());
    /// assert_eq!(x.rms_norm(-1, None, 0.0).to_vec::<f32>()?, [1.0, -1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn rms_norm(&self, axes: impl Axes, weight: Option<&Tensor>, eps: f64) -> Tensor {
        let src = operands(self, weight, None);
        let (set, affine) = given!("rms_norm", &src, {
            let set = axis_set(self.shape(), &axes)?;
            Ok((set, affine_shape(self, set, weight, None)?))
        });
        let x = self.wide();
        let y = &x * ((&x * &x).average("rms_norm", set, true) + eps).rsqrt();
        y.affine("rms_norm", affine, weight, None).cast(self.float_dtype())
    }

    /// Layer norm over each of `groups` groups of channels of `[n, c, …]`; weight and bias are `[c]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1.0, 3.0, 10.0, 30.0]], &Device::cpu());
    /// let y = x.group_norm(2, None, None, 1e-12);
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn group_norm(&self, groups: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        let src = operands(self, weight, bias);
        let (rows, affine) = given!("group_norm", &src, {
            let affine = channels(self, 2, weight, bias)?;
            match *self.dims() {
                [n, c, ref spatial @ ..] if groups > 0 && c % groups == 0 => {
                    let volume = spatial.iter().fold(c / groups, |n, &d| n.saturating_mul(d));
                    Ok((Shape::new(&[n, groups, volume])?, affine))
                }
                _ => Err(format!("the channels of {} do not make {groups} groups", self.shape())),
            }
        });
        let x = self.to_shape("group_norm", rows).standardized("group_norm", AxisSet::one(2), eps);
        x.to_shape("group_norm", *self.shape()).affine("group_norm", affine, weight, bias).cast(self.float_dtype())
    }

    /// Layer norm over the spatial axes of each channel of `[n, c, spatial…]`; weight and bias are `[c]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[1.0, 3.0], [10.0, 30.0]]], &Device::cpu());
    /// let y = x.instance_norm(None, None, 1e-12);
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        let src = operands(self, weight, bias);
        let affine = given!("instance_norm", &src, {
            let affine = channels(self, 3, weight, bias)?;
            match self.dims().iter().skip(2).all(|&n| n == 1) {
                true => Err(format!("a channel of {} has no two values to take a variance of", self.shape())),
                false => Ok(affine),
            }
        });
        let set = (2..self.rank()).fold(AxisSet::default(), AxisSet::and);
        let y = self.standardized("instance_norm", set, eps);
        y.affine("instance_norm", affine, weight, bias).cast(self.float_dtype())
    }

    /// Batch norm with the batch's own statistics, for training: each channel of `[n, c, …]` by its
    /// mean and biased variance over all other axes; weight and bias are `[c]`.
    ///
    /// Returns the result and, for running statistics, mean and unbiased variance `[c]` in `f32`,
    /// which no gradient passes.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1.0], [3.0]], &Device::cpu());
    /// let (y, mean, var) = x.batch_norm(None, None, 1e-12);
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0]);
    /// assert_eq!((mean.item::<f32>()?, var.item::<f32>()?), (2.0, 2.0));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn batch_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> (Tensor, Tensor, Tensor) {
        let src = operands(self, weight, bias);
        let found = Tensor::examine("batch_norm", &src, || {
            let affine = channels(self, 2, weight, bias)?;
            let n = self.numel().checked_div(self.dim(1)).unwrap_or(0);
            match n {
                0 | 1 => Err(format!("a channel of {} has no two values to take a variance of", self.shape())),
                n => Ok((affine, n)),
            }
        });
        let (affine, n) = match found {
            Ok(found) => found,
            Err(bad) => return (bad.clone(), bad.clone(), bad),
        };
        let word = "batch_norm";
        let set = (2..self.rank()).fold(AxisSet::one(0), AxisSet::and);
        let x = self.wide();
        let mean = x.average(word, set, true);
        let centered = x - &mean;
        let var = (&centered * &centered).average(word, set, true);
        let y = centered * (&var + eps).rsqrt();
        let y = y.affine(word, affine, weight, bias).cast(self.float_dtype());
        let var = var.detach() * (n as f64 / (n - 1) as f64);
        let c = [self.dim(1)];
        (y, mean.detach().to_dims(word, &c), var.to_dims(word, &c))
    }

    /// Batch norm with given statistics, for evaluation:
    /// `(x - mean) / sqrt(var + eps) * weight + bias` on each channel of `[n, c, …]`, all four `[c]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1.0], [3.0]], &Device::cpu());
    /// let (mean, var) = (Tensor::new([1.0], x.device()), Tensor::new([4.0], x.device()));
    /// assert_eq!(x.batch_norm_with(&mean, &var, None, None, 0.0).to_vec::<f32>()?, [0.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn batch_norm_with(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let word = "batch_norm_with";
        let src: Vec<&Tensor> = [self, mean, var].into_iter().chain(weight).chain(bias).collect();
        let affine = given!(word, &src, {
            channels(self, 2, Some(mean), Some(var)).map_err(|fact| format!("{fact} (mean, var)"))?;
            channels(self, 2, weight, bias)
        });
        let mean = mean.wide().to_shape(word, affine);
        let var = var.wide().to_shape(word, affine);
        let y = (self.wide() - mean) * (var + eps).rsqrt();
        y.affine(word, affine, weight, bias).cast(self.float_dtype())
    }

    /// `(x - mean) / sqrt(var + eps)` over the axes of `set`, in `f32`.
    #[track_caller]
    fn standardized(&self, word: &str, set: AxisSet, eps: f64) -> Tensor {
        let x = self.wide();
        let centered = &x - x.average(word, set, true);
        let var = (&centered * &centered).average(word, set, true);
        centered * (var + eps).rsqrt()
    }

    /// `self * weight + bias` with both under `shape`.
    #[track_caller]
    fn affine(self, word: &str, shape: Shape, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Tensor {
        let mut y = self;
        if let Some(weight) = weight {
            y = y * weight.wide().to_shape(word, shape);
        }
        if let Some(bias) = bias {
            y = y + bias.wide().to_shape(word, shape);
        }
        y
    }
}

fn operands<'a>(x: &'a Tensor, weight: Option<&'a Tensor>, bias: Option<&'a Tensor>) -> Vec<&'a Tensor> {
    [x].into_iter().chain(weight).chain(bias).collect()
}

/// The shape in which weight and bias, which have the axes of `set`, stand beside `x`.
fn affine_shape(x: &Tensor, set: AxisSet, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Shape, String> {
    let rest = (0..x.rank()).filter(|&axis| !set.has(axis)).fold(AxisSet::default(), AxisSet::and);
    let own = x.shape().without(rest);
    match weight.into_iter().chain(bias).find(|w| *w.shape() != own) {
        Some(w) => Err(format!("weight and bias of {} over axes {set} take {own}, got {}", x.shape(), w.shape())),
        None => Ok(x.shape().kept(rest)),
    }
}

/// The shape in which weight and bias of `[c]` stand beside `x: [n, c, …]` of at least `rank` dimensions.
fn channels(x: &Tensor, rank: usize, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Shape, String> {
    if x.rank() < rank {
        return Err(format!("takes at least {rank} dimensions, got {}", x.shape()));
    }
    affine_shape(x, AxisSet::one(1), weight, bias)
}
