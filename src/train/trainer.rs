//! [`Trainer`]: epochs of steps with evaluation, progress, checkpoints, curves and a record.
//!
//! It does nothing a plain loop could not: `fit` reads like one. Knows no model; a closure is it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::data::{Batch, Loader};
use crate::device::clock::Clock;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::tensor::Tensor;
use crate::io::file::fault;
use crate::io::json::{Value, quoted};
use crate::optim::{LossScale, Optimizer, Rule};
use crate::params::{Params, Pass};
use crate::train::record::facts;
use crate::train::tracker::Trackers;
use crate::train::{Checkpoint, Curves, Metric, Progress, Record, RunStart, TensorBoard, Tracker};

/// Losses that may be on their way from the device, so that it never waits for us.
const UNREAD_MAX: usize = 16;

/// What a model makes of a batch.
pub struct Outcome {
    /// The loss: one number.
    pub loss: Tensor,
    /// What metrics look at.
    pub outputs: Tensor,
}

/// One epoch of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// Its number, from 0.
    pub epoch: u64,
    /// The mean loss of its steps.
    pub train_loss: f64,
    /// The mean loss over the test data, where there are any.
    pub test_loss: Option<f64>,
    /// The metrics over the test data, by name.
    pub metrics: Vec<(String, f64)>,
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every epoch, those before a resumed run began too.
    pub epochs: Vec<EpochReport>,
    /// Seconds since `fit` was called.
    pub seconds: f64,
    /// Whether it ended because nothing became better.
    pub stopped_early: bool,
    /// The first error of each [`Tracker`] that had one; they ended nothing.
    pub tracker_errors: Vec<Error>,
}

/// A run: an optimizer, and what is to be done beside its steps.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::{Array, Loader, TensorDataset};
/// use wgrad::optim::Sgd;
/// use wgrad::train::{Outcome, Trainer};
/// let data = TensorDataset::of_arrays(Array::new(&[1.0f32, 2.0, 3.0], [3, 1])?, Array::new(&[2.0f32, 4.0, 6.0], [3, 1])?)?;
/// let params = Params::new(&Device::cpu(), 42);
/// let w = params.weight("w", [1], Init::Zeros);
/// let mut trainer = Trainer::new(&params, Sgd::new(&params, 0.1)).epochs(30).quiet();
/// let report = trainer.fit(&Loader::new(data, 3), None, |batch, pass| {
///     let outputs = &batch.x * w.tensor(pass);
///     let loss = outputs.mse_loss(&batch.y, Reduce::Mean);
///     Outcome { loss, outputs }
/// })?;
/// assert!(report.epochs[29].train_loss < 1e-3);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct Trainer<R> {
    params: Params,
    optimizer: Optimizer<R>,
    epochs: u64,
    folder: Option<PathBuf>,
    every: Option<u64>,
    resume: bool,
    autocast: Option<DType>,
    quiet: bool,
    patience: Option<usize>,
    metrics: Vec<Box<dyn Metric>>,
    settings: Vec<(String, String)>,
    trackers: Trackers,
    callback: Option<Box<dyn FnMut(&EpochReport)>>,
}

impl<R: Rule> Trainer<R> {
    /// One epoch of `optimizer` over the weights of `params`, with nothing written to disk.
    pub fn new(params: &Params, optimizer: Optimizer<R>) -> Trainer<R> {
        Trainer {
            params: params.clone(),
            optimizer,
            epochs: 1,
            folder: None,
            every: None,
            resume: false,
            autocast: None,
            quiet: false,
            patience: None,
            metrics: Vec::new(),
            settings: Vec::new(),
            trackers: Trackers::default(),
            callback: None,
        }
    }

    /// How many epochs there are in all.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.epochs = epochs;
        self
    }

    /// Writes to `folder`: `last.safetensors` and `best.safetensors`, `record.jsonl`, `curves.svg`
    /// and TensorBoard's events.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().into());
        self
    }

    /// Saves the last state after every `steps` steps, too, not only after each epoch.
    pub fn checkpoint_every(mut self, steps: u64) -> Self {
        self.every = Some(steps.max(1));
        self
    }

    /// Goes on from the folder's last state, where there is one.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Trains and evaluates in mixed precision: every pass is [`Pass::autocast`] to `dtype`. For `f16`
    /// the optimizer gets a dynamic [`LossScale`], unless it has one of its own.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::{optim::Sgd, train::Trainer};
    /// let params = Params::new(&Device::cpu(), 42);
    /// let mut trainer = Trainer::new(&params, Sgd::new(&params, 0.1)).autocast(DType::F16);
    /// assert_eq!(trainer.optimizer().present_loss_scale().unwrap().item::<f32>()?, 65536.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn autocast(mut self, dtype: DType) -> Self {
        if dtype == DType::F16 && self.optimizer.present_loss_scale().is_none() {
            self.optimizer = self.optimizer.loss_scale(LossScale::dynamic());
        }
        self.autocast = Some(dtype);
        self.setting("autocast", dtype)
    }

    /// `pass` in the precision of this run.
    fn precise(&self, pass: Pass) -> Pass {
        match self.autocast {
            Some(dtype) => pass.autocast(dtype),
            None => pass,
        }
    }

    /// Shows nothing.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self.trackers.quiet();
        self
    }

    /// Stops when nothing was better for `epochs` epochs.
    pub fn early_stopping(mut self, epochs: usize) -> Self {
        self.patience = Some(epochs);
        self
    }

    /// Measures `metric` on the test data. The first one says which epoch is best; without any it is
    /// the loss.
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.metrics.push(Box::new(metric));
        self
    }

    /// Tells `tracker` of the run: settings, the loss and the learning rate of every step, the numbers
    /// of every epoch, and what was written to the folder.
    pub fn track(mut self, tracker: impl Tracker + 'static) -> Self {
        self.trackers.add(Box::new(tracker));
        self
    }

    /// Notes a setting, in the record too; the last of one name counts.
    pub fn setting(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// Calls `f` after every epoch.
    pub fn on_epoch(mut self, f: impl FnMut(&EpochReport) + 'static) -> Self {
        self.callback = Some(Box::new(f));
        self
    }

    /// The optimizer.
    pub fn optimizer(&mut self) -> &mut Optimizer<R> {
        &mut self.optimizer
    }

    /// Trains on `train` and evaluates on `test` after each epoch; `forward` is the model.
    pub fn fit(
        &mut self,
        train: &Loader,
        test: Option<&Loader>,
        forward: impl Fn(&Batch, &Pass) -> Outcome,
    ) -> Result<Report> {
        let clock = Clock::start();
        let (history, part) = self.begin(train)?;
        let known = train.files();
        let mut files = known.clone();
        let tested = test.map(Loader::files).unwrap_or_default();
        files.extend(tested.into_iter().filter(|file| !known.contains(file)));
        let (device, seed) = (self.params.device().clone(), self.params.seed());
        let settings: Vec<(&str, String)> = self.settings.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let mut record = None;
        if let Some(folder) = &self.folder {
            let board = TensorBoard::create(folder)?;
            record = Some(Record::begin(folder.join("record.jsonl"), &device, seed, &files, &settings)?);
            self.trackers.add(Box::new(board));
        }
        let (folder, steps, facts) = (self.folder.as_deref(), self.optimizer.steps(), facts(&device, seed, &files));
        let start = RunStart { folder, steps, settings: &self.settings, facts: &facts };
        self.trackers.tell(|tracker| tracker.begin(&start));
        let report = self.epochs_of(train, test, &forward, (history, part), record.as_mut(), &clock);
        for name in ["best.safetensors", "curves.svg", "record.jsonl"] {
            let path = self.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists());
            path.iter().for_each(|path| self.trackers.tell(|tracker| tracker.file(path)));
        }
        self.trackers.tell(|tracker| tracker.end(report.is_ok()));
        if self.folder.is_some() {
            self.trackers.pop();
        }
        let tracker_errors = self.trackers.take_faults();
        report.map(|report| Report { tracker_errors, ..report })
    }

    /// The epochs that are left.
    fn epochs_of(
        &mut self,
        train: &Loader,
        test: Option<&Loader>,
        forward: &impl Fn(&Batch, &Pass) -> Outcome,
        (mut history, mut part): (Vec<EpochReport>, Sum),
        mut record: Option<&mut Record>,
        clock: &Clock,
    ) -> Result<Report> {
        let greater = self.metrics.first().is_none_or(|metric| metric.greater_is_better());
        let mut stopped_early = self.is_patience_over(&history, greater);
        while (history.len() as u64) < self.epochs && !stopped_early {
            let epoch = history.len() as u64;
            let title = format!("epoch {}/{}", epoch + 1, self.epochs);
            let done = part.steps;
            let mut progress = (!self.quiet).then(|| Progress::new(&title, train.batches() as u64, done));
            let train_loss = self.run_epoch(train, forward, &history, std::mem::take(&mut part), progress.as_mut())?;
            let (test_loss, metrics) = match test {
                Some(test) => {
                    let (loss, metrics) = self.evaluate(test, forward)?;
                    (Some(loss), metrics)
                }
                None => (None, Vec::new()),
            };
            let report = EpochReport { epoch, train_loss, test_loss, metrics };
            if let Some(progress) = progress {
                progress.finish(&format!("{title}  {report}"));
            }
            if let Some(callback) = &mut self.callback {
                callback(&report);
            }
            let numbers = report.numbers();
            let named: Vec<(&str, f64)> = numbers.iter().map(|(name, x)| (name.as_str(), *x)).collect();
            if let Some(record) = &mut record {
                record
                    .event("epoch", &[&[("epoch", epoch as f64), ("seconds", clock.seconds())], &named[..]].concat())?;
            }
            let steps = self.optimizer.steps();
            self.trackers.tell(|tracker| tracker.numbers(steps, &named));
            let score = report.score(greater);
            let best = history.iter().map(|report| report.score(greater)).fold(f64::NEG_INFINITY, f64::max);
            history.push(report);
            if let Some(folder) = self.folder.clone() {
                // Before the last state, which says that this epoch is over: a run that is cut goes on after it.
                if score > best {
                    self.save(&folder.join("best.safetensors"), train, &history, &Sum::default())?;
                }
                self.save(&folder.join("last.safetensors"), train, &history, &Sum::default())?;
                curves(&history).save(folder.join("curves.svg"))?;
            }
            stopped_early = self.is_patience_over(&history, greater);
        }
        let seconds = clock.seconds();
        if let Some(record) = &mut record {
            let (epochs, steps) = (history.len() as f64, self.optimizer.steps() as f64);
            record.event("end", &[("epochs", epochs), ("steps", steps), ("seconds", seconds)])?;
        }
        Ok(Report { epochs: history, seconds, stopped_early, tracker_errors: Vec::new() })
    }

    /// Whether nothing was better for so many epochs that training is to stop.
    fn is_patience_over(&self, history: &[EpochReport], greater: bool) -> bool {
        let scores: Vec<f64> = history.iter().map(|report| report.score(greater)).collect();
        let best_at = (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        self.patience.is_some_and(|patience| best_at.is_some_and(|at| at.saturating_add(patience) < history.len()))
    }

    /// The mean loss over `loader`, and the metrics; weights, running statistics and random numbers
    /// stay what they are.
    pub fn evaluate(
        &mut self,
        loader: &Loader,
        forward: &impl Fn(&Batch, &Pass) -> Outcome,
    ) -> Result<(f64, Vec<(String, f64)>)> {
        self.metrics.iter_mut().for_each(|metric| metric.reset());
        let (mut sum, mut seen) = (0.0, 0);
        for batch in loader.epoch(self.params.device()) {
            batch.check()?;
            let Outcome { loss, outputs } = forward(&batch, &self.precise(Pass::eval()));
            crate::realize([&loss, &outputs])?;
            sum += f64::from(loss.cast(DType::F32).item::<f32>()?) * batch.n as f64;
            seen += batch.n;
            self.metrics.iter_mut().try_for_each(|metric| metric.update(&outputs, &batch.y, batch.n))?;
        }
        if seen == 0 {
            return Err(Error::new(ErrorKind::Operand, "evaluate", "there is nothing to evaluate on"));
        }
        let metrics = self.metrics.iter().map(|metric| (metric.name(), metric.value())).collect();
        Ok((sum / seen as f64, metrics))
    }

    /// The rest of an epoch, of which `sum` is known; gives the mean loss of its steps.
    fn run_epoch(
        &mut self,
        train: &Loader,
        forward: &impl Fn(&Batch, &Pass) -> Outcome,
        history: &[EpochReport],
        mut sum: Sum,
        mut progress: Option<&mut Progress>,
    ) -> Result<f64> {
        let mut unread = VecDeque::new();
        let mut latest = None;
        // A run may have been cut after the last step of an epoch, before it was evaluated.
        let whole = sum.steps > 0 && train.position().batch >= train.batches() as u64;
        for batch in (!whole).then(|| train.epoch(self.params.device())).into_iter().flatten() {
            batch.check()?;
            let lr = self.optimizer.lr();
            let loss = {
                let pass = self.precise(Pass::train(&self.params));
                let Outcome { loss, outputs } = forward(&batch, &pass);
                // Nobody reads the outputs of a training step.
                drop(outputs);
                self.optimizer.step(self.optimizer.backward(&loss))?;
                loss.cast(DType::F32)
            };
            // The first call only asks for it.
            loss.try_item::<f32>()?;
            unread.push_back(Unread { step: self.optimizer.steps(), lr, loss });
            while let Some(first) = unread.front() {
                let arrived = first.loss.try_item::<f32>()?;
                if arrived.is_none() && unread.len() <= UNREAD_MAX {
                    break;
                }
                latest = self.read(&mut unread, &mut sum)?.or(latest);
            }
            let position = train.position();
            if let Some(progress) = progress.as_deref_mut() {
                progress.set(position.batch, latest.map(|loss| ("loss", loss)).as_slice());
            }
            if let (Some(every), Some(folder)) = (self.every, self.folder.clone())
                && self.optimizer.steps().is_multiple_of(every)
            {
                // Weights are read now anyway.
                while self.read(&mut unread, &mut sum)?.is_some() {}
                self.save(&folder.join("last.safetensors"), train, history, &sum)?;
            }
        }
        while self.read(&mut unread, &mut sum)?.is_some() {}
        match sum.steps {
            0 => Err(Error::new(ErrorKind::Operand, "train", "there is nothing to learn from")),
            steps => Ok(sum.loss / steps as f64),
        }
    }

    /// Reads the loss that waits longest, where there is one, and tells of it.
    fn read(&mut self, unread: &mut VecDeque<Unread>, sum: &mut Sum) -> Result<Option<f64>> {
        let Some(Unread { step, lr, loss }) = unread.pop_front() else { return Ok(None) };
        let loss = f64::from(loss.item::<f32>()?);
        *sum = Sum { loss: sum.loss + loss, steps: sum.steps.saturating_add(1) };
        self.trackers.tell(|tracker| tracker.numbers(step, &[("loss/step", loss), ("learning rate", lr)]));
        Ok(Some(loss))
    }

    /// Makes the folder and goes on from what is in it: the epochs that are over, and what is known of
    /// the next.
    fn begin(&mut self, train: &Loader) -> Result<(Vec<EpochReport>, Sum)> {
        let Some(folder) = &self.folder else { return Ok(Default::default()) };
        std::fs::create_dir_all(folder).map_err(|error| fault("train", folder.display(), error))?;
        let last = folder.join("last.safetensors");
        if !(self.resume && last.exists()) {
            return Ok(Default::default());
        }
        let saved = Checkpoint::load(&last, &self.params, &mut self.optimizer, Some(train))?;
        let broken = |what: &str| Error::new(ErrorKind::File, "train", format!("{}: a broken {what}", last.display()));
        let lines = saved.note("history").unwrap_or("").lines().enumerate();
        let history: Option<Vec<EpochReport>> =
            lines.map(|(epoch, line)| EpochReport::parse(epoch as u64, line)).collect();
        let history = history.ok_or_else(|| broken("history"))?;
        let sum =
            saved.note("epoch").map_or(Some(Sum::default()), Sum::parse).ok_or_else(|| broken("sum of losses"))?;
        let mut position = train.position();
        if (history.len() as u64) > position.epoch {
            (position.epoch, position.batch) = (history.len() as u64, 0);
            train.restore(position);
        }
        if !self.quiet {
            eprintln!(
                "going on from {}: epoch {}, step {}",
                last.display(),
                position.epoch.saturating_add(1),
                self.optimizer.steps()
            );
        }
        Ok((history, sum))
    }

    fn save(&mut self, path: &Path, train: &Loader, history: &[EpochReport], sum: &Sum) -> Result<()> {
        let text: Vec<String> = history.iter().map(EpochReport::line).collect();
        let notes = [("history", text.join("\n")), ("epoch", sum.line())];
        Checkpoint::save(path, &self.params, &mut self.optimizer, Some(train), &notes)
    }
}

/// A step's loss on its way from the device.
struct Unread {
    step: u64,
    lr: f64,
    loss: Tensor,
}

/// The losses of the steps of an epoch so far.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    loss: f64,
    steps: u64,
}

impl Sum {
    /// A line that [`Sum::parse`] reads to the same bits.
    fn line(&self) -> String {
        format!("{:?}\t{}", self.loss, self.steps)
    }

    fn parse(line: &str) -> Option<Sum> {
        let (loss, steps) = line.split_once('\t')?;
        Some(Sum { loss: loss.parse().ok()?, steps: steps.parse().ok()? })
    }
}

fn curves(history: &[EpochReport]) -> Curves {
    let mut curves = Curves::default();
    for report in history {
        for (name, x) in report.numbers() {
            curves.add(&name, report.epoch as f64 + 1.0, x);
        }
    }
    curves
}

impl EpochReport {
    /// Its numbers under the names of curves.
    fn numbers(&self) -> Vec<(String, f64)> {
        let test = self.test_loss.map(|loss| ("loss/test".to_string(), loss));
        let metrics = self.metrics.iter().map(|(name, x)| (format!("{name}/test"), *x));
        std::iter::once(("loss/train".to_string(), self.train_loss)).chain(test).chain(metrics).collect()
    }

    /// How good it is, the greater the better, when the first metric is better if `greater`. Nothing is worse than NaN.
    fn score(&self, greater: bool) -> f64 {
        let score = match self.metrics.first() {
            Some((_, value)) if greater => *value,
            Some((_, value)) => -value,
            None => -self.test_loss.unwrap_or(self.train_loss),
        };
        if score.is_nan() { f64::NEG_INFINITY } else { score }
    }

    /// A line that [`EpochReport::parse`] reads to the same bits.
    fn line(&self) -> String {
        // Quoted, a name has no tab and no end of a line.
        let metrics = self.metrics.iter().map(|(name, x)| format!("\t{}={x:?}", quoted(name)));
        let test = self.test_loss.map_or("-".into(), |loss| format!("{loss:?}"));
        format!("{:?}\t{test}{}", self.train_loss, metrics.collect::<String>())
    }

    fn parse(epoch: u64, line: &str) -> Option<EpochReport> {
        let mut fields = line.split('\t');
        let train_loss = fields.next()?.parse().ok()?;
        let test_loss = match fields.next()? {
            "-" => None,
            text => Some(text.parse().ok()?),
        };
        let metric = |field: &str| {
            let (name, x) = field.rsplit_once('=')?;
            // Older files have names as they are.
            let name = match Value::parse(name.as_bytes()) {
                Ok(Value::Text(name)) => name,
                _ => name.to_string(),
            };
            Some((name, x.parse().ok()?))
        };
        Some(EpochReport { epoch, train_loss, test_loss, metrics: fields.map(metric).collect::<Option<_>>()? })
    }
}

/// The numbers, as `loss 0.1234  test loss 0.1345  accuracy 0.9567`.
impl std::fmt::Display for EpochReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "loss {:.4}", self.train_loss)?;
        if let Some(loss) = self.test_loss {
            write!(f, "  test loss {loss:.4}")?;
        }
        self.metrics.iter().try_for_each(|(name, x)| write!(f, "  {name} {x:.4}"))
    }
}
