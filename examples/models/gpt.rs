//! A small GPT, how it is taught, and a writer that continues a text with it, one token at a time.
//!
//! Nothing here waits for a result, so that a web page uses it as it is.

use wgrad::data::Batch;
use wgrad::nn::{Embedding, KvCache, LayerNorm, Linear, Module, TransformerBlock};
use wgrad::optim::{AdamW, Optimizer, Schedule};
use wgrad::prelude::*;

/// How large a [`Gpt`] is.
#[derive(Clone, Copy, Debug)]
pub struct GptConfig {
    /// How many tokens there are.
    pub vocab: usize,
    /// Elements of a position.
    pub size: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// The probability that training drops an element.
    pub dropout: f64,
}

/// Blocks of causal attention with rotary positions between an embedding and scores of what follows.
pub struct Gpt {
    tokens: Embedding,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    head: Linear,
}

impl Gpt {
    /// The model, its weights in `params`.
    pub fn new(params: &Params, config: GptConfig) -> Gpt {
        let GptConfig { vocab, size, heads, layers, dropout } = config;
        let block = |k| TransformerBlock::new(&params.at(format!("blocks.{k}")), size, heads);
        Gpt {
            tokens: Embedding::new(&params.at("tokens"), vocab, size),
            blocks: (0..layers).map(|k| block(k).causal().rotary(10_000.0).dropout(dropout)).collect(),
            norm: LayerNorm::new(&params.at("norm"), size),
            head: Linear::new(&params.at("head"), size, vocab),
        }
    }

    /// What moves its weights over `steps` steps.
    pub fn optimizer(params: &Params, steps: u64) -> Optimizer<AdamW> {
        let warm = (steps / 10).max(1);
        let schedule = Schedule::linear_warmup(warm).then(Schedule::cosine(steps.saturating_sub(warm), 0.1));
        AdamW::new(params, 3e-3).weight_decay(0.1).schedule(schedule).clip_norm(1.0)
    }

    /// How much the tokens `[n, t]` of a batch surprise it, in nats a token.
    pub fn loss(&self, batch: &Batch, pass: &Pass) -> Tensor {
        // Scores [n, t, vocab] become a row for each token.
        self.forward(&batch.x, pass).flatten(0, 1).cross_entropy(&batch.y.reshape(-1))
    }

    /// Scores `[1, t, vocab]` for the tokens `[1, t]` that follow those in `cache`.
    pub fn forward_cached(&self, tokens: &Tensor, cache: &mut KvCache) -> Tensor {
        let pass = Pass::eval();
        let x = self.tokens.forward(tokens, &pass);
        let x = self.blocks.iter().fold(x, |x, block| block.forward_cached(&x, cache, &pass));
        self.head.forward(&self.norm.forward(&x, &pass), &pass)
    }
}

impl Module for Gpt {
    /// Scores `[n, t, vocab]` of what follows each of the tokens `[n, t]`.
    fn forward(&self, tokens: &Tensor, pass: &Pass) -> Tensor {
        let x = self.tokens.forward(tokens, pass);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x, pass));
        self.head.forward(&self.norm.forward(&x, pass), pass)
    }
}

/// Continues a text. The cache keeps what the model knows of the tokens so far, so that each call
/// computes one position only; the first call, with the prompt, is one plan, all others are another.
pub struct Writer<'a> {
    model: &'a Gpt,
    cache: KvCache,
    /// What the model has not seen yet: the prompt, then the last token.
    unseen: Tensor,
    /// The randomness, from which each position takes its own.
    key: Tensor,
    temperature: f64,
}

impl<'a> Writer<'a> {
    /// A writer that goes on after `prompt`, up to `length` tokens in all. A low `temperature` takes
    /// what is likely, one above 1 dares more.
    pub fn new(model: &'a Gpt, prompt: &[u32], length: usize, temperature: f64, key: &Tensor) -> Writer<'a> {
        let prompt: Vec<i32> = prompt.iter().map(|&token| token as i32).collect();
        let unseen = Tensor::from_slice(&prompt, [1, prompt.len()], key.device());
        Writer { model, cache: KvCache::new(length, key.device()), unseen, key: key.clone(), temperature }
    }

    /// The next token, `i32 [1]`: on its way when this returns, not waited for.
    pub fn write(&mut self) -> wgrad::Result<Tensor> {
        let scores = self.model.forward_cached(&self.unseen, &mut self.cache);
        let last = scores.narrow(1, scores.dim(1).saturating_sub(1), 1).squeeze(1);
        // An input of the graph, as is the key: another value needs no other plan.
        let temperature = Tensor::input(self.temperature, self.key.device());
        let token = (last / temperature).categorical(&self.key.fold_in(self.cache.len() as i64));
        self.cache.advance([&token])?;
        self.unseen = token.reshape([1, 1]);
        Ok(token)
    }
}
