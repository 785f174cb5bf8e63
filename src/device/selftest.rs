//! Self-tests: a template of `shaders/` serves a device only after it computed there what its
//! definition says. Small integers make every sum exact, so that one wrong bit shows.
//!
//! Natively a device is tested when its first plan needs a template, and a device with a folder
//! remembers that it passed; in a browser it is tested before it is handed out.

use std::fmt::Write;

use crate::compile::compile;
use crate::compile::graph::Graph;
use crate::compile::kernel::Kind;
use crate::compile::plan::{Limits, Plan};
use crate::compile::tiles::Tiles;
use crate::compile::wgsl;
use crate::device::gpu::Gpu;
use crate::device::realize;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;

/// Batch, rows, columns and depth of products too narrow for tiles.
const NARROW: [[usize; 4]; 2] = [[1, 1, 7, 130], [1, 65, 5, 3]];

/// The products that are tried: narrow ones, and for each tile of the device one that takes it, with
/// edges that are whole fours and some that are not.
fn products(tiles: &Tiles) -> Vec<[usize; 4]> {
    let batch = tiles.busy().div_ceil(4);
    let mut all = NARROW.to_vec();
    for tile in tiles.ladder() {
        let k = 2 * tile.depth as usize + 9;
        all.extend([4, 3].map(|rest| [batch, tile.rows() + rest, tile.columns() + rest, k]));
    }
    all
}

/// Whether `plan` runs a template.
pub fn concerns(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step.kernel.kind, Kind::Dot(_)))
}

impl Device {
    /// Tries the hand-written shaders on this device, unless that was done before.
    ///
    /// There is seldom a reason to call it: natively it happens when the first plan needs one, and
    /// in a browser before [`Device::gpu`] resolves. But a program that shares its own device with
    /// [`Device::from_wgpu`] in a browser awaits it once.
    pub async fn self_test(&self) -> Result<()> {
        match Gpu::of(self) {
            Some(gpu) if !Gpu::is_tested(self) => test(self, gpu).await,
            _ => Ok(()),
        }
    }
}

/// [`Device::self_test`] in the middle of a realise, which a browser cannot hold up.
#[cfg(not(target_arch = "wasm32"))]
pub fn test_now(device: &Device) -> Result<()> {
    pollster::block_on(device.self_test())
}

#[cfg(target_arch = "wasm32")]
pub fn test_now(_: &Device) -> Result<()> {
    Ok(())
}

/// A product and what it should come to.
struct Trial {
    y: Tensor,
    depth: usize,
    want: Vec<f32>,
}

impl Trial {
    fn new(device: &Device, [batch, m, n, k]: [usize; 4]) -> Trial {
        let small = |i: usize| (i * 7 % 11) as f32 - 5.0;
        let lhs: Vec<f32> = (0..batch * m * k).map(small).collect();
        let rhs: Vec<f32> = (0..k * n).map(|i| small(i + 3)).collect();
        let rows = Tensor::from_slice(&lhs, [batch, m, k], device);
        let columns = Tensor::from_slice(&rhs, [1, k, n], device).expand([batch, k, n]);
        let sum = |at: usize| (0..k).map(|l| lhs[at / n * k + l] * rhs[l * n + at % n]).sum();
        Trial { y: rows.matmul(&columns), depth: k, want: (0..batch * m * n).map(sum).collect() }
    }
}

async fn test(device: &Device, gpu: &Gpu) -> Result<()> {
    let limits = gpu.limits();
    let trials: Vec<Trial> = products(&limits.tiles).into_iter().map(|dims| Trial::new(device, dims)).collect();
    let roots: Vec<Tensor> = trials.iter().map(|trial| trial.y.clone()).collect();
    let texts = texts(&roots, &limits, gpu.is_checked());
    if !gpu.remembers(&texts) {
        realize::try_out(device, &roots)?;
        for trial in &trials {
            let got = trial.y.read::<f32>().await?;
            if let Some(at) = got.iter().zip(&trial.want).position(|(got, want)| got != want) {
                let (got, want, depth) = (got[at], trial.want[at], trial.depth);
                let fact = format!(
                    "the product template gives {got} for {want} at {at} of {}, depth {depth}, on {device}",
                    trial.y.shape()
                );
                return Err(Error::new(ErrorKind::Verify, "matmul", fact));
            }
        }
        gpu.remember(&texts);
    }
    Gpu::set_tested(device);
    Ok(())
}

/// The shaders that a device with these limits is tested with.
fn texts(roots: &[Tensor], limits: &Limits, checked: bool) -> String {
    let (graph, _) = Graph::flatten(roots);
    let mut texts = if checked { "checked\n".to_string() } else { String::new() };
    for step in &compile(&graph, limits).steps {
        // Writing into a string does not fail.
        let _ = writeln!(texts, "{}", wgsl::emit(&step.kernel, limits).text);
    }
    texts
}
