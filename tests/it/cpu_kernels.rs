//! The CPU device's kernels against a plain loop over the same expressions, on one thread and
//! several.

mod edged;
mod plain;

use std::panic::Location;
use std::sync::Arc;

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::index::{Lin, Var, flatten, unflatten};
use wgrad::compile::kernel::{
    Access, Buffer, Dot, Expr, ExprId, FaultSite, FoldKind, I, J, K, Kernel, Kind, Loop, O, Reduce, Scan, Scatter,
    Sort, Store,
};
use wgrad::device::cpu::{Binding, Cpu, Pool, Program};
use wgrad::dtype::Element;
use wgrad::graph::op::{Extreme, Reduction, ScatterMode};
use wgrad::graph::scalar::Scalar;
use wgrad::prelude::*;

use crate::support::Rng;
use plain::{Elements, number, pack, plain, unpack};

/// Runs `kernel` on the CPU device with `threads` threads.
fn device(kernel: &Kernel, buffers: &[Elements], threads: usize) -> (Vec<Vec<u32>>, Vec<usize>) {
    let program = Program::new(kernel).unwrap();
    let mut words: Vec<Vec<u32>> = kernel.buffers.iter().zip(buffers).map(|(b, x)| pack(b.dtype, x)).collect();
    let pool = Arc::new(Pool::default());
    let bound = kernel.buffers.iter().zip(&mut words).map(|(b, w)| match b.access {
        Access::Read => Binding::Read(w),
        Access::Write | Access::ReadWrite => Binding::Write(w),
    });
    let bound: Vec<Binding> = bound.collect();
    let faults = on_threads(threads, move || program.run(bound, &pool)).unwrap();
    (words, faults)
}

#[cfg(feature = "threads")]
fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[cfg(not(feature = "threads"))]
fn on_threads<T: Send>(_: usize, f: impl FnOnce() -> T + Send) -> T {
    f()
}

/// Checks a kernel against [`plain`], and that one thread and three give the same bits.
#[track_caller]
fn check(kernel: &Kernel, buffers: &[Elements]) {
    let (want, want_faults) = plain(kernel, buffers);
    let (words, faults) = device(kernel, buffers, 1);
    assert_eq!(faults, want_faults, "faults of {kernel:?}");
    assert!(device(kernel, buffers, 3) == (words.clone(), faults), "threads change {kernel:?}");
    for (at, (buffer, words)) in kernel.buffers.iter().zip(&words).enumerate() {
        let got = unpack(buffer.dtype, buffer.numel, words);
        // What is stored is rounded by both.
        let want = unpack(buffer.dtype, buffer.numel, &pack(buffer.dtype, &want[at]));
        for (k, (&x, &z)) in got.iter().zip(&want).enumerate() {
            let (a, b) = (number(x, buffer.dtype), number(z, buffer.dtype));
            let tolerance = match buffer.dtype {
                DType::F32 => 2e-5,
                DType::F16 => 2e-3,
                DType::BF16 => 2e-2,
                _ => 0.0,
            };
            let near = x == z || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs().max(1.0);
            assert!(near, "buffer {at} [{k}]: {a}, not {b}, in {kernel:#?}");
        }
    }
}

/// Makes kernels.
#[derive(Default)]
struct Maker {
    body: Vec<Expr>,
    dtypes: Vec<DType>,
    buffers: Vec<Buffer>,
    faults: Vec<FaultSite>,
    data: Vec<Elements>,
}

impl Maker {
    fn buffer(&mut self, dtype: DType, access: Access, data: Elements) -> usize {
        self.buffers.push(Buffer { slot: self.buffers.len(), dtype, numel: data.len(), access });
        self.data.push(data);
        self.buffers.len() - 1
    }

    fn input(&mut self, rng: &mut Rng, dtype: DType, n: usize) -> usize {
        let data = (0..n).map(|_| sample(rng, dtype)).collect();
        self.buffer(dtype, Access::Read, data)
    }

    fn output(&mut self, dtype: DType, n: usize) -> usize {
        self.buffer(dtype, Access::Write, vec![0; n])
    }

    fn push(&mut self, expr: Expr, dtype: DType) -> ExprId {
        self.body.push(expr);
        self.dtypes.push(dtype);
        self.body.len() as ExprId - 1
    }

    fn load(&mut self, buffer: usize, index: Lin) -> ExprId {
        self.push(Expr::Load { buffer, index, mask: None }, self.buffers[buffer].dtype)
    }

    fn scalar(&mut self, op: Scalar, a: ExprId, b: ExprId, dtype: DType) -> ExprId {
        self.push(Expr::Scalar { op, src: [a, b, a] }, dtype)
    }

    fn cast(&mut self, src: ExprId, dtype: DType) -> ExprId {
        let from = self.dtypes[src as usize];
        self.push(Expr::Cast { src, from }, dtype)
    }

    fn fault(&mut self, bound: usize) -> usize {
        self.faults.push(FaultSite { word: "test", bound, at: Location::caller() });
        self.faults.len() - 1
    }

    fn done(self, kind: Kind) -> (Kernel, Vec<Elements>) {
        let Maker { body, dtypes, buffers, faults, data } = self;
        (Kernel { name: "test".into(), kind, body, dtypes, buffers, faults }, data)
    }
}

fn sample(rng: &mut Rng, dtype: DType) -> u32 {
    let whole = rng.below(9) as i32 - 4;
    match dtype {
        DType::Bool => u32::from(whole > 0),
        DType::U8 => rng.below(256) as u32,
        DType::U32 => rng.bits() as u32,
        DType::I32 => whole as u32,
        DType::F16 | DType::BF16 => (whole as f32 / 2.0).to_bits(),
        DType::F32 => (rng.uniform(-1.0..1.0) as f32).to_bits(),
    }
}

fn flat(outer: usize, inner: usize) -> Lin {
    Lin::var(O, outer).times(inner as i64).plus(&Lin::var(I, inner))
}

/// An index over two variables that stays below `n`.
fn any_index(rng: &mut Rng, (a, na): (Var, usize), (b, nb): (Var, usize), n: usize) -> Lin {
    let (x, z) = (Lin::var(a, na), Lin::var(b, nb));
    let whole = x.times(nb as i64).plus(&z);
    let d = rng.below(7) + 1;
    let lin = match rng.below(9) {
        0 => x,
        1 => z,
        2 => z.times(na as i64).plus(&x),
        3 => whole.times(-1).offset((na * nb) as i64 - 1),
        4 => whole.div(d),
        5 => whole.rem(d * 9),
        6 => whole.rem(d * 5).div(d).plus(&z.times(3)),
        7 => z.times(d as i64).plus(&x.rem(3)),
        _ => whole,
    };
    if lin.range().0 >= 0 { lin.rem(n.max(1)) } else { Lin::constant(0) }
}

/// A value over two variables.
fn any_value(m: &mut Maker, rng: &mut Rng, a: (Var, usize), b: (Var, usize), known: &[ExprId]) -> ExprId {
    let float = |m: &mut Maker, id: ExprId| match m.dtypes[id as usize] {
        DType::F32 => id,
        _ => m.cast(id, DType::F32),
    };
    let mut values: Vec<ExprId> = known.iter().map(|&id| float(m, id)).collect();
    for _ in 0..rng.below(3) + 1 {
        let dtype = DType::ALL[rng.below(7)];
        let n = (a.1 * b.1).clamp(1, rng.below(3000) + 1);
        let buffer = m.input(rng, dtype, n);
        let index = any_index(rng, a, b, n);
        let id = match rng.below(5) {
            0 => {
                let shifted = index.offset(rng.below(9) as i64 - 4);
                let mask = m.push(Expr::Inside { index: shifted.clone(), bound: n }, DType::Bool);
                m.push(Expr::Load { buffer, index: shifted, mask: Some(mask) }, dtype)
            }
            1 => {
                let choice = m.input(rng, DType::I32, n);
                let value = m.load(choice, index);
                let fault = m.fault(n);
                let inside = m.push(Expr::Checked { value, bound: n, mask: None, fault }, DType::Bool);
                m.push(Expr::Load { buffer, index: Lin::value(value, n), mask: Some(inside) }, dtype)
            }
            _ => m.load(buffer, index),
        };
        let narrow = DType::ALL[rng.below(7)];
        let id = if rng.below(3) == 0 && narrow != dtype { m.cast(id, narrow) } else { id };
        let id = float(m, id);
        // Great numbers would drown the small ones.
        let small = m.push(Expr::Const(1e-3f32.to_bits()), DType::F32);
        let id = m.scalar(Scalar::Mul, id, small, DType::F32);
        values.push(m.scalar(Scalar::Sin, id, id, DType::F32));
    }
    while values.len() > 1 {
        let (x, z) = (values.remove(0), values.remove(0));
        let op = [Scalar::Add, Scalar::Mul, Scalar::Maximum, Scalar::Sub][rng.below(4)];
        let y = m.scalar(op, x, z, DType::F32);
        let less = m.scalar(Scalar::Lt, x, z, DType::Bool);
        values.push(match rng.below(3) {
            0 => m.push(Expr::Scalar { op: Scalar::Where, src: [less, y, x] }, DType::F32),
            _ => y,
        });
    }
    values[0]
}

const SIZES: [usize; 10] = [0, 1, 2, 3, 7, 31, 64, 65, 300, 1100];

/// `value` as `dtype`.
fn into(m: &mut Maker, value: ExprId, dtype: DType) -> ExprId {
    if m.dtypes[value as usize] == dtype { value } else { m.cast(value, dtype) }
}

fn random_loop(rng: &mut Rng) -> (Kernel, Vec<Elements>) {
    let mut m = Maker::default();
    let (mut outer, mut inner) = (SIZES[rng.below(10)], SIZES[rng.below(10)]);
    if outer * inner > 40_000 {
        (outer, inner) = (outer.min(100), inner.min(300));
    }
    let (a, b) = ((O, outer), (I, inner));
    let mut reduces = Vec::new();
    let mut reduced = Vec::new();
    for stage in 0..rng.below(3) {
        let known: Vec<ExprId> = reduced.iter().copied().filter(|_| rng.below(2) == 0).collect();
        let value = any_value(&mut m, rng, a, b, &known);
        let dtype = DType::ALL[rng.below(7)];
        let value = into(&mut m, value, dtype);
        let fold = match rng.below(6) {
            0 => FoldKind::Arg(Extreme::Max),
            1 => FoldKind::Arg(Extreme::Min),
            2 => FoldKind::Value(Reduction::Max),
            3 => FoldKind::Value(Reduction::Min),
            _ => FoldKind::Value(Reduction::Sum),
        };
        reduces.push(Reduce { fold, value, dtype, stage });
        let result = if matches!(fold, FoldKind::Arg(_)) { DType::I32 } else { dtype };
        reduced.push(m.push(Expr::Reduced(stage), result));
    }
    let mut stores = Vec::new();
    for _ in 0..rng.below(2) + 1 {
        let dtype = DType::ALL[rng.below(7)];
        let each_element = rng.below(3) > 0;
        let value = any_value(&mut m, rng, a, if each_element { b } else { (I, 1) }, &reduced);
        let value = into(&mut m, value, dtype);
        let buffer = m.output(dtype, if each_element { outer * inner } else { outer });
        let index = match (each_element, rng.below(3)) {
            (false, _) => Lin::var(O, outer),
            (true, 0) => Lin::var(I, inner).times(outer as i64).plus(&Lin::var(O, outer)),
            (true, 1) => flat(outer, inner).times(-1).offset((outer * inner) as i64 - 1),
            _ => flat(outer, inner),
        };
        stores.push(Store { buffer, index, value, each_element });
    }
    m.done(Kind::Loop(Loop { outer, inner, reduces, stores, rows: rng.below(2) == 0 }))
}

#[test]
fn random_loops_mean_what_they_say() {
    for seed in 0..400 {
        let (kernel, data) = random_loop(&mut Rng::new(seed));
        check(&kernel, &data);
    }
}

#[test]
fn random_products_mean_what_they_say() {
    for seed in 0..40 {
        let rng = &mut Rng::new(seed);
        let mut m = Maker::default();
        let mut size = |most: usize| [0, 1, 2, 5, 17, 33, 70, 200, 600][rng.below(9)].min(most);
        let (batch, rows, n, k) = (size(3).max(1), size(600), size(600), size(70));
        let (rows, n) = if rows * n > 60_000 { (rows, n.min(40)) } else { (rows, n) };
        let dtype = [DType::F32, DType::F32, DType::I32, DType::U32, DType::F16][rng.below(5)];
        let operand = |m: &mut Maker, rng: &mut Rng, a: (Var, usize), b: (Var, usize)| {
            let numel = batch * a.1 * b.1;
            let source = if dtype == DType::F32 && rng.below(3) == 0 { DType::F16 } else { dtype };
            let buffer = m.input(rng, source, numel);
            let (x, z) = (Lin::var(a.0, a.1), Lin::var(b.0, b.1));
            let inner = match rng.below(3) {
                0 => z.times(a.1 as i64).plus(&x),
                _ => x.times(b.1 as i64).plus(&z),
            };
            let index = Lin::var(O, batch).times((a.1 * b.1) as i64).plus(&inner);
            let id = m.load(buffer, index);
            let id = into(m, id, dtype);
            if rng.below(3) == 0 { m.scalar(Scalar::Add, id, id, dtype) } else { id }
        };
        let lhs = operand(&mut m, rng, (I, rows), (K, k));
        let rhs = operand(&mut m, rng, (K, k), (J, n));
        let sum = m.push(Expr::Reduced(0), dtype);
        let position = Lin::var(I, rows).times(n as i64).plus(&Lin::var(J, n));
        let index = Lin::var(O, batch).times((rows * n) as i64).plus(&position);
        let value = match rng.below(2) {
            0 => sum,
            _ => {
                let bias = m.input(rng, dtype, n);
                let bias = m.load(bias, Lin::var(J, n));
                m.scalar(Scalar::Add, sum, bias, dtype)
            }
        };
        let out = m.output(dtype, batch * rows * n);
        let stores = vec![Store { buffer: out, index, value, each_element: true }];
        let (kernel, data) =
            m.done(Kind::Dot(Dot { batch, m: rows, n, k, dtype, lhs, rhs, stores, sums: [None, None] }));
        check(&kernel, &data);
    }
}

/// Products with the patches of images: of weights by patches, as a convolution multiplies, and of
/// results by patches, as the gradient of its weights does; half of them of one channel, as depthwise ones.
#[test]
fn products_of_patches_mean_what_they_say() {
    for seed in 0..160 {
        let (rng, mut m, alone) = (&mut Rng::new(seed), Maker::default(), seed >= 80);
        let dtype = [DType::F32, DType::F32, DType::F32, DType::I32][rng.below(4)];
        let source = if dtype == DType::F32 && rng.below(4) == 0 { DType::F16 } else { dtype };
        let [groups, images, channels] = [3, 4, if alone { 1 } else { 4 }].map(|n| rng.below(n) + 1);
        let (size, window) = ([rng.below(14) + 1, rng.below(44) + 1], [2, 2].map(|_| rng.below(3) + 1));
        let [stride, dilation, rows] = if alone { [1, 3, 5] } else { [3, 2, 40] }.map(|n| rng.below(n) + 1);
        let lo = rng.below(3);
        let reach = |axis: usize| (size[axis] + 2 * lo).saturating_sub((window[axis] - 1) * dilation);
        let results = [images, reach(0).div_ceil(stride), reach(1).div_ceil(stride)];
        let taps = [channels, window[0], window[1]];
        let [positions, depth] = [results, taps].map(|dims| dims.iter().product::<usize>());
        let turned = rng.below(2) == 0;
        let (k, n) = if turned { (positions, depth) } else { (depth, positions) };
        let (at, tap) = if turned { (Lin::var(K, k), Lin::var(J, n)) } else { (Lin::var(J, n), Lin::var(K, k)) };
        let (at, tap) = (unflatten(&results, &at), unflatten(&taps, &tap));

        let input = m.input(rng, source, images * groups * channels * size[0] * size[1]);
        let channel = Lin::var(O, groups).times(channels as i64).plus(&tap[0]);
        let mut from = vec![at[0].clone(), channel];
        let mut mask = None;
        for axis in 0..2 {
            let shifted = at[axis + 1].times(stride as i64).plus(&tap[axis + 1].times(dilation as i64));
            let index = shifted.offset(-(lo as i64));
            from.push(index.clone());
            let inside = m.push(Expr::Inside { index, bound: size[axis] }, DType::Bool);
            mask = Some(mask.map_or(inside, |mask| m.scalar(Scalar::And, mask, inside, DType::Bool)));
        }
        let index = flatten(&[images, groups * channels, size[0], size[1]], &from);
        let rhs = m.push(Expr::Load { buffer: input, index, mask }, source);
        let rhs = into(&mut m, rhs, dtype);

        let other = m.input(rng, dtype, groups * rows * k);
        let (o, i) = (Lin::var(O, groups), Lin::var(I, rows));
        let index = match turned {
            // Results lie by image, channel and position.
            true => {
                let each = results[1] * results[2];
                let place = Lin::var(K, k);
                let row = o.times(rows as i64).plus(&i).times(each as i64);
                place.div(each).times((groups * rows * each) as i64).plus(&place.rem(each)).plus(&row)
            }
            false => o.times((rows * k) as i64).plus(&i.times(k as i64)).plus(&Lin::var(K, k)),
        };
        let lhs = m.load(other, index);
        let value = m.push(Expr::Reduced(0), dtype);
        let out = m.output(dtype, groups * rows * n);
        let index = flatten(&[groups, rows, n], &[o, i, Lin::var(J, n)]);
        let stores = vec![Store { buffer: out, index, value, each_element: true }];
        let (kernel, data) =
            m.done(Kind::Dot(Dot { batch: groups, m: rows, n, k, dtype, lhs, rhs, stores, sums: [None, None] }));
        check(&kernel, &data);
    }
}

#[test]
fn random_scatters_mean_what_they_say() {
    for seed in 0..100 {
        let rng = &mut Rng::new(seed);
        let mut m = Maker::default();
        let (lines, axis, updates) = (SIZES[rng.below(8)], SIZES[rng.below(8)], SIZES[rng.below(8)]);
        let dtype = [DType::F32, DType::I32, DType::U32][rng.below(3)];
        let base = m.input(rng, dtype, lines * axis);
        let values = m.input(rng, dtype, lines * updates);
        let span = if rng.below(3) == 0 { axis + 2 } else { axis.max(1) };
        let indices = (0..lines * updates).map(|_| rng.below(span) as u32).collect();
        let indices = m.buffer(DType::I32, Access::Read, indices);
        let out = m.buffer(dtype, Access::ReadWrite, vec![0; lines * axis]);
        let near = rng.below(2) == 0;
        let at = |v: Var, n: usize| match near {
            true => Lin::var(v, n).times(lines as i64).plus(&Lin::var(O, lines)),
            false => Lin::var(O, lines).times(n as i64).plus(&Lin::var(v, n)),
        };
        let base = m.load(base, at(I, axis));
        let (value, index) = (m.load(values, at(J, updates)), m.load(indices, at(J, updates)));
        m.fault(axis);
        let mode = [ScatterMode::Set, ScatterMode::Add][rng.below(2)];
        let out_index = at(I, axis);
        let (kernel, data) = m.done(Kind::Scatter(Scatter {
            lines,
            axis,
            updates,
            mode,
            base,
            index,
            value,
            order: None,
            out,
            out_index,
        }));
        check(&kernel, &data);
    }
}

#[test]
fn random_scans_mean_what_they_say() {
    for seed in 0..100 {
        let rng = &mut Rng::new(seed);
        let mut m = Maker::default();
        let (lines, n) = (SIZES[rng.below(9)], SIZES[rng.below(9)]);
        let dtype = [DType::F32, DType::I32, DType::U32][rng.below(3)];
        let kind = [Reduction::Sum, Reduction::Max, Reduction::Min, Reduction::Prod][rng.below(4)];
        let value = match rng.below(4) {
            0 => m.push(Expr::Const(1), dtype),
            _ => {
                let x = m.input(rng, dtype, lines * n);
                m.load(x, flat(lines, n))
            }
        };
        let buffer = m.output(dtype, lines * n);
        let index = match rng.below(2) {
            0 => flat(lines, n),
            _ => Lin::var(I, n).times(lines as i64).plus(&Lin::var(O, lines)),
        };
        let store = Store { buffer, index, value, each_element: true };
        let (kernel, data) = m.done(Kind::Scan(Scan { lines, n, kind, value, store }));
        check(&kernel, &data);
    }
}

#[test]
fn sorts_are_stable_in_one_pass_and_in_many() {
    for seed in 0..60 {
        let rng = &mut Rng::new(seed);
        let stride = [1, 3][rng.below(2)];
        let (lines, n) = (stride * [0, 1, 5][rng.below(3)], SIZES[rng.below(10)]);
        let keys: Elements = (0..lines * n).map(|_| rng.below(40) as u32).collect();
        let (mut block, mut merge, mut runs) = ([usize::MAX, 4, 16][rng.below(3)], 0, vec![0; lines * n]);
        while merge < n.max(1) {
            let mut m = Maker::default();
            let keys = m.buffer(DType::U32, Access::Read, keys.clone());
            let runs_at = m.buffer(DType::I32, Access::Read, runs);
            let out = m.output(DType::I32, lines * n);
            let runs_in = (merge > 0).then_some(runs_at);
            let spec = Sort { lines, n, stride, block, merge, keys, runs: runs_in, out };
            let (kernel, data) = m.done(Kind::Sort(spec));
            check(&kernel, &data);
            runs = device(&kernel, &data, 1).0.remove(out);
            merge = if merge == 0 { block } else { merge.saturating_mul(2) };
            block = block.max(1);
        }
        for line in 0..lines {
            let at = |k: usize| line / stride * stride * n + line % stride + k * stride;
            let order: Vec<(u32, u32)> = (0..n).map(|k| (keys[at(runs[at(k)] as usize)], runs[at(k)])).collect();
            assert!(order.is_sorted(), "{order:?}");
        }
    }
}

#[test]
fn long_rows_are_shared_by_threads_without_a_trace() {
    let rng = &mut Rng::new(7);
    for (outer, inner, rows) in [(1, 300_000, true), (2, 150_000, true), (3, 100_000, false), (700, 400, false)] {
        let mut m = Maker::default();
        let x = m.input(rng, DType::F32, outer * inner);
        let index =
            if rows { flat(outer, inner) } else { Lin::var(I, inner).times(outer as i64).plus(&Lin::var(O, outer)) };
        let x = m.load(x, index.clone());
        let mean = m.push(Expr::Reduced(0), DType::F32);
        let off = m.scalar(Scalar::Sub, x, mean, DType::F32);
        let square = m.scalar(Scalar::Mul, off, off, DType::F32);
        let total = m.push(Expr::Reduced(1), DType::F32);
        let (y, z) = (m.output(DType::F32, outer * inner), m.output(DType::F32, outer));
        let sum = |value, stage| Reduce { fold: FoldKind::Value(Reduction::Sum), value, dtype: DType::F32, stage };
        let stores = vec![
            Store { buffer: y, index, value: off, each_element: true },
            Store { buffer: z, index: Lin::var(O, outer), value: total, each_element: false },
        ];
        let reduces = vec![sum(x, 0), sum(square, 1)];
        let (kernel, data) = m.done(Kind::Loop(Loop { outer, inner, reduces, stores, rows }));
        check(&kernel, &data);
    }
}

#[test]
fn short_rows_lie_one_after_the_other() {
    let rng = &mut Rng::new(8);
    for (outer, inner) in [1, 2, 37, 300].into_iter().flat_map(|outer| [15, 16, 31, 64, 100].map(|n| (outer, n))) {
        let mut m = Maker::default();
        let (x, w, at) = (m.input(rng, DType::F32, outer * inner), m.input(rng, DType::F16, 20), flat(outer, inner));
        // Picked by the position in a row alone, and now and then past the end.
        let choice = m.buffer(DType::I32, Access::Read, (0..inner as u32).map(|i| i * 5 % 21).collect());
        let (choice, fault) = (m.load(choice, Lin::var(I, inner)), m.fault(20));
        let mask = Some(m.push(Expr::Checked { value: choice, bound: 20, mask: None, fault }, DType::Bool));
        let w = m.push(Expr::Load { buffer: w, index: Lin::value(choice, 20), mask }, DType::F16);
        let (x, w) = (m.load(x, at.clone()), m.cast(w, DType::F32));
        let y = m.scalar(Scalar::Mul, x, w, DType::F32);
        let (best, least) = (m.push(Expr::Reduced(0), DType::I32), m.push(Expr::Reduced(1), DType::F32));
        let off = m.scalar(Scalar::Sub, y, least, DType::F32);
        let folds = [FoldKind::Arg(Extreme::Max), FoldKind::Value(Reduction::Min)];
        let reduces = folds.map(|fold| Reduce { fold, value: y, dtype: DType::F32, stage: 0 }).to_vec();
        let (out, bests) = (m.output(DType::F32, outer * inner), m.output(DType::I32, outer));
        let stores = vec![
            Store { buffer: out, index: at, value: off, each_element: true },
            Store { buffer: bests, index: Lin::var(O, outer), value: best, each_element: false },
        ];
        let (kernel, data) = m.done(Kind::Loop(Loop { outer, inner, reduces, stores, rows: true }));
        check(&kernel, &data);
    }
}

#[test]
fn random_bits_are_threefry() {
    let mut m = Maker::default();
    let key = m.buffer(DType::U32, Access::Read, vec![3, 9]);
    let key = [0, 1].map(|k| m.load(key, Lin::constant(k)));
    let bits = m.push(Expr::Random { key, counter: Lin::var(O, 5000) }, DType::U32);
    let out = m.output(DType::U32, 5000);
    let stores = vec![Store { buffer: out, index: Lin::var(O, 5000), value: bits, each_element: false }];
    let (kernel, data) = m.done(Kind::Loop(Loop { outer: 5000, inner: 1, reduces: vec![], stores, rows: true }));
    check(&kernel, &data);
}

/// A map of `n` elements, for kernels that are wrong in one way.
fn copy(n: usize) -> (Kernel, Vec<Elements>) {
    let mut m = Maker::default();
    let x = m.input(&mut Rng::new(1), DType::F32, n);
    let x = m.load(x, Lin::var(O, n));
    let out = m.output(DType::F32, n);
    let stores = vec![Store { buffer: out, index: Lin::var(O, n), value: x, each_element: true }];
    m.done(Kind::Loop(Loop { outer: n, inner: 1, reduces: vec![], stores, rows: true }))
}

#[test]
fn wrong_kernels_are_errors() {
    let broken: [fn(&mut Kernel); 8] = [
        |k| k.body[0] = Expr::Load { buffer: 9, index: Lin::default(), mask: None },
        |k| k.body[0] = Expr::Bitcast(0),
        |k| k.body[0] = Expr::Reduced(0),
        |k| k.body[0] = Expr::Load { buffer: 0, index: Lin::var(K, 9), mask: None },
        |k| k.body[0] = Expr::Checked { value: 0, bound: 1, mask: None, fault: 0 },
        |k| k.body[0] = Expr::Index(Lin::var(99, 9)),
        |k| k.dtypes.clear(),
        |k| k.buffers[1].access = Access::Read,
    ];
    for damage in broken {
        let (mut kernel, _) = copy(10);
        damage(&mut kernel);
        assert!(Program::new(&kernel).is_err(), "{kernel:?}");
    }
    // Elements that are not there read 0 and are not written.
    let (mut kernel, data) = copy(10);
    kernel.body[0] = Expr::Load { buffer: 0, index: Lin::var(O, 10).offset(5), mask: None };
    let (words, _) = device(&kernel, &data, 1);
    assert_eq!(words[1][..5], words[0][5..]);
    assert_eq!(words[1][5..], [0; 5]);
    // So does a binding that is too short, or of the wrong kind.
    let program = Program::new(&copy(10).0).unwrap();
    let pool = Arc::new(Pool::default());
    let (x, mut y) = (vec![0; 10], vec![0; 9]);
    assert!(program.run(vec![Binding::Read(&x), Binding::Write(&mut y)], &pool).is_err());
    assert!(program.run(vec![Binding::Read(&x), Binding::Read(&x)], &pool).is_err());
    assert!(program.run(vec![Binding::Read(&x)], &pool).is_err());
}

#[test]
fn a_steady_loop_allocates_nothing() {
    let x = Tensor::ones([300, 70], &Device::cpu());
    x.realize().unwrap();
    let sum = (&x * 2.0).softmax(-1).matmul(&x.transpose(0, 1)).sum(..);
    let (graph, _) = Graph::flatten(&[sum, &x * 3.0]);
    let cpu = Cpu::default();
    let plan = compile(&graph, &cpu.limits());
    let programs = cpu.prepare(&plan).unwrap();
    let leaf = cpu.upload(&f32::to_bytes(&[1.0; 300 * 70])).unwrap();
    let step = || {
        let outcome = cpu.run(&plan, &programs, &mut [leaf.clone()], &[]).unwrap();
        assert!(outcome.faults.is_empty());
        let sum = f32::from_bits(outcome.outputs[0].words()[0]);
        assert!((sum - 300.0 * 300.0).abs() < 1.0, "{sum}");
    };
    on_threads(1, || {
        step();
        let first = cpu.usage();
        (0..10).for_each(|_| step());
        assert_eq!(cpu.usage(), first);
        assert!(first.pooled > 0 && first.live < first.peak);
        cpu.trim();
        assert_eq!(cpu.usage().pooled, 0);
    });
}
