//! The compiler: a graph in, a [`plan::Plan`] out; pure, with limits coming in as data.
//!
//! The passes, in order: *flatten* ([`graph`]), *simplify*, *schedule* ([`parts`], then
//! [`schedule`]), *lower* (with [`express`] and [`index`], then [`sums`]), *group* ([`waves`]),
//! *memory* (with [`overwrite`]). [`tiles`] says how a GPU's products are cut. Shader text is made from a kernel by [`wgsl`] when a GPU needs it. No pass knows a
//! device or does I/O.

pub mod express;
pub mod graph;
pub mod index;
pub mod kernel;
pub mod lower;
pub mod memory;
pub mod overwrite;
pub mod parts;
pub mod plan;
pub mod print;
pub mod schedule;
pub mod shader;
pub mod simplify;
pub mod sums;
pub mod tiles;
pub mod waves;
pub mod wgsl;

use graph::Graph;
use plan::{Limits, Plan};

/// The plan that computes the roots of `graph` within `limits`.
pub fn compile(graph: &Graph, limits: &Limits) -> Plan {
    let simple = simplify::simplify(graph, limits);
    let lowered = |careful| {
        let mut kernels = lower::lower(&simple, &schedule::schedule(&simple, limits, careful), limits);
        sums::merge(&mut kernels, limits);
        kernels
    };
    let kernels = lowered(false);
    let fits = kernels.kernels.iter().all(|kernel| schedule::bindings(kernel, limits) <= limits.buffers_max);
    let kernels = if fits { kernels } else { lowered(true) };
    let grouped = waves::are_made(limits).then(|| kernels.clone());
    let in_turn = memory::assign(&simple, kernels, &[], &graph.dying, limits);
    let Some(mut kernels) = grouped else { return in_turn };
    let waves = waves::group(&mut kernels.kernels);
    let plan = memory::assign(&simple, kernels, &waves, &graph.dying, limits);
    if plan.peak_bytes > in_turn.peak_bytes.saturating_add(waves::MORE_BYTES_MAX) { in_turn } else { plan }
}
