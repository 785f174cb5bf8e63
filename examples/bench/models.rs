//! The networks that are trained: an MLP, a CNN, a GPT and a tiny one, all weights from hashes.

use wgrad::nn::{Conv2d, Embedding, LayerNorm, Linear};
use wgrad::prelude::*;

use super::data::{transposed, uniform};

const SIZE: usize = 128;
const HEADS: usize = 4;
/// Tokens of a window.
pub const WINDOW: usize = 128;
const BLOCKS: usize = 4;

/// A network that is built, and what it makes of its inputs.
pub type Forward = Box<dyn Fn(&Tensor, &Pass) -> Tensor>;

/// Gives each weight below `params`, in the order of `paths`, the next seed after `seed`.
/// Matrices are hashed as `[inputs, outputs]` and lie here as `[outputs, inputs]`.
fn fill(params: &Params, mut seed: u32, paths: &[String]) -> wgrad::Result<()> {
    let device = params.device();
    let mut next = |path: &str, fan_in: usize| -> Option<(Param, Tensor)> {
        let param = params.get(path)?;
        seed += 1;
        let dims = param.value().dims().to_vec();
        let scale = 1.0 / (fan_in as f32).sqrt();
        let value = match dims[..] {
            [outputs, inputs] if !path.ends_with("embedding.weight") => {
                transposed([inputs, outputs], seed, scale, device)
            }
            _ => uniform(&dims, seed, scale, device),
        };
        Some((param, value))
    };
    let mut values = Vec::new();
    for path in paths {
        let weight = format!("{path}.weight");
        let Some(shape) = params.get(&weight).map(|param| param.value().dims().to_vec()) else { continue };
        let fan_in = shape.iter().skip(1).product();
        values.extend(next(&weight, fan_in));
        values.extend(next(&format!("{path}.bias"), fan_in));
    }
    params.assign(values.iter().map(|(param, value)| (param, value.clone())))
}

fn names(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| path.to_string()).collect()
}

/// 784, 512, 256, 10.
pub fn mlp(params: &Params) -> wgrad::Result<Forward> {
    let layer = |name, inputs, outputs| Linear::new(&params.at(name), inputs, outputs);
    let (l1, l2, l3) = (layer("l1", 784, 512), layer("l2", 512, 256), layer("l3", 256, 10));
    fill(params, 100, &names(&["l1", "l2", "l3"]))?;
    Ok(Box::new(move |x, pass| {
        let x = l2.forward(&l1.forward(x, pass).relu(), pass).relu();
        l3.forward(&x, pass)
    }))
}

/// Two convolutions with pooling, two linear layers.
pub fn cnn(params: &Params) -> wgrad::Result<Forward> {
    let conv =
        |name, inputs, outputs| Conv2d::new(&params.at(name), inputs, outputs, 3, ConvOptions::default().padding(1));
    let (c1, c2) = (conv("c1", 1, 32), conv("c2", 32, 64));
    let (f1, f2) = (Linear::new(&params.at("f1"), 3136, 128), Linear::new(&params.at("f2"), 128, 10));
    fill(params, 200, &names(&["c1", "c2", "f1", "f2"]))?;
    Ok(Box::new(move |x, pass| {
        let pool = |x: Tensor| x.relu().max_pool2d(2, PoolOptions::default());
        let x = pool(c2.forward(&pool(c1.forward(x, pass)), pass));
        f2.forward(&f1.forward(&x.flatten(1, -1), pass).relu(), pass)
    }))
}

struct Block {
    ln1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    ln2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// Four blocks; attention in formulas, or by its own word when `fused`.
pub fn gpt(params: &Params, fused: bool) -> wgrad::Result<Forward> {
    let token = Embedding::new(&params.at("token_embedding"), 256, SIZE);
    let position = Embedding::new(&params.at("position_embedding"), WINDOW, SIZE);
    let block = |k: usize| {
        let at = |name: &str| params.at(format!("block{k}.{name}"));
        Block {
            ln1: LayerNorm::new(&at("ln1"), SIZE),
            qkv: Linear::new(&at("qkv"), SIZE, 3 * SIZE),
            proj: Linear::new(&at("proj"), SIZE, SIZE),
            ln2: LayerNorm::new(&at("ln2"), SIZE),
            up: Linear::new(&at("up"), SIZE, 4 * SIZE),
            down: Linear::new(&at("down"), 4 * SIZE, SIZE),
        }
    };
    let blocks: Vec<Block> = (0..BLOCKS).map(block).collect();
    let norm = LayerNorm::new(&params.at("norm"), SIZE);
    let head = Linear::without_bias(&params.at("head"), SIZE, 256);
    let mut order = names(&["token_embedding", "position_embedding"]);
    for k in 0..BLOCKS {
        order.extend(["qkv", "proj", "up", "down"].map(|name| format!("block{k}.{name}")));
    }
    order.push("head".into());
    fill(params, 300, &order)?;
    let positions = Tensor::arange(0, WINDOW as i64, 1, params.device());
    let future = Tensor::ones([WINDOW, WINDOW], params.device()).triu(1).cast(DType::Bool);
    wgrad::realize([&positions, &future])?;
    Ok(Box::new(move |x, pass| {
        let (n, t, width) = (x.dim(0), x.dim(1), SIZE / HEADS);
        let mut h = token.forward(x, pass) + position.forward(&positions, pass);
        for block in &blocks {
            let qkv = block.qkv.forward(&block.ln1.forward(&h, pass), pass);
            let heads = |k: usize| qkv.narrow(2, k * SIZE, SIZE).reshape([n, t, HEADS, width]).transpose(1, 2);
            let (q, k, v) = (heads(0), heads(1), heads(2));
            let y = match fused {
                true => q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().causal()),
                false => {
                    let scores = q.matmul(&k.transpose(2, 3)) * (width as f64).powf(-0.5);
                    scores.masked_fill(&future, f64::NEG_INFINITY).softmax(-1).matmul(&v)
                }
            };
            h = h + block.proj.forward(&y.transpose(1, 2).reshape([n, t, SIZE]), pass);
            h = &h + block.down.forward(&block.up.forward(&block.ln2.forward(&h, pass), pass).gelu(), pass);
        }
        head.forward(&norm.forward(&h, pass), pass).flatten(0, 1)
    }))
}

/// 2, 16, 1.
pub fn tiny(params: &Params) -> wgrad::Result<Forward> {
    let (l1, l2) = (Linear::new(&params.at("l1"), 2, 16), Linear::new(&params.at("l2"), 16, 1));
    fill(params, 400, &names(&["l1", "l2"]))?;
    Ok(Box::new(move |x, pass| l2.forward(&l1.forward(x, pass).tanh(), pass)))
}
