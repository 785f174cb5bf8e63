//! Depthwise convolutions of so many images that groups of them are several tasks, and their gradients.

use wgrad::prelude::*;

use super::on_threads;
use crate::support::{Rng, assert_close, exact};

#[test]
fn depthwise_convolutions_share_their_images_out() {
    let built = || {
        let (mut rng, device) = (Rng::new(3), Device::cpu());
        let mut of = |dims: &[usize]| rng.tensor(dims, -1.0..1.0).to_device(&device).tracked();
        let [x, w, dy] = [&[32, 3, 40, 40][..], &[3, 1, 3, 3], &[32, 3, 40, 40]].map(&mut of);
        let y = x.conv2d(&w, None, ConvOptions::default().padding(1).groups(3));
        let mut roots = y.vjp(&dy, &[&x, &w]);
        roots.push(y);
        roots
    };
    let run = |threads| {
        let roots = built();
        on_threads(threads, || wgrad::realize(&roots)).unwrap();
        roots.iter().map(|root| root.to_vec::<f32>().unwrap()).collect::<Vec<_>>()
    };
    let found = run(1);
    assert!(found == run(3), "threads change depthwise convolutions");
    for (k, (want, found)) in built().iter().zip(found).enumerate() {
        let found: Vec<f64> = found.into_iter().map(f64::from).collect();
        // A sum of 51200 products is good to their number's root.
        let tolerance = if k == 1 { 1e-4 } else { 1e-6 };
        assert_close(&format!("root {k}"), &found, &exact(want), tolerance);
    }
}
