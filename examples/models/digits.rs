//! A small convolutional network that reads handwritten digits of 8 by 8 pixels, and how it is taught.
//!
//! The examples `digits` and `web` both use it, so that a browser learns what a desktop learns.

use std::sync::Arc;

use wgrad::Result;
use wgrad::data::{Batch, Csv, CsvOptions, Subset, TensorDataset, random_split};
use wgrad::nn::{Conv2d, Dropout, Linear, Module};
use wgrad::optim::{AdamW, Optimizer, Schedule};
use wgrad::prelude::*;

/// From which everything random comes: the split, the first weights, the order, what is dropped.
pub const SEED: u64 = 42;
/// Images that training never sees.
pub const TEST_IMAGES: usize = 360;

/// Some of the images, with their digits.
pub type Images = Subset<Arc<TensorDataset>>;

/// How the table of images is written: 64 pixels and the digit a line, and no names.
pub fn layout() -> CsvOptions {
    CsvOptions { header: false, ..Default::default() }
}

/// The images of the table to learn from, and those to test with.
pub fn images(table: &Csv) -> Result<(Images, Images)> {
    let images = table.classification((0..64).map(|pixel| pixel.to_string()), "64", 10)?;
    random_split(images, table.rows().saturating_sub(TEST_IMAGES), SEED)
}

/// Two convolutions, a pooling, two linear layers: 71,754 parameters.
pub struct DigitsNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
}

impl DigitsNet {
    /// The network, its weights in `params`.
    pub fn new(params: &Params) -> DigitsNet {
        let padded = || ConvOptions::default().padding(1);
        DigitsNet {
            conv1: Conv2d::new(&params.at("conv1"), 1, 16, 3, padded()),
            conv2: Conv2d::new(&params.at("conv2"), 16, 32, 3, padded()),
            fc1: Linear::new(&params.at("fc1"), 32 * 4 * 4, 128),
            fc2: Linear::new(&params.at("fc2"), 128, 10),
            dropout: Dropout::new(0.3),
        }
    }

    /// What moves its weights over `steps` steps.
    pub fn optimizer(params: &Params, steps: u64) -> Optimizer<AdamW> {
        AdamW::new(params, 3e-3).schedule(Schedule::one_cycle(steps)).clip_norm(1.0)
    }

    /// Scores of a batch, and how wrong they are.
    pub fn loss(&self, batch: &Batch, pass: &Pass) -> (Tensor, Tensor) {
        let scores = self.forward(&batch.x, pass);
        // The last batch is filled up with images that do not count.
        let losses = scores.cross_entropy_with(&batch.y, ClassOptions::default().reduce(Reduce::None));
        let loss = batch.mean(&losses);
        (scores, loss)
    }
}

impl Module for DigitsNet {
    /// Scores `[n, 10]` of images `[n, 64]` with pixels from 0 to 16.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let x = (x / 8.0 - 1.0).reshape([-1, 1, 8, 8]);
        let x = self.conv1.forward(&x, pass).relu();
        let x = self.conv2.forward(&x, pass).relu().max_pool2d(2, PoolOptions::default());
        let x = self.fc1.forward(&x.flatten(1, -1), pass).relu();
        self.fc2.forward(&self.dropout.forward(&x, pass), pass)
    }
}
