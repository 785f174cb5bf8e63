//! Waves: kernels that need nothing of each other run side by side.
//!
//! A GPU waits for all that runs before a kernel that reads what another wrote, or that writes what
//! was used before. The kernels of a wave wait once, together, so small ones fill a device that
//! each would leave idle. [`group`] finds waves by what kernels read and write; [`Wave`] keeps their
//! results apart when `memory` gives them a place. Knows no device: that one waits once is its part.

use crate::compile::kernel::{Access, Buffer, Kernel};
use crate::compile::plan::{Home, Limits, Plan, Slot, Target};
use crate::graph::mix::ById;
use crate::graph::source::ALL_KERNELS;

/// Whether a program can make waves at all; a page's GPU does not let it say when to wait.
pub const ARE_MADE: bool = ALL_KERNELS;
/// Waves that a small kernel looks back over for one that it can join: far enough to find both
/// gradients of a layer, near enough that results do not wait long for their readers.
const BACK_MAX: usize = 4;
/// Bytes from which on writing its results takes a GPU longer than waiting.
const LARGE_BYTES: usize = 2 << 20;
/// Bytes that results take that lie apart so that kernels of a wave need not wait,
const APART_BYTES_MAX: usize = 64 << 20;
/// and all that a plan may need more with waves than in turn: little of a GPU's memory.
pub const MORE_BYTES_MAX: u64 = 128 << 20;
/// The word that faults are noted in, as memory that a kernel may write.
const FAULTS: u64 = u64::MAX;

/// Whether a plan within `limits` has waves: none where memory has a limit.
pub fn are_made(limits: &Limits) -> bool {
    ALL_KERNELS && limits.target == Target::Gpu && limits.memory_bytes_max == u64::MAX
}

/// Puts `kernels` in the order of their waves, and says which wave each may be in.
pub fn group(kernels: &mut Vec<Kernel>) -> Vec<usize> {
    // The last waves that wrote a buffer and that touched it.
    let mut written: ById<usize> = ById::default();
    let mut touched: ById<usize> = ById::default();
    let mut count = 0usize;
    // What runs after all that may raise a fault may overwrite leaves, and shall go on to.
    let last_fault = kernels.iter().rposition(|kernel| !kernel.faults.is_empty());
    let mut safe_from = 0;
    let mut placed: Vec<(usize, bool, Kernel)> = Vec::with_capacity(kernels.len());
    for (k, kernel) in kernels.drain(..).enumerate() {
        let waits_for = |buffer: &Buffer| {
            let last = if buffer.access == Access::Read { &written } else { &touched };
            last.get(&(buffer.slot as u64)).map(|wave| wave + 1)
        };
        let safe = if last_fault.is_some_and(|last| k > last) { safe_from } else { 0 };
        let after = kernel.buffers.iter().filter_map(waits_for).fold(safe, usize::max);
        let wave = after.max(count.saturating_sub(if is_large(&kernel) { 0 } else { BACK_MAX }));
        let adds = results(&kernel).any(|buffer| touched.contains_key(&(buffer.slot as u64)));
        count = count.max(wave + 1);
        if !kernel.faults.is_empty() {
            safe_from = safe_from.max(wave + 1);
        }
        for buffer in &kernel.buffers {
            for last in [&mut touched, &mut written].into_iter().take(1 + usize::from(buffer.access != Access::Read)) {
                let last = last.entry(buffer.slot as u64).or_insert(wave);
                *last = wave.max(*last);
            }
        }
        placed.push((wave, adds, kernel));
    }
    // The kernel of a wave that adds to what is there comes first: it waits in any case.
    placed.sort_by_key(|(wave, adds, _)| (*wave, !adds));
    let (waves, sorted) = placed.into_iter().map(|(wave, _, kernel)| (wave, kernel)).unzip();
    *kernels = sorted;
    waves
}

/// The wave that kernels are given memory for.
#[derive(Default)]
pub struct Wave {
    number: usize,
    /// The wave that its kernels may all be in.
    proposed: Option<usize>,
    /// Its first step.
    first: usize,
    /// Whether one of its kernels writes memory that was used before.
    rewrites: bool,
    /// Whether another kernel does than the one at hand, whose results go elsewhere for that.
    apart: bool,
    apart_bytes: usize,
    /// Allocations that are free, and those that are after it.
    free: Vec<usize>,
    freed: Vec<usize>,
    /// The last wave that touched a piece of memory.
    touched: ById<usize>,
}

impl Wave {
    /// Takes in `kernel`, or starts a wave with it; `home` tells the slot of what has one.
    pub fn enter(&mut self, proposed: usize, kernel: &Kernel, home: impl Fn(usize) -> Option<(usize, Home)>) {
        if !ARE_MADE {
            return;
        }
        let (mut clash, mut again, mut bytes) = (false, false, 0usize);
        let mut writes = |memory: u64| {
            let last = self.touched.get(&memory);
            clash |= last == Some(&self.number);
            again |= last.is_some();
        };
        let mut updates = false;
        for buffer in results(kernel) {
            match home(buffer.slot) {
                Some((slot, home)) => {
                    writes(memory(slot, home));
                    // What a fault must not reach stays behind all that may raise one.
                    updates |= matches!(home, Home::Leaf(_));
                }
                None => bytes = bytes.saturating_add(buffer.numel.saturating_mul(buffer.dtype.bytes())),
            }
        }
        if !kernel.faults.is_empty() {
            writes(FAULTS);
        }
        let bytes = self.apart_bytes.saturating_add(bytes);
        let room = !is_large(kernel) && bytes <= APART_BYTES_MAX;
        let joins = self.proposed == Some(proposed) && !clash && !updates && !(self.rewrites && (again || !room));
        self.apart = joins && self.rewrites;
        if joins {
            self.apart_bytes = if self.apart { bytes } else { self.apart_bytes };
            return;
        }
        self.number += usize::from(self.proposed.is_some());
        self.proposed = Some(proposed);
        (self.rewrites, self.first) = (false, usize::MAX);
        self.free.append(&mut self.freed);
    }

    /// The allocations that results of the kernel at hand may have; those apart have memory that was
    /// never used.
    pub fn free(&mut self) -> Option<&mut Vec<usize>> {
        (!ARE_MADE || !self.apart).then_some(&mut self.free)
    }

    /// Allocation `n` is free after this wave.
    pub fn release(&mut self, n: usize) {
        let free = if ARE_MADE { &mut self.freed } else { &mut self.free };
        if !free.contains(&n) {
            free.push(n);
        }
    }

    /// Where among `steps` the kernel at hand goes, which has its memory now, and its wave.
    pub fn place(&mut self, steps: usize, kernel: &Kernel, slots: &[Slot]) -> (usize, usize) {
        let of = |buffer: &Buffer| memory(buffer.slot, slots[buffer.slot].home);
        let faults = (!kernel.faults.is_empty()).then_some(FAULTS);
        let again = results(kernel).map(of).chain(faults).any(|memory| self.touched.contains_key(&memory));
        let touched = kernel.buffers.iter().map(of).chain(faults);
        self.touched.extend(touched.map(|memory| (memory, self.number)));
        self.first = self.first.min(steps);
        self.rewrites |= again;
        (if again { self.first } else { steps }, self.number)
    }
}

/// For each step that begins a wave, the slots that others of the wave read and it does not, and
/// that were written since they were last read: what to wait for at once.
pub fn waits(plan: &Plan) -> Vec<Vec<usize>> {
    let mut waits = vec![Vec::new(); plan.steps.len()];
    let mut written: ById<()> = ById::default();
    let (mut first, mut last) = (0, None);
    for (k, step) in plan.steps.iter().enumerate() {
        if last.replace(step.wave) != Some(step.wave) {
            first = k;
        }
        for buffer in &step.kernel.buffers {
            let Some(slot) = plan.slots.get(buffer.slot) else { continue };
            let memory = memory(buffer.slot, slot.home);
            if buffer.access != Access::Read {
                written.insert(memory, ());
            } else if written.remove(&memory).is_some() && k != first {
                waits[first].push(buffer.slot);
            }
        }
    }
    waits
}

/// What a kernel writes.
fn results(kernel: &Kernel) -> impl Iterator<Item = &Buffer> {
    kernel.buffers.iter().filter(|buffer| buffer.access != Access::Read)
}

/// Whether a kernel's results are so large that it fills a GPU by itself.
fn is_large(kernel: &Kernel) -> bool {
    results(kernel).map(|x| x.numel.saturating_mul(x.dtype.bytes())).fold(0, usize::saturating_add) > LARGE_BYTES
}

/// What a device waits for: an allocation or whatever else slot `slot` has.
fn memory(slot: usize, home: Home) -> u64 {
    let (kind, n) = match home {
        Home::Temp(n) => (0, n),
        Home::Leaf(n) => (1, n),
        Home::Output | Home::Scalars => (2, slot),
    };
    3 * n as u64 + kind
}
