//! How fast the crate is at what training is made of: one case, one line of JSON.
//!
//! Each case is defined to the last bit of its inputs, which are hashes of positions, and prints a
//! `check` computed from its results, so that other engines can run the same work and be compared.
//! A forward case reads one element back in every call; a training case reads the loss after some steps.
//!
//! `cargo run --release --example bench -- CASE [--device gpu|cpu] [--tune]`; without a CASE it lists them.
//! `--tune` has one call tuned first, and prints what was found.
//! `BENCH_TRACE=FILE` traces one more call: a table of its kernels, and a file that Perfetto opens.
//! `BENCH_BUDGET_S` says for how long calls are timed (6), `BENCH_WARM_S` for how long they warm up (60).

#[path = "../common/mod.rs"]
mod common;
mod data;
mod models;

use std::time::Instant;

use data::{integers, uniform};
use models::{Forward, WINDOW};
use wgrad::Result;
use wgrad::optim::{Adam, AdamW, Optimizer, Rule, Sgd};
use wgrad::prelude::*;

const CASES: &str = "matmul_512 matmul_1024 matmul_tall bmm_16x256 elementwise_4m softmax layernorm sum_dim0 sum_dim1 \
    conv2d_fwd conv2d_fwdbwd train_mlp train_cnn train_gpt train_gpt_sdpa tiny_step cold_start";

/// What was timed: milliseconds a call, and what the calls came to.
struct Timed {
    times: Vec<f64>,
    warmups: usize,
    first_ms: f64,
    check: f64,
    /// More fields of the line.
    more: String,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let device = match words.iter().position(|word| word == "--device").map(|at| words.get(at + 1).map(String::as_str))
    {
        None => Device::best(),
        Some(Some("cpu")) => Device::cpu(),
        // Software counts where a GPU is asked for by name.
        Some(Some("gpu")) => common::gpu()?,
        Some(other) => {
            return Err(common::wrong(&format!("--device {}", other.unwrap_or_default()), "known are gpu and cpu"));
        }
    };
    let Some(case) = words.first().filter(|word| CASES.split(' ').any(|case| case == *word)) else {
        println!("cases: {CASES}");
        return Ok(());
    };
    if let Some(Timed { mut times, warmups, first_ms, check, more }) = run(case, &device)? {
        times.sort_by(f64::total_cmp);
        let (median, least, n) = (times[times.len() / 2], times[0], times.len());
        let (peak, plans) = (device.memory_use().peak_bytes, device.plans_made());
        println!(
            "{{\"peer\": \"wgrad\", \"case\": \"{case}\", \"device\": \"{device}\", \"median_ms\": {median:.4}, \
             \"min_ms\": {least:.4}, \"iters\": {n}, \"check\": {check:.6}, \"first_ms\": {first_ms:.2}, \
             \"warmups\": {warmups}, \"peak_rss_mb\": {}, \"peak_device_bytes\": {peak}, \"plans\": {plans}{more}}}",
            resident_mib()
        );
    }
    Ok(())
}

fn run(case: &str, d: &Device) -> Result<Option<Timed>> {
    let rows = || uniform(&[4096, 1024], 1, 4.0, d);
    let timed = match case {
        "matmul_512" => product([512, 512, 512], d),
        "matmul_1024" => product([1024, 1024, 1024], d),
        "matmul_tall" => product([4096, 256, 256], d),
        "bmm_16x256" => {
            let (a, b) = (uniform(&[16, 256, 256], 1, 1.0, d), uniform(&[16, 256, 256], 2, 1.0, d));
            forward(d, || a.matmul(&b), mean_abs)
        }
        "elementwise_4m" => {
            let x = uniform(&[4 << 20], 1, 4.0, d);
            forward(d, || (&x * 1.3 + 0.2).tanh() * x.sigmoid() + x.relu(), mean_abs)
        }
        "softmax" => {
            let x = rows();
            forward(d, || x.softmax(1), |y| 1e6 * mean(y, |y| y * y))
        }
        "layernorm" => {
            let (x, gamma, beta) = (rows(), uniform(&[1024], 2, 1.0, d), uniform(&[1024], 3, 1.0, d));
            forward(d, || x.layer_norm(-1, Some(&gamma), Some(&beta), 1e-5), mean_abs)
        }
        "sum_dim0" | "sum_dim1" => {
            let (x, axis) = (rows(), isize::from(case.ends_with('1')));
            forward(d, || x.sum(axis), mean_abs)
        }
        "conv2d_fwd" => {
            let (x, w) = (uniform(&[16, 32, 32, 32], 1, 1.0, d), uniform(&[64, 32, 3, 3], 2, 1.0, d));
            forward(d, || x.conv2d(&w, None, ConvOptions::default().padding(1)), mean_abs)
        }
        "conv2d_fwdbwd" => convolution_both_ways(d),
        "train_mlp" | "cold_start" => {
            let (x, y) = (uniform(&[128, 784], 1, 1.0, d), integers(&[128], 2, 10, d));
            let params = Params::new(d, 0);
            let model = models::mlp(&params)?;
            let adam = Adam::new(&params, 1e-3);
            train(case, 10, &params, adam, model, &x, move |scores| scores.cross_entropy(&y))
        }
        "train_cnn" => {
            let (x, y) = (uniform(&[64, 1, 28, 28], 1, 1.0, d), integers(&[64], 2, 10, d));
            let params = Params::new(d, 0);
            let model = models::cnn(&params)?;
            let adam = Adam::new(&params, 1e-3);
            train(case, 10, &params, adam, model, &x, move |scores| scores.cross_entropy(&y))
        }
        "train_gpt" | "train_gpt_sdpa" => {
            let (x, y) = (integers(&[8, WINDOW], 1, 256, d), integers(&[8 * WINDOW], 2, 256, d));
            let params = Params::new(d, 0);
            let model = models::gpt(&params, case == "train_gpt_sdpa")?;
            let adam = AdamW::new(&params, 3e-4).weight_decay(0.01);
            train(case, 5, &params, adam, model, &x, move |scores| scores.cross_entropy(&y))
        }
        _ => {
            let (x, y) = (uniform(&[32, 2], 1, 1.0, d), uniform(&[32, 1], 2, 1.0, d));
            let params = Params::new(d, 0);
            let model = models::tiny(&params)?;
            let sgd = Sgd::new(&params, 0.1);
            train(case, 100, &params, sgd, model, &x, move |found| (found - &y).pow(2.0).mean(..))
        }
    };
    timed.map(|timed| Some(timed).filter(|timed| !timed.times.is_empty()))
}

/// The product of matrices `[m, k]` and `[k, n]`.
fn product([m, k, n]: [usize; 3], d: &Device) -> Result<Timed> {
    let (a, b) = (uniform(&[m, k], 1, 1.0, d), uniform(&[k, n], 2, 1.0, d));
    forward(d, || a.matmul(&b), mean_abs)
}

fn mean(y: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    y.iter().map(|&y| f(f64::from(y))).sum::<f64>() / y.len() as f64
}

fn mean_abs(y: &[f32]) -> f64 {
    mean(y, f64::abs)
}

/// Waits for the first element of `y`.
fn first(y: &Tensor) -> Result<f32> {
    y.realize()?;
    y.reshape(-1).narrow(0, 0, 1).item()
}

/// Times `f` with one element read back.
fn forward(d: &Device, f: impl Fn() -> Tensor, check: impl Fn(&[f32]) -> f64) -> Result<Timed> {
    let call = || -> Result<Tensor> {
        let y = f();
        first(&y)?;
        Ok(y)
    };
    let start = Instant::now();
    let y = call()?;
    let first_ms = start.elapsed().as_secs_f64() * 1e3;
    let check = check(&y.to_vec::<f32>()?);
    drop(y);
    let (times, warmups, more) = time(d, 1, || call().map(drop))?;
    Ok(Timed { times, warmups, first_ms, check, more })
}

/// A convolution and the gradients of both its operands.
fn convolution_both_ways(d: &Device) -> Result<Timed> {
    let (x, w) = (uniform(&[16, 32, 32, 32], 1, 1.0, d), uniform(&[64, 32, 3, 3], 2, 1.0, d));
    let r = uniform(&[16, 64, 32, 32], 3, 1.0, d);
    let call = || -> Result<Vec<Tensor>> {
        let loss = (x.conv2d(&w, None, ConvOptions::default().padding(1)) * &r).sum(..);
        let mut both = loss.grad(&[&x, &w]);
        // The loss is part of the work, as it is where a step computes it.
        both.push(loss);
        wgrad::realize(&both)?;
        first(&both[0])?;
        first(&both[1])?;
        Ok(both)
    };
    let start = Instant::now();
    let both = call()?;
    let first_ms = start.elapsed().as_secs_f64() * 1e3;
    let check = mean_abs(&both[0].to_vec::<f32>()?) + mean_abs(&both[1].to_vec::<f32>()?);
    drop(both);
    let (times, warmups, more) = time(d, 1, || call().map(drop))?;
    Ok(Timed { times, warmups, first_ms, check, more })
}

/// Times calls of `steps` training steps, the loss read at the end of each.
fn train<R: Rule>(
    case: &str,
    steps: usize,
    params: &Params,
    mut optimizer: Optimizer<R>,
    model: Forward,
    x: &Tensor,
    loss: impl Fn(&Tensor) -> Tensor,
) -> Result<Timed> {
    let mut step = || -> Result<Tensor> {
        let loss = loss(&model(x, &Pass::train(params)));
        optimizer.step(loss.backward(params))?;
        Ok(loss)
    };
    let start = Instant::now();
    let loss0 = step()?.item::<f32>()?;
    let first_ms = start.elapsed().as_secs_f64() * 1e3;
    if case == "cold_start" {
        println!(
            "{{\"peer\": \"wgrad\", \"case\": \"cold_start\", \"loss\": {loss0}, \"first_step_ms\": {first_ms:.1}}}"
        );
        return Ok(Timed { times: Vec::new(), warmups: 0, first_ms, check: 0.0, more: String::new() });
    }
    let mut losses = Vec::new();
    let (times, warmups, counts) = time(x.device(), steps, || {
        for _ in 1..steps {
            step()?;
        }
        losses.push(step()?.item::<f32>()?);
        Ok(())
    })?;
    let last = losses.last().copied().unwrap_or(loss0);
    let more =
        format!("{counts}, \"per_step\": true, \"steps_per_iter\": {steps}, \"loss0\": {loss0}, \"loss_last\": {last}");
    Ok(Timed { times, warmups, first_ms, check: losses.first().map_or(0.0, |&loss| loss.into()), more })
}

/// Milliseconds of timed calls, each divided by `per`; how many calls warmed up; and what was
/// counted for each step, as more fields of the line.
fn time(device: &Device, per: usize, mut call: impl FnMut() -> Result<()>) -> Result<(Vec<f64>, usize, String)> {
    let seconds = |name: &str, usual: f64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(usual);
    let (warm_max, budget) = (seconds("BENCH_WARM_S", 60.0), seconds("BENCH_BUDGET_S", 6.0));
    if std::env::args().any(|word| word == "--tune") {
        eprintln!("{}", wgrad::tune(device, &mut call)?);
    }
    let mut timed = || -> Result<f64> {
        let start = Instant::now();
        call()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    let (start, mut best, mut warmups) = (Instant::now(), f64::INFINITY, 0);
    loop {
        let ms = timed()?;
        best = best.min(ms);
        warmups += 1;
        if (warmups >= 3 && (ms <= 1.2 * best || warmups >= 10)) || start.elapsed().as_secs_f64() > warm_max {
            break;
        }
    }
    let before = counts();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || (times.len() < 200 && start.elapsed().as_secs_f64() < budget) {
        times.push(timed()? / per as f64);
        if start.elapsed().as_secs_f64() > 45.0 && times.len() >= 2 {
            break;
        }
    }
    let after = counts();
    if let Some(file) = std::env::var_os("BENCH_TRACE") {
        let (_, trace) = device.trace(&mut timed)?;
        let trace = trace.against(device.roofline()?);
        eprintln!("{trace}");
        std::fs::write(file, trace.to_json()).map_err(|e| common::wrong("BENCH_TRACE", &e.to_string()))?;
    }
    let steps = (times.len() * per) as f64;
    let names = ["dispatches", "submits", "copies", "barriers"];
    let counts = before.zip(after).map_or_else(String::new, |(before, after)| {
        let each = names.iter().zip(before.iter().zip(&after));
        each.map(|(name, (b, a))| format!(", \"{name}\": {:.2}", (a - b) as f64 / steps)).collect()
    });
    Ok((times, warmups, counts))
}

/// Dispatches, submissions, copies and barriers so far, where a Vulkan layer writes them into the
/// file that `BENCH_VKCOUNT` names.
fn counts() -> Option<[u64; 4]> {
    let file = std::fs::read(std::env::var_os("BENCH_VKCOUNT")?).ok()?;
    let (words, _) = file.as_chunks::<8>();
    words.get(..4)?.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>().try_into().ok()
}

/// The most memory that the process held, where the system tells.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
