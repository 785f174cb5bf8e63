//! Optimizers: what a step does, what it compiles, what it keeps, what it lets go.

use wgrad::data::{Array, Loader, TensorDataset};
use wgrad::device::cpu::Cpu;
use wgrad::optim::{Adafactor, Adagrad, Adam, AdamW, Lion, LossScale, Muon, Optimizer, RmsProp, Rule, Schedule, Sgd};
use wgrad::prelude::*;

use crate::devices::{devices, is_cpu, own_gpu, plain_cpu};

/// A model of two layers whose shapes fill no whole vectors.
struct Mlp([Param; 4]);

impl Mlp {
    fn new(params: &Params) -> Mlp {
        let init = Init::KaimingUniform { gain: 1.0 };
        let weight = |name: &str, dims: &[usize], init| params.weight(name, dims, init);
        Mlp([
            weight("fc1.weight", &[5, 3], init),
            weight("fc1.bias", &[5], Init::Zeros),
            weight("fc2.weight", &[2, 5], init),
            weight("fc2.bias", &[2], Init::Zeros),
        ])
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [w1, b1, w2, b2] = self.0.each_ref().map(|p| p.tensor(pass));
        (x.matmul(&w1.t()) + b1).tanh().matmul(&w2.t()) + b2
    }
}

fn batch(device: &Device, n: usize) -> (Tensor, Tensor) {
    let x: Vec<f32> = (0..4 * 3).map(|k| ((k * 7 + n * 5) % 11) as f32 / 11.0 - 0.4).collect();
    let ids: Vec<i32> = (0..4).map(|k| ((k + n) % 2) as i32).collect();
    (Tensor::from_vec(x, [4, 3], device), Tensor::from_vec(ids, [4], device))
}

fn values(params: &Params) -> Vec<Vec<f32>> {
    params.iter().map(|p| p.value().to_vec::<f32>().unwrap()).collect()
}

/// Twelve steps of `make`'s optimizer on every device: the loss falls, one plan serves all steps
/// but the first ones, and what is saved after six goes on with the same bits.
fn trains<R: Rule>(make: impl Fn(&Params) -> Optimizer<R>) {
    for device in devices() {
        let run = |optimizer: &mut Optimizer<R>, params: &Params, model: &Mlp, steps: std::ops::Range<usize>| {
            let mut losses = Vec::new();
            for n in steps {
                let (x, ids) = batch(&device, n % 2);
                let loss = model.forward(&x, &Pass::train(params)).cross_entropy(&ids);
                optimizer.step(optimizer.backward(&loss)).unwrap();
                losses.push(loss.item::<f32>().unwrap());
            }
            losses
        };
        let start = || {
            let params = Params::new(&device, 3);
            let model = Mlp::new(&params);
            let optimizer = make(&params).schedule(Schedule::cosine(12, 0.1));
            (params, model, optimizer)
        };
        let (params, model, mut optimizer) = start();
        let name = optimizer.rule().name();
        let mut losses = run(&mut optimizer, &params, &model, 0..3);
        losses.extend(run(&mut optimizer, &params, &model, 3..6));
        let state = optimizer.state().unwrap();
        let (saved, passes) = (values(&params), params.passes());
        losses.extend(run(&mut optimizer, &params, &model, 6..12));
        assert!(losses[10] + losses[11] < losses[0] + losses[1], "{name} on {device}: {losses:?}");

        let (again, model, mut optimizer) = start();
        let cells: Vec<Param> = again.iter().collect();
        let tensors = saved.into_iter().zip(&cells).map(|(v, p)| (p, Tensor::from_vec(v, p.value().dims(), &device)));
        again.assign(tensors).unwrap();
        again.set_passes(passes);
        let find = |name: &str| state.iter().find(|(known, _)| known == name).map(|(_, x)| x.clone());
        optimizer.restore(6, find).unwrap();
        assert_eq!(run(&mut optimizer, &again, &model, 6..12), losses[6..], "{name} on {device}");
        assert_eq!(values(&again), values(&params), "{name} on {device}");
    }
}

/// One test for each optimizer.
macro_rules! optimizers {
    ($($name:ident: $make:expr;)*) => {$(
        #[test]
        fn $name() {
            trains($make);
        }
    )*};
}
optimizers! {
    sgd: |p: &Params| Sgd::new(p, 0.3);
    sgd_with_momentum: |p: &Params| Sgd::new(p, 0.2).momentum(0.9).nesterov(true).weight_decay(0.01);
    adam: |p: &Params| Adam::new(p, 0.02).weight_decay(0.01);
    adamw: |p: &Params| AdamW::new(p, 0.02).clip_norm(1.0).average(0.9);
    adamw_in_groups: |p: &Params| AdamW::new(p, 0.02).group("*.bias", 2.0, 0.0);
    adamw_scaled: |p: &Params| AdamW::new(p, 0.02).loss_scale(LossScale::dynamic().interval(4));
    rmsprop: |p: &Params| RmsProp::new(p, 0.01).momentum(0.5).centered(true);
    adagrad: |p: &Params| Adagrad::new(p, 0.1).lr_decay(0.01).clip_value(0.5);
    lion: |p: &Params| Lion::new(p, 0.01).weight_decay(0.01);
    adafactor: |p: &Params| Adafactor::new(p, 0.05);
    muon: |p: &Params| Muon::new(p, 0.02);
}

/// Devices whose plans nobody else makes.
fn own_devices() -> Vec<Device> {
    std::iter::once(Cpu::beside()).chain(own_gpu()).collect()
}

/// A schedule over a thousand steps, dropout, and epochs whose last batch is not full: one plan.
#[test]
fn a_thousand_steps_of_all_sorts_have_one_plan() {
    for device in own_devices() {
        let params = Params::new(&device, 3);
        let model = Mlp::new(&params);
        let dropout = nn::Dropout::new(0.3);
        let mut adam = AdamW::new(&params, 0.01).clip_norm(1.0).average(0.9).schedule(Schedule::one_cycle(1000));
        adam = adam.group("*.bias", 1.0, 0.0);
        let x: Vec<f32> = (0..10 * 3).map(|k| (k * 7 % 11) as f32 / 11.0).collect();
        let ids: Vec<i32> = (0..10).map(|k| k % 2).collect();
        let data = TensorDataset::of_arrays(Array::new(&x, [10, 3]).unwrap(), Array::new(&ids, [10]).unwrap()).unwrap();
        let loader = Loader::new(data, 4).shuffle(5);
        // Zeros for the states are a plan of their own, and so is the self-test of a GPU's products.
        adam.state().unwrap();
        Tensor::ones([5, 3], &device).matmul(&Tensor::ones([3, 5], &device)).realize().unwrap();
        let before = device.plans_made();
        while adam.steps() < 1000 {
            for batch in loader.epoch(&device) {
                let pass = Pass::train(&params);
                let scores = model.forward(&dropout.forward(&batch.x, &pass), &pass);
                let losses = scores.cross_entropy_with(&batch.y, ClassOptions::default().reduce(Reduce::None));
                adam.step(batch.mean(&losses).backward(&params)).unwrap();
            }
        }
        assert_eq!(device.plans_made() - before, 1, "{device}");
    }
}

/// Beside loss and gradients, a step takes two dispatches for the norm of all gradients, and one
/// for the update with its states, its average and its clipping.
#[cfg(feature = "gpu")]
#[test]
fn updates_take_three_dispatches() {
    let Some(device) = own_gpu() else { return };
    fn counted<R: Rule>(device: &Device, make: impl Fn(&Params) -> Optimizer<R>) {
        let params = Params::new(device, 3);
        let model = Mlp::new(&params);
        let (x, ids) = batch(device, 0);
        let mut optimizer = make(&params).average(0.9).clip_norm(1.0).clip_value(0.5);
        let name = optimizer.rule().name();
        let gradients = || model.forward(&x, &Pass::train(&params)).cross_entropy(&ids).backward(&params);
        let dispatches = || wgrad::device::gpu::Gpu::of(device).unwrap().counts()[0];
        optimizer.step(gradients()).unwrap();
        let before = dispatches();
        let alone = gradients();
        let tensors: Vec<&Tensor> = std::iter::once(alone.loss()).chain(alone.iter().map(|(_, g)| g)).collect();
        wgrad::realize(tensors).unwrap();
        let alone = dispatches() - before;
        let before = dispatches();
        optimizer.step(gradients()).unwrap();
        let step = dispatches() - before;
        println!("{name}: {step} dispatches, {alone} of them for loss and gradients");
        assert!(step <= alone + 3, "{name}: {step} dispatches, {alone} for loss and gradients");
    }
    counted(&device, |p| Sgd::new(p, 0.1));
    counted(&device, |p| Sgd::new(p, 0.1).momentum(0.9).nesterov(true).weight_decay(0.1));
    counted(&device, |p| Adam::new(p, 0.1).weight_decay(0.1));
    counted(&device, |p| AdamW::new(p, 0.1));
    counted(&device, |p| RmsProp::new(p, 0.1).momentum(0.5).centered(true));
    counted(&device, |p| Adagrad::new(p, 0.1));
    counted(&device, |p| Lion::new(p, 0.1));
}

/// Logits read after a step are those of the weights before it, computed along with it.
#[test]
fn what_is_held_is_computed_by_the_step() {
    for device in devices() {
        let params = Params::new(&device, 3);
        let model = Mlp::new(&params);
        let (x, ids) = batch(&device, 0);
        let before = model.forward(&x, &Pass::eval()).to_vec::<f32>().unwrap();
        let mut sgd = Sgd::new(&params, 0.1);
        let logits = model.forward(&x, &Pass::train(&params));
        let loss = logits.cross_entropy(&ids);
        sgd.step(loss.backward(&params)).unwrap();
        assert!(logits.is_realized() && loss.is_realized());
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&logits.to_vec::<f32>().unwrap(), &before), "{device}");
        let after = model.forward(&x, &Pass::eval()).to_vec::<f32>().unwrap();
        assert!(!close(&after, &before), "{device}");
        // The history went with the step: a gradient can no longer be had, and no weight is held.
        let error = loss.backward(&params).get(&model.0[0]).unwrap().to_vec::<f32>().unwrap_err();
        assert!(error.to_string().contains("got a new value after the loss was built"), "{device}: {error}");
    }
}

/// A loss of values that were replaced has no gradients, which is not to say zeros.
#[test]
fn a_loss_of_old_weights_is_refused() {
    let params = Params::new(&plain_cpu(), 3);
    let w = params.weight("w", [2], Init::Ones);
    let square = |pass: &Pass| (w.tensor(pass) * w.tensor(pass)).sum(..);
    let loss = square(&Pass::train(&params));
    // To make an optimizer moves the weights into a slab.
    let mut sgd = Sgd::new(&params, 0.1);
    let error = sgd.step(loss.backward(&params)).unwrap_err().to_string();
    assert!(error.contains("w got a new value after the loss was built") && error.contains("optim.rs"), "{error}");
    let losses = [0, 1].map(|_| square(&Pass::train(&params)));
    sgd.step(losses[0].backward(&params)).unwrap();
    assert!(sgd.step(losses[1].backward(&params)).is_err());
    assert_eq!(w.value().to_vec::<f32>().unwrap(), [0.8, 0.8]);
    // A weight that is newer than the loss has no part in it.
    let loss = square(&Pass::train(&params));
    let late = params.weight("late", [3], Init::Ones);
    assert_eq!(loss.backward(&params).get(&late).unwrap().to_vec::<f32>().unwrap(), [0.0; 3]);
}

#[test]
fn a_step_that_fails_changes_nothing() {
    own_devices().iter().for_each(fails_without_a_trace);
}

fn fails_without_a_trace(device: &Device) {
    let params = Params::new(device, 3);
    let model = Mlp::new(&params);
    let count = params.buffer("count", &Tensor::new([0], device));
    let mut adam = AdamW::new(&params, 0.1);
    let state = |adam: &mut Optimizer<AdamW>| -> Vec<Vec<f32>> {
        adam.state().unwrap().iter().map(|(_, x)| x.to_vec::<f32>().unwrap()).collect()
    };
    let step = |adam: &mut Optimizer<AdamW>, x: &Tensor, ids: &Tensor| {
        let pass = Pass::train(&params);
        pass.record(&count, &(count.tensor(&pass) + 1));
        let loss = model.forward(x, &pass).cross_entropy(ids);
        adam.step(loss.backward(&params))
    };
    let (x, ids) = batch(device, 0);
    step(&mut adam, &x, &ids).unwrap();
    let all = |adam: &mut Optimizer<AdamW>| (values_of(&model), count.value().to_vec::<i32>().unwrap(), state(adam));
    let before = all(&mut adam);
    assert_eq!(before.1, [1]);
    let mut fails = |x: &Tensor, ids: &Tensor, why: &str, limit: Option<u64>| {
        x.realize().unwrap();
        ids.realize().unwrap();
        if limit.is_some() {
            device.set_memory_limit(limit);
        }
        let stepped = step(&mut adam, x, ids);
        if limit.is_some() {
            device.set_memory_limit(None);
        }
        let error = stepped.expect_err(why).to_string();
        assert!(error.contains(why), "{device}: {error}");
        assert_eq!(all(&mut adam), before, "{device}: {error}");
        assert_eq!(adam.steps(), 1);
    };
    fails(&x.narrow(1, 0, 2), &ids, "inner dimensions differ", None);
    // A plan that is not known yet, on a device that has no memory for it.
    let (x, ids) = (Tensor::cat(&[&x, &x, &x], 0), Tensor::cat(&[&ids, &ids, &ids], 0));
    fails(&x, &ids, "limit", Some(64));
    if is_cpu(device) {
        fails(&x, &(&ids + 7), "out of range", None);
        return;
    }
    // A GPU does not wait to hear of an index: the error comes with what is read next, and a step may
    // have been made by then.
    let loss = model.forward(&x, &Pass::train(&params)).cross_entropy(&(&ids + 7));
    let read = adam.step(loss.backward(&params)).and_then(|()| loss.item::<f32>());
    let error = read.unwrap_err().to_string();
    assert!(error.contains("out of range"), "{device}: {error}");
}

fn values_of(model: &Mlp) -> Vec<Vec<f32>> {
    model.0.iter().map(|p| p.value().to_vec::<f32>().unwrap()).collect()
}

/// Kept losses are numbers: neither weights nor what a step computed on the way hang on them.
#[test]
fn a_kept_loss_holds_no_weights() {
    let Some(device) = own_gpu() else { return };
    let params = Params::new(&device, 3);
    let w = params.weight("w", [256, 256], Init::KaimingUniform { gain: 1.0 });
    let mut adam = AdamW::new(&params, 0.01);
    let mut losses = Vec::new();
    let mut live = Vec::new();
    for _ in 0..12 {
        let w = w.tensor(&Pass::train(&params));
        let loss = (&w * &w).sum(..);
        drop(w);
        adam.step(loss.backward(&params)).unwrap();
        losses.push(loss);
        live.push(device.memory_use().live_bytes);
    }
    let grown = live[11].saturating_sub(live[3]);
    assert!(grown < 256 * 256, "{live:?}: eight losses more hold {grown} bytes, and weights have {}", 4 * 256 * 256);
    assert!(losses.iter().all(|loss| loss.item::<f32>().unwrap() > 0.0));
}

/// A loss of infinity leaves weights and states alone and halves the scale.
#[test]
fn a_step_with_infinite_gradients_is_left_out() {
    for device in devices() {
        let params = Params::new(&device, 3);
        let w = params.weight("w", [3], Init::Ones);
        let mut sgd = Sgd::new(&params, 0.5).momentum(0.9).loss_scale(LossScale::dynamic().initial(8.0));
        let mut step = |factor: f32| {
            let factor = Tensor::new(factor, &device);
            let loss = (w.tensor(&Pass::train(&params)) * factor).sum(..);
            sgd.step(sgd.backward(&loss)).unwrap();
            let scale = sgd.present_loss_scale().unwrap().item::<f32>().unwrap();
            (w.value().to_vec::<f32>().unwrap()[0], scale)
        };
        assert_eq!(step(1.0), (0.5, 8.0));
        assert_eq!(step(f32::INFINITY), (0.5, 4.0));
        let (moved, scale) = step(1.0);
        assert!((moved - (0.5 - 0.5 * 1.9)).abs() < 1e-6 && scale == 4.0, "{device}: {moved}");
    }
}

#[test]
fn averages_follow_the_weights() {
    let params = Params::new(&Device::cpu(), 3);
    let w = params.weight("w", [1], Init::Ones);
    let mut sgd = Sgd::new(&params, 1.0).average(0.5);
    for _ in 0..2 {
        sgd.step(w.tensor(&Pass::train(&params)).sum(..).backward(&params)).unwrap();
    }
    assert_eq!(w.value().item::<f32>().unwrap(), -1.0);
    sgd.swap_average().unwrap();
    assert_eq!(w.value().item::<f32>().unwrap(), 0.5 * 0.5 - 0.5);
    sgd.swap_average().unwrap();
    assert_eq!(w.value().item::<f32>().unwrap(), -1.0);
}

/// An average of what never changes is that, though 0.999 and 0.001 are rounded each for itself.
#[test]
fn averages_of_the_same_do_not_drift() {
    let params = Params::new(&Device::cpu(), 3);
    let w = params.weight("w", [64], Init::Uniform { low: -1.0, high: 1.0 });
    let mut sgd = Sgd::new(&params, 0.0).average(0.999);
    for _ in 0..20 {
        sgd.step(w.tensor(&Pass::train(&params)).sum(..).backward(&params)).unwrap();
    }
    let before = w.value().to_vec::<f32>().unwrap();
    sgd.swap_average().unwrap();
    assert_eq!(w.value().to_vec::<f32>().unwrap(), before);
}

#[test]
fn settings_out_of_range_are_told() {
    fn told<R: Rule>(make: impl Fn(&Params) -> Optimizer<R>) -> String {
        let params = Params::new(&Device::cpu(), 3);
        let w = params.weight("w", [2, 2], Init::Ones);
        let mut optimizer = make(&params);
        let stepped = optimizer.step(w.tensor(&Pass::train(&params)).sum(..).backward(&params));
        stepped.map_or_else(|error| error.to_string(), |()| "made".into())
    }
    let nan = f64::NAN;
    for (told, want) in [
        (told(|p| Sgd::new(p, -0.1)), "lr -0.1 is not at least 0"),
        (told(|p| Sgd::new(p, nan)), "lr NaN is not at least 0"),
        (told(|p| Sgd::new(p, 0.1).momentum(-0.5)), "momentum -0.5 is not at least 0"),
        (told(|p| Sgd::new(p, 0.1).momentum(0.5).dampening(nan)), "dampening NaN is not a number"),
        (told(|p| Sgd::new(p, 0.1).nesterov(true)), "nesterov takes a momentum and no dampening, got 0 and 0"),
        (told(|p| Sgd::new(p, 0.1).weight_decay(-1.0)), "weight_decay -1 is not at least 0"),
        (told(|p| Sgd::new(p, 0.1).clip_norm(nan)), "clip_norm NaN is not at least 0"),
        (told(|p| Sgd::new(p, 0.1).clip_value(-1.0)), "clip_value -1 is not at least 0"),
        (told(|p| Sgd::new(p, 0.1).average(1.5)), "average 1.5 is not in 0..=1"),
        (told(|p| Sgd::new(p, 0.1).group("w*", -1.0, 0.0)), "group w*: lr -1 is not at least 0"),
        (told(|p| Sgd::new(p, 0.1).schedule(Schedule::cosine(0, -1.0))), "the schedule's factor -1 is not at least 0"),
        (told(|p| Adam::new(p, 0.1).beta1(1.0)), "beta1 1 is not at least 0 and less than 1"),
        (told(|p| AdamW::new(p, 0.1).beta2(-0.1)), "beta2 -0.1 is not at least 0 and less than 1"),
        (told(|p| AdamW::new(p, 0.1).eps(-1e-8)), "eps -0.00000001 is not at least 0"),
        (told(|p| RmsProp::new(p, 0.1).alpha(-1.0)), "alpha -1 is not at least 0"),
        (told(|p| Adagrad::new(p, 0.1).lr_decay(-1.0)), "lr_decay -1 is not at least 0"),
        (told(|p| Lion::new(p, 0.1).beta2(nan)), "beta2 NaN is not at least 0 and less than 1"),
        (told(|p| Adafactor::new(p, 0.1).beta2_decay(0.5)), "beta2_decay 0.5 is not at most 0"),
        (told(|p| Adafactor::new(p, 0.1).threshold(0.5)), "threshold 0.5 is not at least 1"),
        (told(|p| Muon::new(p, 0.1).momentum(-1.0)), "momentum -1 is not at least 0"),
    ] {
        assert_eq!(told, format!("step: {want}"));
    }
    // What PyTorch takes is taken.
    let wide = |p: &Params| Sgd::new(p, 0.0).momentum(1.5).nesterov(true).clip_norm(f64::INFINITY).average(1.0);
    assert_eq!([told(wide), told(|p| AdamW::new(p, 0.1).beta1(0.0).beta2(0.0).eps(0.0))], ["made", "made"]);
}

#[test]
fn accumulated_batches_are_one_batch() {
    let device = Device::cpu();
    let weights = |parts: usize| {
        let params = Params::new(&device, 3);
        let model = Mlp::new(&params);
        let mut adam = AdamW::new(&params, 0.1);
        let (x, ids) = batch(&device, 0);
        let mut sum = None;
        for k in 0..parts {
            let n = 4 / parts;
            let logits = model.forward(&x.narrow(0, k * n, n), &Pass::train(&params));
            let loss = logits.cross_entropy(&ids.narrow(0, k * n, n)) / parts as f64;
            loss.backward(&params).accumulate(&mut sum).unwrap();
        }
        adam.step(sum.unwrap()).unwrap();
        values(&params).concat()
    };
    let pairs: Vec<(f32, f32)> = weights(1).into_iter().zip(weights(4)).collect();
    assert!(pairs.iter().all(|(a, b)| (a - b).abs() < 1e-5), "{pairs:?}");
}

#[test]
fn wrong_uses_are_told() {
    let params = Params::new(&Device::cpu(), 3);
    let model = Mlp::new(&params);
    let (x, ids) = batch(&Device::cpu(), 0);
    let loss = || model.forward(&x, &Pass::train(&params)).cross_entropy(&ids);
    let mut adam = AdamW::new(&params, 0.1);
    adam.step(loss().backward(&params)).unwrap();
    params.freeze("fc1.*");
    let error = adam.step(loss().backward(&params)).unwrap_err().to_string();
    assert_eq!(error, "step: fc1.weight was frozen after the optimizer began; make a new one");
    params.freeze("*");
    let error = AdamW::new(&params, 0.1).step(loss().backward(&params)).unwrap_err().to_string();
    assert_eq!(error, "step: there are no trained weights");
    assert!(adam.swap_average().is_err());
    let error = adam.restore(1, |_| None).unwrap_err().to_string();
    assert_eq!(error, "step: there are no trained weights");
    params.unfreeze("*");
    let mut sgd = Sgd::new(&params, 0.1);
    sgd.step(loss().backward(&params)).unwrap();
    let mut sgd = sgd.momentum(0.9);
    let error = sgd.step(loss().backward(&params)).unwrap_err().to_string();
    assert_eq!(error, "step: the rule or the average was set anew");
    assert!(sgd.state().is_err());
    let started = |change: fn(Optimizer<AdamW>) -> Optimizer<AdamW>| {
        let mut adam = AdamW::new(&params, 0.1);
        adam.step(loss().backward(&params)).unwrap();
        change(adam).step(loss().backward(&params)).map_err(|error| error.to_string())
    };
    assert_eq!(started(|adam| adam.clip_norm(1.0)), Ok(()));
    assert_eq!(started(|adam| adam.average(0.9)).unwrap_err(), error);
    let error = "step: groups or weight decay were set anew";
    assert_eq!(started(|adam| adam.group("fc1.*", 0.5, 0.0)).unwrap_err(), error);
    assert_eq!(started(|adam| adam.group("*.bias", 1.0, 0.0)).unwrap_err(), error);
    assert_eq!(started(|adam| adam.weight_decay(0.5)).unwrap_err(), error);
    // What nobody would move is no weight that is trained.
    params.freeze("fc1.*");
    let mut late = AdamW::new(&params, 0.1);
    late.step(loss().backward(&params)).unwrap();
    params.unfreeze("fc1.*");
    let error = late.step(loss().backward(&params)).unwrap_err().to_string();
    assert_eq!(error, "step: fc1.weight is trained since the optimizer began; make a new one");
    // Running statistics of a layer whose weights are elsewhere.
    let other = Params::new(&Device::cpu(), 4);
    let norm = nn::BatchNorm::without_affine(&other.at("norm"), x.dim(1));
    let pass = Pass::train(&params);
    let loss = model.forward(&norm.forward(&x, &pass), &pass).cross_entropy(&ids);
    let error = AdamW::new(&params, 0.1).step(loss.backward(&params)).unwrap_err().to_string();
    assert!(error.contains("norm.running_mean") && error.ends_with("or of another store"), "{error}");
}

/// States of a weight without axes are saved and read by optimizers that see weights in their shapes.
#[test]
fn states_of_a_single_number_come_back() {
    fn check<R: Rule>(make: impl Fn(&Params) -> Optimizer<R>) {
        let trained = |steps: usize, state: Option<Vec<(String, Tensor)>>| {
            let params = Params::new(&Device::cpu(), 3);
            let w = params.weight("scale", (), Init::Ones);
            let mut optimizer = make(&params);
            if let Some(state) = state {
                optimizer.restore(1, |name| state.iter().find(|(n, _)| n == name).map(|(_, x)| x.clone())).unwrap();
            }
            for _ in 0..steps {
                optimizer.step((w.tensor(&Pass::train(&params)) * 2.0).backward(&params)).unwrap();
            }
            optimizer.state().unwrap()
        };
        let names = |state: &[(String, Tensor)]| state.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let (once, twice) = (trained(1, None), trained(2, None));
        let resumed = trained(1, Some(once));
        assert_eq!(names(&resumed), names(&twice));
        for ((name, a), (_, b)) in resumed.iter().zip(&twice) {
            assert_eq!(a.to_vec::<f32>().unwrap(), b.to_vec::<f32>().unwrap(), "{name}");
        }
    }
    check(|params| Muon::new(params, 0.1));
    check(|params| Adafactor::new(params, 0.1));
}

/// A factor that doubled for ever would be infinite, and never shrink again.
#[test]
fn loss_scale_stays_finite() {
    let params = Params::new(&Device::cpu(), 3);
    let w = params.weight("w", [2], Init::Ones);
    let mut sgd = Sgd::new(&params, 0.1).loss_scale(LossScale::dynamic().initial(1e38).interval(1));
    for _ in 0..4 {
        let loss = (w.tensor(&Pass::train(&params)) * 0.0).sum(..);
        sgd.step(sgd.backward(&loss)).unwrap();
        assert!(sgd.present_loss_scale().unwrap().item::<f32>().unwrap().is_finite());
    }
}

/// A schedule without an end is never over, and PyTorch's one cycle has its top a step before 30 %.
#[test]
fn schedules_end_when_they_do() {
    let decays = Schedule::step(30, 0.1).then(Schedule::cosine(10, 0.5));
    assert_eq!([0, 29, 30, 60].map(|step| (decays.at(step) * 1e6).round()), [1e6, 1e6, 1e5, 1e4]);
    let product = Schedule::cosine(10, 0.5).times(Schedule::exponential(1.0)).then(Schedule::constant());
    assert_eq!([9, 10].map(|step| product.at(step) < 1.0), [true, false]);
    let cycle = Schedule::one_cycle(10);
    assert_eq!(cycle.at(2), 1.0);
    assert!(cycle.at(1) < 1.0 && cycle.at(3) < 1.0);
    assert!((cycle.at(9) - 4e-6).abs() < 1e-9 && (cycle.at(50) - 4e-6).abs() < 1e-9);
    assert!([0, 1, 2, 3].iter().all(|&n| Schedule::one_cycle(n).at(7).is_finite()));
}
