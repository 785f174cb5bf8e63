//! Self-tests: a template of `shaders/` serves a device only after it computed there what its
//! definition says. Small integers make every sum exact, so that one wrong bit shows.
//!
//! One that fails is not used: invocations then share nothing of a product's operands, or leave the matrix
//! units alone, and attention is its formula; where no product works, that is an error.
//! Natively that is when the first plan runs it, and a device with a folder remembers that it passed:
//! a product of some size is tried by the plan's own kernel, for a driver may take long to compile
//! another one, and compared with what the CPU makes of that; a template, or a product that the CPU
//! would take long for, by trials of a shape of their own. In a browser, which cannot hold up a
//! realise, all trials are made before a device is handed out.

use std::fmt::Write;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::Arc;

use crate::compile::compile;
use crate::compile::graph::Graph;
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::kernel::{Dot, Kind};
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::plan::Step;
use crate::compile::plan::{Limits, Plan};
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::tiles::Operand;
use crate::compile::tiles::{Tile, Tiles};
use crate::compile::wgsl;
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::wgsl::cooperative::{self, Cooperative};
#[cfg(not(target_arch = "wasm32"))]
use crate::device::alone;
use crate::device::gpu::Gpu;
use crate::device::realize;
#[cfg(not(target_arch = "wasm32"))]
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
#[cfg(any(not(target_arch = "wasm32"), feature = "all-kernels"))]
use crate::graph::op::Template;
#[cfg(not(target_arch = "wasm32"))]
use crate::graph::op::{CustomShader, Templated};
use crate::graph::tensor::Tensor;
#[cfg(all(target_arch = "wasm32", feature = "all-kernels"))]
use crate::ops::flash;

/// What is tried by itself, once a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Products too narrow for tiles.
    Narrow,
    /// Those of a tile.
    Tile(Tile),
    /// Those on matrix units.
    #[cfg(not(target_arch = "wasm32"))]
    Units,
    /// The template of this name, which has a definition.
    #[cfg(not(target_arch = "wasm32"))]
    Template(&'static str),
    /// Products of a tile, or narrow ones, that read their operands so, and which sizes are even there.
    #[cfg(not(target_arch = "wasm32"))]
    Alike(Option<Tile>, [Operand; 2], [bool; 3]),
}

/// Batch, rows, columns and depth of the products that `subjects` are tried with: narrow ones, and such
/// as take a tile, with edges that are whole fours and some that are not. Two for a tile that treats
/// operands differently as they lie, which it does on their way through workgroup memory.
fn products(subjects: &[Subject], tiles: &Tiles) -> Vec<[usize; 4]> {
    // A tile of 64 invocations takes twice as many workgroups.
    let batch = tiles.busy().div_ceil(2);
    let mut all = Vec::new();
    for subject in subjects {
        if let Subject::Tile(tile) = subject {
            let [m, n] = [2 * tile.rows(), 2 * tile.columns()];
            let k = 2 * tile.depth as usize + 9;
            all.push([batch, m - 3, n - 4, k]);
            if tile.depth > 0 {
                all.push([batch, m - 4, n - 3, k]);
            }
        } else {
            all.extend([[1, 1, 7, 130], [1, 65, 5, 3]]);
        }
    }
    all
}

/// All of the products' templates.
fn all(tiles: &Tiles) -> Vec<Subject> {
    std::iter::once(Subject::Narrow).chain(tiles.ladder().iter().map(|&tile| Subject::Tile(tile))).collect()
}

impl Device {
    /// Tries the hand-written shaders of products on this device, those that were not tried before.
    ///
    /// There is seldom a reason to call it: natively it happens when the first plan needs one, and
    /// in a browser before [`Device::gpu`] resolves. But a program that shares its own device with
    /// [`Device::from_wgpu`] in a browser awaits it once.
    pub async fn self_test(&self) -> Result<()> {
        let Some(gpu) = Gpu::of(self) else { return Ok(()) };
        while !products_serve(self, gpu, all(&gpu.limits().tiles)).await? {}
        #[cfg(all(target_arch = "wasm32", feature = "all-kernels"))]
        if gpu.limits().template_flops_min < u64::MAX {
            for template in flash::TEMPLATES {
                try_template(self, gpu, template).await?;
            }
        }
        Ok(())
    }
}

/// Tries what `plan` runs in the middle of a realise; what fails is not in the device's limits
/// afterwards.
#[cfg(not(target_arch = "wasm32"))]
pub fn test_now(device: &Device, plan: &Plan, limits: &Limits) -> Result<()> {
    let Some(gpu) = Gpu::of(device) else { return Ok(()) };
    // Nothing is locked meanwhile: a test runs plans, and threads that wait for them may run others.
    let mut products = Vec::new();
    let mut need = |subject| {
        if !products.contains(&subject) {
            products.push(subject);
        }
    };
    for step in &plan.steps {
        match &step.kernel.kind {
            Kind::Dot(d) if cooperative::cut(&step.kernel, d, limits).is_some() => {
                once(device, Subject::Units, || try_units(device, gpu))?
            }
            Kind::Dot(d) => {
                let tile = wgsl::tile(&step.kernel, d, limits);
                // A search compared any other tile with one of these.
                if tile.is_none_or(|tile| limits.tiles.ladder().contains(&tile)) {
                    let subject = tile.map_or(Subject::Narrow, Subject::Tile);
                    if !Gpu::is_tried(device, subject) && !serves(device, gpu, (plan, step, d), tile, limits)? {
                        need(subject);
                    }
                }
            }
            Kind::Custom(spec) => {
                if let CustomShader::Template(Templated { template, .. }) = &spec.shader {
                    once(device, Subject::Template(template.name), || {
                        pollster::block_on(try_template(device, gpu, template))
                    })?;
                }
            }
            _ => {}
        }
    }
    // Where they do not, the caller finds other limits, and comes back with another plan.
    pollster::block_on(products_serve(device, gpu, products)).map(drop)
}

/// Whether the product `d`, which is a step of a plan, serves: one like it did, or it does by itself.
/// If not, that says nothing yet: the CPU may be too slow to ask, or what is around it may round.
#[cfg(not(target_arch = "wasm32"))]
fn serves(
    device: &Device,
    gpu: &Arc<Gpu>,
    (plan, step, d): (&Plan, &Step, &Dot),
    tile: Option<Tile>,
    limits: &Limits,
) -> Result<bool> {
    let even = match tile {
        Some(tile) => [d.m % tile.rows() == 0, d.n % tile.columns() == 0, d.k.is_multiple_of(8)],
        None => [d.m == 1, d.n == 1, d.k.is_multiple_of(8)],
    };
    let subject = Subject::Alike(tile, wgsl::product_of(&step.kernel, d).operands, even);
    if Gpu::is_tried(device, subject) {
        return Ok(true);
    }
    match alone::serves(gpu, plan, step, limits) {
        Ok(true) => Gpu::set_tried(device, subject),
        Err(error) if error.kind() == ErrorKind::Lost => return Err(error),
        Ok(false) | Err(_) => return Ok(false),
    }
    Ok(true)
}

/// Does what tries `subject`, unless that was done.
#[cfg(not(target_arch = "wasm32"))]
fn once(device: &Device, subject: Subject, attempt: impl FnOnce() -> Result<()>) -> Result<()> {
    if !Gpu::is_tried(device, subject) {
        attempt()?;
        Gpu::set_tried(device, subject);
    }
    Ok(())
}

/// In a browser, everything was tried before.
#[cfg(target_arch = "wasm32")]
pub fn test_now(_: &Device, _: &Plan, _: &Limits) -> Result<()> {
    Ok(())
}

/// Lets an error pass that says what a shader is worth; any other comes back.
fn refuted(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Verify | ErrorKind::Shader => Ok(()),
        _ => Err(error),
    }
}

/// Tries a template with a definition; if it fails, the definitions serve from now on.
#[cfg(any(not(target_arch = "wasm32"), feature = "all-kernels"))]
async fn try_template(device: &Device, gpu: &Gpu, template: &Template) -> Result<()> {
    if let Err(error) = template_works(device, gpu, template).await {
        refuted(error)?;
        gpu.set_template_flops_min(u64::MAX);
        Gpu::forget_programs(device);
    }
    Ok(())
}

/// Whether a template with a definition computes what that gives on the CPU.
#[cfg(any(not(target_arch = "wasm32"), feature = "all-kernels"))]
async fn template_works(device: &Device, gpu: &Gpu, template: &Template) -> Result<()> {
    let roots = |device: &Device| -> Vec<Tensor> {
        let results = (template.trial)(device);
        let with_gradients = |(y, operands): (Tensor, Vec<Tensor>)| {
            let dxs = y.vjp(&y.detach(), &operands.iter().collect::<Vec<_>>());
            std::iter::once(y).chain(dxs)
        };
        results.into_iter().flat_map(with_gradients).collect()
    };
    let tried = roots(device);
    let limits = Limits { template_flops_min: 0, cooperative: None, ..gpu.limits() };
    let texts = texts(&tried, &limits, gpu.is_checked());
    if gpu.remembers(&texts) {
        return Ok(());
    }
    realize::try_out(device, &tried, &limits)?;
    for (y, want) in tried.iter().zip(roots(&Device::cpu())) {
        let (got, want) = (y.read::<f32>().await?, want.read::<f32>().await?);
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

/// A tensor of these numbers.
type Make = fn(&[f32], [usize; 3], &Device) -> Tensor;

impl Trial {
    /// Rows times columns; an operand that is `turned` lies in memory with its axes exchanged.
    fn new(device: &Device, [batch, m, n, k]: [usize; 4], turned: [bool; 2], make: Make) -> Trial {
        let small = |i: usize| (i * 7 % 11) as f32 - 5.0;
        let lhs: Vec<f32> = (0..batch * m * k).map(small).collect();
        let rhs: Vec<f32> = (0..k * n).map(|i| small(i + 3)).collect();
        let laid = |numbers: &[f32], batch, [rows, columns]: [usize; 2], turned| match turned {
            true => make(numbers, [batch, columns, rows], device).transpose(1, 2),
            false => make(numbers, [batch, rows, columns], device),
        };
        let columns = laid(&rhs, 1, [k, n], turned[1]).expand([batch, k, n]);
        let y = laid(&lhs, batch, [m, k], turned[0]).matmul(&columns);
        let left = |row: usize, l: usize| if turned[0] { row / m * m * k + l * m + row % m } else { row * k + l };
        let right = |l: usize, j: usize| if turned[1] { j * k + l } else { l * n + j };
        let sum = |at: usize| (0..k).map(|l| lhs[left(at / n, l)] * rhs[right(l, at % n)]).sum();
        Trial { y, depth: k, want: (0..batch * m * n).map(sum).collect() }
    }
}

/// Whether products serve, tried or known to; where those whose invocations share what they load do
/// not, the device does without them, and what it does instead is still to be tried.
async fn products_serve(device: &Device, gpu: &Gpu, subjects: Vec<Subject>) -> Result<bool> {
    #[cfg(not(target_arch = "wasm32"))]
    let subjects: Vec<Subject> = subjects.into_iter().filter(|&subject| !Gpu::is_tried(device, subject)).collect();
    #[cfg(not(target_arch = "wasm32"))]
    if subjects.is_empty() {
        return Ok(true);
    }
    let limits = Limits { cooperative: None, ..gpu.limits() };
    let plain: Make = |numbers, dims, device| Tensor::from_slice(numbers, dims, device);
    let dims = products(&subjects, &limits.tiles).into_iter().enumerate();
    // Every other one is of turned operands.
    let trials: Vec<Trial> = dims.map(|(k, dims)| Trial::new(device, dims, [k % 2 == 1; 2], plain)).collect();
    let outcome = work(device, gpu, &trials, &limits).await;
    if outcome.is_err() && limits.tiles.ladder().iter().any(|tile| !tile.is_alone()) {
        outcome.or_else(refuted)?;
        gpu.share_nothing();
        Gpu::forget_programs(device);
        return Ok(false);
    }
    outcome?;
    #[cfg(not(target_arch = "wasm32"))]
    subjects.into_iter().for_each(|subject| Gpu::set_tried(device, subject));
    Ok(true)
}

/// Whether products come to what they should within `limits`.
async fn work(device: &Device, gpu: &Gpu, trials: &[Trial], limits: &Limits) -> Result<()> {
    let roots: Vec<Tensor> = trials.iter().map(|trial| trial.y.clone()).collect();
    let texts = texts(&roots, limits, gpu.is_checked());
    if !gpu.remembers(&texts) {
        realize::try_out(device, &roots, limits)?;
        for trial in trials {
            let got = trial.y.read::<f32>().await?;
            if let Some(at) = got.iter().zip(&trial.want).position(|(got, want)| got != want) {
                let (got, want, depth) = (f64::from(got[at]), f64::from(trial.want[at]), trial.depth);
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

/// Tries the matrix units; if they fail, products are computed without them.
#[cfg(not(target_arch = "wasm32"))]
fn try_units(device: &Device, gpu: &Gpu) -> Result<()> {
    if let Err(error) = units_work(device, gpu) {
        refuted(error)?;
        gpu.set_cooperative(None);
        Gpu::forget_programs(device);
    }
    Ok(())
}

/// Whether products on matrix units come to what they should, by every cut that the device may serve
/// with: along long contractions, of operands that lie either way, with edges, and of the least f16
/// numbers.
#[cfg(not(target_arch = "wasm32"))]
fn units_work(device: &Device, gpu: &Gpu) -> Result<()> {
    let present = gpu.limits();
    let Some(units) = present.cooperative else { return Ok(()) };
    let halves: Make = |numbers, dims, device| {
        let numbers: Vec<half::f16> = numbers.iter().map(|&x| half::f16::from_f32(x)).collect();
        Tensor::from_slice(&numbers, dims, device).cast(DType::F32)
    };
    // What is subnormal comes back to size when all is added up.
    let least: Make = |numbers, dims, device| {
        let numbers: Vec<half::f16> = numbers.iter().map(|&x| half::f16::from_f32(x / 16_777_216.0)).collect();
        Tensor::from_slice(&numbers, dims, device).cast(DType::F32)
    };
    let plain: Make = |numbers, dims, device| Tensor::from_slice(numbers, dims, device);
    let dtypes = [Some(DType::F16), units.f32.then_some(DType::F32)];
    for elem in dtypes.into_iter().flatten() {
        for cut in units.cuts(elem, &present) {
            let e = cut.edge as usize;
            // One workgroup is enough here.
            let cooperative = Some(Cooperative { edge_max: cut.edge, least: 1, ..units });
            let limits = Limits { cooperative, tiles: Tiles::SOFTWARE, ..present.clone() };
            let make = if elem == DType::F16 { halves } else { plain };
            let mut trials = vec![
                Trial::new(device, [2, e + 3, e + 5, 77], [false, false], make),
                Trial::new(device, [1, e - 2, 2 * e + 6, 1040], [false, true], make),
                Trial::new(device, [1, e + 6, e - 4, 98], [true, false], make),
                Trial::new(device, [1, 2 * e, e, 64], [true, true], make),
            ];
            if elem == DType::F16 {
                let mut small = Trial::new(device, [1, 8, 32, 40], [false, false], least);
                small.y = small.y * 281_474_976_710_656.0;
                trials.push(small);
            }
            pollster::block_on(work(device, gpu, &trials, &limits))?;
        }
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
