//! The loader: orders, the last batch, workers, resuming, and errors that come in a batch.

use std::collections::BTreeSet;

use wgrad::data::{Array, Dataset, Loader, Position, Sample, TensorDataset, random_split};
use wgrad::prelude::*;

use crate::hostile::refuses;
use crate::support::makes_no_plan;

/// `n` samples: `x` is `[k, k]`, `y` is `k`.
fn counted(n: usize) -> TensorDataset {
    let x: Vec<f32> = (0..n).flat_map(|k| [k as f32; 2]).collect();
    let y: Vec<i32> = (0..n as i32).collect();
    TensorDataset::of_arrays(Array::new(&x, [n, 2]).unwrap(), Array::new(&y, [n]).unwrap()).unwrap()
}

/// The labels of each batch of the next epoch, with how many of them count.
fn labels(loader: &Loader) -> Vec<(Vec<i32>, usize)> {
    loader.epoch(&Device::cpu()).map(|batch| (batch.y.to_vec().unwrap(), batch.n)).collect()
}

#[test]
fn batches_have_one_shape_and_a_mask() {
    let loader = Loader::new(counted(5), 2);
    assert_eq!((loader.batches(), loader.samples(), loader.batch_size()), (3, 5, 2));
    let epoch = loader.epoch(&Device::cpu());
    assert_eq!(epoch.len(), 3);
    for (k, batch) in epoch.enumerate() {
        assert_eq!((batch.x.dims(), batch.y.dims(), batch.mask.dims()), (&[2, 2][..], &[2][..], &[2][..]));
        assert_eq!(batch.mask.to_vec::<f32>().unwrap(), if k < 2 { [1.0, 1.0] } else { [1.0, 0.0] });
        assert_eq!(batch.x.to_vec::<f32>().unwrap()[0], (2 * k) as f32);
    }
    assert_eq!(labels(&loader), [(vec![0, 1], 2), (vec![2, 3], 2), (vec![4, 0], 1)]);
    let dropped = Loader::new(counted(5), 2).drop_last(true);
    assert_eq!((dropped.batches(), dropped.samples(), labels(&dropped).len()), (2, 4, 2));
    assert_eq!(labels(&Loader::new(counted(2), 5)), [(vec![0, 1, 0, 1, 0], 2)]);
    assert_eq!(labels(&Loader::new(counted(0), 5)), []);
    assert_eq!(labels(&Loader::new(counted(3), 5).drop_last(true)), []);
}

#[test]
fn a_seed_determines_every_epoch_whatever_the_workers() {
    let epochs = |seed: u64, workers: usize| {
        let loader = Loader::new(counted(103), 10).shuffle(seed).workers(workers);
        (0..3).map(|_| labels(&loader)).collect::<Vec<_>>()
    };
    let want = epochs(42, 0);
    for workers in [1, 2, 3, 7, 50] {
        assert_eq!(epochs(42, workers), want, "{workers} workers");
    }
    assert_ne!(epochs(43, 0), want);
    assert_ne!(want[0], want[1]);
    for epoch in want {
        let seen: BTreeSet<i32> = epoch.iter().flat_map(|(labels, n)| labels[..*n].to_vec()).collect();
        assert_eq!(seen.len(), 103);
    }
    // Bits are for ever: another order would change every run that is resumed.
    let loader = Loader::new(counted(8), 8).shuffle(0);
    assert_eq!(
        [labels(&loader), labels(&loader)].concat(),
        [(vec![5, 0, 4, 6, 1, 7, 3, 2], 8), (vec![0, 1, 3, 6, 2, 4, 5, 7], 8)]
    );
}

#[test]
fn orders_are_uniform() {
    let mut counts = [[0; 6]; 6];
    let loader = Loader::new(counted(6), 6).shuffle(5).workers(0);
    for _ in 0..3000 {
        let (labels, _) = labels(&loader).remove(0);
        labels.iter().enumerate().for_each(|(place, &label)| counts[place][label as usize] += 1);
    }
    // 500 are expected of each, with a deviation of 20.
    assert!(counts.iter().flatten().all(|n| (400..600).contains(n)), "{counts:?}");
    let weighted = Loader::new(counted(3), 100).weighted([1.0, 0.0, 3.0], 4000, 9);
    let drawn: Vec<i32> = labels(&weighted).into_iter().flat_map(|(labels, _)| labels).collect();
    let of = |label: i32| drawn.iter().filter(|&&other| other == label).count();
    assert!(of(1) == 0 && (850..1150).contains(&of(0)), "{} {} {}", of(0), of(1), of(2));
}

#[test]
fn a_position_is_where_the_next_run_goes_on() {
    let loader = || Loader::new(counted(10), 3).shuffle(1).workers(2);
    let whole = loader();
    let want: Vec<_> = (0..3).flat_map(|_| labels(&whole)).collect();
    assert_eq!(whole.position(), Position { epoch: 2, batch: 4 });
    for stop in 0..want.len() {
        let first = loader();
        let mut found = Vec::new();
        'stopped: loop {
            for batch in first.epoch(&Device::cpu()) {
                if found.len() == stop {
                    // This batch was given out and not used, so the one before it is noted.
                    break 'stopped;
                }
                found.push((batch.y.to_vec::<i32>().unwrap(), batch.n));
            }
        }
        let mut position = first.position();
        position.batch -= 1;
        let second = loader();
        second.restore(position);
        while found.len() < want.len() {
            found.extend(labels(&second));
        }
        assert_eq!(found, want, "stopped after {stop}");
    }
    // An epoch that is left early is over, unless it is restored.
    let loader = loader();
    drop(loader.epoch(&Device::cpu()).next());
    assert_eq!(loader.position(), Position { epoch: 0, batch: 1 });
    assert_eq!(labels(&loader), want[4..8]);
    loader.restore(Position { epoch: u64::MAX, batch: u64::MAX });
    assert_eq!(labels(&loader), want[..4]);
}

/// Fails, or panics, at one sample.
struct Faulty {
    at: usize,
    panics: bool,
}

impl Dataset for Faulty {
    fn len(&self) -> usize {
        10
    }
    fn get(&self, index: usize) -> wgrad::Result<Sample> {
        assert!(!(self.panics && index == self.at), "a dataset that panics");
        let dims = if index == self.at { [2] } else { [1] };
        Ok(Sample { x: Array::new(&[1.0f32], dims)?, y: Array::nothing() })
    }
}

#[test]
fn errors_come_in_the_batch() {
    let last = |loader: Loader| {
        let batches: Vec<_> = loader.epoch(&Device::cpu()).collect();
        let n = batches.len();
        (n, batches.into_iter().last().unwrap())
    };
    for workers in [0, 3] {
        let (n, batch) = last(Loader::new(Faulty { at: 5, panics: false }, 2).workers(workers));
        assert_eq!((n, batch.n), (3, 0));
        refuses(batch.check().map(|_| ()), &["1 elements for the shape [2]"]);
        refuses((batch.x * 2.0 + batch.y).to_vec::<f32>(), &["1 elements for the shape [2]"]);
    }
    #[cfg(feature = "threads")]
    {
        let (n, batch) = last(Loader::new(Faulty { at: 5, panics: true }, 2).workers(2));
        assert_eq!(n, 3);
        refuses(batch.check().map(|_| ()), &["a worker ended early"]);
    }
    let wrong = |loader: Loader, fact: &str| {
        let (n, batch) = last(loader);
        assert_eq!(n, 1);
        refuses(batch.check().map(|_| ()), &["loader: ", fact]);
    };
    wrong(Loader::new(counted(3), 0), "a batch of 0 samples");
    wrong(Loader::new(counted(3), usize::MAX).workers(0), "or too many");
    wrong(Loader::new(counted(3), 1).weighted([1.0, 2.0], 3, 0), "2 weights for 3 samples");
    wrong(Loader::new(counted(3), 1).weighted([1.0, -2.0, 0.0], 3, 0), "-2 is no weight");
    wrong(Loader::new(counted(3), 1).weighted([1.0, f64::NAN, 0.0], 3, 0), "NaN is no weight");
    wrong(Loader::new(counted(3), 1).weighted([0.0; 3], 3, 0), "the weights' sum is 0");
    let endless = Loader::new(counted(3), 1).weighted([1.0; 3], usize::MAX, 0);
    let first = endless.epoch(&Device::cpu()).next().unwrap();
    refuses(first.check().map(|_| ()), &["18446744073709551615 samples an epoch"]);
}

#[test]
fn an_epoch_that_is_dropped_lets_its_workers_go() {
    let data = std::sync::Arc::new(counted(1000));
    let loader = Loader::new(data.clone(), 1).workers(3);
    for _ in 0..20 {
        drop(loader.epoch(&Device::cpu()).next());
    }
    drop(loader);
    for _ in 0..200 {
        if std::sync::Arc::strong_count(&data) == 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("a worker still holds the dataset");
}

#[test]
fn an_epoch_makes_one_plan() {
    let loader = Loader::new(counted(23), 4).shuffle(3);
    makes_no_plan(|device| {
        for batch in loader.epoch(device) {
            let loss = (batch.x.sum(1) * &batch.mask).sum(..) / batch.mask.sum(..);
            assert!(loss.item::<f32>().unwrap() > 0.0);
        }
    });
}

/// As many samples as it says.
struct Endless(usize);

impl Dataset for Endless {
    fn len(&self) -> usize {
        self.0
    }
    fn get(&self, _: usize) -> wgrad::Result<Sample> {
        Ok(Sample { x: Array::new(&[1.0f32], [1])?, y: Array::nothing() })
    }
}

#[test]
fn more_samples_than_an_epoch_has_are_refused() {
    for n in [usize::MAX, 1 << 31] {
        for loader in [Loader::new(Endless(n), 1), Loader::new(Endless(n), 1).shuffle(1).workers(0)] {
            let epoch = loader.epoch(&Device::cpu());
            assert_eq!(epoch.len(), 1);
            let batches: Vec<_> = epoch.collect();
            assert_eq!(batches.len(), 1);
            refuses(batches[0].check().map(|_| ()), &["loader: ", "or too many"]);
        }
        refuses(random_split(Endless(n), 1, 0).map(drop), &["random_split: 1 of "]);
    }
}

#[test]
fn a_loader_that_is_shuffled_after_weights_takes_each_sample_once() {
    let loader = Loader::new(counted(3), 1).weighted([1.0; 3], 7, 0).shuffle(1);
    assert_eq!((loader.samples(), labels(&loader).len()), (3, 3));
    let refused = Loader::new(counted(3), 1).weighted([1.0; 2], 7, 0).shuffle(1);
    let epoch = refused.epoch(&Device::cpu());
    assert_eq!(epoch.len(), 1);
    let batches: Vec<_> = epoch.collect();
    refuses(batches[0].check().map(|_| ()), &["2 weights for 3 samples"]);
}
