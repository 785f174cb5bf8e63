//! Devices: where plans run, and how results come back to the host.
//!
//! The only layer that touches wgpu, threads, clocks and wasm. [`realize`](mod@realize) finds or
//! makes the program of a graph; [`cpu`] and `gpu` run it.

#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
mod alone;
mod cache;
pub mod clock;
pub mod cpu;
mod custom;
pub mod display;
pub(crate) mod explain;
#[cfg(feature = "gpu")]
pub mod gpu;
mod memory;
pub mod realize;
#[cfg(not(target_arch = "wasm32"))]
mod roofline;
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
mod search;
#[cfg(feature = "gpu")]
mod selftest;
#[cfg(not(target_arch = "wasm32"))]
mod trace;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
mod verify;

pub use custom::{CustomKernel, CustomKernelBuilder};
pub use explain::{Explanation, explain};
#[cfg(feature = "gpu")]
pub use gpu::adapter::GpuOptions;
#[cfg(feature = "gpu")]
pub use gpu::interop::WgpuBuffer;
pub use memory::MemoryUse;
#[cfg(not(target_arch = "wasm32"))]
pub use roofline::Roofline;
#[cfg(not(target_arch = "wasm32"))]
pub use trace::{Trace, Traced};
#[cfg(not(target_arch = "wasm32"))]
pub use tune::{Tuned, Tuning, tune};
pub use verify::{Verified, Verify};

use std::ops::Range;
use std::sync::Arc;

use crate::dtype::{DType, Element};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Device, HostData, Storage, WHOLE};
use crate::graph::op::Op;
use crate::graph::tensor::Tensor;

#[cfg(not(feature = "gpu"))]
impl Device {
    /// The best real GPU, or the built-in CPU where there is none.
    pub fn best() -> Device {
        Device::cpu()
    }
}

impl Device {
    /// Waits until at most two submissions are under way, so that the next realise runs beside them
    /// and none piles up; an error when the device was lost.
    ///
    /// In a browser, where realising never waits, every loop awaits this once a turn. Natively a
    /// realise itself waits before it runs more than three submissions ahead, and this future waits
    /// inside instead of yielding. The CPU is always ready.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # async fn example(device: Device) -> Result<(), Error> {
    /// let mut x = Tensor::ones([1000], &device);
    /// for _ in 0..100 {
    ///     x = x.sin();
    ///     x.realize()?;
    ///     device.ready().await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn ready(&self) -> Result<()> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = gpu::Gpu::of(self) {
            return gpu.ready("ready").await;
        }
        Ok(())
    }
}

impl Device {
    /// Names a folder where this device keeps, from now on, what spares the next program time: that
    /// the hand-written shaders passed their tests here, the pipelines that the driver compiled, and
    /// the tiles that [`tune`](crate::tune) chose.
    ///
    /// Nothing is kept unless a folder is named, and nothing in it changes a result, but that chosen
    /// tiles, which are in force at once, may change last bits ([`Device::tuning_hash`]).
    /// The folder is made when it is not there; files that cannot be read, written or understood
    /// are passed over in silence. The driver trusts a file of pipelines, so nobody who is not
    /// trusted should be able to write there: the user's own cache folder is right, a shared
    /// temporary one is not. Of a device that a host program shares only the tests are kept; the CPU
    /// and browsers keep nothing.
    ///
    /// ```no_run
    /// # use wgrad::prelude::*;
    /// let device = Device::best();
    /// device.set_cache_dir("/home/me/.cache/my-program");
    /// ```
    pub fn set_cache_dir(&self, path: impl AsRef<std::path::Path>) {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = gpu::Gpu::of(self) {
            gpu.set_cache_dir(path.as_ref());
            // Tiles may be in force now that they were made without.
            return gpu::Gpu::forget_programs(self);
        }
        let _ = path;
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
        Ok(self.elements(&self.fetch_now("to_vec", T::DTYPE)?))
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
        self.single("item")?;
        self.to_vec()?.first().copied().ok_or_else(|| gone("item"))
    }

    /// The only element of a tensor that has one, when it has arrived; never waits for it.
    ///
    /// The first call has it computed and asks for it. So a loop can look at the loss of a step
    /// without holding up the steps after it, in a browser too.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0], &Device::cpu());
    /// assert_eq!(x.sum(..).try_item::<f32>()?, Some(3.0)); // the CPU answers at once
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn try_item<T: Element>(&self) -> Result<Option<T>> {
        let op = "try_item";
        self.single(op)?;
        self.check_dtype(op, T::DTYPE)?;
        // Not read from within another buffer: reads ahead of time are of whole buffers.
        self.realize()?;
        let value = self.value().ok_or_else(|| gone(op))?;
        #[cfg(feature = "gpu")]
        if let Some(buffer) = value.as_any().downcast_ref::<gpu::GpuBuffer>() {
            return Ok(buffer.gpu().try_read(op, buffer)?.and_then(|bytes| self.elements(&bytes).first().copied()));
        }
        Ok(self.elements(&value.to_host(WHOLE)?).first().copied())
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
        Ok(self.elements(&self.fetch(T::DTYPE).await?))
    }

    /// The bytes of the elements, which are `dtype`, padded to whole words; without blocking a browser.
    pub(crate) async fn fetch(&self, dtype: DType) -> Result<Arc<Vec<u8>>> {
        let (value, bytes) = self.storage("read", dtype)?;
        #[cfg(feature = "gpu")]
        if let Some(buffer) = value.as_any().downcast_ref::<gpu::GpuBuffer>() {
            return buffer.gpu().read("read", buffer, bytes).await.map(Arc::new);
        }
        value.to_host(bytes)
    }

    /// The same; waits for them.
    pub(crate) fn fetch_now(&self, word: &str, dtype: DType) -> Result<Arc<Vec<u8>>> {
        let (value, bytes) = self.storage(word, dtype)?;
        value.to_host(bytes)
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
        match self.fetch_now("to_device", self.dtype()) {
            Ok(bytes) => Tensor::leaf(Arc::new(HostData(bytes)), *self.shape(), self.dtype(), device),
            Err(error) => Tensor::from_error(error.at(std::panic::Location::caller()), device),
        }
    }

    /// Where the computed elements are, when they are `dtype`: in a storage, at these bytes.
    fn storage(&self, word: &str, dtype: DType) -> Result<(Arc<dyn Storage>, Range<usize>)> {
        self.check_dtype(word, dtype)?;
        let bytes = (self.numel() * dtype.bytes()).next_multiple_of(4);
        if let Some((value, first)) = self.place() {
            let start = first * dtype.bytes();
            if start.is_multiple_of(4) {
                return Ok((value, start..start + bytes));
            }
        }
        self.realize()?;
        Ok((self.value().ok_or_else(|| gone(word))?, 0..bytes))
    }

    /// What was computed and has the elements side by side, and the number of the first one there.
    /// So a row or an element of a result is read without a kernel that copies it.
    fn place(&self) -> Option<(Arc<dyn Storage>, usize)> {
        let (mut x, mut first) = (self.clone(), 0);
        loop {
            if let Some(value) = x.value() {
                return Some((value, first));
            }
            let below = x.with_src(|src| src.first().cloned())?;
            first += match &x.0.op {
                Op::Reshape | Op::Detach | Op::Tracked => 0,
                Op::Slice(spec) => spec.place(below.shape(), x.dims())?,
                _ => return None,
            };
            x = below;
        }
    }

    fn check_dtype(&self, word: &str, dtype: DType) -> Result<()> {
        self.check()?;
        if dtype != self.dtype() {
            let fact = format!("the tensor is {}, not {dtype}", self.dtype());
            return Err(Error::new(ErrorKind::Operand, word, fact));
        }
        Ok(())
    }

    /// An error unless the tensor has one element.
    fn single(&self, word: &str) -> Result<()> {
        self.check()?;
        match self.numel() {
            1 => Ok(()),
            n => Err(Error::new(ErrorKind::Operand, word, format!("{} has {n} elements", self.shape()))),
        }
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
