//! The search for a product's best tile: its kernel alone, over scratch buffers, with one tile after
//! the other.
//!
//! A kernel is timed by the GPU's own clock, in passes that are long enough for it, all candidates in
//! turns so that a clock which changes its speed is fair. Knows no user's work and keeps nothing.

use std::sync::Arc;

use crate::compile::kernel::{Access, Dot, Kind};
use crate::compile::plan::{Home, Limits, Plan, Slot, Step};
use crate::compile::shader::Shader;
use crate::compile::tiles::{Product, Tile};
use crate::compile::wgsl::{emit, is_tiled, product_of};
use crate::device::gpu::{Gpu, GpuBuffer, Program};
use crate::device::tune::{Tuned, Tuning};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;

const OP: &str = "tune";
/// Seconds of work that a pass has at least.
const PASS_SECONDS: f64 = 1e-3;
/// Runs of a kernel that a pass has at most.
const RUNS_MAX: f64 = 1000.0;
/// Passes of a candidate, of which the median counts.
const PASSES: usize = 5;
/// A candidate that takes so many times the best one's time is given up.
const HOPELESS: f64 = 1.3;
/// How much faster than the default a tile must be to win, as a part of its time.
const MARGIN: f64 = 0.03;

/// Finds tiles for the products of `plans` that have none yet, in the order in which they ran.
pub fn search(device: &Device, gpu: &Arc<Gpu>, plans: &[Arc<Plan>]) -> Result<Tuning> {
    let limits = gpu.limits();
    let mut tuning = Tuning::default();
    let mut seen = Vec::new();
    for (plan, step) in plans.iter().flat_map(|plan| plan.steps.iter().map(move |step| (plan, step))) {
        let Kind::Dot(d) = &step.kernel.kind else { continue };
        let product = product_of(&step.kernel, d);
        if !is_tiled(d) || d.batch * d.k == 0 || seen.contains(&product) {
            continue;
        }
        seen.push(product);
        if limits.tiles.chosen(&product).is_some() {
            tuning.known += 1;
            continue;
        }
        match tuned(device, gpu, (plan, step, d), product, &limits, &mut tuning.left_out) {
            Ok(row) => tuning.rows.push(row),
            Err(error) => leave_out(&mut tuning.left_out, product, None, error)?,
        }
    }
    Ok(tuning)
}

/// Notes what could not be tried, and why; a lost device is the end.
fn leave_out(left_out: &mut Vec<String>, product: Product, tile: Option<Tile>, error: Error) -> Result<()> {
    if error.kind() == ErrorKind::Lost {
        return Err(error);
    }
    let tile = tile.map_or(String::new(), |tile| format!(", {tile}"));
    left_out.push(format!("{product}{tile}: {error}"));
    Ok(())
}

/// A tile and how long the kernel took with it.
struct Candidate {
    tile: Tile,
    program: Program,
    /// Runs of a pass.
    runs: usize,
    /// Seconds of a run, in ascending order.
    times: Vec<f64>,
}

impl Candidate {
    fn new(gpu: &Arc<Gpu>, plan: &Arc<Plan>, tile: Tile, shader: &Shader, on: &[Arc<GpuBuffer>]) -> Result<Candidate> {
        let program = gpu.program(OP, Arc::clone(plan), std::slice::from_ref(shader))?;
        // The first run of a pipeline is not like the others.
        program.seconds(OP, on, 1)?;
        let once = program.seconds(OP, on, 1)?;
        let runs = (PASS_SECONDS / once.max(1e-9)).clamp(1.0, RUNS_MAX) as usize;
        Ok(Candidate { tile, program, runs, times: Vec::with_capacity(PASSES) })
    }

    fn time(&mut self, on: &[Arc<GpuBuffer>]) -> Result<()> {
        self.times.push(self.program.seconds(OP, on, self.runs)?);
        self.times.sort_by(f64::total_cmp);
        Ok(())
    }

    fn least(&self) -> f64 {
        self.times.first().copied().unwrap_or(f64::INFINITY)
    }

    fn median(&self) -> f64 {
        self.times.get(self.times.len() / 2).copied().unwrap_or(f64::INFINITY)
    }
}

/// The best tile of the product `d`, which is a step of a plan.
fn tuned(
    device: &Device,
    gpu: &Arc<Gpu>,
    (plan, step, d): (&Plan, &Step, &Dot),
    product: Product,
    limits: &Limits,
    left_out: &mut Vec<String>,
) -> Result<Tuned> {
    let plan = Arc::new(alone(plan, step)?);
    let default = limits.tiles.tile(d);
    let tiles = worth_trying(gpu, product, default, limits);
    let shader = |tile: &Tile| {
        let limits = Limits { tiles: limits.tiles.with(vec![(product, *tile)]), ..limits.clone() };
        // The plan has this step alone.
        plan.steps.first().map(|step| emit(&step.kernel, &limits))
    };
    let shaders: Vec<Shader> = tiles.iter().filter_map(shader).collect();
    let named: Vec<(&str, &Shader)> = shaders.iter().map(|shader| (step.kernel.name.as_str(), shader)).collect();
    // Side by side, where the driver can; what fails says so again below, by itself.
    let _ = gpu.pipelines(&named);

    let scratch = Scratch::new(device, gpu, &plan)?;
    let (want, got) = (scratch.outputs(device, gpu)?, scratch.outputs(device, gpu)?);
    let on = scratch.with(gpu, &got)?;
    let mut field: Vec<Candidate> = Vec::with_capacity(tiles.len());
    for (&tile, shader) in tiles.iter().zip(&shaders) {
        match Candidate::new(gpu, &plan, tile, shader, &on) {
            Ok(candidate) => field.push(candidate),
            // Without the default there is nothing to compare with.
            Err(error) if field.is_empty() => return Err(error),
            Err(error) => leave_out(left_out, product, Some(tile), error)?,
        }
    }
    for pass in 0..PASSES {
        field.iter_mut().try_for_each(|candidate| candidate.time(&on))?;
        let best = field.iter().map(Candidate::least).fold(f64::INFINITY, f64::min);
        // Not by one pass alone, which somebody else's work may have held up.
        field.retain(|candidate| pass == 0 || candidate.tile == default || candidate.least() <= HOPELESS * best);
    }
    drop((got, on));

    let Some((first, others)) = field.split_first() else { return Err(gone()) };
    let default_seconds = first.median();
    let mut row = Tuned { product, default, default_seconds, best: default, best_seconds: default_seconds };
    let mut faster: Vec<&Candidate> = others.iter().filter(|c| c.median() < (1.0 - MARGIN) * default_seconds).collect();
    faster.sort_by(|a, b| a.median().total_cmp(&b.median()));
    if !faster.is_empty() {
        first.program.run(OP, &scratch.with(gpu, &want)?, &[])?;
    }
    for candidate in faster {
        // Of zeros again: what a tile forgets must not be there already.
        let got = scratch.outputs(device, gpu)?;
        candidate.program.run(OP, &scratch.with(gpu, &got)?, &[])?;
        if agree(&want, &got)? {
            (row.best, row.best_seconds) = (candidate.tile, candidate.median());
            break;
        }
        let fact = "its result is not the default tile's";
        leave_out(left_out, product, Some(candidate.tile), Error::new(ErrorKind::Verify, OP, fact))?;
    }
    Ok(row)
}

/// The default and the tiles that may be better.
fn worth_trying(gpu: &Gpu, product: Product, default: Tile, limits: &Limits) -> Vec<Tile> {
    let candidates = gpu.candidates();
    let Product { batch, m, n, .. } = product;
    let groups = |tile: &Tile| tile.groups([batch, m, n]);
    let most = candidates.iter().map(groups).max().unwrap_or(0);
    let computed = |tile: &Tile| groups(tile).saturating_mul(tile.rows() * tile.columns());
    let least = candidates.iter().map(computed).min().unwrap_or(0);
    let others = candidates
        .into_iter()
        .filter(|tile| *tile != default && limits.tiles.is_worth_trying(tile, &product, [most, least]));
    std::iter::once(default).chain(others).collect()
}

/// `step` of `plan` as a plan of its own, whose buffers are all leaves.
fn alone(plan: &Plan, step: &Step) -> Result<Plan> {
    let mut step = step.clone();
    let mut slots = Vec::with_capacity(step.kernel.buffers.len());
    for (n, buffer) in step.kernel.buffers.iter_mut().enumerate() {
        let slot = plan.slots.get(buffer.slot).ok_or_else(gone)?;
        slots.push(Slot { home: Home::Leaf(n), ..slot.clone() });
        buffer.slot = n;
    }
    let leaves = (0..slots.len()).collect();
    let (scalars, outputs, allocations) = (None, Vec::new(), Vec::new());
    let (steps, overwritten) = (vec![step], Vec::new());
    Ok(Plan { slots, steps, leaves, overwritten, scalars, outputs, allocations, peak_bytes: 0 })
}

fn gone() -> Error {
    Error::new(ErrorKind::Device, OP, "a step without its buffers")
}

/// The buffers of a plan of one step: small integers for what it reads, whose products and sums are
/// exact, so that tiles agree to the last bit unless what is around the product rounds.
struct Scratch {
    /// For each slot, what is read.
    inputs: Vec<Option<Tensor>>,
    slots: Vec<Slot>,
}

impl Scratch {
    fn new(device: &Device, gpu: &Arc<Gpu>, plan: &Plan) -> Result<Scratch> {
        let slots = plan.slots.clone();
        let mut inputs = Vec::with_capacity(slots.len());
        for kernel in plan.steps.iter().map(|step| &step.kernel) {
            for (n, (slot, buffer)) in slots.iter().zip(&kernel.buffers).enumerate() {
                inputs.push(match buffer.access {
                    Access::Read => Some(numbers(device, gpu, slot, n, !kernel.faults.is_empty())?),
                    Access::Write | Access::ReadWrite => None,
                });
            }
        }
        Ok(Scratch { inputs, slots })
    }

    /// Zeros for what is written.
    fn outputs(&self, device: &Device, gpu: &Arc<Gpu>) -> Result<Vec<Option<Tensor>>> {
        let zeros = |(input, slot): (&Option<Tensor>, &Slot)| match input {
            Some(_) => Ok(None),
            None => filled(gpu, Tensor::zeros([slot.numel], device).cast(slot.dtype)).map(Some),
        };
        self.inputs.iter().zip(&self.slots).map(zeros).collect()
    }

    /// The leaves of a run that writes into `outputs`.
    fn with(&self, gpu: &Arc<Gpu>, outputs: &[Option<Tensor>]) -> Result<Vec<Arc<GpuBuffer>>> {
        let leaf =
            |(x, y): (&Option<Tensor>, &Option<Tensor>)| gpu.leaf(OP, x.as_ref().or(y.as_ref()).ok_or_else(gone)?);
        self.inputs.iter().zip(outputs).map(leaf).collect()
    }
}

/// Numbers for a slot; where an index out of range would be told, integers are 0, which is none.
fn numbers(device: &Device, gpu: &Arc<Gpu>, slot: &Slot, n: usize, faults: bool) -> Result<Tensor> {
    let range = match slot.dtype.is_float() {
        true => -3..4,
        false if faults => 0..1,
        false => 0..3,
    };
    filled(gpu, Tensor::randint([slot.numel], range, &Tensor::key(n as u64, device)).cast(slot.dtype))
}

/// `x` in memory of its own.
fn filled(gpu: &Arc<Gpu>, x: Tensor) -> Result<Tensor> {
    x.realize()?;
    gpu.leaf(OP, &x)?;
    Ok(x)
}

/// Whether two runs came to the same, but for roundings.
fn agree(want: &[Option<Tensor>], got: &[Option<Tensor>]) -> Result<bool> {
    for (want, got) in want.iter().flatten().zip(got.iter().flatten()) {
        let [a, b] = [want, got].map(|x| x.cast(DType::F32));
        let close = (&a - &b).abs().le(a.abs() * 1e-3 + 1e-3);
        let same = a.eq(&b) | (a.isnan() & b.isnan());
        if !(same | close).all(..).item::<bool>()? {
            return Ok(false);
        }
    }
    Ok(true)
}
