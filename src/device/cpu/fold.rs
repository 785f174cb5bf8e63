//! Reductions over lanes and over loops.
//!
//! Floats add up in short blocks of `f32` partial sums whose totals are `f64`; extremes compare
//! as integers, in an order in which NaN comes first. Everything is cut by position alone.

use crate::compile::kernel::FoldKind;
use crate::dtype::DType;
use crate::graph::op::{Extreme, Reduction};
use crate::graph::wide::wide;

/// Runs `$body` with `$key`, a function of bits whose greatest value marks the extreme.
macro_rules! with_key {
    ($order:expr, $flat:expr, $key:ident => $body:expr) => {
        match ($order.dtype, $order.least) {
            (DType::F32, false) => {
                let $key = |x: u32| greatest(x, $flat);
                $body
            }
            (DType::F32, true) => {
                let $key = |x: u32| least(x, $flat);
                $body
            }
            (DType::I32, false) => {
                let $key = |x: u32| x as i32;
                $body
            }
            (DType::I32, true) => {
                let $key = |x: u32| !(x as i32);
                $body
            }
            (_, false) => {
                let $key = |x: u32| (x ^ SIGN) as i32;
                $body
            }
            (_, true) => {
                let $key = |x: u32| !(x ^ SIGN) as i32;
                $body
            }
        }
    };
}

/// How values combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    SumFloat,
    ProdFloat,
    SumInt,
    ProdInt,
    Extreme { order: Order, arg: bool },
}

/// What makes an extreme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    dtype: DType,
    least: bool,
}

/// A reduction that has not begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folding {
    fold: Fold,
    empty: u32,
    keep: u32,
}

/// One running result over neighbouring lanes.
#[derive(Clone, Copy)]
pub(super) struct Total {
    how: Folding,
    float: f64,
    int: u32,
    best: Option<i32>,
    at: u32,
}

/// A running result in each lane.
#[derive(Clone)]
pub(super) struct Totals {
    how: Folding,
    floats: Vec<f64>,
    ints: Vec<u32>,
    best: Vec<i32>,
    begun: bool,
}

impl Folding {
    /// The reduction `kind` of elements of `dtype`.
    pub(super) fn new(kind: FoldKind, dtype: DType) -> Folding {
        let compute = dtype.compute();
        let float = compute == DType::F32;
        let empty = |kind: Reduction| kind.identity(dtype).bits(dtype);
        let extreme = |least, arg| Fold::Extreme { order: Order { dtype: compute, least }, arg };
        let (fold, empty) = match kind {
            FoldKind::Value(Reduction::Sum) => (if float { Fold::SumFloat } else { Fold::SumInt }, 0),
            FoldKind::Value(Reduction::Prod) => (if float { Fold::ProdFloat } else { Fold::ProdInt }, 0),
            FoldKind::Value(Reduction::Max) => (extreme(false, false), empty(Reduction::Max)),
            FoldKind::Value(Reduction::Min) => (extreme(true, false), empty(Reduction::Min)),
            FoldKind::Arg(Extreme::Max) => (extreme(false, true), 0),
            FoldKind::Arg(Extreme::Min) => (extreme(true, true), 0),
        };
        let keep = match (kind, dtype) {
            (FoldKind::Value(_), DType::U8) => 255,
            (FoldKind::Value(_), DType::Bool) => 1,
            _ => u32::MAX,
        };
        Folding { fold, empty, keep }
    }
}

impl Total {
    /// The result of no elements.
    pub(super) fn new(how: Folding) -> Total {
        let product = matches!(how.fold, Fold::ProdFloat | Fold::ProdInt);
        Total { how, float: f64::from(u8::from(product)), int: u32::from(product), best: None, at: 0 }
    }

    /// Takes in the elements from position `start` on.
    pub(super) fn push(&mut self, lanes: &[u32], start: usize) {
        push_total(self, lanes, start);
    }

    #[inline(always)]
    fn take_in(&mut self, lanes: &[u32], start: usize) {
        match self.how.fold {
            Fold::SumFloat => {
                for block in lanes.chunks(1024) {
                    self.float += f64::from(spread::<f32, 16>(block, 0.0, f32::from_bits, |x, z| x + z));
                }
            }
            Fold::ProdFloat => {
                self.float *= spread::<f64, 4>(lanes, 1.0, |x| f64::from(f32::from_bits(x)), |x, z| x * z);
            }
            Fold::SumInt => self.int = self.int.wrapping_add(spread::<u32, 16>(lanes, 0, |x| x, u32::wrapping_add)),
            Fold::ProdInt => self.int = self.int.wrapping_mul(spread::<u32, 16>(lanes, 1, |x| x, u32::wrapping_mul)),
            Fold::Extreme { order, arg } => with_key!(order, arg, key => {
                if lanes.is_empty() {
                    return;
                }
                let best = spread::<i32, 16>(lanes, i32::MIN, key, |x, z| if x > z { x } else { z });
                if self.best.is_none_or(|old| best > old) {
                    self.best = Some(best);
                    if arg {
                        self.at = (start + lanes.iter().position(|&x| key(x) == best).unwrap_or(0)) as u32;
                    }
                }
            }),
        }
    }

    /// Takes in the result over later positions.
    pub(super) fn merge(&mut self, later: &Total) {
        match self.how.fold {
            Fold::SumFloat => self.float += later.float,
            Fold::ProdFloat => self.float *= later.float,
            Fold::SumInt => self.int = self.int.wrapping_add(later.int),
            Fold::ProdInt => self.int = self.int.wrapping_mul(later.int),
            Fold::Extreme { .. } => {
                if later.best > self.best {
                    (self.best, self.at) = (later.best, later.at);
                }
            }
        }
    }

    /// The result as bits.
    pub(super) fn bits(&self) -> u32 {
        let bits = match self.how.fold {
            Fold::SumFloat | Fold::ProdFloat => (self.float as f32).to_bits(),
            Fold::SumInt | Fold::ProdInt => self.int,
            Fold::Extreme { arg: true, .. } => self.at,
            Fold::Extreme { order, .. } => self.best.map_or(self.how.empty, |best| order.value(best)),
        };
        bits & self.how.keep
    }
}

impl Totals {
    /// The results of no elements in `n` lanes.
    pub(super) fn new(how: Folding, n: usize) -> Totals {
        let float = matches!(how.fold, Fold::SumFloat | Fold::ProdFloat);
        let extreme = matches!(how.fold, Fold::Extreme { .. });
        Totals {
            how,
            floats: vec![0.0; if float { n } else { 0 }],
            ints: vec![0; if float { 0 } else { n }],
            best: vec![0; if extreme { n } else { 0 }],
            begun: false,
        }
    }

    /// Forgets what it has.
    pub(super) fn clear(&mut self) {
        self.begun = false;
    }

    /// Takes in the elements at position `i`.
    pub(super) fn push(&mut self, lanes: &[u32], i: usize) {
        push_totals(self, lanes, i);
    }

    #[inline(always)]
    fn take_in(&mut self, lanes: &[u32], i: usize) {
        let first = !std::mem::replace(&mut self.begun, true);
        match self.how.fold {
            Fold::SumFloat => combine(&mut self.floats, lanes, first, |x| f64::from(f32::from_bits(x)), |x, z| x + z),
            Fold::ProdFloat => combine(&mut self.floats, lanes, first, |x| f64::from(f32::from_bits(x)), |x, z| x * z),
            Fold::SumInt => combine(&mut self.ints, lanes, first, |x| x, u32::wrapping_add),
            Fold::ProdInt => combine(&mut self.ints, lanes, first, |x| x, u32::wrapping_mul),
            Fold::Extreme { order, arg } => with_key!(order, arg, key => {
                if first {
                    self.ints.fill(i as u32);
                    combine(&mut self.best, lanes, true, key, |x, _| x);
                } else if arg {
                    for ((best, at), &x) in self.best.iter_mut().zip(&mut self.ints).zip(lanes) {
                        let new = key(x);
                        *at = if new > *best { i as u32 } else { *at };
                        *best = if new > *best { new } else { *best };
                    }
                } else {
                    combine(&mut self.best, lanes, false, key, |x, z| if x > z { x } else { z });
                }
            }),
        }
    }

    /// Writes the results as bits.
    pub(super) fn bits(&self, out: &mut [u32]) {
        let keep = self.how.keep;
        if !self.begun {
            return out.fill(Total::new(self.how).bits());
        }
        match self.how.fold {
            Fold::SumFloat | Fold::ProdFloat => {
                out.iter_mut().zip(&self.floats).for_each(|(out, &x)| *out = (x as f32).to_bits());
            }
            Fold::SumInt | Fold::ProdInt | Fold::Extreme { arg: true, .. } => {
                out.iter_mut().zip(&self.ints).for_each(|(out, &x)| *out = x & keep);
            }
            Fold::Extreme { order, .. } => {
                out.iter_mut().zip(&self.best).for_each(|(out, &x)| *out = order.value(x) & keep);
            }
        }
    }
}

wide! {
    fn push_total(total: &mut Total, lanes: &[u32], start: usize) {
        total.take_in(lanes, start);
    }
}

wide! {
    fn push_totals(totals: &mut Totals, lanes: &[u32], i: usize) {
        totals.take_in(lanes, i);
    }
}

/// Combines lanes in `N` interleaved partial results, then these in pairs.
#[inline(always)]
fn spread<T: Copy, const N: usize>(lanes: &[u32], zero: T, of: impl Fn(u32) -> T, op: impl Fn(T, T) -> T) -> T {
    let mut partial = [zero; N];
    let chunks = lanes.chunks_exact(N);
    for (partial, &x) in partial.iter_mut().zip(chunks.remainder()) {
        *partial = op(*partial, of(x));
    }
    for chunk in chunks {
        for (partial, &x) in partial.iter_mut().zip(chunk) {
            *partial = op(*partial, of(x));
        }
    }
    let mut n = N;
    while n > 1 {
        n /= 2;
        for k in 0..n {
            partial[k] = op(partial[k], partial[k + n]);
        }
    }
    partial[0]
}

#[inline(always)]
fn combine<T: Copy>(totals: &mut [T], lanes: &[u32], first: bool, of: impl Fn(u32) -> T, op: impl Fn(T, T) -> T) {
    if first {
        totals.iter_mut().zip(lanes).for_each(|(total, &x)| *total = of(x));
    } else {
        totals.iter_mut().zip(lanes).for_each(|(total, &x)| *total = op(*total, of(x)));
    }
}

impl Order {
    /// The value behind a key.
    fn value(self, key: i32) -> u32 {
        let key = if self.least { !key } else { key };
        match self.dtype {
            DType::I32 => key as u32,
            DType::F32 if key == if self.least { !i32::MAX } else { i32::MAX } => f32::NAN.to_bits(),
            DType::F32 => float_key(key as u32) as u32,
            _ => key as u32 ^ SIGN,
        }
    }
}

const SIGN: u32 = 1 << 31;

/// The bits of a float as an integer of the same order; its own inverse.
fn float_key(x: u32) -> i32 {
    let x = x as i32;
    x ^ (((x >> 31) as u32) >> 1) as i32
}

/// [`float_key`], NaN greatest; `flat` makes both zeros one.
fn greatest(x: u32, flat: bool) -> i32 {
    let x = if flat && x == SIGN { 0 } else { x };
    if x & !SIGN > 0x7f80_0000 { i32::MAX } else { float_key(x) }
}

/// [`float_key`] turned round, NaN greatest.
fn least(x: u32, flat: bool) -> i32 {
    let x = if flat && x == SIGN { 0 } else { x };
    if x & !SIGN > 0x7f80_0000 { i32::MAX } else { !float_key(x) }
}
