//! Rows that a workgroup of a real GPU shares: those that stay in its registers, and those about
//! which it goes in turns; on a software GPU and by the CPU's meaning of the plan.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::Target;
use wgrad::compile::wgsl::emit;
use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::{gpu, plain_cpu};
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
            let _ = agree(&format!("rows of {n}"), &how, &|device| along(device, n));
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
