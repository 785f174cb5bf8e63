//! [`Pass`]: whether a model trains or is asked, the random key of a training pass, and what it
//! collects on the way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::graph::tensor::Tensor;
use crate::ops::threefry::threefry2x32;
use crate::params::{Param, Params};

/// How a model is run: an argument of every `forward`, so that nobody can forget it.
///
/// ```
/// # use wgrad::prelude::*;
/// let params = Params::new(&Device::cpu(), 42);
/// assert!(Pass::train(&params).is_train() && !Pass::eval().is_train());
/// ```
pub struct Pass {
    train: Option<Training>,
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
    /// What was collected; nothing is left.
    pub(super) fn take(&self) -> Vec<(Param, Tensor)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pass {
    /// A training pass: gradients reach the weights, dropout drops, running statistics are updated
    /// by the optimizer's next step. Each pass has random numbers of its own.
    pub fn train(params: &Params) -> Pass {
        let collected: Arc<Collected> = Arc::default();
        let mut state = params.store.lock();
        state.passes += 1;
        state.live.retain(|pass| pass.strong_count() > 0);
        state.live.push(Arc::downgrade(&collected));
        let seed = params.store.seed;
        // Weights are drawn under other counters of the same seed.
        let key = threefry2x32(
            [(seed >> 32) as u32, seed as u32],
            [(state.passes >> 32) as u32 | 1 << 31, state.passes as u32],
        );
        drop(state);
        Pass { train: Some(Training { key, params: params.clone(), draws: AtomicU64::new(0), collected }) }
    }

    /// A pass that only asks: weights are read as they are, nothing is random, nothing changes.
    pub fn eval() -> Pass {
        Pass { train: None }
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
    pub fn record(&self, param: &Param, value: &Tensor) {
        let Some(train) = &self.train else { return };
        let mut found = train.collected.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|(known, _)| known != param);
        found.push((param.clone(), value.detach()));
    }

    /// The value that this pass recorded for `param`, if it did.
    pub(super) fn newest(&self, param: &Param) -> Option<Tensor> {
        let found = self.train.as_ref()?.collected.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().find(|(known, _)| known == param).map(|(_, value)| value.clone())
    }
}
