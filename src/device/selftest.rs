//! Self-tests: a template of `shaders/` serves a device only after it computed there what its
//! definition says. Small integers make every sum exact, so that one wrong bit shows.
//!
//! One that fails is not used: invocations then share nothing of a product's operands, and attention is
//! its formula; where no product works, that is an error.
//! Natively a device is tested when its first plan needs a template, and a device with a folder
//! remembers that it passed; in a browser it is tested before it is handed out.

use std::fmt::Write;

use crate::compile::compile;
use crate::compile::graph::Graph;
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::kernel::Kind;
use crate::compile::plan::{Limits, Plan};
use crate::compile::tiles::Tiles;
use crate::compile::wgsl;
use crate::device::gpu::Gpu;
use crate::device::realize;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
#[cfg(not(target_arch = "wasm32"))]
use crate::graph::op::{CustomShader, Template, Templated};
use crate::graph::tensor::Tensor;

/// Batch, rows, columns and depth of products too narrow for tiles.
const NARROW: [[usize; 4]; 2] = [[1, 1, 7, 130], [1, 65, 5, 3]];

/// The products that are tried: narrow ones, and for each tile of the device two that take it, with
/// edges that are whole fours and some that are not; every other one is of turned operands.
fn products(tiles: &Tiles) -> Vec<[usize; 4]> {
    let batch = tiles.busy().div_ceil(4);
    let mut all = NARROW.to_vec();
    for tile in tiles.ladder() {
        let k = 2 * tile.depth as usize + 9;
        all.extend([4, 3].map(|rest| [batch, tile.rows() + rest, tile.columns() + rest, k]));
    }
    all
}

impl Device {
    /// Tries the hand-written shaders of products on this device, unless that was done before.
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

/// Tries what `plan` runs in the middle of a realise; what fails is not in the device's limits
/// afterwards.
#[cfg(not(target_arch = "wasm32"))]
pub fn test_now(device: &Device, plan: &Plan) -> Result<()> {
    let Some(gpu) = Gpu::of(device) else { return Ok(()) };
    if plan.steps.iter().any(|step| matches!(step.kernel.kind, Kind::Dot(_))) {
        pollster::block_on(device.self_test())?;
    }
    for step in &plan.steps {
        let Kind::Custom(spec) = &step.kernel.kind else { continue };
        // Nothing is locked meanwhile: a test runs plans, and threads that wait for them may run others.
        if let CustomShader::Template(Templated { template, .. }) = &spec.shader
            && !Gpu::is_tried(device, template.name)
        {
            if let Err(error) = try_template(device, gpu, template) {
                refuted(error)?;
                gpu.set_template_flops_min(u64::MAX);
                Gpu::forget_programs(device);
            }
            Gpu::set_tried(device, template.name);
        }
    }
    Ok(())
}

/// A browser cannot hold up a realise, and its plans have no templates with definitions.
#[cfg(target_arch = "wasm32")]
pub fn test_now(_: &Device, _: &Plan) -> Result<()> {
    Ok(())
}

/// Lets an error pass that says what a shader is worth; any other comes back.
fn refuted(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Verify | ErrorKind::Shader => Ok(()),
        _ => Err(error),
    }
}

/// Whether a template with a definition computes what that gives on the CPU.
#[cfg(not(target_arch = "wasm32"))]
fn try_template(device: &Device, gpu: &Gpu, template: &Template) -> Result<()> {
    let roots = |device: &Device| -> Vec<Tensor> {
        let results = (template.trial)(device);
        let with_gradients = |(y, operands): (Tensor, Vec<Tensor>)| {
            let dxs = y.vjp(&y.detach(), &operands.iter().collect::<Vec<_>>());
            std::iter::once(y).chain(dxs)
        };
        results.into_iter().flat_map(with_gradients).collect()
    };
    let tried = roots(device);
    let texts = texts(&tried, &Limits { template_flops_min: 0, ..gpu.limits() }, gpu.is_checked());
    if gpu.remembers(&texts) {
        return Ok(());
    }
    realize::try_out(device, &tried)?;
    for (y, want) in tried.iter().zip(roots(&Device::cpu())) {
        let (got, want) = (y.to_vec::<f32>()?, want.to_vec::<f32>()?);
        // Written so that a NaN is wrong, too.
        let close = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-3 * want.abs().max(1.0);
        if let Some(at) = got.iter().zip(&want).position(|pair| !close(pair)) {
            let (name, got, want) = (template.name, got[at], want[at]);
            let fact = format!("the {name} template gives {got} for {want} at {at} of {}, on {device}", y.shape());
            return Err(Error::new(ErrorKind::Verify, name, fact));
        }
    }
    gpu.remember(&texts);
    Ok(())
}

/// A product and what it should come to.
struct Trial {
    y: Tensor,
    depth: usize,
    want: Vec<f32>,
}

impl Trial {
    /// Rows times columns; `turned`, both lie in memory with their axes exchanged.
    fn new(device: &Device, [batch, m, n, k]: [usize; 4], turned: bool) -> Trial {
        let small = |i: usize| (i * 7 % 11) as f32 - 5.0;
        let lhs: Vec<f32> = (0..batch * m * k).map(small).collect();
        let rhs: Vec<f32> = (0..k * n).map(|i| small(i + 3)).collect();
        let laid = |numbers: &[f32], batch, [rows, columns]: [usize; 2]| match turned {
            true => Tensor::from_slice(numbers, [batch, columns, rows], device).transpose(1, 2),
            false => Tensor::from_slice(numbers, [batch, rows, columns], device),
        };
        let y = laid(&lhs, batch, [m, k]).matmul(&laid(&rhs, 1, [k, n]).expand([batch, k, n]));
        let left = |row: usize, l: usize| if turned { row / m * m * k + l * m + row % m } else { row * k + l };
        let right = |l: usize, j: usize| if turned { j * k + l } else { l * n + j };
        let sum = |at: usize| (0..k).map(|l| lhs[left(at / n, l)] * rhs[right(l, at % n)]).sum();
        Trial { y, depth: k, want: (0..batch * m * n).map(sum).collect() }
    }
}

/// Tries the templates of products; where those whose invocations share what they load fail, the
/// device does without them.
async fn test(device: &Device, gpu: &Gpu) -> Result<()> {
    let mut outcome = products_work(device, gpu).await;
    if outcome.is_err() && gpu.limits().tiles.ladder().iter().any(|tile| !tile.is_alone()) {
        outcome.or_else(refuted)?;
        gpu.share_nothing();
        Gpu::forget_programs(device);
        outcome = products_work(device, gpu).await;
    }
    outcome?;
    Gpu::set_tested(device);
    Ok(())
}

async fn products_work(device: &Device, gpu: &Gpu) -> Result<()> {
    let limits = gpu.limits();
    let dims = products(&limits.tiles).into_iter().enumerate();
    let trials: Vec<Trial> = dims.map(|(k, dims)| Trial::new(device, dims, k % 2 == 1)).collect();
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
