//! Waves: the kernels of one need nothing of each other, so they may run in any order and wait once.

use std::collections::BTreeSet;

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::kernel::{Access, Buffer};
use wgrad::compile::plan::{Home, Limits, Plan, Target};
use wgrad::compile::tiles::Tiles;
use wgrad::compile::waves::waits;
use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::{gpu, own_gpu, plain_cpu};
use crate::support::random;
use crate::wgsl::limits;

fn large() -> Limits {
    Limits { tiles: Tiles::DISCRETE, ..limits(Target::Gpu) }
}

/// A network of `depth` layers: its loss, and all gradients in one piece of memory.
fn network(device: &Device, depth: usize) -> Case {
    let on = |dims: &[usize]| random(dims).to_device(device);
    let x = on(&[768, 64]);
    let weights: Vec<[Tensor; 2]> =
        (0..depth).map(|_| [(on(&[64, 64]) * 0.2).tracked(), on(&[64]).tracked()]).collect();
    let layer = |h: &Tensor, [w, b]: &[Tensor; 2]| (h.matmul(w) + b).layer_norm([-1], None, None, 1e-5).gelu() + h;
    let y = weights.iter().fold(x.clone(), |h, weights| layer(&h, weights));
    let loss = (&y * &y).mean([0, 1]);
    let all: Vec<&Tensor> = weights.iter().flatten().collect();
    let flat: Vec<Tensor> = loss.grad(&all).iter().map(|g| g.reshape([-1])).collect();
    let slab = Tensor::cat(&flat.iter().collect::<Vec<_>>(), 0);
    Case::new(vec![loss, slab], vec![x])
}

fn plan(case: &Case, limits: &Limits) -> Plan {
    compile(&Graph::flatten(&case.roots).0, limits)
}

/// What a device tells apart: an allocation, a leaf or an output.
fn memory(plan: &Plan, buffer: &Buffer) -> String {
    match plan.slots[buffer.slot].home {
        home @ (Home::Temp(_) | Home::Leaf(_)) => format!("{home:?}"),
        home => format!("{home:?} {}", buffer.slot),
    }
}

#[test]
fn kernels_of_a_wave_need_nothing_of_each_other() {
    let plan = plan(&network(&Device::cpu(), 3), &large());
    let waves = plan.steps.last().unwrap().wave + 1;
    assert!(plan.steps.is_sorted_by_key(|step| step.wave));
    assert!(waves * 5 < plan.steps.len() * 4, "{waves} waves of {} steps", plan.steps.len());
    let mut before: BTreeSet<String> = BTreeSet::new();
    for wave in plan.steps.chunk_by(|a, b| a.wave == b.wave) {
        let mut all: BTreeSet<String> = BTreeSet::new();
        let mut written: BTreeSet<String> = BTreeSet::new();
        for (n, step) in wave.iter().enumerate() {
            let name = &step.kernel.name;
            for buffer in &step.kernel.buffers {
                let memory = memory(&plan, buffer);
                assert!(!written.contains(&memory), "{name} needs {memory}, which its wave writes");
                if buffer.access != Access::Read {
                    assert!(!all.contains(&memory), "{name} writes {memory}, which its wave reads");
                    assert!(n == 0 || !before.contains(&memory), "{name} waits for {memory} in the midst of its wave");
                }
            }
            let memories = |results: bool| {
                let chosen = step.kernel.buffers.iter().filter(move |b| !results || b.access != Access::Read);
                chosen.map(|buffer| memory(&plan, buffer))
            };
            all.extend(memories(false));
            written.extend(memories(true));
        }
        before.append(&mut all);
    }
}

/// What several kernels of a wave read of what was written before it is waited for at its start.
#[test]
fn a_wave_waits_once() {
    let plan = plan(&network(&Device::cpu(), 3), &large());
    let waits = waits(&plan);
    let mut ready: BTreeSet<String> = BTreeSet::new();
    let mut asked = 0;
    let mut at = 0;
    for wave in plan.steps.chunk_by(|a, b| a.wave == b.wave) {
        for (n, step) in wave.iter().enumerate() {
            asked += waits[at + n].len();
            assert!(n == 0 || waits[at + n].is_empty());
            let read = step.kernel.buffers.iter().filter(|b| b.access == Access::Read);
            let waited = waits[at].iter().map(|&slot| Buffer { slot, ..step.kernel.buffers[0].clone() });
            ready.extend(waited.map(|buffer| memory(&plan, &buffer)));
            for memory in read.map(|buffer| memory(&plan, buffer)) {
                let fresh = matches!(memory.split('(').next(), Some("Leaf")) || ready.contains(&memory);
                assert!(n == 0 || fresh, "{} waits for {memory} in the midst of its wave", step.kernel.name);
                ready.insert(memory);
            }
        }
        for buffer in wave.iter().flat_map(|step| &step.kernel.buffers).filter(|b| b.access != Access::Read) {
            ready.remove(&memory(&plan, buffer));
        }
        at += wave.len();
    }
    assert!(asked > 0);
}

#[test]
fn waves_need_no_memory_that_is_scarce() {
    let case = network(&Device::cpu(), 3);
    let with = plan(&case, &large());
    let without = plan(&case, &Limits { memory_bytes_max: 1 << 40, ..large() });
    assert!(without.peak_bytes < with.peak_bytes, "{} of {}", without.peak_bytes, with.peak_bytes);
    assert_eq!(without.steps.last().unwrap().wave + 1, without.steps.len());
    assert_eq!(without.steps.len(), with.steps.len());
    // A hundred chains whose first steps would all be one wave.
    let on = |dims: &[usize]| random(dims);
    let (a, b) = (on(&[8, 1024]), on(&[1024, 8]));
    let chains: Vec<Tensor> = (0..100).map(|k| on(&[512, 8]) + k as f32).map(|x| x.matmul(&a).matmul(&b)).collect();
    let chains = plan(&Case::new(chains, vec![]), &large());
    assert_eq!(chains.steps.last().unwrap().wave + 1, chains.steps.len());
    assert!(chains.peak_bytes < 20 << 20, "{} bytes", chains.peak_bytes);
}

#[test]
fn waves_mean_what_their_kernels_mean_in_turn() {
    for device in [Some(plain_cpu()), gpu()].into_iter().flatten() {
        for depth in [1, 3] {
            let how = How::Foreign(device.clone(), large().into());
            agree("waves", &how, &|device| network(device, depth));
        }
    }
}

/// The transpose of a product that is cut into parts is the product of the transposes, cut.
#[test]
fn gradients_of_weights_are_stored_where_they_belong() {
    let device = Device::cpu();
    let (x, dy) = (random(&[2048, 32]).to_device(&device), random(&[2048, 48]).to_device(&device));
    let roots = vec![x.transpose(0, 1).matmul(&dy).transpose(0, 1)];
    let plan = compile(&Graph::flatten(&roots).0, &large());
    let names: Vec<&str> = plan.steps.iter().map(|step| step.kernel.name.as_str()).collect();
    assert_eq!(names, ["dot", "sum+reshape"]);
}

/// An update that no index out of range can spoil waits for those that one can, and writes in place.
#[test]
fn updates_stay_behind_what_may_raise_a_fault() {
    let device = Device::cpu();
    let on = |dims: &[usize]| random(dims).to_device(&device).tracked();
    let (table, slab) = (on(&[50, 8]), on(&[72]));
    let (w, b) = (slab.narrow(0, 0, 64).reshape([8, 8]), slab.narrow(0, 64, 8));
    let ids = Tensor::from_vec((0..64).map(|k| k % 50).collect::<Vec<i32>>(), [64], &device);
    let loss = (table.index_select(0, &ids).matmul(&w) + b).tanh().sum(..);
    let grads = loss.grad(&[&table, &slab]);
    let roots: Vec<Tensor> = [&table, &slab].into_iter().zip(&grads).map(|(x, g)| x.detach() - g * 0.1).collect();
    let (mut graph, bindings) = Graph::flatten(&roots);
    graph.let_die(&bindings, |leaf| leaf.dtype() == DType::F32);
    for limits in [large(), Limits { memory_bytes_max: 1, ..large() }] {
        let plan = compile(&graph, &limits);
        assert_eq!(plan.overwritten.len(), 2, "{plan}");
    }
}

/// Waves need memory that a limit may forbid: what was compiled without it is not run under it.
#[test]
fn a_memory_limit_makes_plans_anew() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let x = Tensor::new([1.0, 2.0], &device);
    let made = |limit: Option<u64>| {
        device.set_memory_limit(limit);
        let before = device.plans_made();
        (&x * 2.0).realize().unwrap();
        device.plans_made() - before
    };
    let limits = [None, None, Some(1 << 20), Some(1 << 21), None];
    assert_eq!(limits.map(made), [1, 0, 1, 0, 1]);
}
