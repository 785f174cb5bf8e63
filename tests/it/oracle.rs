//! The oracle against numbers worked out by hand, and against JAX's random bits.

use std::sync::Arc;

use wgrad::graph::Op;
use wgrad::graph::op::{ConvSpec, Extreme, PadSpec, Perm, Reduction, Region, ScatterMode, SliceSpec, WindowSpec, Word};
use wgrad::prelude::*;
use wgrad::reference::{self, Rounding, Values};
use wgrad::shape::AxisSet;
use wgrad::{Element, ErrorKind};

use crate::support::{assert_close, exact, floats, ints, shape};

fn make(op: Op, src: &[&Tensor], dims: &[usize]) -> Tensor {
    Tensor::primitive(op, src, shape(dims), DType::F32)
}

#[track_caller]
fn gives(y: Tensor, dims: &[usize], want: &[f64]) {
    assert_eq!(y.dims(), dims);
    assert_close("value", &exact(&y), want, 0.0);
}

/// `[[1, 2, 3], [4, 5, 6]]`.
fn counted() -> Tensor {
    floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])
}

#[test]
fn movement() {
    let x = &counted();
    gives(make(Op::Reshape, &[x], &[3, 2]), &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let perm = Perm([1, 0, 0, 0, 0, 0, 0, 0]);
    gives(make(Op::Permute(perm), &[x], &[]), &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    gives(make(Op::Expand, &[&floats(&[1.0, 2.0], &[2, 1])], &[2, 2]), &[2, 2], &[1.0, 1.0, 2.0, 2.0]);
    gives(make(Op::Flip(AxisSet::one(1)), &[x], &[]), &[2, 3], &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    let slice = SliceSpec { start: vec![0, 0], step: vec![1, 2] };
    gives(make(Op::Slice(Arc::new(slice)), &[x], &[2, 2]), &[2, 2], &[1.0, 3.0, 4.0, 6.0]);
    let pad = PadSpec { lo: vec![1, 0], hi: vec![0, 1], interior: vec![0, 1], fill: 9.0.into() };
    let want = [[9.0; 6], [1.0, 9.0, 2.0, 9.0, 3.0, 9.0], [4.0, 9.0, 5.0, 9.0, 6.0, 9.0]];
    gives(make(Op::Pad(Arc::new(pad)), &[x], &[]), &[3, 6], want.as_flattened());
    let want = [[1.0, 2.0, 3.0, 7.0], [4.0, 5.0, 6.0, 8.0]];
    gives(make(Op::Concat { axis: 1 }, &[x, &floats(&[7.0, 8.0], &[2, 1])], &[]), &[2, 4], want.as_flattened());
    let at = |start| make(Op::SliceAt { axis: 1 }, &[x, &ints(&[start], &[])], &[2, 2]);
    gives(at(7), &[2, 2], &[2.0, 3.0, 5.0, 6.0]);
    gives(at(-7), &[2, 2], &[1.0, 2.0, 4.0, 5.0]);
    let part = floats(&[7.0, 8.0], &[2, 1]);
    gives(make(Op::UpdateAt { axis: 1 }, &[x, &part, &ints(&[9], &[])], &[]), &[2, 3], &[1.0, 2.0, 7.0, 4.0, 5.0, 8.0]);
    let spec = Arc::new(WindowSpec { axes: vec![1], size: vec![2], stride: vec![1], dilation: vec![1] });
    let windows = make(Op::Window(spec.clone()), &[x], &[]);
    gives(windows.clone(), &[2, 2, 2], &[1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0]);
    gives(make(Op::Fold(spec), &[&windows], &[2, 3]), &[2, 3], &[1.0, 4.0, 3.0, 4.0, 10.0, 6.0]);
    for mark in [Op::Detach, Op::Tracked, Op::Fence(Region(1))] {
        gives(make(mark, &[x], &[]), &[2, 3], &exact(x));
    }
}

#[test]
fn reductions_and_scans() {
    let x = &counted();
    gives(make(Op::Reduce(Reduction::Sum, AxisSet::one(0)), &[x], &[]), &[3], &[5.0, 7.0, 9.0]);
    gives(make(Op::Reduce(Reduction::Prod, AxisSet::one(1)), &[x], &[]), &[2], &[6.0, 120.0]);
    gives(make(Op::Reduce(Reduction::Max, AxisSet::all(2)), &[x], &[]), &[], &[6.0]);
    gives(make(Op::Scan(Reduction::Prod, 1), &[x], &[]), &[2, 3], &[1.0, 2.0, 6.0, 4.0, 20.0, 120.0]);
    let nan = &floats(&[1.0, f64::NAN, 3.0], &[3]);
    let carried = [1.0, f64::NAN, f64::NAN];
    gives(make(Op::Reduce(Reduction::Min, AxisSet::one(0)), &[nan], &[]), &[], &[f64::NAN]);
    gives(make(Op::Scan(Reduction::Max, 0), &[nan], &[]), &[3], &carried);
    let empty = &floats(&[], &[0, 2]);
    gives(make(Op::Reduce(Reduction::Sum, AxisSet::one(0)), &[empty], &[]), &[2], &[0.0, 0.0]);
    gives(make(Op::Reduce(Reduction::Prod, AxisSet::one(0)), &[empty], &[]), &[2], &[1.0, 1.0]);
    let bytes = &ints(&[200, 100], &[2]).cast(DType::U8);
    gives(make(Op::Reduce(Reduction::Sum, AxisSet::one(0)), &[bytes], &[]), &[], &[44.0]);
    let signed = &ints(&[-5, -3], &[2]);
    gives(make(Op::Reduce(Reduction::Max, AxisSet::one(0)), &[signed], &[]), &[], &[-3.0]);
    let ties = &floats(&[2.0, 3.0, 3.0, 2.0], &[4]);
    gives(make(Op::ArgReduce(Extreme::Max, 0), &[ties], &[]), &[], &[1.0]);
    gives(make(Op::ArgReduce(Extreme::Min, 0), &[ties], &[]), &[], &[0.0]);
    gives(make(Op::ArgReduce(Extreme::Max, 0), &[nan], &[]), &[], &[1.0]);
    gives(make(Op::ArgReduce(Extreme::Min, 0), &[nan], &[]), &[], &[1.0]);
}

#[test]
fn products() {
    let x = &floats(&[1.0, 2.0, 3.0, 4.0], &[1, 2, 2]);
    gives(make(Op::Dot, &[x, x], &[]), &[1, 2, 2], &[7.0, 10.0, 15.0, 22.0]);
    let x = &floats(&[1.0, 2.0, 3.0, 4.0], &[1, 1, 4]);
    let w = &floats(&[1.0, 10.0, 100.0], &[1, 1, 3]);
    let padded = ConvSpec { stride: vec![1], lo: vec![1], hi: vec![1], spread: vec![1], dilation: vec![1], groups: 1 };
    gives(make(Op::Conv(Arc::new(padded.clone())), &[x, w], &[]), &[1, 1, 4], &[210.0, 321.0, 432.0, 43.0]);
    let spread = ConvSpec { spread: vec![2], lo: vec![-1], hi: vec![0], stride: vec![2], ..padded };
    gives(make(Op::Conv(Arc::new(spread)), &[x, w], &[]), &[1, 1, 2], &[20.0, 30.0]);
}

#[test]
fn indices() {
    let x = &counted();
    let gather = Op::Gather { axis: 1, word: Word("take") };
    gives(make(gather, &[x, &ints(&[0, 2, 1, 1], &[2, 2])], &[]), &[2, 2], &[1.0, 3.0, 5.0, 5.0]);
    let scatter = |mode| Op::Scatter { axis: 1, mode, word: Word("scatter") };
    let (index, updates) = (&ints(&[0, 0, 2, 1], &[2, 2]), &floats(&[10.0, 20.0, 30.0, 40.0], &[2, 2]));
    gives(make(scatter(ScatterMode::Set), &[x, index, updates], &[]), &[2, 3], &[20.0, 2.0, 3.0, 4.0, 40.0, 30.0]);
    gives(make(scatter(ScatterMode::Add), &[x, index, updates], &[]), &[2, 3], &[31.0, 2.0, 3.0, 4.0, 45.0, 36.0]);
    let x = &floats(&[2.0, f64::NAN, -0.0, 0.0, 2.0], &[5]);
    let sort = |descending| make(Op::ArgSort { axis: 0, descending }, &[x], &[]);
    gives(sort(false), &[5], &[2.0, 3.0, 0.0, 4.0, 1.0]);
    gives(sort(true), &[5], &[1.0, 0.0, 4.0, 2.0, 3.0]);
}

#[test]
fn an_index_out_of_range_reads_0_and_is_reported() -> wgrad::Result<()> {
    let x = counted();
    let y = make(Op::Gather { axis: 1, word: Word("take") }, &[&x, &ints(&[0, 7, -1, 1], &[2, 2])], &[]);
    let found = reference::evaluate(&[y], Rounding::PerNode)?;
    assert_eq!(found.values, [Values::Float(vec![1.0, 0.0, 0.0, 5.0])]);
    assert_eq!(found.faults.len(), 1);
    let (fault, message) = (&found.faults[0], found.faults[0].to_string());
    assert_eq!(fault.kind(), ErrorKind::Index);
    assert!(message.starts_with("take: index 7 is out of range for axis 1 of [2, 3] at tests/it/"), "{message}");
    Ok(())
}

#[test]
fn casts() {
    let cast = |v: &[f64], dtype| exact(&floats(v, &[v.len()]).cast(dtype));
    let v = [1.75, -1.75, 300.0, f64::NAN, f64::INFINITY, -0.0];
    let top = f64::from(i32::MAX);
    assert_close("i32", &cast(&v, DType::I32), &[1.0, -1.0, 300.0, 0.0, top, 0.0], 0.0);
    assert_close("u8", &cast(&v, DType::U8), &[1.0, 0.0, 255.0, 0.0, 255.0, 0.0], 0.0);
    assert_close("bool", &cast(&v, DType::Bool), &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 0.0);
    assert_close("f16", &cast(&[1e6, 0.1], DType::F16), &[f64::INFINITY, 0.0999755859375], 0.0);
    assert_close("bf16", &cast(&[0.1], DType::BF16), &[0.10009765625], 0.0);
    let wide = ints(&[-1, 258, 16_777_217], &[3]);
    assert_close("u8", &exact(&wide.cast(DType::U8)), &[255.0, 2.0, 1.0], 0.0);
    assert_close("f32", &exact(&wide.cast(DType::F32)), &[-1.0, 258.0, 16_777_216.0], 0.0);
    assert_close("bits", &exact(&floats(&[1.0], &[]).bitcast(DType::U32)), &[1_065_353_216.0], 0.0);
}

#[test]
fn rounding_and_bytes() -> wgrad::Result<()> {
    let third = floats(&[1.0], &[]) / 3.0;
    let rounded = |x: &Tensor| reference::evaluate(std::slice::from_ref(x), Rounding::PerNode);
    assert_close("exact", &exact(&third), &[1.0 / 3.0], 0.0);
    assert_eq!(rounded(&third)?.values, [Values::Float(vec![f64::from(1.0f32 / 3.0)])]);
    for dtype in DType::ALL {
        let x = ints(&[1, 0, 1], &[3]).cast(dtype);
        let values = rounded(&x)?.values.remove(0);
        let bytes = values.to_bytes(dtype);
        assert_eq!(bytes.len(), (3 * dtype.bytes()).next_multiple_of(4));
        assert_eq!(Values::from_bytes(&bytes, dtype, 3), values, "{dtype}");
    }
    let x = Tensor::new([true, false], &Device::cpu());
    assert_eq!(<bool as Element>::from_bytes(&rounded(&x)?.values[0].to_bytes(DType::Bool))[..2], [true, false]);
    Ok(())
}

#[test]
fn random_bits_are_those_of_jax() {
    let text = include_str!("../data/jax_reference.txt");
    let mut checked = 0;
    for case in text.split("\n\n").filter(|case| case.contains("\nop bits ")) {
        let field = |name: &str| -> Vec<u32> {
            let rest = case.split(name).nth(1).unwrap_or("").split_whitespace().next().unwrap_or("");
            rest.split(',').filter_map(|n| n.parse().ok()).collect()
        };
        let dims: Vec<usize> = field("shape=").iter().map(|&n| n as usize).collect();
        let want = case.split(" : ").nth(1).unwrap_or("").split_whitespace();
        let want: Vec<f64> = want.map(|n| n.parse().expect("a number")).collect();
        let key = Tensor::new(field("key="), &Device::cpu());
        let bits = exact(&make(Op::Random, &[&key], &dims));
        // Of large cases only a part is recorded.
        let from = field("range=").first().map_or(0, |&n| n as usize);
        assert_close(case, &bits[from..from + want.len()], &want, 0.0);
        checked += 1;
    }
    assert!(checked > 2, "only {checked} cases of bits");
}

/// Many lines of nothing take no time.
#[test]
fn lines_without_elements_are_not_walked() {
    let x = Tensor::zeros([1_usize << 31, 0], &Device::cpu());
    assert!(exact(&x.cumsum(1)).is_empty() && exact(&x.cumsum(0)).is_empty());
    assert!(exact(&x.sort(0, true).0).is_empty());
}
