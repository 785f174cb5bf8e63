//! Where a session runs, and why there.

use wgrad::prelude::*;
use wgrad::{ErrorKind, Result};

/// A device and why it was taken.
pub struct Place {
    /// The device.
    pub device: Device,
    /// Whether it is a GPU.
    pub is_gpu: bool,
    /// In words for the visitor.
    pub why: String,
}

impl Place {
    /// The device that `choice` names: `cpu`; `gpu`, which may be software that stands in for one; or
    /// `auto`, a real GPU if the browser offers one and else the CPU.
    pub async fn find(choice: &str) -> Result<Place> {
        let cpu = |why: String| Place { device: Device::cpu(), is_gpu: false, why };
        match choice {
            "cpu" => Ok(cpu("you chose it".into())),
            "gpu" => Ok(Place {
                device: open(true).await?,
                is_gpu: true,
                why: "you chose it, real or made of software".into(),
            }),
            "auto" => match open(false).await {
                Ok(device) => Ok(Place { device, is_gpu: true, why: "this browser offers it through WebGPU".into() }),
                Err(error) => Ok(cpu(format!("no GPU through WebGPU: {error}"))),
            },
            other => Err(Error::new(ErrorKind::Operand, "device", format!("{other:?} is none of auto, gpu and cpu"))),
        }
    }
}

#[cfg(target_arch = "wasm32")]
async fn open(software: bool) -> Result<Device> {
    Device::gpu_with(&wgrad::device::GpuOptions { software, ..Default::default() }).await
}

/// Natively a session is only compared with, and the CPU is what it is compared on.
#[cfg(not(target_arch = "wasm32"))]
async fn open(_: bool) -> Result<Device> {
    Err(Error::new(ErrorKind::Device, "gpu", "this program was built without one"))
}
