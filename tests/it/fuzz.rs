//! Random calls, right and wrong, of every word, on tensors that earlier calls made: none may panic,
//! a wrong one names its word and the line, and what is right can be compiled and read.
//!
//! `SEED` and `CALLS` replay or lengthen a run, `TRACE` prints each call and what it read. Values are only loosely compared with the oracle:
//! what is exactly right is what other tests say.

mod arguments;
mod layers;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use wgrad::compile::graph::Graph;
use wgrad::compile::plan::{Limits, Plan, Target};
use wgrad::compile::tiles::Tiles;
use wgrad::compile::{compile, wgsl};
use wgrad::prelude::*;
use wgrad::reference::{self, Rounding, Values};
use wgrad::{ErrorKind, Result};

use self::arguments::{Args, Item};
use self::words::Word;
pub use self::words::words;
use crate::devices::{devices_for_faults, is_cpu, plain_cpu};

/// Tensors of more elements are not read.
const READ_MAX: usize = 4096;
/// Plans of more work or memory are not run.
const WORK_MAX: u64 = 20_000_000;
/// Longer histories are let go.
const DEPTH_MAX: usize = 5;
/// A wrong call of the first word may name the second.
const ALSO: [(&str, &str); 6] = [
    ("cross_entropy_with", "cross_entropy"),
    // It computes what it copies, which may be too much.
    ("to_device", "realize"),
    // What the closures themselves do wrong.
    ("custom_gradient", "add"),
    ("checkpoint", "mul"),
    ("with_dims", "reshape"),
    ("sum", "grad"),
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How a run went.
#[derive(Default)]
struct Tally {
    calls: u64,
    /// Whether calls and results are printed.
    trace: bool,
    refused: u64,
    read: u64,
    faults: u64,
    compared: u64,
    shaders: u64,
    /// Words by how many of their calls were right.
    right: BTreeMap<&'static str, u64>,
    /// What went wrong, each kind once.
    failures: Vec<String>,
    kinds: BTreeSet<String>,
    slowest: (Duration, String),
}

#[test]
fn random_calls() {
    run(setting("CALLS", 100_000), vec![plain_cpu()]);
}

/// The same with most tensors on the GPU and some on the CPU; each call there costs a pipeline.
#[test]
fn random_calls_on_the_gpu() {
    let (mut devices, _turn) = devices_for_faults();
    devices.reverse();
    if devices.len() > 1 {
        run(setting("CALLS", 100_000) / 20, devices);
    }
}

fn run(calls: u64, devices: Vec<Device>) {
    let seed = setting("SEED", 1);
    let words = words();
    let mut tally = Tally { trace: std::env::var("TRACE").is_ok(), ..Tally::default() };
    let mut args = Args::new(seed, devices);
    for n in 0..calls {
        let word = words[args.rng.below(words.len())];
        args.start();
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| call(word, &mut args, &mut tally)));
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(fact)) => Some(fact),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
                Some(format!("panicked: {}", text.unwrap_or_default()))
            }
        };
        if start.elapsed() > tally.slowest.0 {
            tally.slowest = (start.elapsed(), format!("{}({})", word.0, args.said));
        }
        tally.calls += 1;
        if let Some(fact) = failure {
            let kind: String = fact.chars().filter(|c| c.is_alphabetic()).take(60).collect();
            if tally.kinds.insert(format!("{} {kind}", word.0)) {
                tally.failures.push(format!("SEED={seed} call {n}: {}({})\n    {fact}", word.0, args.said));
            }
            if tally.failures.len() >= 40 {
                break;
            }
        }
        if args.rng.below(8) == 0 {
            let (k, x) = (args.rng.below(args.pool.len()), args.seedling());
            args.pool[k] = Item { x, depth: 0 };
        }
    }
    println!(
        "{} calls: {} results refused, {} read, {} compared with the oracle, {} with indices out of range, {} shaders; \
         slowest {:?}: {}",
        tally.calls,
        tally.refused,
        tally.read,
        tally.compared,
        tally.faults,
        tally.shaders,
        tally.slowest.0,
        tally.slowest.1
    );
    assert!(tally.failures.is_empty(), "{} failures:\n{}", tally.failures.len(), tally.failures.join("\n"));
    if calls >= 10_000 {
        let never: Vec<&str> = words.iter().map(|w| w.0).filter(|w| !tally.right.contains_key(w)).collect();
        assert!(never.is_empty(), "no call was right of {never:?}");
    }
}

/// One call, and what must hold of its results.
fn call(word: Word, args: &mut Args, tally: &mut Tally) -> std::result::Result<(), String> {
    args.track = args.chance(20);
    if tally.trace {
        eprintln!("call {}: {}", tally.calls, word.0);
    }
    let mut results = word.1(args);
    if tally.trace {
        eprintln!("    ({})", args.said);
        for x in args.given.iter().filter(|x| x.is_valid() && x.numel() < 25) {
            eprintln!("    given {x:?} {:?}", read(&x.detach()));
        }
    }
    judge(word.0, args, &results, tally)?;
    // Its gradient is wrong on purpose.
    if args.track && word.0 != "custom_gradient" && args.depth < DEPTH_MAX {
        let derivatives = differentiate(args, &results)?;
        results.extend(derivatives);
    }
    let keep = args.rng.below(results.len().max(1));
    for (k, x) in results.iter().enumerate() {
        if !x.is_valid() {
            continue;
        }
        let cheap = usable(x, args, tally)?;
        let readable = cheap && x.numel() <= READ_MAX;
        if readable && args.chance(if args.wild { 100 } else { 60 }) {
            look(word.0, x, args, tally)?;
        }
        if readable && k == keep && args.pool.len() < 400 {
            // What a convolution may make of infinities is not for the oracle to judge.
            let deep = args.depth + 1 > DEPTH_MAX || args.wild || word.0.starts_with("conv");
            let x = if deep { x.detach() } else { x.clone() };
            if deep {
                allowed(x.realize(), word.0)?;
            }
            let depth = if deep || x.is_realized() && !args.track { 0 } else { args.depth + 1 };
            let place = args.rng.below(args.pool.len());
            args.pool[place] = Item { x, depth };
        }
    }
    Ok(())
}

/// What must hold of validity and errors.
fn judge(
    word: &'static str,
    args: &mut Args,
    results: &[Tensor],
    tally: &mut Tally,
) -> std::result::Result<(), String> {
    let mistakes: Vec<String> = args.given.iter().filter_map(|x| x.error()).map(|e| e.to_string()).collect();
    let several = ["grad", "vjp", "custom_gradient", "checkpoint"].contains(&word);
    for x in results {
        // Display and Debug of everything that was made.
        if format!("{x:?}").is_empty() {
            return Err("nothing to see".into());
        }
        let Some(error) = x.error() else {
            if !mistakes.is_empty() && !several {
                return Err(format!("{x:?} is valid, but an operand is not: {mistakes:?}"));
            }
            *tally.right.entry(word).or_default() += 1;
            continue;
        };
        tally.refused += 1;
        if !mistakes.is_empty() && (!several || mistakes.contains(&error.to_string())) {
            if !mistakes.contains(&error.to_string()) {
                return Err(format!("the first mistake was {mistakes:?}, now it is {error}"));
            }
            if error.to_string() != x.to_string() {
                return Err(format!("{error} shows as {x}"));
            }
            continue;
        }
        let also = ALSO.iter().any(|&(called, named)| called == word && named == error.op());
        let part = several && error.op().contains(word);
        let derived = several && ["grad", "vjp", "sum"].contains(&error.op());
        if !(error.op() == word || also || part || derived) {
            return Err(format!("the error does not name the word: {error}"));
        }
        if !error.location().is_some_and(|at| at.file().contains("it/fuzz")) {
            return Err(format!("the error does not point at the call: {error}"));
        }
        let text = error.to_string();
        if text.matches(": ").count() == 0 || text.split(": ").nth(1).is_none_or(|fact| fact.starts_with("at ")) {
            return Err(format!("the error says nothing: {error}"));
        }
    }
    Ok(())
}

/// Cotangents of the operands from the results: each must be valid, and another level now and then.
fn differentiate(args: &mut Args, results: &[Tensor]) -> std::result::Result<Vec<Tensor>, String> {
    let targets: Vec<Tensor> = args.given.iter().filter(|x| x.is_valid() && x.dtype().is_float()).cloned().collect();
    let targets: Vec<&Tensor> = targets.iter().collect();
    let mut derivatives = Vec::new();
    let floats: Vec<&Tensor> = results.iter().filter(|y| y.is_valid() && y.dtype().is_float()).collect();
    let Some(&y) = floats.first() else { return Ok(derivatives) };
    if y.numel() > READ_MAX {
        return Ok(derivatives);
    }
    let dy = args.fresh(y.dims(), DType::F32).to_device(y.device());
    let order = if args.chance(25) { 2 } else { 1 };
    let mut y = y.clone();
    let mut dy = dy;
    for n in 1..=order {
        args.say(format!("derivative {n}"));
        let found = y.vjp(&dy, &targets);
        for (x, dx) in targets.iter().zip(&found) {
            if let Some(error) = dx.error() {
                if args.wild && !error.op().is_empty() && error.location().is_some() {
                    return Ok(derivatives);
                }
                return Err(format!("derivative {n} by {x:?}: {error}"));
            }
            if (dx.dims(), dx.dtype()) != (x.dims(), x.dtype()) {
                return Err(format!("derivative {n} by {x:?} is {dx:?}"));
            }
        }
        let Some(dx) = found.first().cloned() else { break };
        derivatives.extend(found);
        if dx.numel() > READ_MAX {
            break;
        }
        dy = args.fresh(dx.dims(), DType::F32).to_device(dx.device());
        y = dx;
    }
    Ok(derivatives)
}

/// Compiles `x` for its device and for others; whether its plan is small enough to run.
fn usable(x: &Tensor, args: &mut Args, tally: &mut Tally) -> std::result::Result<bool, String> {
    let small = !args.wild && args.depth < DEPTH_MAX && x.numel() <= READ_MAX;
    let elsewhere = args.chance(if args.wild { 100 } else { 20 });
    if small && !elsewhere {
        return Ok(true);
    }
    let (graph, _) = Graph::flatten(std::slice::from_ref(x));
    if elsewhere {
        let limits = portable(args.one(&[Target::Gpu, Target::SoftwareGpu]));
        let plan = compile(&graph, &limits);
        let check = args.chance(10);
        for step in &plan.steps {
            let shader = wgsl::emit(&step.kernel, &limits);
            tally.shaders += 1;
            if check && let Err(error) = naga::front::wgsl::parse_str(&shader.text) {
                return Err(format!("{}\n{}", error.emit_to_string(&shader.text), shader.text));
            }
        }
    }
    let limits = Limits { buffers_max: usize::MAX, target: Target::Cpu, ..portable(Target::Cpu) };
    let plan = compile(&graph, &limits);
    Ok(small || cost(&plan) <= WORK_MAX)
}

/// Bytes, operations and steps of the loops, roughly.
fn cost(plan: &Plan) -> u64 {
    let step = |n: u64, step: &wgrad::compile::plan::Step| n.saturating_add(step.bytes).saturating_add(step.flops);
    plan.steps.iter().fold(plan.peak_bytes, step)
}

/// What every GPU can do.
fn portable(target: Target) -> Limits {
    Limits {
        target,
        buffers_max: 7,
        binding_bytes_max: 128 << 20,
        buffer_bytes_max: 256 << 20,
        invocations_max: 256,
        workgroup_bytes_max: 16 << 10,
        groups_max: 65_535,
        tiles: Tiles::of(target),
        cooperative: None,
        sort_block: 64,
        template_flops_min: u64::MAX,
        memory_bytes_max: u64::MAX,
    }
}

/// Whether a run went well: no error, or one of an index or of memory.
fn allowed(outcome: Result<()>, word: &str) -> std::result::Result<bool, String> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Index && error.location().is_some() && !error.op().is_empty() => {
            Ok(false)
        }
        Err(error) => Err(format!("reading what {word} gave: {error}")),
    }
}

/// Reads `x`, prints it, and now and then asks the oracle.
fn look(word: &str, x: &Tensor, args: &mut Args, tally: &mut Tally) -> std::result::Result<(), String> {
    // The oracle computes every node.
    let (graph, _) = Graph::flatten(std::slice::from_ref(x));
    let small = graph.nodes.iter().map(|node| node.shape.numel()).sum::<usize>() < WORK_MAX as usize;
    // What hangs on a rounding, as a tie, is not for it to judge.
    let known = args.given.iter().all(|x| x.is_realized());
    // Nor what a GPU makes of operands far out, or of quotients next to a whole number.
    let tame = is_cpu(x.device())
        || !args.special && !["rem", "floor_divide"].contains(&word) && args.given.iter().all(ordinary);
    let known = known && tame;
    let asked = if small && known && x.numel() > 0 && args.chance(40) { Some(oracle(x)?) } else { None };
    let got = match read(x) {
        Ok(got) => got,
        Err(error) => {
            allowed(Err(error), word)?;
            tally.faults += 1;
            if !x.is_realized() {
                return Ok(());
            }
            read(x).map_err(|error| format!("read a second time: {error}"))?
        }
    };
    tally.read += 1;
    if got.len() != x.numel() {
        return Err(format!("{} elements of {x:?}", got.len()));
    }
    match args.rng.below(12) {
        0 if format!("{x}").is_empty() || format!("{x:.9}").is_empty() => return Err("nothing to see".into()),
        1 if x.item::<f32>().is_ok() != (x.numel() == 1 && x.dtype() == DType::F32) => return Err("item".into()),
        2 if x.to_vec::<u32>().is_ok() != (x.dtype() == DType::U32) => return Err("read as another dtype".into()),
        _ => {}
    }
    if tally.trace {
        eprintln!("    {x:?} {:?}", &got[..got.len().min(24)]);
    }
    if let Some([exact, rounded]) = asked {
        tally.compared += 1;
        agree(word, x, &got, &exact, &rounded)?;
    }
    Ok(())
}

/// Whether every element is one that any GPU computes with well.
fn ordinary(x: &Tensor) -> bool {
    read(x).is_ok_and(|elements| elements.iter().all(|&x| x == 0.0 || (1e-4..100.0).contains(&x.abs())))
}

/// The elements as the oracle has them, unrounded and rounded.
fn oracle(x: &Tensor) -> std::result::Result<[Vec<f64>; 2], String> {
    let evaluate = |rounding| {
        let mut found = reference::evaluate(std::slice::from_ref(x), rounding).map_err(|error| error.to_string())?;
        Ok::<_, String>(match found.values.pop() {
            Some(Values::Float(v)) => v,
            Some(Values::Bits(v)) if x.dtype() == DType::I32 => v.iter().map(|&x| f64::from(x as i32)).collect(),
            Some(Values::Bits(v)) => v.iter().map(|&x| f64::from(x)).collect(),
            None => return Err("the oracle has no result".into()),
        })
    };
    Ok([evaluate(Rounding::Exact)?, evaluate(Rounding::PerNode)?])
}

/// Whether elements are near the oracle's, where it is sure of itself.
fn agree(word: &str, x: &Tensor, got: &[f64], exact: &[f64], rounded: &[f64]) -> std::result::Result<(), String> {
    let coarse = match x.dtype() {
        DType::F16 => 1e-2,
        DType::BF16 => 5e-2,
        _ => 1e-3,
    };
    let size = exact.iter().filter(|x| x.is_finite()).fold(1.0, |n: f64, x| n.max(x.abs()));
    // A GPU's compiler may take it that there are no NaNs and infinities.
    let finite = !is_cpu(x.device());
    // A device may multiply what is beside the input, zeros, by an infinity of the kernel.
    let padded = word.starts_with("conv");
    for (k, ((&got, &exact), &rounded)) in got.iter().zip(exact).zip(rounded).enumerate() {
        let doubt = (exact - rounded).abs();
        let sure = rounded == exact || doubt <= 1e-3 * exact.abs().max(1.0) || (exact.is_nan() && rounded.is_nan());
        let near = got == rounded
            || got == exact
            || (got.is_nan() && exact.is_nan())
            || (padded && (got.is_nan() || exact.is_nan()))
            || (finite && !exact.is_finite())
            || (got - exact).abs() <= coarse * size + 100.0 * doubt;
        if sure && !near {
            return Err(format!("element {k} of {x:?} is {got}, not {exact} ({rounded})"));
        }
    }
    Ok(())
}

fn read(x: &Tensor) -> Result<Vec<f64>> {
    Ok(match x.dtype() {
        DType::Bool => x.to_vec::<bool>()?.into_iter().map(|x| f64::from(u8::from(x))).collect(),
        DType::U8 => x.to_vec::<u8>()?.into_iter().map(f64::from).collect(),
        DType::U32 => x.to_vec::<u32>()?.into_iter().map(f64::from).collect(),
        DType::I32 => x.to_vec::<i32>()?.into_iter().map(f64::from).collect(),
        DType::F16 => x.to_vec::<half::f16>()?.into_iter().map(f64::from).collect(),
        DType::BF16 => x.to_vec::<half::bf16>()?.into_iter().map(f64::from).collect(),
        DType::F32 => x.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
    })
}
