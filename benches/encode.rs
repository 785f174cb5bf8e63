//! What a dispatch costs the host: runs of a 500-step program on wgpu's backend that does nothing,
//! and the whole way there from a graph whose plan is known.
//!
//! `cargo bench --bench encode --features noop`; divide by 500.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use wgrad::compile::kernel::{Access, Buffer, Kernel, Kind, Loop};
use wgrad::compile::plan::{Home, Plan, Slot, Step};
use wgrad::compile::shader::{Shader, ShaderBinding};
use wgrad::device::gpu::Gpu;
use wgrad::{DType, Device, Tensor, wgpu};

const STEPS: usize = 500;
const TEXT: &str = "
    struct Meta { first: u32, inf: u32, nan: u32, fault: u32 }
    @group(0) @binding(0) var<uniform> m: Meta;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read> z: array<f32>;
    @group(0) @binding(3) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        y[id.x] = x[id.x] + z[id.x];
    }
";

fn device() -> Device {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        flags: wgpu::InstanceFlags::empty(),
        backend_options: wgpu::BackendOptions { noop: wgpu::NoopBackendOptions::enabled(), ..Default::default() },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
    let adapter = adapter.expect("the noop adapter");
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).expect("noop");
    Device::from_wgpu(&adapter, &device, &queue).expect("a device")
}

/// A chain: step `n` adds the leaf to what step `n - 1` wrote, over a ring of four temporaries.
fn plan() -> Plan {
    let slot = |home| Slot { dtype: DType::F32, numel: 64, home };
    let mut slots = vec![slot(Home::Leaf(0)), slot(Home::Leaf(1))];
    slots.extend((0..STEPS).map(|n| slot(if n + 1 == STEPS { Home::Output } else { Home::Temp(n % 4) })));
    let buffer = |slot, access| Buffer { slot, dtype: DType::F32, numel: 64, access };
    let step = |n: usize| Step {
        kernel: Kernel {
            name: "add".into(),
            kind: Kind::Loop(Loop { outer: 64, inner: 1, reduces: vec![], stores: vec![], rows: true }),
            body: vec![],
            dtypes: vec![],
            buffers: vec![buffer(n + 1, Access::Read), buffer(0, Access::Read), buffer(n + 2, Access::Write)],
            faults: vec![],
        },
        bytes: 0,
        flops: 0,
        wave: n,
    };
    Plan {
        steps: (0..STEPS).map(step).collect(),
        leaves: vec![0, 1],
        overwritten: Vec::new(),
        scalars: None,
        outputs: vec![slots.len() - 1],
        allocations: vec![256; 4],
        peak_bytes: 0,
        slots,
    }
}

fn encode(criterion: &mut Criterion) {
    let device = device();
    let gpu = Gpu::of(&device).expect("a GPU");
    let binding =
        |buffer| ShaderBinding { buffer, offset_bytes: 0, size_bytes: 256, writable: buffer == 2, element_bytes: 4 };
    let shader = Shader {
        text: TEXT.into(),
        entry: "main".into(),
        groups: 1,
        bindings: (0..3).map(binding).collect(),
        unchecked: true,
        ..Shader::default()
    };
    let program = gpu.program("bench", Arc::new(plan()), &vec![shader; STEPS]).expect("a program");
    let leaves = [0, 1].map(|_| gpu.upload("bench", &[0; 256]).expect("uploaded"));
    criterion.bench_function("record and submit 500 dispatches", |bencher| {
        bencher.iter(|| black_box(program.run("bench", &leaves, &[]).expect("a run")));
    });
}

/// From a graph to its submission, where the plan is in the cache: flattening, hashing, comparing,
/// recording and submitting.
fn hit(criterion: &mut Criterion) {
    let device = device();
    let x = Tensor::ones([64], &device);
    x.realize().expect("a leaf");
    // Nothing fuses with a scan that feeds another.
    let chain = || (0..STEPS).fold(x.clone(), |x, _| x.cumsum(0));
    assert_eq!(wgrad::explain([&chain()]).expect("a plan").kernels(), STEPS);
    criterion.bench_function("plan-cache hit to submit, 500 dispatches", |bencher| {
        let realized = |y: Tensor| {
            y.realize().expect("a run");
            y
        };
        bencher.iter_batched(chain, realized, BatchSize::SmallInput);
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    hit(&mut criterion);
    criterion.final_summary();
}
