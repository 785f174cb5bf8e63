//! [`Patches`]: an operand of a product that is a view of a buffer, such as the patches of an image
//! that a convolution multiplies.
//!
//! Where an element lies is a sum of what its row and what its column say, and so is each
//! condition of its mask. So a line of a panel is copied run by run, and what is outside is cleared
//! afterwards.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Access, Expr, ExprId, Kernel, O};
use crate::device::cpu::index::{Index, range};
use crate::device::cpu::lanes::{Frame, Place};
use crate::device::cpu::program::Run;
use crate::graph::scalar::Scalar;

/// Runs that do not lie side by side are not worth copying one by one if they are shorter.
const RUN_MIN: i64 = 8;
/// What a run costs before its first element, in neighbours.
const RUN_COST: i64 = 50;

/// A masked load over two variables, along the one in which its runs are longer.
pub(super) struct Patches {
    buffer: usize,
    place: Parts,
    /// The conditions of the mask: at least 0 and under a bound.
    sides: Vec<(Parts, i64)>,
    /// The variable that stands still along a line, and the one that runs.
    slow: Var,
    fast: Var,
    /// Whether lines are columns.
    down: bool,
}

/// An index as a sum.
pub(super) struct Parts {
    /// Of what depends on the lane variable alone.
    pub along: Index,
    /// And of the rest, along the slow variable.
    pub rest: Index,
}

/// Lanes from `first` on, whose index is `at` and grows by `step`.
struct Piece {
    first: usize,
    len: usize,
    at: i64,
    step: i64,
}

impl Patches {
    /// Expression `id` over rows and columns, if it is such a view.
    pub(super) fn new(kernel: &Kernel, id: ExprId, [rows, columns]: [(Var, usize); 2]) -> Option<Patches> {
        let Expr::Load { buffer, index, mask } = kernel.body.get(id as usize)? else { return None };
        let source = kernel.buffers.get(*buffer)?;
        if source.access != Access::Read || source.numel > i32::MAX as usize {
            return None;
        }
        let conditions = conditions(kernel, *mask)?;
        let along = |slow: Var, lane: (Var, usize), down| {
            let (place, speed) = Parts::new(index, slow, lane)?;
            let side = |&(index, bound): &(&Lin, i64)| Some((Parts::new(index, slow, lane)?.0, bound));
            let sides = conditions.iter().map(side).collect::<Option<Vec<_>>>()?;
            Some((speed, Patches { buffer: *buffer, place, sides, slow, fast: lane.0, down }))
        };
        let found = [along(rows.0, columns, false), along(columns.0, rows, true)];
        let (speed, best) = found.into_iter().flatten().reduce(|a, b| if b.0 > a.0 { b } else { a })?;
        (speed > 0).then_some(best)
    }

    /// Whether lines are columns.
    pub(super) fn down(&self) -> bool {
        self.down
    }

    /// Writes `rows` and `columns` of batch `o` to `panel`, line after line.
    pub(super) fn fill(&self, run: &Run, o: usize, [rows, columns]: [[usize; 2]; 2], panel: &mut [u32]) {
        let ([slow, slow_end], [lane, lane_end]) = if self.down { (columns, rows) } else { (rows, columns) };
        let (lines, n) = (slow_end - slow, lane_end - lane);
        let Some(view) = run.views.get(self.buffer).filter(|_| n > 0) else { return };
        let mut frame = Frame::new(0, 0, 0, run.views, run.faults);
        frame.set_var(O, o);
        frame.set_var(self.slow, slow);
        frame.set_var(self.fast, lane);
        let (copies, places) = self.place.ready(&frame, n, lines);
        let side = |(parts, bound): &(Parts, i64)| {
            let (pieces, starts) = parts.ready(&frame, n, lines);
            let ends = pieces.iter().flat_map(|p| [p.at, p.at + p.step * (p.len as i64 - 1)]);
            let (least, most) = ends.fold((i64::MAX, i64::MIN), |(a, b), at| (a.min(at), b.max(at)));
            (pieces, starts, *bound, least, most)
        };
        let sides: Vec<_> = self.sides.iter().map(side).collect();
        for (line, (out, place)) in panel.chunks_exact_mut(n).zip(&places).enumerate() {
            for p in &copies {
                view.load(place + p.at, p.step, &mut out[p.first..p.first + p.len]);
            }
            for (pieces, starts, bound, least, most) in &sides {
                let start = starts.get(line).copied().unwrap_or(0);
                if start + least < 0 || start + most >= *bound {
                    pieces.iter().for_each(|p| p.clear(start, *bound, out));
                }
            }
        }
    }
}

impl Parts {
    /// `lin` along `lane`, and how fast its runs are copied, 0 for too slowly.
    pub(super) fn new(lin: &Lin, slow: Var, lane: (Var, usize)) -> Option<(Parts, i64)> {
        let (mut along, mut rest) = (Lin::constant(0), Lin::constant(lin.constant));
        for (atom, c) in &lin.terms {
            let (mut inside, mut outside) = (false, false);
            let mut look = |atom: &Atom| match atom {
                Atom::Var(v, _) => (inside, outside) = (inside || *v == lane.0, outside || *v != lane.0),
                Atom::Value(..) => (inside, outside) = (true, true),
                Atom::Div(..) | Atom::Mod(..) => {}
            };
            Lin { terms: vec![(atom.clone(), 1)], constant: 0 }.visit(&mut look);
            match (inside, outside) {
                (true, true) => return None,
                (true, false) => along.terms.push((atom.clone(), *c)),
                (false, _) => rest.terms.push((atom.clone(), *c)),
            }
        }
        let small = |lin: &Lin| {
            let (lo, hi) = range(lin);
            lo >= i128::from(i32::MIN) && hi <= i128::from(i32::MAX)
        };
        let ready = |lin: &Lin, v: Var| Index::new(lin, v, &mut |_| Place::Uniform(0));
        let (along, rest) = (small(&along) && small(&rest)).then(|| (ready(&along, lane.0), ready(&rest, slow)))?;
        let (step, len) = along.typical();
        let len = len.min(lane.1 as i64);
        // A run takes as long to begin as to copy so many neighbours, and others are copied more slowly.
        let each = if step == 1 { 1 } else { 3 };
        let speed = len.saturating_mul(1000) / (RUN_COST + len.saturating_mul(each));
        Some((Parts { along, rest }, if step == 1 || len >= RUN_MIN { speed } else { 0 }))
    }

    /// The pieces of `n` lanes, and what is added to them in each of `lines`.
    fn ready(&self, frame: &Frame, n: usize, lines: usize) -> (Vec<Piece>, Vec<i64>) {
        let mut pieces = Vec::new();
        self.along.pieces(frame, n, |first, len, at, step| pieces.push(Piece { first, len, at, step }));
        let mut starts = vec![0; lines];
        self.rest.lanes(frame, &mut starts);
        (pieces, starts.into_iter().map(|start| i64::from(start as i32)).collect())
    }
}

impl Piece {
    /// Clears what is not inside once `start` is added.
    fn clear(&self, start: i64, bound: i64, out: &mut [u32]) {
        let (at, len) = (start + self.at, self.len as i64);
        let (from, to) = match self.step {
            0 if (0..bound).contains(&at) => return,
            0 => (0, 0),
            1 => (-at, bound - at),
            step if step > 0 => (-at.div_euclid(step), -(at - bound).div_euclid(step)),
            step => ((at - bound).div_euclid(-step) + 1, at.div_euclid(-step) + 1),
        };
        let from = from.clamp(0, len);
        let to = to.clamp(from, len);
        let out = &mut out[self.first..self.first + self.len];
        let (inside, after) = out.split_at_mut(to as usize);
        // Mostly none, or few.
        for part in [&mut inside[..from as usize], after] {
            match part {
                [] => {}
                [a] => *a = 0,
                [a, b] => [*a, *b] = [0; 2],
                [a, b, c] => [*a, *b, *c] = [0; 3],
                part => part.fill(0),
            }
        }
    }
}

/// The conditions that `mask` joins.
pub(super) fn conditions(kernel: &Kernel, mask: Option<ExprId>) -> Option<Vec<(&Lin, i64)>> {
    let (mut left, mut found) = (Vec::from_iter(mask), Vec::new());
    while let Some(id) = left.pop() {
        match kernel.body.get(id as usize)? {
            Expr::Inside { index, bound } => found.push((index, i64::from(i32::try_from(*bound).ok()?))),
            Expr::Scalar { op: Scalar::And, src: [a, b, _] } => left.extend([*a, *b]),
            _ => return None,
        }
    }
    Some(found)
}
