//! Runs graphs on devices and has [`judge`](crate::judge) compare what they found with the oracle.

use std::fmt::Write;

use wgrad::ErrorKind;
use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
#[cfg(feature = "gpu")]
use wgrad::compile::plan::Step;
use wgrad::compile::plan::{Limits, Plan};
use wgrad::device::cpu::Cpu;
use wgrad::graph::{Op, Storage};
use wgrad::prelude::*;
use wgrad::reference::{Rounding, Values, evaluate_with};

use crate::judge::judge;
pub use crate::judge::{Case, Tally, elements};

/// How a graph is run.
#[derive(Clone)]
pub enum How {
    /// As a user would.
    Realize(Device),
    /// By a plan made for other limits than the device has.
    Foreign(Device, Box<Limits>),
}

impl How {
    /// Where it is run.
    pub fn device(&self) -> &Device {
        match self {
            How::Realize(device) | How::Foreign(device, _) => device,
        }
    }

    /// Whether shaders compute, which may assume that there are no NaNs and no infinities.
    pub fn shades(&self) -> bool {
        !crate::devices::is_cpu(self.device())
    }

    /// The elements of `roots`, which are on the device, and the faults that came out.
    pub fn run(&self, roots: &[Tensor]) -> Result<(Vec<Values>, Vec<Error>), Error> {
        let mut faults = Vec::new();
        // A fault comes out of the realise or of the next read; the elements are there all the same.
        let mut pardon = |error: Error| match error.kind() {
            ErrorKind::Index => {
                faults.push(error);
                Ok(())
            }
            _ => Err(error),
        };
        let found = match self {
            How::Realize(_) => {
                wgrad::realize(roots).or_else(&mut pardon)?;
                let read = |x: &Tensor| match elements(x) {
                    Ok(found) => Ok(found),
                    Err(error) => pardon(error).and_then(|()| elements(x)),
                };
                roots.iter().map(read).collect::<Result<Vec<_>, _>>()?
            }
            How::Foreign(device, limits) => {
                let (mut graph, bindings) = Graph::flatten(roots);
                // An index out of range ends a run that would overwrite a leaf.
                let faults = graph.nodes.iter().any(|n| matches!(n.op, Op::Gather { .. } | Op::Scatter { .. }));
                graph.let_die(&bindings, |_| !faults);
                let plan = compile(&graph, limits);
                let bytes = |x: &Tensor| Ok(elements(x)?.to_bytes(x.dtype()));
                let leaves = plan.leaves.iter().map(|&n| bytes(&bindings.leaves[n])).collect::<Result<Vec<_>, _>>()?;
                run_plan(device, plan, limits, &leaves, &bindings.scalars, &mut pardon)?
                    .iter()
                    .zip(roots)
                    .map(|(bytes, x)| Values::from_bytes(bytes, x.dtype(), x.numel()))
                    .collect()
            }
        };
        Ok((found, faults))
    }
}

fn run_plan(
    device: &Device,
    plan: Plan,
    limits: &Limits,
    leaves: &[Vec<u8>],
    scalars: &[u32],
    pardon: &mut dyn FnMut(Error) -> Result<(), Error>,
) -> Result<Vec<Vec<u8>>, Error> {
    #[cfg(feature = "gpu")]
    if let Some(gpu) = wgrad::device::gpu::Gpu::of(device) {
        let emit = |s: &Step| crate::cooperative::runnable(gpu, wgrad::compile::wgsl::emit(&s.kernel, limits), limits);
        let shaders: Vec<_> = plan.steps.iter().map(emit).collect();
        let program = gpu.program("test", plan.into(), &shaders)?;
        let leaves = leaves.iter().map(|bytes| gpu.upload("test", bytes)).collect::<Result<Vec<_>, _>>()?;
        let outputs = program.run("test", &leaves, scalars)?;
        let read = |buffer: &std::sync::Arc<_>| match gpu.read_blocking("test", buffer, 0..usize::MAX) {
            Ok(bytes) => Ok(bytes),
            Err(error) => pardon(error).and_then(|()| gpu.read_blocking("test", buffer, 0..usize::MAX)),
        };
        return outputs.iter().map(read).collect();
    }
    let _ = limits;
    let cpu = Cpu::of(device).expect("a device of ours");
    let programs = cpu.prepare(&plan)?;
    let mut leaves = leaves.iter().map(|bytes| cpu.upload(bytes)).collect::<Result<Vec<_>, _>>()?;
    let outcome = cpu.run(&plan, &programs, &mut leaves, scalars)?;
    outcome.faults.into_iter().try_for_each(pardon)?;
    outcome.outputs.iter().map(|memory| Ok(memory.to_host(0..usize::MAX)?.to_vec())).collect()
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            How::Realize(device) => write!(f, "{device}"),
            How::Foreign(device, limits) => write!(f, "{device} by a plan for {:?}", limits.target),
        }
    }
}

/// Panics, saying where and with what graph, unless the oracle agrees with what was run, and more
/// than 99 % of it was compared.
#[track_caller]
pub fn agree(what: &str, how: &How, build: &dyn Fn(&Device) -> Case) {
    match disagreement(what, how, build) {
        Ok(tally) => tally.check(&format!("{what} on {how}")),
        Err(text) => panic!("{text}"),
    }
}

/// What was compared, or a report of the first element that is wrong.
pub fn disagreement(what: &str, how: &How, build: &dyn Fn(&Device) -> Case) -> Result<Tally, String> {
    let truth = build(&Device::cpu());
    let fact = match compare(&truth.roots, &truth.leaves, how, &build(how.device()).roots) {
        Ok(tally) => return Ok(tally),
        Err(fact) => fact,
    };
    // Nor is a comparison of such numbers compared there.
    let compares = truth.roots.iter().any(|x| !x.dtype().is_float());
    if how.shades() && compares && truth.steps.iter().any(|x| !finite(x)) {
        let floats: Vec<usize> = (0..truth.roots.len()).filter(|&k| truth.roots[k].dtype().is_float()).collect();
        let of = |roots: &[Tensor]| floats.iter().map(|&k| roots[k].clone()).collect::<Vec<_>>();
        return compare(&of(&truth.roots), &truth.leaves, how, &of(&build(how.device()).roots));
    }
    // The first step that is wrong by itself tells more.
    for (k, step) in truth.steps.iter().enumerate() {
        let one = std::slice::from_ref(step);
        let alone = &build(how.device()).steps[k..k + 1];
        if let Err(fact) = compare(one, &truth.leaves, how, alone) {
            let alone = &build(how.device()).steps[k..k + 1];
            return Err(report(what, how, &format!("step {k} alone: {fact}"), alone));
        }
    }
    Err(report(what, how, &fact, &build(how.device()).roots))
}

/// Compares `roots`, run somehow, with `truth`, the same graph on any device.
fn compare(truth: &[Tensor], leaves: &[Tensor], how: &How, roots: &[Tensor]) -> Result<Tally, String> {
    if let Some(error) = truth.iter().chain(roots).find_map(|x| x.error()) {
        return Err(format!("an invalid root: {error}"));
    }
    let (found, faults) = how.run(roots).map_err(|error| error.to_string())?;
    judge(truth, leaves, how.shades(), &found, &faults)
}

/// Whether the oracle finds only finite numbers.
fn finite(x: &Tensor) -> bool {
    let found = evaluate_with(std::slice::from_ref(x), Rounding::PerNode, &[]);
    found.is_ok_and(|found| match &found.values[..] {
        [Values::Float(v)] => v.iter().all(|x| x.is_finite()),
        _ => true,
    })
}

/// What went wrong where, with the graph and the plan, and with the shaders in files.
fn report(what: &str, how: &How, fact: &str, roots: &[Tensor]) -> String {
    let mut text = format!("{what} on {how}: {fact}\n");
    let (graph, _) = Graph::flatten(roots);
    let _ = writeln!(text, "{graph}");
    #[cfg(feature = "gpu")]
    if let Some(gpu) = wgrad::device::gpu::Gpu::of(how.device()) {
        let limits = match how {
            How::Realize(_) => gpu.limits(),
            How::Foreign(_, limits) => Limits::clone(limits),
        };
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("failed");
        let _ = std::fs::create_dir_all(&folder);
        for (k, step) in compile(&graph, &limits).steps.iter().enumerate() {
            let shader = wgrad::compile::wgsl::emit(&step.kernel, &limits).text;
            let name = format!("{what}-{k}.wgsl").replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
            let file = folder.join(name);
            let written = std::fs::write(&file, &shader).is_ok();
            let _ = writeln!(
                text,
                "kernel {k} {}: {}",
                step.kernel.name,
                if written { file.display().to_string() } else { shader }
            );
        }
    }
    text
}
