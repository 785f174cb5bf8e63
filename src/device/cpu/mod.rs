//! The CPU device: runs plans on host memory, over a pool of threads.
//!
//! A kernel becomes a [`Program`] once: instructions over blocks of lanes, with what does not
//! change in a loop computed outside it. Results do not depend on how many threads there are.
//! Knows plans and kernels, but no graph.

mod check;
mod code;
mod dot;
#[cfg(not(target_arch = "wasm32"))]
mod edged;
mod fold;
mod index;
mod lanes;
mod lines;
mod loops;
mod memory;
mod panel;
#[cfg_attr(all(target_arch = "wasm32", not(feature = "all-kernels")), path = "no_patches.rs")]
mod patches;
mod product;
mod program;
pub(crate) mod threads;

pub use memory::{Binding, Memory, Pool, Usage};
pub use program::Program;

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::compile::compile;
use crate::compile::graph::Graph;
use crate::compile::kernel::Access;
use crate::compile::plan::{Home, Limits, Plan, Step, Target};
use crate::compile::tiles::Tiles;
use crate::device::cache::Cache;
use crate::device::realize::fits;
use crate::device::verify::Checks;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Backend, Device, HostData, Storage, WHOLE};
use crate::graph::mix::Ids;
use crate::graph::source::ALL_KERNELS;
use crate::graph::tensor::Tensor;

/// The built-in CPU.
#[derive(Default)]
pub struct Cpu {
    pool: Arc<Pool>,
    programs: Cache<(Plan, Vec<Program>)>,
    pub(super) checks: Checks,
    /// Bytes a plan may need at its peak; 0 when there is no limit.
    limit: AtomicU64,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) recorder: crate::device::trace::Recorder,
}

impl Device {
    /// The built-in CPU device.
    pub fn cpu() -> Device {
        static CPU: OnceLock<Device> = OnceLock::new();
        CPU.get_or_init(|| Device(Arc::new(Cpu::default()))).clone()
    }
}

/// What a run of a plan came to.
pub struct Outcome {
    /// The memory of each root; roots of one slot share it, and a root that is a leaf is that leaf.
    pub outputs: Vec<Arc<Memory>>,
    /// Indices that were out of range, each naming its word and line.
    pub faults: Vec<Error>,
}

impl Backend for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Memory that slots of a running plan lie in.
enum Held<'a> {
    Shared(&'a Arc<Memory>),
    Words(&'a [u32]),
    Own(Memory),
    /// A leaf to be overwritten.
    Given(&'a mut Memory),
    /// Written by the kernel that runs.
    Lent,
}

impl Held<'_> {
    fn words_mut(&mut self) -> Option<&mut [u32]> {
        match self {
            Held::Own(memory) => Some(memory.words_mut()),
            Held::Given(memory) => Some(memory.words_mut()),
            Held::Shared(_) | Held::Words(_) | Held::Lent => None,
        }
    }

    fn words(&self) -> Option<&[u32]> {
        match self {
            Held::Shared(memory) => Some(memory.words()),
            Held::Words(words) => Some(words),
            Held::Own(memory) => Some(memory.words()),
            Held::Given(memory) => Some(memory.words()),
            Held::Lent => None,
        }
    }
}

impl Cpu {
    /// A device beside [`Device::cpu`], with settings and memory of its own.
    pub fn beside() -> Device {
        Device(Arc::new(Cpu::default()))
    }

    /// The CPU behind a device handle.
    pub fn of(device: &Device) -> Option<&Cpu> {
        device.0.as_any().downcast_ref()
    }

    /// What it can do.
    pub fn limits(&self) -> Limits {
        Limits {
            target: Target::Cpu,
            buffers_max: usize::MAX,
            binding_bytes_max: u64::MAX,
            buffer_bytes_max: u64::MAX,
            workgroup_bytes_max: u32::MAX,
            invocations_max: u32::MAX,
            groups_max: u32::MAX,
            tiles: Tiles::SOFTWARE,
            cooperative: None,
            sort_block: usize::MAX,
            template_flops_min: u64::MAX,
            memory_bytes_max: match self.limit.load(Ordering::Relaxed) {
                0 => u64::MAX,
                limit => limit,
            },
        }
    }

    /// Sets or lifts the most bytes that tensors and a running plan may hold.
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        self.limit.store(bytes.map_or(0, |bytes| bytes.max(1)), Ordering::Relaxed);
    }

    /// How many plans were made so far.
    pub fn plans_made(&self) -> u64 {
        self.programs.misses()
    }

    /// The fingerprints of the plans that were made.
    pub fn plans(&self) -> Vec<u64> {
        self.programs.made()
    }

    /// Computes the elements of `roots` on behalf of `op`, and keeps them; the leaves `dying` may
    /// be overwritten.
    pub fn realize(&self, op: &str, roots: &[Tensor], dying: &Ids) -> Result<()> {
        let (mut graph, bindings) = Graph::flatten(roots);
        graph.let_die(&bindings, |leaf| dying.contains(&leaf.0.id));
        let (program, fresh) = self.programs.get(graph, |graph| {
            let limits = self.limits();
            let plan = compile(graph, &limits);
            fits(op, &plan, &limits)?;
            let programs = self.prepare(&plan)?;
            let fingerprint = ALL_KERNELS.then(|| plan.fingerprint());
            Ok(((plan, programs), fingerprint))
        })?;
        let (plan, programs) = &*program;
        let leaf = |n: &usize| match bindings.leaves.get(*n) {
            Some(leaf) => self.leaf(op, leaf),
            None => Err(broken("a leaf is missing")),
        };
        let mut leaves = plan.leaves.iter().map(leaf).collect::<Result<Vec<_>>>()?;
        self.has_room(op, plan.peak_bytes)?;
        let truth = self.checks.truth(fresh, plan.work(), roots)?;
        // What is compared shall leave everything as it was where it is wrong.
        let compared = ALL_KERNELS && truth.is_some() && !plan.overwritten.is_empty();
        if compared || !bindings.take(plan, &leaves) {
            return self.realize(op, roots, &Ids::default());
        }
        let outcome = self.run(plan, programs, &mut leaves, &bindings.scalars);
        // Indices out of range are found before anything is overwritten.
        let outcome = outcome.inspect_err(|_| bindings.give_back(plan, &leaves))?;
        if let Some(truth) = truth {
            let outputs: Vec<Arc<dyn Storage>> =
                outcome.outputs.iter().map(|m| m.clone() as Arc<dyn Storage>).collect();
            self.checks.compare(truth, &outputs).inspect_err(|_| self.programs.clear())?;
        }
        for (root, output) in roots.iter().zip(outcome.outputs) {
            root.set_value(output);
        }
        outcome.faults.into_iter().next().map_or(Ok(()), Err)
    }

    /// Refuses a run that needs `bytes` beside what tensors hold, where that is over the limit.
    fn has_room(&self, op: &str, bytes: u64) -> Result<()> {
        let (limit, live) = (self.limit.load(Ordering::Relaxed), self.pool.usage().live);
        match ALL_KERNELS && limit > 0 && live.saturating_add(bytes) > limit {
            true => {
                let fact = format!("{bytes} bytes beside {live} in use are over the limit of {limit}");
                Err(Error::new(ErrorKind::Memory, op, fact))
            }
            false => Ok(()),
        }
    }

    /// The elements of a realised tensor; what lies elsewhere is copied once, and the tensor keeps
    /// the copy.
    pub(super) fn leaf(&self, op: &str, tensor: &Tensor) -> Result<Arc<Memory>> {
        let Some(value) = tensor.value() else {
            return Err(Error::new(ErrorKind::Device, op, "its elements went into a step"));
        };
        if let Ok(memory) = (Arc::clone(&value) as Arc<dyn Any + Send + Sync>).downcast::<Memory>() {
            return Ok(memory);
        }
        let memory = match value.as_any().downcast_ref::<HostData>() {
            Some(HostData(bytes)) => self.upload(bytes)?,
            None => self.upload(&value.to_host(WHOLE)?)?,
        };
        tensor.set_value(memory.clone());
        Ok(memory)
    }

    /// How much memory it holds.
    pub fn usage(&self) -> Usage {
        self.pool.usage()
    }

    /// Forgets what was held at once before.
    pub fn reset_peak_memory(&self) {
        self.pool.reset_peak();
    }

    /// Frees the memory that waits for the next run.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// Memory that holds `bytes`.
    pub fn upload(&self, bytes: &[u8]) -> Result<Arc<Memory>> {
        self.pool.upload(bytes).map(Arc::new)
    }

    /// The programs of a plan's steps, for [`Cpu::run`].
    pub fn prepare(&self, plan: &Plan) -> Result<Vec<Program>> {
        plan.steps.iter().map(|step| Program::new(&step.kernel)).collect()
    }

    /// Runs `plan`, whose steps `programs` were prepared from. `leaves` are what [`Plan::leaves`]
    /// names, in that order, those that are overwritten in no other hands; `scalars` the words of
    /// the runtime scalars. A fault is an error before a leaf is overwritten.
    pub fn run(
        &self,
        plan: &Plan,
        programs: &[Program],
        leaves: &mut [Arc<Memory>],
        scalars: &[u32],
    ) -> Result<Outcome> {
        let temps = plan.allocations.iter().map(|&bytes| self.pool.take(bytes).map(Held::Own));
        let mut held = temps.collect::<Result<Vec<_>>>()?;
        // Where each slot is in `held`.
        let mut places = Vec::with_capacity(plan.slots.len());
        // Slots of leaves are in their order.
        let mut leaf = leaves.iter_mut();
        for slot in &plan.slots {
            let memory = match slot.home {
                Home::Temp(allocation) => {
                    places.push(allocation);
                    continue;
                }
                Home::Leaf(n) => match leaf.next() {
                    Some(leaf) if ALL_KERNELS && plan.overwritten.contains(&n) => {
                        Held::Given(Arc::get_mut(leaf).ok_or_else(|| broken("a leaf that is shared is overwritten"))?)
                    }
                    Some(leaf) => Held::Shared(leaf),
                    None => return Err(broken("a leaf is missing")),
                },
                Home::Scalars => Held::Words(scalars),
                Home::Output => {
                    let mut memory = self.pool.take(slot.bytes())?;
                    // The padding of the last word is defined.
                    memory.words_mut().last_mut().into_iter().for_each(|word| *word = 0);
                    Held::Own(memory)
                }
            };
            places.push(held.len());
            held.push(memory);
        }
        let mut faults = Vec::new();
        if programs.len() != plan.steps.len() {
            return Err(unbound());
        }
        for (step, program) in plan.steps.iter().zip(programs) {
            let kernel = &step.kernel;
            let place = |slot: usize| places.get(slot).copied().ok_or_else(unbound);
            let mut lent = Vec::new();
            for buffer in kernel.buffers.iter().filter(|buffer| buffer.access != Access::Read) {
                let at = place(buffer.slot)?;
                let memory = held.get_mut(at).map(|held| std::mem::replace(held, Held::Lent));
                if ALL_KERNELS && let (Some(Held::Given(_)), Some(fault)) = (&memory, faults.first()) {
                    return Err(Error::clone(fault));
                }
                lent.extend(memory.map(|memory| (at, memory)));
            }
            let mut writes = lent.iter_mut();
            let mut bound = Vec::with_capacity(kernel.buffers.len());
            for buffer in &kernel.buffers {
                bound.push(match buffer.access {
                    Access::Read => {
                        let words = held.get(place(buffer.slot)?).and_then(Held::words);
                        Binding::Read(words.ok_or_else(unbound)?)
                    }
                    Access::Write | Access::ReadWrite => match writes.next().and_then(|(_, lent)| lent.words_mut()) {
                        Some(words) => Binding::Write(words),
                        None => return Err(unbound()),
                    },
                });
            }
            let faulted = self.timed(step, || program.run(bound, &self.pool))?;
            for fault in faulted {
                let Some(site) = kernel.faults.get(fault) else { continue };
                let fact = format!("index out of range for an axis of {} elements", site.bound);
                faults.push(Error::new(ErrorKind::Index, site.word, fact).at(site.at));
            }
            for (at, memory) in lent {
                held[at] = memory;
            }
        }
        let mut shared: Vec<Option<Arc<Memory>>> = held
            .into_iter()
            .map(|held| match held {
                Held::Own(memory) => Some(Arc::new(memory)),
                Held::Shared(_) | Held::Words(_) | Held::Given(_) | Held::Lent => None,
            })
            .collect();
        // Allocations of the run go back to the pool, not out.
        shared.iter_mut().take(plan.allocations.len()).for_each(|temp| *temp = None);
        let output = |&slot: &usize| match plan.slots.get(slot)?.home {
            Home::Leaf(n) => leaves.get(n).cloned(),
            _ => places.get(slot).and_then(|&at| shared.get(at).cloned().flatten()),
        };
        let outputs: Option<Vec<_>> = plan.outputs.iter().map(output).collect();
        Ok(Outcome { outputs: outputs.ok_or_else(|| broken("a root has no memory"))?, faults })
    }
}

impl Cpu {
    /// Runs a step and notes how long it took, when somebody wants to know.
    #[cfg(not(target_arch = "wasm32"))]
    fn timed<R>(&self, step: &Step, run: impl FnOnce() -> R) -> R {
        if !self.recorder.is_on() {
            return run();
        }
        let start = self.recorder.now();
        let result = run();
        let seconds = self.recorder.now() - start;
        let (name, bytes, flops) = (step.kernel.name.clone(), step.bytes, step.flops);
        self.recorder.note(crate::device::Traced { name, start, seconds, bytes, flops });
        result
    }

    #[cfg(target_arch = "wasm32")]
    fn timed<R>(&self, _: &Step, run: impl FnOnce() -> R) -> R {
        run()
    }
}

/// A kernel names no slot, reads what it writes, writes what is not its own, or has no program.
fn unbound() -> Error {
    broken("a kernel is not bound")
}

/// A plan that cannot be run is a mistake of the compiler, not of the user; it still is an error.
fn broken(fact: &str) -> Error {
    Error::new(ErrorKind::Device, "cpu", fact)
}
