//! Activations, softmax and its logarithm.
//!
//! Chains of scalar rows (and reductions along one axis for the softmaxes), which the compiler
//! makes one kernel. Each picks its branch before it computes, so that no gradient is `0 * inf`.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use crate::graph::op::Reduction;
use crate::graph::tensor::{Operand, Tensor};
use crate::shape::AxisSet;

impl Tensor {
    /// `max(x, 0)`; the derivative at 0 is 0.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([-1.0, 2.0], &Device::cpu());
    /// assert_eq!(x.relu().to_vec::<f32>()?, [0.0, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn relu(&self) -> Tensor {
        self.le(0).where_(0, self)
    }

    /// `min` where `x` is less, `max` where it is greater; both broadcast. The derivative at a bound is 0.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([-1.0, 0.5, 2.0], &Device::cpu());
    /// assert_eq!(x.clamp(0.0, 1.0).to_vec::<f32>()?, [0.0, 0.5, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn clamp(&self, min: impl Operand, max: impl Operand) -> Tensor {
        let (min, max) = (min.operand(self), max.operand(self));
        given!("clamp", &[self, &min, &max], {
            self.shape().broadcast(min.shape()).and_then(|shape| shape.broadcast(max.shape()))
        });
        let x = self.le(&min).where_(&min, self);
        x.ge(&max).where_(&max, &x)
    }

    /// `x` where it is positive, `slope * x` elsewhere.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([-1.0, 2.0], &Device::cpu());
    /// assert_eq!(x.leaky_relu(0.5).to_vec::<f32>()?, [-0.5, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        self.gt(0).where_(self, self * slope)
    }

    /// `x` where it is positive, `alpha * (e^x - 1)` elsewhere.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([-100.0, 2.0], &Device::cpu());
    /// assert_eq!(x.elu(0.5).to_vec::<f32>()?, [-0.5, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        let positive = self.gt(0);
        positive.where_(self, positive.where_(0, self).expm1() * alpha)
    }

    /// `x Φ(x)` with the normal distribution's `Φ(x) = (1 + erf(x / √2)) / 2`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let y = Tensor::new(1.0, &Device::cpu()).gelu().item::<f32>()?;
    /// assert!((y - 0.8413447).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn gelu(&self) -> Tensor {
        self * 0.5 * ((self * FRAC_1_SQRT_2).erf() + 1.0)
    }

    /// GELU's older approximation, `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let y = Tensor::new(1.0, &Device::cpu()).gelu_tanh().item::<f32>()?;
    /// assert!((y - 0.8411920).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn gelu_tanh(&self) -> Tensor {
        // The square of a byte is no byte.
        let x = self.cast(self.float_dtype());
        let inner = &x * (&x * &x * 0.044715 + 1.0) * FRAC_2_PI.sqrt();
        x * 0.5 * (inner.tanh() + 1.0)
    }

    /// `x sigmoid(x)`, also called swish.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let y = Tensor::new(1.0, &Device::cpu()).silu().item::<f32>()?;
    /// assert!((y - 0.7310586).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn silu(&self) -> Tensor {
        self * self.sigmoid()
    }

    /// `x tanh(softplus(x))`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let y = Tensor::new(1.0, &Device::cpu()).mish().item::<f32>()?;
    /// assert!((y - 0.8650984).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn mish(&self) -> Tensor {
        self * self.softplus().tanh()
    }

    /// `ln(1 + e^x)`, without overflow.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([0.0, 100.0], &Device::cpu());
    /// let y = x.softplus().to_vec::<f32>()?;
    /// assert!((y[0] - 0.6931472).abs() < 1e-5 && y[1] == 100.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn softplus(&self) -> Tensor {
        let (positive, decay) = self.decay();
        positive.where_(self, 0) + decay.log1p()
    }

    /// `1 / (1 + e^-x)`, without overflow.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([0.0, 100.0, -100.0], &Device::cpu());
    /// assert_eq!(x.sigmoid().to_vec::<f32>()?[..2], [0.5, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn sigmoid(&self) -> Tensor {
        let (positive, decay) = self.decay();
        positive.where_(1.0, &decay) / (decay + 1.0)
    }

    /// Where `x` is not negative, and `e^-|x|` with the derivative of `e^-x` at 0: an `abs` would
    /// have 0 there.
    #[track_caller]
    pub(super) fn decay(&self) -> (Tensor, Tensor) {
        // Without a sign, `-x` would wrap.
        let x = self.cast(self.float_dtype());
        let positive = x.ge(0);
        let decay = positive.where_(-&x, x).exp();
        (positive, decay)
    }

    /// `0` up to -3, `x` from 3, `x (x + 3) / 6` between.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([-4.0, 1.5, 4.0], &Device::cpu());
    /// assert_eq!(x.hardswish().to_vec::<f32>()?, [0.0, 1.125, 4.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn hardswish(&self) -> Tensor {
        // Without a sign, -3 would wrap.
        let x = self.cast(self.float_dtype());
        let (low, high) = (x.le(-3), x.ge(3));
        let middle = low.bitor(&high).where_(0, &x);
        low.where_(0, high.where_(&x, &middle * (&middle + 3.0) / 6.0))
    }

    /// The first half of `axis` times the sigmoid of the second: `[.., 2 n, ..] -> [.., n, ..]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0, 0.0, 100.0], &Device::cpu());
    /// assert_eq!(x.glu(-1).to_vec::<f32>()?, [0.5, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn glu(&self, axis: isize) -> Tensor {
        let (start, dims) = given!("glu", &[self], {
            let axis = self.shape().axis(axis)?;
            let (mut start, mut dims) = (vec![0; self.rank()], self.dims().to_vec());
            match (start.get_mut(axis), dims.get_mut(axis)) {
                (Some(start), Some(n)) if *n % 2 == 0 => (*start, *n) = (*n / 2, *n / 2),
                _ => return Err(format!("axis {axis} of {} has no two halves", self.shape())),
            }
            Ok((start, dims))
        });
        let step = vec![1; self.rank()];
        let value = self.slice_spec("glu", vec![0; self.rank()], step.clone(), &dims);
        value * self.slice_spec("glu", start, step, &dims).sigmoid()
    }

    /// `e^x / sum(e^x)` along `axis`; a row of `-inf` alone gives NaN.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1000.0, 1000.0], &Device::cpu());
    /// assert_eq!(x.softmax(-1).to_vec::<f32>()?, [0.5, 0.5]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn softmax(&self, axis: isize) -> Tensor {
        let row = given!("softmax", &[self], self.shape().axis(axis).map(AxisSet::one));
        let exp = self.below_greatest("softmax", row).exp();
        (&exp / exp.reduced("softmax", Reduction::Sum, row, true)).cast(self.float_dtype())
    }

    /// `x - ln(sum(e^x))` along `axis`, the logarithm of [`Tensor::softmax`]; a row of `-inf` alone
    /// gives NaN.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1000.0, 1000.0], &Device::cpu());
    /// let y = x.log_softmax(-1).to_vec::<f32>()?;
    /// assert!((y[0] + 0.6931472).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn log_softmax(&self, axis: isize) -> Tensor {
        let row = given!("log_softmax", &[self], self.shape().axis(axis).map(AxisSet::one));
        let x = self.below_greatest("log_softmax", row);
        (&x - x.exp().reduced("log_softmax", Reduction::Sum, row, true).ln()).cast(self.float_dtype())
    }

    /// `x - max(x)` in `f32`. No gradient passes through the maximum: a softmax does not depend on it.
    #[track_caller]
    fn below_greatest(&self, word: &str, row: AxisSet) -> Tensor {
        let x = self.wide();
        if x.numel() == 0 {
            return x;
        }
        &x - x.detach().reduced(word, Reduction::Max, row, true)
    }
}
