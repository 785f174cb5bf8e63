//! A network learns to read handwritten digits while you watch.
//!
//! You learn what a training program is made of: a dataset, loaders that make batches of it, a
//! model whose weights live in a store, an optimizer, and a `Trainer` that runs the epochs, shows
//! progress, keeps the best weights, draws the curves and writes a record of the run.
//!
//! `cargo run --release --example digits [-- --device gpu|cpu --epochs N --resume]`

mod common;
#[path = "models/digits.rs"]
mod model;

use std::cell::RefCell;
use std::rc::Rc;

use model::{DigitsNet, SEED, TEST_IMAGES, images, layout};
use wgrad::data::{Batch, Csv, Loader};
use wgrad::prelude::*;
use wgrad::train::{Accuracy, Confusion, Outcome, Trainer};

/// 1,797 images of handwriting; the source and licence stand in data/README.md.
const DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");
const BATCH: usize = 64;
const FOLDER: &str = "runs/digits";

const HELP: &str = "Learns to read handwritten digits.\n
  --epochs N        how often to look at every image; 20
  --resume          go on where the last run stopped
  --folder PATH     where to keep weights, curves and the record; runs/digits";

fn main() -> Result<(), Error> {
    let options = common::Options::read(HELP, &["resume"], &["epochs", "folder"])?;
    let (epochs, folder) = (options.number("epochs", 20)?, options.text("folder").unwrap_or(FOLDER));
    let device = options.device()?;

    let (train, test) = images(&Csv::from_bytes("digits.csv.gz", DIGITS.to_vec(), layout())?)?;
    let (train, test) = (Loader::new(train, BATCH).shuffle(SEED), Loader::new(test, BATCH));

    let params = Params::new(&device, SEED);
    let model = DigitsNet::new(&params);
    println!("{params}\n");

    let steps = epochs * train.batches() as u64;
    let confusion = Rc::new(RefCell::new(Confusion::new(10)));
    let mut trainer = Trainer::new(&params, DigitsNet::optimizer(&params, steps))
        .epochs(epochs)
        .metric(Accuracy::default())
        .metric(confusion.clone())
        .setting("epochs", epochs)
        .setting("batch", BATCH)
        .folder(folder)
        .resume(options.has("resume"));

    let report = trainer.fit(&train, Some(&test), |batch: &Batch, pass: &Pass| {
        let (outputs, loss) = model.loss(batch, pass);
        Outcome { loss, outputs }
    })?;

    println!("\n{}", confusion.borrow());
    println!("weights, curves and record: {folder}/best.safetensors, curves.svg, record.jsonl");
    let accuracy = report.epochs.last().and_then(|epoch| epoch.metrics.first()).map_or(0.0, |(_, value)| *value);
    println!("test accuracy {accuracy:.4} on {TEST_IMAGES} images, {:.1} s on {device}", report.seconds);
    Ok(())
}
