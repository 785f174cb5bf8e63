//! A network that PyTorch taught the digits 0 to 4 learns 5 to 9 from five examples each.
//!
//! You learn to load somebody else's checkpoint under names of your own, to freeze what it knows,
//! to run that part as in evaluation while a new head learns, and what all this is worth: the same
//! network, taught from nothing by the same images.
//! `examples/finetune.py` made the checkpoint.
//!
//! `cargo run --release --example finetune [-- --shots N --device gpu|cpu]`

mod common;

use wgrad::data::{Array, Batch, Csv, CsvOptions, Dataset, Loader, TensorDataset};
use wgrad::io::{SafeTensors, SafeTensorsWriter};
use wgrad::nn::{BatchNorm, Conv2d, Linear, Module};
use wgrad::optim::{AdamW, Schedule};
use wgrad::prelude::*;
use wgrad::train::{Accuracy, Outcome, Trainer};

/// 1,797 images of handwriting, and what PyTorch learned; more in data/README.md.
const DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");
const TRUNK: &[u8] = include_bytes!("../data/trunk.safetensors");
const SEED: u64 = 42;

const HELP: &str = "Learns five digits from a few images, on top of what PyTorch learned from others.\n
  --checkpoint FILE what PyTorch saved; data/trunk.safetensors
  --shots N         how many images of each digit to learn from; 5
  --epochs N        how often to look at each of them; 100";

/// Three convolutions, each with a batch norm: what is worth knowing of any digit.
struct Trunk([(Conv2d, BatchNorm); 3]);

impl Trunk {
    fn new(params: &Params) -> Trunk {
        let stage = |k: usize, inputs, outputs| {
            let conv =
                Conv2d::new(&params.at(format!("conv{k}")), inputs, outputs, 3, ConvOptions::default().padding(1));
            (conv, BatchNorm::new(&params.at(format!("norm{k}")), outputs))
        };
        Trunk([stage(1, 1, 16), stage(2, 16, 32), stage(3, 32, 32)])
    }
}

impl Module for Trunk {
    /// Features `[n, 512]` of images `[n, 64]` with pixels from 0 to 16.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let mut x = (x / 8.0 - 1.0).reshape([-1, 1, 8, 8]);
        for (k, (conv, norm)) in self.0.iter().enumerate() {
            x = norm.forward(&conv.forward(&x, pass), pass).relu();
            if k == 1 {
                x = x.max_pool2d(2, PoolOptions::default());
            }
        }
        x.flatten(1, -1)
    }
}

/// PyTorch's name of what is at `path` here; none for what is to keep its first value. There the
/// layers are numbered as they come, those without weights too: conv, norm, relu, conv, norm, …
fn name_in_pytorch(path: &str) -> Option<String> {
    let (layer, weight) = path.strip_prefix("trunk.")?.split_once('.')?;
    let place = ["conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "pool", "conv3", "norm3"];
    let number = place.iter().position(|known| *known == layer)?;
    Some(format!("features.{number}.{weight}"))
}

/// Teaches the network by `train`; its accuracy on `test`. With a checkpoint, only a new head learns.
fn accuracy(
    checkpoint: Option<&SafeTensors>,
    epochs: u64,
    train: &Loader,
    test: &Loader,
    device: &Device,
) -> wgrad::Result<f64> {
    let params = Params::new(device, SEED);
    let (trunk, head) = (Trunk::new(&params.at("trunk")), Linear::new(&params.at("head"), 512, 5));
    if let Some(file) = checkpoint {
        params.load_from(file, name_in_pytorch)?;
        params.freeze("trunk.*");
        println!("{params}\n");
    }
    let before = params.at("trunk").write(SafeTensorsWriter::new()).to_bytes()?;

    let adam = AdamW::new(&params, 3e-3).schedule(Schedule::cosine(epochs * train.batches() as u64, 0.05));
    let mut trainer = Trainer::new(&params, adam).epochs(epochs).metric(Accuracy::default()).quiet();
    let forward = |batch: &Batch, pass: &Pass| {
        // A frozen trunk runs as in evaluation, or its batch norms would go on counting.
        let eval = Pass::eval();
        let features = trunk.forward(&batch.x, if checkpoint.is_some() { &eval } else { pass });
        let outputs = head.forward(&features, pass);
        let losses = outputs.cross_entropy_with(&batch.y, ClassOptions::default().reduce(Reduce::None));
        Outcome { loss: batch.mean(&losses), outputs }
    };
    let report = trainer.fit(train, None, forward)?;
    let (test_loss, metrics) = trainer.evaluate(test, &forward)?;
    let accuracy = metrics.first().map_or(0.0, |(_, value)| *value);

    let kept = before == params.at("trunk").write(SafeTensorsWriter::new()).to_bytes()?;
    println!("{}", if checkpoint.is_some() { "head on PyTorch's trunk" } else { "all from nothing" });
    println!(
        "  {epochs} epochs in {:.1} s, the trunk {}",
        report.seconds,
        if kept { "kept every bit" } else { "moved" }
    );
    println!("  test loss {test_loss:.4}, test accuracy {accuracy:.4}\n");
    Ok(accuracy)
}

fn main() -> Result<(), Error> {
    let options = common::Options::read(HELP, &[], &["checkpoint", "shots", "epochs"])?;
    let (shots, epochs) = (options.number("shots", 5usize)?, options.number("epochs", 100)?);
    let device = options.device()?;

    let file = match options.text("checkpoint") {
        Some(path) => SafeTensors::open(path)?,
        None => SafeTensors::from_bytes("trunk.safetensors", TRUNK.to_vec())?,
    };
    println!("the checkpoint has {} tensors, and notes", file.len());
    file.metadata().for_each(|(key, value)| println!("  {key}: {value}"));
    println!("which become\n");

    // The first images of each digit are for learning, the rest for the test; digit 5 is class 0.
    let table = Csv::from_bytes("digits.csv.gz", DIGITS.to_vec(), CsvOptions { header: false, ..Default::default() })?;
    let images = table.classification((0..64).map(|pixel| pixel.to_string()), "64", 10)?;
    let labels = images.y().to_vec::<i32>()?;
    let (mut few, mut rest) = (Vec::new(), Vec::new());
    for digit in 5..10 {
        let mut of = (0..labels.len()).filter(|&k| labels[k] == digit);
        few.extend(of.by_ref().take(shots));
        rest.extend(of);
    }
    let part = |rows: &[usize]| {
        let classes: Vec<i32> = rows.iter().map(|&row| labels[row] - 5).collect();
        TensorDataset::of_arrays(images.x().rows(rows)?, Array::new(&classes, [rows.len()])?)
    };
    let (few, rest) = (part(&few)?, part(&rest)?);
    let (seen, unseen) = (few.len(), rest.len());
    let (train, test) = (Loader::new(few, 25).shuffle(SEED), Loader::new(rest, 128));

    let tuned = accuracy(Some(&file), epochs, &train, &test, &device)?;
    let plain = accuracy(None, epochs, &train, &test, &device)?;
    println!(
        "from {seen} images: accuracy {tuned:.4} with the frozen trunk, {plain:.4} without it, on {unseen} images, on {device}"
    );
    Ok(())
}
