//! Devices: where plans run, and how results come back to the host.
//!
//! The only layer that touches wgpu, threads, clocks and wasm. [`realize`](mod@realize) finds or
//! makes the program of a graph; [`cpu`] and `gpu` run it.

mod cache;
pub mod clock;
pub mod cpu;
mod custom;
pub mod display;
mod explain;
#[cfg(feature = "gpu")]
pub mod gpu;
mod memory;
pub mod realize;
#[cfg(feature = "gpu")]
mod selftest;
mod verify;

pub use custom::{CustomKernel, CustomKernelBuilder};
pub use explain::{Explanation, explain};
#[cfg(feature = "gpu")]
pub use gpu::adapter::GpuOptions;
#[cfg(feature = "gpu")]
pub use gpu::interop::WgpuBuffer;
pub use memory::MemoryUse;
pub use verify::{Verified, Verify};

use std::sync::Arc;

use crate::dtype::Element;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Device, HostData};
use crate::graph::tensor::Tensor;

#[cfg(not(feature = "gpu"))]
impl Device {
    /// The best real GPU, or the built-in CPU where there is none.
    pub fn best() -> Device {
        Device::cpu()
    }
}

impl Tensor {
    /// Computes the elements now and keeps them.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0], &Device::cpu()) * 2.0;
    /// x.realize()?;
    /// assert!(x.is_realized());
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn realize(&self) -> Result<()> {
        realize::realize([self])
    }

    /// The elements in row-major order; waits for them.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 2], [3, 4]], &Device::cpu());
    /// assert_eq!(x.to_vec::<i32>()?, [1, 2, 3, 4]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let value = self.storage::<T>("to_vec")?;
        Ok(self.elements(&value.to_host()?))
    }

    /// The only element of a tensor that has one; waits for it.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0], &Device::cpu());
    /// assert_eq!(x.sum(..).item::<f32>()?, 3.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn item<T: Element>(&self) -> Result<T> {
        self.check()?;
        match self.to_vec()?[..] {
            [x] => Ok(x),
            _ => {
                let fact = format!("{} has {} elements", self.shape(), self.numel());
                Err(Error::new(ErrorKind::Operand, "item", fact))
            }
        }
    }

    /// The elements in row-major order, without blocking a browser.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # async fn example() -> Result<(), Error> {
    /// let x = Tensor::new([1.0, 2.0], &Device::cpu());
    /// assert_eq!((x * 2.0).read::<f32>().await?, [2.0, 4.0]);
    /// # Ok(()) }
    /// ```
    pub async fn read<T: Element>(&self) -> Result<Vec<T>> {
        let value = self.storage::<T>("read")?;
        #[cfg(feature = "gpu")]
        if let Some(buffer) = value.as_any().downcast_ref::<gpu::GpuBuffer>() {
            return Ok(self.elements(&buffer.gpu().read("read", buffer).await?));
        }
        Ok(self.elements(&value.to_host()?))
    }

    /// This tensor on `device`: itself when it is there already, else a copy of its elements,
    /// which are computed now and come without their history.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0], &Device::cpu());
    /// assert_eq!(x.to_device(&Device::best()).to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn to_device(&self, device: &Device) -> Tensor {
        if !self.is_valid() || self.device() == device {
            return self.clone();
        }
        let bytes = self.realize().and_then(|()| self.value().map_or(Err(gone("to_device")), |v| v.to_host()));
        match bytes {
            Ok(bytes) => Tensor::leaf(Arc::new(HostData(bytes)), *self.shape(), self.dtype(), device),
            Err(error) => Tensor::from_error(error, device),
        }
    }

    /// The computed elements, when `T` is what they are.
    fn storage<T: Element>(&self, word: &str) -> Result<Arc<dyn crate::graph::device::Storage>> {
        self.check()?;
        if T::DTYPE != self.dtype() {
            let fact = format!("the tensor is {}, not {}", self.dtype(), T::DTYPE);
            return Err(Error::new(ErrorKind::Operand, word, fact));
        }
        self.realize()?;
        self.value().ok_or_else(|| gone(word))
    }

    fn elements<T: Element>(&self, bytes: &[u8]) -> Vec<T> {
        let mut elements = T::from_bytes(bytes);
        elements.truncate(self.numel());
        elements
    }
}

fn gone(word: &str) -> Error {
    Error::new(ErrorKind::Device, word, "the elements are gone")
}
