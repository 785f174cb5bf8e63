//! What a training step costs on the host before anything runs: building the graph, flattening
//! and hashing it (a plan-cache hit), and compiling it (a miss).
//!
//! Budget: 0.6 µs a node for building, flattening and hashing.

use criterion::{Criterion, Throughput, criterion_main};
use std::hint::black_box;
use wgrad::compile::{compile, graph::Graph, plan::Limits, plan::Target, tiles::Tiles};
use wgrad::prelude::*;

/// A graph of about 3,000 nodes that looks like a training step: row chains, maps and products.
fn step(x: &Tensor, weights: &[Tensor]) -> Vec<Tensor> {
    let mut h = x.clone();
    for w in weights {
        let y = h.layer_norm(-1, None, None, 1e-5).matmul(w);
        h = &h + y.gelu() * 0.5;
    }
    let loss = h.square_mean();
    let mut roots = loss.grad(&weights.iter().collect::<Vec<_>>());
    roots.push(loss);
    roots
}

trait SquareMean {
    fn square_mean(&self) -> Tensor;
}
impl SquareMean for Tensor {
    fn square_mean(&self) -> Tensor {
        (self * self).mean(..)
    }
}

fn limits(target: Target) -> Limits {
    Limits {
        target,
        buffers_max: 8,
        binding_bytes_max: 1 << 27,
        buffer_bytes_max: 1 << 31,
        invocations_max: 256,
        workgroup_bytes_max: 16 << 10,
        groups_max: 65_535,
        tiles: Tiles::of(target),
        cooperative: None,
        sort_block: 64,
        template_flops_min: u64::MAX,
        memory_bytes_max: u64::MAX,
    }
}

fn benches(c: &mut Criterion) {
    let device = Device::cpu();
    let x = Tensor::ones([64, 32], &device);
    x.realize().expect("the CPU device always runs");
    let weights: Vec<Tensor> = (0..45).map(|_| Tensor::ones([32, 32], &device).tracked()).collect();
    let nodes = Graph::flatten(&step(&x, &weights)).0.nodes.len() as u64;
    println!("{nodes} nodes");

    let mut group = c.benchmark_group("step");
    group.throughput(Throughput::Elements(nodes));
    group.bench_function("build", |b| b.iter(|| black_box(step(&x, &weights))));
    let roots = step(&x, &weights);
    group.bench_function("flatten and hash", |b| b.iter(|| black_box(Graph::flatten(&roots).0.structure())));
    group.bench_function("build, flatten and hash", |b| {
        b.iter(|| black_box(Graph::flatten(&step(&x, &weights)).0.structure()));
    });
    group.sample_size(10);
    let graph = Graph::flatten(&roots).0;
    for target in [Target::Cpu, Target::Gpu] {
        let limits = limits(target);
        group.bench_function(format!("compile for {target:?}"), |b| b.iter(|| black_box(compile(&graph, &limits))));
    }
    group.finish();
}

mod group {
    #![allow(missing_docs, reason = "the macro makes a public function")]
    criterion::criterion_group!(all, super::benches);
}
use group::all;
criterion_main!(all);
