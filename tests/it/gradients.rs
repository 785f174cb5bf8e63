//! Derivatives of every structural primitive, and the rules of history: what is kept, what is
//! released, what is recomputed.

use std::sync::Arc;

use wgrad::graph::Op;
use wgrad::graph::op::{ConvSpec, PadSpec, Perm, Reduction, ScatterMode, SliceSpec, WindowSpec, Word};
use wgrad::prelude::*;
use wgrad::shape::AxisSet;
use wgrad::{ErrorKind, Recompute, checkpoint, checkpoint_with, custom_gradient};

use crate::support::{Rng, assert_close, directional_check, exact, floats, ints, shape};

/// `op` over `src`, with a result of `dims` where the operands do not fix it.
fn make(op: &Op, src: &[&Tensor], dims: &[usize]) -> Tensor {
    Tensor::primitive(op.clone(), src, shape(dims), DType::F32)
}

/// Checks the derivatives of `op` over random operands of the shapes `operands`.
#[track_caller]
fn check(what: &str, op: Op, operands: &[&[usize]], dims: &[usize]) {
    let mut rng = Rng::new(3);
    let operands: Vec<Tensor> = operands.iter().map(|dims| rng.tensor(dims, -2.0..2.0)).collect();
    directional_check(what, |x| make(&op, &x.iter().collect::<Vec<_>>(), dims), &operands);
}

fn axes(axes: &[usize]) -> AxisSet {
    axes.iter().fold(AxisSet::default(), |set, &axis| set.and(axis))
}

// ---- movement

#[test]
fn movement() {
    check("reshape", Op::Reshape, &[&[2, 6]], &[3, 4]);
    check("permute", Op::Permute(Perm([2, 0, 1, 0, 0, 0, 0, 0])), &[&[2, 3, 4]], &[]);
    check("expand", Op::Expand, &[&[3, 1]], &[2, 3, 4]);
    check("expand a scalar", Op::Expand, &[&[]], &[2, 3]);
    check("flip", Op::Flip(axes(&[0, 2])), &[&[2, 3, 4]], &[]);
    check("concat", Op::Concat { axis: 1 }, &[&[2, 1], &[2, 3], &[2, 2]], &[]);
}

#[test]
fn slices_and_pads() {
    let slice = SliceSpec { start: vec![1, 2], step: vec![2, 3] };
    check("slice", Op::Slice(Arc::new(slice)), &[&[6, 11]], &[2, 3]);
    let pad = PadSpec { lo: vec![1, 0], hi: vec![0, 2], interior: vec![2, 1], fill: 7.0.into() };
    check("pad", Op::Pad(Arc::new(pad)), &[&[2, 3]], &[]);
    for start in [-3, 1, 9] {
        let (start, mut rng) = (ints(&[start], &[]), Rng::new(5));
        let (x, part) = (rng.tensor(&[4, 3], -2.0..2.0), rng.tensor(&[2, 3], -2.0..2.0));
        let slice = |x: &[Tensor]| make(&Op::SliceAt { axis: 0 }, &[&x[0], &start], &[2, 3]);
        directional_check("slice_at", slice, std::slice::from_ref(&x));
        let update = |x: &[Tensor]| make(&Op::UpdateAt { axis: 0 }, &[&x[0], &x[1], &start], &[]);
        directional_check("update_at", update, &[x, part]);
    }
}

#[test]
fn windows() {
    let overlapping = WindowSpec { axes: vec![1, 2], size: vec![3, 2], stride: vec![1, 2], dilation: vec![2, 1] };
    check("window", Op::Window(Arc::new(overlapping.clone())), &[&[2, 7, 5]], &[]);
    check("fold", Op::Fold(Arc::new(overlapping)), &[&[2, 3, 2, 3, 2]], &[2, 7, 5]);
}

// ---- reductions and scans

#[test]
fn reductions() {
    for kind in [Reduction::Sum, Reduction::Prod, Reduction::Max, Reduction::Min] {
        for set in [&[0][..], &[2], &[0, 2], &[0, 1, 2]] {
            check(&format!("{} over {set:?}", kind.name()), Op::Reduce(kind, axes(set)), &[&[2, 3, 4]], &[]);
        }
    }
}

#[test]
fn scans() {
    for kind in [Reduction::Sum, Reduction::Prod, Reduction::Max, Reduction::Min] {
        for axis in 0..3 {
            check(&format!("running {} along {axis}", kind.name()), Op::Scan(kind, axis), &[&[2, 3, 5]], &[]);
        }
    }
}

#[test]
fn products_of_zeros() {
    let x = floats(&[2.0, 0.0, 3.0, -1.5, 0.0, 1.25, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0], &[3, 4]);
    for op in [Op::Reduce(Reduction::Prod, axes(&[1])), Op::Scan(Reduction::Prod, 1), Op::Scan(Reduction::Prod, 0)] {
        directional_check(&op.to_string(), |x| make(&op, &[&x[0]], &[]), std::slice::from_ref(&x));
    }
}

#[test]
fn ties() {
    let x = floats(&[1.0, 3.0, 3.0, 2.0, 3.0], &[5]);
    let max = make(&Op::Reduce(Reduction::Max, axes(&[0])), &[&x], &[]);
    let third = 1.0 / 3.0;
    assert_close("max shares", &exact(&max.grad(&[&x])[0]), &[0.0, third, third, 0.0, third], 1e-12);
    let running = make(&Op::Scan(Reduction::Max, 0), &[&x], &[]);
    let dy = floats(&[1.0, 10.0, 100.0, 1000.0, 10000.0], &[5]);
    let dx = running.vjp(&dy, &[&x]);
    assert_close("the last takes all", &exact(&dx[0]), &[1.0, 10.0, 1100.0, 0.0, 10000.0], 0.0);
    let x = floats(&[1.0, f64::NAN, 3.0], &[3]);
    let running = make(&Op::Scan(Reduction::Max, 0), &[&x], &[]);
    let dx = running.vjp(&floats(&[1.0, 10.0, 100.0], &[3]), &[&x]);
    assert_close("a NaN stays", &exact(&dx[0]), &[1.0, 110.0, 0.0], 0.0);
}

// ---- products

#[test]
fn dots() {
    check("dot", Op::Dot, &[&[2, 3, 4], &[2, 4, 5]], &[]);
    check("outer", Op::Dot, &[&[1, 3, 1], &[1, 1, 5]], &[]);
}

#[test]
fn convolutions() {
    let one = || ConvSpec { stride: vec![1], lo: vec![0], hi: vec![0], spread: vec![1], dilation: vec![1], groups: 1 };
    let conv =
        |what: &str, x: &[usize], w: &[usize], spec: ConvSpec| check(what, Op::Conv(Arc::new(spec)), &[x, w], &[]);
    conv("plain", &[2, 3, 7], &[4, 3, 3], one());
    conv("stride that leaves a rest", &[2, 1, 8], &[2, 1, 3], ConvSpec { stride: vec![3], ..one() });
    conv("padding", &[1, 2, 4], &[2, 2, 3], ConvSpec { lo: vec![2], hi: vec![4], ..one() });
    conv("cropping", &[1, 2, 9], &[2, 2, 3], ConvSpec { lo: vec![-2], hi: vec![-1], ..one() });
    conv("spread", &[1, 2, 4], &[2, 2, 3], ConvSpec { spread: vec![3], lo: vec![1], hi: vec![2], ..one() });
    conv("dilation", &[1, 1, 9], &[2, 1, 3], ConvSpec { dilation: vec![3], stride: vec![2], ..one() });
    conv("groups", &[2, 6, 5], &[4, 3, 2], ConvSpec { groups: 2, ..one() });
    conv("depthwise", &[2, 3, 5], &[6, 1, 2], ConvSpec { groups: 3, ..one() });
    let everything = ConvSpec {
        stride: vec![2, 1],
        lo: vec![1, -1],
        hi: vec![2, 1],
        spread: vec![1, 2],
        dilation: vec![1, 2],
        groups: 2,
    };
    conv("everything", &[2, 4, 5, 4], &[6, 2, 3, 2], everything);
    let cube = ConvSpec {
        stride: vec![1, 2, 1],
        lo: vec![1; 3],
        hi: vec![0, 1, 0],
        spread: vec![1; 3],
        dilation: vec![1; 3],
        groups: 1,
    };
    conv("three axes", &[1, 2, 3, 4, 3], &[2, 2, 2, 2, 2], cube);
}

// ---- indexed

#[test]
fn gathers_and_scatters() {
    let mut rng = Rng::new(9);
    let index = ints(&[0, 2, 2, 1, 3, 0, 2, 2], &[4, 2]);
    let (x, updates) = (rng.tensor(&[5, 2], -2.0..2.0), rng.tensor(&[4, 2], -2.0..2.0));
    let gather = Op::Gather { axis: 0, word: Word("gather") };
    directional_check("gather", |x| make(&gather, &[&x[0], &index], &[]), std::slice::from_ref(&x));
    for mode in [ScatterMode::Set, ScatterMode::Add] {
        let scatter = Op::Scatter { axis: 0, mode, word: Word("scatter") };
        let f = |x: &[Tensor]| make(&scatter, &[&x[0], &index, &x[1]], &[]);
        directional_check(&format!("scatter {mode:?}"), f, &[x.clone(), updates.clone()]);
    }
}

#[test]
fn indices_out_of_range_carry_nothing() {
    let (x, index) = (floats(&[1.0, 2.0, 3.0], &[3]), ints(&[1, 7, -1], &[3]));
    let gather = make(&Op::Gather { axis: 0, word: Word("gather") }, &[&x, &index], &[]);
    let ones = floats(&[1.0; 3], &[3]);
    assert_close("gather", &exact(&gather.vjp(&ones, &[&x])[0]), &[0.0, 1.0, 0.0], 0.0);
    let set = Op::Scatter { axis: 0, mode: ScatterMode::Set, word: Word("scatter") };
    let updates = floats(&[4.0, 5.0, 6.0], &[3]);
    let dx = make(&set, &[&x, &index, &updates], &[]).vjp(&ones, &[&x, &updates]);
    assert_close("base", &exact(&dx[0]), &[1.0, 0.0, 1.0], 0.0);
    assert_close("updates", &exact(&dx[1]), &[1.0, 0.0, 0.0], 0.0);
}

// ---- dtypes, marks, empty tensors

#[test]
fn casts() {
    let x = floats(&[1.5, -2.5], &[2]);
    for dtype in [DType::F16, DType::BF16] {
        let y = (x.cast(dtype) * 3.0).cast(DType::F32);
        let dx = y.vjp(&floats(&[1.0, 2.0], &[2]), &[&x]);
        assert_eq!(dx[0].dtype(), DType::F32);
        assert_close("through a half", &exact(&dx[0]), &[3.0, 6.0], 0.0);
        let half = x.cast(dtype);
        let dx = (&half * &half).vjp(&floats(&[1.0, 1.0], &[2]), &[&half]);
        assert_eq!(dx[0].dtype(), dtype);
    }
    let y = x.cast(DType::I32).cast(DType::F32) * &x;
    assert_close("integers carry none", &exact(&y.vjp(&floats(&[1.0, 1.0], &[2]), &[&x])[0]), &[1.0, -2.0], 0.0);
}

#[test]
fn detached_parts_are_constants() {
    let x = floats(&[3.0], &[]);
    assert_close("detach", &exact(&(&x * x.detach()).grad(&[&x])[0]), &[3.0], 0.0);
    let leaf = x.tracked();
    let y = &leaf * &leaf;
    assert_close("the leaf", &exact(&y.grad(&[&leaf])[0]), &[6.0], 0.0);
    assert_close("not what it was made of", &exact(&y.grad(&[&x])[0]), &[0.0], 0.0);
}

#[test]
fn empty_tensors_have_empty_gradients() {
    let x = floats(&[], &[0, 3]);
    let set = axes(&[0]);
    let slice = SliceSpec { start: vec![0, 1], step: vec![1, 2] };
    let ops = [
        (Op::Reduce(Reduction::Sum, set), &[][..]),
        (Op::Reduce(Reduction::Prod, set), &[]),
        (Op::Reduce(Reduction::Max, axes(&[1])), &[]),
        (Op::Scan(Reduction::Sum, 0), &[]),
        (Op::Scan(Reduction::Prod, 0), &[]),
        (Op::Scan(Reduction::Max, 0), &[]),
        (Op::Flip(axes(&[0, 1])), &[]),
        (Op::Reshape, &[3, 0]),
        (Op::Expand, &[2, 0, 3]),
        (Op::Slice(Arc::new(slice)), &[0, 1]),
    ];
    for (op, dims) in ops {
        let y = make(&op, &[&x], dims);
        assert!(y.is_valid(), "{op}: {:?}", y.error());
        let dx = &y.vjp(&Tensor::ones(y.dims(), y.device()), &[&x])[0];
        assert_eq!((dx.dims(), exact(dx)), (&[0, 3][..], vec![]), "{op}");
    }
    let (x, w) = (floats(&[], &[0, 2, 4]), floats(&[1.0; 4], &[1, 2, 2]));
    let spec = ConvSpec { stride: vec![1], lo: vec![0], hi: vec![0], spread: vec![1], dilation: vec![1], groups: 1 };
    let y = make(&Op::Conv(Arc::new(spec)), &[&x, &w], &[]);
    let dx = y.vjp(&Tensor::ones(y.dims(), y.device()), &[&x, &w]);
    assert_eq!((exact(&dx[0]), exact(&dx[1])), (vec![], vec![0.0; 4]));
}

// ---- what a call gives

#[test]
fn what_does_not_matter_has_a_gradient_of_zeros() {
    let (x, z) = (floats(&[1.0, 2.0], &[2]), floats(&[3.0], &[]));
    let dx = (&z * &z).grad(&[&x, &z, &z]);
    assert_close("unused", &exact(&dx[0]), &[0.0, 0.0], 0.0);
    assert_close("twice", &[exact(&dx[1]), exact(&dx[2])].concat(), &[6.0, 6.0], 0.0);
    assert!(z.grad(&[]).is_empty());
    assert_close("itself", &exact(&z.grad(&[&z])[0]), &[1.0], 0.0);
}

#[test]
fn a_target_may_depend_on_another() {
    let x = floats(&[2.0], &[]);
    let h = &x * 3.0;
    let y = &h * &h + &x;
    let dx = y.grad(&[&x, &h]);
    assert_close("x and h", &[exact(&dx[0]), exact(&dx[1])].concat(), &[37.0, 12.0], 0.0);
}

#[track_caller]
fn refused(dx: &[Tensor], message: &str) {
    for dx in dx {
        let error = dx.error().expect("an error");
        assert_eq!(error.kind(), ErrorKind::Gradient);
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.location().map(|at| at.file()), Some(file!()), "{error}");
    }
    assert!(!dx.is_empty());
}

#[test]
fn bad_calls_are_errors() {
    let (x, n) = (floats(&[1.0, 2.0], &[2]), ints(&[1], &[]));
    refused(&(&x * 2.0).grad(&[&x]), "grad: the loss must have one element, got [2]");
    refused(&n.grad(&[&x, &n]), "grad: the loss must be a float tensor, got i32");
    let y = floats(&[1.0], &[]);
    refused(&y.grad(&[&y, &n])[1..], "grad: target 1 is i32; only float tensors have gradients");
    refused(&x.vjp(&y, &[&x]), "vjp: the cotangent of f32 [2] is f32 []");
    let bad = &x + floats(&[1.0; 3], &[3]);
    assert_eq!(bad.grad(&[&x])[0].error().map(|e| e.op()), Some("add"));
    assert_eq!(y.grad(&[&bad])[0].error().map(|e| e.op()), Some("add"));
}

// ---- history

#[test]
fn released_history_is_an_error_and_never_a_part_of_the_gradient() -> wgrad::Result<()> {
    let x = floats(&[3.0], &[]);
    let y = &x * &x;
    y.realize()?;
    refused(&y.grad(&[&x]), "grad: the history between target 0 (from");
    // Reached over one path while another is gone.
    refused(&(&y + &x).grad(&[&x]), "grad: the history");
    // What was computed from newer tensors, or from integers, hides nothing.
    let data = floats(&[1.0], &[]) * ints(&[2], &[]).cast(DType::F32);
    data.realize()?;
    assert_close("data", &exact(&(&data * &x).grad(&[&x])[0]), &[2.0], 0.0);
    // The realised tensor itself is a fine target.
    assert_close("y", &exact(&(&y * &y).grad(&[&y])[0]), &[18.0], 0.0);
    Ok(())
}

#[test]
fn history_above_a_tracked_leaf_is_kept() -> wgrad::Result<()> {
    let old = floats(&[2.0], &[]) * 1.0;
    let x = floats(&[3.0], &[]).tracked();
    let y = &x * &x * &old;
    y.realize()?;
    old.realize()?;
    assert_close("kept", &exact(&y.grad(&[&x])[0]), &[12.0], 0.0);
    let z = x.detach() * 5.0;
    z.realize()?;
    assert_close("detached", &exact(&(&z * &x).grad(&[&x])[0]), &[15.0], 0.0);
    Ok(())
}

#[test]
fn long_chains_do_not_overflow_the_stack() {
    let x = floats(&[1.0], &[]);
    let mut y = x.clone();
    for _ in 0..200_000 {
        y = y + 1.0;
    }
    assert_close("a chain", &exact(&y.grad(&[&x])[0]), &[1.0], 0.0);
}

/// Nor do those whose links hold one another in functions.
#[test]
fn chains_of_functions_do_not_overflow_the_stack() {
    let mut y = floats(&[1.0], &[]);
    for _ in 0..100_000 {
        let held = y.clone();
        y = custom_gradient("mine", &[&y], |x| x[0].clone(), move |_, _, dy| vec![Some(dy * &held)]);
    }
    drop(y);
}

// ---- gradients of one's own

#[test]
fn a_custom_gradient_replaces_the_derivative() {
    let (x, z) = (floats(&[2.0], &[]), floats(&[5.0], &[]));
    let f = |rule: fn(&[Tensor], &Tensor, &Tensor) -> Vec<Option<Tensor>>| {
        let y = custom_gradient("mine", &[&x, &z], |x| &x[0] * &x[1], rule);
        assert_close("value", &exact(&y), &[10.0], 0.0);
        (&y * 2.0).grad(&[&x, &z])
    };
    let dx = f(|src, y, dy| vec![Some(dy * y * &src[0]), None]);
    assert_close("its own", &[exact(&dx[0]), exact(&dx[1])].concat(), &[40.0, 0.0], 0.0);
    let dx = f(|_, _, _| Vec::new());
    assert_close("the definition's", &[exact(&dx[0]), exact(&dx[1])].concat(), &[10.0, 4.0], 0.0);
    for dx in f(|_, _, dy| vec![Some(dy.clone())]) {
        assert_eq!(dx.error().map(|e| e.to_string().contains("1 cotangents for 2 operands")), Some(true));
    }
    for dx in f(|_, _, _| vec![Some(floats(&[1.0, 2.0], &[2])), Some(floats(&[1.0, 2.0], &[2]))]) {
        let error = dx.error().expect("an error").to_string();
        assert!(error.contains("a cotangent of f32 [] is f32 [2]"), "{error}");
    }
    // A wrong cotangent is carried on as the mistake it is, through rules that look at shapes too.
    let wrong = |x: &Tensor| custom_gradient("wrong", &[x], |x| x[0].clone(), |_, _, _| vec![Some(ints(&[1], &[]))]);
    let line = floats(&[1.0; 4], &[1, 1, 4]);
    let spec = ConvSpec { stride: vec![1], lo: vec![0], hi: vec![0], spread: vec![1], dilation: vec![1], groups: 1 };
    for op in [Op::Conv(Arc::new(spec)), Op::Scan(Reduction::Prod, 2), Op::Concat { axis: 2 }] {
        let operands = [&line, &line];
        let y = make(&op, &operands[..if matches!(op, Op::Scan(..)) { 1 } else { 2 }], &[]);
        let dx = wrong(&y).vjp(&Tensor::ones(y.dims(), y.device()), &[&line]);
        assert_eq!(dx[0].error().map(|e| e.kind()), Some(ErrorKind::Gradient), "{op}");
    }
    // The gradient is graph like any other, and has derivatives.
    let cube = |x: &[Tensor]| {
        custom_gradient("cube", &[&x[0]], |x| &x[0] * &x[0] * &x[0], |x, _, dy| vec![Some(dy * &x[0] * &x[0] * 3.0)])
    };
    directional_check("cube", cube, &[floats(&[1.5, -0.5], &[2])]);
}

#[test]
fn a_checkpoint_is_its_function() {
    let mut rng = Rng::new(1);
    let (x, w) = (rng.tensor(&[2, 3, 4], -1.0..1.0), rng.tensor(&[2, 4, 4], -1.0..1.0));
    fn body(x: &Tensor, w: &Tensor) -> Tensor {
        make(&Op::Dot, &[&x.tanh(), w], &[]).exp() * make(&Op::Dot, &[x, &w.sin()], &[])
    }
    let plain = |x: &[Tensor]| body(&body(&x[0], &x[1]).tanh(), &x[1]);
    for recompute in [Recompute::All, Recompute::Cheap] {
        // `w` is captured, and so is something made of `x` before, a number and integers.
        let checked = |x: &[Tensor]| {
            let (w, double, places) = (&x[1], &x[0] * 2.0, x[0].argmax(-1).cast(DType::F32).reshape([2, 3, 1]));
            let f = |x: &[Tensor]| body(&body(&x[0], w).tanh(), w) * double.cos() + &places * x[0].sin();
            checkpoint_with(recompute, f, &[&x[0]])
        };
        directional_check(&format!("checkpoint of {recompute:?}"), checked, &[x.clone(), w.clone()]);
        for inner in [Recompute::All, Recompute::Cheap] {
            let nested = |x: &[Tensor]| {
                let w = &x[1];
                let f = |x: &[Tensor]| {
                    let outer = body(&x[0], w).tanh();
                    checkpoint_with(inner, |y| body(&y[0], w) * body(&x[0], w), &[&outer]).sin()
                };
                checkpoint_with(recompute, f, &[&x[0]])
            };
            directional_check(&format!("{inner:?} in {recompute:?}"), nested, &[x.clone(), w.clone()]);
        }
        let both =
            |x: &[Tensor]| checkpoint_with(recompute, |x| body(&body(&x[0], &x[1]).tanh(), &x[1]), &[&x[0], &x[1]]);
        let inputs = [x.clone(), w.clone()];
        let dy = rng.tensor(&[2, 3, 4], -1.0..1.0);
        let targets: Vec<&Tensor> = inputs.iter().collect();
        for (a, b) in plain(&inputs).vjp(&dy, &targets).iter().zip(both(&inputs).vjp(&dy, &targets)) {
            assert_close("bits", &exact(a), &exact(&b), 0.0);
        }
    }
}

#[test]
fn a_checkpoint_runs_its_function_once() {
    let (x, mut runs) = (floats(&[0.5], &[]), 0);
    let f = |x: &[Tensor]| {
        runs += 1;
        x[0].exp()
    };
    let y = checkpoint(f, &[&x]);
    for _ in 0..2 {
        assert_close("gradient", &exact(&y.grad(&[&x])[0]), &[0.5f64.exp()], 1e-12);
    }
    assert_eq!(runs, 1);
    // An input that is the result, and one that does not matter; what does not depend on any.
    let y = checkpoint(|x| x[0].clone(), &[&x, &x]);
    assert_close("identity", &exact(&y.grad(&[&x])[0]), &[1.0], 0.0);
    let y = checkpoint(|_| x.sin(), &[]);
    assert_close("captured", &exact(&y.grad(&[&x])[0]), &[0.5f64.cos()], 1e-12);
    let y = checkpoint(|x| x[0].reshape([2]), &[&x]);
    assert!(y.grad(&[&x])[0].error().is_some_and(|error| error.op() == "reshape"), "{y}");
}
