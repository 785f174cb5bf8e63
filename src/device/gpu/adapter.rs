//! Finding adapters and opening devices on them.
//!
//! Every call makes a device of its own; nothing is kept between calls, unless the application
//! names a folder for it. In a browser all of this
//! is `async` under the same names.

use crate::compile::wgsl::cooperative::Cooperative;
use crate::device::gpu::Gpu;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;

/// Which GPU [`Device::gpu_with`] opens, and how.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Part of the adapter's name, in any case; whatever has it is taken, software too.
    pub name: Option<String>,
    /// Whether software that stands in for a GPU will do when there is no real one.
    pub software: bool,
    /// Whether wgpu and the driver validate and label everything, at a price.
    pub debug: bool,
    /// Whether products of f16 may be computed on the GPU's matrix units (tensor cores), where it has any.
    ///
    /// They are a feature of wgpu that is experimental, natively only, and not free of known bugs, so a
    /// device is asked for it only here. They serve after they passed a self-test, and everything else
    /// is computed as without.
    pub cooperative: bool,
}

/// Every type of adapter.
const BEST_FIRST: [wgpu::DeviceType; 5] = [
    wgpu::DeviceType::DiscreteGpu,
    wgpu::DeviceType::IntegratedGpu,
    wgpu::DeviceType::VirtualGpu,
    wgpu::DeviceType::Other,
    wgpu::DeviceType::Cpu,
];

fn instance(debug: bool) -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        // Their default validates even in release builds.
        flags: if debug { wgpu::InstanceFlags::debugging() } else { wgpu::InstanceFlags::empty() },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// All adapters, best first.
async fn adapters(debug: bool) -> Vec<wgpu::Adapter> {
    if wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let found = instance(debug).enumerate_adapters(wgpu::Backends::all()).await;
    let of_type = |kind| found.iter().filter(move |adapter| adapter.get_info().device_type == kind).cloned();
    BEST_FIRST.into_iter().flat_map(of_type).collect()
}

async fn open(options: &GpuOptions) -> Result<Device> {
    let adapters = adapters(options.debug).await;
    let wanted = |info: &wgpu::AdapterInfo| match &options.name {
        Some(name) => info.name.to_ascii_lowercase().contains(&name.to_ascii_lowercase()),
        None => options.software || info.device_type != wgpu::DeviceType::Cpu,
    };
    let Some(adapter) = adapters.iter().find(|adapter| wanted(&adapter.get_info())) else {
        let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
        let fact = match &options.name {
            Some(name) => format!("no adapter is called {name:?}; there are {names:?}"),
            None => format!("no adapter is a GPU; there are {names:?}"),
        };
        return Err(Error::new(ErrorKind::Device, "gpu", fact));
    };
    let optional = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE | wgpu::Features::SUBGROUP;
    let cooperative = options.cooperative && adapter.features().contains(COOPERATIVE);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("wgrad"),
        required_features: adapter.features() & if cooperative { optional | COOPERATIVE } else { optional },
        experimental_features: match cooperative {
            // SAFETY: it asks that its caller knows of bugs that undefined behaviour may come of, which
            // `GpuOptions::cooperative` says; only our own shaders use the feature, after a self-test.
            true => unsafe { wgpu::ExperimentalFeatures::enabled() },
            false => wgpu::ExperimentalFeatures::disabled(),
        },
        required_limits: adapter.limits(),
        // Buffers are pooled here, so the driver's blocks need not be large.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    match adapter.request_device(&descriptor).await {
        Ok((device, queue)) => {
            let device = Gpu::wrap(adapter, device, queue, true)?;
            // Natively, when the first plan needs it.
            #[cfg(target_arch = "wasm32")]
            device.self_test().await?;
            Ok(device)
        }
        Err(error) => Err(Error::new(ErrorKind::Device, "gpu", error.to_string())),
    }
}

/// What products on matrix units need.
const COOPERATIVE: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16);

/// The matrix units that `device` was opened with: those that multiply square matrices of f16 and add up
/// in f32.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn units(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Option<Cooperative> {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !device.features().contains(COOPERATIVE) {
        return None;
    }
    let all = adapter.cooperative_matrix_properties();
    let has = |side: u32, elem| {
        let square = |p: &&wgpu::CooperativeMatrixProperties| [p.m_size, p.n_size, p.k_size] == [side; 3];
        all.iter().filter(square).any(|p| (p.ab_type, p.cr_type) == (elem, F32))
    };
    let side = [16, 8].into_iter().find(|&side| has(side, F16))?;
    let info = device.adapter_info();
    // wgpu does not know it on Metal, where every GPU with such units has subgroups of 32.
    let subgroup = if info.backend == wgpu::Backend::Metal { 32 } else { info.subgroup_max_size };
    Some(Cooperative { f32: has(side, F32), ..Cooperative::new(side, subgroup) })
}

/// A browser offers none.
#[cfg(target_arch = "wasm32")]
pub(super) fn units(_: &wgpu::Adapter, _: &wgpu::Device) -> Option<Cooperative> {
    None
}

impl Device {
    /// The host program's own device, shared: its error and loss callbacks stay as they are.
    ///
    /// `queue` must be the queue of `device`, and both the wgpu that this crate re-exports. Where the host
    /// has cooperative matrices and f16 in shaders enabled, products of f16 use them.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Device> {
        Gpu::wrap(adapter, device.clone(), queue.clone(), false)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Device {
    /// The adapters there are, best first.
    pub fn adapters() -> Vec<wgpu::AdapterInfo> {
        pollster::block_on(adapters(false)).iter().map(wgpu::Adapter::get_info).collect()
    }

    /// The best real GPU: a discrete one before an integrated one, never software.
    pub fn gpu() -> Result<Device> {
        Device::gpu_with(&GpuOptions::default())
    }

    /// The GPU whose name contains `name`, in any case; software counts.
    pub fn gpu_named(name: &str) -> Result<Device> {
        Device::gpu_with(&GpuOptions { name: Some(name.into()), ..GpuOptions::default() })
    }

    /// The GPU that `options` ask for.
    pub fn gpu_with(options: &GpuOptions) -> Result<Device> {
        pollster::block_on(open(options))
    }

    /// The best real GPU, or the built-in CPU where there is none.
    pub fn best() -> Device {
        Device::gpu().unwrap_or_else(|_| Device::cpu())
    }
}

#[cfg(target_arch = "wasm32")]
impl Device {
    /// The adapters there are: the one the browser offers.
    pub async fn adapters() -> Vec<wgpu::AdapterInfo> {
        adapters(false).await.iter().map(wgpu::Adapter::get_info).collect()
    }

    /// The GPU the browser offers.
    pub async fn gpu() -> Result<Device> {
        Device::gpu_with(&GpuOptions::default()).await
    }

    /// The GPU whose name contains `name`, in any case; software counts.
    pub async fn gpu_named(name: &str) -> Result<Device> {
        Device::gpu_with(&GpuOptions { name: Some(name.into()), ..GpuOptions::default() }).await
    }

    /// The GPU that `options` ask for.
    pub async fn gpu_with(options: &GpuOptions) -> Result<Device> {
        open(options).await
    }

    /// The browser's GPU, or the built-in CPU where it has none.
    pub async fn best() -> Device {
        Device::gpu().await.unwrap_or_else(|_| Device::cpu())
    }
}
