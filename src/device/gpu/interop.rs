//! Sharing buffers with a host program that uses wgpu itself.

use std::ops::Range;
use std::sync::Arc;

use crate::device::gpu::{Gpu, GpuBuffer};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::shape::{Dims, Shape, shape_of};

/// The elements of a tensor as a buffer of wgpu: row-major, packed, little-endian.
#[derive(Clone, Debug)]
pub struct WgpuBuffer {
    /// The buffer, usable as `STORAGE`, `COPY_SRC` and `COPY_DST`.
    pub buffer: wgpu::Buffer,
    /// Where in it the elements are, in bytes.
    pub range: Range<u64>,
    /// The dtype of the elements; `bool` and `u8` are bytes, `f16` and `bf16` are two.
    pub dtype: DType,
    /// The shape of the tensor.
    pub shape: Shape,
}

impl Tensor {
    /// A tensor over the host program's buffer, which is only ever read.
    ///
    /// The buffer must be of the wgpu device under `device`, have the usages `STORAGE` and
    /// `COPY_SRC` and hold at least the elements of `dims`, row-major from its start.
    #[track_caller]
    pub fn from_wgpu_buffer(buffer: wgpu::Buffer, dtype: DType, dims: impl Dims, device: &Device) -> Tensor {
        let word = "from_wgpu_buffer";
        let Some(gpu) = Gpu::of(device) else {
            return Tensor::invalid(word, format!("{device} is not a GPU"), device);
        };
        let shape = match shape_of(&dims) {
            Ok(shape) => shape,
            Err(fact) => return Tensor::invalid(word, fact, device),
        };
        let bytes = (shape.numel() as u64 * dtype.bytes() as u64).next_multiple_of(4);
        let usages = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let fact = if !buffer.usage().contains(usages) {
            format!("the buffer's usages are {:?}, but {usages:?} are needed", buffer.usage())
        } else if buffer.size() < bytes {
            format!("{dtype} {shape} takes {bytes} bytes, the buffer has {}", buffer.size())
        } else {
            return Tensor::leaf(Arc::new(gpu.import(buffer, bytes)), shape, dtype, device);
        };
        Tensor::invalid(word, fact, device)
    }

    /// Says that the host program has written into the buffer under this tensor: one of
    /// [`Tensor::from_wgpu_buffer`], or one that [`Tensor::wgpu_buffer`] gave out.
    ///
    /// What is realised or read from now on sees the new elements, when the host submitted its
    /// write to the same queue before; what was computed earlier stays.
    pub fn invalidate(&self) -> Result<()> {
        let op = "invalidate";
        self.check()?;
        match self.value().as_ref().and_then(|value| value.as_any().downcast_ref::<GpuBuffer>()) {
            Some(buffer) if buffer.is_pinned() => {
                buffer.renew(buffer.gpu().health.begin());
                Ok(())
            }
            _ => Err(Error::new(ErrorKind::Operand, op, "the tensor is not over a buffer of the host program")),
        }
    }

    /// Computes the elements now and gives the buffer they are in.
    ///
    /// The buffer is the host program's from here on: its memory is never used for anything else.
    /// Work the host submits to the same queue afterwards finds the elements there.
    pub fn wgpu_buffer(&self) -> Result<WgpuBuffer> {
        let op = "wgpu_buffer";
        self.check()?;
        let Some(gpu) = Gpu::of(self.device()) else {
            return Err(Error::new(ErrorKind::Device, op, format!("{} is not a GPU", self.device())));
        };
        self.realize()?;
        let buffer = gpu.leaf(op, self)?;
        buffer.pin();
        let range = 0..buffer.bytes();
        Ok(WgpuBuffer { buffer: buffer.raw().clone(), range, dtype: self.dtype(), shape: *self.shape() })
    }
}
