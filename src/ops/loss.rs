//! Losses, as PyTorch's.
//!
//! Each gives one number an element or a row and then reduces it. Shapes of prediction and target
//! must be equal: a target that broadcasts is nearly always a mistake.

use crate::dtype::{DType, Number};
use crate::graph::op::Reduction;
use crate::graph::source::ALL_KERNELS;
use crate::graph::tensor::Tensor;
use crate::shape::{AxisSet, Shape};

/// What becomes of the single losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduce {
    /// Their mean; of losses for class ids, weighted by the classes' weights. For probabilities it is
    /// the mean over rows.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum divided by the size of the first axis; logits `[classes]` are one row.
    BatchMean,
    /// Nothing: they are the result.
    None,
}

/// How a loss over classes counts: `ClassOptions::default().label_smoothing(0.1)`.
#[derive(Clone)]
pub struct ClassOptions {
    reduce: Reduce,
    weight: Option<Tensor>,
    ignore_index: Option<i32>,
    label_smoothing: f64,
}

impl Default for ClassOptions {
    /// The mean, all classes alike, none ignored, no smoothing. (PyTorch ignores class -100 unless told
    /// otherwise; here a row is ignored only on request, and -100 is an id out of range.)
    fn default() -> ClassOptions {
        ClassOptions { reduce: Reduce::Mean, weight: None, ignore_index: None, label_smoothing: 0.0 }
    }
}

impl ClassOptions {
    /// What becomes of the single losses.
    pub fn reduce(mut self, reduce: Reduce) -> ClassOptions {
        self.reduce = reduce;
        self
    }

    /// How much each class counts, `[classes]`.
    pub fn weight(mut self, weight: &Tensor) -> ClassOptions {
        self.weight = Some(weight.clone());
        self
    }

    /// The class id whose rows count as nothing.
    pub fn ignore_index(mut self, ignore_index: i32) -> ClassOptions {
        self.ignore_index = Some(ignore_index);
        self
    }

    /// The part of each target, in `0..=1`, that is spread evenly over all classes.
    pub fn label_smoothing(mut self, label_smoothing: f64) -> ClassOptions {
        self.label_smoothing = label_smoothing;
        self
    }
}

impl Tensor {
    /// `(x - target)²`, reduced.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, target) = (Tensor::new([1.0, 2.0], &Device::cpu()), Tensor::new([1.0, 4.0], &Device::cpu()));
    /// assert_eq!(x.mse_loss(&target, Reduce::Mean).item::<f32>()?, 2.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn mse_loss(&self, target: &Tensor, reduce: Reduce) -> Tensor {
        let d = self.difference("mse_loss", target);
        (&d * &d).settled("mse_loss", reduce, self)
    }

    /// `|x - target|`, reduced.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, target) = (Tensor::new([1.0, 2.0], &Device::cpu()), Tensor::new([1.0, 4.0], &Device::cpu()));
    /// assert_eq!(x.l1_loss(&target, Reduce::Sum).item::<f32>()?, 2.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn l1_loss(&self, target: &Tensor, reduce: Reduce) -> Tensor {
        self.difference("l1_loss", target).abs().settled("l1_loss", reduce, self)
    }

    /// With `d = |x - target|`: `d² / 2` up to `delta`, beyond it `delta (d - delta / 2)`; reduced.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, target) = (Tensor::new([1.0, 2.0], &Device::cpu()), Tensor::new([2.0, 4.0], &Device::cpu()));
    /// assert_eq!(x.huber_loss(&target, 1.0, Reduce::None).to_vec::<f32>()?, [0.5, 1.5]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn huber_loss(&self, target: &Tensor, delta: f64, reduce: Reduce) -> Tensor {
        given!("huber_loss", &[self, target], positive("delta", delta));
        let d = self.difference("huber_loss", target).abs();
        let near = d.le(delta);
        // Squares of near ones only: that of an infinity would make its slope NaN.
        let small = near.where_(&d, 0.0);
        let y = near.where_(&small * &small * 0.5, (&d - delta * 0.5) * delta);
        y.settled("huber_loss", reduce, self)
    }

    /// With `d = |x - target|`: `d² / (2 beta)` below `beta`, from there `d - beta / 2`; reduced.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, target) = (Tensor::new([1.0, 2.0], &Device::cpu()), Tensor::new([2.0, 4.0], &Device::cpu()));
    /// assert_eq!(x.smooth_l1_loss(&target, 2.0, Reduce::None).to_vec::<f32>()?, [0.25, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn smooth_l1_loss(&self, target: &Tensor, beta: f64, reduce: Reduce) -> Tensor {
        given!("smooth_l1_loss", &[self, target], positive("beta", beta));
        let d = self.difference("smooth_l1_loss", target).abs();
        let near = d.lt(beta);
        // As for huber_loss.
        let small = near.where_(&d, 0.0);
        let y = near.where_(&small * &small * (0.5 / beta), &d - beta * 0.5);
        y.settled("smooth_l1_loss", reduce, self)
    }

    /// [`Tensor::cross_entropy_with`] its default options: the mean over rows.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let logits = Tensor::new([[0.0, 0.0], [100.0, 0.0]], &Device::cpu());
    /// let classes = Tensor::new([1, 0], &Device::cpu());
    /// assert!((logits.cross_entropy(&classes).item::<f32>()? - 0.5 * 0.6931472).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cross_entropy(&self, target: &Tensor) -> Tensor {
        self.entropy(target, &ClassOptions::default())
    }

    /// `-log_softmax(x)[target]` of logits `[n, classes, …]` (or `[classes]`), reduced.
    ///
    /// An integer target `[n, …]` holds class ids; one out of range that is not ignored is an
    /// error at the next read. A float target has the shape of the logits and holds probabilities.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let logits = Tensor::new([[0.0, 0.0], [100.0, 0.0]], &Device::cpu());
    /// let classes = Tensor::new([1, 0], &Device::cpu());
    /// let options = ClassOptions::default().ignore_index(0);
    /// assert!((logits.cross_entropy_with(&classes, options).item::<f32>()? - 0.6931472).abs() < 1e-5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cross_entropy_with(&self, target: &Tensor, options: ClassOptions) -> Tensor {
        self.entropy(target, &options)
    }

    #[track_caller]
    fn entropy(&self, target: &Tensor, options: &ClassOptions) -> Tensor {
        let word = "cross_entropy";
        let src: Vec<&Tensor> = [self, target].into_iter().chain(&options.weight).collect();
        let axis = given!(word, &src, {
            let smoothing = options.label_smoothing;
            if !(0.0..=1.0).contains(&smoothing) {
                return Err(format!("label_smoothing {smoothing} is not in 0..=1"));
            }
            // A page has no room to ask.
            if ALL_KERNELS && options.ignore_index.is_some() && target.dtype().is_float() {
                return Err(format!("ignore_index is for class ids, got {}", target.dtype()));
            }
            class_axis(self, target, options.weight.as_ref())
        });
        let logs = self.wide().log_softmax(axis as isize);
        if !target.dtype().is_float() {
            return logs.class_losses(word, axis, target, options).cast(self.float_dtype());
        }
        let smoothing = options.label_smoothing;
        let mut p = target.wide();
        if smoothing > 0.0 {
            p = p * (1.0 - smoothing) + smoothing / self.dim(axis as isize).max(1) as f64;
        }
        let weighted = logs.weighted(word, axis, options.weight.as_ref());
        let losses = -(weighted * p).reduce(word, Reduction::Sum, AxisSet::one(axis));
        losses.settled(word, options.reduce, self)
    }

    /// `-x[target]` of log-probabilities `[n, classes, …]` (or `[classes]`) and class ids `[n, …]`,
    /// reduced; without smoothing, which needs logits.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[-1.0, -2.0], [-3.0, -4.0]], &Device::cpu());
    /// let classes = Tensor::new([1, 0], &Device::cpu());
    /// assert_eq!(x.nll_loss(&classes, ClassOptions::default()).item::<f32>()?, 2.5);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn nll_loss(&self, target: &Tensor, options: ClassOptions) -> Tensor {
        let word = "nll_loss";
        let src: Vec<&Tensor> = [self, target].into_iter().chain(&options.weight).collect();
        let axis = given!(word, &src, {
            if target.dtype().is_float() {
                return Err(format!("class ids are integers, got {}", target.dtype()));
            }
            if options.label_smoothing != 0.0 {
                return Err("label_smoothing is for cross_entropy".into());
            }
            class_axis(self, target, options.weight.as_ref())
        });
        let losses = self.wide().class_losses(word, axis, target, &options);
        losses.cast(self.float_dtype())
    }

    /// The losses of log-probabilities `self` for class ids, reduced.
    #[track_caller]
    fn class_losses(&self, word: &'static str, axis: usize, target: &Tensor, options: &ClassOptions) -> Tensor {
        let row = AxisSet::one(axis);
        let column = self.shape().kept(row);
        let ids = target.cast(DType::I32).to_shape(word, column);
        let counts = options.ignore_index.map(|ignored| ids.ne(ignored));
        // Nothing, where the row is ignored.
        let counted = |x: &Tensor| counts.as_ref().map_or(x.clone(), |counts| counts.where_(x, 0));
        let ids = counted(&ids);
        let picked = -self.gather_axis(word, axis, &ids);
        // How much each row's class counts; nothing where it is ignored.
        let share = match &options.weight {
            Some(weight) => {
                let table = weight.wide();
                let flat = given!(word, &[&ids], Shape::new(&[ids.numel()]));
                table.gather_axis(word, 0, &ids.to_shape(word, flat)).to_shape(word, column)
            }
            None => Tensor::constant(Number::Int(1), column, DType::F32, self.device()),
        };
        let share = counted(&share);
        let mut losses = counted(&picked) * &share;
        let smoothing = options.label_smoothing;
        if smoothing > 0.0 {
            let weighted = self.weighted(word, axis, options.weight.as_ref());
            let all = -weighted.reduced(word, Reduction::Sum, row, true) / self.dim(axis as isize).max(1) as f64;
            losses = losses * (1.0 - smoothing) + counted(&all) * smoothing;
        }
        if options.reduce == Reduce::Mean {
            let every = AxisSet::all(self.rank());
            let whole = share.reduce(word, Reduction::Sum, every);
            return losses.reduce(word, Reduction::Sum, every) / whole;
        }
        losses.reduce(word, Reduction::Sum, row).settled(word, options.reduce, self)
    }

    /// This tensor times the classes' weights along `axis`.
    #[track_caller]
    fn weighted(&self, word: &str, axis: usize, weight: Option<&Tensor>) -> Tensor {
        match weight {
            None => self.clone(),
            Some(weight) => {
                let rest = (0..self.rank()).filter(|&k| k != axis).fold(AxisSet::default(), AxisSet::and);
                self * weight.wide().to_shape(word, self.shape().kept(rest))
            }
        }
    }

    /// `-(target ln(x) + (1 - target) ln(1 - x))` of probabilities, reduced.
    ///
    /// A logarithm of 0 counts as -100, and its derivative as 0.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, target) = (Tensor::new([0.5, 0.0], &Device::cpu()), Tensor::new([1.0, 1.0], &Device::cpu()));
    /// let y = x.binary_cross_entropy(&target, Reduce::None).to_vec::<f32>()?;
    /// assert!((y[0] - 0.6931472).abs() < 1e-5 && y[1] == 100.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn binary_cross_entropy(&self, target: &Tensor, reduce: Reduce) -> Tensor {
        let word = "binary_cross_entropy";
        given!(word, &[self, target], same_shapes(self, target));
        let (x, t) = (self.wide(), target.wide());
        // The least normal number: below it, a device may take a logarithm of 0.
        let (none, full) = (x.lt(f64::from(f32::MIN_POSITIVE)), x.ge(1.0));
        let ln = none.where_(-100.0, none.where_(1.0, &x).ln());
        let ln_rest = full.where_(-100.0, (-full.where_(0.0, &x)).log1p());
        (-(&t * ln + (1.0 - &t) * ln_rest)).settled(word, reduce, self)
    }

    /// [`Tensor::binary_cross_entropy`] of `sigmoid(x)`, without overflow; `pos_weight`, which
    /// broadcasts, is how much a target of 1 counts.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, target) = (Tensor::new([0.0, 100.0], &Device::cpu()), Tensor::new([1.0, 0.0], &Device::cpu()));
    /// let y = x.binary_cross_entropy_with_logits(&target, None, Reduce::None).to_vec::<f32>()?;
    /// assert!((y[0] - 0.6931472).abs() < 1e-5 && y[1] == 100.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn binary_cross_entropy_with_logits(
        &self,
        target: &Tensor,
        pos_weight: Option<&Tensor>,
        reduce: Reduce,
    ) -> Tensor {
        let word = "binary_cross_entropy_with_logits";
        let src: Vec<&Tensor> = [self, target].into_iter().chain(pos_weight).collect();
        given!(word, &src, {
            same_shapes(self, target)?;
            match pos_weight.filter(|w| !w.shape().expands_to(self.shape())) {
                Some(w) => Err(format!("pos_weight {} does not broadcast to {}", w.shape(), self.shape())),
                None => Ok(()),
            }
        });
        let (x, t) = (self.wide(), target.wide());
        // `softplus(x)` and `softplus(-x)`, which have a logarithm in common. Either as the other and a
        // difference would lose what is small beside `x`.
        let (positive, decay) = x.decay();
        let rest = decay.log1p();
        let [over, under] = [positive.where_(&x, 0.0), positive.where_(0.0, -&x)].map(|x| x + &rest);
        let missed = match pos_weight {
            Some(weight) => under * weight.wide(),
            None => under,
        };
        (&t * missed + (1.0 - &t) * over).settled(word, reduce, self)
    }

    /// The Kullback-Leibler divergence `target (ln(target) - x)` of log-probabilities `x` from
    /// probabilities, reduced; with `log_target` the target holds logarithms as well.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, target) = (Tensor::new([-1.0, -2.0], &Device::cpu()), Tensor::new([1.0, 0.0], &Device::cpu()));
    /// assert_eq!(x.kl_div(&target, false, Reduce::Sum).item::<f32>()?, 1.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn kl_div(&self, target: &Tensor, log_target: bool, reduce: Reduce) -> Tensor {
        given!("kl_div", &[self, target], same_shapes(self, target));
        let (x, t) = (self.wide(), target.wide());
        let losses = if log_target {
            t.exp() * (&t - x)
        } else {
            let none = t.le(0.0);
            none.where_(0.0, &t * (none.where_(1.0, &t).ln() - x))
        };
        losses.settled("kl_div", reduce, self)
    }

    /// `x · z / (max(|x|, eps) max(|z|, eps))` along `axis`, which disappears; the shapes broadcast.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, z) = (Tensor::new([1.0, 0.0], &Device::cpu()), Tensor::new([3.0, 4.0], &Device::cpu()));
    /// assert!((x.cosine_similarity(&z, -1, 1e-8).item::<f32>()? - 0.6).abs() < 1e-6);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cosine_similarity(&self, other: &Tensor, axis: isize, eps: f64) -> Tensor {
        self.cosine("cosine_similarity", other, axis, eps)
    }

    /// For rows `[n, d]` whose `target: [n]` is 1, `1 - cos(x, z)`; where it is -1,
    /// `max(cos(x, z) - margin, 0)`; 0 for any other target; reduced.
    ///
    /// As PyTorch has it, `cos(x, z)` is `x · z / sqrt((x · x + 1e-12) (z · z + 1e-12))` here.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let (x, z) = (Tensor::new([[1.0, 0.0]], &Device::cpu()), Tensor::new([[0.0, 4.0]], &Device::cpu()));
    /// let target = Tensor::new([1.0], &Device::cpu());
    /// assert_eq!(x.cosine_embedding_loss(&z, &target, 0.0, Reduce::Mean).item::<f32>()?, 1.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cosine_embedding_loss(&self, other: &Tensor, target: &Tensor, margin: f64, reduce: Reduce) -> Tensor {
        let word = "cosine_embedding_loss";
        given!(word, &[self, other, target], {
            same_shapes(self, other)?;
            match self.dims().split_last() {
                Some((_, rows)) if rows == target.dims() => Ok(()),
                _ => Err(format!("rows of {} with targets {}", self.shape(), target.shape())),
            }
        });
        let (x, z, target) = (self.wide(), other.wide(), target.wide());
        let row = AxisSet::one(target.rank());
        let [dot, xx, zz] = [&x * &z, &x * &x, &z * &z].map(|x| x.reduce(word, Reduction::Sum, row));
        let cos = dot * (xx + 1e-12).rsqrt() * (zz + 1e-12).rsqrt();
        let apart = target.eq(-1.0).where_((&cos - margin).relu(), 0.0);
        target.eq(1.0).where_(1.0 - cos, apart).settled(word, reduce, self)
    }

    #[track_caller]
    fn cosine(&self, word: &str, other: &Tensor, axis: isize, eps: f64) -> Tensor {
        let (shape, row) = given!(word, &[self, other], {
            let shape = self.shape().broadcast(other.shape())?;
            Ok((shape, AxisSet::one(shape.axis(axis)?)))
        });
        let dtype = self.float_dtype().promote(other.float_dtype());
        let x = self.wide().expand_to(word, shape);
        let z = other.wide().expand_to(word, shape);
        let dot = (&x * &z).reduce(word, Reduction::Sum, row);
        (dot * x.length_recip(word, row, eps) * z.length_recip(word, row, eps)).cast(dtype)
    }

    /// `1 / max(|x|, eps)` over `row`; the derivative at 0 is 0, not the NaN of a root's.
    #[track_caller]
    fn length_recip(&self, word: &str, row: AxisSet, eps: f64) -> Tensor {
        let square = (self * self).reduce(word, Reduction::Sum, row);
        square.gt(eps * eps).where_(&square, eps * eps).rsqrt()
    }

    /// `self - target` in `f32`, of equal shapes.
    #[track_caller]
    fn difference(&self, word: &str, target: &Tensor) -> Tensor {
        given!(word, &[self, target], same_shapes(self, target));
        self.wide() - target.wide()
    }

    /// Single losses of `x`, reduced, in the dtype of `x`.
    #[track_caller]
    fn settled(&self, word: &str, reduce: Reduce, x: &Tensor) -> Tensor {
        let n = match reduce {
            Reduce::Mean => self.numel(),
            Reduce::BatchMean => self.dims().first().copied().unwrap_or(1),
            Reduce::Sum => 1,
            Reduce::None => return self.cast(x.float_dtype()),
        };
        let sum = self.reduce(word, Reduction::Sum, AxisSet::all(self.rank()));
        // The mean of nothing is 0 / 0.
        (if n == 1 { sum } else { sum * (1.0 / n as f64) }).cast(x.float_dtype())
    }
}

fn positive(what: &str, value: f64) -> Result<(), String> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(format!("{what} {value} must be positive")),
    }
}

fn same_shapes(x: &Tensor, target: &Tensor) -> Result<(), String> {
    match x.shape() == target.shape() {
        true => Ok(()),
        false => Err(format!("shapes differ: {} and {}", x.shape(), target.shape())),
    }
}

/// The axis of the classes, when target and weight fit.
fn class_axis(x: &Tensor, target: &Tensor, weight: Option<&Tensor>) -> Result<usize, String> {
    let axis = usize::from(x.rank() > 1);
    let Some(&classes) = x.dims().get(axis) else {
        return Err(format!("takes [n, classes, …] or [classes], got {}", x.shape()));
    };
    let wanted = if target.dtype().is_float() { *x.shape() } else { x.shape().without(AxisSet::one(axis)) };
    if *target.shape() != wanted {
        return Err(format!("{} with a {} target {}, which takes {wanted}", x.shape(), target.dtype(), target.shape()));
    }
    match weight.filter(|w| w.dims() != [classes]) {
        Some(w) => Err(format!("{classes} classes take a weight [{classes}], got {}", w.shape())),
        None => Ok(axis),
    }
}
