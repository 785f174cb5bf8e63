//! What each op computes, in plain loops over row-major elements.
//!
//! Operands and shapes are as the constructors of `graph::build` made them.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Values, internal, round};
use crate::dtype::{DType, Number};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::op::{ConvSpec, Extreme, Op, Reduction, ScatterMode, WindowSpec};
use crate::graph::scalar::Scalar;
use crate::graph::tensor::Tensor;
use crate::ops::threefry::threefry2x32;
use crate::shape::{AxisSet, Shape};

/// One element: `f64` for floats, otherwise the 32 bits it is computed in.
trait Elem: Copy + Default {
    fn number(value: Number, dtype: DType) -> Self;
    fn plus(self, z: Self) -> Self;
    fn times(self, z: Self) -> Self;
    fn is_nan(self) -> bool;
    /// The order of sorting; NaN is greatest.
    fn order(self, z: Self, dtype: DType) -> Ordering;
    /// What `row` makes of two elements.
    fn apply(row: Scalar, x: Self, z: Self, dtype: DType) -> Self;
}

impl Elem for f64 {
    fn number(value: Number, dtype: DType) -> f64 {
        f64::from(f32::from_bits(value.bits(dtype)))
    }
    fn plus(self, z: f64) -> f64 {
        self + z
    }
    fn times(self, z: f64) -> f64 {
        self * z
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
    fn order(self, z: f64, _: DType) -> Ordering {
        self.partial_cmp(&z).unwrap_or_else(|| self.is_nan().cmp(&z.is_nan()))
    }
    fn apply(row: Scalar, x: f64, z: f64, _: DType) -> f64 {
        row.f64().map_or(f64::NAN, |f| f(x, z))
    }
}

impl Elem for u32 {
    fn number(value: Number, dtype: DType) -> u32 {
        value.bits(dtype)
    }
    fn plus(self, z: u32) -> u32 {
        self.wrapping_add(z)
    }
    fn times(self, z: u32) -> u32 {
        self.wrapping_mul(z)
    }
    fn is_nan(self) -> bool {
        false
    }
    fn order(self, z: u32, dtype: DType) -> Ordering {
        if dtype == DType::I32 { (self as i32).cmp(&(z as i32)) } else { self.cmp(&z) }
    }
    fn apply(row: Scalar, x: u32, z: u32, dtype: DType) -> u32 {
        let spec = row.spec();
        let lanes = if dtype.compute() == DType::I32 { spec.lanes_i32 } else { spec.lanes_u32 };
        let mut out = [0];
        if let Some(lanes) = lanes {
            lanes(&[x], &[z], &mut out);
        }
        out[0]
    }
}

/// Runs the same generic code on the elements, whichever they are.
macro_rules! each {
    ($x:expr, $v:ident => $e:expr) => {
        match $x {
            Values::Float($v) => Values::Float($e),
            Values::Bits($v) => Values::Bits($e),
        }
    };
}

/// [`each`] over two operands of one dtype.
macro_rules! both {
    ($node:expr, $x:expr, $z:expr, $v:ident $w:ident => $e:expr) => {
        match ($x, $z) {
            (Values::Float($v), Values::Float($w)) => Values::Float($e),
            (Values::Bits($v), Values::Bits($w)) => Values::Bits($e),
            _ => return Err(internal($node, "operands of different dtypes")),
        }
    };
}

/// The elements of `node` from those of its operands `src`; floats are rounded unless `exact`.
pub(super) fn meaning(
    node: &Tensor,
    src: &[Tensor],
    x: &[Arc<Values>],
    exact: bool,
    faults: &mut Vec<Error>,
) -> Result<Arc<Values>> {
    let (dims, dtype, n) = (node.dims(), node.dtype(), node.numel());
    let operand = |k: usize| match (src.get(k), x.get(k)) {
        (Some(tensor), Some(values)) => Ok((tensor, &**values)),
        _ => Err(internal(node, "an operand is missing")),
    };
    let gathered = |view: (usize, Vec<isize>)| -> Result<Values> {
        let at = offsets(dims, view.0, &view.1);
        Ok(each!(operand(0)?.1, v => at.iter().map(|&at| v[at]).collect()))
    };
    let values = match &node.0.op {
        Op::Data => return Err(internal(node, "a leaf without elements")),
        Op::Invalid(fault) => return Err(fault.0.clone()),
        Op::Input(value) | Op::Const(value) => {
            if dtype.is_float() {
                Values::Float(vec![f64::number(*value, dtype); n])
            } else {
                Values::Bits(vec![value.bits(dtype); n])
            }
        }
        Op::Iota { axis } => {
            let (_, size, inner) = split(dims, *axis);
            Values::Bits((0..n).map(|k| (k / inner % size) as u32).collect())
        }
        Op::Random => match operand(0)?.1 {
            Values::Bits(key) if key.len() == 2 => {
                let bits = |k: u64| {
                    let [x, z] = threefry2x32([key[0], key[1]], [(k >> 32) as u32, k as u32]);
                    x ^ z
                };
                Values::Bits((0..n as u64).map(bits).collect())
            }
            _ => return Err(internal(node, "not a key")),
        },

        Op::Scalar(row) => scalar(node, *row, src, x)?,
        Op::Cast => cast(operand(0)?.1, operand(0)?.0.dtype(), dtype),
        Op::Bitcast => match (operand(0)?.1, dtype) {
            (Values::Float(v), _) => Values::Bits(v.iter().map(|&x| (x as f32).to_bits()).collect()),
            (Values::Bits(v), DType::F32) => Values::Float(v.iter().map(|&x| f64::from(f32::from_bits(x))).collect()),
            (Values::Bits(v), _) => Values::Bits(v.clone()),
        },

        Op::Reshape | Op::Detach | Op::Tracked | Op::Fence(_) | Op::Block(_) | Op::Custom(_) => {
            operand(0)?;
            return Ok(x[0].clone());
        }
        Op::Permute(perm) => {
            let strides = strides(operand(0)?.0.dims());
            gathered((0, (0..dims.len()).map(|k| strides[usize::from(perm.0[k])]).collect()))?
        }
        Op::Expand => {
            let from = operand(0)?.0.dims();
            let new = dims.len() - from.len();
            let own = strides(from);
            let stride = |k: usize| if k < new || from[k - new] == 1 { 0 } else { own[k - new] };
            gathered((0, (0..dims.len()).map(stride).collect()))?
        }
        Op::Slice(spec) => {
            let own = strides(operand(0)?.0.dims());
            let start = own.iter().zip(&spec.start).map(|(&s, &from)| s as usize * from).sum();
            gathered((start, own.iter().zip(&spec.step).map(|(&s, &step)| s * step as isize).collect()))?
        }
        Op::SliceAt { axis } => {
            let from = operand(0)?.0.dims();
            let own = strides(from);
            let start = clamped(operand(1)?.1, from[*axis] - dims[*axis]);
            gathered((start * own[*axis] as usize, own))?
        }
        Op::UpdateAt { axis } => {
            let (part, own) = (operand(1)?.0.dims(), strides(dims));
            let start = clamped(operand(2)?.1, dims[*axis] - part[*axis]) * own[*axis] as usize;
            let at = offsets(part, start, &own);
            both!(node, operand(0)?.1, operand(1)?.1, base part => put(base.clone(), part, &at, |_, new| new))
        }
        Op::Flip(set) => {
            let own = strides(dims);
            let back = |k: usize| if set.has(k) { -own[k] } else { own[k] };
            let start = set.iter().map(|k| dims[k].saturating_sub(1) * own[k] as usize).sum();
            gathered((start, (0..dims.len()).map(back).collect()))?
        }
        Op::Pad(spec) => {
            let own = strides(dims);
            let start = own.iter().zip(&spec.lo).map(|(&s, &lo)| s as usize * lo).sum();
            let spread: Vec<isize> = own.iter().zip(&spec.interior).map(|(&s, &i)| s * (i as isize + 1)).collect();
            let (from, values) = operand(0)?;
            let at = offsets(from.dims(), start, &spread);
            each!(values, v => put(vec![Elem::number(spec.fill, dtype); n], v, &at, |_, new| new))
        }
        Op::Concat { axis } => {
            let own = strides(dims);
            let mut joined = if dtype.is_float() { Values::Float(vec![0.0; n]) } else { Values::Bits(vec![0; n]) };
            let mut start = 0;
            for (part, values) in src.iter().zip(x) {
                let at = offsets(part.dims(), start * own[*axis] as usize, &own);
                joined = both!(node, joined, &**values, all part => put(all, part, &at, |_, new| new));
                start += part.dims()[*axis];
            }
            joined
        }
        Op::Window(spec) => gathered((0, windowed(spec, operand(0)?.0.dims())))?,
        Op::Fold(spec) => {
            let (from, values) = operand(0)?;
            let at = offsets(from.dims(), 0, &windowed(spec, dims));
            each!(values, v => put(vec![Default::default(); n], v, &at, Elem::plus))
        }

        Op::Reduce(kind, set) => {
            let (from, values) = operand(0)?;
            each!(values, v => reduce(v, from.shape(), *kind, *set, dtype))
        }
        Op::ArgReduce(extreme, axis) => {
            let (from, values) = operand(0)?;
            Values::Bits(match values {
                Values::Float(v) => arg_reduce(v, from, *extreme, *axis),
                Values::Bits(v) => arg_reduce(v, from, *extreme, *axis),
            })
        }
        Op::Scan(kind, axis) => each!(operand(0)?.1, v => scan(v, dims, *kind, *axis, dtype)),

        Op::Dot => {
            let (lhs, rhs) = (operand(0)?, operand(1)?);
            let matrix = dims.len() - 2;
            let (batch, k) = (dims[..matrix].iter().product(), lhs.0.dims()[matrix + 1]);
            both!(node, lhs.1, rhs.1, a b => dot(a, b, [batch, dims[matrix], k, dims[matrix + 1]]))
        }
        Op::Conv(spec) => {
            let (lhs, rhs) = (operand(0)?, operand(1)?);
            both!(node, lhs.1, rhs.1, a b => conv(a, lhs.0.dims(), b, rhs.0.dims(), dims, spec))
        }

        Op::Gather { axis, word } => {
            let (from, values) = operand(0)?;
            let (at, bad) = indexed(operand(1)?.1, dims, *axis, from.dims());
            faults.extend(bad.map(|index| out_of_range(word.0, index, *axis, from, node)));
            each!(values, v => at.iter().map(|at| at.map_or(Default::default(), |at| v[at])).collect())
        }
        Op::Scatter { axis, mode, word } => {
            let (index, positions) = operand(1)?;
            let (at, bad) = indexed(positions, index.dims(), *axis, dims);
            faults.extend(bad.map(|index| out_of_range(word.0, index, *axis, node, node)));
            both!(node, operand(0)?.1, operand(2)?.1, base updates => {
                let mut out = base.clone();
                for (at, &update) in at.iter().zip(updates) {
                    if let Some(at) = *at {
                        out[at] = match mode {
                            ScatterMode::Set => update,
                            ScatterMode::Add => out[at].plus(update),
                        };
                    }
                }
                out
            })
        }
        Op::ArgSort { axis, descending } => {
            let from = operand(0)?.0;
            Values::Bits(match operand(0)?.1 {
                Values::Float(v) => arg_sort(v, from, *axis, *descending),
                Values::Bits(v) => arg_sort(v, from, *axis, *descending),
            })
        }
    };
    Ok(Arc::new(match values {
        Values::Bits(v) => Values::Bits(v.into_iter().map(|bits| wrap(bits, dtype)).collect()),
        values if exact => values,
        values => values.rounded(dtype),
    }))
}

/// The bits of `dtype`'s width.
fn wrap(bits: u32, dtype: DType) -> u32 {
    match dtype {
        DType::U8 => bits & 0xff,
        DType::Bool => bits & 1,
        _ => bits,
    }
}

fn scalar(node: &Tensor, row: Scalar, src: &[Tensor], x: &[Arc<Values>]) -> Result<Values> {
    let dtype = src.first().map_or(DType::F32, |x| x.dtype());
    let values: Vec<&Values> = x.iter().map(|x| &**x).collect();
    // A unary row ignores the second operand.
    Ok(match values[..] {
        [Values::Bits(c), x, z] => both!(node, x, z, x z => {
            c.iter().zip(x.iter().zip(z)).map(|(&c, (&x, &z))| if c != 0 { x } else { z }).collect()
        }),
        [Values::Float(x)] | [Values::Float(x), Values::Float(_)] => {
            let z = match values[..] {
                [_, Values::Float(z)] => z,
                _ => x,
            };
            let f = row.f64().ok_or_else(|| internal(node, "a row without a meaning on floats"))?;
            let y = x.iter().zip(z).map(|(&x, &z)| f(x, z));
            if node.dtype().is_float() {
                Values::Float(y.collect())
            } else {
                Values::Bits(y.map(|y| y as u32).collect())
            }
        }
        [Values::Bits(x)] | [Values::Bits(x), Values::Bits(_)] => {
            let z = match values[..] {
                [_, Values::Bits(z)] => z,
                _ => x,
            };
            Values::Bits(x.iter().zip(z).map(|(&x, &z)| u32::apply(row, x, z, dtype)).collect())
        }
        _ => return Err(internal(node, "operands of different dtypes")),
    })
}

fn cast(x: &Values, from: DType, to: DType) -> Values {
    match x {
        Values::Float(v) if to.is_float() => Values::Float(v.iter().map(|&x| round(x, to)).collect()),
        Values::Float(v) => {
            let whole = |x: f64| match to {
                DType::U8 => u32::from(x as u8),
                DType::U32 => x as u32,
                DType::Bool => u32::from(x != 0.0),
                _ => x as i32 as u32,
            };
            Values::Bits(v.iter().map(|&x| whole(x)).collect())
        }
        Values::Bits(v) if to.is_float() => {
            let wide = |x: u32| if from == DType::I32 { f64::from(x as i32) } else { f64::from(x) };
            Values::Float(v.iter().map(|&x| round(wide(x), to)).collect())
        }
        Values::Bits(v) if to == DType::Bool => Values::Bits(v.iter().map(|&x| u32::from(x != 0)).collect()),
        Values::Bits(v) => Values::Bits(v.clone()),
    }
}

// ---- movement

/// Row-major strides.
fn strides(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; dims.len()];
    for k in (1..dims.len()).rev() {
        strides[k - 1] = strides[k] * dims[k] as isize;
    }
    strides
}

/// `start + sum(index * stride)` for every index into `dims`, in row-major order.
fn offsets(dims: &[usize], start: usize, strides: &[isize]) -> Vec<usize> {
    if dims.contains(&0) {
        return Vec::new();
    }
    let mut at = vec![start];
    for (&n, &stride) in dims.iter().zip(strides) {
        let along = |&at: &usize| (0..n as isize).map(move |k| at.wrapping_add_signed(k * stride));
        at = at.iter().flat_map(along).collect();
    }
    at
}

/// Writes `new` into `out` at the offsets `at`, combined with what is there.
fn put<T: Elem>(mut out: Vec<T>, new: &[T], at: &[usize], combine: impl Fn(T, T) -> T) -> Vec<T> {
    for (&at, &new) in at.iter().zip(new) {
        out[at] = combine(out[at], new);
    }
    out
}

/// The strides of all windows into a tensor of `dims`, window axes last.
fn windowed(spec: &WindowSpec, dims: &[usize]) -> Vec<isize> {
    let own = strides(dims);
    let mut all = own.clone();
    for (k, &axis) in spec.axes.iter().enumerate() {
        // What is too large for an offset belongs to an axis of one window or one element.
        all[axis] = all[axis].saturating_mul(spec.stride[k] as isize);
        all.push(own[axis].saturating_mul(spec.dilation[k] as isize));
    }
    all
}

/// A start given as an `i32` scalar, clamped to `0..=max`.
fn clamped(start: &Values, max: usize) -> usize {
    let start = match start {
        Values::Bits(v) => v.first().map_or(0, |&bits| bits as i32),
        Values::Float(_) => 0,
    };
    usize::try_from(start).unwrap_or(0).min(max)
}

/// How many elements lie outside, along and inside `axis`.
fn split(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

/// The offsets of each line along `axis`.
fn lines(dims: &[usize], axis: usize) -> impl Iterator<Item = Vec<usize>> {
    let (outer, n, inner) = split(dims, axis);
    let line = move |o: usize, i: usize| (0..n).map(move |k| (o * n + k) * inner + i).collect();
    (0..outer).flat_map(move |o| (0..inner).map(move |i| line(o, i)))
}

// ---- reductions and scans

fn reduce<T: Elem>(v: &[T], shape: &Shape, kind: Reduction, set: AxisSet, dtype: DType) -> Vec<T> {
    let own = strides(shape.dims());
    let axes = |inside: bool| (0..shape.rank()).filter(move |&k| set.has(k) == inside);
    let pick = |inside: bool, of: &[usize]| -> Vec<usize> { axes(inside).map(|k| of[k]).collect() };
    let step = |inside: bool| -> Vec<isize> { axes(inside).map(|k| own[k]).collect() };
    let rows = offsets(&pick(false, shape.dims()), 0, &step(false));
    // Rows of any length, when there are none.
    let within = if rows.is_empty() { Vec::new() } else { offsets(&pick(true, shape.dims()), 0, &step(true)) };
    let (row, first) = (kind.combine(), T::number(kind.identity(dtype), dtype));
    let total = |start: &usize| within.iter().fold(first, |y, at| T::apply(row, y, v[start + at], dtype));
    rows.iter().map(total).collect()
}

fn scan<T: Elem>(v: &[T], dims: &[usize], kind: Reduction, axis: usize, dtype: DType) -> Vec<T> {
    let mut y = v.to_vec();
    for line in lines(dims, axis) {
        for pair in line.windows(2) {
            y[pair[1]] = T::apply(kind.combine(), y[pair[0]], y[pair[1]], dtype);
        }
    }
    y
}

fn arg_reduce<T: Elem>(v: &[T], x: &Tensor, extreme: Extreme, axis: usize) -> Vec<u32> {
    let better = |new: T, best: T| match extreme {
        _ if best.is_nan() => false,
        Extreme::Max => new.order(best, x.dtype()).is_gt(),
        Extreme::Min => new.is_nan() || new.order(best, x.dtype()).is_lt(),
    };
    let first = |line: Vec<usize>| {
        (1..line.len()).fold(0, |best, k| if better(v[line[k]], v[line[best]]) { k } else { best }) as u32
    };
    lines(x.dims(), axis).map(first).collect()
}

fn arg_sort<T: Elem>(v: &[T], x: &Tensor, axis: usize, descending: bool) -> Vec<u32> {
    let mut y = vec![0; v.len()];
    for line in lines(x.dims(), axis) {
        let mut order: Vec<usize> = (0..line.len()).collect();
        order.sort_by(|&a, &b| {
            let ascending = v[line[a]].order(v[line[b]], x.dtype());
            if descending { ascending.reverse() } else { ascending }
        });
        for (&at, from) in line.iter().zip(order) {
            y[at] = from as u32;
        }
    }
    y
}

// ---- products

fn dot<T: Elem>(x: &[T], z: &[T], [batch, m, k, n]: [usize; 4]) -> Vec<T> {
    let mut y = vec![T::default(); batch * m * n];
    for row in 0..batch * m {
        for inner in 0..k {
            let (a, from) = (x[row * k + inner], (row / m * k + inner) * n);
            for (y, &b) in y[row * n..][..n].iter_mut().zip(&z[from..][..n]) {
                *y = y.plus(a.times(b));
            }
        }
    }
    y
}

fn conv<T: Elem>(x: &[T], x_dims: &[usize], w: &[T], w_dims: &[usize], y_dims: &[usize], spec: &ConvSpec) -> Vec<T> {
    let (c, o) = (w_dims[1], y_dims[1]);
    if c == 0 {
        return vec![T::default(); y_dims.iter().product()];
    }
    // Which input position each output and kernel position meet at, over all spatial axes.
    let mut meet: Vec<Option<usize>> = vec![Some(0)];
    let (mut outputs, mut taps) = (1, 1);
    for k in 0..spec.stride.len() {
        let (n, n_out, size) = (x_dims[k + 2], y_dims[k + 2], w_dims[k + 2]);
        let here = |out: usize, tap: usize| {
            let at = (out * spec.stride[k] + tap * spec.dilation[k]) as i128 - spec.lo[k] as i128;
            let spread = spec.spread[k] as i128;
            (at >= 0 && at % spread == 0 && at / spread < n as i128).then_some((at / spread) as usize)
        };
        let mut next = Vec::with_capacity(meet.len() * n_out * size);
        for (out, of) in (0..outputs).flat_map(|out| (0..n_out).map(move |of| (out, of))) {
            for (tap, to) in (0..taps).flat_map(|tap| (0..size).map(move |to| (tap, to))) {
                next.push(meet[out * taps + tap].zip(here(of, to)).map(|(outer, here)| outer * n + here));
            }
        }
        (meet, outputs, taps) = (next, outputs * n_out, taps * size);
    }
    let area: usize = x_dims[2..].iter().product();
    let element = |at: usize| {
        let (image, channel, out) = (at / outputs / o, at / outputs % o, at % outputs);
        let group = channel / (o / spec.groups);
        let mut y = T::default();
        for inner in 0..c {
            let plane = (image * x_dims[1] + group * c + inner) * area;
            for (tap, meet) in meet[out * taps..][..taps].iter().enumerate() {
                // Zeros around and between count too: they make a NaN of an infinite weight.
                let x = meet.map_or(T::default(), |at| x[plane + at]);
                y = y.plus(x.times(w[(channel * c + inner) * taps + tap]));
            }
        }
        y
    };
    (0..y_dims.iter().product()).map(element).collect()
}

// ---- indexed

/// Where each index along `axis` points in a tensor of `dims`, and the first that points nowhere.
fn indexed(index: &Values, index_dims: &[usize], axis: usize, dims: &[usize]) -> (Vec<Option<usize>>, Option<i32>) {
    let Values::Bits(index) = index else { return (Vec::new(), None) };
    let (_, m, inner) = split(index_dims, axis);
    let n = dims[axis];
    let mut bad = None;
    let point = |(k, &bits): (usize, &u32)| {
        let index = bits as i32;
        let here = usize::try_from(index).ok().filter(|&index| index < n);
        if here.is_none() {
            bad.get_or_insert(index);
        }
        here.map(|here| (k / inner / m * n + here) * inner + k % inner)
    };
    let at = index.iter().enumerate().map(point).collect();
    (at, bad)
}

fn out_of_range(word: &str, index: i32, axis: usize, x: &Tensor, node: &Tensor) -> Error {
    let fact = format!("index {index} is out of range for axis {axis} of {}", x.shape());
    Error::new(ErrorKind::Index, word, fact).at(node.0.at)
}
