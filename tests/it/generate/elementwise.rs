//! Elementwise steps: rows of the scalar table, choices, conversions.

use wgrad::graph::scalar::Family;
use wgrad::graph::{Op, Scalar};
use wgrad::prelude::*;

use super::{Gen, Val};

impl Gen<'_> {
    fn row(&mut self, wanted: impl Fn(Scalar) -> bool) -> Scalar {
        let rows: Vec<Scalar> = Scalar::ALL.iter().copied().filter(|&row| wanted(row)).collect();
        self.one_of(&rows)
    }

    /// The greatest size of the results of `row` on operands of these ranges.
    fn size_of(&self, row: Scalar, x: (f64, f64), z: (f64, f64)) -> f64 {
        let Some(f) = row.f64() else { return 1.0 };
        let at = |(lo, hi): (f64, f64), k: i32| lo + (hi - lo) * f64::from(k) / 16.0;
        let mut size = 0f64;
        for a in 0..=16 {
            for b in 0..=16 {
                let y = f(at(x, a), at(z, b)).abs();
                size = if y.is_finite() { size.max(y) } else { size };
            }
        }
        size.max(1e-3)
    }

    pub(super) fn unary(&mut self) -> Val {
        let row = self.row(|row| row.spec().arity == 1);
        let spec = row.spec();
        let v = match spec.family {
            Family::Logic => self.such(&|v| !v.x.dtype().is_float()).unwrap_or_else(|| self.leaf(DType::Bool, &[5])),
            Family::Number | Family::Round if self.chance(30) => self.int(),
            _ => self.float(),
        };
        if spec.family == Family::Logic || !(v.x.dtype().is_float() || spec.family == Family::Float) {
            return Val { x: self.prim(Op::Scalar(row), &[&v.x], &[], DType::F32), size: 256.0 };
        }
        let (lo, hi) = (spec.domain.start, spec.domain.end);
        // Outside its domain a row may give NaN or an infinity, as it likes to everywhere.
        let (x, range) = match self.chance(93) {
            true => (self.within(&v, lo, hi), (lo, hi)),
            false => (v.x.clone(), (-v.size, v.size)),
        };
        Val { x: self.prim(Op::Scalar(row), &[&x], &[], DType::F32), size: self.size_of(row, range, range) }
    }

    pub(super) fn binary(&mut self) -> Val {
        let row = self.row(|row| row.spec().arity == 2);
        let spec = row.spec();
        let v = match spec.family {
            Family::Logic if self.chance(40) => {
                self.such(&|v| v.x.dtype() == DType::Bool).unwrap_or_else(|| self.leaf(DType::Bool, &[5]))
            }
            Family::Logic | Family::Shift => self.int(),
            Family::Number | Family::Compare if self.chance(30) => self.int(),
            _ => self.float(),
        };
        let other = match self.chance(80) || matches!(spec.family, Family::Logic | Family::Shift) {
            true => v.x.dtype(),
            false => self.dtype(),
        };
        let w = if self.chance(8) { v.clone() } else { self.beside(&v, other) };
        let (v, w) = if self.chance(50) { (v, w) } else { (w, v) };
        let ints = !v.x.dtype().is_float() && !w.x.dtype().is_float();
        if ints && spec.family != Family::Float {
            let z = match row {
                // A large power or product says little.
                Scalar::Pow => w.x.rem(5),
                _ => w.x.clone(),
            };
            let size = if spec.family == Family::Compare { 1.0 } else { 4e9 };
            return Val { x: self.prim(Op::Scalar(row), &[&v.x, &z], &[], DType::F32), size };
        }
        if self.chance(10) && matches!(row, Scalar::Add | Scalar::Sub | Scalar::Mul | Scalar::Maximum | Scalar::Minimum)
        {
            let c = self.rng.uniform(-2.0..2.0);
            let c = v.x.full_like(c);
            return Val { x: self.prim(Op::Scalar(row), &[&v.x, &c], &[], DType::F32), size: v.size * 2.0 + 2.0 };
        }
        let domain = (spec.domain.start, spec.domain.end);
        let tame = matches!(row, Scalar::Add | Scalar::Sub | Scalar::Mul | Scalar::Maximum | Scalar::Minimum)
            || spec.family == Family::Compare;
        if tame || self.chance(4) {
            let (a, b) = ((-v.size, v.size), (-w.size, w.size));
            return Val {
                x: self.prim(Op::Scalar(row), &[&v.x, &w.x], &[], DType::F32),
                size: self.size_of(row, a, b),
            };
        }
        let (x, z) = (self.within(&v, domain.0, domain.1), self.within(&w, domain.0, domain.1));
        Val { x: self.prim(Op::Scalar(row), &[&x, &z], &[], DType::F32), size: self.size_of(row, domain, domain) }
    }

    pub(super) fn choose(&mut self) -> Val {
        let v = self.any();
        let w = self.beside(&v, v.x.dtype());
        let whole = v.x.shape().broadcast(w.x.shape()).map_or(v.x.clone(), |shape| v.x.expand(shape));
        let c = self.beside(&Val { x: whole, ..v.clone() }, DType::Bool);
        let size = v.size.max(w.size);
        Val { x: self.prim(Op::Scalar(Scalar::Where), &[&c.x, &v.x, &w.x], &[], DType::F32), size }
    }

    pub(super) fn convert(&mut self) -> Val {
        let v = self.any();
        if self.chance(15) && matches!(v.x.dtype(), DType::I32 | DType::U32) {
            let to = if v.x.dtype() == DType::I32 { DType::U32 } else { DType::I32 };
            return Val { x: v.x.bitcast(to), size: 4e9 };
        }
        if self.chance(10) {
            let x = self.leaf(DType::F32, v.x.dims()).x;
            // Not a leaf that moves: the last bit counts here.
            self.leaves.pop();
            return Val { x: x.bitcast(DType::U32), size: 4e9 };
        }
        let to = self.dtype();
        // Too large for f16, or for the comparison of what wraps.
        let x = match v.size > 300.0 && !v.x.dtype().is_float() && to.is_float() {
            true => v.x.rem(17),
            false => v.x.clone(),
        };
        let size = if v.size > 300.0 { 17.0 } else { v.size };
        Val { x: x.cast(to), size: if to == DType::U8 || to == DType::U32 { 4e9 } else { size } }
    }
}
