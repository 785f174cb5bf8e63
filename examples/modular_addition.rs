//! A transformer learns to add modulo 97, first by heart, then for real.
//!
//! You learn what grokking is: with half of all sums hidden, the model soon knows every sum that it
//! was shown and none that it was not; weight decay goes on to press the weights, and hundreds of
//! steps later the hidden sums come out right, all at once. And you learn to train on data that are
//! tensors on the device already, with a batch drawn by a random key and no loader at all.
//!
//! `cargo run --release --example modular_addition [-- --steps N --device gpu|cpu]`

mod common;

use std::time::Instant;

use wgrad::nn::{Embedding, LayerNorm, Linear, Module, TransformerBlock};
use wgrad::optim::{AdamW, Schedule};
use wgrad::prelude::*;

const PRIME: usize = 97;
const SIZE: usize = 128;
const BATCH: usize = 512;
/// The part of all sums that it is shown.
const SHOWN: f64 = 0.4;
const EVERY: usize = 100;

const HELP: &str = "Learns a + b modulo 97 from a part of all sums.\n
  --steps N         when to stop at the latest; 3000
  --decay X         weight decay: with 0 it learns by heart for ever; 1
  --seed N          which sums are shown, and the first weights; 42";

/// Reads two numbers and answers with scores of every possible sum.
struct Adder {
    numbers: Embedding,
    places: Embedding,
    block: TransformerBlock,
    norm: LayerNorm,
    head: Linear,
}

impl Adder {
    fn new(params: &Params) -> Adder {
        Adder {
            numbers: Embedding::new(&params.at("numbers"), PRIME, SIZE),
            places: Embedding::new(&params.at("places"), 2, SIZE),
            block: TransformerBlock::new(&params.at("block"), SIZE, 4),
            norm: LayerNorm::new(&params.at("norm"), SIZE),
            head: Linear::new(&params.at("head"), SIZE, PRIME),
        }
    }
}

impl Module for Adder {
    /// Scores `[n, 97]` of pairs `[n, 2]`.
    fn forward(&self, pairs: &Tensor, pass: &Pass) -> Tensor {
        let places = Tensor::arange(0, 2, 1, pairs.device());
        let x = self.numbers.forward(pairs, pass) + self.places.forward(&places, pass);
        let x = self.block.forward(&x, pass);
        // The second place has seen the first: the answer stands there.
        let last = x.narrow(1, 1, 1).squeeze(1);
        self.head.forward(&self.norm.forward(&last, pass), pass)
    }
}

fn main() -> Result<(), Error> {
    let options = common::Options::read(HELP, &[], &["steps", "decay", "seed"])?;
    let (steps, decay) = (options.number("steps", 3000usize)?, options.number("decay", 1.0)?);
    let seed = options.number("seed", 42u64)?;
    let device = options.device()?;

    // All pairs in random order, the shown ones first; a pair's number is 97 a + b.
    let [order, draws] = &Tensor::key(seed, &device).split_key(2)[..] else { return Ok(()) };
    let pairs = Tensor::permutation(PRIME * PRIME, order);
    let (a, b) = (pairs.floor_divide(PRIME as i32), pairs.rem(PRIME as i32));
    let (x, y) = (Tensor::stack(&[&a, &b], 1), (&a + &b).rem(PRIME as i32));
    wgrad::realize([&x, &y])?;
    let shown = (SHOWN * (PRIME * PRIME) as f64) as usize;
    let hidden = PRIME * PRIME - shown;

    let params = Params::new(&device, seed);
    let model = Adder::new(&params);
    let mut adam = AdamW::new(&params, 3e-3).beta2(0.98).weight_decay(decay).schedule(Schedule::linear_warmup(10));
    let accuracy = |start: usize, n: usize| {
        let scores = model.forward(&x.narrow(0, start, n), &Pass::eval());
        scores.argmax(-1).eq(y.narrow(0, start, n)).cast(DType::F32).mean(..).item::<f32>()
    };

    println!("{shown} sums shown, {hidden} hidden, {} weights\n", params.count());
    println!(" step     loss   shown  hidden");
    let (start, mut learnt_at) = (Instant::now(), None);
    for step in 1..=steps {
        let batch = Tensor::randint([BATCH], 0..shown as i64, &draws.fold_in(step as i64));
        let loss = model.forward(&x.take(&batch, 0), &Pass::train(&params)).cross_entropy(&y.take(&batch, 0));
        adam.step(loss.backward(&params))?;
        if step % EVERY == 0 || step == steps {
            let (known, found) = (accuracy(0, shown)?, accuracy(shown, hidden)?);
            let bar = |part: f32, mark: &str| format!("{:<25}", mark.repeat((25.0 * part).round() as usize));
            println!(
                "{step:>5} {:>8.4}  {known:>6.3}  {found:>6.3}  |{}|{}|",
                loss.item::<f32>()?,
                bar(known, "-"),
                bar(found, "#")
            );
            if known > 0.99 && learnt_at.is_none() {
                learnt_at = Some(step);
            }
            if found > 0.995 || step == steps {
                let seconds = start.elapsed().as_secs_f64();
                let by_heart = learnt_at.map_or("never".to_string(), |step| format!("after {step} steps"));
                println!(
                    "\nby heart {by_heart}, accuracy {found:.4} on {hidden} hidden sums after {step} steps, {seconds:.1} s on {device}"
                );
                break;
            }
        }
    }
    Ok(())
}
