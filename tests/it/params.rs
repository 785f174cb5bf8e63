//! The store of weights, passes, and what a step computes and lets go.

use wgrad::prelude::*;

use crate::hostile::{Folder, refuses};

fn cpu() -> Device {
    Device::cpu()
}

#[test]
fn weights_depend_on_seed_and_path_only() {
    let init = Init::KaimingUniform { gain: 1.0 };
    let value = |seed, path: &str| {
        let params = Params::new(&cpu(), seed);
        params.weight("other", [7], init);
        params.weight(path, [4, 3], init).value().to_vec::<f32>().unwrap()
    };
    assert_eq!(value(1, "a"), value(1, "a"));
    assert_ne!(value(1, "a"), value(1, "b"));
    assert_ne!(value(1, "a"), value(2, "a"));
    let bound = (3.0f32 / 3.0).sqrt();
    assert!(value(1, "a").iter().all(|x| x.abs() <= bound));
}

#[test]
fn a_path_that_is_taken_is_an_error_when_read() {
    let params = Params::new(&cpu(), 1);
    params.weight("w", [2], Init::Ones);
    let again = params.weight("w", [2], Init::Ones);
    let error = again.value().to_vec::<f32>().expect_err("a taken path").to_string();
    assert!(error.starts_with("weight: w is taken already at tests/it/params.rs:"), "{error}");
    let wide = params.weight("wide", [-1], Init::Ones).value().error().map(ToString::to_string);
    assert!(wide.is_some_and(|e| e.starts_with("weight: wide: ")));
    assert!(params.to_string().contains("is taken already"));
}

#[test]
fn the_table_of_contents() {
    let params = Params::new(&cpu(), 1);
    let table = params.weight("embedding.weight", [1000, 4], Init::Zeros);
    params.at("head").tie("weight", &table);
    params.buffer("norm.running_mean", &Tensor::zeros([4], &cpu()));
    params.weight("norm.weight", [4], Init::Ones);
    params.freeze("norm.*");
    let want = "\
path               shape      dtype  count
embedding.weight   [1000, 4]  f32    4,000
head.weight        [1000, 4]  f32    = embedding.weight
norm.running_mean  [4]        f32    (buffer)
norm.weight        [4]        f32    4 (frozen)
4,004 parameters, 4 of them frozen";
    assert_eq!(params.to_string(), want);
    assert_eq!(params.at("norm").len(), 2);
    assert!(params.at("nor").is_empty());
}

#[test]
fn gradients_reach_weights_in_training_only() {
    let params = Params::new(&cpu(), 1);
    let w = params.weight("w", [2], Init::Ones);
    let loss = |pass: &Pass| (w.tensor(pass) * 3.0).sum(..);
    let gradient = |pass: &Pass| loss(pass).backward(&params).get(&w).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(gradient(&Pass::train(&params)), [3.0, 3.0]);
    assert_eq!(gradient(&Pass::eval()), [0.0, 0.0]);
    params.freeze("w");
    assert!(loss(&Pass::train(&params)).backward(&params).get(&w).is_none());
}

#[test]
fn a_pass_has_keys_of_its_own_and_evaluation_has_none() {
    let params = Params::new(&cpu(), 1);
    let keys = |pass: &Pass| [0; 2].map(|_| pass.key().unwrap().to_vec::<u32>().unwrap());
    let first = keys(&Pass::train(&params));
    let second = keys(&Pass::train(&params));
    assert!(first[0] != first[1] && first[0] != second[0]);
    assert!(Pass::eval().key().is_none());
    assert_eq!(params.passes(), 2);
    params.set_passes(0);
    assert_eq!(keys(&Pass::train(&params)), first);
}

#[test]
fn assigning_is_all_or_nothing() {
    let params = Params::new(&cpu(), 1);
    let a = params.weight("a", [2], Init::Ones);
    let b = params.weight("b", [3], Init::Ones);
    let bad = params.assign([(&a, Tensor::zeros([2], &cpu())), (&b, Tensor::zeros([2], &cpu()))]);
    assert_eq!(bad.unwrap_err().to_string(), "assign: b has shape [3], the new value [2]");
    assert_eq!(a.value().to_vec::<f32>().unwrap(), [1.0, 1.0]);
    params.assign([(&a, Tensor::new([5, 6], &cpu()))]).unwrap();
    assert_eq!(a.value().to_vec::<f32>().unwrap(), [5.0, 6.0]);
}

#[test]
fn a_part_of_a_store_loads_what_it_saved() {
    let folder = Folder::new("part");
    let params = Params::new(&cpu(), 1);
    let trunk = params.at("trunk");
    let w = trunk.weight("w", [2], Init::Ones);
    params.at("head").tie("w", &w);
    let other = params.weight("other", [1], Init::Ones);
    trunk.save(folder.path("trunk")).unwrap();
    params.save(folder.path("whole")).unwrap();
    params.assign([(&w, Tensor::zeros([2], &cpu())), (&other, Tensor::zeros([1], &cpu()))]).unwrap();
    trunk.load(folder.path("trunk")).unwrap();
    assert_eq!(w.value().to_vec::<f32>().unwrap(), [1.0, 1.0]);
    assert_eq!(other.value().to_vec::<f32>().unwrap(), [0.0]);
    refuses(trunk.load(folder.path("whole")), &["the file has head.w, other, which the model has not"]);
    params.load(folder.path("whole")).unwrap();
    assert_eq!(other.value().to_vec::<f32>().unwrap(), [1.0]);
}

/// Whoever recorded last went on from the others, in whatever order passes begin and end.
#[test]
fn passes_before_one_step_move_a_batch_norm_one_after_another() {
    let params = Params::new(&cpu(), 3);
    let norm = nn::BatchNorm::new(&params, 1).momentum(0.5);
    let forward = |x: [f64; 2], pass: &Pass| norm.forward(&Tensor::new(x, &cpu()).reshape([2, 1]), pass).sum(..);
    let step = |loss: Tensor| loss.backward(&params).accumulate(&mut None).unwrap();
    let now = || [&norm.running_mean, &norm.running_var].map(|p| p.value().item::<f32>().unwrap());
    let count = || norm.num_batches_tracked.value().item::<i32>().unwrap();
    let (first, second) = (Pass::train(&params), Pass::train(&params));
    step(forward([1.0, 3.0], &first) + forward([2.0, 6.0], &second));
    assert_eq!((now(), count()), ([2.5, 4.75], 2));
    // The mean goes to 3.25, 3.625 and 5.8125: the first pass recorded before and after the second.
    step(forward([3.0, 5.0], &first) + forward([3.0, 5.0], &second) + forward([7.0, 9.0], &first));
    assert_eq!((now()[0], count()), (5.8125, 5));
    // A pass that is gone stays in what another made of it, and takes along what nobody did.
    let third = Pass::train(&params);
    let loss = forward([4.8125, 6.8125], &first) + forward([6.8125, 8.8125], &third);
    drop(first);
    drop(forward([0.0, 1.0], &Pass::train(&params)));
    step(loss);
    assert_eq!((now()[0], count()), (6.8125, 7));
    // What was assigned since is newer than what was recorded.
    let loss = forward([0.0, 1.0], &third);
    params.assign([(&norm.running_mean, Tensor::new([8.0], &cpu()))]).unwrap();
    step(loss + forward([0.0, 4.0], &second));
    assert_eq!((now()[0], count()), (5.0, 9));
}
