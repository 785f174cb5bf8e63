//! Linear regression: a whole training loop by hand, fifty lines of it.
//!
//! You learn the shape of every training loop: forward, loss, gradients, new parameters, and one
//! `realize` that runs it all. The graph is built anew in each step; the plan made for the first
//! step is found again in the plan cache, because only the elements differ.
//!
//! `cargo run --release --example 03_linear_regression [-- --device gpu|cpu]`

mod common;

use std::time::Instant;

use wgrad::prelude::*;

const SAMPLES: usize = 1000;
const STEPS: usize = 200;

fn main() -> Result<(), Error> {
    let device = common::device()?;

    // Points around the plane y = 2 a - 3 b + 0.5, with noise.
    let truth = ([2.0, -3.0], 0.5);
    let keys = Tensor::key(42, &device).split_key(2);
    let x = Tensor::uniform_in([SAMPLES, 2], -1.0..1.0, &keys[0]);
    let noise = Tensor::normal([SAMPLES], &keys[1]) * 0.1;
    let y = x.matmul(&Tensor::new(truth.0, &device)) + truth.1 + noise;
    wgrad::realize([&x, &y])?;

    let mut weights = Tensor::zeros([2], &device);
    let mut bias = Tensor::new(0.0, &device);

    println!("{SAMPLES} samples of y = 2 a - 3 b + 0.5 with noise of 0.1\n");
    println!(" step     loss  ");
    let start = Instant::now();
    for step in 0..=STEPS {
        // Tracked: the gradient is taken with respect to these.
        let (w, b) = (weights.tracked(), bias.tracked());
        let loss = (x.matmul(&w) + &b).mse_loss(&y, Reduce::Mean);
        let grads = loss.grad(&[&w, &b]);

        // An input may change from step to step without a new plan.
        let rate = Tensor::input(0.1 / (1.0 + step as f64 / 200.0), &device);
        // Detached: the next step need not remember this one.
        weights = (&w - &rate * &grads[0]).detach();
        bias = (&b - &rate * &grads[1]).detach();

        // Forward, backward and update in one run.
        wgrad::realize([&weights, &bias, &loss])?;
        if step % 20 == 0 {
            let loss = loss.item::<f32>()?;
            let bar = "#".repeat((30.0 + 6.0 * loss.log10()).clamp(1.0, 40.0) as usize);
            println!("{step:>5} {loss:>9.5}  {bar}");
        }
    }

    let found = weights.to_vec::<f32>()?;
    println!("\nfound  y = {:.3} a {:+.3} b {:+.3}", found[0], found[1], bias.item::<f32>()?);
    println!("truth  y = {:.3} a {:+.3} b {:+.3}", truth.0[0], truth.0[1], truth.1);
    let seconds = start.elapsed().as_secs_f64();
    println!("{STEPS} steps in {seconds:.2} s, {:.0} µs each", 1e6 * seconds / STEPS as f64);
    Ok(())
}
