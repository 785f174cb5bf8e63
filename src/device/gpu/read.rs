//! Copies from a GPU back to the host.
//!
//! Every error that could not be told earlier comes out here: the fault word, what the driver
//! reports late, and the loss of the device.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::device::gpu::fault::FAULT_BYTES;
use crate::device::gpu::memory::GpuBuffer;
use crate::device::gpu::{Gpu, lock};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are read in one piece, so that staging memory stays bounded.
const PIECE_BYTES: u64 = 64 << 20;

/// What a callback of wgpu said, and who waits for it.
///
/// A submission that was waited for is not enough: when several threads wait, the callback of one
/// may be called by another, a moment later.
#[derive(Default)]
struct Signal(Mutex<(Option<bool>, Option<Waker>)>);

impl Signal {
    /// The first answer stays.
    fn set(&self, ok: bool) {
        let waker = {
            let mut state = lock(&self.0);
            state.0.get_or_insert(ok);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn get(&self) -> bool {
        std::future::poll_fn(|context| {
            let mut state = lock(&self.0);
            state.1 = Some(context.waker().clone());
            state.0.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The callback's end of a signal: dropped unheard, it says no.
struct Answer(Arc<Signal>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Gpu {
    /// The elements of `buffer`; natively the future waits for the GPU inside instead of
    /// yielding.
    pub async fn read(&self, op: &str, buffer: &GpuBuffer) -> Result<Vec<u8>> {
        self.health.check(op)?;
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(usize::try_from(buffer.bytes()).unwrap_or(usize::MAX)).is_err() {
            let fact = format!("the host has no {} bytes left", buffer.bytes());
            return Err(Error::new(ErrorKind::Memory, op, fact));
        }
        let mut fault = 0;
        // An empty buffer is asked for too: the fault word may have news.
        loop {
            let at = bytes.len() as u64;
            fault = fault.max(self.piece(op, buffer, at, &mut bytes).await?);
            if bytes.len() as u64 >= buffer.bytes() {
                break;
            }
        }
        self.health.settle().await;
        self.health.check(op)?;
        self.health.condemned(buffer.serial())?;
        self.faults.check(fault)?;
        Ok(bytes)
    }

    /// Appends the elements from `at` on, as many as fit into a piece; gives the fault word.
    async fn piece(&self, op: &str, buffer: &GpuBuffer, at: u64, bytes: &mut Vec<u8>) -> Result<u32> {
        let with_fault = self.faults.take();
        let result = self.copy(op, buffer, at, with_fault, bytes).await;
        if with_fault && result.is_err() {
            self.faults.expect();
        }
        result
    }

    async fn copy(&self, op: &str, buffer: &GpuBuffer, at: u64, with_fault: bool, bytes: &mut Vec<u8>) -> Result<u32> {
        let size = (buffer.bytes() - at).min(PIECE_BYTES);
        let whole = size + if with_fault { FAULT_BYTES } else { 0 };
        if whole == 0 {
            return Ok(0);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let (staging, commands) = self.scoped(ErrorKind::Memory, op, || {
            let descriptor = wgpu::BufferDescriptor { label: None, size: whole, usage, mapped_at_creation: false };
            let staging = self.device.create_buffer(&descriptor);
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            if size > 0 {
                encoder.copy_buffer_to_buffer(buffer.raw(), at, &staging, 0, size);
            }
            if with_fault {
                encoder.copy_buffer_to_buffer(self.faults.word(), 0, &staging, size, FAULT_BYTES);
                encoder.clear_buffer(self.faults.word(), 0, None);
            }
            (staging, encoder.finish())
        })?;
        let index = self.submit(op, Some(commands))?;
        let signal = Arc::new(Signal::default());
        let answer = Answer(Arc::clone(&signal));
        self.scoped(ErrorKind::Device, op, || {
            staging.map_async(wgpu::MapMode::Read, .., move |result| answer.0.set(result.is_ok()));
        })?;
        self.wait(op, Some(index))?;
        if !signal.get().await {
            self.health.settle().await;
            self.health.condemned(self.health.now())?;
            // No error scope caught anything, which happens only when the device is gone.
            return Err(self.health.lost(op, "a buffer could not be mapped"));
        }
        let view =
            staging.get_mapped_range(..).map_err(|error| Error::new(ErrorKind::Device, op, error.to_string()))?;
        let (elements, word) = view.split_at(view.len().min(size as usize));
        bytes.extend_from_slice(elements);
        Ok(word.try_into().map_or(0, u32::from_le_bytes))
    }

    /// The elements of `buffer`, waited for.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking(&self, op: &str, buffer: &GpuBuffer) -> Result<Vec<u8>> {
        pollster::block_on(self.read(op, buffer))
    }

    /// A browser cannot wait.
    #[cfg(target_arch = "wasm32")]
    pub fn read_blocking(&self, op: &str, _: &GpuBuffer) -> Result<Vec<u8>> {
        let fact = "a browser cannot wait for a GPU; use `read().await`";
        Err(Error::new(ErrorKind::Device, op, fact))
    }
}
