//! Devices: where plans run, and how results come back to the host.
//!
//! The only layer that touches wgpu, threads, clocks and wasm.

mod custom;
pub mod display;
#[cfg(feature = "gpu")]
pub mod gpu;
mod memory;

pub use custom::{CustomKernel, CustomKernelBuilder};
#[cfg(feature = "gpu")]
pub use gpu::adapter::GpuOptions;
#[cfg(feature = "gpu")]
pub use gpu::interop::WgpuBuffer;
pub use memory::MemoryUse;

use std::any::Any;
use std::sync::{Arc, OnceLock};

use crate::dtype::Element;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Backend, Device, HostData};
use crate::graph::tensor::Tensor;
use crate::reference;

struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Device {
    /// The built-in CPU device.
    pub fn cpu() -> Device {
        static CPU: OnceLock<Device> = OnceLock::new();
        CPU.get_or_init(|| Device(Arc::new(Cpu))).clone()
    }

    /// The best real GPU, or the built-in CPU where there is none.
    #[cfg(not(feature = "gpu"))]
    pub fn best() -> Device {
        Device::cpu()
    }
}

impl Tensor {
    /// Computes the elements now and keeps them.
    pub fn realize(&self) -> Result<()> {
        self.check()?;
        if self.is_realized() {
            return Ok(());
        }
        let evaluation = reference::evaluate(std::slice::from_ref(self), reference::Rounding::PerNode)?;
        for (root, value) in [self].iter().zip(evaluation.values) {
            root.set_value(Arc::new(HostData(Arc::new(value.to_bytes(root.dtype())))));
        }
        evaluation.faults.into_iter().next().map_or(Ok(()), Err)
    }

    /// The elements in row-major order.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check()?;
        if T::DTYPE != self.dtype() {
            let fact = format!("the tensor is {}, not {}", self.dtype(), T::DTYPE);
            return Err(Error::new(ErrorKind::Operand, "to_vec", fact));
        }
        self.realize()?;
        let Some(value) = self.value() else { return Err(Error::new(ErrorKind::Device, "to_vec", "no value")) };
        let mut elements = T::from_bytes(&value.to_host()?);
        elements.truncate(self.numel());
        Ok(elements)
    }

    /// The only element of a tensor that has one.
    pub fn item<T: Element>(&self) -> Result<T> {
        let elements = self.to_vec()?;
        match elements[..] {
            [x] => Ok(x),
            _ => Err(Error::new(ErrorKind::Operand, "item", format!("{} has {} elements", self.shape(), elements.len()))),
        }
    }
}
