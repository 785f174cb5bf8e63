//! Tensors: making them, computing with them, reading them, and what a mistake looks like.
//!
//! You learn that ops only build a graph, that reading runs it, that shapes broadcast and dtypes
//! promote as in NumPy, and that errors are values that point at your line.
//!
//! `cargo run --release --example 01_tensor [-- --device gpu|cpu]`

mod common;

use wgrad::prelude::*;

fn main() -> Result<(), Error> {
    let device = common::device()?;

    // A tensor is a cheap handle; the elements live on its device.
    let x = Tensor::new([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
    let y = Tensor::arange(0, 3, 1, &device);
    show("x", &x);
    show("y = arange(0, 3)", &y);

    // Shapes broadcast, dtypes promote, and numbers stand on either side of an operator.
    show("x * 10 + y", &(&x * 10.0 + &y));
    show("1 / x", &(1.0 / &x));

    // Reductions name their axes: one, several, or `..` for all.
    show("x.sum(0)", &x.sum(0));
    show("x.mean(keepdim(-1))", &x.mean(keepdim(-1)));
    show("x.softmax(-1)", &x.softmax(-1));

    // Views and products.
    show("x.t().matmul(&x)", &x.t().matmul(&x));
    show("x.flip(1).slice((.., ..2))", &x.flip(1).slice((.., ..2)));
    show("x where x > 2, else 0", &x.gt(2.0).where_(&x, 0.0));

    // Nothing has run until somebody reads. `realize` runs several results as one plan.
    let (mean, spread) = (x.mean(..), x.std(..));
    println!("before: {mean:?}, computed: {}", mean.is_realized());
    wgrad::realize([&mean, &spread])?;
    println!("after:  mean {:.3}, standard deviation {:.3}\n", mean.item::<f32>()?, spread.item::<f32>()?);

    // The same key gives the same numbers on every device.
    let key = Tensor::key(42, &device);
    show("uniform under key 42", &Tensor::uniform([4], &key));

    // A mistake makes an invalid tensor, and so does everything built on it: formulas need no `?`.
    // Whoever reads the result gets the first mistake, with the line it was made on.
    let wrong = (x.matmul(&Tensor::ones([4, 5], &device)) + 1.0).relu().sum(..);
    match wrong.item::<f32>() {
        Ok(sum) => println!("sum: {sum}"),
        Err(error) => println!("a mistake reads as\n  {error}"),
    }
    Ok(())
}

/// Prints a tensor under its name; `{}` looks like NumPy, `{:?}` tells shape, dtype and device.
fn show(name: &str, x: &Tensor) {
    println!("{name}: {} {}\n{x}\n", x.dtype(), x.shape());
}
