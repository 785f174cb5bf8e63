//! Long dispatches that are cut along their grids, and long runs that are cut into submissions: the
//! bits are those of the whole.

use wgrad::device::gpu::Gpu;
use wgrad::device::gpu::slice::Pace;
use wgrad::prelude::*;

use crate::devices::own_gpu;
use crate::support::Rng;

/// Every kind of kernel, several workgroups of each.
fn results(device: &Device) -> Vec<(&'static str, Tensor)> {
    let mut rng = Rng::new(3);
    let mut random = |dims: &[usize]| rng.tensor(dims, -1.0..1.0).to_device(device).tracked();
    let (x, w, row) = (random(&[150, 70]), random(&[70, 90]), random(&[1, 70]));
    let (image, filter) = (random(&[2, 3, 20, 20]), random(&[8, 3, 3, 3]));
    let mut rng = Rng::new(4);
    let ids: Vec<i32> = (0..150).map(|_| rng.below(70) as i32).collect();
    let ids = Tensor::new(ids, device);
    let table = random_table(device);
    let loss = x.matmul(&w).softmax(-1).ln().mean(..);
    let [dx, dw] = &loss.grad(&[&x, &w])[..] else { panic!("two gradients") };
    vec![
        ("map", (&x * 3.0).sin()),
        ("map to bytes", x.gt(0.1)),
        ("rows", x.softmax(-1)),
        ("columns", x.sum(0)),
        ("all", x.mean(..)),
        ("argmax", x.argmax(1)),
        ("product", x.matmul(&w)),
        ("narrow product", row.matmul(&w)),
        ("convolution", image.conv2d(&filter, None, ConvOptions::default())),
        ("scan", x.cumsum(0)),
        ("sort", x.sort(1, false).0),
        ("gather", table.index_select(0, &ids)),
        ("scatter", x.scatter_add(1, &ids.reshape([150, 1]), (&x.sum(1) * 9.0).reshape([150, 1]))),
        ("normal", Tensor::normal([1000], &Tensor::key(1, device))),
        ("gradient", dx.clone()),
        ("other gradient", dw.clone()),
    ]
}

fn random_table(device: &Device) -> Tensor {
    Rng::new(6).tensor(&[70, 70], -1.0..1.0).to_device(device)
}

fn bits(x: &Tensor) -> Vec<u8> {
    match x.dtype() {
        DType::F32 => x.to_vec::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I32 => x.to_vec::<i32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => x.to_vec::<bool>().unwrap().iter().map(|&v| u8::from(v)).collect(),
    }
}

#[test]
fn gpu_slices_have_the_bits_of_the_whole() {
    let run = |slower: f64| {
        let device = own_gpu()?;
        let gpu = Gpu::of(&device).unwrap();
        let pace = gpu.pace();
        // The self-tests of the products have submissions of their own.
        wgrad::realize(results(&device).iter().map(|(_, x)| x)).unwrap();
        // Its programs are forgotten by that.
        [Some(u64::MAX), None].into_iter().for_each(|limit| device.set_memory_limit(limit));
        gpu.set_pace(Pace { flops: pace.flops / slower, bytes: pace.bytes / slower, ..pace });
        let (before, results) = (gpu.counts(), results(&device));
        wgrad::realize(results.iter().map(|(_, x)| x)).unwrap();
        let counts: [u64; 3] = std::array::from_fn(|k| gpu.counts()[k] - before[k]);
        Some((counts, results))
    };
    let Some(whole) = run(1.0) else { return println!("not run: there is no adapter") };
    assert!(whole.0[1] <= 1, "{:?}", whole.0);
    // As if it took seconds, and as if it took hours.
    for slower in [1e5, 1e8] {
        let Some(cut) = run(slower) else { return };
        println!("{:?} dispatches and submissions; cut: {:?}", whole.0, cut.0);
        assert!(cut.0[0] > whole.0[0] && cut.0[1] > whole.0[1], "{:?}", cut.0);
        for ((name, x), (_, y)) in whole.1.iter().zip(&cut.1) {
            let (x, y) = (bits(x), bits(y));
            assert!(x.iter().any(|&b| b != 0), "{name} is not all zeros");
            assert_eq!(x.iter().zip(&y).position(|(x, y)| x != y), None, "{name}");
        }
    }
}

/// A guess that would cut a product gives way to what the device is measured to do.
#[test]
fn gpu_slices_are_not_guessed_where_it_matters() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let gpu = Gpu::of(&device).unwrap();
    let pace = gpu.pace();
    let square = |n: usize| Tensor::from_slice(&vec![0.5f32; n * n], [n, n], &device);
    let dispatches = |y: Tensor| {
        let before = gpu.counts()[0];
        y.realize().unwrap();
        gpu.counts()[0] - before
    };
    let (x, small) = (square(200), square(20));
    dispatches(x.matmul(&x));
    gpu.guess_pace(Pace { flops: 1e6, ..pace });
    dispatches(small.matmul(&small).exp());
    assert_eq!(gpu.pace().flops, 1e6, "nothing was to be cut");
    dispatches(x.matmul(&x).exp());
    assert!(gpu.pace().flops > 1e7, "{:?}", gpu.pace());
    assert_eq!(dispatches(x.matmul(&x) + 1.0), 1);
    gpu.set_pace(Pace { flops: 1e6, ..pace });
    assert!(dispatches(x.matmul(&x) + 2.0) > 1, "that is no guess");
}
