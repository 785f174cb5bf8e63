//! How each op passes the cotangent of its result on to its operands, in terms of ordinary ops.
//!
//! Every rule is made of primitives that have rules themselves, so derivatives of any order exist.
//! Elementwise rules stand in the scalar table.

use super::block::of_definition;
use super::zeros;
use crate::dtype::DType;
use crate::graph::op::{ConvSpec, Op, Perm, Reduction, ScatterMode};
use crate::graph::scalar::Family;
use crate::graph::tensor::Tensor;
use crate::shape::{AxisSet, Shape};

/// The word under which a backward pass's own nodes fail; they are built from checked ones.
const WORD: &str = "grad";

/// The value if the condition holds; a macro, so that nodes carry the user's line.
macro_rules! given {
    ($wanted:expr, $value:expr) => {
        if $wanted { Some($value) } else { None }
    };
}

/// Cotangents of `src`, the operands of `y`, from `dy`; only those `wanted` need be right.
#[track_caller]
pub(super) fn rule(y: &Tensor, src: &[Tensor], dy: &Tensor, wanted: &[bool]) -> Vec<Option<Tensor>> {
    let want = |k: usize| wanted.get(k).copied().unwrap_or(false);
    match (&y.0.op, src) {
        (Op::Data | Op::Input(_) | Op::Const(_) | Op::Iota { .. } | Op::Random | Op::Invalid(_), _) => Vec::new(),
        (Op::Bitcast | Op::ArgReduce(..) | Op::ArgSort { .. } | Op::Detach | Op::Tracked, _) => Vec::new(),

        (Op::Scalar(row), _) => {
            let spec = row.spec();
            let choice = if spec.family == Family::Choose { 1 } else { 0 };
            let all: Vec<&Tensor> = src.iter().chain([y, dy]).collect();
            let mut cotangents = (spec.grad)(&all, wanted.get(choice..).unwrap_or_default());
            cotangents.splice(0..0, std::iter::repeat_n(None, choice));
            cotangents
        }
        (Op::Cast, [x]) => vec![given!(x.dtype().is_float(), dy.cast(x.dtype()))],

        (Op::Reshape, [x]) => one(dy.to_shape(WORD, *x.shape())),
        (Op::Permute(Perm(perm)), [x]) => {
            let mut back = vec![0; x.rank()];
            (0..x.rank()).for_each(|k| back[usize::from(perm[k])] = k);
            one(dy.permute_to(WORD, &back))
        }
        (Op::Expand, [x]) => {
            let new = y.rank() - x.rank();
            let stretched = |k: &usize| *k < new || (x.dims()[k - new] == 1 && y.dims()[*k] != 1);
            let set = (0..y.rank()).filter(stretched).fold(AxisSet::default(), AxisSet::and);
            one(dy.reduce(WORD, Reduction::Sum, set).to_shape(WORD, *x.shape()))
        }
        (Op::Slice(spec), [x]) => {
            if y.numel() == 0 {
                return one(zeros(x));
            }
            let after = |k: usize| x.dims()[k] - 1 - spec.start[k] - (y.dims()[k] - 1) * spec.step[k];
            let hi = (0..x.rank()).map(after).collect();
            let interior = spec.step.iter().map(|step| step - 1).collect();
            one(dy.pad_spec(WORD, spec.start.clone(), hi, interior, 0.0.into()))
        }
        (Op::SliceAt { axis }, [x, start]) => one(zeros(x).write_at(WORD, *axis, dy, start)),
        (Op::UpdateAt { axis }, [_, part, start]) => {
            let n = part.dims().get(*axis).copied().unwrap_or(0);
            vec![
                given!(want(0), dy.write_at(WORD, *axis, &zeros(part), start)),
                given!(want(1), dy.slice_at(WORD, *axis, start, n)),
            ]
        }
        (Op::Flip(set), [_]) => one(dy.flip_axes(WORD, *set)),
        (Op::Pad(spec), [x]) => {
            let step = spec.interior.iter().map(|between| between + 1).collect();
            one(dy.slice_spec(WORD, spec.lo.clone(), step, x.dims()))
        }
        (Op::Concat { axis }, _) => {
            let (mut start, mut parts) = (0, Vec::with_capacity(src.len()));
            for (k, x) in src.iter().enumerate() {
                let n = x.dims()[*axis];
                parts.push(given!(want(k), cut(dy, *axis, start, n)));
                start += n;
            }
            parts
        }
        (Op::Window(spec), [x]) => one(dy.fold(WORD, (**spec).clone(), *x.shape())),
        (Op::Fold(spec), [_]) => one(dy.window(WORD, (**spec).clone())),

        (Op::Reduce(Reduction::Sum, set), [x]) => one(spread(dy, x, *set)),
        (Op::Reduce(Reduction::Prod, set), [x]) => one(spread(dy, x, *set) * others(x, *set)),
        (Op::Reduce(Reduction::Max | Reduction::Min, set), [x]) => {
            // Elements that tie share the gradient; in f32, because a half cannot count far.
            let ties = x.eq(spread(y, x, *set)).cast(DType::F32);
            let share = dy.cast(DType::F32) / ties.reduce(WORD, Reduction::Sum, *set);
            one(ties * spread(&share, x, *set))
        }
        (Op::Scan(Reduction::Sum, axis), [_]) => {
            let set = AxisSet::one(*axis);
            one(dy.flip_axes(WORD, set).scan(WORD, Reduction::Sum, *axis).flip_axes(WORD, set))
        }
        (Op::Scan(Reduction::Prod, axis), [x]) => one(running_product(x, y, dy, *axis)),
        (Op::Scan(Reduction::Max | Reduction::Min, axis), [x]) => {
            // The last element to set the extreme gets it, as in PyTorch; a NaN sets it for good.
            let place = Tensor::iota(*axis, *x.shape(), x.device());
            let set = x.eq(y).bitor(x.isnan()).where_(place, -1);
            let last = set.scan(WORD, Reduction::Max, *axis);
            one(zeros(x).scatter_axis(WORD, ScatterMode::Add, *axis, &last, dy))
        }

        (Op::Dot, [x, z]) => {
            let transposed = |x: &Tensor| x.permute_to(WORD, if x.rank() == 2 { &[1, 0] } else { &[0, 2, 1] });
            vec![given!(want(0), dy.dot(WORD, &transposed(z))), given!(want(1), transposed(x).dot(WORD, dy))]
        }
        (Op::Conv(spec), [x, w]) => {
            vec![given!(want(0), conv_input(x, w, dy, spec)), given!(want(1), conv_weight(x, w, dy, spec))]
        }

        // One element of each row: a comparison fuses with what is around it, a scatter does not.
        (Op::Gather { axis, .. }, [x, index]) if index.dims().get(*axis) == Some(&1) => {
            let places = Tensor::iota(*axis, *x.shape(), x.device());
            one(places.eq(index).where_(dy, zeros(dy)))
        }
        (Op::Gather { axis, word }, [x, index]) => {
            one(zeros(x).scatter_axis(word.0, ScatterMode::Add, *axis, index, dy))
        }
        (Op::Scatter { axis, mode: ScatterMode::Add, word }, [_, index, _]) => {
            vec![Some(dy.clone()), None, given!(want(2), dy.gather_axis(word.0, *axis, index))]
        }
        (Op::Scatter { axis, mode: ScatterMode::Set, word }, [x, index, updates]) => {
            let clear = zeros(updates);
            let base = given!(want(0), dy.scatter_axis(word.0, ScatterMode::Set, *axis, index, &clear));
            vec![base, None, given!(want(2), last_written(dy, x, index, *axis, word.0))]
        }

        (Op::Fence(_) | Op::Custom(_), _) => one(dy.clone()),
        (Op::Block(block), _) => {
            let operands = src.get(1..).unwrap_or(&[]);
            let cotangents = block.0.gradient(operands, y, dy, &|| of_definition(src, dy));
            if cotangents.is_empty() {
                return one(dy.clone());
            }
            if cotangents.len() != operands.len() {
                let fact = format!("{} cotangents for {} operands", cotangents.len(), operands.len());
                let wrong = super::mistake(block.0.name(), fact, y);
                return vec![Some(wrong); src.len()];
            }
            std::iter::once(None).chain(cotangents).collect()
        }

        // The constructors give each of these its number of operands.
        (
            Op::Cast
            | Op::Reshape
            | Op::Permute(_)
            | Op::Expand
            | Op::Slice(_)
            | Op::SliceAt { .. }
            | Op::UpdateAt { .. }
            | Op::Flip(_)
            | Op::Pad(_)
            | Op::Window(_)
            | Op::Fold(_)
            | Op::Reduce(..)
            | Op::Scan(..)
            | Op::Dot
            | Op::Conv(_)
            | Op::Gather { .. }
            | Op::Scatter { .. },
            _,
        ) => vec![Some(super::mistake(WORD, format!("{} with {} operands", y.0.op, src.len()), y)); src.len()],
    }
}

/// `dy` at the places where updates were written into `x`, and zero for an update that a later one
/// overwrote.
#[track_caller]
fn last_written(dy: &Tensor, x: &Tensor, index: &Tensor, axis: usize, word: &'static str) -> Tensor {
    let place = Tensor::iota(axis, *index.shape(), x.device());
    let nobody = Tensor::constant((-1).into(), *x.shape(), DType::I32, x.device());
    let written = nobody.scatter_axis(word, ScatterMode::Set, axis, index, &place);
    let dx = dy.gather_axis(word, axis, index);
    written.gather_axis(word, axis, index).eq(place).where_(&dx, zeros(&dx))
}

fn one(dx: Tensor) -> Vec<Option<Tensor>> {
    vec![Some(dx)]
}

/// `n` elements of `axis` from `start`.
#[track_caller]
fn cut(x: &Tensor, axis: usize, start: usize, n: usize) -> Tensor {
    let mut from = vec![0; x.rank()];
    let mut dims = x.dims().to_vec();
    (from[axis], dims[axis]) = (start, n);
    x.slice_spec(WORD, from, vec![1; x.rank()], &dims)
}

/// `x` moved by `by` along `axis`, towards the end or, when negative, the start; `fill` comes in.
#[track_caller]
fn shift(x: &Tensor, axis: usize, by: isize, fill: f64) -> Tensor {
    let n = x.dims()[axis];
    let by_abs = by.unsigned_abs().min(n);
    let mut pad = [vec![0; x.rank()], vec![0; x.rank()]];
    pad[usize::from(by < 0)][axis] = by_abs;
    let [lo, hi] = pad;
    let kept = cut(x, axis, if by < 0 { by_abs } else { 0 }, n - by_abs);
    kept.pad_spec(WORD, lo, hi, vec![0; x.rank()], fill.into())
}

/// `t`, a reduction of `x` over `set`, repeated to the shape of `x`.
#[track_caller]
fn spread(t: &Tensor, x: &Tensor, set: AxisSet) -> Tensor {
    t.to_shape(WORD, x.shape().kept(set)).expand_to(WORD, *x.shape())
}

/// The product of the other elements over the axes of `set`, for each element of `x`; without a
/// division, so that zeros are nothing special.
#[track_caller]
fn others(x: &Tensor, set: AxisSet) -> Tensor {
    let mut perm: Vec<usize> = (0..x.rank()).filter(|&k| !set.has(k)).collect();
    let axis = perm.len();
    perm.extend(set.iter());
    let moved = x.permute_to(WORD, &perm);
    let kept = x.shape().without(set);
    let mut dims = kept.dims().to_vec();
    dims.push(set.iter().map(|k| x.dims()[k]).product());
    let rows = reshaped(&moved, &dims);
    let set = AxisSet::one(axis);
    let before = shift(&rows.scan(WORD, Reduction::Prod, axis), axis, 1, 1.0);
    let after = shift(&rows.flip_axes(WORD, set).scan(WORD, Reduction::Prod, axis), axis, 1, 1.0);
    let product = before * after.flip_axes(WORD, set);
    let mut back = vec![0; x.rank()];
    perm.iter().enumerate().for_each(|(k, &axis)| back[axis] = k);
    product.to_shape(WORD, *moved.shape()).permute_to(WORD, &back)
}

/// The cotangent of `x` from that of its running product `y`: `dx[k]` is the product before `k`
/// times `s[k]`, where `s[k] = dy[k] + x[k + 1] * s[k + 1]`. The recurrence is solved by doubling,
/// again without a division.
#[track_caller]
fn running_product(x: &Tensor, y: &Tensor, dy: &Tensor, axis: usize) -> Tensor {
    let mut sum = dy.clone();
    let mut factor = shift(x, axis, -1, 0.0);
    let mut by = 1;
    while by < x.dims()[axis] {
        let back = -(by as isize);
        sum = &sum + &factor * shift(&sum, axis, back, 0.0);
        factor = &factor * shift(&factor, axis, back, 0.0);
        by *= 2;
    }
    shift(y, axis, 1, 1.0) * sum
}

/// `x` under `dims`.
#[track_caller]
fn reshaped(x: &Tensor, dims: &[usize]) -> Tensor {
    match Shape::new(dims) {
        Ok(shape) => x.to_shape(WORD, shape),
        Err(fact) => super::mistake(WORD, fact, x),
    }
}

/// `x` with its first two axes taken `apart` into three, permuted and `merged` into two again.
#[track_caller]
fn regrouped(x: &Tensor, apart: [usize; 3], perm: [usize; 3], merged: [usize; 2]) -> Tensor {
    let spatial = &x.dims()[2..];
    let apart: Vec<usize> = apart.iter().chain(spatial).copied().collect();
    let merged: Vec<usize> = merged.iter().chain(spatial).copied().collect();
    let perm: Vec<usize> = perm.into_iter().chain(3..apart.len()).collect();
    reshaped(&reshaped(x, &apart).permute_to(WORD, &perm), &merged)
}

/// The cotangent of a convolution's input: `dy`, spread by the stride, with the kernel backwards.
#[track_caller]
fn conv_input(x: &Tensor, w: &Tensor, dy: &Tensor, spec: &ConvSpec) -> Tensor {
    if x.numel() == 0 {
        return zeros(x);
    }
    let n_spatial = spec.stride.len();
    let spatial = (2..n_spatial + 2).fold(AxisSet::default(), AxisSet::and);
    // [o, c / groups, …] becomes [c, o / groups, …].
    let (groups, o, c) = (spec.groups, w.dims()[0] / spec.groups, w.dims()[1]);
    let kernel = regrouped(&w.flip_axes(WORD, spatial), [groups, o, c], [0, 2, 1], [groups * c, o]);
    let reach = |k: usize| ((w.dims()[k + 2] - 1) * spec.dilation[k]) as isize;
    let lo = |k: usize| reach(k) - spec.lo[k];
    let hi = |k: usize| {
        let (n, n_out) = (x.dims()[k + 2] - 1, dy.dims()[k + 2] - 1);
        (n * spec.spread[k]) as isize + reach(k) - (n_out * spec.stride[k]) as isize - lo(k)
    };
    let back = ConvSpec {
        stride: spec.spread.clone(),
        lo: (0..n_spatial).map(lo).collect(),
        hi: (0..n_spatial).map(hi).collect(),
        spread: spec.stride.clone(),
        dilation: spec.dilation.clone(),
        groups: spec.groups,
    };
    dy.conv(WORD, &kernel, back)
}

/// The cotangent of a convolution's weight: the input, channels as images, with `dy` as kernel.
#[track_caller]
fn conv_weight(x: &Tensor, w: &Tensor, dy: &Tensor, spec: &ConvSpec) -> Tensor {
    if x.numel() == 0 || w.numel() == 0 {
        return zeros(w);
    }
    let n_spatial = spec.stride.len();
    let hi = |k: usize| {
        let (n, n_out, size) = (x.dims()[k + 2] - 1, dy.dims()[k + 2] - 1, w.dims()[k + 2] - 1);
        (size * spec.dilation[k] + n_out * spec.stride[k]) as isize - (n * spec.spread[k]) as isize - spec.lo[k]
    };
    let back = ConvSpec {
        stride: spec.dilation.clone(),
        lo: spec.lo.clone(),
        hi: (0..n_spatial).map(hi).collect(),
        spread: spec.spread.clone(),
        dilation: spec.stride.clone(),
        groups: spec.groups,
    };
    let flat: Vec<usize> = [1, 0].into_iter().chain(2..n_spatial + 2).collect();
    let kernel = dy.permute_to(WORD, &flat);
    // [n, c, …] becomes [c / groups, groups * n, …].
    let (n, groups, c) = (x.dims()[0], spec.groups, w.dims()[1]);
    let input = regrouped(x, [n, groups, c], [2, 1, 0], [c, groups * n]);
    input.conv(WORD, &kernel, back).permute_to(WORD, &flat)
}
