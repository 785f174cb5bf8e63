//! Products on matrix units: which are computed there, that every text is sound, that they come to what
//! the oracle says, and that a device whose units fail goes on without them.
//!
//! A GPU that has the units of a case computes it on them (of software, the lavapipe of Mesa 26.2 has
//! some). On any other the few operations on matrices are replaced by loops over the same workgroup
//! memory, and all the rest of the template runs as it is.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::{Limits, Target};
use wgrad::compile::tiles::Tiles;
use wgrad::compile::wgsl::cooperative::{Cooperative, ENABLES};
use wgrad::compile::wgsl::emit;
use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::plain_cpu;
use crate::support::random as uniform;
use crate::wgsl::{judge_within, limits};

/// Units as some GPUs have them: the side of their matrices, and the largest subgroup.
const UNITS: [(u32, u32); 4] = [(16, 32), (16, 64), (8, 32), (8, 8)];

fn within(units: Cooperative) -> Limits {
    Limits {
        cooperative: Some(units),
        // Any number of workgroups keeps it busy.
        tiles: Tiles::SOFTWARE,
        workgroup_bytes_max: 48 << 10,
        ..limits(Target::Gpu)
    }
}

/// Limits for each form that a product may take on some units, down to the smallest shapes.
fn forms() -> Vec<(String, Limits)> {
    let mut all = Vec::new();
    for (side, subgroup) in UNITS {
        for edge_max in [64, 128] {
            let units = Cooperative { least: 1, edge_max, ..Cooperative::new(side, subgroup) };
            let within = within(units);
            if units.cuts(DType::F16, &within).any(|cut| cut.edge == edge_max) {
                all.push((format!("{side} by {side}, {subgroup} lanes, {edge_max} rows"), within));
            }
        }
    }
    assert_eq!(all.len(), 7);
    all
}

/// Shaders for the roots on units.
fn texts(roots: &[Tensor], limits: &Limits) -> Vec<String> {
    let plan = compile(&Graph::flatten(roots).0, limits);
    let texts = plan.steps.iter().map(|step| emit(&step.kernel, limits).text);
    texts.filter(|text| text.starts_with(ENABLES)).collect()
}

/// f16 numbers on a device.
fn halves(dims: &[usize], device: &Device) -> Tensor {
    let x = uniform(dims).cast(DType::F16);
    x.realize().unwrap();
    x.to_device(device)
}

/// All that [`products`] gives.
const ALL: [usize; 5] = [0, 1, 2, 3, 4];

/// Products of f16 in every layout, with all that may be computed beside them; `which` of them.
fn products(device: &Device, [b, m, n, k]: [usize; 4], which: &[usize]) -> Case {
    let on = |dims: &[usize]| halves(dims, device);
    let (x, w) = (on(&[b, m, k]), on(&[b, k, n]));
    let (xt, wt) = (on(&[b, k, m]), on(&[b, n, k]));
    let row = uniform(&[n]).to_device(device);
    let whole = uniform(&[b, m, n]).to_device(device);
    let wide = |x: &Tensor| x.cast(DType::F32);
    let roots = [
        x.matmul(&w),
        (wide(&x).matmul(&wide(&wt).transpose(1, 2)) + &row).relu(),
        wide(&xt).transpose(1, 2).matmul(&wide(&w)).gelu() + &whole,
        // Cast on the way in, and what is cast is computed there.
        (whole.transpose(1, 2) * 0.5).cast(DType::F16).matmul(&xt.transpose(1, 2)),
        xt.transpose(1, 2).matmul(&wt.transpose(1, 2)),
    ];
    Case::new(which.iter().map(|&n| roots[n].clone()).collect(), vec![x, w, xt, wt, row, whole])
}

#[test]
fn every_text_is_sound() {
    for (name, limits) in forms() {
        for dims in [[1, 64, 64, 64], [2, 130, 70, 33], [3, 17, 15, 7]] {
            let roots = products(&Device::cpu(), dims, &ALL).roots;
            assert_eq!(texts(&roots, &limits).len(), roots.len(), "{name}: {dims:?}");
            judge_within(&name, &roots, &limits);
        }
        let [image, kernel] = [[2, 4, 9, 8], [40, 4, 3, 3]].map(|dims| halves(&dims, &Device::cpu()));
        let y = image.conv2d(&kernel, None, ConvOptions::default().padding([1, 1])).relu();
        assert_eq!(texts(std::slice::from_ref(&y), &limits).len(), 1);
        judge_within(&name, &[y], &limits);
    }
}

#[test]
fn every_form_agrees_on_awkward_shapes() {
    for (name, limits) in forms() {
        let edge = limits.cooperative.map_or(0, |units| units.edge_max as usize);
        // Words that lie in memory as they are needed, and words that are put together; not more than
        // needed, because drivers of software take seconds for each.
        for (dims, which) in [([1, edge + 2, edge - 2, 70], &[0, 1, 2, 4][..]), ([2, edge - 1, edge + 1, 31], &[3, 4])]
        {
            agree_within(&format!("{name}, {dims:?}"), &limits, &|device| products(device, dims, which));
        }
    }
}

#[test]
fn small_products_agree() {
    let units = Cooperative { least: 1, ..Cooperative::new(16, 32) };
    for dims in [[1, 1, 1, 1], [3, 16, 17, 15], [2, 63, 65, 1], [1, 5, 33, 129]] {
        agree_within(&format!("{dims:?}"), &within(units), &|device| products(device, dims, &[0, 2]));
    }
}

#[test]
fn convolutions_agree() {
    for (side, subgroup) in [UNITS[0], UNITS[3]] {
        let build = |device: &Device| {
            let x = halves(&[2, 6, 9, 7], device).tracked();
            let w = halves(&[20, 3, 3, 2], device).tracked();
            let options = ConvOptions::default().stride([2, 1]).padding([1, 1]).groups(2);
            let y = x.conv2d(&w, None, options);
            let mut roots = (&y * &y).sum(..).grad(&[&x, &w]);
            roots.push(y);
            Case::new(roots, vec![x, w])
        };
        let limits = within(Cooperative { least: 1, ..Cooperative::new(side, subgroup) });
        assert!(!texts(&build(&Device::cpu()).roots, &limits).is_empty());
        agree_within("a convolution", &limits, &build);
    }
}

#[test]
fn f32_where_the_units_multiply_it() {
    let build = |device: &Device| {
        let [x, w, wt] = [[70, 33], [33, 66], [66, 33]].map(|dims| uniform(&dims).to_device(device));
        let half = halves(&[33, 66], device);
        let roots =
            vec![x.matmul(&w), x.matmul(&wt.t()).relu(), w.t().matmul(&x.t()), x.matmul(&half.cast(DType::F32))];
        Case::new(roots, vec![x, w, wt, half])
    };
    let limits = within(Cooperative { f32: true, least: 1, ..Cooperative::new(8, 32) });
    let roots = build(&Device::cpu()).roots;
    let texts = texts(&roots, &limits);
    assert_eq!(texts.len(), roots.len());
    assert!(texts.iter().all(|text| text.contains("coop_mat8x8<f32, A>")));
    judge_within("f32 on units", &roots, &limits);
    agree_within("f32 on units", &limits, &build);
}

/// How many products of the roots are computed on units.
fn served(roots: &[Tensor], units: Cooperative) -> usize {
    texts(roots, &within(units)).len()
}

#[test]
fn no_product_means_something_else_for_them() {
    let units = Cooperative { least: 1, ..Cooperative::new(16, 32) };
    let cpu = Device::cpu();
    let [x, w] = [[40, 40], [40, 50]].map(|dims| uniform(&dims));
    let [h, g] = [[40, 40], [40, 50]].map(|dims| halves(&dims, &cpu));
    let as_dtype = |dtype| x.cast(dtype).matmul(&w.cast(dtype));
    let count = |y: Tensor| served(&[y], units);
    // What is f16, stored or on the way in, or a choice of such.
    assert_eq!(count(h.matmul(&g)), 1);
    assert_eq!(count(as_dtype(DType::F16)), 1);
    assert_eq!(count((&h * 2.0).matmul(&g)), 1);
    assert_eq!(count(h.tril(0).cast(DType::F32).matmul(&g.cast(DType::F32))), 1);
    // What is not, or is not any more.
    for dtype in [DType::F32, DType::BF16, DType::I32, DType::U8] {
        assert_eq!(count(as_dtype(dtype)), 0, "{dtype}");
    }
    assert_eq!(count(h.cast(DType::F32).matmul(&w)), 0);
    assert_eq!(count(x.matmul(&g.cast(DType::F32))), 0);
    assert_eq!(count((h.cast(DType::F32) * 1.1).matmul(&g.cast(DType::F32))), 0);
    assert_eq!(count((h.cast(DType::F32) + 1e-9).matmul(&g.cast(DType::F32))), 0);
    assert_eq!(count(h.cast(DType::BF16).matmul(&g.cast(DType::BF16))), 0);
}

#[test]
fn they_serve_where_they_keep_the_device_busy() {
    let limits = |m: usize, k: usize| {
        let y = halves(&[m, k], &Device::cpu()).matmul(&halves(&[k, m], &Device::cpu()));
        let limits = Limits { tiles: Tiles::DISCRETE, ..within(Cooperative::new(16, 32)) };
        let rows = |text: &String| if text.contains("const TALL: bool = true") { 128 } else { 64 };
        texts(&[y], &limits).first().map(rows)
    };
    // A square of 128 workgroups is 12 of them long.
    assert_eq!([limits(700, 64), limits(760, 64), limits(1500, 64)], [None, Some(64), Some(128)]);
    // Too short, too narrow.
    assert_eq!(limits(1500, 31), None);
    assert_eq!(
        served(
            &[halves(&[31, 64], &Device::cpu()).matmul(&halves(&[64, 640], &Device::cpu()))],
            Cooperative::new(16, 32)
        ),
        0
    );
    // No room for 128 rows, nor for any.
    let small = |bytes| Limits { workgroup_bytes_max: bytes, ..within(Cooperative::new(16, 32)) };
    let cuts = |bytes| Cooperative::new(16, 32).cuts(DType::F16, &small(bytes)).map(|cut| cut.edge).collect::<Vec<_>>();
    assert_eq!([cuts(48 << 10), cuts(16 << 10), cuts(8 << 10)], [vec![128, 64], vec![64], vec![]]);
    // Nor for units that nothing is known of.
    for (side, subgroup) in [(4, 32), (16, 0), (16, 48), (8, 64)] {
        assert_eq!(
            served(
                &[halves(&[640, 64], &Device::cpu()).matmul(&halves(&[64, 640], &Device::cpu()))],
                Cooperative::new(side, subgroup)
            ),
            0
        );
    }
}

/// Plans within `limits` agree with the oracle, on the CPU and on a GPU.
#[track_caller]
fn agree_within(what: &str, limits: &Limits, build: &dyn Fn(&Device) -> Case) {
    for device in [Some(plain_cpu()), gpu()].into_iter().flatten() {
        agree(what, &How::Foreign(device, limits.clone().into()), build);
    }
}

/// A GPU that was asked for its units.
fn gpu() -> Option<Device> {
    static GPU: std::sync::OnceLock<Option<Device>> = std::sync::OnceLock::new();
    GPU.get_or_init(crate::devices::own_gpu_with_units).clone()
}

#[cfg(feature = "gpu")]
mod on_gpus {
    use wgrad::compile::shader::Shader;
    use wgrad::device::gpu::Gpu;

    use super::*;

    /// `shader` for a GPU that may lack the units it was made for.
    pub fn runnable(gpu: &Gpu, shader: Shader, limits: &Limits) -> Shader {
        let has = |of: Option<Cooperative>| of.map(|units| (units.side, units.f32));
        let wanted = has(limits.cooperative);
        match shader.text.starts_with(ENABLES) && has(gpu.units()) != wanted {
            true => Shader { text: imitated(&shader.text), ..shader },
            false => shader,
        }
    }

    /// What stands for the operations on matrices: a fragment of an operand is where it begins, how far
    /// its lines are apart, and whether they are rows; one of sums is the share of an invocation.
    const IMITATION: &str = "
var<private> lane_: u32;
const SHARE: u32 = (SIDE * SIDE + LANES - 1u) / LANES;
fn by_rows_(at: u32, step: u32) -> vec3<u32> { return vec3<u32>(at, step, 1u); }
fn by_columns_(at: u32, step: u32) -> vec3<u32> { return vec3<u32>(at, step, 0u); }
fn place_(part: vec3<u32>, r: u32, c: u32) -> u32 {
    return part.x + select(c * part.y + r, r * part.y + c, part.z == 1u);
}
fn multiply_add_(a: vec3<u32>, b: vec3<u32>, c: array<f32, SHARE>) -> array<f32, SHARE> {
    var sums = c;
    for (var t = 0u; t < SHARE + zero(); t++) {
        let e = lane_ + t * LANES;
        for (var k = 0u; k < SIDE + zero() && e < SIDE * SIDE; k++) {
            sums[t] += f32(rows_at[place_(a, e / SIDE, k)]) * f32(columns_at[place_(b, k, e % SIDE)]);
        }
    }
    return sums;
}
fn sums_(at: u32) -> array<f32, SHARE> {
    var sums: array<f32, SHARE>;
    for (var t = 0u; t < SHARE + zero() && lane_ + t * LANES < SIDE * SIDE; t++) {
        sums[t] = sums_at[at + lane_ + t * LANES];
    }
    return sums;
}
fn store_(sums: array<f32, SHARE>, at: u32) {
    var all = sums;
    for (var t = 0u; t < SHARE + zero() && lane_ + t * LANES < SIDE * SIDE; t++) {
        sums_at[at + lane_ + t * LANES] = all[t];
    }
}
";

    fn imitated(text: &str) -> String {
        let mut text = text.replace(ENABLES, "");
        let mut change = |from: &str, to: &str| {
            assert!(text.contains(from), "no {from} in {text}");
            text = text.replace(from, to);
        };
        for name in ["row", "column"] {
            change(&format!("coopLoadT<{name}_part>(&{name}s_at["), "by_rows_(");
            change(&format!("coopLoad<{name}_part>(&{name}s_at["), "by_columns_(");
            let step = format!("{}_STEP)", name.to_uppercase());
            change(&format!("], {step}"), &format!(", {step}"));
        }
        change("coopMultiplyAdd(", "multiply_add_(");
        change("coopLoadT<sum_part>(&sums_at[own], SIDE)", "sums_(own)");
        change("coopStoreT(sums, &sums_at[own], SIDE)", "store_(sums, own)");
        change("let lane = local % LANES;", "let lane = local % LANES; lane_ = lane;");
        let types = |line: &str| match line.split_once(" = ") {
            Some(("alias elem", _)) => "alias elem = f32;".into(),
            Some(("alias row_part" | "alias column_part", _)) => {
                line[..line.find('=').unwrap()].to_string() + "= vec3<u32>;"
            }
            Some(("alias sum_part", _)) => "alias sum_part = array<f32, SHARE>;".into(),
            _ => line.replace("vec2<f16>(", "("),
        };
        text.lines().map(types).collect::<Vec<_>>().join("\n") + IMITATION
    }

    /// Products of f16, realised and compared with the oracle.
    fn multiplied(device: &Device) {
        agree("products", &How::Realize(device.clone()), &|device| products(device, [2, 70, 33, 100], &ALL));
    }

    #[test]
    fn a_device_whose_units_fail_goes_on_without() {
        // It was not asked for any, so the driver refuses the shaders.
        let Some(device) = crate::devices::own_gpu() else { return };
        let gpu = Gpu::of(&device).unwrap();
        assert_eq!((gpu.units(), gpu.limits().cooperative), (None, None));
        gpu.set_cooperative(Some(Cooperative::new(16, 32)));
        multiplied(&device);
        assert_eq!(gpu.limits().cooperative, None);
    }

    #[test]
    fn a_device_is_asked_for_its_units_only_when_told() {
        let Some(device) = gpu() else { return };
        let gpu = Gpu::of(&device).unwrap();
        let has = gpu.wgpu().0.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        println!("{device}: {:?}", gpu.units());
        assert!(has || gpu.units().is_none());
    }

    #[test]
    fn units_that_are_there_serve_after_their_test() {
        let Some(device) = crate::devices::own_gpu_with_units() else { return };
        let gpu = Gpu::of(&device).unwrap();
        let Some(units) = gpu.units() else { return println!("{device} has none") };
        // Where subgroups are smaller than was thought, several compute the same.
        let mut all = vec![units, Cooperative { least: 1, ..units }];
        if units.cuts(DType::F16, &within(Cooperative { subgroup: 32, ..units })).next().is_some() {
            all.push(Cooperative { subgroup: units.subgroup.max(32), ..units });
        }
        for units in all {
            let device = crate::devices::own_gpu_with_units().unwrap();
            let gpu = Gpu::of(&device).unwrap();
            gpu.set_cooperative(Some(units));
            multiplied(&device);
            assert_eq!(gpu.limits().cooperative, Some(units), "{device}");
        }
    }
}

#[cfg(feature = "gpu")]
pub use on_gpus::runnable;
