//! What comes late: results that are asked for ahead, errors of the driver, and waiting for neither.

use pollster::block_on;
use wgrad::device::CustomKernel;
use wgrad::device::gpu::Gpu;
use wgrad::prelude::*;
use wgrad::{ErrorKind, wgpu};

use crate::devices::{devices, own_gpu};

/// Asks until the element has arrived.
#[track_caller]
fn awaited(x: &Tensor) -> wgrad::Result<f32> {
    for _ in 0..1_000_000 {
        if let Some(found) = x.try_item::<f32>()? {
            return Ok(found);
        }
    }
    panic!("it never arrives");
}

#[test]
fn an_element_arrives_without_being_waited_for() {
    for device in devices() {
        let mut x = Tensor::ones([100], &device);
        let mut sums = Vec::new();
        for _ in 0..20 {
            x = &x + 1.0;
            let sum = x.sum(..);
            wgrad::realize([&x, &sum]).expect("a run");
            let _: Option<f32> = sum.try_item().expect("asked for");
            block_on(device.ready()).expect("ready");
            sums.push(sum);
        }
        for (n, sum) in sums.iter().enumerate() {
            let want = (n + 2) as f32 * 100.0;
            assert_eq!(awaited(sum).expect("arrives"), want, "{device}");
            assert_eq!(sum.try_item::<f32>().expect("stays"), Some(want), "{device}");
            assert_eq!(sum.item::<f32>().expect("read"), want, "{device}");
        }
        assert_eq!(awaited(&Tensor::new([7.0], &device)).expect("a leaf"), 7.0);
        let word = |x: &Tensor| x.try_item::<f32>().expect_err("an error").to_string();
        assert!(word(&x).contains("[100] has 100 elements"), "{}", word(&x));
        assert!(word(&Tensor::new([7], &device)).contains("the tensor is i32, not f32"));
        assert!(Tensor::new([1.0], &device).reshape([2]).try_item::<f32>().is_err());
    }
}

/// A fault is told by the element that was asked for; when nobody waits for that any longer, by the
/// next read.
#[test]
fn a_fault_comes_with_an_early_element_or_with_the_next_read() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let good = Tensor::new([1.0], &device) * 1.0;
    good.realize().expect("a run");
    let bad = || Tensor::new([1.0, 2.0, 3.0], &device).index_select(0, &Tensor::new([5], &device)).sum(..);
    let y = bad();
    let error = awaited(&y).expect_err("out of range");
    assert_eq!(error.kind(), ErrorKind::Index, "{error}");
    assert_eq!(awaited(&y).expect("told once"), 0.0);
    assert_eq!(good.item::<f32>().expect("told once"), 1.0);
    // Work that keeps the device busy, so that the element is still on its way.
    let busy = Tensor::ones([512, 512], &device);
    let dropped = bad() + busy.matmul(&busy).sum(..);
    let told_at_once = dropped.try_item::<f32>().is_err();
    println!("told at once: {told_at_once}");
    drop(dropped);
    assert!(told_at_once || good.item::<f32>().is_err_and(|error| error.kind() == ErrorKind::Index));
    assert_eq!(good.item::<f32>().expect("told once"), 1.0);
}

#[test]
fn a_host_says_that_it_wrote_into_its_buffer() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let gpu = Gpu::of(&device).expect("a GPU");
    let (raw, queue) = gpu.wgpu();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = raw.create_buffer(&wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: false });
    let x = Tensor::from_wgpu_buffer(buffer.clone(), DType::F32, [1], &device);
    let put = |v: f32| queue.write_buffer(&buffer, 0, &v.to_le_bytes());
    put(1.0);
    x.invalidate().expect("the host's");
    let y = &x * 10.0;
    assert_eq!((awaited(&x).expect("arrives"), y.item::<f32>().expect("read")), (1.0, 10.0));
    put(2.0);
    assert_eq!(awaited(&x).expect("kept"), 1.0, "nobody said that it changed");
    x.invalidate().expect("the host's");
    assert_eq!(awaited(&x).expect("arrives"), 2.0);
    assert_eq!(y.item::<f32>().expect("read"), 10.0, "what was computed stays");
    assert_eq!((&x * 10.0).item::<f32>().expect("read"), 20.0);

    let lent = Tensor::new([3.0], &device);
    assert_eq!(lent.invalidate().expect_err("ours").kind(), ErrorKind::Operand);
    assert_eq!(awaited(&lent).expect("arrives"), 3.0);
    queue.write_buffer(&lent.wgpu_buffer().expect("lent").buffer, 0, &4f32.to_le_bytes());
    lent.invalidate().expect("the host may write what it was given");
    assert_eq!(awaited(&lent).expect("arrives"), 4.0);
    assert!(Tensor::new([3.0], &Device::cpu()).invalidate().is_err());
    assert!((&x + Tensor::ones([2, 3], &Device::cpu())).invalidate().is_err());
}

#[test]
fn a_lost_device_is_not_ready() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let x = Tensor::new([1.0], &device) + 1.0;
    x.realize().expect("a run");
    block_on(device.ready()).expect("ready");
    Gpu::of(&device).expect("a GPU").wgpu().0.destroy();
    assert!(x.try_item::<f32>().is_err_and(|error| error.kind() == ErrorKind::Lost));
    assert!(block_on(device.ready()).is_err_and(|error| error.kind() == ErrorKind::Lost));
}

/// A shader that a browser refuses after it was compiled, used, and run.
#[test]
fn a_late_error_comes_out_at_the_next_read() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let gpu = Gpu::of(&device).expect("a GPU");
    gpu.set_late(true);
    let before = Tensor::new([1.0, 2.0], &device) * 2.0;
    before.realize().expect("a run");
    // Natively `build` finds most faults, but it does not know the device's limits.
    let text = format!(
        "@group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size({0}, {0}) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{ y[id.x] = x[id.x]; }}",
        1 << 14
    );
    let kernel = CustomKernel::new("greedy", text).build().expect("valid as far as one can tell");
    let x = Tensor::new([1.0, 2.0], &device);
    let result = || kernel.call(&[&x], |x| vec![&x[0] * 1.0]).remove(0);
    let y = result();
    y.realize().expect("nothing is known yet");
    let sum = y.sum(..) + 1.0;
    sum.realize().expect("nothing is known yet");
    for _ in 0..2 {
        for (n, error) in [
            y.to_vec::<f32>().err(),
            block_on(y.read::<f32>()).err(),
            awaited(&sum).err(),
            (&sum * 2.0).realize().err(),
            result().realize().err(),
        ]
        .into_iter()
        .enumerate()
        {
            let error = error.unwrap_or_else(|| panic!("way {n}: an error, never stale numbers"));
            assert_eq!((error.kind(), error.op()), (ErrorKind::Shader, "greedy"), "{error}");
        }
    }
    assert_eq!(before.to_vec::<f32>().expect("from before"), [2.0, 4.0]);
    // What was written before the error was known is condemned with it, the copy of `x` too.
    assert!((&x * 3.0).realize().is_err());
    let x = Tensor::new([1.0, 2.0], &device);
    let after = &x * 3.0;
    assert_eq!(after.to_vec::<f32>().expect("the device lives on"), [3.0, 6.0]);
    // Without the delay, the error comes at once.
    gpu.set_late(false);
    let Some(prompt) = own_gpu() else { return };
    let error = kernel.call(&[&x.to_device(&prompt)], |x| vec![&x[0] * 1.0])[0].realize().expect_err("at once");
    assert_eq!((error.kind(), error.op()), (ErrorKind::Shader, "greedy"), "{error}");
}

/// What an element of a user's shader is, only the driver knows, and it looks when the shader runs.
#[test]
fn a_custom_kernel_may_bind_fours() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let text = "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
        @group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&y) { y[id.x] = 2.0 * x[id.x]; }
        }";
    let kernel = CustomKernel::new("fours", text).build().expect("valid");
    let double = |x: &Tensor| kernel.call(&[x], |x| vec![&x[0] * 2.0]).remove(0);
    let x = Tensor::arange(0.0, 8.0, 1.0, &device);
    assert_eq!(double(&x).to_vec::<f32>().expect("two fours"), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
    // Less than one four is refused, and the device goes on.
    let error = double(&x.narrow(0, 0, 3)).to_vec::<f32>().expect_err("too few elements");
    assert!(matches!(error.kind(), ErrorKind::Device | ErrorKind::Shader), "{error}");
    assert_eq!((&x + 1.0).sum(..).item::<f32>().expect("a sum"), 36.0);
}

/// In a browser a buffer that there was no memory for is known to be none only later: it may be in
/// the pool by then, and so may what came after it.
#[test]
fn buffers_from_when_memory_was_short_are_not_used_again() {
    let Some(ours) = own_gpu() else { return println!("not run: there is no adapter") };
    let name = Gpu::of(&ours).expect("a GPU").info().name.clone();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let Some(adapter) = adapters.into_iter().find(|adapter| adapter.get_info().name == name) else { return };
    // So small that the constants of more than 16 kernels are refused.
    let required_limits = wgpu::Limits { max_buffer_size: 4096, ..wgpu::Limits::default() };
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..wgpu::DeviceDescriptor::default() };
    let (device, queue) = block_on(adapter.request_device(&descriptor)).expect("less than there is");
    let device = Device::from_wgpu(&adapter, &device, &queue).expect("enough");
    let gpu = Gpu::of(&device).expect("a GPU");
    gpu.set_late(true);
    let upload = || gpu.upload("test", &[1; 1024]).expect("uploaded");
    let (before, spare) = (upload(), upload());
    drop(spare);
    assert!(gpu.memory_use().pooled_bytes > 0);
    let many: Vec<Tensor> = (0..20).map(|n| Tensor::arange(0.0, f64::from(n + 3), 1.0, &device) * 2.0).collect();
    wgrad::realize(&many).expect("nothing is known yet");
    let error = many[0].to_vec::<f32>().expect_err("known now");
    assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
    let made = gpu.memory_use().allocations;
    let after = upload();
    assert_eq!(gpu.memory_use().allocations, made + 1, "the one that was spare may be none");
    drop(many);
    let pooled = gpu.memory_use().pooled_bytes;
    drop(before);
    assert_eq!(gpu.memory_use().pooled_bytes, pooled);
    drop(after);
    assert!(gpu.memory_use().pooled_bytes > pooled, "memory may be there again");
}
