//! Index arithmetic: what a view does to the position of an element.
//!
//! A [`Lin`] is a sum of atoms with coefficients: kernel variables, and quotients and remainders
//! that reshapes leave behind. The constructors keep it simple: `(o / 4) * 4 + o % 4` is `o`, and
//! terms known to vanish do. Values are exact integers here; devices compute them in wrapping
//! `u32`, which differs only where a guard throws the result away.

use std::fmt;

/// A variable of a kernel, by number; its extent is in the kernel.
pub type Var = u8;

/// An indivisible part of an index.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    /// A kernel variable with its extent: `0 <= v < n`.
    Var(Var, usize),
    /// The quotient, rounded down.
    Div(Box<Lin>, usize),
    /// The remainder, never negative.
    Mod(Box<Lin>, usize),
    /// The value of a kernel expression, known to be under the bound where it matters.
    Value(u32, usize),
}

/// An index: a constant and atoms with coefficients, sorted and distinct.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lin {
    /// Atoms and their coefficients, none of them 0.
    pub terms: Vec<(Atom, i64)>,
    /// What is added to them.
    pub constant: i64,
}

impl Lin {
    /// A constant.
    pub fn constant(constant: i64) -> Lin {
        Lin { terms: Vec::new(), constant }
    }

    /// Variable `v` that runs under `extent`.
    pub fn var(v: Var, extent: usize) -> Lin {
        match extent {
            0 | 1 => Lin::constant(0),
            _ => Lin { terms: vec![(Atom::Var(v, extent), 1)], constant: 0 },
        }
    }

    /// The value of kernel expression `id`, under `bound`.
    pub fn value(id: u32, bound: usize) -> Lin {
        Lin { terms: vec![(Atom::Value(id, bound), 1)], constant: 0 }
    }

    /// Least and greatest value.
    pub fn range(&self) -> (i64, i64) {
        self.terms.iter().fold((self.constant, self.constant), |(lo, hi), (atom, c)| {
            let (a, b) = atom.range();
            if *c >= 0 { (lo + c * a, hi + c * b) } else { (lo + c * b, hi + c * a) }
        })
    }

    /// The coefficient of `atom`.
    pub fn coefficient(&self, atom: &Atom) -> i64 {
        self.terms.iter().find(|(a, _)| a == atom).map_or(0, |(_, c)| *c)
    }

    /// The sum of two indices.
    pub fn plus(&self, other: &Lin) -> Lin {
        let mut sum = self.clone();
        sum.constant += other.constant;
        for (atom, c) in &other.terms {
            sum.add_term(atom, *c);
        }
        sum.recombine();
        sum
    }

    /// This index and a constant.
    pub fn offset(&self, constant: i64) -> Lin {
        Lin { terms: self.terms.clone(), constant: self.constant + constant }
    }

    /// This index times a constant.
    pub fn times(&self, factor: i64) -> Lin {
        match factor {
            0 => Lin::default(),
            1 => self.clone(),
            _ => Lin {
                terms: self.terms.iter().map(|(atom, c)| (atom.clone(), c * factor)).collect(),
                constant: self.constant * factor,
            },
        }
    }

    /// The quotient by `d`, rounded down.
    pub fn div(&self, d: usize) -> Lin {
        let n = d as i64;
        if n <= 1 {
            return self.clone();
        }
        // self = n * quotient + rest, so that self / n = quotient + rest / n exactly.
        let (mut quotient, mut rest) =
            (Lin::constant(self.constant.div_euclid(n)), Lin::constant(self.constant.rem_euclid(n)));
        for (atom, c) in &self.terms {
            let (q, r) = split(*c, n);
            quotient.push(atom, q);
            rest.push(atom, r);
        }
        quotient.constant -= rest.lift(n);
        if rest.range().1 < n {
            return quotient;
        }
        let g = rest.terms.iter().fold(n, |g, (_, c)| gcd(g, *c));
        if g > 1 {
            let smaller = Lin {
                terms: rest.terms.iter().map(|(atom, c)| (atom.clone(), c / g)).collect(),
                constant: rest.constant.div_euclid(g),
            };
            return quotient.plus(&smaller.div((n / g) as usize));
        }
        if let ([(Atom::Div(x, e), 1)], 0) = (&rest.terms[..], rest.constant) {
            return quotient.plus(&x.div(e * d));
        }
        if let ([(Atom::Mod(x, e), 1)], 0) = (&rest.terms[..], rest.constant)
            && e % d == 0
        {
            return quotient.plus(&x.div(d).rem(e / d));
        }
        quotient.plus(&Lin { terms: vec![(Atom::Div(Box::new(rest), d), 1)], constant: 0 })
    }

    /// The remainder by `d`, never negative.
    pub fn rem(&self, d: usize) -> Lin {
        let n = d as i64;
        if n <= 1 {
            return Lin::default();
        }
        let mut rest = Lin::constant(self.constant.rem_euclid(n));
        for (atom, c) in &self.terms {
            rest.push(atom, split(*c, n).1);
        }
        rest.lift(n);
        if rest.range().1 < n {
            return rest;
        }
        let g = rest.terms.iter().fold(n, |g, (_, c)| gcd(g, *c));
        if g > 1 {
            let smaller = Lin {
                terms: rest.terms.iter().map(|(atom, c)| (atom.clone(), c / g)).collect(),
                constant: rest.constant.div_euclid(g),
            };
            return smaller.rem((n / g) as usize).times(g).offset(rest.constant.rem_euclid(g));
        }
        if let ([(Atom::Mod(x, e), 1)], 0) = (&rest.terms[..], rest.constant)
            && e % d == 0
        {
            return x.rem(d);
        }
        Lin { terms: vec![(Atom::Mod(Box::new(rest), d), 1)], constant: 0 }
    }

    /// Adds as many times `n` as keep it from being negative, and says how many: what is divided
    /// is never negative, so that unsigned arithmetic will do.
    fn lift(&mut self, n: i64) -> i64 {
        let times = (-self.range().0).max(0).unsigned_abs().div_ceil(n.unsigned_abs()) as i64;
        self.constant += times * n;
        times
    }

    /// Visits every atom, inner ones too.
    pub fn visit(&self, f: &mut dyn FnMut(&Atom)) {
        for (atom, _) in &self.terms {
            f(atom);
            match atom {
                Atom::Div(x, _) | Atom::Mod(x, _) => x.visit(f),
                Atom::Var(..) | Atom::Value(..) => {}
            }
        }
    }

    /// The index with variables and values replaced.
    pub fn replace(&self, f: &dyn Fn(&Atom) -> Option<Lin>) -> Lin {
        self.terms.iter().fold(Lin::constant(self.constant), |sum, (atom, c)| {
            let inner = f(atom).unwrap_or_else(|| match atom {
                Atom::Div(x, d) => x.replace(f).div(*d),
                Atom::Mod(x, d) => x.replace(f).rem(*d),
                Atom::Var(..) | Atom::Value(..) => Lin { terms: vec![(atom.clone(), 1)], constant: 0 },
            });
            sum.plus(&inner.times(*c))
        })
    }

    fn push(&mut self, atom: &Atom, c: i64) {
        if c != 0 {
            self.terms.push((atom.clone(), c));
        }
    }

    fn add_term(&mut self, atom: &Atom, c: i64) {
        match self.terms.binary_search_by(|(a, _)| a.cmp(atom)) {
            Ok(at) => {
                self.terms[at].1 += c;
                if self.terms[at].1 == 0 {
                    self.terms.remove(at);
                }
            }
            Err(at) if c != 0 => self.terms.insert(at, (atom.clone(), c)),
            Err(_) => {}
        }
    }

    /// Puts quotients and remainders of the same index back together.
    fn recombine(&mut self) {
        'again: loop {
            for at in 0..self.terms.len() {
                let (Atom::Mod(x, d), c) = &self.terms[at] else { continue };
                let (x, d, c) = (x.clone(), *d, *c);
                let quotient = x.div(d);
                // c * (x % d) + c * d * (x / d) = c * x.
                let whole = !quotient.terms.is_empty()
                    && quotient.terms.iter().all(|(a, k)| self.coefficient(a) == c * d as i64 * k);
                // c * (x % d) + c * d * (x / d % e) = c * (x % (d * e)).
                let wider = self.terms.iter().find_map(|(atom, k)| match atom {
                    Atom::Mod(y, e) if **y == quotient && *k == c * d as i64 => Some(*e),
                    _ => None,
                });
                let (gone, instead) = if whole {
                    (quotient.times(c * d as i64), x.times(c))
                } else if let Some(e) = wider {
                    let gone = Lin { terms: vec![(Atom::Mod(Box::new(quotient), e), c * d as i64)], constant: 0 };
                    (gone, x.rem(d * e).times(c))
                } else {
                    continue;
                };
                let remainder = self.terms[at].0.clone();
                self.add_term(&remainder, -c);
                for (change, sign) in [(gone, -1), (instead, 1)] {
                    self.constant += sign * change.constant;
                    for (atom, k) in &change.terms {
                        self.add_term(atom, sign * k);
                    }
                }
                continue 'again;
            }
            return;
        }
    }
}

impl Atom {
    fn range(&self) -> (i64, i64) {
        match self {
            Atom::Var(_, n) | Atom::Value(_, n) => (0, (*n as i64 - 1).max(0)),
            Atom::Div(x, d) => {
                let (lo, hi) = x.range();
                (lo.div_euclid(*d as i64), hi.div_euclid(*d as i64))
            }
            Atom::Mod(x, d) => {
                let (lo, hi) = x.range();
                if lo >= 0 { (0, hi.min(*d as i64 - 1)) } else { (0, *d as i64 - 1) }
            }
        }
    }
}

/// `c = n * q + r`; a negative `c` is only split when it divides.
fn split(c: i64, n: i64) -> (i64, i64) {
    if c % n == 0 {
        (c / n, 0)
    } else if c > 0 {
        (c / n, c % n)
    } else {
        (0, c)
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The row-major position of `at` in `dims`.
pub fn flatten(dims: &[usize], at: &[Lin]) -> Lin {
    let mut stride = 1i64;
    let mut sum = Lin::default();
    for (n, i) in dims.iter().zip(at).rev() {
        sum = sum.plus(&i.times(stride));
        stride *= *n as i64;
    }
    sum
}

/// The indices into `dims` of row-major position `flat`.
pub fn unflatten(dims: &[usize], flat: &Lin) -> Vec<Lin> {
    let mut at = vec![Lin::default(); dims.len()];
    let mut rest = flat.clone();
    for (axis, &n) in dims.iter().enumerate().rev() {
        if n == 1 {
            continue;
        }
        // The outermost axis that is left takes the whole rest: it is in range already.
        if dims[..axis].iter().all(|&d| d == 1) {
            at[axis] = rest;
            break;
        }
        at[axis] = rest.rem(n);
        rest = rest.div(n);
    }
    at
}

/// The indices into `to` of the element at `at` in `from`, a shape of as many elements.
///
/// An index that may be outside of its axis, under a mask that leaves such elements out, would not
/// come out of a sum with others again. Where there is one, axes go over in the smallest groups that
/// hold as many elements in both shapes, so that an axis that stays keeps its own index.
pub fn reshaped(from: &[usize], at: &[Lin], to: &[usize]) -> Vec<Lin> {
    let inside = |(i, n): (&Lin, &usize)| {
        let (lo, hi) = i.range();
        lo >= 0 && hi < *n as i64
    };
    if from.contains(&0) || at.iter().zip(from).all(inside) {
        return unflatten(to, &flatten(from, at));
    }
    let mut found = Vec::with_capacity(to.len());
    let (mut i, mut j) = (0, 0);
    while let (Some(&first), Some(&other)) = (from.get(i), to.get(j)) {
        let (begin_i, begin_j, mut n, mut m) = (i, j, first, other);
        (i, j) = (i + 1, j + 1);
        while n != m {
            // The lesser product has an axis left: in the end both are the same.
            let (product, dims, next) = if n < m { (&mut n, from, &mut i) } else { (&mut m, to, &mut j) };
            let Some(more) = dims.get(*next) else { break };
            *product *= more;
            *next += 1;
        }
        let (group, target) = (&from[begin_i..i], &to[begin_j..j]);
        match at.get(begin_i..i) {
            Some([alone]) if target.len() == 1 => found.push(alone.clone()),
            Some(at) => found.extend(unflatten(target, &flatten(group, at))),
            None => break,
        }
    }
    // What is left are axes of one element.
    found.resize(to.len(), Lin::default());
    found
}

impl fmt::Display for Lin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (atom, c) in &self.terms {
            let sign = if *c < 0 { "-" } else { "+" };
            if !first {
                write!(f, " {sign} ")?;
            } else if *c < 0 {
                write!(f, "-")?;
            }
            first = false;
            if c.abs() != 1 {
                write!(f, "{}*", c.abs())?;
            }
            write!(f, "{atom}")?;
        }
        match (first, self.constant) {
            (true, c) => write!(f, "{c}"),
            (false, 0) => Ok(()),
            (false, c) => write!(f, " {} {}", if c < 0 { "-" } else { "+" }, c.abs()),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Var(v, _) => write!(f, "{}", ["o", "i", "j", "k"].get(usize::from(*v)).unwrap_or(&"?")),
            Atom::Div(x, d) => write!(f, "({x})/{d}"),
            Atom::Mod(x, d) => write!(f, "({x})%{d}"),
            Atom::Value(id, _) => write!(f, "v{id}"),
        }
    }
}

#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_that_stays_keeps_its_index() {
        let (a, y) = (Lin::var(0, 12), Lin::var(1, 16).offset(-1));
        let at = [a.clone(), y.clone()];
        assert_eq!(
            reshaped(&[12, 14], &at, &[3, 1, 4, 14, 1]),
            [a.div(4), Lin::default(), a.rem(4), y.clone(), Lin::default()]
        );
        assert_eq!(
            reshaped(&[1, 12, 1, 14], &[Lin::default(), a.clone(), Lin::default(), y.clone()], &[12, 14]),
            [a, y.clone()]
        );
        assert_eq!(reshaped(&[1], &[y], &[]), []);
    }

    #[test]
    fn a_reshape_there_and_back_is_nothing() {
        let o = Lin::var(0, 2 * 3 * 4 * 5);
        for dims in [vec![2, 3, 4, 5], vec![6, 20], vec![2, 60], vec![24, 5], vec![1, 120, 1], vec![2, 3, 20]] {
            let at = unflatten(&dims, &o);
            assert_eq!(flatten(&dims, &at), o, "{dims:?}");
            for other in [vec![2, 3, 4, 5], vec![6, 20], vec![10, 12], vec![8, 15]] {
                let there = reshaped(&dims, &at, &other);
                assert_eq!(flatten(&other, &there), o, "{dims:?} {other:?}");
            }
        }
    }

    #[test]
    fn rows_and_columns_come_apart() {
        let flat = Lin::var(0, 6).times(20).plus(&Lin::var(1, 20));
        assert_eq!(flat.div(20), Lin::var(0, 6));
        assert_eq!(flat.rem(20), Lin::var(1, 20));
        let at = unflatten(&[2, 3, 4, 5], &flat);
        assert_eq!(flatten(&[2, 3, 4, 5], &at), flat);
        assert_eq!(flatten(&[2, 3], &at[..2]), Lin::var(0, 6));
    }

    #[test]
    fn simplified_indices_mean_what_they_meant() {
        // Random expressions, evaluated for every value of the variables.
        fn value(lin: &Lin, o: i64, i: i64) -> i64 {
            lin.constant
                + lin
                    .terms
                    .iter()
                    .map(|(atom, c)| {
                        c * match atom {
                            Atom::Var(0, _) => o,
                            Atom::Var(..) => i,
                            // What is divided is never negative: shaders divide without a sign.
                            Atom::Div(x, d) => u32::try_from(value(x, o, i)).unwrap() as i64 / *d as i64,
                            Atom::Mod(x, d) => u32::try_from(value(x, o, i)).unwrap() as i64 % *d as i64,
                            Atom::Value(..) => 0,
                        }
                    })
                    .sum::<i64>()
        }
        let mut state = 1u64;
        let mut draw = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        for _ in 0..3000 {
            let mut lin = Lin::var(0, 12);
            let mut truth: Vec<i64> = (0..96).map(|n| n / 8).collect();
            for _ in 0..draw(6) + 1 {
                match draw(5) {
                    0 => {
                        let (c, k) = (draw(9) as i64 - 2, draw(7) as i64 - 3);
                        lin = lin.times(c).plus(&Lin::var(1, 8)).offset(k);
                        truth.iter_mut().enumerate().for_each(|(n, t)| *t = *t * c + (n % 8) as i64 + k);
                    }
                    1 => {
                        let d = draw(12) as usize + 1;
                        lin = lin.div(d);
                        truth.iter_mut().for_each(|t| *t = t.div_euclid(d as i64));
                    }
                    2 => {
                        let d = draw(12) as usize + 1;
                        lin = lin.rem(d);
                        truth.iter_mut().for_each(|t| *t = t.rem_euclid(d as i64));
                    }
                    3 => {
                        let d = draw(5) as usize + 2;
                        lin = lin.rem(d).plus(&lin.div(d).times(d as i64)).plus(&Lin::var(1, 8));
                        truth.iter_mut().enumerate().for_each(|(n, t)| *t += (n % 8) as i64);
                    }
                    _ => {
                        let (d, e) = (draw(5) as usize + 2, draw(5) as usize + 2);
                        lin = lin.rem(d).plus(&lin.div(d).rem(e).times(d as i64));
                        truth.iter_mut().for_each(|t| *t = t.rem_euclid((d * e) as i64));
                    }
                }
            }
            for (n, t) in truth.iter().enumerate() {
                let got = value(&lin, n as i64 / 8, n as i64 % 8);
                assert_eq!(got, *t, "{lin} at {n}");
                let (lo, hi) = lin.range();
                assert!(lo <= got && got <= hi, "{lin} range");
            }
        }
    }
}
