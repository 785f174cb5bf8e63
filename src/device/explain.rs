//! `explain`: what would run for a tensor, as text and as numbers, without running it.

use std::fmt;

use crate::compile::compile;
use crate::compile::graph::Graph;
use crate::compile::plan::{Limits, Plan, Target};
use crate::compile::shader::Shader;
use crate::compile::wgsl;
use crate::device::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::device::gpu::Gpu;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;

/// What would run to compute some tensors; prints as graph, kernels, plan and WGSL.
pub struct Explanation {
    graph: Graph,
    plan: Plan,
    shaders: Vec<Shader>,
}

/// Explains what would run to compute `tensors`, which are on one device.
///
/// ```
/// # use wgrad::prelude::*;
/// let x = Tensor::ones([8, 16], &Device::cpu());
/// let explanation = wgrad::explain([&x.softmax(-1)])?;
/// assert_eq!(explanation.kernels(), 1);
/// println!("{explanation}");
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn explain<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Explanation> {
    let mut roots = Vec::new();
    for x in tensors {
        roots.push(x.check()?.clone());
    }
    let Some(first) = roots.first() else {
        return Err(Error::new(ErrorKind::Operand, "explain", "no tensors"));
    };
    let device = first.device().clone();
    if roots.iter().any(|x| *x.device() != device) {
        return Err(Error::new(ErrorKind::Operand, "explain", "tensors on different devices"));
    }
    let limits = limits(&device)?;
    let (graph, _) = Graph::flatten(&roots);
    let plan = compile(&graph, &limits);
    let shaders = match limits.target {
        Target::Cpu => Vec::new(),
        Target::Gpu | Target::SoftwareGpu => plan.steps.iter().map(|step| wgsl::emit(&step.kernel, &limits)).collect(),
    };
    Ok(Explanation { graph, plan, shaders })
}

/// The limits plans for `device` are made with.
pub fn limits(device: &Device) -> Result<Limits> {
    #[cfg(feature = "gpu")]
    if let Some(gpu) = Gpu::of(device) {
        return Ok(gpu.limits());
    }
    match Cpu::of(device) {
        Some(cpu) => Ok(cpu.limits()),
        None => Err(Error::new(ErrorKind::Device, "explain", format!("nothing runs {device}"))),
    }
}

impl Explanation {
    /// How many kernels run: on a GPU, how many dispatches.
    pub fn kernels(&self) -> usize {
        self.plan.steps.len()
    }

    /// Bytes that are read and written, by prediction.
    pub fn bytes(&self) -> u64 {
        self.plan.steps.iter().map(|step| step.bytes).sum()
    }

    /// Floating point operations, by prediction.
    pub fn flops(&self) -> u64 {
        self.plan.steps.iter().map(|step| step.flops).sum()
    }

    /// Bytes needed at the peak beside the leaves: results and what lies between.
    pub fn peak_bytes(&self) -> u64 {
        self.plan.peak_bytes
    }

    /// The plan itself.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The shader of each kernel; none on the CPU.
    pub fn wgsl(&self) -> impl Iterator<Item = &str> {
        self.shaders.iter().map(|shader| shader.text.as_str())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph\n{}", self.graph)?;
        writeln!(f, "kernels")?;
        self.plan.steps.iter().try_for_each(|step| write!(f, "{}", step.kernel))?;
        writeln!(f, "\nplan\n{}", self.plan)?;
        self.shaders.iter().try_for_each(|shader| writeln!(f, "wgsl\n{}", shader.text))
    }
}
