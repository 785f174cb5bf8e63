//! [`Learner`]: training one step at a time, with losses read late and snapshots to go on from
//! when the GPU is lost.
//!
//! Knows no model and no page.

use std::collections::VecDeque;

use wgrad::data::{Batch, Loader};
use wgrad::optim::{AdamW, Optimizer};
use wgrad::prelude::*;
use wgrad::train::Checkpoint;
use wgrad::{ErrorKind, Result};

use crate::place::Place;

/// A snapshot is taken every so many steps.
const SNAPSHOT_EVERY: u64 = 50;
/// Losses on their way before one is waited for.
const LOSSES_MAX: usize = 8;

/// What is learnt: a model, its data and its optimizer.
pub trait Lesson {
    /// The network.
    type Model;
    /// From which everything random comes.
    const SEED: u64;
    /// The network with its first weights.
    fn model(&self, params: &Params) -> Self::Model;
    /// What moves the weights.
    fn optimizer(&self, params: &Params) -> Optimizer<AdamW>;
    /// The batches to learn from.
    fn loader(&self) -> &Loader;
    /// How many steps training takes.
    fn steps(&self) -> u64;
    /// How wrong the network is about a batch.
    fn loss(&self, model: &Self::Model, batch: &Batch, pass: &Pass) -> Tensor;
}

/// Everything that lives on the device.
struct Stand<M> {
    params: Params,
    model: M,
    optimizer: Optimizer<AdamW>,
}

/// A lesson being learnt on a device.
pub struct Learner<L: Lesson> {
    lesson: L,
    choice: String,
    place: Place,
    stand: Stand<L::Model>,
    /// Losses that were not read yet, by step.
    coming: VecDeque<(u64, Tensor)>,
    snapshot: Option<Vec<u8>>,
}

/// What a step came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Steps so far.
    pub step: u64,
    /// The epoch they are in, from 1.
    pub epoch: u64,
    /// Losses that arrived, by step: a loss arrives some steps late.
    pub losses: Vec<(u64, f32)>,
    /// Whether that was the last step.
    pub done: bool,
    /// What the visitor should know.
    pub notice: Option<String>,
}

impl<L: Lesson> Learner<L> {
    /// A lesson not begun, on the device that `choice` names.
    pub async fn new(lesson: L, choice: &str) -> Result<Learner<L>> {
        let place = Place::find(choice).await?;
        let stand = stand(&lesson, &place.device);
        Ok(Learner { lesson, choice: choice.into(), place, stand, coming: VecDeque::new(), snapshot: None })
    }

    /// What is learnt.
    pub fn lesson(&self) -> &L {
        &self.lesson
    }

    /// Where.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The network.
    pub fn model(&self) -> &L::Model {
        &self.stand.model
    }

    /// Its weights.
    pub fn params(&self) -> &Params {
        &self.stand.params
    }

    /// The weights that training begins with.
    pub fn first_weights(&self) -> Params {
        stand(&self.lesson, &self.place.device).params
    }

    /// Learns from the next batch. When the GPU is lost, goes on from the last snapshot, on another.
    pub async fn step(&mut self) -> Result<Report> {
        match self.advance().await {
            Err(error) if error.kind() == ErrorKind::Lost => self.recover(&error).await,
            outcome => outcome,
        }
    }

    async fn advance(&mut self) -> Result<Report> {
        let Stand { params, model, optimizer } = &mut self.stand;
        let (loader, device) = (self.lesson.loader(), &self.place.device);
        // Before the first step, too: there is no other copy of weights that the visitor loaded.
        if optimizer.steps().is_multiple_of(SNAPSHOT_EVERY) {
            self.snapshot = Some(Checkpoint::read(params, optimizer, Some(loader), &[]).await?);
        }
        // A loader that is asked for an epoch goes on where it was put.
        loader.restore(loader.position());
        let Some(batch) = loader.epoch(device).next() else {
            return Err(Error::new(ErrorKind::Operand, "step", "there is nothing to learn from"));
        };
        batch.check()?;
        let loss = self.lesson.loss(model, &batch, &Pass::train(params));
        optimizer.step(loss.backward(params))?;
        self.coming.push_back((optimizer.steps(), loss));
        device.ready().await?;
        let mut losses = Vec::new();
        while let Some((step, loss)) = self.coming.front() {
            let found = match loss.try_item::<f32>()? {
                None if self.coming.len() > LOSSES_MAX => loss.read::<f32>().await?.first().copied(),
                found => found,
            };
            let Some(found) = found else { break };
            losses.push((*step, found));
            self.coming.pop_front();
        }
        Ok(self.report(losses))
    }

    /// Waits for the losses that are on their way.
    pub async fn flush(&mut self) -> Result<Report> {
        let mut losses = Vec::new();
        while let Some((step, loss)) = self.coming.front() {
            losses.extend(loss.read::<f32>().await?.first().map(|&loss| (*step, loss)));
            self.coming.pop_front();
        }
        Ok(self.report(losses))
    }

    fn report(&self, losses: Vec<(u64, f32)>) -> Report {
        let step = self.stand.optimizer.steps();
        let epoch = 1 + self.lesson.loader().position().epoch;
        Report { step, epoch, losses, done: step >= self.lesson.steps(), notice: None }
    }

    /// Goes on from the last snapshot on a new device.
    async fn recover(&mut self, error: &Error) -> Result<Report> {
        self.coming.clear();
        // Where the visitor insisted on a GPU and there is none any more, the CPU is better than nothing.
        self.place = match Place::find(&self.choice).await {
            Ok(place) => place,
            Err(_) => Place::find("cpu").await?,
        };
        self.stand = stand(&self.lesson, &self.place.device);
        let loader = self.lesson.loader();
        loader.restore(Default::default());
        if let Some(bytes) = &self.snapshot {
            let Stand { params, optimizer, .. } = &mut self.stand;
            Checkpoint::load_bytes("snapshot", bytes.clone(), params, optimizer, Some(loader))?;
        }
        let mut report = self.report(Vec::new());
        let cause = error.to_string();
        report.notice = Some(format!(
            "The GPU was lost ({cause}). Training goes on from step {} on {}.",
            report.step, self.place.device
        ));
        Ok(report)
    }

    /// The weights as a safetensors file.
    pub async fn save(&self) -> Result<Vec<u8>> {
        self.stand.params.write(wgrad::io::SafeTensorsWriter::new().metadata("format", "pt")).read().await
    }

    /// Takes the weights from a safetensors file, and starts learning anew from them.
    pub fn load(&mut self, bytes: Vec<u8>) -> Result<()> {
        let fresh = stand(&self.lesson, &self.place.device);
        fresh.params.load_bytes("the file", bytes)?;
        self.lesson.loader().restore(Default::default());
        self.coming.clear();
        self.snapshot = None;
        self.stand = fresh;
        Ok(())
    }

    /// Destroys the GPU under the session, as a driver may.
    #[cfg(target_arch = "wasm32")]
    pub fn lose_device(&self) {
        if let Some(gpu) = wgrad::device::gpu::Gpu::of(&self.place.device) {
            gpu.wgpu().0.destroy();
        }
    }
}

fn stand<L: Lesson>(lesson: &L, device: &Device) -> Stand<L::Model> {
    let params = Params::new(device, L::SEED);
    let model = lesson.model(&params);
    let optimizer = lesson.optimizer(&params);
    Stand { params, model, optimizer }
}
