//! A small GPT: the model of the example `char_gpt`, taught a text that the visitor gives.

use wgrad::Result;
use wgrad::data::{Batch, ByteTokenizer, Loader, TokenDataset, Tokenizer};
use wgrad::optim::{AdamW, Optimizer};
use wgrad::prelude::*;

use crate::learner::{Learner, Lesson};

#[path = "../../models/gpt.rs"]
mod model;

use model::{Gpt, GptConfig, Writer};

/// Bytes that the model sees at once.
pub const CONTEXT: usize = 64;
/// Windows of the text in a batch.
pub const BATCH: usize = 8;
/// Windows of a text at most: every step orders all of them anew, and 4,000 steps look at no more.
const WINDOWS_MAX: usize = 1 << 15;
/// How many bytes are written before the page is told.
const TOLD_EVERY: usize = 8;

/// A text to learn.
pub struct Text {
    windows: Loader,
    steps: u64,
    /// How long it is.
    pub bytes: usize,
}

impl Text {
    /// `text`, to be learnt in `steps` steps.
    pub fn new(text: &str, steps: u64) -> Result<Text> {
        let tokens = ByteTokenizer.encode(text);
        // A window begins at every byte, in long texts at every few.
        let stride = tokens.len().div_ceil(WINDOWS_MAX).max(1);
        let windows = Loader::new(TokenDataset::new(&tokens, CONTEXT, stride)?, BATCH);
        let windows = windows.shuffle(Text::SEED).drop_last(true).workers(0);
        Ok(Text { windows, steps, bytes: tokens.len() })
    }
}

impl Lesson for Text {
    type Model = Gpt;
    const SEED: u64 = 42;

    fn model(&self, params: &Params) -> Gpt {
        let vocab = ByteTokenizer.vocab_size();
        Gpt::new(params, GptConfig { vocab, size: 64, heads: 4, layers: 2, dropout: 0.0 })
    }
    fn optimizer(&self, params: &Params) -> Optimizer<AdamW> {
        Gpt::optimizer(params, self.steps)
    }
    fn loader(&self) -> &Loader {
        &self.windows
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    fn loss(&self, model: &Gpt, batch: &Batch, pass: &Pass) -> Tensor {
        model.loss(batch, pass)
    }
}

impl Learner<Text> {
    /// `length` bytes that follow `prompt`; `tell` hears of them as they come.
    pub async fn write(
        &self,
        prompt: &str,
        length: usize,
        temperature: f64,
        seed: u64,
        mut tell: impl FnMut(&str),
    ) -> Result<String> {
        // An empty prompt begins a line.
        let prompt = ByteTokenizer.encode(if prompt.is_empty() { "\n" } else { prompt });
        let key = Tensor::key(seed, &self.place().device);
        let mut writer = Writer::new(self.model(), &prompt, prompt.len() + length, temperature.max(0.01), &key);
        let (mut coming, mut written) = (Vec::new(), Vec::new());
        for k in 1..=length {
            coming.push(writer.write()?);
            self.place().device.ready().await?;
            // The next byte needs the one before on the device only; the page reads several at once.
            if k % TOLD_EVERY == 0 || k == length {
                let tokens = Tensor::cat(&std::mem::take(&mut coming), 0).read::<i32>().await?;
                written.extend(tokens.into_iter().map(|token| token as u32));
                tell(&ByteTokenizer.decode(&written));
            }
        }
        Ok(ByteTokenizer.decode(&written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_has_fewer_windows() {
        let samples = |bytes: usize| Text::new(&"x".repeat(bytes), 1).expect("a text").loader().samples();
        assert_eq!(samples(CONTEXT + BATCH), BATCH);
        assert_eq!(samples(WINDOWS_MAX), (WINDOWS_MAX - CONTEXT) / BATCH * BATCH);
        assert!((WINDOWS_MAX / 2..=WINDOWS_MAX).contains(&samples(40 * WINDOWS_MAX + 7)));
    }
}
