//! `explain`: what would run for a tensor, as text and as numbers, without running it; and, when
//! asked, what it takes to run. Keeps the leaves for that, and knows nothing of results.

use std::fmt;

use crate::compile::compile;
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::graph::Bindings;
use crate::compile::graph::Graph;
use crate::compile::plan::{Limits, Plan, Target};
use crate::compile::shader::Shader;
use crate::compile::wgsl;
use crate::device::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::device::gpu::Gpu;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::realize::fits;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::trace::Trace;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::mix::Ids;
use crate::graph::tensor::Tensor;

/// What would run to compute some tensors; prints as graph, kernels, plan and WGSL.
pub struct Explanation {
    graph: Graph,
    plan: Plan,
    shaders: Vec<Shader>,
    #[cfg(not(target_arch = "wasm32"))]
    device: Device,
    /// The tensors that the plan reads, so that it can be run.
    #[cfg(not(target_arch = "wasm32"))]
    bindings: Bindings,
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
    explain_last(roots, &Ids::default())
}

/// The same of `roots`, after which nobody asks for the elements of the leaves `dying`.
pub fn explain_last(roots: Vec<Tensor>, dying: &Ids) -> Result<Explanation> {
    let Some(first) = roots.first() else {
        return Err(Error::new(ErrorKind::Operand, "explain", "no tensors"));
    };
    let device = first.device().clone();
    if roots.iter().any(|x| *x.device() != device) {
        return Err(Error::new(ErrorKind::Operand, "explain", "tensors on different devices"));
    }
    let limits = limits(&device)?;
    let (mut graph, bindings) = Graph::flatten(&roots);
    graph.let_die(&bindings, |leaf| dying.contains(&leaf.0.id) && !is_pinned(&device, leaf));
    let plan = compile(&graph, &limits);
    let shaders = match limits.target {
        Target::Cpu => Vec::new(),
        Target::Gpu | Target::SoftwareGpu => plan.steps.iter().map(|step| wgsl::emit(&step.kernel, &limits)).collect(),
    };
    Ok(Explanation {
        graph,
        plan,
        shaders,
        #[cfg(not(target_arch = "wasm32"))]
        device,
        #[cfg(not(target_arch = "wasm32"))]
        bindings,
    })
}

/// Whether the host still has the memory of `leaf`.
fn is_pinned(device: &Device, leaf: &Tensor) -> bool {
    #[cfg(feature = "gpu")]
    if let Some(gpu) = Gpu::of(device) {
        return gpu.is_pinned(leaf);
    }
    let _ = (device, leaf);
    false
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

#[cfg(not(target_arch = "wasm32"))]
impl Explanation {
    /// Runs the plan twice, and tells of the second time how long each kernel took, what it moved
    /// and did, and how near that is to the device's [roofline](Device::roofline).
    ///
    /// The results are thrown away, so it does not matter whether the tensors have theirs by now.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([256, 256], &Device::cpu());
    /// println!("{}", wgrad::explain([&x.matmul(&x).softmax(-1)])?.measure()?);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn measure(&self) -> Result<Trace> {
        let (op, device) = ("measure", &self.device);
        let roofline = device.roofline()?;
        #[cfg(feature = "gpu")]
        crate::device::selftest::test_now(device, &self.plan, &limits(device)?)?;
        let limits = limits(device)?;
        if compile(&self.graph, &limits) != self.plan {
            return Err(Error::new(ErrorKind::Device, op, "the device's limits have changed; explain again"));
        }
        // A step's weights and states are still needed afterwards.
        let plan = compile(&Graph { dying: Vec::new(), ..self.graph.clone() }, &limits);
        fits(op, &plan, &limits)?;
        let twice = |run: &dyn Fn() -> Result<()>| {
            run()?;
            device.trace(run)
        };
        let leaves = plan.leaves.iter().map(|&n| self.bindings.leaves.get(n));
        let Some(leaves) = leaves.collect::<Option<Vec<_>>>() else {
            return Err(Error::new(ErrorKind::Device, op, "a leaf is missing"));
        };
        let scalars = &self.bindings.scalars;
        #[cfg(feature = "gpu")]
        if let Some(gpu) = Gpu::of(device) {
            // Anew: what failed a test since is not in them.
            let shaders: Vec<_> = plan.steps.iter().map(|step| wgsl::emit(&step.kernel, &limits)).collect();
            let program = gpu.program(op, plan.into(), &shaders)?;
            let leaves = leaves.into_iter().map(|leaf| gpu.leaf(op, leaf)).collect::<Result<Vec<_>>>()?;
            let ((), trace) = twice(&|| program.run(op, &leaves, scalars).map(drop))?;
            return Ok(trace.against(roofline));
        }
        let Some(cpu) = Cpu::of(device) else {
            return Err(Error::new(ErrorKind::Device, op, format!("nothing runs {device}")));
        };
        let programs = cpu.prepare(&plan)?;
        let leaves = leaves.into_iter().map(|leaf| cpu.leaf(op, leaf)).collect::<Result<Vec<_>>>()?;
        let run =
            || cpu.run(&plan, &programs, &mut leaves.clone(), scalars)?.faults.into_iter().next().map_or(Ok(()), Err);
        let ((), trace) = twice(&run)?;
        Ok(trace.against(roofline))
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
