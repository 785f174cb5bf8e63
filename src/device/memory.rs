//! What a device tells of itself: memory in use and a limit to it, plans made, the driver.

#[cfg(feature = "gpu")]
use crate::compile::waves;
use crate::device::cpu::Cpu;
use crate::graph::device::Device;

/// How much of a device's memory is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Bytes that tensors and running plans hold.
    pub live_bytes: u64,
    /// The most that was held at once, since [`Device::reset_peak_memory`].
    pub peak_bytes: u64,
    /// Bytes kept for later use.
    pub pooled_bytes: u64,
    /// How often the driver was asked for memory; not counted on the built-in CPU.
    pub allocations: u64,
}

impl Device {
    /// How much memory is in use.
    pub fn memory_use(&self) -> MemoryUse {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            return gpu.memory_use();
        }
        let usage = Cpu::of(self).map(Cpu::usage).unwrap_or_default();
        MemoryUse { live_bytes: usage.live, peak_bytes: usage.peak, pooled_bytes: usage.pooled, ..MemoryUse::default() }
    }

    /// Begins [`MemoryUse::peak_bytes`] anew, at what is held now.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// device.reset_peak_memory();
    /// let held = device.memory_use().live_bytes;
    /// Tensor::ones([256, 256], &device).exp().realize()?;
    /// assert!(device.memory_use().peak_bytes >= held + 256 * 256 * 4);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn reset_peak_memory(&self) {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            return gpu.reset_peak_memory();
        }
        if let Some(cpu) = Cpu::of(self) {
            cpu.reset_peak_memory();
        }
    }

    /// The most bytes of a tensor that a kernel sees in one piece.
    pub(crate) fn piece_bytes(&self) -> u64 {
        #[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            return gpu.limits().binding_bytes_max;
        }
        u64::MAX
    }

    /// How many plans were compiled for the device so far: a loop that computes the same every time
    /// makes no new ones.
    pub fn plans_made(&self) -> u64 {
        #[cfg(feature = "gpu")]
        if let Some((_, programs)) = crate::device::gpu::Gpu::with_programs(self) {
            return programs.misses();
        }
        Cpu::of(self).map_or(0, Cpu::plans_made)
    }

    /// Fingerprints of the plans that were compiled for the device so far, in ascending order: equal
    /// plans have equal ones, in any process. At most 65,536 are kept.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0], &Device::cpu());
    /// x.cosh().realize()?;
    /// assert!(!Device::cpu().plan_fingerprints().is_empty());
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn plan_fingerprints(&self) -> Vec<u64> {
        #[cfg(feature = "gpu")]
        if let Some((_, programs)) = crate::device::gpu::Gpu::with_programs(self) {
            return programs.made();
        }
        Cpu::of(self).map(Cpu::plans).unwrap_or_default()
    }

    /// The driver of a GPU and its version, as it says itself; nothing for the built-in CPU.
    pub fn driver(&self) -> Option<String> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            let info = gpu.info();
            return Some(format!("{} {}", info.driver, info.driver_info).trim().to_string());
        }
        None
    }

    /// Sets or lifts the limit of what tensors and running plans may hold at once: what needs more
    /// is an error before anything runs.
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            let waves = waves::ARE_MADE && gpu.memory_limit().is_some() != bytes.is_some();
            gpu.set_memory_limit(bytes);
            // Plans have waves only where there is no limit.
            if waves {
                crate::device::gpu::Gpu::forget_programs(self);
            }
            return;
        }
        if let Some(cpu) = Cpu::of(self) {
            cpu.set_memory_limit(bytes);
        }
    }
}
