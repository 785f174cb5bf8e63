//! The loader: batches of a dataset on a device, in an order that seed and epoch determine.
//!
//! Every batch has the same shape, so that one plan serves all. Errors come in the batch, as
//! invalid tensors. Knows how to share work among threads where there are any; knows no file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::data::dataset::{Dataset, Sample};
use crate::data::hash::FileHash;
use crate::data::order::{MOST, permutation, weighted};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::ops::given;

/// Some samples on a device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The inputs, `[batch size, ..]`.
    pub x: Tensor,
    /// The labels, `[batch size, ..]`.
    pub y: Tensor,
    /// `f32 [batch size]`: 1 for a sample of the epoch, 0 for one that only fills up the last batch.
    pub mask: Tensor,
    /// How many samples of the epoch are in it; they come first.
    pub n: usize,
}

impl Batch {
    /// The batch, or the error that ended the epoch.
    pub fn check(&self) -> Result<&Batch> {
        self.x.check().map(|_| self)
    }

    /// The mean of `losses` `[batch size, ..]` over the samples that count.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::data::{Array, Loader, TensorDataset};
    /// let data = TensorDataset::unlabelled(Array::new(&[1.0f32, 2.0, 6.0], [3])?)?;
    /// for (k, batch) in Loader::new(data, 2).epoch(&Device::cpu()).enumerate() {
    ///     assert_eq!(batch.mean(&batch.x).item::<f32>()?, [1.5, 6.0][k]);
    /// }
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn mean(&self, losses: &Tensor) -> Tensor {
        let mut dims = vec![1; losses.rank()];
        given!("mean", &[losses, &self.mask], {
            match dims.first_mut() {
                Some(first) if losses.dim(0) == self.mask.numel() => *first = self.mask.numel(),
                _ => return Err(format!("losses {} of {} samples", losses.shape(), self.mask.numel())),
            }
            Ok(())
        });
        let each = losses.numel() / self.mask.numel().max(1);
        (losses * self.mask.reshape(dims)).sum(..) / (self.mask.sum(..) * each as f64)
    }
}

/// Where an epoch stands: all that is needed to go on with the batch that follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// How many of its batches were given out.
    pub batch: u64,
}

/// Makes batches of a dataset.
///
/// The order is that of the dataset unless [`shuffle`](Loader::shuffle) or
/// [`weighted`](Loader::weighted) says otherwise. The last batch of an epoch is filled up with
/// samples from the epoch's beginning, whose `mask` is 0, unless [`drop_last`](Loader::drop_last)
/// leaves it out.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::{Array, Loader, TensorDataset};
/// let (x, y) = (Array::new(&[0.0f32, 1.0, 2.0], [3, 1])?, Array::new(&[0, 1, 0], [3])?);
/// let loader = Loader::new(TensorDataset::of_arrays(x, y)?, 2);
/// for (k, batch) in loader.epoch(&Device::cpu()).enumerate() {
///     assert_eq!(batch.x.dims(), [2, 1]);
///     assert_eq!(batch.mask.to_vec::<f32>()?, [[1.0, 1.0], [1.0, 0.0]][k]);
/// }
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    batch_size: usize,
    order: Order,
    samples: usize,
    drop_last: bool,
    workers: usize,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
enum Order {
    AsIs,
    Shuffled(u64),
    Weighted {
        cumulated: Arc<Vec<f64>>,
        seed: u64,
    },
    /// What was wrong with the weights.
    Refused(String),
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    position: Position,
    /// Whether the next epoch goes on from `position`; otherwise it is the one after.
    resumes: bool,
}

impl Loader {
    /// Batches of `batch_size` samples of `dataset`, in its order, prepared by one worker.
    pub fn new(dataset: impl Dataset + 'static, batch_size: usize) -> Loader {
        let samples = dataset.len();
        let state = Mutex::new(State { position: Position::default(), resumes: true });
        Loader {
            dataset: Arc::new(dataset),
            batch_size,
            order: Order::AsIs,
            samples,
            drop_last: false,
            workers: 1,
            state,
        }
    }

    /// Another random order in each epoch, all of them determined by `seed`.
    pub fn shuffle(mut self, seed: u64) -> Loader {
        if !matches!(self.order, Order::Refused(_)) {
            self.order = Order::Shuffled(seed);
        }
        self.samples = self.dataset.len();
        self
    }

    /// Draws `samples` of them an epoch with replacement, each as often as its weight says.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::data::{Array, Loader, TensorDataset};
    /// let data = TensorDataset::unlabelled(Array::new(&[0, 1, 2], [3])?)?;
    /// let loader = Loader::new(data, 4).weighted([0.0, 1.0, 3.0], 100, 42);
    /// for batch in loader.epoch(&Device::cpu()) {
    ///     assert!(!batch.x.to_vec::<i32>()?.contains(&0));
    /// }
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn weighted(mut self, weights: impl IntoIterator<Item = f64>, samples: usize, seed: u64) -> Loader {
        let mut total = 0.0;
        let mut wrong = None;
        let mut cumulated = Vec::new();
        for weight in weights {
            if !(weight >= 0.0 && weight.is_finite()) {
                wrong = wrong.or(Some(format!("{weight} is no weight")));
            }
            total += weight;
            cumulated.push(total);
        }
        if cumulated.len() != self.dataset.len() {
            wrong = wrong.or(Some(format!("{} weights for {} samples", cumulated.len(), self.dataset.len())));
        }
        if samples > MOST {
            wrong = wrong.or(Some(format!("{samples} samples an epoch")));
        }
        if samples > 0 && !(total > 0.0 && total.is_finite()) {
            wrong = wrong.or(Some(format!("the weights' sum is {total}")));
        }
        self.order = match wrong {
            Some(fact) => Order::Refused(fact),
            None => Order::Weighted { cumulated: Arc::new(cumulated), seed },
        };
        self.samples = samples;
        self
    }

    /// Whether a last batch with fewer samples is left out.
    pub fn drop_last(mut self, drop_last: bool) -> Loader {
        self.drop_last = drop_last;
        self
    }

    /// How many threads prepare batches ahead; 0 prepares each when it is asked for. The batches
    /// are the same. Without the feature `threads`, and in a browser, it is always 0.
    pub fn workers(mut self, workers: usize) -> Loader {
        self.workers = workers;
        self
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        match (self.batch_size, self.drop_last) {
            (0, _) => 0,
            (n, true) => self.samples / n,
            (n, false) => self.samples.div_ceil(n),
        }
    }

    /// How many samples an epoch has.
    pub fn samples(&self) -> usize {
        if self.drop_last { self.batches() * self.batch_size } else { self.samples }
    }

    /// The samples a batch has.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The dataset.
    pub fn dataset(&self) -> &dyn Dataset {
        &*self.dataset
    }

    /// The files the dataset came from.
    pub fn files(&self) -> Vec<FileHash> {
        self.dataset.files()
    }

    /// The batches of the next epoch; after [`restore`](Loader::restore), what is left of that one.
    pub fn epoch(&self, device: &Device) -> Epoch<'_> {
        let batches = self.batches();
        let position = {
            let mut state = self.state();
            if !state.resumes || state.position.batch >= batches.max(1) as u64 {
                state.position = Position { epoch: state.position.epoch.wrapping_add(1), batch: 0 };
            }
            state.resumes = false;
            state.position
        };
        let fault = match &self.order {
            Order::Refused(fact) => Some(fact.clone()),
            _ if !(1..=MOST).contains(&self.batch_size) || self.samples > MOST => {
                Some("a batch of 0 samples, or too many".into())
            }
            _ => None,
        };
        let order = match &self.order {
            _ if fault.is_some() => Vec::new(),
            Order::Shuffled(seed) => permutation(self.samples, *seed, position.epoch),
            Order::Weighted { cumulated, seed } => weighted(self.samples, cumulated, *seed, position.epoch),
            Order::AsIs => (0..self.samples).collect(),
            Order::Refused(_) => Vec::new(),
        };
        let work = Arc::new(Work { dataset: self.dataset.clone(), order, batch_size: self.batch_size });
        // A position is less than the number of batches, or there are none.
        let next = position.batch as usize;
        let ahead = if fault.is_none() { ahead::start(&work, self.workers, next, batches) } else { Vec::new() };
        Epoch {
            loader: self,
            device: device.clone(),
            work,
            next,
            start: next,
            batches,
            fault,
            epoch: position.epoch,
            ahead,
        }
    }

    /// Where the loader stands: behind the last batch that was given out.
    pub fn position(&self) -> Position {
        self.state().position
    }

    /// Goes on from `position`, in the next call of [`epoch`](Loader::epoch).
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::data::{Array, Loader, TensorDataset};
    /// let data = TensorDataset::unlabelled(Array::new(&[1, 2, 3, 4], [4])?)?;
    /// let loader = Loader::new(data, 1).shuffle(7);
    /// let (first, position) = (loader.epoch(&Device::cpu()).next(), loader.position());
    /// loader.restore(position);
    /// assert_eq!(loader.epoch(&Device::cpu()).count(), 3);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn restore(&self, position: Position) {
        *self.state() = State { position, resumes: true };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a worker needs to make any batch.
struct Work {
    dataset: Arc<dyn Dataset>,
    order: Vec<usize>,
    batch_size: usize,
}

impl Work {
    /// Batch number `k`, and how many of its samples are the epoch's.
    fn batch(&self, k: usize) -> Result<(Sample, usize)> {
        let rest = self.order.get(k.saturating_mul(self.batch_size)..).unwrap_or(&[]);
        let n = rest.len().min(self.batch_size);
        let indices: Vec<usize> =
            rest.iter().take(n).chain(self.order.iter().cycle()).take(self.batch_size).copied().collect();
        let sample = self.dataset.batch(&indices)?;
        match sample.x.len() == self.batch_size && sample.y.len() == self.batch_size {
            true => Ok((sample, n)),
            false => {
                let fact = format!(
                    "a batch of {} samples was asked for, got x {} and y {}",
                    self.batch_size,
                    sample.x.shape(),
                    sample.y.shape()
                );
                Err(Error::new(ErrorKind::Operand, "loader", fact))
            }
        }
    }
}

/// The batches of an epoch; an error comes as a batch of invalid tensors, the last one.
pub struct Epoch<'a> {
    loader: &'a Loader,
    device: Device,
    work: Arc<Work>,
    epoch: u64,
    start: usize,
    next: usize,
    batches: usize,
    fault: Option<String>,
    ahead: Vec<ahead::Worker>,
}

impl Iterator for Epoch<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let made = match self.fault.take() {
            Some(fact) => Err(Error::new(ErrorKind::Operand, "loader", fact)),
            None if self.next >= self.batches => return None,
            None => match ahead::take(&self.ahead, self.next - self.start) {
                Some(made) => made,
                None => self.work.batch(self.next),
            },
        };
        match made {
            Ok((Sample { x, y }, n)) => {
                self.next += 1;
                self.loader.state().position = Position { epoch: self.epoch, batch: self.next as u64 };
                let mask: Vec<f32> = (0..self.work.batch_size).map(|k| if k < n { 1.0 } else { 0.0 }).collect();
                let mask = Tensor::from_slice(&mask, [mask.len()], &self.device);
                Some(Batch { x: x.into_tensor(&self.device), y: y.into_tensor(&self.device), mask, n })
            }
            Err(error) => {
                self.next = self.batches;
                let [x, y, mask] = [(); 3].map(|()| Tensor::from_error(error.clone(), &self.device));
                Some(Batch { x, y, mask, n: 0 })
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = if self.fault.is_some() { 1 } else { self.batches.saturating_sub(self.next) };
        (n, Some(n))
    }
}

impl ExactSizeIterator for Epoch<'_> {}

/// Threads that make batches ahead: worker `w` of `n` makes every `n`th, so their order is fixed.
#[cfg(all(feature = "threads", not(target_arch = "wasm32")))]
mod ahead {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    /// Batches each worker prepares ahead.
    const AHEAD: usize = 2;

    pub type Worker = Receiver<Result<(Sample, usize)>>;

    /// Workers for the batches `next..batches`; none where threads cannot be had.
    pub fn start(work: &Arc<Work>, workers: usize, next: usize, batches: usize) -> Vec<Worker> {
        let workers = workers.min(batches.saturating_sub(next));
        let mut started = Vec::new();
        for worker in 0..workers {
            let (send, receive) = sync_channel(AHEAD);
            let work = work.clone();
            let run = move || {
                for k in (next + worker..batches).step_by(workers) {
                    // Nobody receives any more when the epoch is dropped.
                    if send.send(work.batch(k)).is_err() {
                        return;
                    }
                }
            };
            match std::thread::Builder::new().name("wgrad loader".into()).spawn(run) {
                Ok(_) => started.push(receive),
                Err(_) => return Vec::new(),
            }
        }
        started
    }

    /// The batch that is `k`th after the first; none where there are no workers.
    pub fn take(workers: &[Worker], k: usize) -> Option<Result<(Sample, usize)>> {
        let worker = workers.get(k.checked_rem(workers.len())?)?;
        let ended = |_| Err(Error::new(ErrorKind::Device, "loader", "a worker ended early: its dataset panicked"));
        Some(worker.recv().unwrap_or_else(ended))
    }
}

/// No threads: every batch is made when it is asked for.
#[cfg(not(all(feature = "threads", not(target_arch = "wasm32"))))]
mod ahead {
    use super::*;

    pub type Worker = ();

    pub fn start(_: &Arc<Work>, _: usize, _: usize, _: usize) -> Vec<Worker> {
        Vec::new()
    }

    pub fn take(_: &[Worker], _: usize) -> Option<Result<(Sample, usize)>> {
        None
    }
}
