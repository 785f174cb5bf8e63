//! [`Pass`]: whether a model trains or is asked, the precision of its products, the random key of a
//! training pass, and what it collects on the way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::dtype::DType;
use crate::graph::tensor::Tensor;
use crate::ops::threefry::threefry2x32;
use crate::params::{Param, Params, State};

/// How a model is run: an argument of every `forward`, so that nobody can forget it.
///
/// ```
/// # use wgrad::prelude::*;
/// let params = Params::new(&Device::cpu(), 42);
/// assert!(Pass::train(&params).is_train() && !Pass::eval().is_train());
/// ```
pub struct Pass {
    train: Option<Training>,
    autocast: Option<Autocast>,
}

/// What products are rounded to, and how: as functions, so that a program which never asks for it is
/// linked without them.
#[derive(Clone, Copy)]
struct Autocast {
    dtype: DType,
    operand: fn(&Tensor, DType) -> Tensor,
    result: fn(&Tensor, DType) -> Tensor,
}

struct Training {
    key: [u32; 2],
    params: Params,
    /// Draws so far.
    draws: AtomicU64,
    collected: Arc<Collected>,
}

/// New values of running statistics, until a step computes and keeps them.
#[derive(Default)]
pub(super) struct Collected(Mutex<Vec<(Param, Tensor)>>);

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Vec<(Param, Tensor)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was collected; nothing is left.
    pub(super) fn take(&self) -> Vec<(Param, Tensor)> {
        std::mem::take(&mut *self.lock())
    }

    /// What was collected for `param`.
    pub(super) fn of(&self, param: &Param) -> Option<Tensor> {
        self.lock().iter().find(|(known, _)| known == param).map(|(_, value)| value.clone())
    }
}

impl Pass {
    /// A training pass: gradients reach the weights, dropout drops, running statistics are updated
    /// by the optimizer's next step. Each pass has random numbers of its own.
    pub fn train(params: &Params) -> Pass {
        let collected: Arc<Collected> = Arc::default();
        let mut state = params.store.lock();
        state.passes = state.passes.wrapping_add(1);
        state.live.retain(|pass| pass.strong_count() > 0);
        state.live.push(Arc::downgrade(&collected));
        let seed = params.store.seed;
        // Weights are drawn under other counters of the same seed.
        let key = threefry2x32(
            [(seed >> 32) as u32, seed as u32],
            [(state.passes >> 32) as u32 | 1 << 31, state.passes as u32],
        );
        drop(state);
        let train = Training { key, params: params.clone(), draws: AtomicU64::new(0), collected };
        Pass { train: Some(train), autocast: None }
    }

    /// A pass that only asks: weights are read as they are, nothing is random, nothing changes.
    pub fn eval() -> Pass {
        Pass { train: None, autocast: None }
    }

    /// This pass in mixed precision: whatever multiplies does so in `dtype`, `f16` or `bf16`.
    ///
    /// Every tensor stays `f32`, so that sums, losses, exponentials and updates are what they were; what
    /// is rounded to `dtype` lies in memory in 16 bits.
    ///
    /// | | operands | result | compute |
    /// |---|---|---|---|
    /// | `Linear`, convolutions, recurrent layers | rounded | rounded, and so is its cotangent | `f32` sums |
    /// | attention | rounded, by the projections around it | likewise | `f32` scores and softmax |
    /// | norms, softmax, activations, dropout, pools, embeddings | as they come | `f32` | `f32` |
    /// | every word on a tensor, losses | as they come | `f32` | `f32` |
    /// | weights, their gradients, optimizers | | `f32` | `f32` |
    ///
    /// A module of your own says [`Pass::operand`] and [`Pass::result`]. Gradients that are too small for
    /// `f16` want a [`LossScale`](crate::optim::LossScale); `bf16` needs none. See
    /// [`Trainer::autocast`](crate::train::Trainer::autocast) for both at once.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let params = Params::new(&Device::cpu(), 42);
    /// let fc = nn::Linear::new(&params.at("fc"), 3, 2);
    /// let x = Tensor::new([[0.1, 0.2, 0.3]], &Device::cpu());
    /// let (y, low) = (fc.forward(&x, &Pass::eval()), fc.forward(&x, &Pass::eval().autocast(DType::F16)));
    /// assert_eq!(low.dtype(), DType::F32);
    /// assert_eq!(low.to_vec::<f32>()?, low.cast(DType::F16).cast(DType::F32).to_vec::<f32>()?);
    /// assert!((y - low).abs().max(..).item::<f32>()? < 1e-3);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn autocast(self, dtype: DType) -> Pass {
        let result = |y: &Tensor, dtype| y.cast(dtype).cast(DType::F32);
        let operand = |x: &Tensor, dtype| x.cast(dtype).cast(DType::F32).in_place_of(x);
        Pass { autocast: (dtype != DType::F32).then_some(Autocast { dtype, operand, result }), ..self }
    }

    /// `x` as something that is multiplied: rounded as [`Pass::autocast`] says, where it is `f32`. Its
    /// gradient is not rounded, so that weights are moved by what there is.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let params = Params::new(&Device::cpu(), 42);
    /// let w = params.weight("w", [4, 4], Init::XavierUniform { gain: 1.0 });
    /// let square = |x: &Tensor, pass: &Pass| {
    ///     pass.result(&pass.operand(x).matmul(&pass.operand(&w.tensor(pass)))).exp()
    /// };
    /// let pass = Pass::train(&params).autocast(DType::BF16);
    /// assert_eq!(square.forward(&Tensor::ones([2, 4], &Device::cpu()), &pass).dtype(), DType::F32);
    /// ```
    #[track_caller]
    pub fn operand(&self, x: &Tensor) -> Tensor {
        self.rounded(x, |autocast| autocast.operand)
    }

    /// `y`, the result of a product, rounded as [`Pass::autocast`] says; so is what flows back to it.
    #[track_caller]
    pub fn result(&self, y: &Tensor) -> Tensor {
        self.rounded(y, |autocast| autocast.result)
    }

    #[track_caller]
    fn rounded(&self, x: &Tensor, how: fn(&Autocast) -> fn(&Tensor, DType) -> Tensor) -> Tensor {
        match &self.autocast {
            Some(Autocast { dtype, .. }) if !dtype.is_float() => {
                Tensor::invalid("autocast", format!("rounds to f16 or bf16, not {dtype}"), x.device())
            }
            Some(autocast) if x.dtype() == DType::F32 && x.is_valid() => how(autocast)(x, autocast.dtype),
            _ => x.clone(),
        }
    }

    /// The dtype that [`Pass::autocast`] asked for.
    pub fn autocast_dtype(&self) -> Option<DType> {
        self.autocast.map(|autocast| autocast.dtype)
    }

    /// Whether this is a training pass.
    pub fn is_train(&self) -> bool {
        self.train.is_some()
    }

    /// A random key of its own for each call; none in evaluation.
    pub fn key(&self) -> Option<Tensor> {
        let train = self.train.as_ref()?;
        let draw = train.draws.fetch_add(1, Ordering::Relaxed);
        let words = threefry2x32(train.key, [(draw >> 32) as u32, draw as u32]);
        Some(Tensor::new(words, train.params.device()))
    }

    /// Notes the new value of a running statistic: the optimizer's next step computes it and keeps
    /// it if the step succeeds. Nothing in evaluation.
    ///
    /// From then on [`Param::tensor`] gives this value in every training pass of the store, until a step
    /// was made or this pass is gone, so that of several passes before a step each goes on from the other.
    pub fn record(&self, param: &Param, value: &Tensor) {
        let Some(train) = &self.train else { return };
        train.params.store.lock().newest = Some(newest);
        let mut found = train.collected.lock();
        found.retain(|(known, _)| known != param);
        found.push((param.clone(), value.detach()));
    }

    /// The last value that a training pass of this one's store recorded for `param`, if one did.
    pub(super) fn newest(&self, param: &Param) -> Option<Tensor> {
        let state = self.train.as_ref()?.params.store.lock();
        state.newest?(&state, param)
    }
}

/// What passes that are still there recorded for `param`, the last of it.
fn newest(state: &State, param: &Param) -> Option<Tensor> {
    let passes = state.live.iter().filter_map(Weak::upgrade);
    passes.filter_map(|pass| pass.of(param)).max_by_key(|value| value.0.id)
}
