//! The words of creation, movement, reduction, indexing and sorting: values against plain Rust over
//! shapes that include 0 and 1, and what wrong input gives.

use std::ops::Range;

use wgrad::ops::pad::PadMode;
use wgrad::prelude::*;

const SHAPES: [&[usize]; 8] = [&[], &[1], &[0], &[5], &[2, 3], &[3, 1, 2], &[2, 0, 3], &[1, 4, 2, 3]];

fn cpu() -> Device {
    Device::cpu()
}

/// A tensor of `dims` and its elements, none like another, in no order.
fn sample(dims: &[usize]) -> (Tensor, Array) {
    let n: usize = dims.iter().product();
    let data: Vec<f32> = (0..n).map(|k| ((k * 37 + 11) % 101) as f32 * 0.5 - 20.0).collect();
    let wide = data.iter().map(|&x| f64::from(x)).collect();
    (Tensor::from_vec(data, dims, &cpu()), Array { dims: dims.to_vec(), data: wide })
}

fn ints(data: &[i32], dims: &[usize]) -> Tensor {
    Tensor::from_slice(data, dims, &cpu())
}

/// Elements in row-major order, for closures to index.
struct Array {
    dims: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    #[track_caller]
    fn of(x: &Tensor) -> Array {
        let data = match x.dtype() {
            DType::Bool => widened(x, |x: bool| f64::from(u8::from(x))),
            DType::U8 => widened(x, |x: u8| f64::from(x)),
            DType::U32 => widened(x, |x: u32| f64::from(x)),
            DType::I32 => widened(x, |x: i32| f64::from(x)),
            DType::F32 => widened(x, |x: f32| f64::from(x)),
            _ => widened(&x.cast(DType::F32), |x: f32| f64::from(x)),
        };
        Array { dims: x.dims().to_vec(), data }
    }

    fn at(&self, index: &[usize]) -> f64 {
        assert_eq!(index.len(), self.dims.len());
        self.data[index.iter().zip(&self.dims).fold(0, |at, (i, n)| at * n + i)]
    }

    /// The elements whose index away from `axes` is `index`, in row-major order.
    fn over(&self, axes: &[usize], index: &[usize]) -> Vec<f64> {
        let fits = |at: &Vec<usize>| {
            let rest = (0..at.len()).filter(|k| !axes.contains(k)).map(|k| at[k]);
            rest.eq(index.iter().copied())
        };
        indices(&self.dims).into_iter().filter(fits).map(|at| self.at(&at)).collect()
    }
}

#[track_caller]
fn widened<T: wgrad::Element>(x: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
    match x.to_vec::<T>() {
        Ok(elements) => elements.into_iter().map(f).collect(),
        Err(error) => panic!("{error}"),
    }
}

/// Every index of a tensor of `dims`, in row-major order.
fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![Vec::new()], |all, &n| {
        all.iter().flat_map(|at| (0..n).map(move |i| [&at[..], &[i]].concat())).collect()
    })
}

/// Checks shape and every element of `y`.
#[track_caller]
fn check(y: &Tensor, dims: &[usize], f: impl Fn(&[usize]) -> f64) {
    let got = Array::of(y);
    assert_eq!(got.dims, dims);
    assert_eq!(got.data.len(), dims.iter().product::<usize>());
    for index in indices(dims) {
        let (got, want) = (got.at(&index), f(&index));
        let near = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= 1e-5 * want.abs().max(1.0);
        assert!(near, "at {index:?} of {dims:?}: {got}, not {want}");
    }
}

/// Checks that `y` is the error `word: fact` at a line of this file.
#[track_caller]
fn refused(y: &Tensor, word: &str, fact: &str) {
    let Some(error) = y.error() else { panic!("{word} took what it should not, and gave {y:?}") };
    let text = error.to_string();
    assert!(text.starts_with(&format!("{word}: ")) && text.contains(fact), "{text}");
    let file = error.location().map_or("nowhere", |at| at.file());
    assert!(file.ends_with("ops_basic.rs"), "{text}");
}

/// A tensor that stands for an error, which every word must pass on.
fn invalid() -> Tensor {
    ints(&[1], &[2])
}

/// Checks that `y` is the error of [`invalid`].
#[track_caller]
fn passes_on(y: &Tensor) {
    refused(y, "from_slice", "1 elements for the shape [2]");
}

// ---- creation

#[test]
fn new() {
    check(&Tensor::new(2.5, &cpu()), &[], |_| 2.5);
    check(&Tensor::new([[[[1u8, 2]]], [[[3, 4]]]], &cpu()), &[2, 1, 1, 2], |i| (i[0] * 2 + i[3] + 1) as f64);
    check(&Tensor::new(vec![vec![1i64, 2], vec![3, 4]], &cpu()), &[2, 2], |i| (i[0] * 2 + i[1] + 1) as f64);
    check(&Tensor::new(&[true, false][..], &cpu()), &[2], |i| 1.0 - i[0] as f64);
    check(&Tensor::new([[0f32; 3]; 0], &cpu()), &[0, 3], |_| 0.0);
    assert_eq!(Tensor::new([half::f16::ONE], &cpu()).dtype(), DType::F16);
    assert_eq!(Tensor::new([half::bf16::ONE], &cpu()).dtype(), DType::BF16);
    assert_eq!(Tensor::new([1u32], &cpu()).dtype(), DType::U32);
    refused(&Tensor::new(vec![vec![1], vec![2, 3]], &cpu()), "new", "rows of different lengths");
    refused(&Tensor::new([1i64 << 40], &cpu()), "new", "1099511627776 does not fit i32");
}

#[test]
fn from_slice() {
    check(&Tensor::from_slice(&[1.5f32, 2.5], [1, 2], &cpu()), &[1, 2], |i| i[1] as f64 + 1.5);
    check(&Tensor::from_slice::<i32>(&[], [2, 0], &cpu()), &[2, 0], |_| 0.0);
    refused(&Tensor::from_slice(&[1, 2, 3], [2, 2], &cpu()), "from_slice", "3 elements for the shape [2, 2]");
    refused(&Tensor::from_slice(&[1, 2, 3], [-3], &cpu()), "from_slice", "negative");
}

#[test]
fn from_vec() {
    check(&Tensor::from_vec(vec![true, false, true], 3, &cpu()), &[3], |i| (1 - i[0] % 2) as f64);
    refused(&Tensor::from_vec(vec![1u8], (), &cpu()).reshape([2]), "reshape", "[] has 1 elements, [2] has 2");
    refused(&Tensor::from_vec(vec![1u8], [1; 9], &cpu()), "from_vec", "9 dimensions");
}

#[test]
fn zeros_ones_full() {
    for dims in SHAPES {
        check(&Tensor::zeros(dims, &cpu()), dims, |_| 0.0);
        check(&Tensor::ones(dims, &cpu()), dims, |_| 1.0);
        check(&Tensor::full(dims, 7, &cpu()), dims, |_| 7.0);
        let (x, _) = sample(dims);
        check(&x.zeros_like(), dims, |_| 0.0);
        check(&x.cast(DType::I32).ones_like(), dims, |_| 1.0);
        check(&x.cast(DType::U8).full_like(9), dims, |_| 9.0);
    }
    assert_eq!(Tensor::full([2], true, &cpu()).dtype(), DType::Bool);
    assert_eq!(Tensor::zeros([2], &cpu()).cast(DType::I32).ones_like().dtype(), DType::I32);
    refused(&Tensor::zeros([70_000, 70_000], &cpu()), "zeros", "more than 2^32 - 1 elements");
    refused(&Tensor::ones([-1], &cpu()), "ones", "negative");
    refused(&Tensor::full([1], 1i64 << 33, &cpu()), "full", "8589934592 does not fit i32");
    passes_on(&invalid().full_like(1));
}

#[test]
fn arange() {
    check(&Tensor::arange(0, 5, 1, &cpu()), &[5], |i| i[0] as f64);
    check(&Tensor::arange(7, 0, -3, &cpu()), &[3], |i| 7.0 - 3.0 * i[0] as f64);
    check(&Tensor::arange(7, 1, -3, &cpu()), &[2], |i| 7.0 - 3.0 * i[0] as f64);
    check(&Tensor::arange(3, 3, 1, &cpu()), &[0], |_| 0.0);
    check(&Tensor::arange(3, 0, 1, &cpu()), &[0], |_| 0.0);
    check(&Tensor::arange(0, 1.0, 0.25, &cpu()), &[4], |i| 0.25 * i[0] as f64);
    check(&Tensor::arange(i32::MAX - 1, i64::from(i32::MAX) + 1, 1, &cpu()), &[2], |i| 2147483646.0 + i[0] as f64);
    refused(&Tensor::arange(0, 5, 0, &cpu()), "arange", "a step of 0");
    refused(&Tensor::arange(0.0, f64::NAN, 1.0, &cpu()), "arange", "no count of elements");
    refused(&Tensor::arange(0.0, 1.0, 0.0, &cpu()), "arange", "no count of elements");
    refused(&Tensor::arange(0, 1i64 << 40, 1i64 << 33, &cpu()), "arange", "does not fit i32");
    refused(&Tensor::arange(i64::MIN, i64::MAX, 1, &cpu()), "arange", "does not fit i32");
}

#[test]
fn linspace() {
    check(&Tensor::linspace(-1.0, 1.0, 5, &cpu()), &[5], |i| i[0] as f64 * 0.5 - 1.0);
    check(&Tensor::linspace(3.0, 9.0, 1, &cpu()), &[1], |_| 3.0);
    check(&Tensor::linspace(3.0, 9.0, 0, &cpu()), &[0], |_| 0.0);
    let ends = Tensor::linspace(0.1, 0.7, 8, &cpu()).to_vec::<f32>().unwrap();
    assert_eq!((ends[0], ends[7]), (0.1, 0.7));
    refused(&Tensor::linspace(0.0, 1.0, usize::MAX, &cpu()), "linspace", "elements");
}

#[test]
fn eye() {
    for n in [0, 1, 4] {
        check(&Tensor::eye(n, &cpu()), &[n, n], |i| f64::from(u8::from(i[0] == i[1])));
    }
    refused(&Tensor::eye(1 << 40, &cpu()), "eye", "elements");
}

#[test]
fn one_hot() {
    let x = ints(&[2, -1, 0, 5], &[2, 2]);
    let classes = Array::of(&x);
    check(&x.one_hot(3), &[2, 2, 3], |i| f64::from(u8::from(classes.at(&i[..2]) == i[2] as f64)));
    check(&x.cast(DType::U32).one_hot(1), &[2, 2, 1], |i| f64::from(u8::from(i[..2] == [1, 0])));
    check(&ints(&[], &[0]).one_hot(3), &[0, 3], |_| 0.0);
    check(&x.one_hot(0), &[2, 2, 0], |_| 0.0);
    refused(&Tensor::new([1.0], &cpu()).one_hot(3), "one_hot", "classes are integers, got f32");
    refused(&x.one_hot(usize::MAX), "one_hot", "elements");
    passes_on(&invalid().one_hot(3));
}

#[test]
fn input() {
    check(&(Tensor::input(2.5, &cpu()) * 2.0), &[], |_| 5.0);
    assert_eq!(Tensor::input(3, &cpu()).dtype(), DType::I32);
    refused(&Tensor::input(1i64 << 40, &cpu()), "input", "does not fit i32");
}

// ---- movement

#[test]
fn reshape() {
    let (x, a) = sample(&[2, 3, 4]);
    check(&x.reshape([4, -1]), &[4, 6], |i| a.data[i[0] * 6 + i[1]]);
    check(&x.reshape(24), &[24], |i| a.data[i[0]]);
    check(&sample(&[2, 0]).0.reshape([0, 7]), &[0, 7], |_| 0.0);
    check(&Tensor::new(3.0, &cpu()).reshape([1, 1]), &[1, 1], |_| 3.0);
    refused(&x.reshape([5, -1]), "reshape", "[2, 3, 4] does not fit [5, -1]");
    refused(&x.reshape([5, 5]), "reshape", "[2, 3, 4] has 24 elements, [5, 5] has 25");
    refused(&x.reshape([-1, -1]), "reshape", "[2, 3, 4] does not fit [-1, -1]");
    refused(&x.reshape([-2]), "reshape", "negative");
    refused(&sample(&[2, 0]).0.reshape([0, -1]), "reshape", "does not fit");
    passes_on(&invalid().reshape([5]));
}

#[test]
fn flatten() {
    let (x, a) = sample(&[2, 3, 4]);
    check(&x.flatten(0, -1), &[24], |i| a.data[i[0]]);
    check(&x.flatten(-2, -1), &[2, 12], |i| a.data[i[0] * 12 + i[1]]);
    check(&Tensor::new(3.0, &cpu()).flatten(0, -1), &[1], |_| 3.0);
    refused(&x.flatten(2, 1), "flatten", "axis 2 is after axis 1");
    refused(&x.flatten(0, 3), "flatten", "axis 3 is out of range for [2, 3, 4]");
}

#[test]
fn permute() {
    let (x, a) = sample(&[2, 3, 4]);
    check(&x.permute([2, 0, 1]), &[4, 2, 3], |i| a.at(&[i[1], i[2], i[0]]));
    check(&x.permute([-1, -3, 1]), &[4, 2, 3], |i| a.at(&[i[1], i[2], i[0]]));
    check(&sample(&[2, 0, 3]).0.permute([2, 1, 0]), &[3, 0, 2], |_| 0.0);
    refused(&x.permute([0, 1]), "permute", "[0, 1] does not name every axis of [2, 3, 4] once");
    refused(&x.permute([0, 1, 1]), "permute", "does not name every axis");
    refused(&x.permute([0, 1, 7]), "permute", "axis 7 is out of range");
}

#[test]
fn transpose() {
    let (x, a) = sample(&[2, 3, 4]);
    check(&x.transpose(0, -1), &[4, 3, 2], |i| a.at(&[i[2], i[1], i[0]]));
    refused(&x.transpose(0, 3), "transpose", "axis 3 is out of range for [2, 3, 4]");
}

#[test]
fn t() {
    let (x, a) = sample(&[2, 3]);
    check(&x.t(), &[3, 2], |i| a.at(&[i[1], i[0]]));
    check(&sample(&[4]).0.t(), &[4], |i| sample(&[4]).1.at(i));
    refused(&sample(&[1, 2, 3]).0.t(), "t", "takes a matrix, got [1, 2, 3]");
}

#[test]
fn squeeze() {
    let (x, a) = sample(&[1, 3, 1]);
    check(&x.squeeze(..), &[3], |i| a.data[i[0]]);
    check(&x.squeeze([0]), &[3, 1], |i| a.data[i[0]]);
    check(&x.squeeze([-1, 0]), &[3], |i| a.data[i[0]]);
    refused(&x.squeeze(1), "squeeze", "axis 1 of [1, 3, 1] has size 3, not 1");
    refused(&x.squeeze([0, -3]), "squeeze", "named twice");
}

#[test]
fn unsqueeze() {
    for (axis, dims) in [(0, [1, 2, 3]), (1, [2, 1, 3]), (-1, [2, 3, 1]), (-3, [1, 2, 3])] {
        check(&sample(&[2, 3]).0.unsqueeze(axis), &dims, |i| {
            sample(&[2, 3]).1.data[(i[0] * dims[1] + i[1]) * dims[2] + i[2]]
        });
    }
    refused(&sample(&[2, 3]).0.unsqueeze(3), "unsqueeze", "axis 3 is out of range for a new axis of [2, 3]");
    refused(&sample(&[1; 8]).0.unsqueeze(0), "unsqueeze", "8 dimensions already");
    refused(&sample(&[2]).0.unsqueeze(isize::MIN), "unsqueeze", "out of range");
}

#[test]
fn expand() {
    let (x, a) = sample(&[3, 1]);
    check(&x.expand([2, -1, 4]), &[2, 3, 4], |i| a.at(&[i[1], 0]));
    check(&x.expand([-1, 0]), &[3, 0], |_| 0.0);
    refused(&x.expand([2, 4]), "expand", "[3, 1] does not broadcast to [2, 4]");
    refused(&x.expand([-1, 3, 4]), "expand", "negative");
    refused(&x.expand([1]), "expand", "does not broadcast");
}

#[test]
fn broadcast_to() {
    let (x, a) = sample(&[3, 1]);
    check(&x.broadcast_to([2, 3, 4]), &[2, 3, 4], |i| a.at(&[i[1], 0]));
    refused(&x.broadcast_to([3]), "broadcast_to", "[3, 1] does not broadcast to [3]");
    refused(&x.broadcast_to([-1, 4]), "broadcast_to", "negative");
}

#[test]
fn flip() {
    let (x, a) = sample(&[2, 3, 4]);
    check(&x.flip([0, -1]), &[2, 3, 4], |i| a.at(&[1 - i[0], i[1], 3 - i[2]]));
    check(&x.flip(..), &[2, 3, 4], |i| a.at(&[1 - i[0], 2 - i[1], 3 - i[2]]));
    check(&sample(&[2, 0]).0.flip(..), &[2, 0], |_| 0.0);
    refused(&x.flip(4), "flip", "axis 4 is out of range");
}

#[test]
fn tril_triu() {
    for dims in [&[3, 4][..], &[4, 3], &[2, 3, 3], &[0, 2], &[1, 1]] {
        let (x, a) = sample(dims);
        let (r, c) = (dims.len() - 2, dims.len() - 1);
        for k in [-9, -2, -1, 0, 1, 2, 9, isize::MIN, isize::MAX] {
            let above = |i: &[usize]| i[c] as i128 - i[r] as i128;
            check(&x.tril(k), dims, |i| if above(i) <= k as i128 { a.at(i) } else { 0.0 });
            check(&x.triu(k), dims, |i| if above(i) >= k as i128 { a.at(i) } else { 0.0 });
        }
    }
    assert_eq!(ints(&[1, 2, 3, 4], &[2, 2]).tril(0).dtype(), DType::I32);
    refused(&sample(&[3]).0.tril(0), "tril", "takes matrices, got [3]");
    refused(&sample(&[]).0.triu(0), "triu", "takes matrices, got []");
}

#[test]
fn diag() {
    for n in [0, 1, 3] {
        for k in [-2isize, -1, 0, 1, 2] {
            let (x, a) = sample(&[n]);
            let m = n + k.unsigned_abs();
            check(&x.diag(k), &[m, m], |i| {
                let on = i[1] as isize - i[0] as isize == k;
                if on { a.data[i[0].min(i[1])] } else { 0.0 }
            });
            check(&x.diag(k).diag(k), &[n], |i| a.at(i));
        }
    }
    let (x, a) = sample(&[3, 5]);
    check(&x.diag(3), &[2], |i| a.at(&[i[0], i[0] + 3]));
    check(&x.diag(-1), &[2], |i| a.at(&[i[0] + 1, i[0]]));
    check(&x.diag(9), &[0], |_| 0.0);
    check(&x.diag(isize::MIN), &[0], |_| 0.0);
    refused(&sample(&[1, 2, 3]).0.diag(0), "diag", "takes a vector or a matrix, got [1, 2, 3]");
    refused(&sample(&[2]).0.diag(isize::MAX), "diag", "elements");
}

#[test]
fn unfold() {
    let (x, a) = sample(&[2, 7, 3]);
    check(&x.unfold(1, 3, 2), &[2, 3, 3, 3], |i| a.at(&[i[0], i[1] * 2 + i[3], i[2]]));
    check(&x.unfold(-1, 3, 5), &[2, 7, 1, 3], |i| a.at(&[i[0], i[1], i[3]]));
    refused(&x.unfold(1, 8, 1), "unfold", "a window of 8");
    refused(&x.unfold(1, 3, 0), "unfold", "stride 0");
    refused(&x.unfold(3, 1, 1), "unfold", "axis 3 is out of range");
}

// ---- slices

#[test]
fn slice() {
    let (x, a) = sample(&[4, 5, 6]);
    check(&x.slice((.., 1..3, ..)), &[4, 2, 6], |i| a.at(&[i[0], i[1] + 1, i[2]]));
    check(&x.slice((2.., ..-1, -2..)), &[2, 4, 2], |i| a.at(&[i[0] + 2, i[1], i[2] + 4]));
    check(&x.slice((-1, 1..=3, 0)), &[3], |i| a.at(&[3, i[0] + 1, 0]));
    check(&x.slice((..=1, ..=-1)), &[2, 5, 6], |i| a.at(i));
    check(&x.slice(1), &[5, 6], |i| a.at(&[1, i[0], i[1]]));
    check(&x.slice([1..2, 3..9]), &[1, 2, 6], |i| a.at(&[i[0] + 1, i[1] + 3, i[2]]));
    check(&x.slice((3..1, 9..)), &[0, 0, 6], |_| 0.0);
    check(&x.slice(-9..2), &[2, 5, 6], |i| a.at(i));
    check(&x.slice((0, 0, 0)), &[], |_| a.at(&[0, 0, 0]));
    let n: usize = 2;
    check(&x.slice((..n, n)), &[2, 6], |i| a.at(&[i[0], 2, i[1]]));
    refused(&x.slice(4), "slice", "index 4 is out of range for axis 0 of [4, 5, 6]");
    refused(&x.slice((.., -6)), "slice", "index -6 is out of range for axis 1");
    refused(&x.slice((.., .., .., ..)), "slice", "4 axes are named, but the shape is [4, 5, 6]");
    passes_on(&invalid().slice(0));
}

/// Python's `range(n)[from:to:step]`.
fn python(n: isize, from: Option<isize>, to: Option<isize>, step: isize) -> Vec<usize> {
    let bound = |b: isize| {
        let b = if b < 0 { b + n } else { b };
        if step > 0 { b.clamp(0, n) } else { b.clamp(-1, n - 1) }
    };
    let mut at = from.map_or(if step > 0 { 0 } else { n - 1 }, bound);
    let end = to.map_or(if step > 0 { n } else { -1 }, bound);
    let mut all = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        all.push(at as usize);
        at += step;
    }
    all
}

#[test]
fn slice_axis() {
    for n in [0, 1, 6] {
        let (x, a) = sample(&[2, n as usize]);
        for step in [1, 2, 5, 9, -1, -2, -5, -9] {
            let row = |want: Vec<usize>, y: Tensor| {
                check(&y, &[2, want.len()], |i| a.at(&[i[0], want[i[1]]]));
            };
            row(python(n, None, None, step), x.slice_axis(1, .., step));
            for from in -8..=8 {
                row(python(n, Some(from), None, step), x.slice_axis(1, from.., step));
                row(python(n, None, Some(from), step), x.slice_axis(-1, ..from, step));
                for to in -8..=8 {
                    row(python(n, Some(from), Some(to), step), x.slice_axis(1, from..to, step));
                }
            }
        }
    }
    let (x, a) = sample(&[6]);
    check(&x.slice_axis(0, 4..=0, -2), &[3], |i| a.data[4 - 2 * i[0]]);
    check(&x.slice_axis(0, 1..=5, 2), &[3], |i| a.data[1 + 2 * i[0]]);
    check(&x.slice_axis(0, .., isize::MIN), &[1], |_| a.data[5]);
    refused(&x.slice_axis(0, .., 0), "slice_axis", "a step of 0");
    refused(&x.slice_axis(1, .., 1), "slice_axis", "axis 1 is out of range for [6]");
    refused(&x.slice_axis(0, 3, 1), "slice_axis", "takes one range");
    refused(&x.slice_axis(0, (.., ..), 1), "slice_axis", "takes one range");
}

#[test]
fn narrow() {
    let (x, a) = sample(&[3, 5]);
    check(&x.narrow(1, 2, 3), &[3, 3], |i| a.at(&[i[0], i[1] + 2]));
    check(&x.narrow(-2, 3, 0), &[0, 5], |_| 0.0);
    refused(&x.narrow(1, 3, 3), "narrow", "3 elements from 3 leave axis 1 of [3, 5]");
    refused(&x.narrow(0, usize::MAX, 2), "narrow", "leave axis 0");
}

#[test]
fn narrow_at() {
    let (x, a) = sample(&[3, 5]);
    for (start, want) in [(-4, 0), (0, 0), (1, 1), (3, 3), (9, 3)] {
        let start = Tensor::input(start, &cpu());
        check(&x.narrow_at(1, &start, 2), &[3, 2], |i| a.at(&[i[0], i[1] + want]));
    }
    check(&x.narrow_at(0, &Tensor::new(1u8, &cpu()), 1), &[1, 5], |i| a.at(&[1, i[1]]));
    refused(&x.narrow_at(1, &Tensor::input(0, &cpu()), 6), "narrow_at", "6 elements do not fit axis 1 of [3, 5]");
    refused(&x.narrow_at(1, &Tensor::input(0.0, &cpu()), 1), "narrow_at", "indices are integers, got f32");
    refused(&x.narrow_at(1, &ints(&[0], &[1]), 1), "narrow_at", "a start is i32 [], got i32 [1]");
}

#[test]
fn write_at() {
    let ((x, a), (part, b)) = (sample(&[3, 5]), sample(&[3, 2]));
    for (start, at) in [(-4, 0), (0, 0), (1, 1), (3, 3), (9, 3)] {
        check(&x.write_at(-1, &Tensor::input(start, &cpu()), &part), &[3, 5], |i| {
            if (at..at + 2).contains(&i[1]) { b.at(&[i[0], i[1] - at]) } else { a.at(i) }
        });
    }
    let start = Tensor::input(0, &cpu());
    refused(&x.write_at(0, &start, &part), "write_at", "f32 [3, 2] does not fit into f32 [3, 5] along axis 0");
    refused(&x.write_at(1, &start, &part.cast(DType::I32)), "write_at", "i32 [3, 2] does not fit into f32");
}

// ---- padding, joining, cutting

#[test]
fn pad() {
    let (x, a) = sample(&[2, 3]);
    check(&x.pad(&[(1, 0), (2, 1)], -1.0), &[3, 6], |i| {
        let inside = i[0] >= 1 && (2..5).contains(&i[1]);
        if inside { a.at(&[i[0] - 1, i[1] - 2]) } else { -1.0 }
    });
    check(&x.pad(&[(0, 2)], 7), &[2, 5], |i| if i[1] < 3 { a.at(i) } else { 7.0 });
    check(&x.pad(&[(2, 1)], PadMode::Reflect), &[2, 6], |i| a.at(&[i[0], [2, 1, 0, 1, 2, 1][i[1]]]));
    check(&x.pad(&[(1, 0), (0, 2)], PadMode::Reflect), &[3, 5], |i| a.at(&[[1, 0, 1][i[0]], [0, 1, 2, 1, 0][i[1]]]));
    check(&x.pad(&[(1, 2), (3, 0)], PadMode::Replicate), &[5, 6], |i| {
        a.at(&[i[0].saturating_sub(1).min(1), i[1].saturating_sub(3).min(2)])
    });
    check(&sample(&[0]).0.pad(&[(1, 1)], 4), &[2], |_| 4.0);
    refused(&x.pad(&[(3, 0)], PadMode::Reflect), "pad", "reflection by (3, 0) of axis 1 of [2, 3]");
    refused(&sample(&[0]).0.pad(&[(1, 1)], PadMode::Replicate), "pad", "replication by (1, 1) of axis 0 of [0]");
    refused(&x.pad(&[(0, 0); 3], 0), "pad", "3 pairs, but the shape is [2, 3]");
    refused(&x.pad(&[(usize::MAX, 1)], 0), "pad", "too large");
    refused(&x.pad(&[(usize::MAX, 0)], PadMode::Replicate), "pad", "elements");
}

#[test]
fn cat() {
    let ((x, a), (z, b)) = (sample(&[2, 3]), sample(&[2, 1]));
    check(&Tensor::cat(&[&x, &z, &x], 1), &[2, 7], |i| match i[1] {
        0..3 => a.at(i),
        3 => b.at(&[i[0], 0]),
        k => a.at(&[i[0], k - 4]),
    });
    check(&Tensor::cat(&[x.clone(), sample(&[0, 3]).0], -2), &[2, 3], |i| a.at(i));
    assert_eq!(Tensor::cat(&[ints(&[1], &[1]), Tensor::new([true], &cpu())], 0).dtype(), DType::I32);
    refused(&Tensor::cat(&[&x, &z], 0), "cat", "f32 [2, 3] and f32 [2, 1] do not join along axis 0");
    refused(&Tensor::cat(&[&x], 2), "cat", "axis 2 is out of range for [2, 3]");
    refused(&Tensor::cat::<Tensor>(&[], 0), "cat", "no tensors");
    passes_on(&Tensor::cat(&[&x, &invalid()], 5));
}

#[test]
fn stack() {
    let (x, a) = sample(&[2, 3]);
    let z = &x + 1.0;
    check(&Tensor::stack(&[&x, &z], 0), &[2, 2, 3], |i| a.at(&i[1..]) + i[0] as f64);
    check(&Tensor::stack(&[&x, &z], -1), &[2, 3, 2], |i| a.at(&i[..2]) + i[2] as f64);
    refused(&Tensor::stack(&[&x, &x.t()], 0), "stack", "shapes differ: [2, 3] and [3, 2]");
    refused(&Tensor::stack(&[&x], 3), "stack", "axis 3 is out of range for a new axis of [2, 3]");
    refused(&Tensor::stack::<Tensor>(&[], 0), "stack", "no tensors");
}

#[test]
fn split() {
    let (x, a) = sample(&[2, 5]);
    let parts = x.split(2, 1);
    assert_eq!(parts.len(), 3);
    check(&parts[2], &[2, 1], |i| a.at(&[i[0], 4]));
    let [p, q, r] = x.split([1, 0, 4], -1);
    check(&p, &[2, 1], |i| a.at(i));
    check(&q, &[2, 0], |_| 0.0);
    check(&r, &[2, 4], |i| a.at(&[i[0], i[1] + 1]));
    check(&x.split(vec![3, 2], 1)[1], &[2, 2], |i| a.at(&[i[0], i[1] + 3]));
    check(&sample(&[0]).0.split(3, 0)[0], &[0], |_| 0.0);
    let [p, q] = x.split([1, 2], 1);
    refused(&p, "split", "5 elements in parts of [1, 2]");
    refused(&q, "split", "5 elements in parts of [1, 2]");
    refused(&x.split(0, 1)[0], "split", "5 elements in parts of 0");
    let [p, q] = invalid().split([1, 2], 1);
    passes_on(&p);
    passes_on(&q);
    passes_on(&invalid().split(2, 0)[0]);
}

#[test]
fn chunk() {
    let (x, a) = sample(&[2, 5]);
    let parts = x.chunk(2, 1);
    check(&parts[0], &[2, 3], |i| a.at(i));
    check(&parts[1], &[2, 2], |i| a.at(&[i[0], i[1] + 3]));
    assert_eq!(x.chunk(4, 1).len(), 3);
    assert_eq!(x.chunk(9, 1).len(), 5);
    refused(&x.chunk(0, 1)[0], "chunk", "0 parts");
    refused(&x.chunk(3, 2)[2], "chunk", "axis 2 is out of range for [2, 5]");
    passes_on(&invalid().chunk(3, 0)[2]);
}

#[test]
fn repeat() {
    let (x, a) = sample(&[2, 3]);
    check(&x.repeat(3, 0), &[6, 3], |i| a.at(&[i[0] / 3, i[1]]));
    check(&x.repeat(2, -1), &[2, 6], |i| a.at(&[i[0], i[1] / 2]));
    check(&x.repeat(0, 0), &[0, 3], |_| 0.0);
    check(&sample(&[1, 1, 1, 1, 1, 1, 1, 2]).0.repeat(2, 0), &[2, 1, 1, 1, 1, 1, 1, 2], |i| sample(&[2]).1.data[i[7]]);
    check(&sample(&[1, 1, 1, 1, 1, 1, 1, 2]).0.repeat(2, 7), &[1, 1, 1, 1, 1, 1, 1, 4], |i| {
        sample(&[2]).1.data[i[7] / 2]
    });
    refused(&x.repeat(2, 2), "repeat", "axis 2 is out of range for [2, 3]");
    refused(&x.repeat(usize::MAX, 0), "repeat", "times 2 elements");
}

#[test]
fn tile() {
    let (x, a) = sample(&[2, 3]);
    check(&x.tile([2, 3]), &[4, 9], |i| a.at(&[i[0] % 2, i[1] % 3]));
    check(&x.tile([2]), &[2, 6], |i| a.at(&[i[0], i[1] % 3]));
    check(&x.tile([2, 1, 2]), &[2, 2, 6], |i| a.at(&[i[1], i[2] % 3]));
    check(&x.tile([0, 1]), &[0, 3], |_| 0.0);
    refused(&x.tile([-1]), "tile", "negative");
    refused(&x.tile([1 << 20, 1 << 20]), "tile", "elements");
}

#[test]
fn roll() {
    let (x, a) = sample(&[3, 4]);
    for shift in [-9isize, -1, 0, 1, 2, 3, 7] {
        check(&x.roll(shift, 1), &[3, 4], |i| a.at(&[i[0], (i[1] as isize - shift).rem_euclid(4) as usize]));
    }
    check(&x.roll([1, -1], ..), &[3, 4], |i| a.at(&[(i[0] + 2) % 3, (i[1] + 1) % 4]));
    check(&sample(&[0]).0.roll(3, 0), &[0], |_| 0.0);
    refused(&x.roll([1, 2], 0), "roll", "2 shifts for 1 axes");
    refused(&x.roll(1, 2), "roll", "axis 2 is out of range for [3, 4]");
}

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
            } else if v.is_empty() {
                0.0
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
    let error = x.to_vec::<f32>().unwrap_err();
    assert_eq!((error.kind(), error.op()), (wgrad::ErrorKind::Index, "take"));
    assert_eq!(x.to_vec::<f32>().unwrap(), [1.0, 0.0, 0.0]);
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
        &Tensor::bernoulli(dims, &Tensor::zeros([2], &cpu()), &key),
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
fn erfinv() {
    let x = Tensor::linspace(-0.999, 0.999, 41, &cpu());
    let a = Array::of(&x);
    check(&x.erfinv().erf(), &[41], |i| a.at(i));
    let ends = Tensor::new([-1.0, 0.0, 1.0], &cpu()).erfinv().to_vec::<f32>().unwrap();
    assert_eq!(ends, [f32::NEG_INFINITY, 0.0, f32::INFINITY]);
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
