//! Kernels one by one, on every device there is: products, convolutions, attention, maps, rows and columns,
//! scans, sorts, and gradients of some of them.
//!
//! `cargo bench --bench kernels [-- NAME]`; software Vulkan counts as a device.

mod common;

use criterion::{Criterion, Throughput, criterion_main};
use wgrad::prelude::*;

/// What is timed, the floating point operations or elements of it, and how it is built.
type Case = (&'static str, u64, Box<dyn Fn() -> Tensor>);

fn cases(device: &Device) -> Vec<Case> {
    let key = Tensor::key(1, device);
    let random = |dims: &[usize]| {
        let x = Tensor::normal(dims, &key);
        x.realize().expect("numbers");
        x
    };
    let (square, tall) = (random(&[512, 512]), random(&[4096, 256]));
    let (images, filters) = (random(&[16, 32, 32, 32]), random(&[64, 32, 3, 3]));
    let (rows, long) = (random(&[4096, 1024]), random(&[1 << 22]));
    let (line, table, dy) = (random(&[1 << 20]), random(&[256, 128]).tracked(), random(&[1024, 128]));
    let ids = (Tensor::uniform([8, 128], &key) * 256.0).cast(DType::I32);
    ids.realize().expect("numbers");
    let turned = (square.clone(), square.transpose(0, 1));
    let halves = square.cast(DType::F16);
    halves.realize().expect("numbers");
    let options = ConvOptions::default().padding(1);
    let (seen, learned) = (images.clone().tracked(), filters.clone().tracked());
    let (small, kernel) = (random(&[16, 64, 16, 16]), random(&[64, 32, 4, 4]));
    let (deep, each) = (images.clone(), random(&[32, 1, 3, 3]));
    let heads = random(&[8, 256, 64]).tracked();
    let attention = |q: &Tensor| q.scaled_dot_product_attention(q, q, AttentionOptions::default().causal());
    let (asked, known) = (heads.clone(), rows.clone().tracked());
    let case = |name, work, f: Box<dyn Fn() -> Tensor>| (name, work, f);
    let (x, r) = (square.clone(), rows.clone());
    let (summed, sorted) = (line.clone(), line);
    let shared = move |f: fn(&Tensor) -> Tensor| -> Box<dyn Fn() -> Tensor> {
        let r = r.clone();
        Box::new(move || f(&r))
    };
    vec![
        case("matmul 512", 2 << 27, Box::new(move || x.matmul(&x))),
        case("matmul 512 by a transpose", 2 << 27, Box::new(move || turned.0.matmul(&turned.1))),
        case("matmul 4096x256 turned", 2 * 256 * 256 * 4096, Box::new(move || tall.transpose(0, 1).matmul(&tall))),
        case(
            "conv2d 32 to 64",
            2 * 16 * 1024 * 64 * 288,
            Box::new(move || images.conv2d(&filters, None, options.clone())),
        ),
        case(
            "conv2d 32 to 64 by 2 with gradients",
            3 * 2 * 16 * 256 * 64 * 288,
            Box::new(move || {
                let y = seen.conv2d(&learned, None, ConvOptions::default().padding(1).stride(2));
                let dxs = y.vjp(&y.detach(), &[&seen, &learned]);
                Tensor::cat(&dxs.iter().map(|dx| dx.reshape(-1)).collect::<Vec<_>>(), 0)
            }),
        ),
        case(
            "conv2d 64 to 32 transposed by 2",
            2 * 16 * 256 * 64 * 32 * 16,
            Box::new(move || small.conv_transpose2d(&kernel, None, ConvOptions::default().padding(1).stride(2))),
        ),
        case("matmul 512 of f16", 2 << 27, Box::new(move || halves.matmul(&halves).cast(DType::F32))),
        case(
            "conv2d 32 depthwise",
            2 * 16 * 1024 * 32 * 9,
            Box::new(move || deep.conv2d(&each, None, ConvOptions::default().padding(1).groups(32))),
        ),
        case("attention 8 heads 256x64", 2 * 8 * 256 * 256 * 64, Box::new(move || attention(&asked))),
        case(
            "attention with gradient",
            7 * 8 * 256 * 256 * 64,
            Box::new(move || attention(&heads).vjp(&heads.detach(), &[&heads]).remove(0)),
        ),
        case(
            "layer norm gradient 4096x1024",
            1 << 22,
            Box::new(move || known.layer_norm(-1, None, None, 1e-5).vjp(&known.detach(), &[&known]).remove(0)),
        ),
        case("elementwise 4M", 1 << 22, Box::new(move || (&long * 1.3 + 0.2).tanh() * long.sigmoid() + long.relu())),
        case("softmax 4096x1024", 1 << 22, shared(|x| x.softmax(-1))),
        case("layer norm 4096x1024", 1 << 22, shared(|x| x.layer_norm(-1, None, None, 1e-5))),
        case("sum of rows", 1 << 22, shared(|x| x.sum(1))),
        case("sum of columns", 1 << 22, shared(|x| x.sum(0))),
        case("sum of all", 1 << 22, shared(|x| x.sum(..))),
        case("cumsum 1M one line", 1 << 20, Box::new(move || summed.cumsum(0))),
        case("cumsum 4096x1024 rows", 1 << 22, shared(|x| x.cumsum(1))),
        case("sort 1M", 1 << 20, Box::new(move || sorted.sort(0, false).0)),
        case(
            "embedding gradient",
            1 << 17,
            Box::new(move || table.embedding(&ids).vjp(&dy.reshape([8, 128, 128]), &[&table]).remove(0)),
        ),
    ]
}

fn benches(c: &mut Criterion) {
    for device in common::devices() {
        let mut group = c.benchmark_group(device.to_string());
        group.sample_size(20);
        for (name, work, build) in cases(&device) {
            group.throughput(Throughput::Elements(work));
            group.bench_function(name, |b| {
                b.iter(|| {
                    let y = build();
                    // One element comes back, so that the whole has run.
                    y.realize().and_then(|()| y.reshape(-1).narrow(0, 0, 1).item::<f32>()).expect("a result")
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
