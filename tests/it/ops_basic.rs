//! The words of creation, movement, slicing and joining: values against plain Rust over shapes that
//! include 0 and 1, and what wrong input gives.

use wgrad::prelude::*;

use crate::arrays::{Array, SHAPES, check, cpu, ints, invalid, passes_on, refused, sample};

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
    check(&Tensor::arange(3, 9, i64::MAX, &cpu()), &[1], |_| 3.0);
    check(&Tensor::arange(-2_000_000_000, 2_000_000_000, 3_000_000_000i64, &cpu()), &[2], |i| 3e9 * i[0] as f64 - 2e9);
    check(&Tensor::arange(3, 0, 1, &cpu()), &[0], |_| 0.0);
    check(&Tensor::arange(0, 1.0, 0.25, &cpu()), &[4], |i| 0.25 * i[0] as f64);
    check(&Tensor::arange(i32::MAX - 1, i64::from(i32::MAX) + 1, 1, &cpu()), &[2], |i| 2147483646.0 + i[0] as f64);
    refused(&Tensor::arange(i64::MIN, i64::MAX, 1, &cpu()), "arange", "does not fit i32");
    refused(&Tensor::arange(i64::MAX, i64::MIN, -3, &cpu()), "arange", "does not fit i32");
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
    let ends = Array::of(&Tensor::linspace(0.1, 0.7, 8, &cpu())).data;
    assert_eq!((ends[0], ends[7]), (f64::from(0.1f32), f64::from(0.7f32)));
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
    let (from, to) = (3, 1);
    check(&x.slice((from..to, 9..)), &[0, 0, 6], |_| 0.0);
    check(&x.slice(-9..2), &[2, 5, 6], |i| a.at(i));
    check(&x.slice((0, 0, 0)), &[], |_| a.at(&[0, 0, 0]));
    let n: usize = 2;
    check(&x.slice((..n, n)), &[2, 6], |i| a.at(&[i[0], 2, i[1]]));
    refused(&x.slice(4), "slice", "index 4 is out of range for axis 0 of [4, 5, 6]");
    refused(&x.slice((.., -6)), "slice", "index -6 is out of range for axis 1");
    refused(&x.slice((.., .., .., ..)), "slice", "4 axes are named, but the shape is [4, 5, 6]");
    passes_on(&invalid().slice(0));
}

/// The indices that Python's `from:to` names of `n`, each `step`-th; backwards from the end.
fn stepped(n: isize, from: Option<isize>, to: Option<isize>, step: isize) -> Vec<usize> {
    let bound = |b: isize| (if b < 0 { b + n } else { b }).clamp(0, n);
    let all: Vec<usize> = (from.map_or(0, bound)..to.map_or(n, bound)).map(|k| k as usize).collect();
    match step > 0 {
        true => all.into_iter().step_by(step as usize).collect(),
        false => all.into_iter().rev().step_by(step.unsigned_abs()).collect(),
    }
}

#[test]
fn slice_axis() {
    for n in [0, 1, 6] {
        let (x, a) = sample(&[2, n as usize]);
        for step in [1, 2, 5, 9, -1, -2, -5, -9] {
            let row = |want: Vec<usize>, y: Tensor| {
                check(&y, &[2, want.len()], |i| a.at(&[i[0], want[i[1]]]));
            };
            row(stepped(n, None, None, step), x.slice_axis(1, .., step));
            for from in -8..=8 {
                row(stepped(n, Some(from), None, step), x.slice_axis(1, from.., step));
                row(stepped(n, None, Some(from), step), x.slice_axis(-1, ..from, step));
                for to in -8..=8 {
                    row(stepped(n, Some(from), Some(to), step), x.slice_axis(1, from..to, step));
                }
            }
        }
    }
    let (x, a) = sample(&[6]);
    check(&x.slice_axis(0, 1..=5, 2), &[3], |i| a.data[1 + 2 * i[0]]);
    check(&x.slice_axis(0, ..=-1, isize::MIN), &[1], |_| a.data[5]);
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
fn update_at() {
    let ((x, a), (part, b)) = (sample(&[3, 5]), sample(&[3, 2]));
    for (start, at) in [(-4, 0), (0, 0), (1, 1), (3, 3), (9, 3)] {
        check(&x.update_at(-1, &Tensor::input(start, &cpu()), &part), &[3, 5], |i| {
            if (at..at + 2).contains(&i[1]) { b.at(&[i[0], i[1] - at]) } else { a.at(i) }
        });
    }
    let start = Tensor::input(0, &cpu());
    refused(&x.update_at(0, &start, &part), "update_at", "f32 [3, 2] does not fit into f32 [3, 5] along axis 0");
    refused(&x.update_at(1, &start, &part.cast(DType::I32)), "update_at", "i32 [3, 2] does not fit into f32");
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

// ---- errors

#[test]
fn every_word_passes_an_error_on() {
    let (bad, x, at) = (invalid(), sample(&[2, 3]).0, ints(&[0], &[]));
    let mask = x.gt(0.0);
    let alone = [
        bad.zeros_like(),
        bad.ones_like(),
        bad.full_like(2.5),
        bad.one_hot(2),
        bad.reshape([2, -1]),
        bad.flatten(0, -1),
        bad.permute([1, 0]),
        bad.transpose(0, 1),
        bad.t(),
        bad.squeeze(..),
        bad.squeeze(0),
        bad.unsqueeze(0),
        bad.unsqueeze(5),
        bad.expand([2, -1]),
        bad.broadcast_to([2]),
        bad.flip(..),
        bad.flip(0),
        bad.tril(0),
        bad.triu(0),
        bad.diag(0),
        bad.unfold(0, 1, 1),
        bad.slice(..),
        bad.slice([0; 0]),
        bad.slice((0, 1..)),
        bad.slice_axis(0, .., -1),
        bad.narrow(0, 0, 0),
        bad.narrow_at(0, &at, 1),
        bad.update_at(0, &at, &x),
        bad.pad(&[], 0),
        bad.pad(&[(1, 1)], PadMode::Reflect),
        bad.repeat(2, 0),
        bad.tile([2, 2]),
        bad.roll(1, 0),
        bad.sum(..),
        bad.prod(0),
        bad.max(keepdim(..)),
        bad.min(0),
        bad.mean(..),
        bad.var(..),
        bad.var_with(0, 0.0),
        bad.std(..),
        bad.std_with(0, 0.0),
        bad.argmax(..),
        bad.argmin(0),
        bad.any(..),
        bad.all(0),
        bad.norm(.., 2.0),
        bad.norm(0, 0.0),
        bad.logsumexp(..),
        bad.cumsum(0),
        bad.cumprod(0),
        bad.cummax(0).1,
        bad.gather(0, &at),
        bad.scatter(0, &at, 1),
        bad.scatter_add(0, &at, 1),
        bad.index_select(0, &at),
        bad.take(&at, 0),
        bad.embedding(&at),
        bad.masked_fill(&mask, 0),
        bad.sort(0, true).0,
        bad.argsort(0, true),
        bad.topk(1, 0).1,
        bad.fold_in(1),
        bad.split_key(2).remove(1),
        bad.erfinv(),
    ];
    let beside = [
        x.narrow_at(0, &bad, 1),
        x.update_at(0, &bad, &x),
        x.update_at(0, &at, &bad),
        Tensor::cat(&[&x, &bad], 0),
        Tensor::stack(&[&x, &bad], 0),
        x.gather(0, &bad),
        x.scatter(0, &bad, 1.0),
        x.scatter(0, &ints(&[0; 6], &[2, 3]), &bad),
        x.index_select(0, &bad),
        x.take(&bad, 0),
        x.embedding(&bad),
        x.masked_fill(&bad, 0.0),
        x.masked_fill(&mask, &bad),
        Tensor::key(0, &cpu()).fold_in(&bad),
        Tensor::bits([2], &bad),
        Tensor::uniform([2], &bad),
        Tensor::uniform_in([2], 0.0..1.0, &bad),
        Tensor::normal([2], &bad),
        Tensor::bernoulli([2], 0.5, &bad),
        Tensor::bernoulli([2], &bad, &Tensor::key(0, &cpu())),
        Tensor::randint([2], 0..3, &bad),
        Tensor::permutation(3, &bad),
    ];
    alone.iter().chain(&beside).for_each(passes_on);
}
