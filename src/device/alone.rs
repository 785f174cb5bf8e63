//! [`Alone`]: a step of a plan by itself, over scratch memory. What a search times, and what a
//! self-test compares with the CPU. Natively only; knows no user's data.

use std::sync::Arc;

use crate::compile::kernel::Access;
use crate::compile::plan::{Home, Limits, Plan, Slot, Step};
use crate::compile::wgsl::emit;
use crate::device::cpu::Cpu;
use crate::device::gpu::{Gpu, GpuBuffer};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Storage, WHOLE};
use crate::reference::Values;

/// Numbers after which the inputs repeat themselves: a prime, so that no tile meets the same ones twice.
const PERIOD: usize = 4099;
/// Elements that are compared at once.
const BLOCK: usize = 1 << 16;
/// Operations of a step that the CPU is asked about.
const FLOPS_MAX: u64 = 1 << 31;
/// Bytes of what it reads and writes.
const BYTES_MAX: u64 = 16 << 20;

/// Whether `step` of `plan`, by itself and over small integers, comes to what the CPU makes of it;
/// no as well where the CPU would take long.
pub fn serves(gpu: &Arc<Gpu>, plan: &Plan, step: &Step, limits: &Limits) -> Result<bool> {
    const OP: &str = "self-test";
    let slots = step.kernel.buffers.iter().filter_map(|buffer| plan.slots.get(buffer.slot));
    if step.flops > FLOPS_MAX || slots.map(Slot::bytes).fold(0, u64::saturating_add) > BYTES_MAX {
        return Ok(false);
    }
    let shader = emit(&step.kernel, limits);
    let text = format!("{}{}", if gpu.is_checked() { "checked\n" } else { "" }, shader.text);
    if gpu.remembers(&text) {
        return Ok(true);
    }
    let alone = Alone::new(OP, plan, step)?;
    let buffers = alone.buffers(OP, gpu, None)?;
    gpu.program(OP, Arc::clone(&alone.plan), &[shader])?.run(OP, &buffers, &[])?;
    // Meanwhile, the GPU is at work.
    let want = alone.on_cpu()?;
    let got: Vec<_> = buffers.into_iter().map(|buffer| buffer as Arc<dyn Storage>).collect();
    let serves = alone.agree(&want, &got)?;
    if serves {
        gpu.remember(&text);
    }
    Ok(serves)
}

/// A step as a plan whose buffers are all leaves, and small integers for those that it reads, whose
/// products and sums are exact: tiles agree to the last bit unless what is around the product rounds.
pub struct Alone {
    /// The plan of the one step.
    pub plan: Arc<Plan>,
    /// What each slot begins with.
    contents: Vec<Vec<u8>>,
}

impl Alone {
    /// `step` of `plan`.
    pub fn new(op: &str, plan: &Plan, step: &Step) -> Result<Alone> {
        let gone = || Error::new(ErrorKind::Device, op, "a step without its buffers");
        let mut step = step.clone();
        let faults = !step.kernel.faults.is_empty();
        let (mut slots, mut overwritten, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        for (n, buffer) in step.kernel.buffers.iter_mut().enumerate() {
            let slot = Slot { home: Home::Leaf(n), ..plan.slots.get(buffer.slot).ok_or_else(gone)?.clone() };
            buffer.slot = n;
            contents.push(match buffer.access {
                Access::Read => numbers(&slot, n, faults),
                Access::Write | Access::ReadWrite => {
                    overwritten.push(n);
                    vec![0; (slot.bytes() as usize).next_multiple_of(4)]
                }
            });
            slots.push(slot);
        }
        let leaves = (0..slots.len()).collect();
        let (scalars, outputs, allocations) = (None, Vec::new(), Vec::new());
        let plan = Plan { slots, steps: vec![step], leaves, overwritten, scalars, outputs, allocations, peak_bytes: 0 };
        Ok(Alone { plan: Arc::new(plan), contents })
    }

    /// The buffers of a run on `gpu`, which all but those of `earlier` that are only read are new.
    pub fn buffers(&self, op: &str, gpu: &Arc<Gpu>, earlier: Option<&[Arc<GpuBuffer>]>) -> Result<Vec<Arc<GpuBuffer>>> {
        let buffer = |(n, bytes): (usize, &Vec<u8>)| match earlier.and_then(|earlier| earlier.get(n)) {
            Some(buffer) if !self.plan.overwritten.contains(&n) => Ok(Arc::clone(buffer)),
            _ => gpu.upload(op, bytes),
        };
        self.contents.iter().enumerate().map(buffer).collect()
    }

    /// What a run on the CPU leaves in the buffers.
    pub fn on_cpu(&self) -> Result<Vec<Arc<dyn Storage>>> {
        // Whose memory nobody counts.
        let device = Cpu::beside();
        let Some(cpu) = Cpu::of(&device) else { return Ok(Vec::new()) };
        let mut leaves = self.contents.iter().map(|bytes| cpu.upload(bytes)).collect::<Result<Vec<_>>>()?;
        cpu.run(&self.plan, &cpu.prepare(&self.plan)?, &mut leaves, &[])?;
        Ok(leaves.into_iter().map(|leaf| leaf as Arc<dyn Storage>).collect())
    }

    /// Whether two runs wrote the same, but for roundings.
    pub fn agree(&self, want: &[Arc<dyn Storage>], got: &[Arc<dyn Storage>]) -> Result<bool> {
        for &n in &self.plan.overwritten {
            let (Some(slot), Some(want), Some(got)) = (self.plan.slots.get(n), want.get(n), got.get(n)) else {
                return Ok(false);
            };
            if !agree(&want.to_host(WHOLE)?, &got.to_host(WHOLE)?, slot) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Numbers for slot `n`, none of which is 0, by which a product might vanish; but where an index out
/// of range would be told, integers are 0, which is none.
fn numbers(slot: &Slot, n: usize, faults: bool) -> Vec<u8> {
    let small = |i: usize| (i as u32 ^ (n as u32) << 16).wrapping_mul(0x9e37_79b1) >> 16;
    let block = match slot.dtype.is_float() {
        true => Values::Float((0..PERIOD).map(|i| [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0][small(i) as usize % 6]).collect()),
        false if faults => Values::Bits(vec![0; PERIOD]),
        false if slot.dtype == DType::Bool => Values::Bits((0..PERIOD).map(|i| small(i) % 2).collect()),
        false => Values::Bits((0..PERIOD).map(|i| 1 + small(i) % 2).collect()),
    };
    let mut block = block.to_bytes(slot.dtype);
    // Without its padding.
    block.truncate(PERIOD * slot.dtype.bytes());
    let bytes = slot.bytes() as usize;
    let mut all = block.repeat(bytes.div_ceil(block.len()));
    all.truncate(bytes);
    all.resize(bytes.next_multiple_of(4), 0);
    all
}

/// Whether elements of `slot` are the same, but for roundings.
fn agree(want: &[u8], got: &[u8], slot: &Slot) -> bool {
    let size = slot.dtype.bytes();
    let (want, got) = (want.get(..slot.numel * size), got.get(..slot.numel * size));
    let (Some(want), Some(got)) = (want, got) else { return false };
    let unit = if size == 4 { 1e-3 } else { 1e-2 };
    let close = |(want, got): (&f64, &f64)| {
        want == got || (want - got).abs() <= unit * want.abs().max(1.0) || (want.is_nan() && got.is_nan())
    };
    let same = |want: &[u8], got: &[u8]| {
        let values = |bytes: &[u8]| Values::from_bytes(bytes, slot.dtype, bytes.len() / size);
        match (values(want), values(got)) {
            (Values::Float(want), Values::Float(got)) => want.iter().zip(&got).all(close),
            (want, got) => want == got,
        }
    };
    let mut blocks = want.chunks(BLOCK * size).zip(got.chunks(BLOCK * size));
    blocks.all(|(want, got)| want == got || same(want, got))
}
