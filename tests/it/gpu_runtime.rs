//! The GPU runtime under hand-written shaders: what it computes, keeps, refuses and reports.
//!
//! Runs where an adapter exists; `REQUIRE_GPU=1` makes absence a failure, and `WGRAD_TEST_ADAPTER`
//! names the adapter.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad::compile::kernel::{Access, Buffer, FaultSite, Kernel, Kind, Loop};
use wgrad::compile::plan::{Home, Plan, Slot, Step};
use wgrad::compile::shader::{Shader, ShaderBinding};
use wgrad::device::gpu::{Gpu, GpuBuffer, Program};
use wgrad::device::{CustomKernel, GpuOptions};
use wgrad::prelude::*;
use wgrad::{ErrorKind, wgpu};

fn device() -> Option<Device> {
    crate::wgsl::watch();
    let name = std::env::var("WGRAD_TEST_ADAPTER").ok();
    match Device::gpu_with(&GpuOptions { name, software: true, ..GpuOptions::default() }) {
        Ok(device) => Some(device),
        Err(error) if std::env::var_os("REQUIRE_GPU").is_some() => panic!("{error}"),
        Err(error) => {
            println!("not run: {error}");
            None
        }
    }
}

fn gpu(device: &Device) -> &Arc<Gpu> {
    Gpu::of(device).expect("a GPU")
}

const META: &str = "
    struct Meta { first: u32, inf: u32, nan: u32, fault: u32 }
    @group(0) @binding(0) var<uniform> m: Meta;
";

/// A shader of ours over whole buffers: `read` of them, then `written`.
fn shader(text: &str, groups: u64, sizes: &[(u64, bool)]) -> Shader {
    let binding = |(buffer, &(size_bytes, writable)): (usize, &(u64, bool))| ShaderBinding {
        buffer,
        offset_bytes: 0,
        size_bytes,
        writable,
        element_bytes: 4,
    };
    Shader {
        text: format!("{META}{text}"),
        entry: "main".into(),
        groups,
        bindings: sizes.iter().enumerate().map(binding).collect(),
        unchecked: true,
        ..Shader::default()
    }
}

fn slot(numel: usize, home: Home) -> Slot {
    Slot { dtype: DType::F32, numel, home }
}

/// A step over `slots`, of which the last is written.
fn step(name: &str, all: &[Slot], slots: &[usize], faults: Vec<FaultSite>) -> Step {
    let buffers = slots.iter().enumerate().map(|(n, &slot)| Buffer {
        slot,
        dtype: all[slot].dtype,
        numel: all[slot].numel,
        access: if n + 1 == slots.len() { Access::Write } else { Access::Read },
    });
    let kernel = Kernel {
        name: name.into(),
        kind: Kind::Loop(Loop { outer: 1, inner: 1, reduces: vec![], stores: vec![], rows: true }),
        body: vec![],
        dtypes: vec![],
        buffers: buffers.collect(),
        faults,
    };
    Step { kernel, bytes: 0, flops: 0, wave: 0 }
}

/// A plan whose leaves are the slots at home in one, and whose only root is the last slot.
fn plan(slots: Vec<Slot>, steps: Vec<Step>, allocations: Vec<u64>) -> Arc<Plan> {
    let at = |wanted: fn(&Home) -> bool| {
        slots.iter().enumerate().filter(move |(_, s)| wanted(&s.home)).map(|(n, _)| n).collect::<Vec<_>>()
    };
    Arc::new(Plan {
        leaves: at(|home| matches!(home, Home::Leaf(_))),
        overwritten: Vec::new(),
        scalars: at(|home| matches!(home, Home::Scalars)).first().copied(),
        outputs: vec![slots.len() - 1],
        peak_bytes: 0,
        allocations,
        steps: (0..).zip(steps).map(|(wave, step)| Step { wave, ..step }).collect(),
        slots,
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn upload(gpu: &Arc<Gpu>, x: &[f32]) -> Arc<GpuBuffer> {
    gpu.upload("test", &x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).expect("uploaded")
}

fn read(gpu: &Arc<Gpu>, buffer: &GpuBuffer) -> wgrad::Result<Vec<f32>> {
    gpu.read_blocking("test", buffer, 0..usize::MAX).map(|bytes| floats(&bytes))
}

const ADD: &str = "
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read> z: array<f32>;
    @group(0) @binding(3) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
        let i = (m.first + wid.x + wid.y * 32768u) * 64u + lane;
        if i < arrayLength(&y) { y[i] = x[i] + z[i]; }
    }
";

/// `(x + z) + z` in two steps with a temporary between.
fn add_twice(gpu: &Arc<Gpu>, n: usize) -> Program {
    let slots = vec![slot(n, Home::Leaf(0)), slot(n, Home::Leaf(1)), slot(n, Home::Temp(0)), slot(n, Home::Output)];
    let steps = vec![step("add", &slots, &[0, 1, 2], vec![]), step("add", &slots, &[2, 1, 3], vec![])];
    let bytes = n as u64 * 4;
    let add = shader(ADD, (n as u64).div_ceil(64), &[(bytes, false), (bytes, false), (bytes, true)]);
    gpu.program("test", plan(slots, steps, vec![bytes]), &[add.clone(), add]).expect("a program")
}

#[test]
fn steps_run_in_order_over_temporaries() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    for checked in [false, true] {
        gpu.set_checked(checked);
        for n in [1, 64, 1000] {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let program = add_twice(gpu, n);
            let out = program.run("test", &[upload(gpu, &x), upload(gpu, &x)], &[]).expect("a run");
            let want: Vec<f32> = x.iter().map(|x| 3.0 * x).collect();
            assert_eq!(read(gpu, &out[0]).expect("read"), want);
        }
    }
}

#[test]
fn a_loop_keeps_memory_flat() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let program = add_twice(gpu, 1000);
    let z = upload(gpu, &[1.0; 1000]);
    let mut x = upload(gpu, &[0.0; 1000]);
    let mut settled = None;
    for turn in 0..100 {
        x = program.run("test", &[x, z.clone()], &[]).expect("a run").remove(0);
        match settled {
            None if turn == 5 => settled = Some(gpu.memory_use()),
            Some(used) => assert_eq!(gpu.memory_use(), used),
            None => {}
        }
    }
    assert_eq!(read(gpu, &x).expect("read"), [200.0; 1000]);
    let used = gpu.memory_use();
    assert_eq!(used.allocations, 4);
    drop((x, z, program));
    assert_eq!(gpu.memory_use().live_bytes, 0);
    assert_eq!(gpu.memory_use().pooled_bytes, used.live_bytes + used.pooled_bytes);
}

#[test]
fn scalars_change_between_runs() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let slots = vec![slot(2, Home::Scalars), slot(1, Home::Output)];
    let steps = vec![step("subtract", &slots, &[0, 1], vec![])];
    let text = "
        @group(0) @binding(1) var<storage, read> s: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(1) fn main() { y[0] = s[0] - s[1]; }
    ";
    let shaders = [shader(text, 1, &[(8, false), (4, true)])];
    let program = gpu.program("test", plan(slots, steps, vec![]), &shaders).expect("a program");
    let runs: Vec<_> = (0..5)
        .map(|n| program.run("test", &[], &[(n as f32).to_bits(), 1f32.to_bits()]).expect("a run").remove(0))
        .collect();
    for (n, out) in runs.iter().enumerate() {
        assert_eq!(read(gpu, out).expect("read"), [n as f32 - 1.0]);
    }
}

#[test]
fn meta_holds_infinity_and_nan() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let slots = vec![slot(3, Home::Output)];
    let steps = vec![step("meta", &slots, &[0], vec![])];
    let text = "
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(1) fn main() { y[0] = m.first; y[1] = m.inf; y[2] = m.nan; }
    ";
    let shaders = [shader(text, 1, &[(12, true)])];
    let program = gpu.program("test", plan(slots, steps, vec![]), &shaders).expect("a program");
    let y = read(gpu, &program.run("test", &[], &[]).expect("a run")[0]).expect("read");
    assert!(y[0] == 0.0 && y[1] == f32::INFINITY && y[2].is_nan());
}

#[test]
fn an_index_out_of_range_is_told_once_with_its_place() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let slots = vec![slot(1, Home::Leaf(0)), slot(1, Home::Output)];
    let site = |word, bound, at| FaultSite { word, bound, at };
    let (first, second) = (Location::caller(), Location::caller());
    let faults = vec![site("gather", 5, first), site("embedding", 7, second)];
    let steps = vec![step("gather", &slots, &[0, 1], faults)];
    let text = "
        @group(0) @binding(1) var<storage, read_write> faults: array<atomic<u32>>;
        @group(0) @binding(2) var<storage, read> x: array<f32>;
        @group(0) @binding(3) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(1) fn main() {
            if x[0] > 6.0 { atomicMax(&faults[0], m.fault + 1u); }
            y[0] = x[0];
        }
    ";
    let shader = Shader { raises_faults: true, ..shader(text, 1, &[(4, false), (4, true)]) };
    let program = gpu.program("test", plan(slots, steps, vec![]), &[shader]).expect("a program");
    let run = |x| program.run("test", &[upload(gpu, &[x])], &[]).expect("a run").remove(0);
    assert_eq!(read(gpu, &run(3.0)).expect("in range"), [3.0]);
    let other = upload(gpu, &[9.0]);
    let bad = run(7.0);
    let error = read(gpu, &other).expect_err("a fault travels with the next read, whatever is read");
    assert_eq!(error.kind(), ErrorKind::Index);
    let want = format!(
        "embedding: index out of range for an axis of 7 elements at {}:{}:{}",
        second.file(),
        second.line(),
        second.column()
    );
    assert_eq!(error.to_string(), want);
    assert_eq!(read(gpu, &bad).expect("told once"), [7.0]);
}

#[test]
fn grids_past_65535_workgroups_wrap() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let n = 70_000;
    let slots = vec![slot(n, Home::Output)];
    let steps = vec![step("iota", &slots, &[0], vec![])];
    let text = "
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(1) fn main(@builtin(workgroup_id) wid: vec3<u32>) {
            let group = m.first + wid.x + wid.y * 32768u;
            if group < arrayLength(&y) { y[group] = f32(group); }
        }
    ";
    let shaders = [shader(text, n as u64, &[(n as u64 * 4, true)])];
    let program = gpu.program("test", plan(slots, steps, vec![]), &shaders).expect("a program");
    let y = read(gpu, &program.run("test", &[], &[]).expect("a run")[0]).expect("read");
    assert!(y.iter().enumerate().all(|(i, &y)| y == i as f32));
}

/// Each workgroup runs once, however the grid is cut: none of a filled-up row, none twice.
#[test]
fn every_workgroup_of_a_cut_grid_runs_once() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let n = 200_000;
    let slots = vec![slot(n, Home::Output)];
    let mut steps = vec![step("zero", &slots, &[0], vec![]), step("count", &slots, &[0], vec![])];
    let text = |line: &str| {
        format!(
            "@group(0) @binding(1) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(1) fn main(@builtin(workgroup_id) wid: vec3<u32>) {{
                let group = m.first + wid.x + wid.y * 32768u;
                if group < arrayLength(&y) {{ {line} }}
            }}"
        )
    };
    let shaders = ["y[group] = 0.0;", "y[group] += 1.0;"].map(|l| shader(&text(l), n as u64, &[(n as u64 * 4, true)]));
    let pace = gpu.pace();
    for (seconds, dispatches) in [(0.0, 1), (1.5, 2), (4.0, 4), (20.5, 21)] {
        steps[1].flops = (seconds * pace.dispatch_seconds_max * pace.flops) as u64;
        let program = gpu.program("test", plan(slots.clone(), steps.clone(), vec![]), &shaders).expect("a program");
        let before = gpu.counts()[0];
        let y = read(gpu, &program.run("test", &[], &[]).expect("a run")[0]).expect("read");
        assert_eq!(y.iter().position(|&y| y != 1.0), None, "{seconds}");
        assert_eq!(gpu.counts()[0] - before, 1 + dispatches, "{seconds}");
    }
}

#[test]
fn a_buffer_is_bound_as_windows() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let slots = vec![slot(128, Home::Leaf(0)), slot(64, Home::Output)];
    let steps = vec![step("halves", &slots, &[0, 1], vec![])];
    let mut shader = shader(ADD, 1, &[(256, false), (256, false), (256, true)]);
    shader.bindings[1] =
        ShaderBinding { buffer: 0, offset_bytes: 256, size_bytes: 256, writable: false, element_bytes: 4 };
    shader.bindings[2].buffer = 1;
    let program = gpu.program("test", plan(slots, steps, vec![]), &[shader]).expect("a program");
    let x: Vec<f32> = (0..128).map(|i| i as f32).collect();
    let y = read(gpu, &program.run("test", &[upload(gpu, &x)], &[]).expect("a run")[0]).expect("read");
    assert!(y.iter().enumerate().all(|(i, &y)| y == (2 * i + 64) as f32));
}

#[test]
fn a_bare_shader_has_its_own_grid() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let slots = vec![slot(24, Home::Output)];
    let steps = vec![step("custom", &slots, &[0], vec![])];
    let shader = Shader {
        text: "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(1) fn go(@builtin(workgroup_id) w: vec3<u32>) {
                y[w.x + 2u * (w.y + 3u * w.z)] = f32(w.x + 10u * w.y + 100u * w.z);
            }"
        .into(),
        entry: "go".into(),
        grid: Some([2, 3, 4]),
        bindings: vec![ShaderBinding { buffer: 0, offset_bytes: 0, size_bytes: 96, writable: true, element_bytes: 4 }],
        bare: true,
        ..Shader::default()
    };
    let program = gpu.program("test", plan(slots, steps, vec![]), &[shader]).expect("a program");
    let y = read(gpu, &program.run("test", &[], &[]).expect("a run")[0]).expect("read");
    assert_eq!((y[1], y[2], y[6], y[23]), (1.0, 10.0, 100.0, 321.0));
}

#[test]
fn empty_tensors_and_odd_bytes_travel() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let empty = gpu.upload("test", &[]).expect("uploaded");
    assert_eq!(gpu.read_blocking("test", &empty, 0..usize::MAX).expect("read"), [0u8; 0]);
    let odd = gpu.upload("test", &[1, 2, 3, 4, 5]).expect("uploaded");
    assert_eq!(gpu.read_blocking("test", &odd, 0..usize::MAX).expect("read"), [1, 2, 3, 4, 5, 0, 0, 0]);
}

#[test]
fn large_copies_go_in_pieces() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let bytes: Vec<u8> =
        (0..(130usize << 20) / 4).flat_map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let buffer = gpu.upload("test", &bytes).expect("uploaded");
    assert!(gpu.read_blocking("test", &buffer, 0..usize::MAX).expect("read") == bytes);
}

#[test]
fn a_broken_shader_is_an_error_with_a_caret() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    for text in [
        "fn main( {",
        "@compute @workgroup_size(1) fn main() { let x: u32 = 1.5f; }",
        "@compute @workgroup_size(1) fn other() {}",
    ] {
        let slots = vec![slot(1, Home::Output)];
        let steps = vec![step("broken", &slots, &[0], vec![])];
        let shaders = [shader(text, 1, &[(4, true)])];
        let error = gpu.program("test", plan(slots, steps, vec![]), &shaders).err().expect("an error");
        assert_eq!((error.kind(), error.op()), (ErrorKind::Shader, "broken"), "{error}");
    }
    // The device still works.
    let x = upload(gpu, &[1.0]);
    assert_eq!(read(gpu, &x).expect("read"), [1.0]);
}

#[test]
fn too_much_memory_is_an_error() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    gpu.set_memory_limit(Some(1 << 20));
    let kept = upload(gpu, &[1.0; 200_000]);
    let error = gpu.upload("test", &[0; 300_000]).err().expect("over the limit");
    assert_eq!(error.kind(), ErrorKind::Memory);
    assert!(error.to_string().contains("over the limit of 1048576"), "{error}");
    drop(kept);
    // What was pooled makes room.
    gpu.upload("test", &[0; 900_000]).expect("fits now");
    assert!(gpu.memory_use().live_bytes + gpu.memory_use().pooled_bytes <= 1 << 20);
    gpu.set_memory_limit(None);
    let slots = vec![slot(usize::try_from(1u64 << 40).unwrap_or(usize::MAX), Home::Output)];
    let program = gpu.program("test", plan(slots, vec![], vec![]), &[]).expect("a program");
    let error = program.run("test", &[], &[]).err().expect("no such buffer");
    assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
}

#[test]
fn mistakes_of_the_caller_are_errors() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let program = add_twice(gpu, 100);
    let x = upload(gpu, &[1.0; 100]);
    assert!(program.run("test", std::slice::from_ref(&x), &[]).is_err());
    assert!(program.run("test", &[x.clone(), upload(gpu, &[1.0; 99])], &[]).is_err());
    let slots = vec![slot(1, Home::Output)];
    let huge = Shader { grid: Some([1, u32::MAX, 1]), ..shader(ADD, 1, &[(4, true)]) };
    let steps = vec![step("huge", &slots, &[0], vec![])];
    assert!(gpu.program("test", plan(slots.clone(), steps.clone(), vec![]), &[huge]).is_err());
    assert!(gpu.program("test", plan(slots.clone(), steps.clone(), vec![]), &[]).is_err());
    let mut wrong = shader("@compute @workgroup_size(1) fn main() {}", 1, &[(4, true)]);
    wrong.bindings[0].buffer = 9;
    assert!(gpu.program("test", plan(slots, steps, vec![]), &[wrong]).is_err());
    // Reading and writing one buffer in one dispatch is refused by the driver, and the device lives on.
    let slots = vec![slot(64, Home::Leaf(0)), slot(64, Home::Output)];
    let steps = vec![step("alias", &slots, &[0, 0, 0], vec![])];
    let alias = shader(ADD, 1, &[(256, false), (256, false), (256, true)]);
    let program = gpu.program("test", plan(slots, steps, vec![]), &[alias]).expect("a program");
    let error = program.run("test", &[upload(gpu, &[1.0; 64])], &[]).err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
    assert_eq!(read(gpu, &x).expect("read"), [1.0; 100]);
}

#[test]
fn a_lost_device_says_what_was_being_done() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    let program = add_twice(gpu, 10);
    let x = upload(gpu, &[1.0; 10]);
    let y = program.run("test", &[x.clone(), x.clone()], &[]).expect("a run").remove(0);
    gpu.wgpu().0.destroy();
    for error in [
        gpu.read_blocking("to_vec", &y, 0..usize::MAX).err(),
        program.run("realize", &[x.clone(), x.clone()], &[]).err(),
        gpu.upload("upload", &[1, 2, 3, 4]).err(),
    ] {
        let error = error.expect("an error");
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert!(error.to_string().contains("the device was lost"), "{error}");
    }
}

/// Buffers of sizes that never come again do not pile up in the pool.
#[test]
fn sizes_that_change_do_not_fill_the_device() {
    let Some(device) = device() else { return };
    let gpu = gpu(&device);
    for n in 1..200 {
        drop(upload(gpu, &vec![1.0; n * 100]));
        let used = gpu.memory_use();
        assert!(used.live_bytes + used.pooled_bytes <= 2 * used.peak_bytes, "{n}: {used:?}");
    }
}

#[test]
fn a_device_that_can_do_too_little_is_refused() {
    if device().is_none() {
        return;
    }
    let Some(adapter) = host_adapter() else { return };
    let required_limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() };
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..wgpu::DeviceDescriptor::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("less than there is");
    let error = Device::from_wgpu(&adapter, &device, &queue).expect_err("too little");
    assert!(error.to_string().contains("4 storage buffers a stage, but 8 are needed"), "{error}");
}

fn host_adapter() -> Option<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let name = std::env::var("WGRAD_TEST_ADAPTER").unwrap_or_default();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.into_iter().find(|adapter| adapter.get_info().name.contains(&name))
}

/// A device of a host program's own, that counts the errors it is told of.
fn host() -> Option<(wgpu::Device, Device, Arc<AtomicUsize>)> {
    device()?;
    let adapter = host_adapter()?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).ok()?;
    let told = Arc::new(AtomicUsize::new(0));
    let counter = told.clone();
    device.on_uncaptured_error(Arc::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let ours = Device::from_wgpu(&adapter, &device, &queue).expect("shared");
    Some((device, ours, told))
}

#[test]
fn a_host_keeps_its_callbacks_and_its_device() {
    let Some((host, device, told)) = host() else { return };
    let shared = gpu(&device);
    let slots = vec![slot(1, Home::Output)];
    let steps = vec![step("broken", &slots, &[0], vec![])];
    assert!(shared.program("test", plan(slots, steps, vec![]), &[shader("fn", 1, &[(4, true)])]).is_err());
    assert_eq!(told.load(Ordering::Relaxed), 0, "our mistakes are ours");
    let program = add_twice(shared, 10);
    let x = upload(shared, &[1.0; 10]);
    assert_eq!(read(shared, &program.run("test", &[x.clone(), x], &[]).expect("a run")[0]).expect("read"), [3.0; 10]);
    let bad = host.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    drop(bad);
    assert_eq!(told.load(Ordering::Relaxed), 1, "the host's are the host's");
    // The host destroys its device: every call says so.
    host.destroy();
    let error = shared
        .upload("upload", &[1])
        .and_then(|x| shared.read_blocking("to_vec", &x, 0..usize::MAX))
        .expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
}

#[test]
fn a_host_buffer_is_a_tensor_and_back() {
    let Some((host, device, _)) = host() else { return };
    let make = |size, usage| {
        host.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let usages = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = make(64, usages);
    let shared = gpu(&device);
    shared.wgpu().1.write_buffer(&buffer, 0, &1.5f32.to_le_bytes());
    let x = Tensor::from_wgpu_buffer(buffer.clone(), DType::F32, [2], &device);
    assert_eq!(x.to_vec::<f32>().expect("read"), [1.5, 0.0]);
    assert!(x.wgpu_buffer().expect("itself").buffer == buffer);
    assert_eq!(shared.memory_use().live_bytes, 0, "a host's buffer is not counted");
    let small = Tensor::from_wgpu_buffer(buffer, DType::F32, [17], &device);
    assert_eq!(small.error().map(|e| e.kind()), Some(ErrorKind::Operand));
    let unusable = Tensor::from_wgpu_buffer(make(64, wgpu::BufferUsages::STORAGE), DType::F32, [2], &device);
    assert!(!unusable.is_valid());
    assert!(!Tensor::from_wgpu_buffer(make(64, usages), DType::F32, [2], &Device::cpu()).is_valid());

    let y = Tensor::new([1.0, 2.0, 3.0], &device);
    let lent = y.wgpu_buffer().expect("a buffer");
    assert_eq!((lent.range.clone(), lent.dtype, lent.shape.dims()), (0..12, DType::F32, &[3][..]));
    drop(y);
    assert_eq!(shared.memory_use().pooled_bytes, 0, "what was lent is never used again");
    let again = Tensor::from_wgpu_buffer(lent.buffer, DType::F32, [3], &device);
    assert_eq!(again.to_vec::<f32>().expect("read"), [1.0, 2.0, 3.0]);
}

#[test]
fn threads_share_a_device() {
    let Some(device) = device() else { return };
    let shared = gpu(&device);
    let program = add_twice(shared, 100);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let program = &program;
            scope.spawn(move || {
                for turn in 0..20 {
                    let x = (n * 100 + turn) as f32;
                    let leaves = [upload(shared, &[x; 100]), upload(shared, &[1.0; 100])];
                    let out = program.run("test", &leaves, &[]).expect("a run").remove(0);
                    assert_eq!(read(shared, &out).expect("read"), [x + 2.0; 100]);
                }
            });
        }
    });
}

#[test]
fn a_custom_kernel_is_checked_when_it_is_made() {
    let good = "@group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = x[id.x]; }";
    let build = |text: &str| CustomKernel::new("mine", text).inputs(1).outputs(1).build();
    let kernel = build(good).expect("valid");
    let fact = |text: String| build(&text).expect_err("an error").to_string();
    let caret = fact(good.replace("= x[id.x]", "= q[id.x]"));
    assert!(caret.contains("mine.wgsl:3") && caret.contains("^") && caret.contains("q"), "{caret}");
    assert!(fact(good.replace("read_write", "read")).contains("mine.wgsl:"));
    assert!(fact(good.replace("read> x", "read_write> x")).contains("x at binding 0 is an input and must be"));
    assert!(fact(good.replace("binding(1)", "binding(2)")).contains("end at binding 1"));
    assert!(fact(good.replace("fn main", "fn go")).contains("no compute entry point \"main\""));
    let three = CustomKernel::new("mine", good).inputs(2).build().expect_err("an error").to_string();
    assert!(three.contains("y at binding 1 is an input"), "{three}");

    let x = Tensor::new([1.0, 2.0], &Device::cpu());
    assert!(!kernel.call(&[&x, &x], |x| x.to_vec())[0].is_valid());
    assert!(!kernel.call(&[&x], |_| vec![])[0].is_valid());
    assert!(kernel.call(&[&x], |x| vec![x[0].clone()])[0].is_valid());
}

#[test]
fn asking_for_what_is_not_there_is_an_error() {
    let error = Device::gpu_named("no such adapter").expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.to_string().contains("no such adapter"), "{error}");
    assert!(Device::best().name() != "nowhere");
    drop(Device::adapters());
}

#[test]
fn a_device_goes_when_nothing_holds_it() {
    let Some(device) = device() else { return };
    let x = Tensor::new([1.0, 2.0], &device);
    assert_eq!((&x + &x).to_vec::<f32>().unwrap(), [2.0, 4.0]);
    let gone = Arc::downgrade(gpu(&device));
    drop((x, device));
    assert!(gone.upgrade().is_none(), "programs and buffers keep it");
}
