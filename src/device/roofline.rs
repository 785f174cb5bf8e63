//! [`Roofline`]: what a device does at its best, in bytes and operations a second.
//!
//! Measured with ordinary tensors under [`Device::trace`], once a device. Never kept on disk: a
//! figure of a busy hour would outlive it. Knows no plan.

use std::fmt;

#[cfg(feature = "gpu")]
use crate::compile::plan::Plan;
#[cfg(feature = "gpu")]
use crate::device::clock::Clock;
use crate::device::cpu::Cpu;
use crate::device::explain::limits;
#[cfg(feature = "gpu")]
use crate::device::gpu::Gpu;
use crate::error::Result;
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;

/// Bytes that are copied: more than caches hold, little for a device's memory.
const COPY_BYTES: u64 = 128 << 20;
/// A run is timed that takes so long: clocks have risen, and timestamps are fine enough.
const SECONDS_MIN: f64 = 0.01;
/// Sizes that are tried, each with eight times the operations of the one before.
const SIZES: u32 = 5;
/// Timed runs, of which the median counts.
const RUNS: usize = 7;

/// Workgroups of `shaders/roofline.wgsl`, invocations of each, and operations in a turn of one.
#[cfg(feature = "gpu")]
const CHAINS: [u32; 3] = [4096, 64, 64];

/// What a device does at its best, in memory and in arithmetic.
///
/// [`Device::roofline`] measures it; the figures of a data sheet will do, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Bytes a second that a copy of a large tensor reads and writes together.
    pub copy_bytes_per_second: f64,
    /// `f32` operations a second, a multiply-add counted as two.
    pub flops_per_second: f64,
}

impl Roofline {
    /// The least seconds for a kernel that moves `bytes` and does `flops` operations meanwhile.
    pub fn seconds(&self, bytes: u64, flops: u64) -> f64 {
        // A rate of nothing would make it last for ever.
        let least = |work: u64, rate: f64| work as f64 / rate.max(1.0);
        least(bytes, self.copy_bytes_per_second).max(least(flops, self.flops_per_second))
    }
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copy {:.1} GB/s, {:.1} GFLOP/s", self.copy_bytes_per_second * 1e-9, self.flops_per_second * 1e-9)
    }
}

impl Device {
    /// What this device does at its best; measured at the first call, which takes about a second
    /// and 256 MiB of its memory, and remembered by the device.
    ///
    /// Bytes: a map that reads and writes 128 MiB (less where the device allows less), as a copy does,
    /// with our kernel for maps. Operations: on a GPU, independent fused multiply-adds in registers;
    /// on the CPU, the product of matrices of the `gemm` crate, on all threads, so that no other
    /// product can do much better. Both are medians of several runs, taken while nothing else
    /// should run. A device that cannot be [traced](Device::trace), or is just now, is an error.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let roofline = Device::cpu().roofline()?;
    /// println!("{roofline}"); // copy 12.3 GB/s, 45.6 GFLOP/s
    /// assert!(roofline.copy_bytes_per_second > 0.0 && roofline.flops_per_second > 0.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn roofline(&self) -> Result<Roofline> {
        let known = &self.recorder("roofline")?.roofline;
        if let Some(roofline) = known.get() {
            return Ok(*roofline);
        }
        let measured = Roofline { copy_bytes_per_second: copied(self)?, flops_per_second: operations(self)? };
        Ok(*known.get_or_init(|| measured))
    }
}

/// Bytes a second.
fn copied(device: &Device) -> Result<f64> {
    let limits = limits(device)?;
    let bytes = COPY_BYTES.min(limits.binding_bytes_max).min(limits.memory_bytes_max / 4);
    let x = Tensor::ones([(bytes / 4) as usize], device);
    x.realize()?;
    // Nothing is saved by a change of sign, and it costs nothing beside the memory.
    Ok((bytes / 4 * 8) as f64 / seconds(device, || vec![x.neg()])?)
}

/// Operations a second.
fn operations(device: &Device) -> Result<f64> {
    let is_cpu = Cpu::of(device).is_some();
    let mut rate = 0.0;
    for size in 0..SIZES {
        let (flops, seconds) = if is_cpu { product(device, 256 << size)? } else { chains(device, 64 << (3 * size))? };
        rate = flops / seconds;
        if seconds >= SECONDS_MIN {
            break;
        }
    }
    Ok(rate)
}

/// Operations and seconds of a product of matrices of `side`.
fn product(device: &Device, side: usize) -> Result<(f64, f64)> {
    let x = Tensor::ones([side, side], device);
    x.realize()?;
    Ok((2.0 * (side as f64).powi(3), seconds(device, || vec![x.matmul(&x)])?))
}

/// Multiply-adds in registers, and how many operations they are.
#[cfg(feature = "gpu")]
fn multiply_adds(device: &Device, turns: u32) -> Result<(f64, impl Fn() -> Vec<Tensor>)> {
    let [groups, width, flops] = CHAINS;
    let kernel = crate::device::CustomKernel::new("multiply_adds", include_str!("../../shaders/roofline.wgsl"));
    // SAFETY: indices are compared with the lengths or 0, and nothing here is empty; the loop
    // counts to an integer; there is no workgroup memory.
    let kernel = unsafe { kernel.inputs(2).grid([groups, 1, 1]).unchecked() }.build()?;
    let x = Tensor::ones([(groups * width) as usize], device);
    let n = Tensor::from_slice(&[turns], [1], device);
    crate::realize([&x, &n])?;
    let operations = f64::from(groups * width) * f64::from(flops) * f64::from(turns);
    Ok((operations, move || kernel.call(&[&x, &n], |x| vec![&x[0] * 8.0])))
}

/// Operations and seconds of multiply-adds in registers.
#[cfg(feature = "gpu")]
fn chains(device: &Device, turns: u32) -> Result<(f64, f64)> {
    let (operations, run) = multiply_adds(device, turns)?;
    Ok((operations, seconds(device, run)?))
}

/// Has a GPU cut its work by what it does at its best, once a step of `plan` would be cut by a guess.
#[cfg(feature = "gpu")]
pub fn measure_pace(device: &Device, gpu: &Gpu, plan: &Plan) {
    let pace = gpu.pace();
    if plan.steps.iter().any(|step| pace.is_long(step.flops)) && gpu.takes_pace() {
        // What goes wrong here goes wrong again in the run of the plan; until then the guess stands.
        if let Ok(rate) = rate_by_clock(device) {
            gpu.set_pace(pace.at_best(rate));
        }
    }
}

/// Operations a second by the host's clock, which every device has, and tracing or not.
#[cfg(feature = "gpu")]
fn rate_by_clock(device: &Device) -> Result<f64> {
    let mut rate = 0.0;
    for size in 0..SIZES {
        let (operations, run) = multiply_adds(device, 64 << (3 * size))?;
        let mut seconds = 0.0;
        // The first run compiles.
        for _ in 0..2 {
            let clock = Clock::start();
            for y in run() {
                y.realize()?;
                y.narrow(0, 0, 1).to_vec::<f32>()?;
            }
            seconds = clock.seconds();
        }
        rate = operations / seconds.max(1e-9);
        if seconds >= SECONDS_MIN / 2.0 {
            break;
        }
    }
    Ok(rate)
}

/// Without GPUs there is only the CPU.
#[cfg(not(feature = "gpu"))]
fn chains(device: &Device, _: u32) -> Result<(f64, f64)> {
    product(device, 1024)
}

/// Seconds that the kernels of what `build` builds take.
fn seconds(device: &Device, build: impl Fn() -> Vec<Tensor>) -> Result<f64> {
    // The first run compiles.
    crate::realize(&build())?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let ((), trace) = device.trace(|| crate::realize(&build()))?;
        times.push(trace.kernel_seconds());
    }
    times.sort_by(f64::total_cmp);
    // A clock that stands still measures nothing; the rates stay finite.
    Ok(times.get(RUNS / 2).map_or(1e-9, |median| median.max(1e-9)))
}
