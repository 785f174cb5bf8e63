//! A variational autoencoder learns to write digits, and shows them in a picture.
//!
//! You learn to train a model whose loss has two parts and draws random numbers on its way: an
//! encoder gives a normal distribution for each image, a decoder paints what is drawn from it, and
//! afterwards paints any digit one asks for from pure noise. And you learn to put tensors together
//! into a picture and to save it as PNG.
//!
//! `cargo run --release --example vae [-- --epochs N --output FILE --device gpu|cpu]`

mod common;

use std::time::Instant;

use wgrad::data::{Csv, CsvOptions, Loader, random_split};
use wgrad::io::save_png;
use wgrad::nn::{Linear, Module};
use wgrad::optim::{AdamW, Schedule};
use wgrad::prelude::*;
use wgrad::train::Progress;

/// 1,797 images of handwriting; the source and licence stand in data/README.md.
const DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");
const SEED: u64 = 42;
const BATCH: usize = 64;
const HIDDEN: usize = 256;
/// How many numbers an image becomes, beside the digit it shows.
const STYLE: usize = 8;
/// How far off a painted pixel may be: the smaller, the more a style has to tell.
const DEVIATION: f64 = 0.12;
/// Columns of the picture: real images, then painted ones.
const REAL: usize = 4;
const PAINTED: usize = 14;

const HELP: &str = "Learns to write digits.\n
  --epochs N        how often to look at every image; 150
  --output FILE     the picture; digits.png";

/// Both halves are told which digit it is, so that what is left to encode is its style.
struct Vae {
    encoder: [Linear; 2],
    decoder: [Linear; 2],
}

impl Vae {
    fn new(params: &Params) -> Vae {
        let layer = |path: &str, inputs, outputs| Linear::new(&params.at(path), inputs, outputs);
        Vae {
            encoder: [layer("encoder.0", 64 + 10, HIDDEN), layer("encoder.1", HIDDEN, 2 * STYLE)],
            decoder: [layer("decoder.0", STYLE + 10, HIDDEN), layer("decoder.1", HIDDEN, 64)],
        }
    }

    /// Mean and logarithm of the variance of the style `[n, 8]` of images `[n, 64]`.
    fn encode(&self, images: &Tensor, digits: &Tensor, pass: &Pass) -> [Tensor; 2] {
        let [first, second] = &self.encoder;
        let x = Tensor::cat(&[&(images * 2.0 - 1.0), digits], 1);
        second.forward(&first.forward(&x, pass).silu(), pass).split([STYLE, STYLE], 1)
    }

    /// Images `[n, 64]` with pixels from 0 to 1.
    fn decode(&self, style: &Tensor, digits: &Tensor, pass: &Pass) -> Tensor {
        let [first, second] = &self.decoder;
        second.forward(&first.forward(&Tensor::cat(&[style, digits], 1), pass).silu(), pass).sigmoid()
    }

    /// For each image `[n]`: what its description costs, pixels and style, in nats.
    fn costs(&self, images: &Tensor, digits: &Tensor, pass: &Pass) -> [Tensor; 2] {
        let [mean, log_variance] = self.encode(images, digits, pass);
        let style = match pass.key() {
            // Noise times a deviation plus a mean: the gradient reaches both of them.
            Some(key) => &mean + Tensor::normal(mean.shape(), &key) * (&log_variance * 0.5).exp(),
            None => mean.clone(),
        };
        let painted = self.decode(&style, digits, pass);
        let pixels = painted.mse_loss(images, Reduce::None).sum(1) / (2.0 * DEVIATION * DEVIATION);
        let style = (&mean * &mean + log_variance.exp() - 1.0 - log_variance).sum(1) * 0.5;
        [pixels, style]
    }
}

/// Images `[10, n, 64]` as one picture of 10 rows and `n` columns, five times as large.
fn grid(images: &Tensor) -> Tensor {
    let n = images.dim(1);
    let large = images.reshape([-1, 1, 8, 8]).upsample_bilinear(Upsample::scale(5.0), false);
    let framed = large.reshape([10, n, 40, 40]).pad(&[(1, 1), (1, 1)], 0.3);
    framed.permute([0, 2, 1, 3]).reshape([10 * 42, n * 42])
}

fn main() -> Result<(), Error> {
    let options = common::Options::read(HELP, &[], &["epochs", "output"])?;
    let (epochs, output) = (options.number("epochs", 150u64)?, options.text("output").unwrap_or("digits.png"));
    let device = options.device()?;

    let table = Csv::from_bytes("digits.csv.gz", DIGITS.to_vec(), CsvOptions { header: false, ..Default::default() })?;
    let images = table.classification((0..64).map(|pixel| pixel.to_string()), "64", 10)?;
    let (all, labels) = (images.x().to_tensor(&device) / 16.0, images.y().to_vec::<i32>()?);
    let (train, test) = random_split(images, table.rows() - 297, SEED)?;
    let (train, test) = (Loader::new(train, BATCH).shuffle(SEED), Loader::new(test, BATCH));

    let params = Params::new(&device, SEED);
    let model = Vae::new(&params);
    let steps = epochs * train.batches() as u64;
    let mut adam = AdamW::new(&params, 2e-3).schedule(Schedule::cosine(steps, 0.05));
    println!("{params}\n");
    println!("epoch   cost of an image it never saw, in nats: pixels + style");
    let (start, mut progress) = (Instant::now(), Progress::new("learning", steps, 0));
    for epoch in 1..=epochs {
        for batch in train.epoch(&device) {
            batch.check()?;
            let [pixels, style] = model.costs(&(&batch.x / 16.0), &batch.y.one_hot(10), &Pass::train(&params));
            adam.step(batch.mean(&(pixels + style)).backward(&params))?;
            progress.set(adam.steps(), &[]);
        }
        if epoch % epochs.div_ceil(10) == 0 || epoch == epochs {
            let mut sums = [0.0, 0.0];
            for batch in test.epoch(&device) {
                let costs = model.costs(&(&batch.x / 16.0), &batch.y.one_hot(10), &Pass::eval());
                let means = costs.map(|cost| batch.mean(&cost) * batch.n as f64);
                wgrad::realize(&means)?;
                for (sum, mean) in sums.iter_mut().zip(means) {
                    *sum += f64::from(mean.item::<f32>()?) / 297.0;
                }
            }
            println!("{epoch:>5}   {:.2} = {:.2} + {:.2}", sums[0] + sums[1], sums[0], sums[1]);
        }
    }
    progress.finish("");

    // Some real images of each digit, and a style out of nothing for each painted one.
    let of = |digit| labels.iter().enumerate().filter(move |(_, label)| **label == digit).take(REAL);
    let chosen: Vec<i32> = (0..10).flat_map(|digit| of(digit).map(|(k, _)| k as i32)).collect();
    let real = all.take(&Tensor::from_vec(chosen, [10, REAL], &device), 0);
    let digits = Tensor::arange(0, 10, 1, &device).repeat(PAINTED, 0).one_hot(10);
    let style = Tensor::normal([10 * PAINTED, STYLE], &Tensor::key(SEED, &device));
    let painted = model.decode(&style, &digits, &Pass::eval()).reshape([10, PAINTED, 64]);
    let line = Tensor::ones([10 * 42, 4], &device);
    save_png(output, &Tensor::cat(&[grid(&real), line, grid(&painted)], 1))?;
    println!(
        "{output}: {REAL} real images of each digit, and {PAINTED} that nobody wrote, {:.1} s on {device}",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
