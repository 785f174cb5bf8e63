//! Tensors past one binding of the device, grids past 65,535 workgroups, and tensors of no
//! elements or no axes, through every kind of kernel.
//!
//! The large ones are checked at sampled places against plain Rust. Software GPUs bind 128 MiB, so
//! that is what is passed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wgrad::optim::Sgd;
use wgrad::prelude::*;

use crate::devices::{devices, own_gpu};
use crate::support::Rng;

/// Rows and columns of a matrix of 144 MiB: more than one binding, and not whole ones.
const ROWS: usize = 9 * 1024;
const COLUMNS: usize = 4 * 1024;

/// A GPU, and the right to fill it: one test at a time.
fn large() -> Option<(Device, MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match own_gpu() {
        Some(device) => Some((device, turn)),
        None => {
            println!("not run: there is no adapter");
            None
        }
    }
}

/// What element `n` of the matrix is: a whole number below 1021, so that short sums are exact.
fn element(n: usize) -> f32 {
    (n as u32).wrapping_mul(2_654_435_761).wrapping_shr(12) as f32 % 1021.0
}

/// The matrix, realised on `device`.
fn matrix(device: &Device) -> Tensor {
    let n = Tensor::arange(0, (ROWS * COLUMNS) as i64, 1, device).cast(DType::U32);
    let x = ((n * 2_654_435_761u32) >> 12u32) % 1021u32;
    let x = x.cast(DType::F32).reshape([ROWS, COLUMNS]);
    x.realize().unwrap();
    x
}

/// Reads `places` of a large tensor without copying the rest to the host.
fn sample(x: &Tensor, places: &[usize]) -> Vec<f32> {
    let at: Vec<i32> = places.iter().map(|&p| p as i32).collect();
    x.realize().unwrap();
    x.reshape([-1]).index_select(0, &Tensor::new(at, x.device())).to_vec().unwrap()
}

/// A few hundred places of `numel`: the ends, both sides of the edge of a window, and random ones.
fn places(numel: usize) -> Vec<usize> {
    let edge = (128 << 20) / 4;
    let mut rng = Rng::new(numel as u64);
    let near = [0, 1, edge - 1, edge, edge + 1, numel - 1].into_iter().filter(|&p| p < numel);
    let mut places: Vec<usize> = near.collect();
    places.extend((0..300).map(|_| rng.below(numel)));
    places
}

#[track_caller]
fn check(what: &str, x: &Tensor, want: impl Fn(usize) -> f32) {
    let places = places(x.numel());
    let got = sample(x, &places);
    for (&p, got) in places.iter().zip(got) {
        let want = want(p);
        assert!((got - want).abs() <= want.abs() * 1e-5, "{what}: element {p} is {got}, not {want}");
    }
}

#[test]
fn gpu_maps_and_transposes() {
    let Some((device, _turn)) = large() else { return };
    let x = matrix(&device);
    check("a map", &(&x * 2.0 + 1.0), |n| element(n) * 2.0 + 1.0);
    check("transpose", &x.t(), |n| element(n % ROWS * COLUMNS + n / ROWS));
    check("a packed map", &x.ge(500.0).cast(DType::F32), |n| f32::from(element(n) >= 500.0));
}

#[test]
fn gpu_reductions() {
    let Some((device, _turn)) = large() else { return };
    let x = matrix(&device);
    check("rows", &x.sum(1), |r| (0..COLUMNS).map(|c| element(r * COLUMNS + c)).sum());
    check("columns", &x.sum(0), |c| (0..ROWS).map(|r| element(r * COLUMNS + c)).sum());
    let want = |c: usize| (0..ROWS).map(|r| element(r * COLUMNS + c)).fold(0.0, f32::max);
    check("greatest of columns", &x.max(0), want);
    let softmax = (&x * 0.01).softmax(1);
    check("softmax", &softmax, |n| {
        let row = n / COLUMNS * COLUMNS;
        let exp = |n: usize| (f64::from(element(n)) * 0.01).exp();
        (exp(n) / (0..COLUMNS).map(|c| exp(row + c)).sum::<f64>()) as f32
    });
}

#[test]
fn gpu_products() {
    let Some((device, _turn)) = large() else { return };
    let x = matrix(&device);
    let mut rng = Rng::new(3);
    let left: Vec<f32> = (0..2 * ROWS).map(|_| rng.below(5) as f32).collect();
    let y = Tensor::from_slice(&left, [2, ROWS], &device).matmul(&x);
    let dot =
        |i: usize, j: usize| (0..ROWS).map(|k| f64::from(left[i * ROWS + k] * element(k * COLUMNS + j))).sum::<f64>();
    check("a large weight", &y, |n| dot(n / COLUMNS, n % COLUMNS) as f32);
    let right: Vec<f32> = (0..COLUMNS * 8).map(|_| rng.below(5) as f32).collect();
    let y = x.matmul(&Tensor::from_slice(&right, [COLUMNS, 8], &device));
    let dot =
        |i: usize, j: usize| (0..COLUMNS).map(|k| f64::from(right[k * 8 + j] * element(i * COLUMNS + k))).sum::<f64>();
    check("tiles", &y, |n| dot(n / 8, n % 8) as f32);
}

#[test]
fn gpu_tables() {
    let Some((device, _turn)) = large() else { return };
    let table = matrix(&device);
    let mut rng = Rng::new(9);
    let mut ids: Vec<i32> = (0..64).map(|_| rng.below(ROWS) as i32).collect();
    ids.extend([0, 8191, 8192, ROWS as i32 - 1, 8192]);
    let rows = Tensor::new(ids.clone(), &device);
    let found = table.embedding(&rows);
    check("gather", &found, |n| element(ids[n / COLUMNS] as usize * COLUMNS + n % COLUMNS));

    let at = rows.reshape([ids.len() as isize, 1]).expand([ids.len(), COLUMNS]);
    let added = table.scatter_add(0, &at, &found);
    let times = |row: usize| ids.iter().filter(|&&id| id as usize == row).count() as f32;
    check("scatter_add", &added, |n| element(n) * (1.0 + times(n / COLUMNS)));
    // Places that were written, which few samples hit.
    let written = added.index_select(0, &rows);
    let want = |n: usize| {
        let row = ids[n / COLUMNS] as usize;
        element(row * COLUMNS + n % COLUMNS) * (1.0 + times(row))
    };
    check("what scatter_add wrote", &written, want);
    drop((added, written));
    let set = table.scatter(0, &at, -1.0f32);
    check("scatter", &set, |n| if times(n / COLUMNS) > 0.0 { -1.0 } else { element(n) });
}

#[test]
fn gpu_grids_past_65535_workgroups() {
    let Some((device, _turn)) = large() else { return };
    // 64 elements a workgroup, or one row.
    let n = 65_536 * 64 + 100;
    let x = Tensor::arange(0, n as i64, 1, &device);
    x.realize().unwrap();
    check("a map", &(&x % 1000).cast(DType::F32), |k| (k % 1000) as f32);
    let rows = 70_000;
    let y = (Tensor::arange(0, rows * 64, 1, &device) % 1000).reshape([rows as isize, 64]);
    check("rows", &y.max(1).cast(DType::F32), |r| (r * 64..r * 64 + 64).map(|k| k % 1000).max().unwrap_or(0) as f32);
    check("running sums", &y.slice_axis(1, 0..3, 1).cumsum(1).cast(DType::F32), |n| {
        (0..=n % 3).map(|i| (n / 3 * 64 + i) % 1000).sum::<usize>() as f32
    });
}

/// Everything there is a kernel for, of `x`, which has `dims`.
fn all_kinds(x: &Tensor, axis: isize) -> Vec<(&'static str, Tensor)> {
    let index = x.zeros_like().cast(DType::I32);
    let key = Tensor::key(1, x.device());
    vec![
        ("map", x.sin()),
        ("packed", x.gt(0.5).cast(DType::F16)),
        ("sum", x.sum(..)),
        ("sum of an axis", x.sum(axis)),
        ("softmax", x.softmax(axis)),
        ("layer_norm", x.layer_norm(axis, None, None, 1e-5)),
        ("cumsum", x.cumsum(axis)),
        ("argsort", x.argsort(axis, false)),
        ("sort", x.sort(axis, true).0),
        ("scatter_add", x.scatter_add(axis, &index, x)),
        ("gather", x.gather(axis, &index)),
        ("flip", x.flip(..)),
        ("cat", Tensor::cat(&[x, x], axis)),
        ("random", Tensor::uniform(x.dims().to_vec(), &key)),
        ("dropout", x.dropout(0.5, &key)),
        ("gradient", {
            let x = x.tracked();
            (&x * &x).sum(..).grad(&[&x]).remove(0)
        }),
    ]
}

#[test]
fn gpu_and_cpu_tensors_of_no_elements() {
    for device in devices() {
        for dims in [vec![0], vec![0, 3], vec![3, 0], vec![2, 0, 3]] {
            let x = Tensor::zeros(dims.clone(), &Device::cpu()).to_device(&device);
            for axis in 0..dims.len() as isize {
                for (name, y) in all_kinds(&x, axis) {
                    let what = format!("{name} of {dims:?} along {axis} on {device}");
                    assert_eq!(y.error().map(|e| e.to_string()), None, "{what}");
                    let got = y.cast(DType::F32).to_vec::<f32>().unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_eq!(got.len(), y.numel(), "{what}");
                    assert!(got.iter().all(|&v| v == 0.0), "{what}: empty sums are 0");
                }
            }
        }
        let (thin, flat) = (Tensor::zeros([4, 0], &device), Tensor::zeros([0, 5], &device));
        assert_eq!(thin.matmul(&flat).to_vec::<f32>().unwrap(), [0.0; 20], "{device}");
        assert_eq!(flat.matmul(&Tensor::ones([5, 2], &device)).to_vec::<f32>().unwrap(), [0.0; 0], "{device}");
        let image = Tensor::zeros([0, 2, 5, 5], &device);
        let y = image.conv2d(&Tensor::ones([3, 2, 3, 3], &device), None, ConvOptions::default());
        assert_eq!((y.dims(), y.to_vec::<f32>().unwrap().len()), (&[0, 3, 3, 3][..], 0), "{device}");
        assert_eq!(flat.prod(0).to_vec::<f32>().unwrap(), [1.0; 5], "{device}");
    }
}

#[test]
fn gpu_and_cpu_tensors_of_no_axes() {
    for device in devices() {
        let x = Tensor::new(0.75, &device).tracked();
        let one = Tensor::new([0.75], &device);
        let index = Tensor::new([0], &device);
        for (name, y, want) in [
            ("map", &x + 0.25, 1.0),
            ("sum", x.sum(..), 0.75),
            ("mean", x.mean(..), 0.75),
            ("expand", x.expand([3]).sum(..), 2.25),
            ("reshape", x.reshape([1]).cumsum(0).reshape([0; 0]), 0.75),
            ("packed", x.cast(DType::F16).cast(DType::F32), 0.75),
            ("select", one.index_select(0, &index).reshape([0; 0]), 0.75),
            ("scatter", one.scatter_add(0, &index, &one).sum(..), 1.5),
            ("sort", one.sort(0, false).0.sum(..), 0.75),
            ("matmul", one.matmul(&one), 0.5625),
            ("gradient", (&x * &x).grad(&[&x]).remove(0), 1.5),
            ("input", &x * Tensor::input(2.0, &device), 1.5),
        ] {
            assert_eq!(y.rank(), 0, "{name} on {device}");
            assert_eq!(
                y.item::<f32>().unwrap_or_else(|e| panic!("{name} on {device}: {e}")),
                want,
                "{name} on {device}"
            );
        }
        for (name, y) in [
            ("argmax", x.argmax(0)),
            ("softmax", x.softmax(0)),
            ("cumsum", x.cumsum(0)),
            ("cat", Tensor::cat(&[&x, &x], 0)),
        ] {
            assert!(y.realize().is_err(), "{name} of no axes on {device}");
        }
    }
}

#[test]
fn more_weights_than_one_binding_are_updated_in_place() {
    let Some((device, _turn)) = large() else { return };
    let params = Params::new(&device, 1);
    let n = 5 << 20;
    let each = [1.0, 2.0, 3.0].map(|k| (k, params.weight(&format!("w{k}"), [n, 3], Init::Constant(k))));
    let bytes = 3 * 3 * n as u64 * 4;
    assert!(bytes > 128 << 20, "{bytes}");
    let mut sgd = Sgd::new(&params, 0.5);
    for step in 1..3 {
        device.reset_peak_memory();
        let pass = Pass::train(&params);
        let loss = each.iter().map(|(k, w)| (w.tensor(&pass) * *k).sum(..)).reduce(|a, b| a + b).unwrap();
        sgd.step(sgd.backward(&loss)).unwrap();
        // Gradients that are constants need no memory, weights twice would.
        let peak = device.memory_use().peak_bytes;
        assert!(peak < bytes * 3 / 2, "{peak} for {bytes} of weights in step {step}");
    }
    for (k, w) in &each {
        let found = sample(&w.value(), &[0, n, 3 * n - 1]);
        assert_eq!(found, [0.0; 3], "w{k}");
    }
}
