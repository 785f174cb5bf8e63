//! What optimizers make of single weights, by hand.

use wgrad::optim::{LossScale, Muon, Optimizer, Rule, Sgd};
use wgrad::prelude::*;

use crate::devices::devices;
use crate::support::assert_close;

/// Weights `a` and `b`, which are 1, and an optimizer of them.
struct Pair<R> {
    params: Params,
    weights: [Param; 2],
    optimizer: Optimizer<R>,
}

impl<R: Rule> Pair<R> {
    fn new(device: &Device, make: impl Fn(&Params) -> Optimizer<R>) -> Pair<R> {
        let params = Params::new(device, 1);
        let weights = ["a", "b"].map(|name| params.weight(name, [1], Init::Ones));
        let optimizer = make(&params);
        Pair { params, weights, optimizer }
    }

    /// A step with these gradients; what the weights are after it.
    fn step(&mut self, gradients: [f32; 2]) -> [f64; 2] {
        let pass = Pass::train(&self.params);
        let [a, b] = [0, 1].map(|k| self.weights[k].tensor(&pass) * Tensor::new(gradients[k], self.params.device()));
        let loss = (a + b).sum(..);
        self.optimizer.step(self.optimizer.backward(&loss)).unwrap();
        self.weights.each_ref().map(|w| f64::from(w.value().item::<f32>().unwrap()))
    }

    fn scale(&self) -> f32 {
        self.optimizer.present_loss_scale().unwrap().item::<f32>().unwrap()
    }
}

#[track_caller]
fn close(device: &Device, got: [f64; 2], want: [f64; 2]) {
    assert_close(&device.to_string(), &got, &want, 1e-5);
}

#[test]
fn groups_have_their_learning_rate_and_decay() {
    for device in devices() {
        let mut pair = Pair::new(&device, |p| Sgd::new(p, 0.5).weight_decay(0.4).group("b", 0.1, 0.2));
        // 1 - 0.5 (2 + 0.4) and 1 - 0.05 (3 + 0.2), then 0.4 of the first is -0.08.
        close(&device, pair.step([2.0, 3.0]), [-0.2, 0.84]);
        close(&device, pair.step([0.0, 0.0]), [-0.2 + 0.5 * 0.08, 0.84 - 0.05 * 0.168]);
    }
}

/// Weights of two groups are two units; the length is that of both together.
#[test]
fn clip_norm_is_of_all_gradients_and_only_shortens() {
    for device in devices() {
        let mut pair = Pair::new(&device, |p| Sgd::new(p, 1.0).group("b", 2.0, 0.0).clip_norm(1.0));
        close(&device, pair.step([3.0, -4.0]), [1.0 - 0.6, 1.0 + 2.0 * 0.8]);
        close(&device, pair.step([0.3, -0.4]), [0.4 - 0.3, 2.6 + 2.0 * 0.4]);
    }
}

#[test]
fn clip_value_is_of_each_element() {
    for device in devices() {
        let mut pair = Pair::new(&device, |p| Sgd::new(p, 1.0).clip_value(0.5));
        close(&device, pair.step([3.0, -0.25]), [0.5, 1.25]);
        close(&device, pair.step([0.25, -3.0]), [0.25, 1.75]);
        // Values first, then the length of what is left.
        let mut pair = Pair::new(&device, |p| Sgd::new(p, 1.0).clip_norm(1.0).clip_value(6.0));
        close(&device, pair.step([80.0, -8.0]), [1.0 - 0.5f64.sqrt(), 1.0 + 0.5f64.sqrt()]);
    }
}

#[test]
fn dampening_begins_with_the_second_gradient() {
    for device in devices() {
        let mut pair = Pair::new(&device, |p| Sgd::new(p, 1.0).momentum(0.5).dampening(0.25));
        // Directions 2, 1 + 1.5 and 1.25 + 1.5; and 4, 2, 1 + 0.75.
        close(&device, pair.step([2.0, 4.0]), [-1.0, -3.0]);
        close(&device, pair.step([2.0, 0.0]), [-3.5, -5.0]);
        close(&device, pair.step([2.0, 1.0]), [-6.25, -6.75]);
    }
}

#[test]
fn a_factor_multiplies_the_learning_rate() {
    for device in devices() {
        let mut pair = Pair::new(&device, |p| Sgd::new(p, 0.5).group("b", 2.0, 0.0));
        pair.optimizer.set_factor(0.5);
        assert_eq!((pair.optimizer.factor(), pair.optimizer.lr()), (0.5, 0.25));
        close(&device, pair.step([1.0, 1.0]), [0.75, 0.5]);
        pair.optimizer.set_factor(1.0);
        close(&device, pair.step([1.0, 1.0]), [0.25, -0.5]);
    }
}

#[test]
fn a_loss_scale_grows_after_its_interval_and_halves_at_infinities() {
    for device in devices() {
        let scale = || LossScale::dynamic().initial(4.0).interval(3);
        let mut pair = Pair::new(&device, |p| Sgd::new(p, 0.5).loss_scale(scale()).clip_norm(1.0));
        let mut scales = Vec::new();
        for k in 0..12 {
            // Step 4 is left out, and the count begins anew.
            let gradients = if k == 4 { [f32::INFINITY, 0.0] } else { [0.25, 2.0] };
            let before = pair.weights.each_ref().map(|w| f64::from(w.value().item::<f32>().unwrap()));
            let after = pair.step(gradients);
            // Clipped is the gradient, not what the scale made of it.
            let length = (0.25f64 * 0.25 + 4.0).sqrt();
            let by = if k == 4 { [0.0; 2] } else { [0.125 / length, 1.0 / length] };
            close(&device, after, [before[0] - by[0], before[1] - by[1]]);
            scales.push(pair.scale());
        }
        assert_eq!(scales, [4.0, 4.0, 8.0, 8.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0, 16.0, 16.0], "{device}");

        let mut pair = Pair::new(&device, |p| Sgd::new(p, 0.5).loss_scale(LossScale::constant(4.0).interval(1)));
        close(&device, pair.step([1.0, 2.0]), [0.5, 0.0]);
        close(&device, pair.step([f32::INFINITY, 0.0]), [0.5, 0.0]);
        assert_eq!(pair.scale(), 4.0, "{device}");
    }
}

/// The iteration leaves singular vectors as they are and takes each singular value by itself, so what it
/// makes of a matrix made of known ones can be told without a product of matrices.
#[test]
fn muon_brings_singular_values_near_one() {
    // Columns of length 1 at right angles.
    let (u, v) = ([[0.6, 0.64], [-0.8, 0.48], [0.0, 0.6]], [[0.8, -0.6], [0.6, 0.8]]);
    let of = |s: [f64; 2], turned: bool| -> Vec<f64> {
        let at = |i: usize, j: usize| (0..2).map(|k| u[i][k] * s[k] * v[j][k]).sum();
        (0..6).map(|k| if turned { at(k % 3, k / 3) } else { at(k / 2, k % 2) }).collect()
    };
    let (lr, decay, momentum) = (0.1, 0.1, 0.95);
    let gradients = [[3.0, 0.5], [-1.0, 2.0], [0.25, 0.0]];
    for (device, nesterov, turned) in devices().into_iter().flat_map(|device| {
        [(true, false), (true, true), (false, false)].map(move |(nesterov, turned)| (device.clone(), nesterov, turned))
    }) {
        let params = Params::new(&device, 1);
        let dims = if turned { [2, 3] } else { [3, 2] };
        let (matrix, vector) = (params.weight("matrix", dims, Init::Ones), params.weight("vector", [1], Init::Ones));
        let mut muon = Muon::new(&params, lr).nesterov(nesterov);
        let (mut wanted, mut other) = (vec![1.0; 6], 1.0);
        let mut direction = [0.0; 2];
        for gradient in gradients {
            let numbers = of(gradient, turned).into_iter().map(|x| x as f32).collect::<Vec<_>>();
            let (pass, slope) = (Pass::train(&params), Tensor::from_vec(numbers, dims, &device));
            let beside = vector.tensor(&pass) * Tensor::new(gradient[0] as f32, &device);
            let loss = (matrix.tensor(&pass) * slope).sum(..) + beside.sum(..);
            muon.step(loss.backward(&params)).unwrap();

            direction = [0, 1].map(|k| momentum * direction[k] + (1.0 - momentum) * gradient[k]);
            let ahead = [0, 1].map(|k| momentum * direction[k] + (1.0 - momentum) * gradient[k]);
            let by = if nesterov { ahead } else { direction };
            let length = by[0].hypot(by[1]);
            let quintic = |s: f64| 3.4445 * s - 4.775 * s.powi(3) + 2.0315 * s.powi(5);
            let near = by.map(|s| (0..5).fold(s / length, |s, _| quintic(s)));
            assert!(near.iter().all(|s| (0.6..1.3).contains(&s.abs())), "{near:?}");
            // More rows than columns go further.
            let factor = if turned { 1.0 } else { 1.5f64.sqrt() };
            let step = of(near, turned);
            wanted.iter_mut().zip(step).for_each(|(w, by)| *w = *w * (1.0 - lr * decay) - lr * factor * by);
            other = other * (1.0 - lr * decay) - lr * by[0];

            let found: Vec<f64> = matrix.value().to_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
            assert_close(&format!("{dims:?} on {device}"), &found, &wanted, 1e-4);
            let found = f64::from(vector.value().item::<f32>().unwrap());
            assert_close(&format!("a vector on {device}"), &[found], &[other], 1e-5);
        }
    }
}
