//! Timestamps around every dispatch of a submission, for traces. Waits for the GPU; natively only.

use crate::device::gpu::Gpu;
use crate::device::trace::Recorder;
use crate::error::{ErrorKind, Result};

/// Dispatches that one timer times.
pub const TIMED_MAX: usize = 256;
const BYTES: u64 = TIMED_MAX as u64 * 16;

/// Two timestamps for each of some dispatches.
pub struct Timer {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: wgpu::Buffer,
}

impl Gpu {
    /// Where kernels are noted.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// A timer for [`TIMED_MAX`] dispatches.
    pub(super) fn timer(&self, op: &str) -> Result<Timer> {
        self.scoped(ErrorKind::Memory, op, || {
            let buffer = |usage| wgpu::BufferDescriptor { label: None, size: BYTES, usage, mapped_at_creation: false };
            let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
            let read = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            let count = 2 * TIMED_MAX as u32;
            let ty = wgpu::QueryType::Timestamp;
            Timer {
                set: self.device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty, count }),
                resolved: self.device.create_buffer(&resolved),
                read: self.device.create_buffer(&read),
            }
        })
    }
}

impl Timer {
    /// A pass for dispatch `n` alone.
    pub fn pass<'a>(&'a self, n: usize, encoder: &'a mut wgpu::CommandEncoder) -> wgpu::ComputePass<'a> {
        let at = 2 * n as u32;
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        };
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) })
    }

    /// Has the timestamps copied once everything before is done.
    pub fn finish(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.set, 0..2 * TIMED_MAX as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.read, 0, BYTES);
    }

    /// Seconds on the GPU's clock when each dispatch began, and how many it took; waits for them.
    pub fn seconds(&self, gpu: &Gpu, op: &str) -> Result<Vec<(f64, f64)>> {
        let unit = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        gpu.scoped(ErrorKind::Device, op, || self.read.map_async(wgpu::MapMode::Read, .., |_| {}))?;
        gpu.wait(op, None)?;
        let Ok(range) = self.read.get_mapped_range(..) else { return Ok(Vec::new()) };
        let (stamps, _) = range.as_chunks::<8>();
        let stamps: Vec<u64> = stamps.iter().map(|stamp| u64::from_le_bytes(*stamp)).collect();
        let (pairs, _) = stamps.as_chunks::<2>();
        Ok(pairs.iter().map(|[from, to]| (*from as f64 * unit, to.saturating_sub(*from) as f64 * unit)).collect())
    }
}
