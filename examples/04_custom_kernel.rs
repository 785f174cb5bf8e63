//! A kernel of your own: WGSL with its meaning in ordinary ops.
//!
//! You learn how to hand a compute shader to the compiler. Beside it stands a definition in
//! ordinary ops, which the CPU device runs and from which the gradient comes, so a custom kernel
//! needs neither a backward pass nor a second implementation. A shader that is not valid is
//! refused where it is built, with the fault underlined.
//!
//! `cargo run --release --example 04_custom_kernel [-- --device gpu|cpu]`

mod common;

use wgrad::device::CustomKernel;
use wgrad::prelude::*;

const N: u32 = 1000;
const WORKGROUP: u32 = 64;

/// `x * sigmoid(x)` and its hyperbolic sibling in one pass over the input.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> swish: array<f32>;
@group(0) @binding(2) var<storage, read_write> soft: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if (i < arrayLength(&x)) {
        let v = x[i];
        swish[i] = v / (1.0 + exp(-v));
        soft[i] = v / (1.0 + abs(v));
    }
}";

/// The same in ordinary ops: what the kernel means.
fn definition(x: &[Tensor]) -> Vec<Tensor> {
    let x = &x[0];
    vec![x * x.sigmoid(), x / (x.abs() + 1.0)]
}

fn main() -> Result<(), Error> {
    let device = common::device()?;

    // Inputs are bound from 0 on, outputs after them; the grid counts workgroups.
    let kernel =
        CustomKernel::new("swish_and_soft", SHADER).inputs(1).outputs(2).grid([N.div_ceil(WORKGROUP), 1, 1]).build()?;

    let x = Tensor::linspace(-4.0, 4.0, N as usize, &device).tracked();
    let results = kernel.call(&[&x], definition);
    let by_definition = definition(std::slice::from_ref(&x));
    let differ = |a: &Tensor, b: &Tensor| (a - b).abs().max(..).item::<f32>();
    let runs = if device == Device::cpu() { "the definition" } else { "the shader" };
    println!("on this device {runs} runs");
    for (name, k) in [("swish", 0), ("soft", 1)] {
        println!("{name:>5}: {:.1e} from its definition", differ(&results[k], &by_definition[k])?);
    }

    // Its outputs are tensors like any other: they fuse with nothing, but all else goes on.
    let loss = (&results[0] * &results[1]).mean(..);
    let dx = &loss.grad(&[&x])[0];
    let expected = (&by_definition[0] * &by_definition[1]).mean(..).grad(&[&x])[0].clone();
    println!("the gradient through both: {:.1e} from the definition's\n", differ(dx, &expected)?);

    // Mistakes in a shader are found when it is built, not when it runs.
    let typo = SHADER.replace("exp(-v)", "expp(-v)");
    match CustomKernel::new("typo", typo).outputs(2).build() {
        Ok(_) => println!("without the feature `gpu` nobody checks a shader"),
        Err(error) => println!("a typo reads as\n{error}\n"),
    }
    match CustomKernel::new("one_output", SHADER).outputs(1).build() {
        Ok(_) => println!("and nobody runs one"),
        Err(error) => println!("a forgotten output reads as\n{error}"),
    }
    Ok(())
}
