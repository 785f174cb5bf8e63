//! Whether what a device computed is what the oracle says, element by element.
//!
//! The oracle runs three times: exactly, with each node rounded to its dtype, and so with the
//! leaves a few units in the last place away. An element may differ from the exact one by the
//! tolerance of the coarsest float dtype it was computed in, relative to the size of its tensor,
//! and by [`SPREAD`] times what the runs differ. Where the runs differ in kind, or by much, a
//! comparison, a rounding, a sort or an arg-reduction fell differently: such elements are counted,
//! not compared. So are elements that come to a NaN or an infinity on a GPU, where shader compilers
//! may assume that there are none, unless the GPU has them too. Before an element is called wrong, more runs try whether it is one of those.
//!
//! Knows no device and waits for none, so that a browser's results are judged here, too.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use half::{bf16, f16};
use wgrad::compile::graph::Graph;
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

    /// Panics when more than 1 % of the elements were not compared.
    #[track_caller]
    pub fn check(&self, what: &str) {
        let all = self.compared + self.skipped;
        assert!(self.skipped * 100 <= all, "{what}: {} of {all} elements were not compared", self.skipped);
    }
}

/// Compares what a device, whose shaders may assume special values away if `shades`, `found` with
/// what `truth` over `leaves` should come to, the same graph on the CPU.
pub fn judge(
    truth: &[Tensor],
    leaves: &[Tensor],
    shades: bool,
    found: &[Values],
    faults: &[Error],
) -> Result<Tally, String> {
    let run = |rounding, nudge, salt| -> Result<Evaluation, String> {
        let moved: Vec<(&Tensor, Vec<f64>)> = match nudge {
            0.0 => Vec::new(),
            _ => leaves.iter().map(|x| (x, nudged(x, nudge, salt))).collect(),
        };
        evaluate_with(truth, rounding, &moved).map_err(|error| format!("the oracle: {error}"))
    };
    let mut runs =
        vec![run(Rounding::Exact, 0.0, 0)?, run(Rounding::PerNode, 0.0, 0)?, run(Rounding::PerNode, NUDGE, 1)?];
    if let Some(fault) = faults.first().filter(|_| runs.iter().all(|run| run.faults.is_empty())) {
        return Err(format!("a fault that the oracle has not: {fault}"));
    }

    let mut tally = Tally::default();
    for (n, (root, got)) in truth.iter().zip(found).enumerate() {
        let base = tolerance(&truth[n]);
        let mut marks = marks(&runs, n, got, root.dtype(), shades, base);
        let mut salt = 2;
        while marks.iter().any(|mark| matches!(mark, Mark::Wrong(_))) && salt < 2 + RETRIES {
            runs.push(run(Rounding::Some(salt), [base, 0.0, NUDGE][salt as usize % 3], salt)?);
            let now = self::marks(&runs, n, got, root.dtype(), shades, base);
            // What agrees only with leaves that far away is not compared.
            for (mark, now) in marks.iter_mut().zip(now).filter(|(mark, _)| matches!(mark, Mark::Wrong(_))) {
                *mark = if matches!(now, Mark::Wrong(_)) { now } else { Mark::Unstable };
            }
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

/// The elements of `x` as the oracle holds them, waited for: natively, and in a browser of a CPU's.
pub fn elements(x: &Tensor) -> Result<Values, Error> {
    let mut reading = pin!(read(x));
    loop {
        if let Poll::Ready(found) = reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return found;
        }
        // Another thread, which waited for the device too, is about to tell.
        std::thread::yield_now();
    }
}

/// The elements of `x` as the oracle holds them.
pub async fn read(x: &Tensor) -> Result<Values, Error> {
    Ok(match x.dtype() {
        DType::F32 => Values::Float(x.read::<f32>().await?.into_iter().map(f64::from).collect()),
        DType::F16 => Values::Float(x.read::<f16>().await?.into_iter().map(f64::from).collect()),
        DType::BF16 => Values::Float(x.read::<bf16>().await?.into_iter().map(f64::from).collect()),
        DType::I32 => Values::Bits(x.read::<i32>().await?.into_iter().map(|x| x as u32).collect()),
        DType::U32 => Values::Bits(x.read::<u32>().await?),
        DType::U8 => Values::Bits(x.read::<u8>().await?.into_iter().map(u32::from).collect()),
        DType::Bool => Values::Bits(x.read::<bool>().await?.into_iter().map(u32::from).collect()),
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
