//! Our kernels against what a textbook, a copy or a bare library does, taken in turns.
//!
//! `cargo bench --bench roofline`; software Vulkan counts as a GPU. A round times both, one after
//! the other; a ratio is the median over the rounds, and of milliseconds the medians are printed.

mod common;

use std::hint::black_box;
use std::time::Instant;

use wgrad::device::CustomKernel;
use wgrad::device::gpu::Gpu;
use wgrad::prelude::*;
use wgrad::wgpu;

/// Rounds of which the medians are taken.
const ROUNDS: usize = 15;
/// Seconds of calls without a wait between them, so that a fast device is not timed waiting.
const ROUND_SECONDS: f64 = 0.02;

/// A product as textbooks have it: a result an invocation, both operands by tiles of 16 by 16.
const TILES: &str = "
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const N = 512u;
var<workgroup> rows: array<array<f32, 16>, 16>;
var<workgroup> columns: array<array<f32, 16>, 16>;
@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    var sum = 0.0;
    for (var tile = 0u; tile < N; tile += 16u) {
        rows[local.y][local.x] = a[id.y * N + tile + local.x];
        columns[local.y][local.x] = b[(tile + local.y) * N + id.x];
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            sum += rows[local.y][k] * columns[k][local.x];
        }
        workgroupBarrier();
    }
    y[id.y * N + id.x] = sum;
}";

/// A copy by fours.
const COPY: &str = "
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = x[id.x];
}";

/// What textbooks do with rows: a workgroup each, and a tree over what its 256 invocations found.
const TREE: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
const N = 1024u;
var<workgroup> found: array<f32, 256>;
fn tree_sum(mine: f32, i: u32) -> f32 {
    workgroupBarrier();
    found[i] = mine;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (i < half) {
            found[i] += found[i + half];
        }
        workgroupBarrier();
    }
    return found[0];
}
fn tree_max(mine: f32, i: u32) -> f32 {
    workgroupBarrier();
    found[i] = mine;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (i < half) {
            found[i] = max(found[i], found[i + half]);
        }
        workgroupBarrier();
    }
    return found[0];
}
@compute @workgroup_size(256)
fn softmax(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let row = group.x * N;
    var top = -3e38;
    for (var k = i; k < N; k += 256u) {
        top = max(top, x[row + k]);
    }
    top = tree_max(top, i);
    var sum = 0.0;
    for (var k = i; k < N; k += 256u) {
        sum += exp(x[row + k] - top);
    }
    sum = tree_sum(sum, i);
    for (var k = i; k < N; k += 256u) {
        y[row + k] = exp(x[row + k] - top) / sum;
    }
}
@compute @workgroup_size(256)
fn layer_norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let row = group.x * N;
    var sum = 0.0;
    for (var k = i; k < N; k += 256u) {
        sum += x[row + k];
    }
    let mean = tree_sum(sum, i) / f32(N);
    var squares = 0.0;
    for (var k = i; k < N; k += 256u) {
        squares += (x[row + k] - mean) * (x[row + k] - mean);
    }
    let scale = inverseSqrt(tree_sum(squares, i) / f32(N) + 1e-5);
    for (var k = i; k < N; k += 256u) {
        y[row + k] = (x[row + k] - mean) * scale;
    }
}";

/// Two ways to one end.
struct Line {
    name: &'static str,
    ours: Box<dyn Fn()>,
    theirs: Box<dyn Fn()>,
    /// Least ratio of their time to ours; 0 where it is only for comparison.
    wanted: f64,
    /// Operations, where it is these that count.
    flops: f64,
}

/// The operands of a line.
fn random(dims: &[usize], device: &Device) -> Tensor {
    let x = Tensor::normal(dims, &Tensor::key(1, device));
    x.realize().expect("numbers");
    x
}

/// Our word for `x` against a shader with its entry point and grid.
fn line(
    (name, wanted, flops): (&'static str, f64, f64),
    x: &[&Tensor],
    word: fn(&[Tensor]) -> Tensor,
    (wgsl, entry, grid): (&str, &str, [u32; 3]),
) -> Line {
    let x: Vec<Tensor> = x.iter().map(|&x| x.clone()).collect();
    let kernel = CustomKernel::new("theirs", wgsl).inputs(x.len()).entry(entry).grid(grid);
    // SAFETY: a grid has the invocations its tensors need, and loops end at constants.
    let kernel = unsafe { kernel.unchecked() }.build().expect("a valid shader");
    let shader = {
        let x = x.clone();
        move || kernel.call(&x.iter().collect::<Vec<_>>(), |x| vec![word(x)]).remove(0)
    };
    // A copy stands for what the bytes alone take.
    if entry != "main" || x.len() > 1 {
        let differ = (word(&x) - shader()).abs().max(..).item::<f32>().expect("both ways run");
        assert!(differ < 1e-2, "{name}: the two differ by {differ}");
    }
    let ours = move || word(&x).realize().expect("our kernel runs");
    Line { name, ours: Box::new(ours), theirs: Box::new(move || shader().realize().expect("it runs")), wanted, flops }
}

fn gpu_lines(device: &Device, gpu: &Gpu) -> Vec<Line> {
    let (square, rows, long) = (random(&[512, 512], device), random(&[4096, 1024], device), random(&[4 << 20], device));
    let copy = (COPY, "main", [(4 << 20) / 4 / 64, 1, 1]);
    let affine: fn(&[Tensor]) -> Tensor = |x| &x[0] * 2.0 + 1.0;
    let mut lines = vec![
        line(
            ("matmul 512, 16x16 tiles", 4.0, 2.0 * 512f64.powi(3)),
            &[&square, &square],
            |x| x[0].matmul(&x[1]),
            (TILES, "main", [32, 32, 1]),
        ),
        line(("x * 2 + 1 of 4M, vec4 copy kernel", 0.8, 0.0), &[&long], affine, copy),
        line(
            ("tanh, sigmoid and relu of 4M, vec4 copy", 0.8, 0.0),
            &[&long],
            |x| (&x[0] * 1.3 + 0.2).tanh() * x[0].sigmoid() + x[0].relu(),
            copy,
        ),
        line(
            ("softmax 4096x1024, tree of 256", 5.0, 0.0),
            &[&rows],
            |x| x[0].softmax(-1),
            (TREE, "softmax", [4096, 1, 1]),
        ),
        line(
            ("layer norm 4096x1024, tree of 256", 5.0, 0.0),
            &[&rows],
            |x| x[0].layer_norm(-1, None, None, 1e-5),
            (TREE, "layer_norm", [4096, 1, 1]),
        ),
    ];
    // The driver's own copy of the same bytes, which on a software driver is the processor's.
    let (wgpu, queue) = gpu.wgpu();
    let (wgpu, queue) = (wgpu.clone(), queue.clone());
    let size = 16 << 20;
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let [from, to] = [(); 2]
        .map(|()| wgpu.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false }));
    queue.write_buffer(&from, 0, &vec![1; size as usize]);
    let theirs = move || {
        let mut encoder = wgpu.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&from, 0, &to, 0, size);
        queue.submit([encoder.finish()]);
    };
    let ours = move || affine(std::slice::from_ref(&long)).realize().expect("our kernel runs");
    let (ours, theirs): (Box<dyn Fn()>, Box<dyn Fn()>) = (Box::new(ours), Box::new(theirs));
    let name = "x * 2 + 1 of 4M, copy_buffer_to_buffer";
    lines.insert(1, Line { name, ours, theirs, wanted: 0.0, flops: 0.0 });
    lines
}

fn cpu_lines(device: &Device) -> Vec<Line> {
    const N: usize = 1024;
    let x = random(&[N, N], device);
    let elements = x.to_vec::<f32>().expect("numbers");
    let y = std::cell::RefCell::new(vec![0f32; N * N]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let theirs = move || {
        let (mut y, n) = (y.borrow_mut(), N as isize);
        let (to, from) = (y.as_mut_ptr(), elements.as_ptr());
        let by = gemm::Parallelism::Rayon(threads);
        // SAFETY: the three matrices have N * N elements, row by row, and `y` is nobody else's.
        unsafe { gemm::gemm(N, N, N, to, 1, n, false, from, 1, n, from, 1, n, 0.0, 1.0, false, false, false, by) };
        black_box(y.as_ptr());
    };
    let ours = move || x.matmul(&x).realize().expect("our kernel runs");
    let (ours, theirs): (Box<dyn Fn()>, Box<dyn Fn()>) = (Box::new(ours), Box::new(theirs));
    vec![Line { name: "matmul 1024, gemm crate", ours, theirs, wanted: 0.85, flops: 2.0 * (N as f64).powi(3) }]
}

/// Seconds a call of `calls`.
fn seconds(calls: usize, call: &dyn Fn(), device: &Device) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| call());
    if let Some(gpu) = Gpu::of(device) {
        gpu.wgpu().0.poll(wgpu::PollType::wait_indefinitely()).expect("a device that answers");
    }
    start.elapsed().as_secs_f64() / calls as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    for device in common::devices() {
        let lines = Gpu::of(&device).map_or_else(|| cpu_lines(&device), |gpu| gpu_lines(&device, gpu));
        println!("{device}: {}", device.roofline().map_or_else(|error| error.to_string(), |roof| roof.to_string()));
        println!("{:<42}{:>9}{:>11}{:>7}{:>8}", "", "ours ms", "theirs ms", "ratio", "wanted");
        for Line { name, ours, theirs, wanted, flops } in lines {
            // The first call of each compiles.
            let _ = [&ours, &theirs].map(|call| seconds(1, call, &device));
            let once = [&ours, &theirs].map(|call| seconds(2, call, &device));
            let calls = once.map(|once| (ROUND_SECONDS / once).clamp(1.0, 1000.0) as usize);
            let round = |_| [seconds(calls[0], &ours, &device), seconds(calls[1], &theirs, &device)];
            let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(round).collect();
            let [us, them] = [0, 1].map(|who| median(rounds.iter().map(|round| round[who])));
            let ratio = median(rounds.iter().map(|[us, them]| them / us));
            let short = if ratio < wanted { "  falls short" } else { "" };
            let rate = if flops > 0.0 { format!("  {:.1} GFLOP/s", flops / us * 1e-9) } else { String::new() };
            println!("{name:<42}{:9.3}{:11.3}{ratio:7.2}{wanted:8.2}{rate}{short}", us * 1e3, them * 1e3);
        }
    }
}
