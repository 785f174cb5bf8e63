//! Realising: a graph's roots computed on their device, through the plan cache.

#[cfg(feature = "gpu")]
use std::sync::Arc;

#[cfg(feature = "gpu")]
use crate::compile::graph::Graph;
use crate::compile::plan::{Limits, Plan};
use crate::device::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::device::gpu::Gpu;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
#[cfg(feature = "gpu")]
use crate::graph::device::Storage;
use crate::graph::mix::Ids;
#[cfg(feature = "gpu")]
use crate::graph::source::ALL_KERNELS;
use crate::graph::tensor::Tensor;

/// Computes the elements of all `tensors` in one run a device, and keeps them.
///
/// ```
/// # use wgrad::prelude::*;
/// let x = Tensor::new([1.0, 2.0], &Device::cpu());
/// let (y, z) = (&x * 2.0, x.exp());
/// wgrad::realize([&y, &z])?;
/// assert!(y.is_realized() && z.is_realized());
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn realize<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
    realize_last(tensors.into_iter().cloned().collect(), &Ids::default())
}

/// The same, after which nobody asks for the elements of the leaves `dying`: they may be overwritten,
/// and have none any more if they were.
pub fn realize_last(mut open: Vec<Tensor>, dying: &Ids) -> Result<()> {
    open.iter().try_for_each(|x| x.check().map(drop))?;
    open.retain(|x| !x.is_realized());
    while let Some(first) = open.first() {
        let device = first.device().clone();
        let (here, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|x| *x.device() == device);
        run(&device, &here, None, dying)?;
        open = rest;
    }
    Ok(())
}

/// Computes the elements of `roots`, whose only purpose is to test the device, within `limits`.
#[cfg(feature = "gpu")]
pub fn try_out(device: &Device, roots: &[Tensor], limits: &Limits) -> Result<()> {
    run(device, roots, Some(limits), &Ids::default())
}

fn run(device: &Device, roots: &[Tensor], trial: Option<&Limits>, dying: &Ids) -> Result<()> {
    let op = "realize";
    #[cfg(feature = "gpu")]
    if let Some((gpu, programs)) = Gpu::with_programs(device)
        && let Some(checks) = Gpu::checks(device)
    {
        let (mut graph, bindings) = Graph::flatten(roots);
        graph.let_die(&bindings, |leaf| dying.contains(&leaf.0.id) && !gpu.is_pinned(leaf));
        let (program, fresh) = programs.get(graph, |graph| {
            let (limits, plan) = loop {
                let limits = trial.cloned().unwrap_or_else(|| gpu.limits());
                let plan = crate::compile::compile(graph, &limits);
                if trial.is_none() {
                    crate::device::selftest::test_now(device, &plan, &limits)?;
                }
                // What failed a test, here or on another thread, is not in the limits any more.
                if trial.is_some() || gpu.limits() == limits {
                    break (limits, plan);
                }
            };
            fits(op, &plan, &limits)?;
            #[cfg(not(target_arch = "wasm32"))]
            crate::device::roofline::measure_pace(device, gpu, &plan);
            let shaders: Vec<_> =
                plan.steps.iter().map(|step| crate::compile::wgsl::emit(&step.kernel, &limits)).collect();
            let fingerprint = ALL_KERNELS.then(|| plan.fingerprint());
            Ok((gpu.program(op, Arc::new(plan), &shaders)?, fingerprint))
        })?;
        let leaves = program.plan().leaves.iter().map(|&n| match bindings.leaves.get(n) {
            Some(leaf) => gpu.leaf(op, leaf),
            None => Err(Error::new(ErrorKind::Device, op, "a leaf is missing")),
        });
        let (plan, leaves) = (program.plan(), leaves.collect::<Result<Vec<_>>>()?);
        let truth = checks.truth(fresh && trial.is_none(), plan.work(), roots)?;
        // What is compared shall leave everything as it was where it is wrong.
        let compared = ALL_KERNELS && truth.is_some() && !plan.overwritten.is_empty();
        if compared || !bindings.take(plan, &leaves) {
            return run(device, roots, trial, &Ids::default());
        }
        let outputs = program.run(op, &leaves, &bindings.scalars);
        let outputs = outputs.inspect_err(|_| bindings.give_back(plan, &leaves))?;
        #[cfg(not(target_arch = "wasm32"))]
        if trial.is_none() {
            gpu.note(plan);
        }
        if let Some(truth) = truth {
            let found: Vec<Arc<dyn Storage>> = outputs.iter().map(|b| b.clone() as Arc<dyn Storage>).collect();
            checks.compare(truth, &found).inspect_err(|_| programs.clear())?;
        }
        for (root, output) in roots.iter().zip(outputs) {
            root.set_value(output);
        }
        return Ok(());
    }
    // Only a GPU has templates to try.
    let _ = trial;
    match Cpu::of(device) {
        Some(cpu) => cpu.realize(op, roots, dying),
        None => Err(Error::new(ErrorKind::Device, op, format!("nothing runs {device}"))),
    }
}

/// Refuses a plan that cannot fit, before anything runs.
pub fn fits(op: &str, plan: &Plan, limits: &Limits) -> Result<()> {
    if plan.peak_bytes > limits.memory_bytes_max {
        let fact = format!(
            "the plan needs {} bytes at its peak, but the device's limit is {}",
            plan.peak_bytes, limits.memory_bytes_max
        );
        return Err(Error::new(ErrorKind::Memory, op, fact));
    }
    let largest = plan.slots.iter().max_by_key(|slot| slot.bytes());
    match largest {
        Some(slot) if slot.bytes() > limits.buffer_bytes_max => {
            let fact = format!(
                "a tensor of {} bytes, but a buffer of the device has at most {}",
                slot.bytes(),
                limits.buffer_bytes_max
            );
            Err(Error::new(ErrorKind::Memory, op, fact))
        }
        _ => Ok(()),
    }
}
