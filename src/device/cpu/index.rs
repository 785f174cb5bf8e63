//! [`Index`]: a [`Lin`] made ready for evaluation along lanes.
//!
//! Along the lane variable an index is piecewise affine: quotients stand still and remainders
//! grow until they wrap. Loads and stores go piece by piece where pieces are long, and lane by
//! lane where they are short or a kernel value takes part. Uniform parts are exact integers;
//! lane by lane arithmetic wraps in `u32`, as on a GPU.

use crate::compile::index::{Atom, Lin, Var};
use crate::device::cpu::lanes::{Frame, Place};
use crate::graph::wide::wide;

/// For each division that a piece takes, so many lanes are as soon stepped through one at a time.
const PIECE_MIN: i64 = 16;
/// A piece that has no end.
const ENDLESS: i64 = i64::MAX;

/// An index along one lane variable.
#[derive(Debug)]
pub(super) struct Index {
    constant: i64,
    /// Variables that stand still along the lanes.
    slow: Vec<(Var, i64)>,
    lane: Var,
    /// The coefficient of the lane variable.
    step: i64,
    /// Kernel values.
    values: Vec<(Place, i64)>,
    parts: Vec<(Part, i64)>,
    /// Whether it differs from lane to lane.
    varies: bool,
    /// Whether it is better computed lane by lane.
    jumps: bool,
}

#[derive(Debug)]
struct Part {
    inner: Index,
    by: i64,
    quotient: bool,
    /// Whether the inner index can be negative.
    signed: bool,
}

/// `value + slope * k` for `k < len`.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub value: i64,
    pub slope: i64,
    pub len: i64,
}

impl Index {
    /// `lin` along `lane`; `place` says where kernel values are found.
    pub(super) fn new(lin: &Lin, lane: Var, place: &mut dyn FnMut(u32) -> Place) -> Index {
        let mut index = Index {
            constant: lin.constant,
            slow: Vec::new(),
            lane,
            step: 0,
            values: Vec::new(),
            parts: Vec::new(),
            varies: false,
            jumps: false,
        };
        for (atom, c) in &lin.terms {
            match atom {
                Atom::Var(v, _) if *v == lane => index.step += c,
                Atom::Var(v, _) => index.slow.push((*v, *c)),
                Atom::Value(id, _) => {
                    let place = place(*id);
                    let varies = matches!(place, Place::Lane(_));
                    index.varies |= varies;
                    index.jumps |= varies;
                    index.values.push((place, *c));
                }
                Atom::Div(x, d) | Atom::Mod(x, d) => {
                    let inner = Index::new(x, lane, place);
                    index.varies |= inner.varies;
                    index.jumps |= inner.jumps;
                    let (by, quotient) = ((*d).max(1) as i64, matches!(atom, Atom::Div(..)));
                    index.parts.push((Part { inner, by, quotient, signed: range(x).0 < 0 }, *c));
                }
            }
        }
        index.varies |= index.step != 0;
        index.jumps |= index.typical().1 < PIECE_MIN * (1 + index.divisions());
        index
    }

    fn divisions(&self) -> i64 {
        self.parts.iter().map(|(part, _)| 1 + part.inner.divisions()).sum()
    }

    /// The slope and length of most pieces.
    pub(super) fn typical(&self) -> (i64, i64) {
        self.parts.iter().fold((self.step, ENDLESS), |(slope, len), (part, c)| {
            let (inner, inner_len) = part.inner.typical();
            let (own, own_len) = match (inner, part.quotient) {
                (0, _) => (0, ENDLESS),
                (s, true) if s % part.by == 0 => (s / part.by, ENDLESS),
                (s, false) if s % part.by == 0 => (0, ENDLESS),
                (s, true) => (0, part.by / s.saturating_abs()),
                (s, false) => (s, part.by / s.saturating_abs()),
            };
            (slope.saturating_add(c.saturating_mul(own)), len.min(inner_len).min(own_len))
        })
    }

    /// Visits the places of kernel values.
    pub(super) fn visit(&mut self, f: &mut dyn FnMut(&mut Place)) {
        self.values.iter_mut().for_each(|(place, _)| f(place));
        self.parts.iter_mut().for_each(|(part, _)| part.inner.visit(f));
    }

    /// Whether it should be computed by [`Index::lanes`].
    pub(super) fn jumps(&self) -> bool {
        self.jumps
    }

    /// Whether kernel values that differ from lane to lane choose where it points.
    pub(super) fn is_chosen(&self) -> bool {
        self.values.iter().any(|(place, _)| matches!(place, Place::Lane(_)))
            || self.parts.iter().any(|(part, _)| part.inner.is_chosen())
    }

    /// The piece that starts at lane `k`; kernel values must not vary.
    pub(super) fn piece(&self, frame: &Frame, k: usize) -> Piece {
        let at = frame.var(self.lane).wrapping_add(k as i64);
        let mut value = self.constant.wrapping_add(self.step.wrapping_mul(at));
        for (v, c) in &self.slow {
            value = value.wrapping_add(c.wrapping_mul(frame.var(*v)));
        }
        for (place, c) in &self.values {
            value = value.wrapping_add(c.wrapping_mul(i64::from(frame.first(*place))));
        }
        let mut piece = Piece { value, slope: self.step, len: ENDLESS };
        for (part, c) in &self.parts {
            let own = part.piece(frame, k);
            piece.value = piece.value.wrapping_add(c.wrapping_mul(own.value));
            piece.slope = piece.slope.wrapping_add(c.wrapping_mul(own.slope));
            piece.len = piece.len.min(own.len);
        }
        piece
    }

    /// Calls `f(first lane, lanes, value, slope)` for each piece of `n` lanes.
    pub(super) fn pieces(&self, frame: &Frame, n: usize, mut f: impl FnMut(usize, usize, i64, i64)) {
        let mut k = 0;
        while k < n {
            let piece = self.piece(frame, k);
            let len = piece.len.clamp(1, (n - k) as i64) as usize;
            f(k, len, piece.value, piece.slope);
            k += len;
        }
    }

    /// The index of every lane of `out`, wrapped to 32 bits.
    pub(super) fn lanes(&self, frame: &Frame, out: &mut [u32]) {
        if !self.jumps {
            self.pieces(frame, out.len(), |k, n, value, slope| ramp(&mut out[k..k + n], value as u32, slope as u32));
            return;
        }
        let mut start = self.constant.wrapping_add(self.step.wrapping_mul(frame.var(self.lane)));
        for (v, c) in &self.slow {
            start = start.wrapping_add(c.wrapping_mul(frame.var(*v)));
        }
        for (part, c) in self.parts.iter().filter(|(part, _)| !part.inner.varies) {
            start = start.wrapping_add(c.wrapping_mul(part.piece(frame, 0).value));
        }
        for (place, c) in self.values.iter().filter(|(place, _)| matches!(place, Place::Uniform(_))) {
            start = start.wrapping_add(c.wrapping_mul(i64::from(frame.first(*place))));
        }
        let start = start as u32;
        let mut lanes = self.values.iter().filter(|(place, _)| matches!(place, Place::Lane(_)));
        match lanes.next() {
            Some((place, c)) if self.step == 0 => {
                let c = *c as u32;
                put_times(frame.lanes(*place, out.len()), c, start, out);
            }
            first => {
                ramp(out, start, self.step as u32);
                first.into_iter().for_each(|(place, c)| add(frame, *place, *c as u32, out));
            }
        }
        lanes.for_each(|(place, c)| add(frame, *place, *c as u32, out));
        for (part, c) in self.parts.iter().filter(|(part, _)| part.inner.varies) {
            part.add_lanes(frame, *c as u32, out);
        }
    }

    /// The part of `lin` that depends on `lane` alone, and the rest: what several rows of lanes have
    /// in common, where that is worth a place of its own.
    pub(super) fn split(lin: &Lin, lane: Var) -> Option<(Lin, Lin)> {
        let (mut common, mut rest) = (Lin::constant(0), Lin::constant(lin.constant));
        for (atom, c) in &lin.terms {
            let part = if only(atom, lane) { &mut common } else { &mut rest };
            part.terms.push((atom.clone(), *c));
        }
        let worth = common.terms.iter().any(|(atom, _)| !matches!(atom, Atom::Var(..)));
        worth.then_some((common, rest))
    }

    /// Adds a value that differs from lane to lane.
    pub(super) fn add_lanes(&mut self, place: Place) {
        self.values.push((place, 1));
        (self.varies, self.jumps) = (true, true);
    }
}

/// Adds the value at `place`, `c` times, to every lane.
fn add(frame: &Frame, place: Place, c: u32, out: &mut [u32]) {
    add_times(frame.lanes(place, out.len()), c, out);
}

wide! {
    fn add_times(x: &[u32], c: u32, out: &mut [u32]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = out.wrapping_add(x.wrapping_mul(c)));
    }
}

wide! {
    fn put_times(x: &[u32], c: u32, start: u32, out: &mut [u32]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = start.wrapping_add(x.wrapping_mul(c)));
    }
}

wide! {
    fn add_ramp(start: u32, step: u32, out: &mut [u32]) {
        for (k, out) in out.iter_mut().enumerate() {
            *out = out.wrapping_add(start.wrapping_add(step.wrapping_mul(k as u32)));
        }
    }
}

impl Part {
    fn piece(&self, frame: &Frame, k: usize) -> Piece {
        let Piece { value, slope, len } = self.inner.piece(frame, k);
        let (q, r) = (value.div_euclid(self.by), value.rem_euclid(self.by));
        let (value, quotient) = if self.quotient { (q, true) } else { (r, false) };
        if slope % self.by == 0 {
            return Piece { value, slope: if quotient { slope / self.by } else { 0 }, len };
        }
        // Lanes until the remainder leaves 0..by.
        let own = if slope > 0 { (self.by - r - 1) / slope + 1 } else { r / slope.saturating_neg() + 1 };
        Piece { value, slope: if quotient { 0 } else { slope }, len: len.min(own) }
    }

    /// Adds this part times `c` to every lane.
    fn add_lanes(&self, frame: &Frame, c: u32, out: &mut [u32]) {
        if self.by.count_ones() == 1 && self.by <= 1 << 31 {
            // A shift or a mask rounds down whatever the sign, and vector instructions do it.
            let mut inner = vec![0; out.len()];
            self.inner.lanes(frame, &mut inner);
            let (shift, mask) = (self.by.trailing_zeros(), (self.by - 1) as u32);
            let pairs = out.iter_mut().zip(inner);
            let add = |out: &mut u32, own: u32| *out = out.wrapping_add(own.wrapping_mul(c));
            match (self.quotient, self.signed) {
                (false, _) => pairs.for_each(|(out, x)| add(out, x & mask)),
                (true, false) => pairs.for_each(|(out, x)| add(out, x >> shift)),
                (true, true) => pairs.for_each(|(out, x)| add(out, (x as i32 >> shift) as u32)),
            }
        } else if self.inner.parts.is_empty() && self.inner.values.is_empty() {
            let first = self.inner.piece(frame, 0);
            if self.by >= first.slope.saturating_abs().saturating_mul(8) {
                let mut k = 0;
                while k < out.len() {
                    let Piece { value, slope, len } = self.piece(frame, k);
                    let n = len.clamp(1, (out.len() - k) as i64) as usize;
                    add_ramp((value as u32).wrapping_mul(c), (slope as u32).wrapping_mul(c), &mut out[k..k + n]);
                    k += n;
                }
                return;
            }
            // The remainder counts up and carries into the quotient: no division in the loop.
            let (mut q, mut r) = (first.value.div_euclid(self.by), first.value.rem_euclid(self.by));
            let (dq, dr) = (first.slope.div_euclid(self.by), first.slope.rem_euclid(self.by));
            for out in out {
                *out = out.wrapping_add((if self.quotient { q } else { r } as u32).wrapping_mul(c));
                let carry = r + dr >= self.by;
                q += dq + i64::from(carry);
                r += dr - if carry { self.by } else { 0 };
            }
        } else {
            let mut inner = vec![0; out.len()];
            self.inner.lanes(frame, &mut inner);
            let small = inner.iter().fold(0, |all, x| all | x) < 1 << 31;
            if let (Ok(by @ 1..0x8000_0000), true) = (u32::try_from(self.by), small) {
                if self.quotient {
                    return add_quotients(&inner, by, c, out);
                }
                // The remainder is x less by times the quotient.
                add_times(&inner, c, out);
                return add_quotients(&inner, by, c.wrapping_mul(by).wrapping_neg(), out);
            }
            for (out, x) in out.iter_mut().zip(inner) {
                let own = match (u32::try_from(self.by), self.quotient) {
                    (Ok(by), true) if !self.signed => x / by,
                    (Ok(by), false) if !self.signed => x % by,
                    (_, true) => i64::from(x as i32).div_euclid(self.by) as u32,
                    (_, false) => i64::from(x as i32).rem_euclid(self.by) as u32,
                };
                *out = out.wrapping_add(own.wrapping_mul(c));
            }
        }
    }
}

/// Whether `atom` depends on no variable but `v`.
pub(super) fn only(atom: &Atom, v: Var) -> bool {
    match atom {
        Atom::Var(var, _) => *var == v,
        Atom::Value(..) => false,
        Atom::Div(x, _) | Atom::Mod(x, _) => x.terms.iter().all(|(atom, _)| only(atom, v)),
    }
}

/// Least and greatest value, as [`Lin::range`] has it, for coefficients of any size.
pub(super) fn range(lin: &Lin) -> (i128, i128) {
    let whole = i128::from(lin.constant);
    lin.terms.iter().fold((whole, whole), |(lo, hi), (atom, c)| {
        let (a, b) = match atom {
            Atom::Var(_, n) | Atom::Value(_, n) => (0, (*n as i128 - 1).max(0)),
            Atom::Div(x, d) => {
                let (a, b) = range(x);
                let d = (*d).max(1) as i128;
                (a.div_euclid(d), b.div_euclid(d))
            }
            Atom::Mod(_, d) => (0, (*d as i128 - 1).max(0)),
        };
        let c = i128::from(*c);
        (
            lo.saturating_add((c.saturating_mul(a)).min(c.saturating_mul(b))),
            hi.saturating_add(c.saturating_mul(a).max(c.saturating_mul(b))),
        )
    })
}

wide! {
    fn ramp(out: &mut [u32], start: u32, step: u32) {
        for (k, out) in out.iter_mut().enumerate() {
            *out = start.wrapping_add(step.wrapping_mul(k as u32));
        }
    }
}

wide! {
    /// Adds `x / by`, `c` times, to every lane, for `x` and `by` below 2^31.
    fn add_quotients(x: &[u32], by: u32, c: u32, out: &mut [u32]) {
        // A product and a shift are the exact quotient then, and vector instructions do them.
        let shift = 31 + by.next_power_of_two().trailing_zeros();
        let times = (1u64 << shift).div_ceil(u64::from(by));
        for (out, &x) in out.iter_mut().zip(x) {
            let quotient = ((u64::from(x) * times) >> shift) as u32;
            *out = out.wrapping_add(quotient.wrapping_mul(c));
        }
    }
}
