//! Random graphs of every primitive and dtype: the oracle and each device find the same.
//!
//! `SEED=7` replays one graph, `GRAPHS=100` says how many (from `SEED` on, when both are given).

use wgrad::compile::graph::Graph;
use wgrad::compile::plan::{Limits, Target};
use wgrad::compile::tiles::Tiles;
use wgrad::prelude::*;

use crate::compare::{How, Tally, disagreement};
use crate::devices::{devices_for_faults, plain_cpu};
use crate::generate::graph;

/// Graphs on the CPU when nobody says how many, and on a GPU, where each has shaders to compile.
const GRAPHS: [u64; 2] = [2000, 200];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(how: &How) {
    let first = number("SEED");
    let usual = if first.is_some() { 1 } else { GRAPHS[usize::from(how.shades())] };
    let count = number("GRAPHS").unwrap_or(usual);
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + count;
    if count == 1 {
        eprintln!("{}", Graph::flatten(&graph(seeds.start, &Device::cpu()).roots).0);
    }
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for seed in seeds {
        match disagreement(&format!("SEED={seed}"), how, &|device| graph(seed, device)) {
            Ok(found) => tally.add(found),
            Err(text) => {
                eprintln!("{text}");
                wrong.push(seed);
            }
        }
    }
    assert!(wrong.is_empty(), "graphs that disagree, by seed: {wrong:?}");
    eprintln!("{how}: {tally:?}");
    tally.check(&how.to_string());
}

#[test]
fn the_cpu_agrees_on_random_graphs() {
    run(&How::Realize(plain_cpu()));
}

#[test]
fn a_gpu_agrees_on_random_graphs() {
    let (devices, _turn) = devices_for_faults();
    devices.into_iter().skip(1).for_each(|device| run(&How::Realize(device)));
}

#[test]
fn the_cpu_runs_plans_for_a_gpu() {
    run(&How::Foreign(plain_cpu(), narrow(Target::Gpu).into()));
    run(&How::Foreign(plain_cpu(), narrow(Target::SoftwareGpu).into()));
}

#[test]
fn a_software_gpu_runs_plans_for_a_real_one() {
    let (devices, _turn) = devices_for_faults();
    devices.into_iter().skip(1).for_each(|device| run(&How::Foreign(device, narrow(Target::Gpu).into())));
}

/// The least a GPU may have, and bindings so short that most tensors need several.
fn narrow(target: Target) -> Limits {
    Limits {
        target,
        buffers_max: 7,
        binding_bytes_max: 16384,
        buffer_bytes_max: u64::MAX,
        invocations_max: 256,
        workgroup_bytes_max: 16384,
        groups_max: 65535,
        tiles: Tiles::of(target),
        cooperative: None,
        sort_block: 16,
        template_flops_min: u64::MAX,
        memory_bytes_max: u64::MAX,
    }
}
