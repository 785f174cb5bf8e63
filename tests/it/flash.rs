//! Attention by kernels that never store the scores: on awkward shapes against the oracle, derivatives
//! included, by plans for a real GPU that a software one runs.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::kernel::Kind;
use wgrad::compile::plan::{Limits, Target};
#[cfg(feature = "gpu")]
use wgrad::graph::op::{CustomCall, CustomShader, CustomSpec, Op, Template, Templated};
use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::{checked_gpu, devices_for_faults, is_cpu};
use crate::support::{Rng, derivatives};

/// What is attended: heads `[.., h]` of queries and of keys, their numbers, and their columns.
#[derive(Clone, Copy, Debug)]
struct Dims {
    heads: &'static [usize],
    shared: &'static [usize],
    l: usize,
    s: usize,
    e: usize,
    f: usize,
}

#[derive(Clone, Copy, Debug)]
enum Sees {
    All,
    Causal,
    /// A mask of bools of this shape; the first query sees nothing.
    Bools(&'static [usize]),
    /// The same, and only what came before.
    Both(&'static [usize]),
    /// Numbers of this shape that are added, and -inf.
    Numbers(&'static [usize]),
    /// Numbers, and -1e9 for all keys of the first query, which is 0.
    Low(&'static [usize]),
}

const fn heads(heads: &'static [usize], shared: &'static [usize], [l, s, e, f]: [usize; 4]) -> Dims {
    Dims { heads, shared, l, s, e, f }
}

// Not more than needed: each has shaders of its own, which lavapipe takes seconds to compile.
const CASES: &[(Dims, Sees)] = &[
    (heads(&[], &[], [16, 1, 4, 32]), Sees::Causal),
    (heads(&[2], &[2], [65, 31, 64, 64]), Sees::All),
    (heads(&[2, 1], &[2, 1], [97, 33, 132, 200]), Sees::Causal),
    (heads(&[1, 2], &[1, 2], [31, 97, 36, 128]), Sees::All),
    (heads(&[2, 4], &[2, 2], [65, 65, 12, 20]), Sees::Causal),
    (heads(&[2, 2], &[2, 1], [70, 33, 10, 67]), Sees::Bools(&[2, 1, 70, 33])),
    (heads(&[2, 2], &[2, 2], [33, 40, 8, 8]), Sees::Both(&[40])),
    (heads(&[2], &[2], [33, 40, 8, 8]), Sees::Numbers(&[2, 1, 40])),
    (heads(&[2], &[2], [33, 40, 8, 8]), Sees::Low(&[33, 40])),
];

/// Shapes that the kernels leave to products.
const LEFT: &[(Dims, Sees)] = &[
    (heads(&[2], &[2], [33, 0, 8, 8]), Sees::All),
    (heads(&[2], &[2], [0, 8, 8, 8]), Sees::All),
    (heads(&[2], &[2], [1, 40, 8, 8]), Sees::Causal),
    (heads(&[2], &[2], [33, 40, 8, 0]), Sees::All),
    (heads(&[2], &[2], [33, 40, 260, 8]), Sees::All),
    (heads(&[2], &[2], [33, 40, 8, 257]), Sees::All),
    (heads(&[2, 2], &[2], [33, 40, 8, 8]), Sees::All),
    (heads(&[2, 2, 2], &[2, 2, 2], [33, 40, 8, 8]), Sees::Bools(&[1, 2, 1, 33, 40])),
];

/// The least any GPU may have.
fn limits() -> Limits {
    Limits { template_flops_min: 0, ..crate::wgsl::limits(Target::Gpu) }
}

/// The result and its derivatives.
fn case(dims: Dims, sees: Sees, device: &Device) -> Case {
    case_of(DType::F32, dims, sees, device)
}

/// The same of queries, keys and values of `dtype`.
fn case_of(dtype: DType, dims: Dims, sees: Sees, device: &Device) -> Case {
    let mut rng = Rng::new(7);
    let mut random = |outer: &[usize], n: usize, m: usize| {
        rng.tensor(&[outer, &[n, m]].concat(), -1.5..1.5).to_device(device).tracked()
    };
    let q = random(dims.heads, dims.l, dims.e);
    let [k, v] = [dims.e, dims.f].map(|n| random(dims.shared, dims.s, n));
    let dy = random(dims.heads, dims.l, dims.f);
    let plain = AttentionOptions::default();
    let mut numbers = |shape: &[usize]| rng.tensor(shape, -1.5..1.5).to_device(device).tracked();
    let rows = Tensor::arange(0, dims.l as i32, 1, device).reshape([dims.l, 1]);
    let mut leaves = vec![q.clone(), k.clone(), v.clone(), dy.clone()];
    let bools = |x: &Tensor| match x.dim(-2) == dims.l {
        true => x.gt(0.0) & rows.gt(0),
        false => x.gt(0.0),
    };
    let options = match sees {
        Sees::All => plain,
        Sees::Causal => plain.causal(),
        Sees::Bools(shape) => {
            leaves.push(numbers(shape));
            plain.mask(&bools(leaves.last().unwrap()))
        }
        Sees::Both(shape) => {
            leaves.push(numbers(shape));
            plain.causal().mask(&bools(leaves.last().unwrap()))
        }
        Sees::Numbers(shape) => {
            leaves.push(numbers(shape));
            let x = leaves.last().unwrap();
            plain.mask(&x.gt(1.0).where_(f64::NEG_INFINITY, x))
        }
        Sees::Low(shape) => {
            leaves.push(numbers(shape));
            plain.mask(&rows.eq(0).where_(-1e9, leaves.last().unwrap()))
        }
    };
    let asks = match sees {
        Sees::Low(_) => rows.eq(0).where_(0.0, &q),
        _ => q.clone(),
    };
    let y = asks.cast(dtype).scaled_dot_product_attention(&k.cast(dtype), &v.cast(dtype), options);
    assert_eq!(y.dtype(), dtype);
    let mut targets = vec![&q, &k, &v];
    if let Sees::Numbers(_) = sees {
        targets.extend(leaves.last());
    }
    let dxs = y.vjp(&dy, &targets);
    Case::new(std::iter::once(y).chain(dxs).collect(), leaves)
}

/// How often a plan launches each of the two templates.
fn launches(roots: &[Tensor]) -> [usize; 2] {
    let plan = compile(&Graph::flatten(roots).0, &limits());
    ["attention", "attention_gradient"].map(|name| {
        let is = |kind: &Kind| matches!(kind, Kind::Custom(spec) if spec.name == name);
        plan.steps.iter().filter(|step| is(&step.kernel.kind)).count()
    })
}

#[test]
fn one_launch_forward_and_two_backward() {
    for &(dims, sees) in CASES {
        let roots = case(dims, sees, &Device::cpu()).roots;
        assert_eq!(launches(&roots), [1, 2], "{dims:?} {sees:?}");
        assert_eq!(launches(&roots[..1]), [1, 0], "{dims:?} {sees:?}");
        // The scores are nowhere.
        if !matches!(sees, Sees::Numbers(_)) {
            let plan = compile(&Graph::flatten(&roots).0, &limits());
            let scores = dims.heads.iter().product::<usize>() * dims.l * dims.s;
            let operands = dims.heads.iter().product::<usize>() * (dims.l + dims.s) * (dims.e + dims.f);
            let found = plan.slots.iter().find(|slot| slot.numel == scores && scores > operands);
            assert!(found.is_none(), "{dims:?} {sees:?}:\n{plan}");
        }
    }
    for &(dims, sees) in LEFT {
        assert_eq!(launches(&case(dims, sees, &Device::cpu()).roots), [0, 0], "{dims:?} {sees:?}");
    }
    let x = Rng::new(1).tensor(&[2, 64, 8], -1.0..1.0);
    let key = Tensor::key(1, x.device());
    let y = x.scaled_dot_product_attention(&x, &x, AttentionOptions::default().dropout(0.5, &key));
    assert_eq!(launches(&[y]), [0, 0]);
}

/// Where a template is not worth it, the formula runs on the columns that there are.
#[test]
fn a_definition_is_not_padded() {
    let plan = |columns: usize| {
        let dims = heads(&[2], &[2], [70, 33, columns, columns]);
        let roots = case(dims, Sees::Causal, &Device::cpu()).roots;
        compile(&Graph::flatten(&roots).0, &Limits { template_flops_min: u64::MAX, ..limits() })
    };
    let (whole, odd) = (plan(20), plan(19));
    assert_eq!(odd.steps.len(), whole.steps.len(), "{odd}");
    assert!(odd.slots.iter().all(|slot| ![2 * 70 * 20, 2 * 33 * 20].contains(&slot.numel)), "{odd}");
}

#[test]
fn halves_take_the_same_launches() {
    for dtype in [DType::F16, DType::BF16] {
        for &(dims, sees) in CASES {
            let roots = case_of(dtype, dims, sees, &Device::cpu()).roots;
            assert_eq!(launches(&roots), [1, 2], "{dtype} {dims:?} {sees:?}");
        }
    }
    let (devices, _turn) = devices_for_faults();
    for device in devices.into_iter().filter(|device| !is_cpu(device)) {
        let how = How::Foreign(device, limits().into());
        for (dtype, (dims, sees)) in
            [DType::F16, DType::BF16].into_iter().flat_map(|dtype| CASES[4..].iter().map(move |&case| (dtype, case)))
        {
            let what = format!("{dtype} {dims:?} {sees:?}");
            agree(&what, &how, &|device| case_of(dtype, dims, sees, device));
        }
    }
}

#[test]
fn gpu_kernels_agree_on_awkward_shapes() {
    let (devices, _turn) = devices_for_faults();
    for device in devices.into_iter().filter(|device| !is_cpu(device)) {
        let how = How::Foreign(device, limits().into());
        for &(dims, sees) in CASES {
            agree(&format!("{dims:?} {sees:?}"), &how, &|device| case(dims, sees, device));
        }
    }
}

/// The wider cases, which pass too, would take drivers a minute more.
#[test]
fn gpu_kernels_agree_with_the_drivers_checks() {
    let Some(device) = checked_gpu() else { return println!("not run: there is no adapter") };
    let how = How::Foreign(device, limits().into());
    for &(dims, sees) in &CASES[4..] {
        agree(&format!("{dims:?} {sees:?}, checked"), &how, &|device| case(dims, sees, device));
    }
}

/// The gradient of the kernels' definition is its derivative.
#[test]
fn derivatives_are_those_of_the_formula() {
    derivatives("attention", &[&[2, 16, 4], &[1, 3, 4], &[1, 3, 4]], |x| {
        x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::default().causal())
    });
    derivatives("attention under numbers", &[&[16, 4], &[3, 4], &[3, 4], &[16, 3]], |x| {
        x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::default().mask(&x[3]))
    });
    derivatives("attention to itself", &[&[16, 4]], |x| {
        x[0].scaled_dot_product_attention(&x[0], &x[0], AttentionOptions::default())
    });
}

/// Queries, keys and values of one tensor, and what its derivative's derivative comes to.
#[test]
fn gpu_kernels_have_second_derivatives() {
    let (devices, _turn) = devices_for_faults();
    for device in devices.into_iter().filter(|device| !is_cpu(device)) {
        let build = |device: &Device| {
            let x = Rng::new(5).tensor(&[2, 33, 8], -1.0..1.0).to_device(device).tracked();
            let y = x.scaled_dot_product_attention(&x, &x, AttentionOptions::default().causal());
            let dx = y.vjp(&x, &[&x]).remove(0);
            let ddx = dx.vjp(&x.detach(), &[&x]).remove(0);
            assert_eq!(launches(&[y.clone(), dx.clone(), ddx.clone()]), [1, 2]);
            Case::new(vec![y, dx, ddx], vec![x])
        };
        agree("second derivative", &How::Foreign(device, limits().into()), &build);
    }
}

#[cfg(feature = "gpu")]
mod devices_of_their_own {
    use super::*;
    use crate::devices::own_gpu;
    use crate::support::assert_close;
    use wgrad::device::gpu::Gpu;
    use wgrad::device::gpu::slice::Pace;

    /// The device tries the templates, then trusts them; and how work is cut changes no bit.
    #[test]
    fn gpu_kernels_are_tried_and_cut() {
        let run = |slower: f64| {
            let device = own_gpu()?;
            let gpu = Gpu::of(&device).unwrap();
            gpu.set_template_flops_min(0);
            let pace = gpu.pace();
            gpu.set_pace(Pace { flops: pace.flops / slower, bytes: pace.bytes / slower, ..pace });
            let found = |(dims, sees): (Dims, Sees)| {
                let roots = case(dims, sees, &device).roots;
                let explanation = wgrad::explain(&roots).unwrap().to_string();
                assert!(explanation.contains("attention_gradient"), "{explanation}");
                wgrad::realize(&roots).unwrap();
                roots.iter().flat_map(|x| x.to_vec::<f32>().unwrap()).collect::<Vec<f32>>()
            };
            let results: Vec<Vec<f32>> = [CASES[1], CASES[4]].map(found).into();
            Some((gpu.counts(), results))
        };
        let Some(whole) = run(1.0) else { return println!("not run: there is no adapter") };
        let Some(cut) = run(1e8) else { return };
        assert!(cut.0[0] > whole.0[0], "{:?}, cut: {:?}", whole.0, cut.0);
        assert_eq!(whole.1, cut.1);
        for (&(dims, sees), found) in [CASES[1], CASES[4]].iter().zip(&whole.1) {
            let want = case(dims, sees, &Device::cpu()).roots;
            let want: Vec<f64> = want.iter().flat_map(|x| x.to_vec::<f32>().unwrap()).map(f64::from).collect();
            let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
            assert_close(&format!("{dims:?} {sees:?}"), &found, &want, 1e-4);
        }
    }
}

/// A kernel that computes `x * 2`, as it says, by a shader that does not.
#[cfg(feature = "gpu")]
fn doubled(x: &Tensor, template: &'static Template) -> Tensor {
    let templated = Templated { template, constants: Vec::new(), groups: 1, flops: 8 };
    let kernel = CustomSpec { name: template.name.into(), shader: CustomShader::Template(templated) };
    let y = x * 2.0;
    let call = CustomCall { kernel: kernel.into(), output: 0, results: [(*y.shape(), y.dtype())].into() };
    Tensor::primitive(Op::Custom(call), &[&y, x], *y.shape(), y.dtype())
}

#[cfg(feature = "gpu")]
#[test]
fn gpu_templates_that_fail_their_test_are_left_out() {
    static WRONG: Template = Template { name: "wrong", text: WRONG_TEXT, trial: |device| trial(device, &WRONG) };
    static BROKEN: Template = Template { name: "broken", text: "fn", trial: |device| trial(device, &BROKEN) };
    const WRONG_TEXT: &str = "@group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(1) fn main() { for (var i = 0u; i < 3u; i++) { y[i] = x[i] * 3.0; } }";
    fn trial(device: &Device, template: &'static Template) -> Vec<(Tensor, Vec<Tensor>)> {
        let x = Tensor::new([1.0, 2.0, 3.0], device);
        vec![(doubled(&x, template), vec![x])]
    }
    for template in [&WRONG, &BROKEN] {
        let Some(device) = crate::devices::own_gpu() else { return };
        wgrad::device::gpu::Gpu::of(&device).unwrap().set_template_flops_min(0);
        let x = Tensor::new([4.0, 5.0, 6.0], &device);
        for _ in 0..2 {
            assert_eq!(doubled(&x, template).to_vec::<f32>().unwrap(), [8.0, 10.0, 12.0], "{}", template.name);
        }
    }
}
