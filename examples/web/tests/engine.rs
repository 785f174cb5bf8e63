//! The engine's tests of rows, primitives and random graphs, in a browser: the tables are those of
//! `tests/it`, run on the browser's GPU and on the CPU, and judged by the same oracle.
//!
//! `wasm-bindgen-test-runner` starts the browser; see `.ci/run`. Natively there is nothing here.
#![cfg(target_arch = "wasm32")]
#![allow(dead_code, reason = "the tables have tests that only run natively")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../tests/it/agree/mod.rs"]
mod agree;
#[path = "engine/compare.rs"]
mod compare;
#[path = "engine/devices.rs"]
mod devices;
#[path = "../../../tests/it/generate/mod.rs"]
mod generate;
#[path = "../../../tests/it/judge.rs"]
mod judge;
#[path = "../../../tests/it/support.rs"]
mod support;

use agree::primitives;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};
use wgrad::device::CustomKernel;
use wgrad::device::gpu::Gpu;
use wgrad::graph::Scalar;
use wgrad::prelude::*;
use wgrad::wgpu;

wasm_bindgen_test_configure!(run_in_browser);

/// How many random graphs are compared on each device.
const GRAPHS: u64 = 60;

/// One test for each row of the scalar table.
macro_rules! rows {
    ($($row:ident)*) => {$(
        #[wasm_bindgen_test]
        #[allow(non_snake_case, reason = "a test is named as its row is")]
        async fn $row() {
            compare::run(|| agree::row(Scalar::$row)).await;
        }
    )*};
}
wgrad::scalar_rows!(rows);

/// One test for each of these tables.
macro_rules! tables {
    ($($module:ident: $($name:ident)*;)*) => {$($(
        #[wasm_bindgen_test]
        async fn $name() {
            compare::run($module::$name).await;
        }
    )*)*};
}
tables! {
    agree: casts bitcasts;
    primitives: movement packed_sizes reductions long_reductions arg_reductions scans products convolutions
        joins_of_results gathers_and_scatters sorts sorts_of_what_is_not random_bits leaves_and_marks;
}

#[wasm_bindgen_test]
async fn random_graphs() {
    compare::run(|| {
        for device in devices::devices() {
            for seed in 0..GRAPHS {
                let how = compare::How::Realize(device.clone());
                compare::agree(&format!("SEED={seed}"), &how, &|device| generate::graph(seed, device));
            }
        }
    })
    .await;
}

/// What a page sees of an index out of range: the numbers of the oracle, and an error that names the word.
#[wasm_bindgen_test]
async fn a_fault_is_told_by_the_next_read() {
    devices::open().await;
    for device in devices::devices() {
        let x = Tensor::new([1.0, 2.0], &device);
        let y = x.gather(0, &Tensor::new([0, 2], &device));
        let error = y.read::<f32>().await.unwrap_err();
        assert_eq!((error.kind(), error.op()), (wgrad::ErrorKind::Index, "gather"), "{device}: {error}");
        assert_eq!(y.read::<f32>().await.unwrap(), [1.0, 0.0], "{device}: told once");
    }
}

/// A shader that the browser refuses, which it says late, is an error at the next read, never numbers.
#[wasm_bindgen_test]
async fn a_refused_shader_is_an_error() {
    devices::open().await;
    let Some(gpu) = devices::devices().into_iter().find(|device| !devices::is_cpu(device)) else { return };
    let broken = CustomKernel::new("broken", "fn main() { this is no shader }").build().unwrap();
    let x = Tensor::new([1.0, 2.0], &gpu);
    let y = broken.call(&[&x], |x| vec![&x[0] + &x[0]]);
    let error = y[0].read::<f32>().await.unwrap_err();
    assert_eq!(error.kind(), wgrad::ErrorKind::Shader, "{error}");
    // What has nothing to do with it goes on.
    assert_eq!((Tensor::new([1.0, 2.0], &gpu) * 3.0).read::<f32>().await.unwrap(), [3.0, 6.0]);
}

/// A user's own shader, with its definition's gradient.
#[wasm_bindgen_test]
async fn a_custom_kernel() {
    devices::open().await;
    let text = "@group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&y) { y[id.x] = 2.0 * x[id.x]; }
        }";
    let double = CustomKernel::new("double", text).build().unwrap();
    for device in devices::devices() {
        let x = Tensor::new([1.0, 2.0], &device).tracked();
        let y = double.call(&[&x], |x| vec![&x[0] + &x[0]]);
        assert_eq!(y[0].read::<f32>().await.unwrap(), [2.0, 4.0], "{device}");
        assert_eq!(y[0].sum(..).grad(&[&x])[0].read::<f32>().await.unwrap(), [2.0, 2.0], "{device}");
    }
}

/// On a host's device that passed its self-test, attention and its gradient run as their templates and come to
/// what the formula gives. The browser's GPU is software, for which they serve only when told to.
#[wasm_bindgen_test]
async fn attention_stores_no_scores() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.unwrap();
    let wanted = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    let (device, queue) = adapter.request_device(&wanted).await.unwrap();
    let shared = Device::from_wgpu(&adapter, &device, &queue).unwrap();
    Gpu::of(&shared).unwrap().set_template_flops_min(1);
    shared.self_test().await.unwrap();
    let mut found = Vec::new();
    for device in [devices::cpu(), shared] {
        let [q, k, v] = [1, 2, 3].map(|key| Tensor::normal([2, 70, 36], &Tensor::key(key, &device)).tracked());
        let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().causal());
        let mut results = y.vjp(&q.detach(), &[&q, &k, &v]);
        results.push(y);
        let plan = wgrad::explain(&results).unwrap().to_string();
        for template in ["attention", "attention_gradient"] {
            let runs = plan.contains(&format!(": {template} BY_KEYS="));
            assert_ne!(runs, devices::is_cpu(&device), "{device}: {template} in\n{plan}");
        }
        let mut numbers = Vec::new();
        for result in &results {
            numbers.extend(result.read::<f32>().await.unwrap());
        }
        found.push(numbers);
    }
    for (cpu, gpu) in found[0].iter().zip(&found[1]) {
        assert!((cpu - gpu).abs() <= 1e-4 * cpu.abs().max(1.0), "{gpu} for {cpu}");
    }
}

/// A loss asked for early arrives while a loop goes on, and memory stays what it was.
#[wasm_bindgen_test]
async fn a_loop_of_steps_is_flat() {
    devices::open().await;
    for device in devices::devices() {
        let params = Params::new(&device, 42);
        let layer = nn::Linear::new(&params.at("layer"), 32, 8);
        let mut adam = wgrad::optim::AdamW::new(&params, 1e-2);
        let x = Tensor::uniform([16, 32], &Tensor::key(1, &device));
        let (mut held, mut first, mut last) = (0, None, None);
        for step in 0..200 {
            let loss = layer.forward(&x, &Pass::train(&params)).pow(2.0).mean(..);
            adam.step(loss.backward(&params)).unwrap();
            device.ready().await.unwrap();
            if let Some(found) = loss.try_item::<f32>().unwrap() {
                first = first.or(Some(found));
                last = Some(found);
            }
            drop(loss);
            if step == 20 {
                held = device.memory_use().live_bytes;
            }
        }
        let loss = layer.forward(&x, &Pass::eval()).pow(2.0).mean(..).read::<f32>().await.unwrap();
        let now = device.memory_use().live_bytes;
        assert!(now <= held + 4096, "{device}: {held} bytes, then {now}");
        assert!(loss[0] < first.or(last).unwrap_or(f32::MAX), "{device}: {first:?} {last:?} {loss:?}");
        // One plan for all steps but the first, whose weights lay apart.
        assert!(device.plans_made() > 0);
    }
}
