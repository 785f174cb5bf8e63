//! Host memory: word buffers that go back to a pool, and the raw views kernels work on.
//!
//! [`Memory`] is never written once it is shared. While a kernel runs, threads see its buffers as
//! [`View`]s: every access is checked against the length, and a write that is not proved to be
//! apart from all others is atomic, so no kernel, however wrong, reads or writes elsewhere.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Storage;
use crate::graph::source::ALL_KERNELS;
use crate::graph::wide::wide;

/// Words in the host's memory; dropped, they return to the pool they came from.
pub struct Memory {
    words: Vec<u32>,
    bytes: usize,
    pool: Arc<Pool>,
}

/// How much memory a device holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In use by tensors and running plans.
    pub live: u64,
    /// The most that was ever in use at once.
    pub peak: u64,
    /// Kept for the next run.
    pub pooled: u64,
}

/// Buffers waiting to be used again.
#[derive(Default)]
pub struct Pool(Mutex<Shelves>);

#[derive(Default)]
struct Shelves {
    /// The smallest first.
    free: Vec<Vec<u32>>,
    usage: Usage,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        // No code that can panic runs under the lock, so a poisoned one still holds good data.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in use and what waits.
    pub fn usage(&self) -> Usage {
        self.lock().usage
    }

    /// Forgets what was held at once before.
    pub fn reset_peak(&self) {
        let usage = &mut self.lock().usage;
        usage.peak = usage.live;
    }

    /// Frees the buffers that wait.
    pub fn trim(&self) {
        let free = {
            let mut shelves = self.lock();
            shelves.usage.pooled = 0;
            std::mem::take(&mut shelves.free)
        };
        drop(free);
    }

    /// Memory of `bytes`, with what was left in it; an error when there is not enough.
    pub fn take(self: &Arc<Pool>, bytes: u64) -> Result<Memory> {
        let refused = || Error::new(ErrorKind::Memory, "cpu", format!("{bytes} bytes cannot be allocated"));
        let bytes = usize::try_from(bytes).map_err(|_| refused())?;
        let size = size_class(bytes.div_ceil(4));
        let found = self.lock().remove(size);
        let words = match found {
            Some(words) => words,
            None => zeros(size)
                .or_else(|| {
                    self.trim();
                    zeros(size)
                })
                .ok_or_else(refused)?,
        };
        let mut shelves = self.lock();
        shelves.usage.live += words.len() as u64 * 4;
        shelves.usage.peak = shelves.usage.peak.max(shelves.usage.live);
        drop(shelves);
        Ok(Memory { words, bytes, pool: self.clone() })
    }

    /// Memory that holds `bytes`, padded with zeros to whole words.
    pub fn upload(self: &Arc<Pool>, bytes: &[u8]) -> Result<Memory> {
        let mut memory = self.take(bytes.len() as u64)?;
        let words = memory.words_mut();
        if let Some(last) = words.last_mut() {
            *last = 0;
        }
        if let Some(start) = bytemuck::cast_slice_mut(words).get_mut(..bytes.len()) {
            start.copy_from_slice(bytes);
        }
        Ok(memory)
    }

    fn put(&self, words: Vec<u32>) {
        let bytes = words.len() as u64 * 4;
        let mut shelves = self.lock();
        let usage = &mut shelves.usage;
        usage.live = usage.live.saturating_sub(bytes);
        // More than was ever used at once would only be kept because sizes changed.
        if usage.live + usage.pooled + bytes <= usage.peak {
            usage.pooled += bytes;
            let place = shelves.place(words.len());
            shelves.free.insert(place, words);
        }
    }
}

impl Shelves {
    /// Where the buffers of `size` words and more begin.
    fn place(&self, size: usize) -> usize {
        self.free.partition_point(|words| words.len() < size)
    }

    /// The smallest buffer of `size` words or more, unless that is a waste.
    fn remove(&mut self, size: usize) -> Option<Vec<u32>> {
        let place = self.place(size);
        self.free.get(place).filter(|words| words.len() <= size.saturating_mul(2))?;
        let words = self.free.remove(place);
        self.usage.pooled -= words.len() as u64 * 4;
        Some(words)
    }
}

/// `n` zero words, unless there is no memory for them.
fn zeros(n: usize) -> Option<Vec<u32>> {
    bytemuck::allocation::try_zeroed_slice_box(n).ok().map(Vec::from)
}

/// A little more than `words`, so that similar sizes share buffers.
fn size_class(words: usize) -> usize {
    let step = (words.max(64).checked_next_power_of_two().unwrap_or(64) / 8).max(16);
    words.div_ceil(step).saturating_mul(step)
}

impl Memory {
    /// Its words: the padded bytes.
    pub fn words(&self) -> &[u32] {
        self.words.get(..self.bytes.div_ceil(4)).unwrap_or(&[])
    }

    /// Its words, to be written before it is shared.
    pub fn words_mut(&mut self) -> &mut [u32] {
        self.words.get_mut(..self.bytes.div_ceil(4)).unwrap_or(&mut [])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.words));
    }
}

impl Storage for Memory {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn to_host(&self, bytes: Range<usize>) -> Result<Arc<Vec<u8>>> {
        let source: &[u8] = bytemuck::cast_slice(self.words());
        let source = source.get(bytes.start..bytes.end.min(source.len())).unwrap_or_default();
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(source.len())
            .map_err(|_| Error::new(ErrorKind::Memory, "cpu", format!("{} bytes cannot be allocated", source.len())))?;
        bytes.extend_from_slice(source);
        Ok(Arc::new(bytes))
    }
}

/// What a kernel's buffer is bound to.
pub enum Binding<'a> {
    /// Only loads.
    Read(&'a [u32]),
    /// Loads and stores.
    Write(&'a mut [u32]),
}

/// A buffer as the threads of one kernel see it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    start: *mut u32,
    numel: usize,
    dtype: DType,
    /// The position that element 0 of the view has in the kernel's numbering.
    origin: usize,
    writable: bool,
    /// Whether accesses to it are known to be apart, so that they need not be atomic.
    apart: bool,
    bound: PhantomData<&'a mut [u32]>,
}

// SAFETY: the view has the memory to itself for 'a (a shared slice is never written: `writable`);
// threads that use it at once write with atomics, or write elements that no other thread touches
// (`apart`, whose truth is up to who makes the view).
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// A view of `numel` elements; `None` when `binding` is too short for them.
    ///
    /// # Safety
    /// With `apart`, no two threads use one element at a time, unless both only load it.
    pub(super) unsafe fn new(
        binding: &'a mut Binding<'_>,
        dtype: DType,
        numel: usize,
        apart: bool,
    ) -> Option<View<'a>> {
        let (start, words, writable) = match binding {
            Binding::Read(words) => (words.as_ptr().cast_mut(), words.len(), false),
            Binding::Write(words) => (words.as_mut_ptr(), words.len(), true),
        };
        let fits = numel.div_ceil(dtype.per_word()) <= words;
        let apart = apart || !writable;
        fits.then_some(View { start, numel, dtype, origin: 0, writable, apart, bound: PhantomData })
    }

    /// A view of words that only the calling thread has.
    pub(super) fn scratch(words: &'a mut [u32], dtype: DType, origin: usize) -> View<'a> {
        let (start, numel) = (words.as_mut_ptr(), words.len());
        View { start, numel, dtype, origin, writable: true, apart: true, bound: PhantomData }
    }

    /// The same, but only for loads.
    pub(super) fn to_read(self) -> View<'a> {
        View { writable: false, ..self }
    }

    /// The `n` elements from `at` on, where these are words that nobody writes.
    pub(super) fn lying(&self, at: i64, n: usize) -> Option<&'a [u32]> {
        let from = usize::try_from(at.wrapping_sub(self.origin as i64)).ok()?;
        self.words()?.get(from..from.checked_add(n)?)
    }

    /// Elements `at`, `at + step`, … as 32-bit values; 0 where there is none.
    pub(super) fn load(&self, at: i64, step: i64, out: &mut [u32]) {
        let at = at.wrapping_sub(self.origin as i64);
        if step == 1 && self.apart {
            // Elements before the first and after the last read 0.
            let skip = at.saturating_neg().clamp(0, out.len() as i64) as usize;
            let from = at.clamp(0, self.numel as i64) as usize;
            let n = (out.len() - skip).min(self.numel - from);
            out[..skip].fill(0);
            out[skip + n..].fill(0);
            // SAFETY: from + n <= numel; nobody writes these elements, because the view is apart.
            unsafe { self.copy_out(from, &mut out[skip..skip + n]) };
        } else if step == 0 {
            out.fill(self.get(at));
        } else if let Some(words) = self.words() {
            if ALL_KERNELS && let Some(from) = within(words, at, step, out.len()) {
                return every(from, step as usize, out);
            }
            let mut at = at;
            for out in out {
                *out = usize::try_from(at).ok().and_then(|at| words.get(at)).copied().unwrap_or(0);
                at = at.wrapping_add(step);
            }
        } else {
            for (k, out) in out.iter_mut().enumerate() {
                *out = self.get(at.wrapping_add(step.wrapping_mul(k as i64)));
            }
        }
    }

    /// The elements, where these are words that nobody writes.
    fn words(&self) -> Option<&'a [u32]> {
        if self.writable || self.dtype.bytes() != 4 {
            return None;
        }
        // SAFETY: the binding is a shared slice of at least numel words, which lives for 'a.
        Some(unsafe { std::slice::from_raw_parts(self.start, self.numel) })
    }

    /// The elements at `index`; 0 where there is none.
    pub(super) fn gather(&self, index: &[u32], out: &mut [u32]) {
        if let (Some(words), 0) = (self.words(), self.origin) {
            return pick(words, index, out);
        }
        for (out, &at) in out.iter_mut().zip(index) {
            *out = self.get(i64::from(at) - self.origin as i64);
        }
    }

    /// Writes elements `at`, `at + step`, …, rounded or masked to the buffer's dtype.
    pub(super) fn store(&self, at: i64, step: i64, values: &[u32]) {
        let at = at.wrapping_sub(self.origin as i64);
        if step == 1 && self.apart && self.writable && (0..=self.numel as i64 - values.len() as i64).contains(&at) {
            // SAFETY: the range was just checked; nobody else touches it, because the view is apart.
            unsafe { self.copy_in(at as usize, values) };
            return;
        }
        let last = at.wrapping_add(step.wrapping_mul(values.len() as i64 - 1));
        if self.writable && self.dtype.bytes() == 4 && at.min(last) >= 0 && at.max(last) < self.numel as i64 {
            for (k, &value) in values.iter().enumerate() {
                let place = at.wrapping_add(step.wrapping_mul(k as i64)) as usize;
                // SAFETY: the first and the last place were just checked; others write with atomics
                // of the same size or not at all while this runs.
                unsafe { AtomicU32::from_ptr(self.start.add(place)).store(value, Relaxed) };
            }
        } else {
            for (k, &value) in values.iter().enumerate() {
                self.set(at.wrapping_add(step.wrapping_mul(k as i64)), value);
            }
        }
    }

    /// Writes the elements at `index`.
    pub(super) fn scatter(&self, index: &[u32], values: &[u32]) {
        for (&value, &at) in values.iter().zip(index) {
            self.set(i64::from(at) - self.origin as i64, value);
        }
    }

    /// The address of a word, for a matrix product that reads or writes from there on.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn pointer(&self, at: i64) -> *mut f32 {
        self.start.cast::<f32>().wrapping_offset(at.wrapping_sub(self.origin as i64) as isize)
    }

    /// Element `at`; 0 where there is none.
    pub(super) fn get(&self, at: i64) -> u32 {
        if at < 0 || at >= self.numel as i64 {
            return 0;
        }
        let at = at as usize;
        // SAFETY: at < numel, and the binding holds numel elements; a read-only binding is not
        // written by anybody, and a writable one is written with atomics of the same size or
        // not while this element is read.
        unsafe {
            match self.dtype {
                DType::F32 | DType::I32 | DType::U32 => match self.writable {
                    true => AtomicU32::from_ptr(self.start.add(at)).load(Relaxed),
                    false => *self.start.add(at),
                },
                DType::U8 | DType::Bool => u32::from(match self.writable {
                    true => AtomicU8::from_ptr(self.start.cast::<u8>().add(at)).load(Relaxed),
                    false => *self.start.cast::<u8>().add(at),
                }),
                DType::F16 | DType::BF16 => {
                    let bits = match self.writable {
                        true => AtomicU16::from_ptr(self.start.cast::<u16>().add(at)).load(Relaxed),
                        false => *self.start.cast::<u16>().add(at),
                    };
                    match self.dtype {
                        DType::F16 => f16::from_bits(bits).to_f32().to_bits(),
                        _ => bf16::from_bits(bits).to_f32().to_bits(),
                    }
                }
            }
        }
    }

    /// Writes element `at`, where there is one.
    pub(super) fn set(&self, at: i64, value: u32) {
        if at < 0 || at >= self.numel as i64 || !self.writable {
            return;
        }
        let at = at as usize;
        // SAFETY: at < numel, and the binding holds numel elements, mutably; others write it with
        // atomics of the same size or not at all while this runs.
        unsafe {
            match self.dtype {
                DType::F32 | DType::I32 | DType::U32 => AtomicU32::from_ptr(self.start.add(at)).store(value, Relaxed),
                DType::U8 | DType::Bool => {
                    AtomicU8::from_ptr(self.start.cast::<u8>().add(at)).store(value as u8, Relaxed);
                }
                DType::F16 => {
                    let bits = f16::from_f32(f32::from_bits(value)).to_bits();
                    AtomicU16::from_ptr(self.start.cast::<u16>().add(at)).store(bits, Relaxed);
                }
                DType::BF16 => {
                    let bits = bf16::from_f32(f32::from_bits(value)).to_bits();
                    AtomicU16::from_ptr(self.start.cast::<u16>().add(at)).store(bits, Relaxed);
                }
            }
        }
    }

    /// # Safety
    /// `from + out.len() <= numel`, and nobody writes these elements meanwhile.
    unsafe fn copy_out(&self, from: usize, out: &mut [u32]) {
        let n = out.len();
        // SAFETY: elements from..from + n are in the binding (the caller's promise) and aligned,
        // because the binding starts on a word.
        unsafe {
            match self.dtype {
                DType::F32 | DType::I32 | DType::U32 => {
                    std::ptr::copy_nonoverlapping(self.start.add(from), out.as_mut_ptr(), n);
                }
                DType::U8 | DType::Bool => {
                    let bytes = std::slice::from_raw_parts(self.start.cast::<u8>().add(from), n);
                    out.iter_mut().zip(bytes).for_each(|(out, &byte)| *out = u32::from(byte));
                }
                DType::F16 => {
                    let halves = std::slice::from_raw_parts(self.start.cast::<f16>().add(from), n);
                    halves.convert_to_f32_slice(bytemuck::cast_slice_mut(out));
                }
                DType::BF16 => {
                    let halves = std::slice::from_raw_parts(self.start.cast::<bf16>().add(from), n);
                    halves.convert_to_f32_slice(bytemuck::cast_slice_mut(out));
                }
            }
        }
    }

    /// # Safety
    /// `from + values.len() <= numel`, the view is writable, and nobody touches these elements meanwhile.
    unsafe fn copy_in(&self, from: usize, values: &[u32]) {
        let n = values.len();
        // SAFETY: elements from..from + n are in the binding, mutably (the caller's promise) and
        // aligned, because the binding starts on a word.
        unsafe {
            match self.dtype {
                DType::F32 | DType::I32 | DType::U32 => {
                    std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(from), n);
                }
                DType::U8 | DType::Bool => {
                    let bytes = std::slice::from_raw_parts_mut(self.start.cast::<u8>().add(from), n);
                    bytes.iter_mut().zip(values).for_each(|(byte, &value)| *byte = value as u8);
                }
                DType::F16 => {
                    let halves = std::slice::from_raw_parts_mut(self.start.cast::<f16>().add(from), n);
                    halves.convert_from_f32_slice(bytemuck::cast_slice(values));
                }
                DType::BF16 => {
                    let halves = std::slice::from_raw_parts_mut(self.start.cast::<bf16>().add(from), n);
                    halves.convert_from_f32_slice(bytemuck::cast_slice(values));
                }
            }
        }
    }
}

wide! {
    /// The words at `index`; 0 past the end.
    fn pick(words: &[u32], index: &[u32], out: &mut [u32]) {
        let most = index.iter().fold(0, |most, &at| most.max(at));
        if (most as usize) < words.len() {
            for (out, &at) in out.iter_mut().zip(index) {
                // SAFETY: no index is greater than `most`, which is inside.
                *out = unsafe { *words.get_unchecked(at as usize) };
            }
            return;
        }
        for (out, &at) in out.iter_mut().zip(index) {
            *out = words.get(at as usize).copied().unwrap_or(0);
        }
    }
}

/// The words from `at` to the last of `n` that are `step` apart, where all of them are there.
fn within(words: &[u32], at: i64, step: i64, n: usize) -> Option<&[u32]> {
    let last = at.checked_add(step.checked_mul(i64::try_from(n).ok()? - 1)?)?;
    words.get(usize::try_from(at).ok()?..=usize::try_from(last).ok()?).filter(|_| step > 0)
}

wide! {
    /// Words that are `step` apart, from the first to the last.
    fn every(from: &[u32], step: usize, out: &mut [u32]) {
        let (pairs, last) = from.as_chunks();
        if step == 2 {
            out.iter_mut().zip(pairs).for_each(|(out, &[first, _])| *out = first);
            if let ([last], Some(out)) = (last, out.last_mut()) {
                *out = *last;
            }
        } else {
            out.iter_mut().zip(from.iter().step_by(step)).for_each(|(out, x)| *out = *x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::View;
    use crate::dtype::DType;

    #[test]
    fn loads_take_what_is_there() {
        let words: Vec<u32> = (1..20).collect();
        let mut room = words.clone();
        let view = View::scratch(&mut room, DType::U32, 0).to_read();
        for (at, step, n) in (-9..22).flat_map(|at| (-3..5).flat_map(move |step| (0..12).map(move |n| (at, step, n)))) {
            let mut out = vec![99; n];
            view.load(at, step, &mut out);
            let word = |k: usize| usize::try_from(at + step * k as i64).ok().and_then(|at| words.get(at));
            let want: Vec<u32> = (0..n).map(|k| word(k).copied().unwrap_or(0)).collect();
            assert_eq!(out, want, "{n} from {at} by {step}");
        }
    }
}
