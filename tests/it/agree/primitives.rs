//! Movement, reductions, products, indexing, sorting and random bits over grids of shapes.

use wgrad::graph::Op;
use wgrad::graph::op::{ConvSpec, Extreme, PadSpec, Perm, Reduction, ScatterMode, SliceSpec, WindowSpec, Word};
use wgrad::prelude::*;
use wgrad::shape::AxisSet;

use super::{everywhere, prim};

// ---- movement

/// Shapes of the grids.
const SHAPES: [&[usize]; 9] = [&[], &[1], &[5], &[0], &[2, 3], &[3, 1, 4], &[2, 0, 3], &[7, 33], &[2, 3, 4, 5]];

/// Every movement op over every shape, in a 32-bit dtype and in packed ones.
#[test]
pub fn movement() {
    for dtype in DType::ALL {
        everywhere(&format!("movement of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for dims in SHAPES {
                let x = leaves.of(dtype, dims, -4.0..4.0);
                roots.extend(moved(&x, leaves.device));
            }
            roots
        });
    }
}

fn moved(x: &Tensor, device: &Device) -> Vec<Tensor> {
    let (dims, dtype, rank) = (x.dims(), x.dtype(), x.rank());
    let one = |op: Op, to: &[usize]| prim(op, &[x], to, dtype);
    let mut roots = vec![
        one(Op::Reshape, &[x.numel()]),
        one(Op::Flip(AxisSet::all(rank)), &[]),
        one(Op::Expand, &[&[3], dims].concat()),
        one(Op::Pad(pad(rank, 1, 0, 1).into()), &[]),
        one(Op::Pad(pad(rank, 0, 2, 0).into()), &[]),
        one(Op::Pad(pad(rank, 2, 1, 2).into()), &[]),
    ];
    let mut perm = [0; 8];
    (0..rank).for_each(|k| perm[k] = (rank - 1 - k) as u8);
    roots.push(one(Op::Permute(Perm(perm)), &[]));
    for step in [1, 2] {
        let start: Vec<usize> = dims.iter().map(|&n| usize::from(n > 1)).collect();
        let to: Vec<usize> = dims.iter().zip(&start).map(|(&n, s)| (n - s).div_ceil(step)).collect();
        roots.push(one(Op::Slice(SliceSpec { start, step: vec![step; rank] }.into()), &to));
    }
    for axis in 0..rank {
        roots.push(prim(Op::Concat { axis }, &[x, x], &[], dtype));
        roots.push(prim(Op::Concat { axis }, &[x, &roots[1].clone(), x], &[], dtype));
        let n = dims[axis];
        let mut to = dims.to_vec();
        to[axis] = n.div_ceil(2);
        let part = x.flip(axis as isize).slice_axis(axis as isize, 0..n.div_ceil(2), 1);
        for start in [-1, 1, 1000] {
            let start = Tensor::input(start, device);
            roots.push(prim(Op::SliceAt { axis }, &[x, &start], &to, dtype));
            roots.push(prim(Op::UpdateAt { axis }, &[x, &part, &start], &[], dtype));
        }
        if n > 2 {
            for (size, stride, dilation) in [(2, 1, 1), (2, 2, 2), (3, 1, 1), (1, 3, 1)] {
                let spec =
                    WindowSpec { axes: vec![axis], size: vec![size], stride: vec![stride], dilation: vec![dilation] };
                let windows = one(Op::Window(spec.clone().into()), &[]);
                if dtype != DType::Bool {
                    roots.push(prim(Op::Fold(spec.into()), &[&windows], dims, dtype));
                }
                roots.push(windows);
            }
        }
    }
    roots
}

fn pad(rank: usize, lo: usize, hi: usize, interior: usize) -> PadSpec {
    PadSpec { lo: vec![lo; rank], hi: vec![hi; rank], interior: vec![interior; rank], fill: Number::Int(1) }
}

/// Packed elements in every odd number, after a map, and cut and joined in the middle of words.
#[test]
pub fn packed_sizes() {
    for dtype in [DType::U8, DType::Bool, DType::F16, DType::BF16] {
        everywhere(&format!("packed {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for n in (1..10).chain([63, 64, 65, 257]) {
                let x = leaves.of(dtype, &[n], -4.0..4.0);
                roots.push(x.eq(x.flip(0)));
                roots.push(x.slice_axis(0, n / 2..n, 1));
                roots.push(Tensor::cat(&[&x.slice_axis(0, 0..n.div_ceil(2), 1), &x], 0));
                let rows = leaves.of(dtype, &[3, n], -4.0..4.0);
                roots.push(rows.maximum(&x).cast(dtype));
                roots.push(rows.max(0));
                roots.push(rows.max(1));
                if dtype.is_float() {
                    roots.push(rows.softmax(-1));
                    roots.push(rows.layer_norm(-1, None, None, 1e-3));
                    roots.push(&rows - rows.mean(keepdim(0)));
                }
            }
            roots
        });
    }
}

// ---- reductions

#[test]
pub fn reductions() {
    for dtype in DType::ALL {
        everywhere(&format!("reductions of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for dims in SHAPES.into_iter().chain([&[6, 5, 1, 7][..], &[70, 3], &[3, 300]]) {
                for bits in 1u32..1 << dims.len() {
                    let set = (0..dims.len()).filter(|k| bits >> k & 1 == 1).fold(AxisSet::default(), AxisSet::and);
                    let x = leaves.of(dtype, dims, 0.9..1.2);
                    let empty = set.iter().any(|k| dims[k] == 0);
                    for kind in [Reduction::Sum, Reduction::Prod, Reduction::Max, Reduction::Min] {
                        let extreme = matches!(kind, Reduction::Max | Reduction::Min);
                        if (extreme && empty) || (!extreme && dtype == DType::Bool) {
                            continue;
                        }
                        roots.push(prim(Op::Reduce(kind, set), &[&x], &[], dtype));
                    }
                }
            }
            roots
        });
    }
}

/// Few results over many elements, which are cut in pieces.
#[test]
pub fn long_reductions() {
    everywhere("long reductions", &|leaves| {
        let mut roots = Vec::new();
        for dims in [&[20_001][..], &[3, 9000], &[5000, 3], &[70, 300]] {
            let x = leaves.of(DType::F32, dims, -1.0..1.5);
            let i = leaves.of(DType::I32, dims, -9.0..9.0);
            for axis in 0..dims.len() {
                let set = AxisSet::one(axis);
                for kind in [Reduction::Sum, Reduction::Max, Reduction::Min] {
                    roots.push(prim(Op::Reduce(kind, set), &[&x], &[], DType::F32));
                    roots.push(prim(Op::Reduce(kind, set), &[&i], &[], DType::I32));
                }
                for extreme in [Extreme::Max, Extreme::Min] {
                    roots.push(prim(Op::ArgReduce(extreme, axis), &[&x], &[], DType::F32));
                    roots.push(prim(Op::ArgReduce(extreme, axis), &[&i], &[], DType::F32));
                }
                roots.push(x.softmax(axis as isize));
            }
            roots.push((&x * &x).sum(..));
        }
        roots
    });
}

/// Ties give the first, NaN beats everything.
#[test]
pub fn arg_reductions() {
    for dtype in DType::ALL {
        everywhere(&format!("arg-reductions of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for dims in [&[1][..], &[5], &[3, 7], &[4, 3, 2], &[2, 130]] {
                let n = dims.iter().product();
                let v: Vec<f64> = (0..n)
                    .map(|_| match leaves.rng.below(12) {
                        0 => f64::NAN,
                        1 => -0.0,
                        k => (k % 4) as f64,
                    })
                    .collect();
                let x = leaves.from(dtype, dims, &v);
                for axis in 0..dims.len() {
                    for extreme in [Extreme::Max, Extreme::Min] {
                        roots.push(prim(Op::ArgReduce(extreme, axis), &[&x], &[], dtype));
                    }
                }
            }
            roots
        });
    }
}

#[test]
pub fn scans() {
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
        everywhere(&format!("scans of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for dims in [&[1][..], &[0], &[9], &[1000], &[3, 65], &[17, 4], &[2, 3, 4]] {
                let x = leaves.of(dtype, dims, 0.98..1.02);
                for axis in 0..dims.len() {
                    for kind in [Reduction::Sum, Reduction::Prod, Reduction::Max, Reduction::Min] {
                        roots.push(prim(Op::Scan(kind, axis), &[&x], &[], dtype));
                    }
                }
            }
            roots
        });
    }
}

// ---- products

#[test]
pub fn products() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::U8] {
        everywhere(&format!("products of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            let grid = [
                [1, 1, 1, 1],
                [2, 3, 4, 5],
                [1, 8, 8, 8],
                [1, 9, 7, 17],
                [3, 6, 1, 6],
                [1, 1, 65, 33],
                [1, 64, 5, 72],
                [2, 17, 33, 80],
                [1, 5, 0, 3],
                [0, 2, 3, 4],
                [1, 40, 3, 1],
                [1, 16, 16, 130],
            ];
            for [b, m, k, n] in grid {
                let (x, z) = (leaves.of(dtype, &[b, m, k], -2.0..2.0), leaves.of(dtype, &[b, k, n], -2.0..2.0));
                let y = prim(Op::Dot, &[&x, &z], &[], dtype);
                let (xt, zt) = (leaves.of(dtype, &[b, k, m], -2.0..2.0), leaves.of(dtype, &[b, n, k], -2.0..2.0));
                roots.push(prim(Op::Dot, &[&xt.transpose(1, 2), &z], &[], dtype));
                roots.push(prim(Op::Dot, &[&x, &zt.transpose(1, 2)], &[], dtype));
                roots.push(prim(Op::Dot, &[&xt.transpose(1, 2), &zt.transpose(1, 2)], &[], dtype));
                if dtype.is_float() {
                    let bias = leaves.of(dtype, &[n], -1.0..1.0);
                    roots.push(prim(Op::Dot, &[&x.sin(), &z.relu()], &[], dtype));
                    roots.push((&y + &bias).relu());
                }
                roots.push(y);
            }
            roots
        });
    }
}

#[test]
pub fn convolutions() {
    for dtype in [DType::F32, DType::F16, DType::I32] {
        everywhere(&format!("convolutions of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for (stride, lo, hi, spread, dilation, groups) in [
                (1, 0, 0, 1, 1, 1),
                (1, 1, 1, 1, 1, 1),
                (2, 1, 0, 1, 1, 2),
                (1, 2, 2, 2, 1, 1),
                (1, -1, 2, 3, 1, 2),
                (1, -1, 1, 1, 1, 1),
                (2, 3, 3, 1, 2, 2),
                (3, 0, 2, 3, 2, 1),
            ] {
                for spatial in 1..3 {
                    // Few rows of a group are no product on a GPU.
                    let rows = if (stride + spread + spatial) % 2 == 0 { 3 } else { 7 };
                    let x = leaves.of(dtype, &[&[2, 2 * groups], &[7, 9][..spatial]].concat(), -2.0..2.0);
                    let w = leaves.of(dtype, &[&[rows * groups, 2], &[3, 2][..spatial]].concat(), -2.0..2.0);
                    let spec = ConvSpec {
                        stride: vec![stride; spatial],
                        lo: vec![lo; spatial],
                        hi: vec![hi; spatial],
                        spread: vec![spread; spatial],
                        dilation: vec![dilation; spatial],
                        groups,
                    };
                    roots.push(prim(Op::Conv(spec.into()), &[&x, &w], &[], dtype));
                }
            }
            let (x, w) = (leaves.of(dtype, &[1, 16, 12, 12], -1.0..1.0), leaves.of(dtype, &[16, 16, 3, 3], -1.0..1.0));
            roots.push(x.conv2d(&w, None, ConvOptions::default().padding(1)));
            roots
        });
    }
}

/// Results of every kind of kernel, written into their places in what they are joined to: also
/// twice, by one kernel two of them, in joins of joins, and some that others read as well.
#[test]
pub fn joins_of_results() {
    everywhere("joins of results", &|leaves| {
        let x = leaves.of(DType::F32, &[6, 5], -2.0..2.0);
        let z = leaves.of(DType::F32, &[5, 7], -2.0..2.0);
        let at = leaves.index(&[3, 5], 6);
        let product = || x.matmul(&z);
        let flat = |x: &Tensor| x.reshape(-1);
        let sums = [&x.sum(0), &(&x * 2.0).sum(0)];
        let scan = x.cumsum(1);
        let scattered = Tensor::zeros([6, 5], leaves.device).scatter_add(0, &at, x.slice_axis(0, 0..3, 1));
        let shared = product().exp();
        let all: Vec<Tensor> =
            [&product(), &x.t().matmul(&x), &scan, &scattered, &x.sin(), &x.max(1)].map(flat).into_iter().collect();
        let all = Tensor::cat(&[&all[..], &sums.map(flat)].concat(), 0);
        vec![
            Tensor::cat(&sums, 0).sum(..),
            Tensor::cat(&[&product(), &product(), &x.matmul(&z.sin())], 0),
            Tensor::cat(&[&product(), &shared], 0) * 2.0,
            shared.sum(..),
            (&all * &all).sum(..).rsqrt() * &all,
            Tensor::cat(&[&all, &all.sum(..).reshape(1)], 0),
            Tensor::cat(
                &[&flat(&product()), &Tensor::ones([3], leaves.device), &x.slice_axis(1, 0..1, 1).reshape(-1)],
                0,
            ),
            Tensor::cat(&[&product().reshape([1, 6, 7]), &Tensor::zeros([0, 6, 7], leaves.device)], 0),
        ]
    });
}

// ---- indexed

#[test]
pub fn gathers_and_scatters() {
    for dtype in DType::ALL {
        everywhere(&format!("gathers and scatters of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for (dims, axis) in
                [(&[5][..], 0), (&[4, 3], 0), (&[4, 3], 1), (&[2, 7, 3], 1), (&[1, 1], 1), (&[33, 2], 0)]
            {
                for m in [0, 1, 2, 6, 40] {
                    let mut to = dims.to_vec();
                    to[axis] = m;
                    let x = leaves.of(dtype, dims, -4.0..4.0);
                    let index = leaves.index(&to, dims[axis]);
                    let updates = leaves.of(dtype, &to, -4.0..4.0);
                    roots.push(prim(Op::Gather { axis, word: Word("gather") }, &[&x, &index], &[], dtype));
                    for mode in [ScatterMode::Set, ScatterMode::Add] {
                        if mode == ScatterMode::Add && dtype == DType::Bool {
                            continue;
                        }
                        let op = Op::Scatter { axis, mode, word: Word("scatter") };
                        roots.push(prim(op, &[&x, &index, &updates], &[], dtype));
                    }
                }
            }
            roots
        });
    }
}

#[test]
pub fn sorts() {
    for dtype in DType::ALL {
        everywhere(&format!("sorts of {dtype}"), &|leaves| {
            let mut roots = Vec::new();
            for dims in [
                &[1][..],
                &[2],
                &[15],
                &[16],
                &[17],
                &[64],
                &[65],
                &[257],
                &[1000],
                &[0],
                &[3, 20],
                &[70, 3],
                &[2, 65, 2],
            ] {
                let n = dims.iter().product();
                // Many ties, zeros of both signs, NaNs and infinities.
                let v: Vec<f64> = (0..n)
                    .map(|_| match leaves.rng.below(20) {
                        0 => f64::NAN,
                        1 => -0.0,
                        2 => f64::NEG_INFINITY,
                        3 => f64::INFINITY,
                        k if k < 12 => (k % 5) as f64 - 2.0,
                        _ => leaves.rng.uniform(-100.0..100.0),
                    })
                    .collect();
                let x = leaves.from(dtype, dims, &v);
                for axis in 0..dims.len() {
                    for descending in [false, true] {
                        roots.push(prim(Op::ArgSort { axis, descending }, &[&x], &[], dtype));
                    }
                }
            }
            roots
        });
    }
}

/// Ties, infinities and NaN too.
#[test]
pub fn the_first_few_of_an_order() {
    everywhere("the first few of an order", &|leaves| {
        let mut roots = Vec::new();
        let shapes: [(&[usize], isize, usize); 7] = [
            (&[3, 70], 1, 3),
            (&[70, 5], 0, 3),
            (&[2, 65, 3], 1, 1),
            (&[4, 64], -1, 16),
            (&[1, 33], 1, 8),
            (&[9, 4], 1, 1),
            (&[0, 70], 1, 3),
        ];
        for (dims, axis, k) in shapes {
            let first = |order: &Tensor| order.narrow(axis, 0, k);
            let x = leaves.of(DType::F32, dims, -2.0..2.0);
            let whole = (&x * 3.0).floor();
            for x in [&x, &whole, &whole.recip(), &(&whole / &whole), &whole.cast(DType::F16)] {
                let (values, indices) = x.topk(k, axis);
                roots.extend([values, indices, first(&x.argsort(axis, false))]);
            }
            let ints = whole.cast(DType::I32);
            roots.extend([ints.topk(k, axis).1, first(&ints.cast(DType::U8).argsort(axis, false))]);
        }
        roots
    });
}

#[test]
pub fn sorts_of_what_is_not() {
    everywhere("a descending sort of not", &|leaves| {
        let x = leaves.of(DType::U32, &[20], 0.0..9.0);
        vec![x.not().argsort(0, true), x.not().argsort(0, false)]
    });
}

#[test]
pub fn random_bits() {
    everywhere("random bits", &|leaves| {
        let key = Tensor::key(42, leaves.device);
        let mut roots = Vec::new();
        for n in [1, 2, 3, 7, 64, 1001] {
            let key = key.fold_in(n);
            roots.extend([Tensor::bits(n, &key), Tensor::uniform([3, n], &key), Tensor::normal(n, &key)]);
            roots.push(Tensor::bits([2, n], &key).slice_axis(1, n / 2..n, 1));
        }
        roots
    });
}

#[test]
pub fn leaves_and_marks() {
    everywhere("leaves and marks", &|leaves| {
        let device = leaves.device;
        let mut roots = Vec::new();
        for dims in SHAPES {
            let x = leaves.of(DType::F32, dims, -4.0..4.0);
            roots.extend([x.detach(), x.tracked(), x.zeros_like(), x.full_like(2.5)]);
            roots.push(&x + Tensor::input(1.25, device));
            roots.push(&x.cast(DType::I32) + Tensor::input(-3, device));
            roots.push(x);
        }
        roots.extend([
            Tensor::arange(0, 37, 1, device),
            Tensor::eye(9, device),
            Tensor::linspace(0.0, 1.0, 11, device),
        ]);
        roots.extend([Tensor::full([3, 5], true, device), Tensor::input(true, device)]);
        roots
    });
}
