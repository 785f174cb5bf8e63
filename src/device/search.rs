//! The search for a product's best tile: its kernel alone, over scratch buffers, with one tile after
//! the other.
//!
//! A kernel is timed by the GPU's own clock, in passes that are long enough for it, all candidates in
//! turns so that a clock which changes its speed is fair. Knows no user's work and keeps nothing.

use std::sync::Arc;

use crate::compile::kernel::{Dot, Kind};
use crate::compile::plan::{Limits, Plan, Step};
use crate::compile::shader::Shader;
use crate::compile::tiles::{Product, Tile};
use crate::compile::wgsl::{emit, is_tiled, product_of};
use crate::device::alone::Alone;
use crate::device::gpu::{Gpu, GpuBuffer, Program};
use crate::device::tune::{Tuned, Tuning};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Storage;

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
pub fn search(gpu: &Arc<Gpu>, plans: &[Arc<Plan>]) -> Result<Tuning> {
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
        match tuned(gpu, (plan, step, d), product, &limits, &mut tuning.left_out) {
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
    gpu: &Arc<Gpu>,
    (plan, step, d): (&Plan, &Step, &Dot),
    product: Product,
    limits: &Limits,
    left_out: &mut Vec<String>,
) -> Result<Tuned> {
    let alone = Alone::new(OP, plan, step)?;
    let plan = &alone.plan;
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

    let on = alone.buffers(OP, gpu, None)?;
    let mut field: Vec<Candidate> = Vec::with_capacity(tiles.len());
    for (&tile, shader) in tiles.iter().zip(&shaders) {
        match Candidate::new(gpu, plan, tile, shader, &on) {
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

    let Some((first, others)) = field.split_first() else {
        return Err(Error::new(ErrorKind::Device, OP, "a step without a tile"));
    };
    let default_seconds = first.median();
    let mut row = Tuned { product, default, default_seconds, best: default, best_seconds: default_seconds };
    let mut faster: Vec<&Candidate> = others.iter().filter(|c| c.median() < (1.0 - MARGIN) * default_seconds).collect();
    faster.sort_by(|a, b| a.median().total_cmp(&b.median()));
    // Over zeros again: what a tile forgets must not be there already.
    let run = |candidate: &Candidate| -> Result<Vec<Arc<dyn Storage>>> {
        let buffers = alone.buffers(OP, gpu, Some(&on))?;
        candidate.program.run(OP, &buffers, &[])?;
        Ok(buffers.into_iter().map(|buffer| buffer as _).collect())
    };
    let want = if faster.is_empty() { Vec::new() } else { run(first)? };
    for candidate in faster {
        if alone.agree(&want, &run(candidate)?)? {
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
