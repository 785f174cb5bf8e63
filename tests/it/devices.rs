//! The devices that tests run on: the CPU, and one GPU for the whole process where there is one.
//!
//! `WGRAD_TEST_ADAPTER` names the adapter (part of its name will do); without it any adapter is
//! taken, software too. `REQUIRE_GPU=1` turns the absence of one into a failure.
//!
//! The devices of the process run under `Verify`: whatever else a test looks at, every plan that is
//! new and small is compared with the oracle.

#[cfg(feature = "gpu")]
use wgrad::device::GpuOptions;
use wgrad::device::Verify;
use wgrad::device::cpu::Cpu;
use wgrad::prelude::*;

/// Plans of at most so many operations and bytes are compared with the oracle.
const VERIFY: Verify = Verify::FirstUse { work_max: 40_000 };

/// The CPU, and the GPU of the process where there is one.
pub fn devices() -> Vec<Device> {
    std::iter::once(cpu()).chain(gpu()).collect()
}

/// The CPU.
pub fn cpu() -> Device {
    static CPU: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let verified = || {
        let cpu = Device::cpu();
        cpu.set_verify(VERIFY);
        cpu
    };
    CPU.get_or_init(verified).clone()
}

/// The GPU of the process.
#[cfg(feature = "gpu")]
pub fn gpu() -> Option<Device> {
    static GPU: std::sync::OnceLock<Option<Device>> = std::sync::OnceLock::new();
    let verified = || open().inspect(|gpu| gpu.set_verify(VERIFY));
    GPU.get_or_init(verified).clone()
}

/// There is none without the feature.
#[cfg(not(feature = "gpu"))]
pub fn gpu() -> Option<Device> {
    None
}

/// As [`devices`], for tests that raise faults: the fault word travels with whatever is read next,
/// so they have a GPU of their own, and one test at a time has it.
pub fn devices_for_faults() -> (Vec<Device>, std::sync::MutexGuard<'static, ()>) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    (std::iter::once(plain_cpu()).chain(gpu_for_faults()).collect(), turn)
}

/// A CPU of those who compare by themselves, without `Verify`: what hangs on a rounding is theirs to tell.
pub fn plain_cpu() -> Device {
    static CPU: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    CPU.get_or_init(Cpu::beside).clone()
}

/// Whether `device` is a CPU.
pub fn is_cpu(device: &Device) -> bool {
    Cpu::of(device).is_some()
}

/// As [`gpu`], but nobody else has it: what it counts is the caller's alone.
#[cfg(feature = "gpu")]
pub fn own_gpu() -> Option<Device> {
    open()
}

/// As [`gpu`], but every shader has the driver's checks of bounds and loops.
#[cfg(feature = "gpu")]
pub fn checked_gpu() -> Option<Device> {
    static GPU: std::sync::OnceLock<Option<Device>> = std::sync::OnceLock::new();
    let checked = || open().inspect(|gpu| wgrad::device::gpu::Gpu::of(gpu).expect("a GPU").set_checked(true));
    GPU.get_or_init(checked).clone()
}

/// There is none without the feature.
#[cfg(not(feature = "gpu"))]
pub fn checked_gpu() -> Option<Device> {
    None
}

/// As [`own_gpu`], asked for its matrix units.
#[cfg(feature = "gpu")]
pub fn own_gpu_with_units() -> Option<Device> {
    open_with(GpuOptions { cooperative: true, ..GpuOptions::default() })
}

/// There is none without the feature.
#[cfg(not(feature = "gpu"))]
pub fn own_gpu() -> Option<Device> {
    None
}

/// There is none without the feature.
#[cfg(not(feature = "gpu"))]
pub fn own_gpu_with_units() -> Option<Device> {
    None
}

#[cfg(feature = "gpu")]
fn gpu_for_faults() -> Option<Device> {
    static GPU: std::sync::OnceLock<Option<Device>> = std::sync::OnceLock::new();
    GPU.get_or_init(open).clone()
}

#[cfg(not(feature = "gpu"))]
fn gpu_for_faults() -> Option<Device> {
    None
}

#[cfg(feature = "gpu")]
fn open() -> Option<Device> {
    open_with(GpuOptions::default())
}

#[cfg(feature = "gpu")]
fn open_with(options: GpuOptions) -> Option<Device> {
    crate::wgsl::watch();
    let name = std::env::var("WGRAD_TEST_ADAPTER").ok();
    let found = Device::gpu_with(&GpuOptions { name, software: true, ..options });
    if std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1")
        && let Err(error) = &found
    {
        panic!("REQUIRE_GPU is set: {error}");
    }
    found.ok()
}

#[test]
fn new_plans_are_compared_with_the_oracle() {
    for device in devices() {
        let before = device.verified();
        // Nobody else has a tensor of this shape.
        (Tensor::ones([7, 11, 13], &device) * 3.0).exp().sum(1).realize().unwrap();
        let after = device.verified();
        assert!(after.agreed > before.agreed, "{device}: {before:?}, then {after:?}");
        println!("{device}: {after:?} so far");
        // A plan that is far smaller than its graph: the oracle would need 32 GiB.
        Tensor::zeros([65_000, 65_000], &device).narrow(0, 0, 3).narrow(1, 0, 3).realize().unwrap();
        assert!(device.verified().unchecked > after.unchecked, "{device}");
    }
}
