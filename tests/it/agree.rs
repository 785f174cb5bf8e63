//! Every primitive on every device against the oracle, case by case.

use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::devices;

/// Checks `build` on every device.
#[track_caller]
fn everywhere(what: &str, build: &dyn Fn(&Device) -> Case) {
    for device in devices() {
        agree(what, &How::Realize(device), build).check();
    }
}

#[test]
fn a_sum_of_products() {
    everywhere("a sum of products", &|device| {
        let x = Tensor::from_vec((0..24).map(|k| k as f32 * 0.25 - 3.0).collect(), [4, 6], device);
        let y = (&x * &x + 1.0).sum(1);
        Case::new(vec![y, x.exp()], vec![x])
    });
}

#[test]
fn a_product_with_a_bias() {
    everywhere("a product with a bias", &|device| {
        let x = Tensor::from_vec((0..24).map(|k| k as f32 * 0.25 - 3.0).collect(), [4, 6], device);
        let w = Tensor::from_vec((0..42).map(|k| (k as f32 * 0.7).sin()).collect(), [6, 7], device);
        let b = Tensor::from_vec((0..7).map(|k| k as f32).collect(), [7], device);
        let y = (x.matmul(&w) + &b).relu();
        Case::new(vec![y.softmax(-1), y.argmax(-1)], vec![x, w, b])
    });
}
