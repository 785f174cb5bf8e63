//! Augmentation on the device: each image is changed as its word says, and by one plan.

use wgrad::data::augment::{cutout, mixup, normalize, random_crop, random_flip, random_rotate};
use wgrad::prelude::*;

use crate::hostile::refuses;
use crate::support::{Rng, derivatives, makes_no_plan};

const N: usize = 16;
const SIDE: usize = 6;

fn key(seed: u64) -> Tensor {
    Tensor::key(seed, &Device::cpu())
}

/// Images whose pixels all differ and are not 0: `[16, 2, 6, 6]`.
fn images() -> Tensor {
    let n = (N * 2 * SIDE * SIDE) as i64;
    Tensor::arange(1, n + 1, 1, &Device::cpu()).reshape([N as i64, 2, SIDE as i64, SIDE as i64]).cast(DType::F32)
}

/// The pixels of each image, channels apart.
fn planes(x: &Tensor) -> Vec<Vec<f32>> {
    assert_eq!(x.dims(), [N, 2, SIDE, SIDE]);
    x.to_vec::<f32>().unwrap().chunks(SIDE * SIDE).map(<[f32]>::to_vec).collect()
}

#[test]
fn crops_are_shifts_that_both_channels_share() {
    let (x, y) = (planes(&images()), planes(&random_crop(&images(), 2, &key(1))));
    let shifted = |plane: &[f32], dy: isize, dx: isize| -> Vec<f32> {
        let inside = |k: isize| (0..SIDE as isize).contains(&k);
        let pixel = |k: usize| {
            let (row, column) = ((k / SIDE) as isize + dy, (k % SIDE) as isize + dx);
            let there = inside(row) && inside(column);
            if there { plane[(row * SIDE as isize + column) as usize] } else { 0.0 }
        };
        (0..SIDE * SIDE).map(pixel).collect()
    };
    let mut seen = std::collections::BTreeSet::new();
    for (x, y) in x.chunks(2).zip(y.chunks(2)) {
        let shifts = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dy, dx)));
        let fits = |&(dy, dx): &(isize, isize)| (0..2).all(|c| shifted(&x[c], dy, dx) == y[c]);
        seen.insert(shifts.filter(fits).collect::<Vec<_>>());
    }
    assert!(seen.iter().all(|shifts| shifts.len() == 1) && seen.len() > 5, "{seen:?}");
    assert_eq!(planes(&random_crop(&images(), 2, &key(1))), y);
    assert_eq!(planes(&random_crop(&images(), 0, &key(1))), x);
}

#[test]
fn flips_mirror_whole_images() {
    let (x, y) = (planes(&images()), planes(&random_flip(&images(), 0.5, &key(1))));
    let mirrored = |plane: &[f32]| plane.chunks(SIDE).flat_map(|row| row.iter().rev().copied()).collect::<Vec<f32>>();
    let flipped = x.iter().zip(&y).filter(|(x, y)| mirrored(x) == **y).count();
    let kept = x.iter().zip(&y).filter(|(x, y)| x == y).count();
    assert!(flipped + kept == 2 * N && flipped % 2 == 0 && flipped > 4 && kept > 4, "{flipped} {kept}");
    assert_eq!(planes(&random_flip(&images(), 0.0, &key(1))), x);
}

#[test]
fn rotations_turn_around_the_middle() {
    let x = images();
    let same = planes(&random_rotate(&x, 0.0, &key(1)));
    assert_eq!(same, planes(&x));
    // What is the same in every direction stays, wherever its neighbours are inside of the image.
    let ones = Tensor::ones([N, 2, SIDE, SIDE], &Device::cpu());
    for plane in planes(&random_rotate(&ones, 180.0, &key(2))) {
        for row in 2..4 {
            assert!((2..4).all(|column| (plane[row * SIDE + column] - 1.0).abs() < 1e-5));
        }
    }
    // A plane that rises to the right rises by the angle's cosine and sine afterwards.
    let slope = Tensor::arange(0, SIDE as i64, 1, &Device::cpu()).cast(DType::F32).broadcast_to([N, 2, SIDE, SIDE]);
    let (mut turned, mut angles) = (0, Vec::new());
    for plane in planes(&random_rotate(&slope, 60.0, &key(3))) {
        let (right, down) = (plane[2 * SIDE + 3] - plane[2 * SIDE + 2], plane[3 * SIDE + 2] - plane[2 * SIDE + 2]);
        assert!((right.hypot(down) - 1.0).abs() < 1e-4, "{right} {down}");
        let angle = down.atan2(right).to_degrees();
        assert!(angle.abs() < 60.1);
        turned += usize::from(angle.abs() > 10.0);
        angles.push(angle);
    }
    assert!(turned > N && angles.chunks(2).all(|pair| pair[0] == pair[1]));
    derivatives("random_rotate", &[&[2, 1, 3, 3]], |x| random_rotate(&x[0], 40.0, &key(4)));
}

#[test]
fn holes_are_squares() {
    let y = planes(&cutout(&images(), 3, &key(1)));
    for pair in y.chunks(2) {
        let holes: Vec<usize> = (0..SIDE * SIDE).filter(|&k| pair[0][k] == 0.0).collect();
        let (rows, columns): (Vec<_>, Vec<_>) = holes.iter().map(|k| (k / SIDE, k % SIDE)).unzip();
        let span = |v: &[usize]| v.iter().max().unwrap() - v.iter().min().unwrap() + 1;
        assert_eq!(holes.len(), span(&rows) * span(&columns));
        assert!((2..=3).contains(&span(&rows)) && (2..=3).contains(&span(&columns)));
        assert_eq!(holes, (0..SIDE * SIDE).filter(|&k| pair[1][k] == 0.0).collect::<Vec<_>>());
    }
    assert_eq!(planes(&cutout(&images(), 0, &key(1))), planes(&images()));
}

#[test]
fn mixtures_mix_targets_alike() {
    let cpu = Device::cpu();
    let x = Tensor::eye(N, &cpu);
    let share = Tensor::uniform([N], &key(5));
    for (share, want) in [(share.clone(), share.to_vec::<f32>().unwrap()), (Tensor::new(0.25, &cpu), vec![0.25; N])] {
        let (mixed, targets) = mixup(&x, &x, share, &key(1));
        assert_eq!(mixed.to_vec::<f32>().unwrap(), targets.to_vec::<f32>().unwrap());
        for (k, row) in mixed.to_vec::<f32>().unwrap().chunks(N).enumerate() {
            let own = if row.iter().filter(|&&x| x != 0.0).count() == 1 { 1.0 } else { want[k] };
            assert!((row[k] - own).abs() < 1e-6 && (row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
        }
    }
}

#[test]
fn channels_are_normalised() {
    let bytes = Rng::new(1).vec(24, 0.0..255.0).iter().map(|&x| x as u8).collect::<Vec<u8>>();
    let x = Tensor::from_slice(&bytes, [2, 3, 2, 2], &Device::cpu());
    let y = normalize(&x, &[0.1, 0.2, 0.3], &[1.0, 2.0, 4.0]).to_vec::<f32>().unwrap();
    for (k, y) in y.iter().enumerate() {
        let c = k / 4 % 3;
        let want = (f32::from(bytes[k]) / 255.0 - [0.1, 0.2, 0.3][c]) / [1.0, 2.0, 4.0][c];
        assert!((y - want).abs() < 1e-6);
    }
}

#[test]
fn one_plan_serves_every_key() {
    let mut seeds = 0..;
    makes_no_plan(|device| {
        let keys = Tensor::key(seeds.next().unwrap(), device).split_key(4);
        let x = images().to_device(device);
        let x = random_rotate(&random_crop(&random_flip(&x, 0.5, &keys[0]), 1, &keys[1]), 15.0, &keys[2]);
        cutout(&x, 2, &keys[3]).realize().unwrap();
    });
}

#[test]
fn what_cannot_be_augmented_is_refused() {
    let x = Tensor::zeros([2, 3], &Device::cpu());
    let fact = "images [n, c, h, w] are needed, but the shape is [2, 3]";
    refuses(random_flip(&x, 0.5, &key(0)).check(), &["random_flip: ", fact, "augment.rs"]);
    refuses(random_crop(&x, 1, &key(0)).check(), &["random_crop: ", fact]);
    refuses(random_rotate(&x, 1.0, &key(0)).check(), &["random_rotate: ", fact]);
    refuses(cutout(&x, 1, &key(0)).check(), &["cutout: ", fact]);
    refuses(normalize(&x, &[], &[]).check(), &["normalize: ", fact]);
    refuses(normalize(&images(), &[0.0], &[1.0]).check(), &["1 means and 1 deviations other than 0 for 2 channels"]);
    refuses(normalize(&images(), &[0.0; 2], &[0.0; 2]).check(), &["other than 0"]);
    refuses(random_flip(&images(), 2.0, &key(0)).check(), &["is no probability"]);
    refuses(random_crop(&images(), usize::MAX, &key(0)).check(), &["no i32 in"]);
    refuses(random_rotate(&images().cast(DType::I32), 1.0, &key(0)).check(), &["floats are needed, got i32"]);
    refuses(mixup(&images().cast(DType::U8), &x, 0.5, &key(0)).0.check(), &["mixup: floats"]);
    refuses(mixup(&images(), &x, Tensor::zeros([3], x.device()), &key(0)).0.check(), &["[16, 2, 6, 6]"]);
    let invalid = x.reshape([7]);
    refuses(random_flip(&invalid, 0.5, &key(0)).check(), &["reshape"]);
    let empty = Tensor::zeros([0, 3, 4, 4], x.device());
    assert_eq!(cutout(&random_crop(&empty, 1, &key(0)), 1, &key(0)).to_vec::<f32>().unwrap(), []);
    let flat = Tensor::zeros([2, 1, 0, 4], x.device());
    assert_eq!(random_rotate(&random_flip(&flat, 0.5, &key(0)), 9.0, &key(0)).to_vec::<f32>().unwrap(), []);
}
