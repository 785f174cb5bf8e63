//! Training steps whose work is counted: dispatches and submissions of a step, that a steady
//! step makes nothing new, and that it holds the memory that was predicted. The networks are those of the benchmark.

use wgrad::device::gpu::Gpu;
use wgrad::optim::{Adam, AdamW, Optimizer, Rule};
use wgrad::prelude::*;

use crate::devices::own_gpu;

#[path = "../../examples/bench/data.rs"]
mod data;
#[path = "../../examples/bench/models.rs"]
#[allow(dead_code, reason = "the tiny network is for the benchmark alone")]
mod models;

use data::{integers, uniform};
use models::{Forward, WINDOW};

/// A training loop on a GPU of its own; its steps may have so many dispatches, and one submission.
fn counted<R: Rule>(
    dispatches_max: u64,
    x: impl Fn(&Device) -> [Tensor; 2],
    model: impl Fn(&Params) -> wgrad::Result<Forward>,
    optimizer: impl Fn(&Params) -> Optimizer<R>,
) {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let gpu = Gpu::of(&device).unwrap();
    let params = Params::new(&device, 0);
    let model = model(&params).unwrap();
    let mut optimizer = optimizer(&params);
    let [x, y] = x(&device);
    let mut step = || {
        let loss = model(&x, &Pass::train(&params)).cross_entropy(&y);
        optimizer.step(loss.backward(&params)).unwrap();
        loss
    };
    for _ in 0..4 {
        step().item::<f32>().unwrap();
    }
    device.reset_peak_memory();
    let before = (gpu.counts(), device.memory_use(), device.plans_made());
    const STEPS: u64 = 4;
    let losses: Vec<f32> = (0..STEPS).map(|_| step().item().unwrap()).collect();
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let after = (gpu.counts(), device.memory_use(), device.plans_made());
    let [dispatches, submissions, bind_groups] = [0, 1, 2].map(|k| after.0[k] - before.0[k]);
    assert!(dispatches <= STEPS * dispatches_max, "{} dispatches a step", dispatches as f64 / STEPS as f64);
    assert_eq!(submissions, STEPS, "a step is one submission");
    assert_eq!(bind_groups, 0, "a steady step makes no bind group");
    assert_eq!(after.2, before.2, "a steady step makes no plan, so no pipeline");
    assert_eq!(after.1.allocations, before.1.allocations, "a steady step asks the driver for no memory");
    assert_eq!(after.1.live_bytes, before.1.live_bytes, "a steady step leaves nothing behind");

    let loss = model(&x, &Pass::train(&params)).cross_entropy(&y);
    let predicted = optimizer.explain(loss.backward(&params)).unwrap().peak_bytes();
    let held = after.1.peak_bytes - before.1.live_bytes;
    let ratio = held as f64 / predicted as f64;
    assert!((0.95..1.05).contains(&ratio), "{held} bytes held, {predicted} predicted: {ratio:.3}");
}

fn rows(d: &Device) -> [Tensor; 2] {
    [uniform(&[128, 784], 1, 1.0, d), integers(&[128], 2, 10, d)]
}

fn images(d: &Device) -> [Tensor; 2] {
    [uniform(&[64, 1, 28, 28], 1, 1.0, d), integers(&[64], 2, 10, d)]
}

fn tokens(d: &Device) -> [Tensor; 2] {
    [integers(&[8, WINDOW], 1, 256, d), integers(&[8 * WINDOW], 2, 256, d)]
}

#[test]
fn gpu_steps_of_an_mlp_are_12_dispatches() {
    counted(12, rows, models::mlp, |params| AdamW::new(params, 1e-3));
}

#[test]
fn gpu_steps_of_a_cnn_are_30_dispatches() {
    counted(30, images, models::cnn, |params| Adam::new(params, 1e-3));
}

#[test]
fn gpu_steps_of_a_gpt_are_130_dispatches() {
    for fused in [false, true] {
        let gpt = |params: &Params| models::gpt(params, fused);
        counted(130, tokens, gpt, |params| AdamW::new(params, 3e-4).weight_decay(0.01));
    }
}

/// What a plan says it needs is what the pool then holds, but for sizes rounded up to its classes.
#[test]
fn gpu_memory_is_what_was_predicted() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let [x, y] = rows(&device);
    let sizes = [784, 512, 256, 10];
    let weights = sizes.windows(2).map(|s| uniform(&[s[0], s[1]], 3, 0.05, &device).tracked());
    let weights: Vec<Tensor> = weights.collect();
    wgrad::realize(weights.iter().chain([&x, &y])).unwrap();
    // The test of the product template holds memory, too.
    x.matmul(&x.transpose(0, 1)).realize().unwrap();
    let h = x.matmul(&weights[0]).relu().matmul(&weights[1]).relu();
    let loss = h.matmul(&weights[2]).cross_entropy(&y);
    let roots: Vec<Tensor> = loss.grad(&weights.iter().collect::<Vec<_>>()).into_iter().chain([loss]).collect();
    let predicted = wgrad::explain(&roots).unwrap().peak_bytes();
    let before = device.memory_use().live_bytes;
    wgrad::realize(&roots).unwrap();
    let held = device.memory_use().peak_bytes - before;
    let ratio = held as f64 / predicted as f64;
    assert!((0.95..1.05).contains(&ratio), "{held} bytes held, {predicted} predicted: {ratio:.3}");
}
