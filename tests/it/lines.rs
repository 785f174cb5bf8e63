//! Long lines, few of them, as a real GPU takes them: scans cut into blocks, scatters with their
//! updates sorted; by the CPU's meaning of the plan and on a GPU.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::kernel::Kind;
use wgrad::compile::plan::{Limits, Target};
use wgrad::graph::Op;
use wgrad::graph::op::{Reduction, ScatterMode, Word};
use wgrad::prelude::*;

use crate::agree::prim;
use crate::compare::{Case, How, agree};
use crate::devices::{devices_for_faults, gpu, plain_cpu};
use crate::support::{Rng, random};
use crate::wgsl::limits;

const KINDS: [Reduction; 4] = [Reduction::Sum, Reduction::Prod, Reduction::Max, Reduction::Min];

/// Each device by plans for a real GPU.
fn hows() -> Vec<How> {
    let how = |device| How::Foreign(device, limits(Target::Gpu).into());
    [Some(plain_cpu()), gpu()].into_iter().flatten().map(how).collect()
}

#[track_caller]
fn agree_everywhere(what: &str, build: &dyn Fn(&Device) -> Case) {
    for how in hows() {
        agree(what, &how, build);
    }
}

/// The kernels of `roots` on a GPU.
fn kinds(roots: &[Tensor]) -> Vec<&'static str> {
    let plan = compile(&Graph::flatten(roots).0, &limits(Target::Gpu));
    let kind = |kind: &Kind| match kind {
        Kind::Scan(_) => "scan",
        Kind::Loop(_) => "map",
        Kind::Sort(_) => "sort",
        Kind::Scatter(s) if s.order.is_some() => "sorted",
        Kind::Scatter(_) => "scatter",
        Kind::Dot(_) | Kind::Custom(_) => "other",
    };
    plan.steps.iter().map(|step| kind(&step.kernel.kind)).collect()
}

/// A number of each dtype's own kind, around 1.
fn around(dims: &[usize], dtype: DType, device: &Device) -> Tensor {
    let x = Rng::new(8).tensor(dims, 0.98..1.02).to_device(device);
    match dtype.is_float() {
        true => x.cast(dtype),
        false => ((x - 0.98) * 300.0).cast(dtype),
    }
}

#[test]
fn long_scans_are_cut_into_blocks() {
    let x = random(&[5000]);
    assert_eq!(kinds(&[x.cumsum(0)]), ["scan", "scan", "map"]);
    assert_eq!(kinds(&[x.exp().cumsum(0)]), ["scan", "scan", "map"], "what is scanned comes with the first");
    assert_eq!(kinds(&[(x.cumsum(0) * 2.0).relu()]), ["scan", "scan", "map"], "what is made of it with the last");
    assert_eq!(kinds(&[random(&[3, 5000, 2]).cumsum(1)]), ["scan", "scan", "map"]);
    // So many blocks are long themselves.
    let ones = Tensor::from_vec(vec![1.0f32; 200_000], [200_000], &Device::cpu());
    assert_eq!(kinds(&[ones.cumsum(0)]), ["scan", "scan", "scan", "map"]);
    // Short lines, and many.
    assert_eq!(kinds(&[random(&[1023]).cumsum(0)]), ["scan"]);
    assert_eq!(kinds(&[ones.narrow(0, 0, 2048).unsqueeze(1).expand([2048, 1024]).cumsum(1)]), ["scan"]);
}

#[test]
fn the_first_few_of_an_order_take_no_sort() {
    let top = |n: usize, k: usize| {
        let (values, indices) = random(&[6, n]).topk(k, 1);
        kinds(&[values, indices])
    };
    assert_eq!(top(1000, 8), ["map", "map"], "where they are, and what they are");
    assert!(top(1000, 17).contains(&"sort") && top(12, 4).contains(&"sort"), "many");
    assert!(top(20_000, 2).contains(&"sort"), "long rows, few of them");
    let order = random(&[6, 60]).argsort(1, true);
    assert_eq!(
        kinds(&[order.clone(), order.narrow(1, 0, 2)]),
        ["map", "sort", "map"],
        "keys, the whole order, and a part"
    );
    agree_everywhere("the first few of an order", &|device| {
        let x = random(&[6, 1000]).to_device(device);
        let (values, indices) = x.topk(8, 1);
        Case::new(vec![values, indices], vec![x])
    });
}

#[test]
fn scans_of_every_dtype_agree() {
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        agree_everywhere(&format!("long scans of {dtype}"), &|device| {
            let mut roots = Vec::new();
            for (n, kinds) in [(1500, &KINDS[..]), (1152, &KINDS[..1])] {
                let x = around(&[n], dtype, device);
                kinds.iter().for_each(|&kind| roots.push(prim(Op::Scan(kind, 0), &[&x], &[], dtype)));
            }
            Case::new(roots, Vec::new())
        });
    }
}

#[test]
fn scans_along_every_axis_agree() {
    // Whole blocks, one more and one less, and lines that are not cut.
    for n in [1023, 1024, 1025, 1151, 1153] {
        agree_everywhere(&format!("scans of {n}"), &|device| {
            let mut roots = Vec::new();
            for (dims, axis) in [(vec![n], 0), (vec![2, n], 1), (vec![n, 3], 0), (vec![2, n, 3], 1), (vec![1, n, 1], 1)]
            {
                let x = random(&dims).to_device(device);
                for kind in [Reduction::Sum, Reduction::Max] {
                    roots.push(prim(Op::Scan(kind, axis), &[&x], &[], DType::F32));
                }
            }
            let x = random(&[2, n]).to_device(device);
            roots.push((x.sin().cumsum(1) * 2.0).relu());
            roots.push(x.flip([1]).cumsum(1).flip([1]));
            Case::new(roots, Vec::new())
        });
    }
    // The highest rank there is, and blocks that are cut again.
    agree_everywhere("scans of rank 8", &|device| {
        let x = random(&[1, 2, 1, 1030, 1, 1, 2, 1]).to_device(device);
        Case::new(vec![x.cumsum(3), x.cummax(3).0, x.sin().cummax(3).1], vec![x])
    });
    agree_everywhere("a very long scan", &|device| {
        let x = random(&[131_075]).to_device(device);
        Case::new(vec![x.cumsum(0), x.cummax(0).1], vec![x])
    });
}

#[test]
fn special_numbers_go_along() {
    let n = 1100;
    let mut places = vec![1.0f32; n];
    places[..600].fill(-0.0);
    places[300] = f32::INFINITY;
    let one = places.clone();
    places[900] = f32::NEG_INFINITY;
    let both = places.clone();
    places[200] = f32::NAN;
    let run = |v: &[f32], f: &dyn Fn(&Tensor) -> Tensor| {
        let x = Tensor::from_slice(v, [n], &plain_cpu());
        let (found, _) = hows()[0].run(&[f(&x)]).unwrap();
        match &found[0] {
            wgrad::reference::Values::Float(v) => v.clone(),
            wgrad::reference::Values::Bits(_) => panic!("not floats"),
        }
    };
    let y = run(&one, &|x| x.cumsum(0));
    assert!(y[..300].iter().all(|&y| y == 0.0) && y[300..].iter().all(|&y| y == f64::INFINITY));
    let y = run(&both, &|x| x.cumsum(0));
    assert!(y[300..900].iter().all(|&y| y == f64::INFINITY) && y[900..].iter().all(|y| y.is_nan()));
    let scans: [fn(&Tensor) -> Tensor; 3] = [|x| x.cummax(0).0, |x| x.cumsum(0), |x| x.cumprod(0)];
    for f in scans {
        let y = run(&places, &f);
        assert!(y[..200].iter().all(|&y| y.abs() < 2.0) && y[200..].iter().all(|y| y.is_nan()));
    }
}

#[test]
fn derivatives_of_long_scans_agree() {
    let scans: [(&str, fn(&Tensor) -> Tensor); 3] =
        [("sum", |x| x.cumsum(1)), ("max", |x| x.cummax(1).0), ("product", |x| (x * 0.01 + 1.0).cumprod(1))];
    for (name, f) in scans {
        agree_everywhere(&format!("derivatives of a running {name}"), &|device| {
            let (x, w) = (random(&[2, 1100]).to_device(device).tracked(), random(&[2, 1100]).to_device(device));
            let y = f(&x);
            let first = (&y * &y * &w).mean(..).grad(&[&x])[0].clone();
            let second = (&first * &w).sum(..).grad(&[&x])[0].clone();
            Case::new(vec![first, second], vec![x, w])
        });
    }
}

#[test]
fn scans_have_the_same_bits_each_time() {
    for how in hows() {
        let device = how.device();
        let x = random(&[3, 40_000]).to_device(device);
        let run = || how.run(&[x.cumsum(1), x.cumprod(1)]).unwrap().0;
        assert_eq!(run(), run(), "{how}");
    }
}

/// `n` indices under `bound`, some often and some never.
fn ids(n: usize, bound: usize, seed: u64) -> Vec<i32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| (rng.below(bound) * rng.below(bound) / bound) as i32).collect()
}

#[test]
fn the_gradient_of_an_embedding_sorts_its_ids() {
    let build = |device: &Device| {
        let table = random(&[300, 6]).to_device(device).tracked();
        let index = Tensor::from_vec(ids(1500, 300, 1), [3, 500], device);
        let dy = random(&[3, 500, 6]).to_device(device);
        Case::new(table.embedding(&index).vjp(&dy, &[&table]), vec![table, dy])
    };
    let found = kinds(&build(&Device::cpu()).roots);
    assert_eq!((found.first(), found.last()), (Some(&"map"), Some(&"sorted")), "{found:?}");
    // Blocks of 64 keys, then pairs of runs.
    assert_eq!(found.iter().filter(|kind| **kind == "sort").count(), 6);
    agree_everywhere("the gradient of an embedding", &build);
    // A few updates of a short axis are done where they are.
    let few = Tensor::zeros([20, 6], &Device::cpu());
    let index = Tensor::from_vec(ids(30, 20, 1), [30, 1], &Device::cpu()).expand([30, 6]);
    assert_eq!(kinds(&[few.scatter_add(0, &index, random(&[30, 6]))]), ["scatter"]);
}

#[test]
fn sorted_scatters_agree() {
    for dtype in [DType::F32, DType::F16, DType::I32, DType::U8, DType::Bool] {
        agree_everywhere(&format!("sorted scatters of {dtype}"), &|device| {
            let mut roots = Vec::new();
            for (dims, axis, updates) in [
                (vec![700], 0, 500),
                (vec![2, 900], 1, 200),
                (vec![1100, 3], 0, 2),
                (vec![3, 40, 2], 1, 1000),
                (vec![1, 1], 0, 1024),
            ] {
                let mut of = dims.clone();
                of[axis] = updates;
                let x = around(&dims, dtype, device);
                let index = Tensor::from_vec(ids(of.iter().product(), dims[axis], 2), &*of, device);
                let source = around(&of, dtype, device);
                for mode in [ScatterMode::Set, ScatterMode::Add] {
                    if mode == ScatterMode::Set || dtype != DType::Bool {
                        let op = Op::Scatter { axis, mode, word: Word("scatter") };
                        roots.push(prim(op, &[&x, &index, &source], &[], dtype));
                    }
                }
            }
            assert_eq!(kinds(&roots).iter().filter(|kind| **kind == "scatter").count(), 0);
            Case::new(roots, Vec::new())
        });
    }
}

/// Sorted or not, updates of one element are added in their order.
#[test]
fn sorted_scatters_have_the_bits_of_others() {
    for how in hows() {
        let device = how.device();
        let (x, dy) = (random(&[50, 3]).to_device(device), random(&[4000, 3]).to_device(device));
        let index = Tensor::from_vec(ids(4000, 50, 3), [4000, 1], device).expand([4000, 3]);
        let run = |how: &How| how.run(&[x.scatter_add(0, &index, &dy)]).unwrap().0;
        let plain = How::Foreign(device.clone(), Limits::clone(&limits(Target::SoftwareGpu)).into());
        assert_eq!(run(&how), run(&plain), "{how}");
        assert_eq!(run(&how), run(&how), "{how}");
    }
}

#[test]
fn indices_out_of_range_of_a_sorted_scatter_are_told() {
    let (devices, _turn) = devices_for_faults();
    for device in devices {
        let how = How::Foreign(device, limits(Target::Gpu).into());
        for strays in [&[-1][..], &[1100], &[i32::MAX, i32::MIN], &[0]] {
            let build = |device: &Device| {
                let index = [ids(60, 1100, 4), strays.to_vec(), ids(7, 1100, 5)].concat();
                let n = index.len();
                let x = random(&[1100]).to_device(device);
                let index = Tensor::from_vec(index, [n], device);
                let dy = random(&[n]).to_device(device);
                Case::new(vec![x.scatter_add(0, &index, &dy), x.scatter(0, &index, &dy)], vec![x, dy])
            };
            agree(&format!("strays {strays:?}"), &how, &build);
            let (_, faults) = how.run(&build(how.device()).roots).unwrap();
            assert_eq!(faults.is_empty(), strays == [0], "{how}: {strays:?}: {faults:?}");
        }
    }
}
