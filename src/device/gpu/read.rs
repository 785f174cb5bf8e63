//! Copies from a GPU back to the host.
//!
//! Every error that could not be told earlier comes out here: the fault word, what the driver
//! reports late, and the loss of the device.

use std::ops::Range;
use std::sync::Arc;

use crate::device::gpu::fault::{FAULT_BYTES, Faults, Late};
use crate::device::gpu::memory::GpuBuffer;
use crate::device::gpu::signal::Signal;
use crate::device::gpu::{Gpu, lock};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are read in one piece, so that staging memory stays bounded.
const PIECE_BYTES: u64 = 64 << 20;

/// A copy on its way to the host.
struct Arriving {
    staging: wgpu::Buffer,
    /// Bytes of elements; the fault word may come after them.
    size: u64,
    /// Whether it was mapped.
    signal: Arc<Signal>,
    index: wgpu::SubmissionIndex,
    /// Who is told of the fault word that came along.
    faults: Option<Arc<Faults>>,
}

impl Drop for Arriving {
    /// A fault that nobody waits for any longer is told by the next read.
    fn drop(&mut self) {
        if let Some(faults) = self.faults.take() {
            faults.keep(Late {
                staging: self.staging.clone(),
                at: self.size as usize,
                signal: Arc::clone(&self.signal),
            });
        }
    }
}

/// Elements that were asked for ahead of time.
#[derive(Default)]
pub struct Early(State);

#[derive(Default)]
enum State {
    #[default]
    Unasked,
    /// On their way, and the last write when they were asked for.
    Coming(Arriving, u64),
    Here(Vec<u8>),
}

impl Gpu {
    /// Those of the bytes `wanted` that `buffer` has, whole words; natively the future waits for the
    /// GPU inside instead of yielding.
    pub async fn read(&self, op: &str, buffer: &GpuBuffer, wanted: Range<usize>) -> Result<Vec<u8>> {
        self.health.check(op)?;
        let end = buffer.bytes().min(wanted.end as u64);
        let start = end.min(wanted.start as u64);
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(usize::try_from(end - start).unwrap_or(usize::MAX)).is_err() {
            let fact = format!("the host has no {} bytes left", end - start);
            return Err(Error::new(ErrorKind::Memory, op, fact));
        }
        // An empty buffer is asked for too: the fault word may have news.
        loop {
            if let Some(arriving) = self.fetch(op, buffer, start + bytes.len() as u64..end)? {
                self.wait(op, Some(arriving.index.clone()))?;
                let mapped = arriving.signal.get().await;
                if !mapped {
                    self.health.settle(self.health.now()).await;
                }
                self.collect(op, arriving, mapped, &mut bytes)?;
            }
            if bytes.len() as u64 >= end - start {
                break;
            }
        }
        self.health.settle(self.health.now()).await;
        self.told(op, buffer)?;
        Ok(bytes)
    }

    /// The elements of a small `buffer` when they have arrived; the first call asks for them, and
    /// none waits.
    pub fn try_read(&self, op: &str, buffer: &GpuBuffer) -> Result<Option<Vec<u8>>> {
        self.health.check(op)?;
        let mut early = lock(&buffer.early);
        let (arriving, last) = match std::mem::take(&mut early.0) {
            State::Unasked => match self.fetch(op, buffer, 0..buffer.bytes())? {
                Some(arriving) => (arriving, self.health.now()),
                None => return Ok(Some(Vec::new())),
            },
            State::Coming(arriving, last) => (arriving, last),
            State::Here(bytes) => {
                early.0 = State::Here(bytes.clone());
                drop(early);
                return self.told(op, buffer).map(|()| Some(bytes));
            }
        };
        self.poll(op)?;
        let mapped = match arriving.signal.now() {
            Some(mapped) if self.health.settled(last) => mapped,
            _ => {
                early.0 = State::Coming(arriving, last);
                return Ok(None);
            }
        };
        let mut bytes = Vec::new();
        self.collect(op, arriving, mapped, &mut bytes)?;
        early.0 = State::Here(bytes.clone());
        drop(early);
        self.told(op, buffer).map(|()| Some(bytes))
    }

    /// An error when something is known to be wrong with the elements of `buffer`, or with an index
    /// anywhere.
    fn told(&self, op: &str, buffer: &GpuBuffer) -> Result<()> {
        self.health.check(op)?;
        self.health.condemned(buffer.serial())?;
        self.faults.check()
    }

    /// Asks for `bytes` of `buffer`, as many as fit into a piece, and for the fault word when it may
    /// have news; nothing when there is nothing to ask for.
    fn fetch(&self, op: &str, buffer: &GpuBuffer, bytes: Range<u64>) -> Result<Option<Arriving>> {
        let with_fault = self.faults.take();
        let started = self.start(op, buffer, bytes, with_fault);
        if with_fault && started.is_err() {
            self.faults.expect();
        }
        started
    }

    fn start(&self, op: &str, buffer: &GpuBuffer, bytes: Range<u64>, with_fault: bool) -> Result<Option<Arriving>> {
        let size = bytes.end.saturating_sub(bytes.start).min(PIECE_BYTES);
        let whole = size + if with_fault { FAULT_BYTES } else { 0 };
        if whole == 0 {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let (staging, commands) = self.scoped(ErrorKind::Memory, op, || {
            let descriptor = wgpu::BufferDescriptor { label: None, size: whole, usage, mapped_at_creation: false };
            let staging = self.device.create_buffer(&descriptor);
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            if size > 0 {
                encoder.copy_buffer_to_buffer(buffer.raw(), bytes.start, &staging, 0, size);
            }
            if with_fault {
                encoder.copy_buffer_to_buffer(self.faults.word(), 0, &staging, size, FAULT_BYTES);
                encoder.clear_buffer(self.faults.word(), 0, None);
            }
            (staging, encoder.finish())
        })?;
        let index = self.submit(op, Some(commands))?;
        let (signal, answer) = Signal::new();
        self.scoped(ErrorKind::Device, op, || {
            staging.map_async(wgpu::MapMode::Read, .., move |result| answer.say(result.is_ok()));
        })?;
        let faults = with_fault.then(|| Arc::clone(&self.faults));
        Ok(Some(Arriving { staging, size, signal, index, faults }))
    }

    /// Appends what has arrived to `bytes`.
    fn collect(&self, op: &str, mut arriving: Arriving, mapped: bool, bytes: &mut Vec<u8>) -> Result<()> {
        if !mapped {
            self.health.condemned(self.health.now())?;
            // No error scope caught anything, which happens only when the device is gone.
            return Err(self.health.lost(op, "a buffer could not be mapped"));
        }
        // What was mapped is taken away only with the device.
        let gone = |_| self.health.lost(op, "a mapped buffer is gone");
        let view = arriving.staging.get_mapped_range(..).map_err(gone)?;
        let (elements, word) = view.split_at(view.len().min(arriving.size as usize));
        bytes.extend_from_slice(elements);
        if let Some(faults) = arriving.faults.take() {
            faults.tell(word.try_into().map_or(0, u32::from_le_bytes));
        }
        Ok(())
    }

    /// Those of `bytes` that `buffer` has, waited for.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking(&self, op: &str, buffer: &GpuBuffer, bytes: Range<usize>) -> Result<Vec<u8>> {
        pollster::block_on(self.read(op, buffer, bytes))
    }

    /// A browser cannot wait.
    #[cfg(target_arch = "wasm32")]
    pub fn read_blocking(&self, op: &str, _: &GpuBuffer, _: Range<usize>) -> Result<Vec<u8>> {
        let fact = "a browser cannot wait for a GPU; use `read().await`";
        Err(Error::new(ErrorKind::Device, op, fact))
    }
}
