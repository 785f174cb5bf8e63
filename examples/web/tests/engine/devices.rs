//! The devices of a browser: its GPU, opened once, and the CPU.

use std::cell::OnceCell;

use wgrad::device::GpuOptions;
use wgrad::device::cpu::Cpu;
use wgrad::prelude::*;

thread_local! {
    static GPU: OnceCell<Device> = const { OnceCell::new() };
}

/// Opens the GPU, unless that was done; the browser must have one.
pub async fn open() {
    if GPU.with(|gpu| gpu.get().is_none()) {
        let options = GpuOptions { software: true, ..Default::default() };
        let found = Device::gpu_with(&options).await.expect("a browser with WebGPU");
        GPU.with(|gpu| gpu.set(found)).expect("one thread");
    }
}

/// The CPU, and the GPU.
pub fn devices() -> Vec<Device> {
    let gpu = GPU.with(|gpu| gpu.get().cloned());
    std::iter::once(cpu()).chain(gpu).collect()
}

/// The CPU.
pub fn cpu() -> Device {
    Device::cpu()
}

/// Whether `device` is a CPU.
pub fn is_cpu(device: &Device) -> bool {
    Cpu::of(device).is_some()
}
