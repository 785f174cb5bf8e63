//! Handwritten digits: the network of the example `digits`, trained and asked.

use wgrad::Result;
use wgrad::data::{Batch, Csv, Dataset, Loader};
use wgrad::nn::Module;
use wgrad::optim::{AdamW, Optimizer};
use wgrad::prelude::*;

use crate::learner::{Learner, Lesson};

#[path = "../../models/digits.rs"]
mod model;

pub use model::{DigitsNet, SEED, layout};

/// The images, and for how long they are learnt from.
pub struct Digits {
    train: Loader,
    test: Loader,
    steps: u64,
}

impl Digits {
    /// The images of a table, in batches of `batch`, each looked at `epochs` times.
    pub fn new(table: &Csv, batch: usize, epochs: u64) -> Result<Digits> {
        let (train, test) = model::images(table)?;
        let all = test.len();
        let (train, test) = (Loader::new(train, batch).shuffle(SEED).workers(0), Loader::new(test, all).workers(0));
        let steps = epochs.saturating_mul(train.batches() as u64);
        Ok(Digits { train, test, steps })
    }

    /// The batches of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.batches()
    }

    /// How many images there are to learn from and to test with.
    pub fn images(&self) -> [usize; 2] {
        [self.train.samples(), self.test.samples()]
    }

    /// All images to test with, as one batch.
    pub fn test(&self, device: &Device) -> Option<Batch> {
        self.test.epoch(device).next()
    }
}

impl Lesson for Digits {
    type Model = DigitsNet;
    const SEED: u64 = SEED;

    fn model(&self, params: &Params) -> DigitsNet {
        DigitsNet::new(params)
    }
    fn optimizer(&self, params: &Params) -> Optimizer<AdamW> {
        DigitsNet::optimizer(params, self.steps)
    }
    fn loader(&self) -> &Loader {
        &self.train
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    fn loss(&self, model: &DigitsNet, batch: &Batch, pass: &Pass) -> Tensor {
        model.loss(batch, pass).1
    }
}

/// What the network takes the test images for.
pub struct Evaluation {
    /// The part that it reads right.
    pub accuracy: f64,
    /// What it reads.
    pub predictions: Vec<u8>,
    /// What they are.
    pub labels: Vec<u8>,
}

impl Learner<Digits> {
    /// Has the network read every test image.
    pub async fn evaluate(&self) -> Result<Evaluation> {
        let Some(batch) = self.lesson().test(&self.place().device) else {
            return Ok(Evaluation { accuracy: 0.0, predictions: Vec::new(), labels: Vec::new() });
        };
        let found = self.model().forward(&batch.x, &Pass::eval()).argmax(-1);
        let bytes = |v: Vec<i32>| v.into_iter().map(|x| x as u8).collect::<Vec<u8>>();
        let (predictions, labels) = (bytes(found.read().await?), bytes(batch.y.read().await?));
        let right = predictions.iter().zip(&labels).filter(|(a, b)| a == b).count();
        Ok(Evaluation { accuracy: right as f64 / labels.len().max(1) as f64, predictions, labels })
    }

    /// How likely each digit is for an image of 64 pixels from 0 to 16.
    pub async fn predict(&self, pixels: &[f32]) -> Result<Vec<f32>> {
        let x = Tensor::from_slice(pixels, [1, 64], &self.place().device);
        self.model().forward(&x, &Pass::eval()).softmax(-1).read().await
    }
}

/// What two devices have in common, bit for bit: fingerprints of raw random bits, of uniform numbers
/// and of the first weights.
pub struct Fingerprints {
    /// Of 1,000 raw random words.
    pub bits: u64,
    /// Of 1,000 uniform numbers.
    pub uniforms: u64,
    /// Of all weights.
    pub weights: u64,
}

impl Learner<Digits> {
    /// Fingerprints of what is equal on every device.
    pub async fn fingerprints(&self) -> Result<Fingerprints> {
        let key = Tensor::key(SEED, &self.place().device);
        let bits = Tensor::bits([1000], &key).read::<u32>().await?;
        let uniforms = Tensor::uniform([1000], &key).read::<f32>().await?;
        let mut weights = Vec::new();
        for param in self.first_weights().iter().filter(Param::is_trained) {
            weights.extend(param.value().read::<f32>().await?);
        }
        let floats = |v: Vec<f32>| fingerprint(v.into_iter().map(f32::to_bits));
        Ok(Fingerprints { bits: fingerprint(bits), uniforms: floats(uniforms), weights: floats(weights) })
    }
}

/// FNV-1a over whole words: to compare, not to protect.
fn fingerprint(words: impl IntoIterator<Item = u32>) -> u64 {
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ u64::from(word)).wrapping_mul(0x100_0000_01b3))
}

/// What the page must compute, computed on the CPU: fingerprints and the first ten losses with its
/// own settings, as a JSON text.
pub async fn reference(table: &Csv) -> Result<String> {
    let mut learner = Learner::new(Digits::new(table, 64, 20)?, "cpu").await?;
    let Fingerprints { bits, uniforms, weights } = learner.fingerprints().await?;
    let mut losses = Vec::new();
    for _ in 0..10 {
        losses.extend(learner.step().await?.losses);
    }
    losses.extend(learner.flush().await?.losses);
    let losses: Vec<f64> = losses.into_iter().map(|(_, loss)| loss.into()).collect();
    let prints =
        format!("\"bits\": \"{bits:016x}\", \"uniforms\": \"{uniforms:016x}\", \"weights\": \"{weights:016x}\"");
    Ok(format!("{{{prints}, \"losses\": {losses:?}}}"))
}

/// The test accuracy of weights in a safetensors file, computed on the CPU.
pub async fn accuracy(table: &Csv, weights: Vec<u8>) -> Result<f64> {
    let mut learner = Learner::new(Digits::new(table, 64, 20)?, "cpu").await?;
    learner.load(weights)?;
    Ok(learner.evaluate().await?.accuracy)
}
