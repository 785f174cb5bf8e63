//! Gradients: a function from tensors to tensors.
//!
//! You learn what `tracked` is for, that a gradient is an ordinary tensor which can be
//! differentiated again, how `detach` and `checkpoint` change it, and how to write a rule of your
//! own.
//!
//! `cargo run --release --example 02_grad [-- --device gpu|cpu]`

mod common;

use wgrad::prelude::*;
use wgrad::{checkpoint, custom_gradient};

fn main() -> Result<(), Error> {
    let device = common::device()?;

    // Build on a tracked leaf, and the history above it is kept even when results are read.
    let x = Tensor::new([-1.0, 0.5, 2.0], &device).tracked();
    let y = (&x * &x * &x).sum(..);
    println!("y = sum(x^3) = {}", y.item::<f32>()?);

    // `grad` builds graph and runs nothing. Its result is a tensor like any other, so again.
    let dx = &y.grad(&[&x])[0];
    let ddx = &dx.sum(..).grad(&[&x])[0];
    println!("dy/dx   = 3 x^2 = {dx}\nd2y/dx2 = 6 x   = {ddx}\n");

    // One walk gives the gradients of all targets. This is a neuron.
    let (w, b) = (Tensor::new([0.5, -1.0, 0.25], &device).tracked(), Tensor::new(0.1, &device).tracked());
    let out = ((&x * &w).sum(..) + &b).tanh();
    let grads = out.grad(&[&w, &b]);
    println!("neuron {:.4}: dw = {}, db = {:.4}\n", out.item::<f32>()?, grads[0], grads[1].item::<f32>()?);

    // `detach` lets the value through and no gradient.
    let held = (x.detach() * &x).sum(..).grad(&[&x]);
    println!("d sum(detach(x) * x) / dx = x = {}\n", held[0]);

    // `checkpoint` keeps no intermediate results; the backward pass computes them again.
    let deep = checkpoint(|v| (0..4).fold(v[0].clone(), |h, _| h.sin() * 1.5), &[&x]);
    println!("through a checkpoint: {}\n", deep.sum(..).grad(&[&x])[0]);

    // A gradient of your own: a step that rounds, and lets the gradient through as if it did not.
    let round =
        |v: &Tensor| custom_gradient("straight_through", &[v], |v| v[0].round(), |_, _, dy| vec![Some(dy.clone())]);
    let (plain, through) = (x.round().sum(..).grad(&[&x]), round(&x).sum(..).grad(&[&x]));
    println!("d round(x) / dx = {}, straight through: {}\n", plain[0], through[0]);

    // The gradient agrees with differences, as it should.
    let step = 1e-2;
    let f = |x: &Tensor| (x.exp() * x.cos()).sum(..);
    let slope = f(&x).grad(&[&x])[0].sum(..).item::<f32>()?;
    let quotient = ((f(&(&x + step)) - f(&(&x - step))) / (2.0 * step)).item::<f32>()?;
    println!("slope along (1, 1, 1): {slope:.4} by gradient, {quotient:.4} by differences\n");

    // A gradient that cannot be formed is an error, never a silent zero.
    let plain = Tensor::new([1.0, 2.0], &device);
    let middle = &plain * 3.0;
    middle.realize()?;
    match (&middle * &middle).sum(..).grad(&[&plain])[0].to_vec::<f32>() {
        Ok(dx) => println!("gradient: {dx:?}"),
        Err(error) => println!("a released history reads as\n  {error}"),
    }
    Ok(())
}
