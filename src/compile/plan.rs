//! [`Plan`]: what compilation ends in, a printable list of steps over buffer slots.
//!
//! Plain data: a device allocates what `allocations` says, binds leaves and outputs, and runs the
//! steps in order.

use std::hash::{Hash, Hasher};

use crate::compile::kernel::Kernel;
use crate::compile::tiles::Tiles;
use crate::compile::wgsl::cooperative::Cooperative;
use crate::dtype::DType;
use crate::graph::mix::Mix;

/// What a device can do, as data; two devices with equal limits share plans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Which kernels suit it.
    pub target: Target,
    /// Storage buffers one kernel may bind.
    pub buffers_max: usize,
    /// Bytes one binding may span.
    pub binding_bytes_max: u64,
    /// Bytes one buffer may have.
    pub buffer_bytes_max: u64,
    /// Invocations in a workgroup.
    pub invocations_max: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes_max: u32,
    /// Workgroups along one side of a grid.
    pub groups_max: u32,
    /// How products are cut.
    pub tiles: Tiles,
    /// Its matrix units, where they may serve.
    pub cooperative: Option<Cooperative>,
    /// Positions one pass of a sort orders at once.
    pub sort_block: usize,
    /// Operations from which on the template of an op that has a definition, too, is worth it.
    pub template_flops_min: u64,
    /// Bytes a plan may need at its peak; `u64::MAX` when nothing is known.
    pub memory_bytes_max: u64,
}

/// Which kernels suit a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The built-in CPU.
    Cpu,
    /// A real GPU: many invocations share a row.
    Gpu,
    /// Vulkan in software: each invocation takes a row, no workgroup memory.
    SoftwareGpu,
}

/// The steps that compute the roots of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// Logical buffers.
    pub slots: Vec<Slot>,
    /// Launches in order.
    pub steps: Vec<Step>,
    /// The leaves it reads, by their numbers in the graph's bindings.
    pub leaves: Vec<usize>,
    /// Entries of `leaves` that are overwritten by results.
    pub overwritten: Vec<usize>,
    /// The slot of the runtime scalars (one 32-bit word each), when there are any.
    pub scalars: Option<usize>,
    /// The slot of each root; several roots may share one, and a root may be a leaf.
    pub outputs: Vec<usize>,
    /// Bytes of each allocation that lives only inside a run.
    pub allocations: Vec<u64>,
    /// Bytes the run needs beside its leaves: outputs that overwrite none, and the allocations.
    pub peak_bytes: u64,
}

/// A logical buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The dtype of its elements.
    pub dtype: DType,
    /// How many elements there are.
    pub numel: usize,
    /// Where its memory comes from.
    pub home: Home,
}

/// Where the memory of a slot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// Entry `n` of [`Plan::leaves`] brings it.
    Leaf(usize),
    /// The runtime scalars.
    Scalars,
    /// It outlives the run: fresh memory, handed to the roots.
    Output,
    /// Inside allocation `n`, shared with slots that are not alive at the same time.
    Temp(usize),
}

impl Plan {
    /// Operations and bytes of all steps, by prediction.
    pub fn work(&self) -> u64 {
        self.steps.iter().map(|step| step.bytes.saturating_add(step.flops)).fold(0, u64::saturating_add)
    }

    /// A hash of all it says, but for lines of the user's: equal for equal plans, in any process.
    pub fn fingerprint(&self) -> u64 {
        let mut mix = Mix::default();
        self.hash(&mut mix);
        mix.finish()
    }
}

impl Slot {
    /// Bytes in memory: whole 32-bit words.
    pub fn bytes(&self) -> u64 {
        (self.numel as u64 * self.dtype.bytes() as u64).next_multiple_of(4)
    }
}

/// One launch and what it costs by prediction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// What is launched.
    pub kernel: Kernel,
    /// Bytes it reads and writes.
    pub bytes: u64,
    /// Floating point operations.
    pub flops: u64,
    /// Neighbours of one wave need nothing of each other, and only the first rewrites memory.
    pub wave: usize,
}
