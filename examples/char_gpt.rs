//! A small GPT learns a text, byte by byte, and writes like it.
//!
//! You learn what a training loop looks like without a `Trainer`: windows of a text, one optimizer
//! step for each batch, losses read now and then; and how text is generated: a KV cache keeps what
//! was computed for earlier positions, so that a token costs one position and all share one plan.
//! A text as short as the README is fitted closely and still makes little sense when it goes on alone:
//! to see it write, give it a longer one.
//! The model stands in `examples/models/gpt.rs`.
//!
//! `cargo run --release --example char_gpt [-- --text FILE --steps N --prompt TEXT --device gpu|cpu]`

mod common;
#[path = "models/gpt.rs"]
mod model;

use std::time::Instant;

use model::{Gpt, GptConfig, Writer};
use wgrad::Result;
use wgrad::data::{ByteTokenizer, Loader, TokenDataset, Tokenizer};
use wgrad::prelude::*;
use wgrad::train::Progress;

/// What it learns when no file is named.
const README: &str = include_str!("../README.md");
const SEED: u64 = 42;
/// How many bytes the model sees at once.
const CONTEXT: usize = 256;
const BATCH: usize = 4;
/// How often it shows what it can.
const SAMPLES: u64 = 5;

const HELP: &str = "Learns to write like a text, byte by byte.\n
  --text FILE       what to learn; the README of this repository
  --steps N         how many batches to learn from; 400
  --prompt TEXT     what to go on from; a piece from the middle of the text
  --length N        how many bytes to write in the end; 200
  --temperature X   from 0.1, what is likely, to 1.5, daring; 0.5";

fn main() -> Result<(), Error> {
    let options = common::Options::read(HELP, &[], &["text", "steps", "prompt", "length", "temperature"])?;
    let (steps, length) = (options.number("steps", 400u64)?, options.number("length", 200usize)?);
    let temperature = options.number("temperature", 0.5)?;
    let device = options.device()?;
    let text = match options.text("text") {
        Some(path) => std::fs::read_to_string(path).map_err(|e| common::wrong(path, &e.to_string()))?,
        None => README.to_string(),
    };
    // The middle of the text is in many windows, its beginning in few.
    let middle: String = text.chars().skip(text.chars().count() / 2).take(48).collect();
    let prompt = options.text("prompt").unwrap_or(&middle);
    if prompt.is_empty() || temperature <= 0.0 {
        return Err(common::wrong("char_gpt", "needs a prompt and a temperature above 0"));
    }

    let tokens = ByteTokenizer.encode(&text);
    let windows = TokenDataset::new(&tokens, CONTEXT, 1)?;
    let loader = Loader::new(windows, BATCH).shuffle(SEED).drop_last(true);
    if loader.batches() == 0 {
        return Err(common::wrong("--text", &format!("needs more than {} bytes", tokens.len())));
    }

    let params = Params::new(&device, SEED);
    let vocab = ByteTokenizer.vocab_size();
    let model = Gpt::new(&params, GptConfig { vocab, size: 128, heads: 4, layers: 2, dropout: 0.0 });
    println!("a text of {} bytes, a model of {} weights\n", tokens.len(), params.count());

    let mut adam = Gpt::optimizer(&params, steps);
    let (every, start) = (steps.div_ceil(SAMPLES).max(1), Instant::now());
    let mut progress = Progress::new("learning", steps, 0);
    // One epoch after the other, each in an order of its own.
    let batches = std::iter::repeat_with(|| loader.epoch(&device)).flatten();
    for (step, batch) in (1..=steps).zip(batches) {
        batch.check()?;
        let loss = model.loss(&batch, &Pass::train(&params));
        adam.step(loss.backward(&params))?;
        // Reading waits for the device, so it is done seldom.
        if step % 10 == 0 {
            progress.set(step, &[("loss", f64::from(loss.item::<f32>()?))]);
        }
        if step % every == 0 {
            let bits = loss.item::<f32>()? / std::f32::consts::LN_2;
            progress
                .finish(&format!("step {step}/{steps}, {bits:.2} bits a byte, {:.0} s", start.elapsed().as_secs_f64()));
            let sample = write(&model, prompt, 100, temperature, &Tensor::key(step, &device))?;
            println!("    {}", sample.escape_debug());
            progress = Progress::new("learning", steps, step);
        }
    }

    let (plans, start) = (device.plans_made(), Instant::now());
    let sample = write(&model, prompt, length, temperature, &Tensor::key(SEED, &device))?;
    let (plans, seconds) = (device.plans_made() - plans, start.elapsed().as_secs_f64());
    println!("\n{sample}\n");
    println!("wrote {length} bytes with {plans} new plans, {:.0} bytes/s on {device}", length as f64 / seconds);
    Ok(())
}

/// The prompt and `length` bytes more.
fn write(model: &Gpt, prompt: &str, length: usize, temperature: f64, key: &Tensor) -> Result<String> {
    let mut tokens = ByteTokenizer.encode(prompt);
    let mut writer = Writer::new(model, &tokens, tokens.len() + length, temperature, key);
    for _ in 0..length {
        tokens.push(writer.write()?.item::<i32>()? as u32);
    }
    Ok(ByteTokenizer.decode(&tokens))
}
