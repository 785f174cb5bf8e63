//! The fault word: how an index out of range in device data becomes an error.
//!
//! A shader raises its fault's number in one word of the device; the word travels with the next
//! read-back, is cleared, and its number is looked up here. Numbers start at 1. A word whose
//! read-back nobody waited for is not lost: the next read looks at it.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::compile::kernel::FaultSite;
use crate::device::gpu::lock;
use crate::device::gpu::signal::Signal;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of the word.
pub const FAULT_BYTES: u64 = 4;

type Site = (&'static str, usize, &'static Location<'static>);

/// The word and what its numbers mean.
pub struct Faults {
    word: wgpu::Buffer,
    /// Whether a run may have raised one since the last read-back.
    raised: AtomicBool,
    /// The largest number that arrived and that no read has told; 0 when there is none.
    told: AtomicU32,
    late: Mutex<Vec<Late>>,
    table: Mutex<Table>,
}

/// A word that travels in a read-back nobody waits for any longer.
pub struct Late {
    /// The buffer it was copied to, which is being mapped.
    pub staging: wgpu::Buffer,
    /// Where in it the word is.
    pub at: usize,
    /// Whether it was mapped.
    pub signal: Arc<Signal>,
}

#[derive(Default)]
struct Table {
    /// The site of number `n` is at `n - 1`.
    sites: Vec<Site>,
}

impl Faults {
    /// The word of `device`, zero.
    pub fn new(device: &wgpu::Device) -> Faults {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: FAULT_BYTES, usage, mapped_at_creation: false };
        let word = device.create_buffer(&descriptor);
        Faults {
            word,
            raised: AtomicBool::default(),
            told: AtomicU32::default(),
            late: Mutex::default(),
            table: Mutex::default(),
        }
    }

    /// The first number of a kernel's faults; the same sites have the same numbers.
    pub fn number(&self, sites: &[FaultSite]) -> Result<u32> {
        let sites: Vec<Site> = sites.iter().map(|site| (site.word, site.bound, site.at)).collect();
        let mut table = lock(&self.table);
        let known = table.sites.windows(sites.len().max(1)).position(|window| window == sites);
        let start = known.unwrap_or(table.sites.len());
        if known.is_none() {
            table.sites.extend(sites);
        }
        let full = |_| Error::new(ErrorKind::Device, "gpu", "more than 2^32 places where an index may be out of range");
        u32::try_from(start + 1).map_err(full)
    }

    /// The word, to be bound.
    pub fn word(&self) -> &wgpu::Buffer {
        &self.word
    }

    /// Notes that what was just submitted may raise a fault.
    pub fn expect(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// Whether the word must be read; the caller clears it.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::Acquire)
    }

    /// Takes note of a word that arrived.
    pub fn tell(&self, word: u32) {
        self.told.fetch_max(word, Ordering::AcqRel);
    }

    /// Looks after a word that nobody waits for.
    pub fn keep(&self, late: Late) {
        lock(&self.late).push(late);
        self.hear();
    }

    /// Takes note of the words that nobody waited for and that have arrived.
    fn hear(&self) {
        lock(&self.late).retain(|late| match late.signal.now() {
            Some(true) => {
                // The whole of it, because a range must start at a multiple of 8.
                let view = late.staging.get_mapped_range(..).ok();
                let word = view.as_ref().and_then(|view| view.get(late.at..)?.try_into().ok());
                self.tell(word.map_or(0, u32::from_le_bytes));
                false
            }
            Some(false) => false,
            None => true,
        });
    }

    /// The error of the words that arrived, told once.
    pub fn check(&self) -> Result<()> {
        self.hear();
        let word = self.told.swap(0, Ordering::AcqRel);
        let Some(n) = word.checked_sub(1) else { return Ok(()) };
        Err(match lock(&self.table).sites.get(n as usize) {
            Some((op, bound, at)) => {
                let fact = format!("index out of range for an axis of {bound} elements");
                Error::new(ErrorKind::Index, *op, fact).at(at)
            }
            None => Error::new(ErrorKind::Index, "gpu", format!("an index was out of range (fault {word})")),
        })
    }
}
