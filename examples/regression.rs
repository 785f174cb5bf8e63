//! Predicting a number from a table: how heavy is a penguin?
//!
//! You learn to read any CSV: columns of numbers as they are, columns of words as one number a word;
//! to let a batch norm at the entrance bring them all to one scale; and to judge the result by its
//! error in the unit of the table, beside that of guessing the mean.
//!
//! `cargo run --release --example regression [-- --file TABLE.csv --target COLUMN --device gpu|cpu]`

mod common;

use wgrad::data::{Batch, Csv, CsvOptions, Dataset, Loader, TensorDataset, random_split};
use wgrad::nn::{Activation, BatchNorm, Linear, Module, Sequential};
use wgrad::optim::{AdamW, Schedule};
use wgrad::prelude::*;
use wgrad::train::{MeanAbsoluteError, Outcome, RootMeanSquareError, Trainer};

/// 333 penguins; the source and licence stand in data/README.md.
const PENGUINS: &[u8] = include_bytes!("../data/penguins.csv");
const SEED: u64 = 42;
const HIDDEN: usize = 32;

const HELP: &str = "Learns to predict a column of a table from the others.\n
  --file TABLE.csv  a table with a header, gzipped or not; penguins
  --target COLUMN   the column of numbers to predict; the last one
  --epochs N        how often to look at every row; 200";

/// The columns but `target` as numbers `[rows, n]`; a column of words becomes a column for each word.
fn inputs(table: &Csv, target: &str) -> wgrad::Result<Tensor> {
    let host = Device::cpu();
    let mut parts = Vec::new();
    for name in table.names().iter().filter(|name| *name != target) {
        match table.numbers([name]) {
            Ok(numbers) => {
                println!("  {name}: numbers");
                parts.push(numbers.to_tensor(&host));
            }
            Err(_) => {
                let (classes, words) = table.classes(name)?;
                println!("  {name}: {}", words.join(", "));
                parts.push(classes.to_tensor(&host).one_hot(words.len()).cast(DType::F32));
            }
        }
    }
    Ok(Tensor::cat(&parts, 1))
}

fn main() -> Result<(), Error> {
    let options = common::Options::read(HELP, &[], &["file", "target", "epochs"])?;
    let epochs = options.number("epochs", 200)?;
    let device = options.device()?;

    let table = match options.text("file") {
        Some(path) => Csv::open(path, CsvOptions::default())?,
        None => Csv::from_bytes("penguins.csv", PENGUINS.to_vec(), CsvOptions::default())?,
    };
    let target = options.text("target").or(table.names().last().map(String::as_str)).unwrap_or_default();
    let rows = table.rows();
    println!("{target} of {rows} rows, from");
    let (x, y) = (inputs(&table, target)?, table.numbers([target])?.to_tensor(&Device::cpu()));
    let columns = x.dim(1);
    let (train, test) = random_split(TensorDataset::new(&x, &y)?.with_files(table.files()), rows - rows / 5, SEED)?;
    let (seen, unseen) = (train.len(), test.len());

    // Where the answers lie, by the rows that may be looked at.
    let known = train.batch(&(0..seen).collect::<Vec<_>>())?.y.to_tensor(&device);
    let (mean, std) = (known.mean(..), known.std_with(.., 0.0));
    wgrad::realize([&mean, &std])?;
    let (train, test) = (Loader::new(train, 32).shuffle(SEED), Loader::new(test, unseen));

    let params = Params::new(&device, SEED);
    let model = Sequential::new()
        // It measures mean and deviation of each column while it trains, and saves them as weights are.
        .then(BatchNorm::without_affine(&params.at("scale"), columns))
        .then(Linear::new(&params.at("fc1"), columns, HIDDEN))
        .then(Activation::Silu)
        .then(Linear::new(&params.at("fc2"), HIDDEN, HIDDEN))
        .then(Activation::Silu)
        .then(Linear::new(&params.at("fc3"), HIDDEN, 1));
    let steps = epochs * train.batches() as u64;
    let adam = AdamW::new(&params, 3e-3).weight_decay(0.1).schedule(Schedule::cosine(steps, 0.01));
    let every = (epochs / 5).max(1);
    let mut trainer = Trainer::new(&params, adam)
        .epochs(epochs)
        .metric(RootMeanSquareError::default())
        .metric(MeanAbsoluteError::default())
        .on_epoch(move |report| {
            if (report.epoch + 1) % every == 0 {
                println!("epoch {:>4}  {report}", report.epoch + 1);
            }
        })
        .quiet();
    let forward = |batch: &Batch, pass: &Pass| {
        let scaled = model.forward(&batch.x, pass);
        // The loss is taken where numbers are near 1, the metrics where they mean something.
        let losses = scaled.huber_loss(&((&batch.y - &mean) / &std), 1.0, Reduce::None);
        Outcome { loss: batch.mean(&losses), outputs: scaled * &std + &mean }
    };
    println!("\n{seen} rows to learn from, {unseen} to be tested on, {} weights\n", params.count());
    let report = trainer.fit(&train, Some(&test), forward)?;

    let Some(batch) = test.epoch(&device).next() else { return Ok(()) };
    let guess = (&batch.y - &mean).pow(2).mean(..).sqrt().item::<f32>()?;
    let found = forward(&batch, &Pass::eval()).outputs.to_vec::<f32>()?;
    println!("\n{:>12} {:>12}", "predicted", "is");
    for (found, is) in found.iter().zip(batch.y.to_vec::<f32>()?).take(8) {
        println!("{found:>12.1} {is:>12.1}");
    }
    let error = report.epochs.last().and_then(|epoch| epoch.metrics.first()).map_or(f64::NAN, |(_, rmse)| *rmse);
    let explained = 1.0 - (error / f64::from(guess)).powi(2);
    println!("\nguessing the mean has an RMSE of {guess:.1}");
    println!(
        "test RMSE {error:.1}, {:.0} % of the variance explained, {:.1} s on {device}",
        100.0 * explained,
        report.seconds
    );
    Ok(())
}
