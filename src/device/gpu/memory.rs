//! Buffers on a GPU and the pool they come from.
//!
//! A buffer goes back to the pool when its last handle is dropped, even while the GPU still works
//! on it: whoever gets it next submits later, and a queue runs in order. Sizes are rounded up to
//! classes, at most an eighth larger, and large ones at most a 32nd. Knows nothing of what the bytes mean.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::device::gpu::read::Early;
use crate::device::gpu::{Gpu, lock};
use crate::device::memory::MemoryUse;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{HostData, Storage, WHOLE};
use crate::graph::tensor::{Tensor, fresh_id};

/// What every pooled buffer may be used for.
const USAGES: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);
/// Bytes of the smallest class.
const CLASS_BYTES_MIN: u64 = 256;
/// From here on classes are closer together.
const LARGE_BYTES: u64 = 1 << 20;
/// Most bytes that are in use or pooled, in peaks of what was in use at once.
const HELD_PEAKS: u64 = 2;
/// Bytes that are uploaded in one piece, so that staging memory stays bounded.
const UPLOAD_BYTES: usize = 64 << 20;

/// Elements in a GPU's memory.
pub struct GpuBuffer {
    gpu: Arc<Gpu>,
    raw: wgpu::Buffer,
    /// Unique among buffers of this process, and never given to another one.
    id: u64,
    /// Bytes of the elements, a multiple of 4.
    bytes: u64,
    /// Bytes counted against the pool; 0 for a buffer of the host program.
    class: u64,
    /// The write that filled it.
    serial: AtomicU64,
    pinned: AtomicBool,
    /// Elements that were asked for ahead of time.
    pub(super) early: Mutex<Early>,
}

/// Free buffers, and what is in use.
#[derive(Default)]
pub struct Pool(Mutex<State>);

#[derive(Default)]
struct State {
    /// By class, then id. The lowest id is taken first, so that a loop gets the same buffers in
    /// every turn and finds its bind groups again.
    free: Vec<(u64, u64, wgpu::Buffer)>,
    used: MemoryUse,
    limit: Option<u64>,
    /// [`Health::spoilt`](super::health::Health::spoilt) when the free buffers were last looked through.
    spoilt: u64,
}

impl State {
    /// Frees pooled buffers, largest first, until no more than `bytes` are pooled.
    fn shrink(&mut self, bytes: u64) {
        while self.used.pooled_bytes > bytes
            && let Some((class, _, raw)) = self.free.pop()
        {
            self.used.pooled_bytes -= class;
            // Cached bind groups may still name it, but no one will bind it again.
            raw.destroy();
        }
    }

    fn take(&mut self, class: u64) -> Option<(u64, wgpu::Buffer)> {
        let place = self.place(class, 0);
        self.free.get(place).filter(|(found, ..)| *found == class)?;
        let (_, id, raw) = self.free.remove(place);
        self.used.pooled_bytes -= class;
        Some((id, raw))
    }

    /// Where a free buffer stands or would stand.
    fn place(&self, class: u64, id: u64) -> usize {
        self.free.partition_point(|other| (other.0, other.1) < (class, id))
    }

    /// Counts `class` bytes as live, if the limit allows.
    fn reserve(&mut self, op: &str, class: u64) -> Result<()> {
        let live = self.used.live_bytes.saturating_add(class);
        if let Some(limit) = self.limit {
            if live > limit {
                let fact = format!("{class} bytes beside {} in use are over the limit of {limit}", live - class);
                return Err(Error::new(ErrorKind::Memory, op, fact));
            }
            self.shrink(limit - live);
        }
        self.used.live_bytes = live;
        self.used.peak_bytes = self.used.peak_bytes.max(live);
        Ok(())
    }
}

/// `bytes` rounded up to the size buffers are made in.
fn class_of(bytes: u64) -> u64 {
    let bytes = bytes.max(CLASS_BYTES_MIN);
    // A plan's large buffers are most of what it needs: they make its peak, which it predicts.
    let parts = if bytes < LARGE_BYTES { 8 } else { 32 };
    let step = (1 << bytes.ilog2()) / parts;
    bytes.checked_next_multiple_of(step).unwrap_or(bytes)
}

impl Gpu {
    /// A buffer for `bytes`, filled by write `serial`; its contents are whatever was there.
    pub(super) fn allocate(self: &Arc<Self>, op: &str, bytes: u64, serial: u64) -> Result<Arc<GpuBuffer>> {
        let max = self.limits.buffer_bytes_max;
        if bytes > max {
            let fact = format!("{bytes} bytes in one buffer, but {} allows {max}", self.name());
            return Err(Error::new(ErrorKind::Memory, op, fact));
        }
        let class = class_of(bytes).min(max);
        let pooled = {
            let mut state = lock(&self.pool.0);
            let spoilt = self.health.spoilt();
            if state.spoilt != spoilt {
                state.spoilt = spoilt;
                state.shrink(0);
            }
            let pooled = state.take(class);
            state.reserve(op, class)?;
            pooled
        };
        let (id, raw) = match pooled {
            Some(found) => found,
            None => (fresh_id(), self.create(op, class).inspect_err(|_| lock(&self.pool.0).used.live_bytes -= class)?),
        };
        Ok(Arc::new(self.buffer(raw, id, bytes, class, serial)))
    }

    /// A new buffer from the driver, at the cost of all pooled ones if need be.
    fn create(&self, op: &str, bytes: u64) -> Result<wgpu::Buffer> {
        let descriptor = wgpu::BufferDescriptor { label: None, size: bytes, usage: USAGES, mapped_at_creation: false };
        let create = || self.scoped(ErrorKind::Memory, op, || self.device.create_buffer(&descriptor));
        let made = create().or_else(|error| {
            if error.kind() != ErrorKind::Memory {
                return Err(error);
            }
            lock(&self.pool.0).shrink(0);
            // The driver takes memory back when the GPU no longer works on it.
            self.wait(op, None)?;
            create()
        });
        let made = made.map_err(|error| match error.kind() {
            ErrorKind::Memory => {
                let live = lock(&self.pool.0).used.live_bytes.saturating_sub(bytes);
                let fact = format!("the device has no {bytes} bytes left beside {live} in use");
                Error::new(ErrorKind::Memory, op, fact)
            }
            _ => error,
        })?;
        lock(&self.pool.0).used.allocations += 1;
        Ok(made)
    }

    /// A copy of `bytes` on the device, padded to whole words.
    pub fn upload(self: &Arc<Self>, op: &str, bytes: &[u8]) -> Result<Arc<GpuBuffer>> {
        self.health.check(op)?;
        let buffer = self.allocate(op, (bytes.len() as u64).next_multiple_of(4), self.health.begin())?;
        self.write(op, &buffer, bytes)?;
        Ok(buffer)
    }

    /// Overwrites the start of `buffer`.
    pub(super) fn write(&self, op: &str, buffer: &GpuBuffer, bytes: &[u8]) -> Result<()> {
        for (n, piece) in bytes.chunks(UPLOAD_BYTES).enumerate() {
            if n > 0 {
                self.submit(op, None)?;
            }
            let at = (n * UPLOAD_BYTES) as u64;
            let (words, rest) = piece.split_at(piece.len() & !3);
            self.scoped(ErrorKind::Memory, op, || {
                if !words.is_empty() {
                    self.queue.write_buffer(&buffer.raw, at, words);
                }
                if !rest.is_empty() {
                    let mut word = [0; 4];
                    word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                    self.queue.write_buffer(&buffer.raw, at + words.len() as u64, &word);
                }
            })?;
        }
        Ok(())
    }

    /// The elements of a realised tensor on this device; what lies on the host is copied here
    /// once, and the tensor keeps the copy.
    pub fn leaf(self: &Arc<Self>, op: &str, tensor: &Tensor) -> Result<Arc<GpuBuffer>> {
        let Some(value) = tensor.value() else {
            return Err(Error::new(ErrorKind::Device, op, "its elements went into a step"));
        };
        if let Ok(buffer) = (Arc::clone(&value) as Arc<dyn Any + Send + Sync>).downcast::<GpuBuffer>()
            && Arc::ptr_eq(&buffer.gpu, self)
        {
            return Ok(buffer);
        }
        let buffer = match value.as_any().downcast_ref::<HostData>() {
            Some(HostData(bytes)) => self.upload(op, bytes)?,
            None => self.upload(op, &value.to_host(WHOLE)?)?,
        };
        tensor.set_value(buffer.clone());
        Ok(buffer)
    }

    /// Whether the elements of `tensor` lie where somebody outside may read or write them.
    pub fn is_pinned(&self, tensor: &Tensor) -> bool {
        tensor.value().is_some_and(|x| x.as_any().downcast_ref::<GpuBuffer>().is_some_and(GpuBuffer::is_pinned))
    }

    /// A buffer of the host program: never pooled, never counted.
    pub(super) fn import(self: &Arc<Self>, raw: wgpu::Buffer, bytes: u64) -> GpuBuffer {
        let buffer = self.buffer(raw, fresh_id(), bytes, 0, self.health.begin());
        buffer.pin();
        buffer
    }

    fn buffer(self: &Arc<Self>, raw: wgpu::Buffer, id: u64, bytes: u64, class: u64, serial: u64) -> GpuBuffer {
        let (gpu, serial) = (Arc::clone(self), AtomicU64::new(serial));
        GpuBuffer { gpu, raw, id, bytes, class, serial, pinned: AtomicBool::default(), early: Mutex::default() }
    }

    /// How much memory is in use.
    pub fn memory_use(&self) -> MemoryUse {
        lock(&self.pool.0).used
    }

    /// Forgets what was held at once before.
    pub fn reset_peak_memory(&self) {
        let used = &mut lock(&self.pool.0).used;
        used.peak_bytes = used.live_bytes;
    }

    /// The most bytes tensors and plans may hold at once, if there is a limit.
    pub fn memory_limit(&self) -> Option<u64> {
        lock(&self.pool.0).limit
    }

    /// Sets or lifts the limit, and frees pooled buffers that no longer fit under it.
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        let mut state = lock(&self.pool.0);
        state.limit = bytes;
        if let Some(limit) = bytes {
            let room = limit.saturating_sub(state.used.live_bytes);
            state.shrink(room);
        }
    }
}

impl GpuBuffer {
    /// The device it is on.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Bytes of the elements, a multiple of 4.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether somebody outside may read or write it at any time.
    pub fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Keeps it out of the pool for good, because somebody outside holds it.
    pub(super) fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
    }

    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// Forgets what is known of the elements, because write `serial` makes new ones.
    pub(super) fn renew(&self, serial: u64) {
        self.serial.store(serial, Ordering::Relaxed);
        *lock(&self.early) = Early::default();
    }
}

impl Storage for GpuBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn to_host(&self, bytes: Range<usize>) -> Result<Arc<Vec<u8>>> {
        self.gpu.read_blocking("to_vec", self, bytes).map(Arc::new)
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        if self.class == 0 {
            return;
        }
        let mut state = lock(&self.gpu.pool.0);
        state.used.live_bytes -= self.class;
        if *self.pinned.get_mut() {
            return;
        }
        // What was made before memory was known to be short may be no buffer at all.
        if self.id <= self.gpu.health.spoilt() {
            self.raw.destroy();
        } else {
            state.used.pooled_bytes += self.class;
            let place = state.place(self.class, self.id);
            state.free.insert(place, (self.class, self.id, self.raw.clone()));
            // Sizes that change from run to run would otherwise fill the device with buffers nobody wants.
            let most = state.used.peak_bytes.saturating_mul(HELD_PEAKS);
            let room = most.saturating_sub(state.used.live_bytes);
            state.shrink(room);
        }
    }
}
