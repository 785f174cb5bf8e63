//! Rows that a workgroup of a real GPU shares: those that stay in its registers, and those about
//! which it goes in turns; on a software GPU and by the CPU's meaning of the plan.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::Target;
use wgrad::compile::wgsl::emit;
use wgrad::prelude::*;
use wgrad::reference::Values;

use crate::compare::{Case, How, agree};
use crate::devices::{checked_gpu, gpu, plain_cpu};
use crate::support::random as uniform;
use crate::wgsl::limits;

/// What goes along rows of `n` elements.
fn along(device: &Device, n: usize) -> Case {
    let [x, r] = [[5, n], [5, n]].map(|dims| uniform(&dims).to_device(device).tracked());
    let [w, b] = [[n], [n]].map(|dims| uniform(&dims).to_device(device).tracked());
    let normed = x.layer_norm(-1, Some(&w), Some(&b), 1e-5);
    let mut roots = (&normed * &r).sum(..).grad(&[&x, &w, &b]);
    roots.extend((x.softmax(-1) * &r).sum(..).grad(&[&x]));
    roots.extend([normed, x.log_softmax(-1), x.rms_norm(-1, Some(&w), 1e-5), (&x * &r).softmax(-1)]);
    roots.extend([x.argmax(-1), x.argmin(-1), x.max(-1), (&x + &r).logsumexp(-1), (&x - x.max(keepdim(-1))).exp()]);
    Case::new(roots, vec![x, r, w, b])
}

#[test]
fn rows_of_every_width_agree() {
    let limits = limits(Target::Gpu);
    for n in [64, 124, 128, 160, 255, 256, 512, 768, 1000, 1024, 1028, 2048] {
        // Others on a GPU differ in numbers only, and each takes seconds to compile.
        let shades = [128, 1000].contains(&n);
        for device in [Some(plain_cpu()), gpu().filter(|_| shades)].into_iter().flatten() {
            let how = How::Foreign(device, limits.clone().into());
            agree(&format!("rows of {n}"), &how, &|device| along(device, n));
        }
    }
}

#[test]
fn rows_stay_in_registers_where_each_invocation_has_one_turn() {
    let limits = limits(Target::Gpu);
    for (n, held) in [(124, false), (128, true), (768, true), (1000, true), (1022, false), (1024, true), (1028, false)]
    {
        let x = Tensor::from_vec(vec![0f32; 3 * n], [3, n], &Device::cpu());
        let plan = compile(&Graph::flatten(&[x.softmax(-1)]).0, &limits);
        let [step] = &plan.steps[..] else { panic!("{n}: {} kernels", plan.steps.len()) };
        let text = emit(&step.kernel, &limits).text;
        // One load serves the maximum, the sum and the result.
        let loads = text.matches("= quad0(").count() + text.matches("load0(").count();
        assert_eq!(loads == 1, held, "{n}:\n{text}");
    }
}

/// The loop that finds the maximum takes the sum of exponentials along.
#[test]
fn long_rows_are_read_once_for_maximum_and_sum() {
    let limits = limits(Target::Gpu);
    let x = Tensor::from_vec(vec![0f32; 3 * 5000], [3, 5000], &Device::cpu());
    let labels = Tensor::from_vec(vec![1i32; 3], [3], &Device::cpu());
    let loads = |roots: &[Tensor]| {
        let plan = compile(&Graph::flatten(roots).0, &limits);
        let text = emit(&plan.steps[0].kernel, &limits).text;
        (text.matches("= quad0(").count() + text.matches("= load0(").count(), text)
    };
    for (y, wanted) in [(x.softmax(-1), 2), (x.log_softmax(-1), 2), (x.softmax(0), 2)] {
        let (found, text) = loads(std::slice::from_ref(&y));
        assert_eq!(found, wanted, "{text}");
    }
    // What is stored below the maximum needs a loop of its own, and takes the sum along there.
    let below = &x - x.max(keepdim(-1));
    let (found, text) = loads(&[below.clone(), below.exp().sum(-1)]);
    assert_eq!(found, 2, "{text}");
    assert!(!text.contains("let top"), "{text}");
    // The loss reads each row once, and once more what its label picks.
    let (_, text) = loads(&[x.cross_entropy(&labels)]);
    assert!(text.contains("let top"), "{text}");
}

/// Whether each row is nothing but NaN, or else has none; `agree` lets a shader lose infinities and NaNs.
fn rows_of_nan(how: &How, y: &Tensor, rows: usize) -> Vec<bool> {
    let (found, _) = how.run(std::slice::from_ref(y)).unwrap();
    let Values::Float(found) = &found[0] else { panic!("{y}") };
    let row = |row: &[f64]| match row.iter().filter(|x| x.is_nan()).count() {
        0 => false,
        n => {
            assert_eq!(n, row.len(), "{how}: a row that is partly NaN");
            true
        }
    };
    found.chunks(found.len() / rows).map(row).collect()
}

/// Half of every number: where the difference of two overflows, nothing is compared.
fn halves(rows: &[Vec<f32>]) -> Vec<f32> {
    rows.iter().flatten().map(|x| x * 0.5).collect()
}

#[test]
fn long_rows_of_any_numbers_agree() {
    let limits = limits(Target::Gpu);
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for n in [1030, 2052] {
        let row = |f: &dyn Fn(usize) -> f32| (0..n).map(f).collect::<Vec<f32>>();
        let rows = [
            row(&|_| -inf),
            row(&|k| if k < n - 1 { -inf } else { 2.0 }),
            row(&|k| if k % 3 == 0 { -inf } else { k as f32 * 0.01 }),
            row(&|k| if k == n / 2 { inf } else { 1.0 }),
            row(&|k| if k == 700 { nan } else { -1.0 }),
            row(&|k| k as f32 * 7.0 - 3000.0),
            row(&|k| 3000.0 - k as f32 * 7.0),
            row(&|k| if k % 2 == 0 { 3e38 } else { -3e38 }),
            row(&|_| 0.0),
        ];
        for device in gpu().into_iter().chain(checked_gpu()) {
            let how = How::Foreign(device, limits.clone().into());
            agree(&format!("rows of {n}"), &how, &|device| {
                let x = Tensor::from_vec(halves(&rows), [rows.len(), n], device);
                let turned = Tensor::from_vec(halves(&rows), [rows.len(), n], device).transpose(0, 1);
                let sum = (&x - x.max(keepdim(-1))).exp().sum(-1);
                Case::new(vec![x.softmax(-1), x.log_softmax(-1), turned.softmax(0), sum], vec![x, turned])
            });
            let x = Tensor::from_vec(rows.concat(), [rows.len(), n], how.device());
            let wanted = [true, false, false, true, true, false, false, false, false];
            assert_eq!(rows_of_nan(&how, &x.softmax(-1), rows.len()), wanted, "{how}");
        }
    }
}

/// Few rows are cut into pieces; the maximum and the sum of a piece are found by one kernel.
#[test]
fn few_long_rows_are_cut_for_maximum_and_sum_at_once() {
    let x = Tensor::from_vec(vec![0f32; 2 * 40_000], [2, 40_000], &Device::cpu());
    for target in [Target::Cpu, Target::Gpu, Target::SoftwareGpu] {
        for (y, kernels) in [(x.softmax(-1), 3), (x.log_softmax(-1), 3), (x.transpose(0, 1).softmax(0), 3)] {
            let plan = compile(&Graph::flatten(&[y]).0, &limits(target));
            assert_eq!(plan.steps.len(), kernels, "{target:?}\n{plan}");
        }
    }
}

#[test]
fn few_long_rows_of_any_numbers_agree() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let n = 16_387;
    let row = |f: &dyn Fn(usize) -> f32| (0..n).map(f).collect::<Vec<f32>>();
    let rows = [
        row(&|_| -inf),
        row(&|k| if k < n / 2 { -inf } else { (k % 100) as f32 * 0.1 }),
        row(&|k| if k == n - 1 { inf } else { 1.0 }),
        row(&|k| if k == 9000 { nan } else { -1.0 }),
        row(&|k| k as f32 - 8000.0),
        row(&|k| if k % 2 == 0 { 3e38 } else { -3e38 }),
    ];
    let build = |device: &Device| {
        let x = Tensor::from_vec(halves(&rows), [rows.len(), n], device).tracked();
        let r = uniform(&[rows.len(), n]).to_device(device);
        let columns = Tensor::from_vec(halves(&rows), [rows.len(), n], device).transpose(0, 1);
        let mut roots = (x.log_softmax(-1) * &r).narrow(0, 4, 1).sum(..).grad(&[&x]);
        roots.extend([x.softmax(-1), x.log_softmax(-1), columns.softmax(0)]);
        Case::new(roots, vec![x, r, columns])
    };
    for device in [Some(plain_cpu()), gpu()].into_iter().flatten() {
        for how in [How::Realize(device.clone()), How::Foreign(device, limits(Target::Gpu).into())] {
            agree("few long rows", &how, &build);
            let x = Tensor::from_vec(rows.concat(), [rows.len(), n], how.device());
            assert_eq!(rows_of_nan(&how, &x.softmax(-1), rows.len()), [true, false, true, true, false, false], "{how}");
        }
    }
}
