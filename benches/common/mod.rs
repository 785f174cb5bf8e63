//! What benches have in common.

use wgrad::prelude::*;

/// Every device there is to time: the CPU, and a GPU, which may be made of software.
pub fn devices() -> Vec<Device> {
    #[cfg(feature = "gpu")]
    let gpu = Device::gpu_with(&wgrad::device::GpuOptions { software: true, ..Default::default() }).ok();
    #[cfg(not(feature = "gpu"))]
    let gpu = None;
    std::iter::once(Device::cpu()).chain(gpu).collect()
}
