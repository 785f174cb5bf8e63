//! A convolutional network reads MNIST, Fashion-MNIST or any dataset in the same four files.
//!
//! You learn to read IDX files, to write a model as a list of layers and closures, to change images
//! at random on the device in training only, and to let a `Trainer` stop and keep what was best.
//!
//! `cargo run --release --example mnist -- --data FOLDER [--epochs N --resume --device gpu|cpu]`

mod common;

use wgrad::data::{Batch, Dataset, Loader, augment, mnist};
use wgrad::nn::{Activation, Conv2d, Dropout, Flatten, Linear, Module, Sequential};
use wgrad::optim::{AdamW, Schedule};
use wgrad::prelude::*;
use wgrad::train::{Accuracy, Outcome, TopK, Trainer};

const SEED: u64 = 42;
const BATCH: usize = 128;

const HELP: &str = "Learns to read MNIST or its like.\n
  --data FOLDER     where the four files are; data/mnist
  --epochs N        how often to look at every image; 3
  --resume          go on where the last run stopped
  --folder PATH     where to keep weights, curves and the record; runs/mnist";

const WHERE: &str = "\
MNIST is four files, gzipped or not; Fashion-MNIST and KMNIST have the same names:

    train-images-idx3-ubyte.gz    60,000 images of 28 by 28 pixels to learn from
    train-labels-idx1-ubyte.gz    what they show, 0 to 9
    t10k-images-idx3-ubyte.gz     10,000 images to be tested on
    t10k-labels-idx1-ubyte.gz     what those show

Get them from https://storage.googleapis.com/cvdf-datasets/mnist/
or from data/fashion of https://github.com/zalandoresearch/fashion-mnist,
put them into one folder and name it: --data FOLDER
";

/// Two convolutions and two linear layers for images `u8 [n, 1, 28, 28]`: 207,178 weights.
fn network(params: &Params) -> Sequential {
    // Every second pixel: a step of two does what a pool would, and costs a quarter.
    let halved = |padding: usize| ConvOptions::default().padding(padding).stride(2);
    Sequential::new()
        .then(|x: &Tensor, pass: &Pass| {
            let x = augment::normalize(x, &[0.1307], &[0.3081]);
            // There is a key in training only: in evaluation no image moves.
            pass.key().map_or(x.clone(), |key| augment::random_crop(&x, 2, &key))
        })
        .then(Conv2d::new(&params.at("conv1"), 1, 16, 5, halved(2)))
        .then(Activation::Relu)
        .then(Conv2d::new(&params.at("conv2"), 16, 32, 3, halved(1)))
        .then(Activation::Relu)
        .then(Flatten)
        .then(Linear::new(&params.at("fc1"), 32 * 7 * 7, 128))
        .then(Activation::Relu)
        .then(Dropout::new(0.3))
        .then(Linear::new(&params.at("fc2"), 128, 10))
}

fn main() -> Result<(), Error> {
    let options = common::Options::read(HELP, &["resume"], &["data", "epochs", "folder"])?;
    let (data, folder) = (options.text("data").unwrap_or("data/mnist"), options.text("folder").unwrap_or("runs/mnist"));
    let epochs = options.number("epochs", 3)?;
    let (train, test) = match (mnist(data, true), mnist(data, false)) {
        (Ok(train), Ok(test)) => (train, test),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("{WHERE}");
            return Err(error);
        }
    };
    let device = options.device()?;
    let images = test.len();
    println!("{} images to learn from, {images} to be tested on", train.len());
    let (train, test) = (Loader::new(train, BATCH).shuffle(SEED), Loader::new(test, BATCH));

    let params = Params::new(&device, SEED);
    let model = network(&params);
    println!("{params}\n");

    let steps = epochs * train.batches() as u64;
    let adam = AdamW::new(&params, 3e-3).schedule(Schedule::one_cycle(steps));
    let mut trainer = Trainer::new(&params, adam)
        .epochs(epochs)
        .metric(Accuracy::default())
        .metric(TopK::new(2))
        .early_stopping(3)
        .setting("epochs", epochs)
        .setting("batch", BATCH)
        .folder(folder)
        .resume(options.has("resume"));
    let report = trainer.fit(&train, Some(&test), |batch: &Batch, pass: &Pass| {
        let outputs = model.forward(&batch.x, pass);
        let losses = outputs.cross_entropy_with(&batch.y, ClassOptions::default().reduce(Reduce::None));
        Outcome { loss: batch.mean(&losses), outputs }
    })?;

    println!("\nweights, curves and record: {folder}/best.safetensors, curves.svg, record.jsonl");
    let accuracy = report.epochs.last().and_then(|epoch| epoch.metrics.first()).map_or(0.0, |(_, value)| *value);
    println!("test accuracy {accuracy:.4} on {images} images, {:.1} s on {device}", report.seconds);
    Ok(())
}
