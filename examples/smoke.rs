use wgrad::prelude::*;
use wgrad::compile::{compile, graph::Graph, simplify, schedule};
fn plan(name: &str, roots: &[Tensor], show: bool) {
    let gpu = wgrad::compile::plan::Limits { target: wgrad::compile::plan::Target::SoftwareGpu, buffers_max: 8, binding_bytes_max: 1<<27, buffer_bytes_max: 1<<31, invocations_max: 256, workgroup_bytes_max: 16384, groups_max: 65535, sort_block: 64, memory_bytes_max: u64::MAX };
    let (g, _) = Graph::flatten(roots);
    let p = compile(&g, &gpu);
    println!("{name}: {} kernels: {:?}", p.steps.len(), p.steps.iter().map(|s| s.kernel.name.clone()).collect::<Vec<_>>());
    if show { let s = simplify::simplify(&g, gpu.target); println!("{s}"); let sc = schedule::schedule(&s, &gpu, false); for c in sc.clusters { println!("{:?} {:?}", c.parts, c.space); } }
}
fn main() -> Result<(), Error> {
    let d = Device::cpu();
    let x = Tensor::arange(0.0, 24.0, 1.0, &d).reshape([4, 6]).sin();
    x.realize()?;
    let w = Tensor::ones([6], &d); let b = Tensor::zeros([6], &d);
    w.realize()?; b.realize()?;
    let t = x.tracked();
    let ln = t.layer_norm(1, Some(&w), Some(&b), 1e-5);
    let dy = Tensor::arange(0.0, 24.0, 1.0, &d).reshape([4, 6]).cos(); dy.realize()?;
    let dx = ln.vjp(&dy, &[&t])[0].clone();
    plan("layer_norm+dx", &[ln.clone(), dx.clone()], true);
    let ids = Tensor::new([1, 2, 3, 0], &d);
    let loss = t.cross_entropy(&ids);
    let g = loss.grad(&[&t])[0].clone();
    plan("ce+grad", &[loss.clone(), g.clone()], true);
    Ok(())
}
