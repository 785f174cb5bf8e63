//! Training beside PyTorch: three models, every optimizer, 20 steps from the same weights and data.
//!
//! The numbers are in `tests/data/torch/curves.safetensors`, which `curves.py` beside it made.

use wgrad::io::SafeTensors;
use wgrad::nn::{Conv2d, Embedding, LayerNorm, Linear, TransformerBlock};
use wgrad::optim::{Adafactor, Adagrad, Adam, AdamW, Lion, Optimizer, RmsProp, Rule, Sgd};
use wgrad::prelude::*;
use wgrad::realize;

use crate::devices::devices;

/// By how much a loss may differ from PyTorch's, relative to it.
const TOLERANCE: f64 = 1e-4;

/// Scores of a batch, by a model whose weights live in a store.
type Model = Box<dyn Fn(&Tensor, &Pass) -> Tensor>;

fn mlp(params: &Params) -> Model {
    let sizes = [20, 32, 16, 5];
    let layer = |n: usize| Linear::new(&params.at(format!("fc{}", n + 1)), sizes[n], sizes[n + 1]);
    let [fc1, fc2, fc3] = std::array::from_fn(layer);
    Box::new(move |x, pass| {
        let x = fc2.forward(&fc1.forward(x, pass).relu(), pass).gelu();
        fc3.forward(&x, pass)
    })
}

fn cnn(params: &Params) -> Model {
    let padded = || ConvOptions::default().padding(1);
    let conv1 = Conv2d::new(&params.at("conv1"), 1, 6, 3, padded());
    let conv2 = Conv2d::new(&params.at("conv2"), 6, 8, 3, padded());
    let (fc1, fc2) = (Linear::new(&params.at("fc1"), 8 * 7 * 7, 24), Linear::new(&params.at("fc2"), 24, 10));
    Box::new(move |x, pass| {
        let pooled = |x: Tensor| x.relu().max_pool2d(2, PoolOptions::default());
        let x = pooled(conv1.forward(&x.reshape([-1, 1, 28, 28]), pass));
        let x = pooled(conv2.forward(&x, pass));
        fc2.forward(&fc1.forward(&x.flatten(1, -1), pass).relu(), pass)
    })
}

fn gpt(params: &Params) -> Model {
    let (tok, pos) = (Embedding::new(&params.at("tok"), 23, 24), Embedding::new(&params.at("pos"), 12, 24));
    let block = |n: usize| TransformerBlock::new(&params.at(format!("blocks.{n}")), 24, 3).causal();
    let blocks: [TransformerBlock; 2] = std::array::from_fn(block);
    let norm = LayerNorm::new(&params.at("norm"), 24);
    Box::new(move |x, pass| {
        let start = tok.forward(x, pass) + pos.weight.tensor(pass);
        let x = blocks.iter().fold(start, |x, block| block.forward(&x, pass));
        norm.forward(&x, pass).matmul(&tok.weight.tensor(pass).t())
    })
}

/// The models by their names in the file.
const MODELS: [(&str, fn(&Params) -> Model); 3] = [("mlp", mlp), ("cnn", cnn), ("gpt", gpt)];

fn follows<R: Rule>(curve: &str, make: fn(&Params) -> Optimizer<R>) {
    let bytes = include_bytes!("../data/torch/curves.safetensors").to_vec();
    let file = SafeTensors::from_bytes("curves.safetensors", bytes).unwrap();
    for device in devices() {
        for (name, build) in MODELS {
            let get = |key: &str| file.tensor(&format!("{name}/{key}"), &device).unwrap();
            let params = Params::new(&device, 1);
            let model = build(&params);
            params.load_from(&file, |path| Some(format!("{name}/state/{path}"))).unwrap();
            let mut optimizer = make(&params);
            let batches = |key: &str| {
                let parts: Vec<Tensor> = get(key).chunk(5, 0).iter().map(|part| part.squeeze(0)).collect();
                realize(&parts).unwrap();
                parts
            };
            let (x, y) = (batches("x"), batches("y"));
            for (n, want) in get(&format!("loss/{curve}")).to_vec::<f32>().unwrap().into_iter().enumerate() {
                let scores = model(&x[n % x.len()], &Pass::train(&params));
                let loss = scores.flatten(0, -2).cross_entropy(&y[n % y.len()].flatten(0, -1));
                optimizer.step(optimizer.backward(&loss)).unwrap();
                let (got, want) = (f64::from(loss.item::<f32>().unwrap()), f64::from(want));
                let off = (got - want).abs() / want;
                assert!(
                    off <= TOLERANCE,
                    "{name} with {curve} on {device}, step {n}: {got}, PyTorch {want}, off {off:.1e}"
                );
            }
        }
    }
}

/// One test for each optimizer, with the settings it has in curves.py.
macro_rules! curves {
    ($($name:ident: $make:expr;)*) => {$(
        #[test]
        fn $name() {
            follows(stringify!($name), $make);
        }
    )*};
}
curves! {
    sgd: |p| Sgd::new(p, 0.05);
    sgd_momentum: |p| Sgd::new(p, 0.02).momentum(0.9).weight_decay(1e-3);
    sgd_nesterov: |p| Sgd::new(p, 0.02).momentum(0.9).nesterov(true);
    adam: |p| Adam::new(p, 1e-3).weight_decay(1e-3);
    adamw: |p| AdamW::new(p, 1e-3).weight_decay(0.1);
    rmsprop: |p| RmsProp::new(p, 1e-4);
    rmsprop_centered: |p| RmsProp::new(p, 1e-4).momentum(0.5).centered(true);
    adagrad: |p| Adagrad::new(p, 5e-3).lr_decay(0.01);
    adafactor: |p| Adafactor::new(p, 1e-2);
    lion: |p| Lion::new(p, 1e-4).weight_decay(0.1);
}
