//! How much of a device's memory is in use, and a limit to it.

use crate::graph::device::Device;

/// How much of a device's memory is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Bytes that tensors and running plans hold.
    pub live_bytes: u64,
    /// The most that was held at once.
    pub peak_bytes: u64,
    /// Bytes kept for later use.
    pub pooled_bytes: u64,
    /// How often the driver was asked for memory.
    pub allocations: u64,
}

impl Device {
    /// How much memory is in use; nothing is counted on the built-in CPU.
    pub fn memory_use(&self) -> MemoryUse {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            return gpu.memory_use();
        }
        MemoryUse::default()
    }

    /// Sets or lifts the limit of what tensors and running plans may hold at once: what needs more
    /// is an error before anything runs. The built-in CPU has none.
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            gpu.set_memory_limit(bytes);
        }
        #[cfg(not(feature = "gpu"))]
        let _ = bytes;
    }
}
