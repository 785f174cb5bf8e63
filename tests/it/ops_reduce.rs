//! The words of reduction, scanning, indexing, sorting, random numbers and printing: values against
//! plain Rust over shapes that include 0 and 1, and what wrong input gives.

use std::ops::Range;

use wgrad::prelude::*;

use crate::arrays::{Array, SHAPES, check, cpu, ints, invalid, passes_on, refused, sample};
use crate::devices::devices;

// ---- reductions

/// Checks a reduction over every axis of every shape, over all axes, and with `keepdim`.
fn reduction(f: impl Fn(&Tensor, &[isize], bool) -> Tensor, want: impl Fn(&[f64]) -> f64, empty: bool) {
    for dims in SHAPES {
        let (x, a) = sample(dims);
        let each = (0..dims.len()).map(|axis| vec![axis]);
        for axes in each.chain([(0..dims.len()).collect()]) {
            if !empty && axes.iter().any(|&axis| dims[axis] == 0) {
                continue;
            }
            let rest: Vec<usize> = (0..dims.len()).filter(|k| !axes.contains(k)).map(|k| dims[k]).collect();
            let named: Vec<isize> = axes.iter().map(|&axis| axis as isize - dims.len() as isize).collect();
            check(&f(&x, &named, false), &rest, |i| want(&a.over(&axes, i)));
            let kept: Vec<usize> =
                dims.iter().enumerate().map(|(k, &n)| if axes.contains(&k) { 1 } else { n }).collect();
            check(&f(&x, &named, true), &kept, |i| {
                let index: Vec<usize> = (0..dims.len()).filter(|k| !axes.contains(k)).map(|k| i[k]).collect();
                want(&a.over(&axes, &index))
            });
        }
    }
}

macro_rules! reductions {
    ($($word:ident $empty:literal $want:expr;)*) => {$(
        #[test]
        fn $word() {
            let want: fn(&[f64]) -> f64 = $want;
            reduction(|x, axes, keep| if keep { x.$word(keepdim(axes)) } else { x.$word(axes) }, want, $empty);
            let (x, a) = sample(&[2, 3]);
            check(&x.$word(..), &[], |_| want(&a.data));
            refused(&x.$word(2), stringify!($word), "axis 2 is out of range for [2, 3]");
            refused(&x.$word([0, -2]), stringify!($word), "axis 0 is named twice in [0, -2]");
            passes_on(&invalid().$word(3));
        }
    )*};
}

reductions! {
    sum true |v| v.iter().sum();
    prod true |v| v.iter().product();
    max false |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    min false |v| v.iter().copied().fold(f64::INFINITY, f64::min);
    mean true |v| v.iter().sum::<f64>() / v.len() as f64;
    var true |v| variance(v, 1.0);
    std true |v| variance(v, 1.0).sqrt();
    any true |v| f64::from(u8::from(v.iter().any(|&x| x != 0.0)));
    all true |v| f64::from(u8::from(v.iter().all(|&x| x != 0.0)));
    logsumexp true |v| v.iter().map(|x| x.exp()).sum::<f64>().ln();
}

fn variance(v: &[f64], correction: f64) -> f64 {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (v.len() as f64 - correction).max(0.0)
}

#[test]
fn reductions_keep_to_their_dtypes() {
    let x = Tensor::new([[200u8, 100], [3, 4]], &cpu());
    check(&x.sum(1), &[2], |i| [300.0, 7.0][i[0]]);
    assert_eq!(x.sum(1).dtype(), DType::I32);
    assert_eq!(x.prod(..).dtype(), DType::I32);
    assert_eq!(x.max(1).dtype(), DType::U8);
    assert_eq!(x.mean(1).dtype(), DType::F32);
    check(&x.mean(..), &[], |_| 76.75);
    check(&x.gt(50).sum(..), &[], |_| 2.0);
    check(&x.gt(50).max(1), &[2], |i| 1.0 - i[0] as f64);
    // 4,000 times 100 is more than an f16 holds.
    let halves = Tensor::full([4000], 100.0, &cpu()).cast(DType::F16);
    check(&halves.mean(0), &[], |_| 100.0);
    assert_eq!(halves.mean(0).dtype(), DType::F16);
    let far = Tensor::new([10000.0, 10001.0, 10002.0], &cpu());
    check(&far.var(0), &[], |_| 1.0);
    refused(&Tensor::zeros([2, 0], &cpu()).max(1), "max", "max over axes [1] of [2, 0] has no elements");
    refused(&Tensor::zeros([2, 0], &cpu()).min(..), "min", "has no elements");
    let nan = Tensor::new([1.0, f64::NAN, 3.0], &cpu());
    check(&nan.max(0), &[], |_| f64::NAN);
    check(&nan.min(0), &[], |_| f64::NAN);
}

#[test]
fn var_with_and_std_with() {
    reduction(
        |x, axes, keep| if keep { x.var_with(keepdim(axes), 0.0) } else { x.var_with(axes, 0.0) },
        |v| variance(v, 0.0),
        true,
    );
    let x = Tensor::new([1.0, 2.0, 4.0], &cpu());
    check(&x.std_with(0, 2.0), &[], |_| variance(&[1.0, 2.0, 4.0], 2.0).sqrt());
    check(&x.var_with(0, 3.0), &[], |_| f64::INFINITY);
    refused(&x.var_with(1, 0.0), "var_with", "axis 1 is out of range");
    refused(&x.std_with(1, 0.0), "std_with", "axis 1 is out of range");
}

#[test]
fn argmax_argmin() {
    let x = ints(&[3, 9, 9, 1, 1, 4], &[2, 3]);
    check(&x.argmax(1), &[2], |i| [1.0, 2.0][i[0]]);
    check(&x.argmin(-1), &[2], |_| 0.0);
    check(&x.argmin(keepdim(0)), &[1, 3], |_| 1.0);
    check(&x.argmax(..), &[], |_| 1.0);
    check(&x.argmin(keepdim(..)), &[1, 1], |_| 3.0);
    check(&sample(&[0, 2]).0.argmax(1), &[0], |_| 0.0);
    check(&Tensor::new([1.0, f64::NAN, 3.0, f64::NAN], &cpu()).argmin(0), &[], |_| 1.0);
    assert_eq!(x.argmax(1).dtype(), DType::I32);
    refused(&x.argmax([0, 1]), "argmax", "takes one axis or `..`, got axes [0, 1]");
    refused(&x.argmin(2), "argmin", "axis 2 is out of range");
    refused(&sample(&[0, 2]).0.argmax(0), "argmax", "axis 0 of [0, 2] has no elements");
    refused(&sample(&[0, 2]).0.argmin(..), "argmin", "has no elements");
}

#[test]
fn norm() {
    for p in [0.0, 0.5, 1.0, 2.0, 3.0, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
        let want = |v: &[f64]| {
            let sizes = v.iter().map(|x| x.abs());
            if p == 0.0 {
                sizes.filter(|&x| x > 0.0).count() as f64
            } else if p == f64::INFINITY {
                sizes.fold(0.0, f64::max)
            } else if p == f64::NEG_INFINITY {
                sizes.fold(f64::INFINITY, f64::min)
            } else {
                sizes.map(|x| x.powf(p)).sum::<f64>().powf(1.0 / p)
            }
        };
        reduction(|x, axes, keep| if keep { x.norm(keepdim(axes), p) } else { x.norm(axes, p) }, want, p.is_finite());
    }
    refused(&sample(&[2]).0.norm(0, f64::NAN), "norm", "p is NaN");
    refused(&sample(&[2]).0.norm(1, 2.0), "norm", "axis 1 is out of range");
    refused(&sample(&[0]).0.norm(0, f64::INFINITY), "norm", "no elements");
}

/// A root so high makes much of what a driver's `exp2` leaves off 1.
#[test]
fn norm_of_next_to_no_power() {
    for device in devices() {
        let y = Tensor::new([[0.5], [2.0], [1e-30], [3e38]], &device).norm(1, 1e-40);
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0; 4], "{device}");
    }
}

#[test]
fn logsumexp_of_infinities() {
    let low = f64::NEG_INFINITY;
    let x = Tensor::new([[low, low], [low, 1.0], [f64::INFINITY, 1.0], [800.0, 800.0]], &cpu());
    check(&x.logsumexp(1), &[4], |i| [low, 1.0, f64::INFINITY, 800.0 + 2f64.ln()][i[0]]);
}

// ---- scans

#[test]
fn cumsum_cumprod() {
    for dims in SHAPES {
        let (x, a) = sample(dims);
        for axis in 0..dims.len() {
            let before = |i: &[usize]| -> Vec<f64> {
                let at = |k| {
                    let mut i = i.to_vec();
                    i[axis] = k;
                    a.at(&i)
                };
                (0..=i[axis]).map(at).collect()
            };
            check(&x.cumsum(axis as isize), dims, |i| before(i).iter().sum());
            check(&x.cumprod(axis as isize), dims, |i| before(i).iter().product());
            check(&x.cummax(axis as isize).0, dims, |i| before(i).iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
    check(&Tensor::new([true, true], &cpu()).cumsum(0), &[2], |i| i[0] as f64 + 1.0);
    refused(&sample(&[2]).0.cumsum(1), "cumsum", "axis 1 is out of range for [2]");
    refused(&sample(&[]).0.cumprod(0), "cumprod", "axis 0 is out of range for []");
}

#[test]
fn cummax() {
    let (values, indices) = Tensor::new([2.0, 1.0, 2.0, f64::NAN, 5.0], &cpu()).cummax(0);
    check(&values, &[5], |i| [2.0, 2.0, 2.0, f64::NAN, f64::NAN][i[0]]);
    check(&indices, &[5], |i| [0.0, 0.0, 2.0, 3.0, 3.0][i[0]]);
    let (values, indices) = Tensor::new([false, true, false], &cpu()).cummax(0);
    assert_eq!((values.dtype(), indices.dtype()), (DType::Bool, DType::I32));
    check(&values, &[3], |i| [0.0, 1.0, 1.0][i[0]]);
    check(&indices, &[3], |i| [0.0, 1.0, 1.0][i[0]]);
    refused(&sample(&[2]).0.cummax(1).1, "cummax", "axis 1 is out of range for [2]");
}

// ---- indexing

#[test]
fn gather() {
    let (x, a) = sample(&[3, 4]);
    let index = ints(&[3, 0, 1, 2], &[2, 2]);
    let at = Array::of(&index);
    check(&x.gather(1, &index), &[2, 2], |i| a.at(&[i[0], at.at(i) as usize]));
    check(&x.gather(0, &index.minimum(2).cast(DType::U8)), &[2, 2], |i| a.at(&[at.at(i).min(2.0) as usize, i[1]]));
    check(&x.gather(1, &ints(&[], &[0, 4])), &[0, 4], |_| 0.0);
    refused(&x.gather(1, &ints(&[0], &[1])), "gather", "indices [1] along axis 1 of [3, 4]");
    refused(&x.gather(1, &ints(&[0; 4], &[4, 1])), "gather", "indices [4, 1] along axis 1 of [3, 4]");
    refused(&x.gather(1, &x), "gather", "indices are integers, got f32");
    passes_on(&x.gather(1, &invalid()));
}

#[test]
fn scatter() {
    let (x, a) = sample(&[3, 4, 2]);
    let index = ints(&[2, 0, 2, 2], &[1, 4, 1]);
    let source = Tensor::arange(0, 12, 1, &cpu()).reshape([2, 6, 1]);
    // Of the writes to one place the last stays: each goes to a row of its own here.
    check(&x.scatter(0, &index, &source), &[3, 4, 2], |i| match i[2] == 0 && i[0] == [2, 0, 2, 2][i[1]] {
        true => i[1] as f64,
        false => a.at(i),
    });
    check(&ints(&[0; 3], &[3]).scatter(0, &ints(&[1, 1], &[2]), 5), &[3], |i| [0.0, 5.0, 0.0][i[0]]);
    check(&ints(&[0; 3], &[3]).scatter(0, &ints(&[1, 1], &[2]), ints(&[7, 8], &[2])), &[3], |i| [0.0, 8.0, 0.0][i[0]]);
    refused(&ints(&[0], &[1]).scatter(0, &ints(&[0], &[1]), 1.5), "scatter", "f32 into i32");
    refused(&x.scatter(0, &index, ints(&[1], &[1])), "scatter", "source [1] for indices [1, 4, 1]");
    refused(&x.scatter(0, &ints(&[0], &[1]), 1.0), "scatter", "indices [1] along axis 0 of [3, 4, 2]");
    refused(&x.scatter(3, &index, 1.0), "scatter", "axis 3 is out of range");
}

#[test]
fn scatter_add() {
    let (x, a) = sample(&[3, 4]);
    let index = ints(&[1, 1, 0, 1], &[2, 2]);
    let source = ints(&[10, 20, 30, 40], &[2, 2]);
    let mut want = a.data.clone();
    for (row, column, value) in [(0, 1, 30.0), (1, 0, 30.0), (1, 1, 40.0)] {
        want[row * 4 + column] += value;
    }
    check(&x.scatter_add(1, &index, &source), &[3, 4], |i| want[i[0] * 4 + i[1]]);
    check(&x.scatter_add(0, &ints(&[], &[0, 0]), 1.0), &[3, 4], |i| a.at(i));
    let bools = Tensor::new([true], &cpu());
    refused(&bools.scatter_add(0, &ints(&[0], &[1]), &bools), "scatter_add", "bools do not add");
}

#[test]
fn index_select() {
    let (x, a) = sample(&[3, 4]);
    check(&x.index_select(1, &ints(&[3, 3, 0], &[3])), &[3, 3], |i| a.at(&[i[0], [3, 3, 0][i[1]]]));
    check(&x.index_select(0, &ints(&[], &[0])), &[0, 4], |_| 0.0);
    refused(&x.index_select(0, &ints(&[0], &[1, 1])), "index_select", "an index has one axis, got [1, 1]");
    refused(&x.index_select(2, &ints(&[0], &[1])), "index_select", "axis 2 is out of range");
}

#[test]
fn take() {
    let (x, a) = sample(&[3, 4, 2]);
    let index = ints(&[2, 0, 1, 1, 3, 2], &[2, 3]);
    let at = Array::of(&index);
    check(&x.take(&index, 1), &[3, 2, 3, 2], |i| a.at(&[i[0], at.at(&i[1..3]) as usize, i[3]]));
    check(&x.take(&ints(&[2], &[]), -1 - 1), &[3, 2], |i| a.at(&[i[0], 2, i[1]]));
    refused(&x.take(&x, 0), "take", "indices are integers, got f32");
    refused(&sample(&[1; 8]).0.take(&index, 0), "take", "9 dimensions");
}

#[test]
fn embedding() {
    let (x, a) = sample(&[5, 3]);
    let ids = Tensor::new([[4u8, 0], [1, 1]], &cpu());
    check(&x.embedding(&ids), &[2, 2, 3], |i| a.at(&[[[4, 0], [1, 1]][i[0]][i[1]], i[2]]));
    refused(&sample(&[5]).0.embedding(&ids), "embedding", "the weight is a matrix, got [5]");
    refused(&x.embedding(&Tensor::new([true], &cpu())), "embedding", "indices are integers, got bool");
}

#[test]
fn an_index_out_of_range_reads_zero_and_is_an_error() {
    let x = Tensor::new([1.0, 2.0], &cpu()).take(&ints(&[0, 2, -1], &[3]), 0);
    let Err(error) = x.to_vec::<f32>() else { panic!("no error") };
    assert_eq!((error.kind(), error.op()), (wgrad::ErrorKind::Index, "take"));
    check(&x, &[3], |i| [1.0, 0.0, 0.0][i[0]]);
}

#[test]
fn masked_fill() {
    let (x, a) = sample(&[2, 3]);
    let mask = Tensor::new([true, false, true], &cpu());
    check(&x.masked_fill(&mask, -1.5), &[2, 3], |i| if i[1] == 1 { a.at(i) } else { -1.5 });
    check(&x.masked_fill(&mask, Tensor::new(3, &cpu())), &[2, 3], |i| if i[1] == 1 { a.at(i) } else { 3.0 });
    refused(&x.masked_fill(&x, 0.0), "masked_fill", "a mask is bool, got f32");
    refused(&x.masked_fill(&x.gt(0.0).t(), 0.0), "masked_fill", "[3, 2] does not broadcast to [2, 3]");
    refused(&x.cast(DType::I32).masked_fill(&mask, 0.5), "masked_fill", "f32 into i32");
    refused(&x.masked_fill(&mask, &x), "masked_fill", "the value is a scalar, got [2, 3]");
}

#[test]
fn sort_argsort_topk() {
    for dims in [&[5][..], &[2, 3], &[3, 1, 2], &[2, 0, 3]] {
        let (x, a) = sample(dims);
        for axis in 0..dims.len() {
            let line = |i: &[usize], descending: bool| {
                let mut line: Vec<f64> =
                    (0..dims[axis]).map(|k| a.at(&[&i[..axis], &[k], &i[axis + 1..]].concat())).collect();
                line.sort_by(|p, q| if descending { q.total_cmp(p) } else { p.total_cmp(q) });
                line
            };
            for descending in [false, true] {
                let (values, indices) = x.sort(axis as isize, descending);
                check(&values, dims, |i| line(i, descending)[i[axis]]);
                check(&x.gather(axis as isize, &indices), dims, |i| line(i, descending)[i[axis]]);
                check(&x.gather(axis as isize, &x.argsort(axis as isize, descending)), dims, |i| {
                    line(i, descending)[i[axis]]
                });
            }
            let k = dims[axis].min(2);
            let (values, indices) = x.topk(k, axis as isize);
            let mut short = dims.to_vec();
            short[axis] = k;
            check(&values, &short, |i| line(i, true)[i[axis]]);
            check(&x.gather(axis as isize, &indices), &short, |i| line(i, true)[i[axis]]);
        }
    }
    check(&ints(&[2, 1, 2, 1], &[4]).argsort(0, true), &[4], |i| [0.0, 2.0, 1.0, 3.0][i[0]]);
    let nan = Tensor::new([1.0, f64::NAN, 0.0], &cpu());
    check(&nan.sort(0, false).0, &[3], |i| [0.0, 1.0, f64::NAN][i[0]]);
    refused(&nan.sort(1, false).1, "sort", "axis 1 is out of range for [3]");
    refused(&nan.argsort(1, false), "argsort", "axis 1 is out of range for [3]");
    refused(&nan.topk(4, 0).0, "topk", "4 elements from 0 leave axis 0 of [3]");
    refused(&nan.topk(4, 1).1, "topk", "axis 1 is out of range");
}

// ---- random numbers: their values are in `jax.rs`

#[test]
fn keys_refuse_what_is_no_key() {
    let (key, bad) = (Tensor::key(3, &cpu()), ints(&[1, 2], &[2]));
    let dims = [2, 3];
    refused(&bad.fold_in(1), "fold_in", "a key is u32 [2], got i32 [2]");
    refused(&key.fold_in(1.5), "fold_in", "data are an integer scalar, got f32 []");
    refused(&key.fold_in(&bad), "fold_in", "data are an integer scalar, got i32 [2]");
    refused(&bad.split_key(2)[1], "split_key", "a key is u32 [2], got i32 [2]");
    refused(&key.split_key(usize::MAX)[0], "split_key", "keys");
    refused(&Tensor::bits(dims, &bad), "bits", "a key is u32 [2]");
    refused(&Tensor::uniform(dims, &bad), "uniform", "a key is u32 [2]");
    refused(&Tensor::uniform([-1], &key), "uniform", "negative");
    refused(&Tensor::uniform_in(dims, 1.0..f64::INFINITY, &key), "uniform_in", "no numbers in 1..inf");
    refused(&Tensor::normal(dims, &bad), "normal", "a key is u32 [2]");
    refused(&Tensor::bernoulli(dims, 1.5, &key), "bernoulli", "1.5 is no probability");
    refused(
        &Tensor::bernoulli(dims, Tensor::zeros([2], &cpu()), &key),
        "bernoulli",
        "[2] does not broadcast to [2, 3]",
    );
    let empty: Range<i64> = 5..5;
    refused(&Tensor::randint(dims, empty, &key), "randint", "no i32 in 5..5");
    refused(&Tensor::randint(dims, 0..i64::MAX, &key), "randint", "no i32 in");
    refused(&Tensor::randint(dims, 0..3, &bad), "randint", "a key is u32 [2]");
    refused(&Tensor::permutation(3, &bad), "permutation", "a key is u32 [2]");
    refused(&Tensor::permutation(usize::MAX, &key), "permutation", "elements");
    passes_on(&Tensor::normal(dims, &invalid()));
    passes_on(&Tensor::bernoulli(dims, 0.5, &invalid()));
}

#[test]
fn uniform_in_leaves_its_end_out() {
    for device in devices() {
        let draw =
            |range: Range<f64>| Tensor::uniform_in([1000], range, &Tensor::key(1, &device)).to_vec::<f32>().unwrap();
        assert!(draw(100.0..101.0).iter().all(|x| (100.0..101.0).contains(x)), "{device}");
        // No number is between, and half of the sums round up.
        assert_eq!(draw(8388608.0..8388609.0), [8388608.0; 1000], "{device}");
        assert_eq!(draw(2.0..2.0), [2.0; 1000], "{device}");
    }
}

#[test]
fn erfinv() {
    let x = Tensor::linspace(-0.999, 0.999, 41, &cpu());
    let a = Array::of(&x);
    check(&x.erfinv().erf(), &[41], |i| a.at(i));
    let ends = Array::of(&Tensor::new([-1.0, 0.0, 1.0], &cpu()).erfinv()).data;
    assert_eq!(ends, [f64::NEG_INFINITY, 0.0, f64::INFINITY]);
}

// ---- printing

#[test]
fn display() {
    let show = |x: Tensor| x.to_string();
    assert_eq!(show(Tensor::new(2.5, &cpu())), "2.5");
    assert_eq!(show(Tensor::new([1.0, 2.0], &cpu())), "[1. 2.]");
    assert_eq!(show(Tensor::new([[1, -20], [300, 4]], &cpu())), "[[  1 -20]\n [300   4]]");
    assert_eq!(show(Tensor::new([true, false], &cpu())), "[ true false]");
    assert_eq!(show(Tensor::new([0.1, 10.25, f64::NAN], &cpu())), "[ 0.1  10.25   nan]");
    assert_eq!(show(Tensor::new([1.5e10, -2e-7], &cpu())), "[ 1.5e+10 -2.0e-07]");
    assert_eq!(show(Tensor::zeros([2, 0], &cpu())), "[]");
    assert_eq!(format!("{:.1}", Tensor::new([0.25, 1.0], &cpu())), "[0.2 1. ]");
    assert_eq!(show(Tensor::arange(0, 8, 1, &cpu()).reshape([2, 2, 2])), "[[[0 1]\n  [2 3]]\n\n [[4 5]\n  [6 7]]]");
    assert_eq!(show(Tensor::arange(0, 2000, 1, &cpu())), "[   0    1    2 ... 1997 1998 1999]");
    let text = show(Tensor::arange(0, 4000, 1, &cpu()).reshape([400, 10]));
    assert_eq!(text.lines().count(), 7);
    assert_eq!(text.lines().nth(3), Some(" ..."));
    assert_eq!(text.lines().last(), Some(" [3990 3991 3992 ... 3997 3998 3999]]"));
    let wrapped = show(Tensor::arange(0, 40, 1, &cpu()));
    assert_eq!(wrapped.lines().count(), 2);
    assert!(wrapped.lines().all(|line| line.len() <= 75), "{wrapped}");
    assert!(show(Tensor::ones([2], &cpu()).sum(1)).starts_with("sum: axis 1 is out of range for [2] at "));
}

#[test]
fn debug() {
    let x = Tensor::ones([2, 3], &cpu()) + 1.0;
    assert_eq!(format!("{x:?}"), "Tensor([2, 3] f32 on cpu)");
    assert!(!x.is_realized());
    assert!(format!("{:?}", x.sum(2)).starts_with("Tensor(invalid: sum: axis 2 is out of range for [2, 3] at "));
}
