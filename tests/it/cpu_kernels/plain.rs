//! A kernel point by point: the plainest reading of what its expressions and loops say.

use std::collections::HashMap;

use wgrad::compile::index::{Atom, Lin};
use wgrad::compile::kernel::{Expr, ExprId, FoldKind, Kernel, Kind, Reduce};
use wgrad::dtype::Element;
use wgrad::graph::op::{Extreme, Reduction, ScatterMode};
use wgrad::graph::scalar::Scalar;
use wgrad::prelude::*;

/// Elements of a buffer as the 32 bits they are computed in.
pub type Elements = Vec<u32>;

/// Elements as they lie in memory.
pub fn pack(dtype: DType, elements: &[u32]) -> Vec<u32> {
    let f = |k: usize| f32::from_bits(elements[k]);
    let n = 0..elements.len();
    let mut bytes = match dtype {
        DType::F32 | DType::I32 | DType::U32 => u32::to_bytes(elements),
        DType::U8 | DType::Bool => elements.iter().map(|&x| x as u8).collect(),
        DType::F16 => Element::to_bytes(&n.map(|k| half::f16::from_f32(f(k))).collect::<Vec<_>>()),
        DType::BF16 => Element::to_bytes(&n.map(|k| half::bf16::from_f32(f(k))).collect::<Vec<_>>()),
    };
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    u32::from_bytes(&bytes)
}

/// Elements from where they lie in memory.
pub fn unpack(dtype: DType, numel: usize, words: &[u32]) -> Elements {
    let bytes = u32::to_bytes(words);
    let mut elements: Elements = match dtype {
        DType::F32 | DType::I32 | DType::U32 => words.to_vec(),
        DType::U8 | DType::Bool => bytes.iter().map(|&x| u32::from(x)).collect(),
        DType::F16 => half::f16::from_bytes(&bytes).iter().map(|x| x.to_f32().to_bits()).collect(),
        DType::BF16 => half::bf16::from_bytes(&bytes).iter().map(|x| x.to_f32().to_bits()).collect(),
    };
    elements.truncate(numel);
    elements
}

/// What a kernel's expressions are at one point.
struct Point<'k> {
    kernel: &'k Kernel,
    buffers: &'k [Elements],
    vars: [i64; 4],
    reduced: Vec<u32>,
    known: HashMap<ExprId, u32>,
    faults: Vec<bool>,
}

impl Point<'_> {
    fn lin(&mut self, lin: &Lin) -> i64 {
        lin.terms.iter().fold(lin.constant, |sum, (atom, c)| {
            sum + c * match atom {
                Atom::Var(v, _) => self.vars[usize::from(*v)],
                Atom::Div(x, d) => self.lin(x).div_euclid(*d as i64),
                Atom::Mod(x, d) => self.lin(x).rem_euclid(*d as i64),
                Atom::Value(id, _) => i64::from(self.value(*id) as i32),
            }
        })
    }

    fn value(&mut self, id: ExprId) -> u32 {
        if let Some(&known) = self.known.get(&id) {
            return known;
        }
        let dtype = self.kernel.dtypes[id as usize];
        let value = match self.kernel.body[id as usize].clone() {
            Expr::Const(bits) => bits,
            Expr::Index(lin) => self.lin(&lin) as u32,
            Expr::Load { buffer, index, mask } => match mask.is_none_or(|m| self.value(m) != 0) {
                true => {
                    let at = self.lin(&index);
                    self.buffers[buffer][usize::try_from(at).unwrap()]
                }
                false => 0,
            },
            Expr::Scalar { op: Scalar::Where, src: [c, a, b] } => {
                let (c, a, b) = (self.value(c), self.value(a), self.value(b));
                if c != 0 { a } else { b }
            }
            Expr::Scalar { op, src: [a, b, _] } => {
                let spec = op.spec();
                let lanes = match self.kernel.dtypes[a as usize].compute() {
                    DType::F32 => spec.lanes_f32,
                    DType::I32 => spec.lanes_i32,
                    _ => spec.lanes_u32,
                };
                let mut y = [0];
                lanes.unwrap()(&[self.value(a)], &[self.value(b)], &mut y);
                match dtype {
                    DType::U8 => y[0] & 255,
                    DType::Bool => y[0] & 1,
                    _ => y[0],
                }
            }
            Expr::Cast { src, from } => {
                let x = self.value(src);
                let wide = match from.compute() {
                    DType::F32 => f64::from(f32::from_bits(x)),
                    DType::I32 => f64::from(x as i32),
                    _ => f64::from(x),
                };
                match dtype {
                    DType::F32 => (wide as f32).to_bits(),
                    DType::F16 => half::f16::from_f64(wide).to_f32().to_bits(),
                    DType::BF16 => half::bf16::from_f64(wide).to_f32().to_bits(),
                    DType::Bool => u32::from(wide != 0.0),
                    _ if !from.is_float() => {
                        if dtype == DType::U8 {
                            x & 255
                        } else {
                            x
                        }
                    }
                    DType::U8 => u32::from(wide as u8),
                    DType::U32 => wide as u32,
                    DType::I32 => wide as i32 as u32,
                }
            }
            Expr::Bitcast(src) => self.value(src),
            Expr::Inside { index, bound } => u32::from((0..bound as i64).contains(&self.lin(&index))),
            Expr::Checked { value, bound, mask, fault } => {
                let value = self.value(value) as i32;
                let inside = (0..bound as i64).contains(&i64::from(value));
                if !inside && mask.is_none_or(|m| self.value(m) != 0) {
                    self.faults[fault] = true;
                }
                u32::from(inside)
            }
            Expr::Random { key, counter } => {
                let key = key.map(|k| self.value(k));
                let [x, z] = wgrad::ops::threefry::threefry2x32(key, [0, self.lin(&counter) as u32]);
                x ^ z
            }
            Expr::Reduced(n) => self.reduced[n],
        };
        self.known.insert(id, value);
        value
    }
}

/// Runs `kernel` point by point.
pub fn plain(kernel: &Kernel, buffers: &[Elements]) -> (Vec<Elements>, Vec<usize>) {
    let mut out = buffers.to_vec();
    let mut faults = vec![false; kernel.faults.len()];
    let mut at = |vars: [usize; 4], reduced: &[u32], f: &mut dyn FnMut(&mut Point)| {
        let faults_now = std::mem::take(&mut faults);
        let mut point = Point {
            kernel,
            buffers,
            vars: vars.map(|v| v as i64),
            reduced: reduced.to_vec(),
            known: HashMap::new(),
            faults: faults_now,
        };
        f(&mut point);
        faults = point.faults;
    };
    match &kernel.kind {
        Kind::Loop(spec) => {
            for o in 0..spec.outer {
                let mut reduced = vec![0; spec.reduces.len()];
                for stage in 0..spec.reduces.len() {
                    for (n, reduce) in spec.reduces.iter().enumerate().filter(|(_, r)| r.stage == stage) {
                        let mut row = Vec::new();
                        for i in 0..spec.inner {
                            at([o, i, 0, 0], &reduced, &mut |p| row.push(p.value(reduce.value)));
                        }
                        reduced[n] = fold(reduce, kernel.dtypes[reduce.value as usize], &row);
                    }
                }
                for store in &spec.stores {
                    for i in 0..if store.each_element { spec.inner } else { 1 } {
                        at([o, i, 0, 0], &reduced, &mut |p| {
                            out[store.buffer][p.lin(&store.index) as usize] = p.value(store.value)
                        });
                    }
                }
            }
        }
        Kind::Dot(spec) => {
            for (o, i, j) in points(spec.batch, spec.m, spec.n) {
                let (mut float, mut int) = (0.0, 0u32);
                for k in 0..spec.k {
                    let (mut x, mut z) = (0, 0);
                    at([o, i, 0, k], &[], &mut |p| x = p.value(spec.lhs));
                    at([o, 0, j, k], &[], &mut |p| z = p.value(spec.rhs));
                    float += f64::from(f32::from_bits(x)) * f64::from(f32::from_bits(z));
                    int = int.wrapping_add(x.wrapping_mul(z));
                }
                let sum = if spec.dtype.is_float() { (float as f32).to_bits() } else { int };
                for store in &spec.stores {
                    at([o, i, j, 0], &[sum], &mut |p| {
                        out[store.buffer][p.lin(&store.index) as usize] = p.value(store.value)
                    });
                }
            }
        }
        Kind::Scatter(spec) => {
            for (o, i, _) in points(spec.lines, spec.axis, 1) {
                at([o, i, 0, 0], &[], &mut |p| out[spec.out][p.lin(&spec.out_index) as usize] = p.value(spec.base));
            }
            for (o, j, _) in points(spec.lines, spec.updates, 1) {
                let (mut index, mut value) = (0, 0);
                at([o, 0, j, 0], &[], &mut |p| (index, value) = (p.value(spec.index) as i32, p.value(spec.value)));
                if !(0..spec.axis as i32).contains(&index) {
                    at([0; 4], &[], &mut |p| p.faults[0] = true);
                    continue;
                }
                at([o, index as usize, 0, 0], &[], &mut |p| {
                    let y = &mut out[spec.out][p.lin(&spec.out_index) as usize];
                    *y = match spec.mode {
                        ScatterMode::Set => value,
                        ScatterMode::Add if kernel.buffers[spec.out].dtype == DType::F32 => {
                            (f32::from_bits(*y) + f32::from_bits(value)).to_bits()
                        }
                        ScatterMode::Add => y.wrapping_add(value),
                    };
                });
            }
        }
        Kind::Scan(spec) => {
            for o in 0..spec.lines {
                let mut row = Vec::new();
                for i in 0..spec.n {
                    at([o, i, 0, 0], &[], &mut |p| row.push(p.value(spec.value)));
                    let dtype = kernel.dtypes[spec.value as usize];
                    let reduce = Reduce { fold: FoldKind::Value(spec.kind), value: spec.value, dtype, stage: 0 };
                    let y = fold(&reduce, dtype, &row);
                    at([o, i, 0, 0], &[], &mut |p| out[spec.store.buffer][p.lin(&spec.store.index) as usize] = y);
                }
            }
        }
        Kind::Sort(spec) => {
            for line in 0..spec.lines {
                let at = |k: usize| line / spec.stride * spec.stride * spec.n + line % spec.stride + k * spec.stride;
                let run = if spec.merge == 0 { spec.block } else { 2 * spec.merge };
                for start in (0..spec.n).step_by(run) {
                    let mut order: Vec<usize> = (start..spec.n.min(start.saturating_add(run))).collect();
                    if let (Some(runs), true) = (spec.runs, spec.merge > 0) {
                        order = order.iter().map(|&k| buffers[runs][at(k)] as usize).collect();
                    }
                    order.sort_by_key(|&k| buffers[spec.keys][at(k)]);
                    order.iter().enumerate().for_each(|(k, &from)| out[spec.out][at(start + k)] = from as u32);
                }
            }
        }
        Kind::Custom(_) => {}
    }
    (out, faults.iter().enumerate().filter(|(_, f)| **f).map(|(n, _)| n).collect())
}

fn points(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |x| (0..b).flat_map(move |y| (0..c).map(move |z| (x, y, z))))
}

/// What the bits stand for.
pub fn number(bits: u32, dtype: DType) -> f64 {
    match dtype.compute() {
        DType::F32 => f64::from(f32::from_bits(bits)),
        DType::I32 => f64::from(bits as i32),
        _ => f64::from(bits),
    }
}

fn fold(reduce: &Reduce, dtype: DType, row: &[u32]) -> u32 {
    let n = |x: &u32| number(*x, dtype);
    let bits = |x: f64| if dtype.is_float() { (x as f32).to_bits() } else { x as i64 as u32 };
    let better = |x: f64, z: f64, least: bool| x.is_nan() || (!z.is_nan() && if least { x < z } else { x > z });
    let y = match reduce.fold {
        FoldKind::Value(Reduction::Sum) if dtype.is_float() => bits(row.iter().map(n).sum()),
        FoldKind::Value(Reduction::Prod) if dtype.is_float() => bits(row.iter().map(n).product()),
        FoldKind::Value(Reduction::Sum) => row.iter().fold(0, |x: u32, z| x.wrapping_add(*z)),
        FoldKind::Value(Reduction::Prod) => row.iter().fold(1, |x: u32, z| x.wrapping_mul(*z)),
        FoldKind::Value(kind) => {
            let least = kind == Reduction::Min;
            let pick = |x: f64, z: f64| if x.is_nan() || better(x, z, least) { x } else { z };
            row.iter().map(n).reduce(pick).map_or(kind.identity(dtype).bits(dtype), bits)
        }
        FoldKind::Arg(extreme) => {
            let least = extreme == Extreme::Min;
            let mut best = 0;
            for k in 1..row.len() {
                let (x, z) = (n(&row[k]), n(&row[best]));
                if !z.is_nan() && (x.is_nan() || better(x, z, least)) {
                    best = k;
                }
            }
            return best as u32;
        }
    };
    match dtype {
        DType::U8 => y & 255,
        DType::Bool => y & 1,
        _ => y,
    }
}
