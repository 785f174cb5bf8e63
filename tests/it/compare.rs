//! Whether a device computes what the oracle says, element by element.
//!
//! The oracle runs three times: exactly, with each node rounded to its dtype, and so with the
//! leaves a few units in the last place away. An element may differ from the exact one by the
//! tolerance of the coarsest float dtype it was computed in, relative to the size of its tensor,
//! and by [`SPREAD`] times what the runs differ. Where the runs differ in kind, or by much, a
//! comparison, a rounding, a sort or an arg-reduction fell differently: such elements are counted,
//! not compared. So are elements that come to a NaN or an infinity on a GPU, where shader compilers
//! may assume that there are none, unless the GPU has them too. Before an element is called wrong, more runs try whether it is one of those.

use std::fmt::Write;

use half::{bf16, f16};
use wgrad::ErrorKind;
use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::{Limits, Plan};
use wgrad::device::cpu::Cpu;
use wgrad::graph::Storage;
use wgrad::prelude::*;
use wgrad::reference::{Evaluation, Rounding, Values, evaluate_with};

/// How many times the difference of the oracle's runs an element may be off.
const SPREAD: f64 = 4.0;
/// Part of its tensor's size by which an element may move between runs and still be compared.
const STABLE: f64 = 0.05;
/// How far leaves move in the third run, in parts of themselves.
const NUDGE: f64 = 1e-6;
/// Runs that an element must survive before it is called wrong: a comparison for equality of 16-bit
/// floats may need some hundred until one falls the other way.
const RETRIES: u64 = 400;

/// A graph built on some device.
pub struct Case {
    /// What is computed, all in one `realize`.
    pub roots: Vec<Tensor>,
    /// The leaves of float dtypes.
    pub leaves: Vec<Tensor>,
    /// Every tensor on the way, oldest first, to find where a failure begins.
    pub steps: Vec<Tensor>,
}

impl Case {
    /// A case of roots over leaves.
    pub fn new(roots: Vec<Tensor>, leaves: Vec<Tensor>) -> Case {
        Case { steps: roots.clone(), roots, leaves }
    }
}

/// How many elements were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Those that were compared.
    pub compared: usize,
    /// Those where the oracle's runs fell differently.
    pub skipped: usize,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: Tally) {
        self.compared += other.compared;
        self.skipped += other.skipped;
    }

    /// Panics when 1 % or more of the elements were not compared.
    #[track_caller]
    pub fn check(&self) {
        let all = self.compared + self.skipped;
        assert!(self.skipped * 100 <= all, "{} of {all} elements were not compared", self.skipped);
    }
}

/// How a graph is run.
#[derive(Clone)]
pub enum How {
    /// As a user would.
    Realize(Device),
    /// By a plan made for other limits than the device has.
    Foreign(Device, Box<Limits>),
}

impl How {
    fn device(&self) -> &Device {
        match self {
            How::Realize(device) | How::Foreign(device, _) => device,
        }
    }

    /// Whether shaders compute, which may assume that there are no NaNs and no infinities.
    pub fn shades(&self) -> bool {
        !crate::devices::is_cpu(self.device())
    }

    /// The elements of `roots`, which are on the device, and the faults that came out.
    fn run(&self, roots: &[Tensor]) -> Result<(Vec<Values>, Vec<Error>), Error> {
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
                let (graph, bindings) = Graph::flatten(roots);
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
        let shaders: Vec<_> = plan.steps.iter().map(|s| wgrad::compile::wgsl::emit(&s.kernel, limits)).collect();
        let program = gpu.program("test", plan.into(), &shaders)?;
        let leaves = leaves.iter().map(|bytes| gpu.upload("test", bytes)).collect::<Result<Vec<_>, _>>()?;
        let outputs = program.run("test", &leaves, scalars)?;
        let read = |buffer: &std::sync::Arc<_>| match gpu.read_blocking("test", buffer) {
            Ok(bytes) => Ok(bytes),
            Err(error) => pardon(error).and_then(|()| gpu.read_blocking("test", buffer)),
        };
        return outputs.iter().map(read).collect();
    }
    let _ = limits;
    let cpu = Cpu::of(device).expect("a device of ours");
    let programs = cpu.prepare(&plan)?;
    let leaves = leaves.iter().map(|bytes| cpu.upload(bytes)).collect::<Result<Vec<_>, _>>()?;
    let outcome = cpu.run(&plan, &programs, &leaves, scalars)?;
    outcome.faults.into_iter().try_for_each(pardon)?;
    outcome.outputs.iter().map(|memory| Ok(memory.to_host()?.to_vec())).collect()
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            How::Realize(device) => write!(f, "{device}"),
            How::Foreign(device, limits) => write!(f, "{device} by a plan for {:?}", limits.target),
        }
    }
}

/// Panics, saying where and with what graph, unless the oracle agrees with what was run.
#[track_caller]
pub fn agree(what: &str, how: &How, build: &dyn Fn(&Device) -> Case) -> Tally {
    match disagreement(what, how, build) {
        Ok(tally) => tally,
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
    let run = |rounding, nudge, salt| -> Result<Evaluation, String> {
        let moved: Vec<(&Tensor, Vec<f64>)> = match nudge {
            0.0 => Vec::new(),
            _ => leaves.iter().map(|x| (x, nudged(x, nudge, salt))).collect(),
        };
        evaluate_with(truth, rounding, &moved).map_err(|error| format!("the oracle: {error}"))
    };
    let mut runs =
        vec![run(Rounding::Exact, 0.0, 0)?, run(Rounding::PerNode, 0.0, 0)?, run(Rounding::PerNode, NUDGE, 1)?];
    let (found, faults) = how.run(roots).map_err(|error| error.to_string())?;
    if let Some(fault) = faults.first().filter(|_| runs.iter().all(|run| run.faults.is_empty())) {
        return Err(format!("a fault that the oracle has not: {fault}"));
    }

    let mut tally = Tally::default();
    for (n, (root, got)) in roots.iter().zip(&found).enumerate() {
        let base = tolerance(&truth[n]);
        let mut marks = marks(&runs, n, got, root.dtype(), how.shades(), base);
        let mut salt = 2;
        while marks.iter().any(|mark| matches!(mark, Mark::Wrong(_))) && salt < 2 + RETRIES {
            runs.push(run(Rounding::Some(salt), [base, 0.0, NUDGE][salt as usize % 3], salt)?);
            marks = self::marks(&runs, n, got, root.dtype(), how.shades(), base);
            salt += 1;
        }
        runs.truncate(3);
        let wrong = marks.iter().filter(|mark| matches!(mark, Mark::Wrong(_))).count();
        for (k, mark) in marks.iter().enumerate() {
            match mark {
                Mark::Close => tally.compared += 1,
                Mark::Unstable => tally.skipped += 1,
                Mark::Wrong(fact) => {
                    let at = position(root.dims(), k);
                    return Err(format!(
                        "root {n} ({} {}) at {at:?}: {fact}; {wrong} of {} elements are wrong",
                        root.dtype(),
                        root.shape(),
                        marks.len()
                    ));
                }
            }
        }
    }
    Ok(tally)
}

/// What became of one element.
enum Mark {
    Close,
    Unstable,
    Wrong(String),
}

/// Compares root `n` with what all `runs` found.
fn marks(runs: &[Evaluation], n: usize, got: &Values, dtype: DType, shader: bool, base: f64) -> Vec<Mark> {
    let all: Vec<&Values> = runs.iter().map(|run| &run.values[n]).collect();
    match got {
        Values::Bits(got) => {
            let all: Vec<&[u32]> = all.iter().map(|v| if let Values::Bits(v) = v { &v[..] } else { &[] }).collect();
            let mark = |(k, &got): (usize, &u32)| {
                let want = all[0][k];
                if all.iter().any(|run| run[k] != want) {
                    Mark::Unstable
                } else if got == want {
                    Mark::Close
                } else if dtype == DType::I32 {
                    Mark::Wrong(format!("got {}, want {}", got as i32, want as i32))
                } else {
                    Mark::Wrong(format!("got {got}, want {want}"))
                }
            };
            got.iter().enumerate().map(mark).collect()
        }
        Values::Float(got) => {
            let all: Vec<&[f64]> = all.iter().map(|v| if let Values::Float(v) = v { &v[..] } else { &[] }).collect();
            let spread: Vec<f64> =
                (0..got.len()).map(|k| all.iter().map(|run| distance(all[0][k], run[k])).fold(0.0, f64::max)).collect();
            let (size, usual) = (rms(all[0]), rms(&spread));
            let mark = |(k, &got): (usize, &f64)| {
                let want = all[0][k];
                let size = size.max(want.abs());
                let tolerance = base * size + SPREAD * spread[k].max(usual) + smallest(dtype);
                if spread[k] > STABLE * size {
                    Mark::Unstable
                } else if distance(got, want) <= tolerance {
                    Mark::Close
                } else if shader && !want.is_finite() {
                    Mark::Unstable
                } else {
                    Mark::Wrong(format!("got {got:?}, want {want:?} within {tolerance:.2e}"))
                }
            };
            got.iter().enumerate().map(mark).collect()
        }
    }
}

/// Whether the oracle finds only finite numbers.
fn finite(x: &Tensor) -> bool {
    let found = evaluate_with(std::slice::from_ref(x), Rounding::PerNode, &[]);
    found.is_ok_and(|found| match &found.values[..] {
        [Values::Float(v)] => v.iter().all(|x| x.is_finite()),
        _ => true,
    })
}

/// How far apart two numbers are: nothing between equal infinities and between NaNs.
fn distance(x: f64, z: f64) -> f64 {
    match (x.is_nan(), z.is_nan()) {
        (true, true) => 0.0,
        (false, false) if x == z => 0.0,
        (false, false) if x.is_finite() && z.is_finite() => (x - z).abs(),
        _ => f64::INFINITY,
    }
}

/// The root of the mean square of what is finite.
fn rms(v: &[f64]) -> f64 {
    let finite = v.iter().filter(|x| x.is_finite() && x.abs() < 1e150);
    let (n, sum) = finite.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x * x));
    if n == 0.0 { 0.0 } else { (sum / n).sqrt() }
}

/// Below this a device may give 0.
fn smallest(dtype: DType) -> f64 {
    if dtype == DType::F16 { 6.2e-5 } else { 1.2e-38 }
}

/// The relative tolerance of the coarsest float dtype that takes part in `x`.
fn tolerance(x: &Tensor) -> f64 {
    let (graph, _) = Graph::flatten(std::slice::from_ref(x));
    let of = |dtype| match dtype {
        DType::BF16 => 1.6e-2,
        DType::F16 => 2e-3,
        _ => 1e-5,
    };
    graph.nodes.iter().map(|node| of(node.dtype)).fold(0.0, f64::max)
}

/// The elements of a leaf moved by up to `nudge` parts of themselves, or when `salt` is odd and not
/// 1 of their usual size, as far as their dtype can tell; equal ones stay equal.
fn nudged(x: &Tensor, nudge: f64, salt: u64) -> Vec<f64> {
    let Ok(Values::Float(v)) = elements(x) else { return Vec::new() };
    let dtype = x.dtype();
    let usual = if salt % 2 == 1 && salt > 1 { rms(&v) } else { 0.0 };
    let moved = |x: f64| {
        let draw = crate::support::Rng::new(x.to_bits() ^ salt).uniform(-1.0..1.0);
        let moved = x + x.abs().max(usual) * draw * nudge;
        match dtype {
            DType::F16 => f16::from_f64(moved).to_f64(),
            DType::BF16 => bf16::from_f64(moved).to_f64(),
            _ => f64::from(moved as f32),
        }
    };
    v.into_iter().map(|x| if x.is_finite() { moved(x) } else { x }).collect()
}

/// The elements of `x` as the oracle holds them.
pub fn elements(x: &Tensor) -> Result<Values, Error> {
    Ok(match x.dtype() {
        DType::F32 => Values::Float(x.to_vec::<f32>()?.into_iter().map(f64::from).collect()),
        DType::F16 => Values::Float(x.to_vec::<f16>()?.into_iter().map(f64::from).collect()),
        DType::BF16 => Values::Float(x.to_vec::<bf16>()?.into_iter().map(f64::from).collect()),
        DType::I32 => Values::Bits(x.to_vec::<i32>()?.into_iter().map(|x| x as u32).collect()),
        DType::U32 => Values::Bits(x.to_vec::<u32>()?),
        DType::U8 => Values::Bits(x.to_vec::<u8>()?.into_iter().map(u32::from).collect()),
        DType::Bool => Values::Bits(x.to_vec::<bool>()?.into_iter().map(u32::from).collect()),
    })
}

/// The indices of element `k`.
fn position(dims: &[usize], mut k: usize) -> Vec<usize> {
    let mut at: Vec<usize> = Vec::new();
    for &n in dims.iter().rev() {
        at.insert(0, k % n.max(1));
        k /= n.max(1);
    }
    at
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
