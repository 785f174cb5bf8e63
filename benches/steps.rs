//! Whole training steps of the benchmark's networks, on every device there is.
//!
//! `cargo bench --bench steps [-- NAME]`; software Vulkan counts as a device. A step ends with its
//! loss on the host, so nothing is left under way.

mod common;
#[path = "../examples/bench/data.rs"]
mod data;
#[path = "../examples/bench/models.rs"]
#[allow(dead_code, reason = "the tiny network is for the benchmark alone")]
mod models;

use criterion::{Criterion, criterion_main};
use data::{integers, uniform};
use models::{Forward, WINDOW};
use wgrad::optim::AdamW;
use wgrad::prelude::*;

/// A network with its batch.
struct Case {
    name: &'static str,
    model: fn(&Params) -> wgrad::Result<Forward>,
    x: Tensor,
    y: Tensor,
}

fn cases(d: &Device) -> Vec<Case> {
    let tokens = integers(&[8, WINDOW], 1, 256, d);
    let next = integers(&[8 * WINDOW], 2, 256, d);
    vec![
        Case { name: "mlp", model: models::mlp, x: uniform(&[128, 784], 1, 1.0, d), y: integers(&[128], 2, 10, d) },
        Case { name: "cnn", model: models::cnn, x: uniform(&[64, 1, 28, 28], 1, 1.0, d), y: integers(&[64], 2, 10, d) },
        Case { name: "gpt", model: |params| models::gpt(params, false), x: tokens.clone(), y: next.clone() },
        Case { name: "gpt, attention by its word", model: |params| models::gpt(params, true), x: tokens, y: next },
    ]
}

fn benches(c: &mut Criterion) {
    for device in common::devices() {
        let mut group = c.benchmark_group(device.to_string());
        group.sample_size(10);
        for Case { name, model, x, y } in cases(&device) {
            let params = Params::new(&device, 0);
            let model = model(&params).expect("a network");
            let mut optimizer = AdamW::new(&params, 1e-3);
            group.bench_function(name, |b| {
                b.iter(|| {
                    let loss = model(&x, &Pass::train(&params)).cross_entropy(&y);
                    optimizer.step(loss.backward(&params)).and_then(|_| loss.item::<f32>()).expect("a step")
                });
            });
        }
        group.finish();
    }
}

mod group {
    #![allow(missing_docs, reason = "the macro makes a public function")]
    criterion::criterion_group!(all, super::benches);
}
use group::all;
criterion_main!(all);
