//! Self-tests: a template of `shaders/` serves a device only after it computed there what its
//! definition says. Small integers make every sum exact, so that one wrong bit shows.
//!
//! One that fails is not used: invocations then share nothing of a product's operands, or leave the matrix
//! units alone, and attention is its formula; where no product works, that is an error.
//! Natively a device is tested when its first plan needs a template, and a device with a folder
//! remembers that it passed; in a browser, which cannot hold up a realise, before it is handed out.

use std::fmt::Write;

use crate::compile::compile;
use crate::compile::graph::Graph;
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::kernel::Kind;
use crate::compile::plan::{Limits, Plan};
use crate::compile::tiles::Tiles;
use crate::compile::wgsl;
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::wgsl::cooperative::{self, Cooperative};
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
pub fn test_now(device: &Device, plan: &Plan, limits: &Limits) -> Result<()> {
    let Some(gpu) = Gpu::of(device) else { return Ok(()) };
    let mut dots = plan.steps.iter().filter_map(|step| match &step.kernel.kind {
        Kind::Dot(dot) => Some((&step.kernel, dot)),
        _ => None,
    });
    if dots.clone().next().is_some() {
        pollster::block_on(device.self_test())?;
    }
    if dots.any(|(kernel, dot)| cooperative::cut(kernel, dot, limits).is_some()) && !Gpu::is_tried(device, COOPERATIVE)
    {
        if let Err(error) = try_cooperative(device, gpu) {
            refuted(error)?;
            gpu.set_cooperative(None);
            Gpu::forget_programs(device);
        }
        Gpu::set_tried(device, COOPERATIVE);
    }
    for step in &plan.steps {
        let Kind::Custom(spec) = &step.kernel.kind else { continue };
        // Nothing is locked meanwhile: a test runs plans, and threads that wait for them may run others.
        if let CustomShader::Template(Templated { template, .. }) = &spec.shader
            && !Gpu::is_tried(device, template.name)
        {
            pollster::block_on(try_template(device, gpu, template))?;
            Gpu::set_tried(device, template.name);
        }
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
    #[cfg(all(target_arch = "wasm32", feature = "all-kernels"))]
    if gpu.limits().template_flops_min < u64::MAX {
        for template in flash::TEMPLATES {
            try_template(device, gpu, template).await?;
        }
    }
    Gpu::set_tested(device);
    Ok(())
}

async fn products_work(device: &Device, gpu: &Gpu) -> Result<()> {
    let limits = Limits { cooperative: None, ..gpu.limits() };
    let plain: Make = |numbers, dims, device| Tensor::from_slice(numbers, dims, device);
    let dims = products(&limits.tiles).into_iter().enumerate();
    let trials: Vec<Trial> = dims.map(|(k, dims)| Trial::new(device, dims, [k % 2 == 1; 2], plain)).collect();
    work(device, gpu, &trials, &limits).await
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

/// The name under which matrix units are tried.
#[cfg(not(target_arch = "wasm32"))]
const COOPERATIVE: &str = "cooperative";

/// Whether products on matrix units come to what they should, by every cut that the device may serve
/// with: along long contractions, of operands that lie either way, with edges, and of the least f16
/// numbers.
#[cfg(not(target_arch = "wasm32"))]
fn try_cooperative(device: &Device, gpu: &Gpu) -> Result<()> {
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
