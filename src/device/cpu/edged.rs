//! [`Edged`]: products of few rows with the patches of images of one channel, as depthwise convolutions are.
//!
//! An image is copied once, with as much as its patches reach over its edges. There each term of all sums is
//! a slice, and nothing asks any more what is outside. Knows the index expressions, but no convolution.

use crate::compile::index::{Atom, Lin};
use crate::compile::kernel::{Dot, Expr, J, K, Kernel, O};
use crate::device::cpu::index::{Index, only};
use crate::device::cpu::lanes::Frame;
use crate::device::cpu::patches::{Parts, conditions};
use crate::device::cpu::program::Run;
use crate::error::Result;
use crate::graph::wide::wide;

/// Rows of the product that are worth it, terms, and columns that are looked through beforehand.
const ROWS_MAX: usize = 4;
const TERMS_MAX: usize = 1024;
const COLUMNS_MAX: usize = 1 << 24;
/// Words of a copy.
const COPY_MAX: i64 = 1 << 20;
/// Lanes that are added up at once.
const BLOCK: usize = 64;

/// The patches of images that are alike.
pub(super) struct Edged {
    buffer: usize,
    /// Where the first term of a group begins, and what of that `images` count in.
    group: Index,
    first: i64,
    /// Where row 0 and column 0 of each image lie in group 0, and how far apart rows are.
    images: Vec<i64>,
    stride: i64,
    /// The first row and column of a copy, and the end of those that an image has.
    start: [i64; 2],
    end: [i64; 2],
    /// Rows and columns of a copy.
    size: [i64; 2],
    /// Where the terms begin in it.
    terms: Vec<usize>,
    /// Lanes that follow one another there, from where, as many: those of a row of results.
    runs: Vec<[usize; 2]>,
    /// How many results an image has.
    pub lanes: usize,
}

impl Edged {
    /// The right operand of `spec`, where it is such patches.
    pub(super) fn new(kernel: &Kernel, spec: &Dot) -> Option<Edged> {
        let Expr::Load { buffer, index, mask } = kernel.body.get(spec.rhs as usize)? else { return None };
        let fits = spec.m <= ROWS_MAX && (2..=TERMS_MAX).contains(&spec.k) && spec.n <= COLUMNS_MAX;
        let sides = conditions(kernel, *mask)?;
        if !fits || !(1..=2).contains(&sides.len()) || !apart(index) || sides.iter().any(|(lin, _)| grouped(lin)) {
            return None;
        }
        let parts = |lin| Some(Parts::new(lin, K, (J, spec.n))?.0);
        let place = parts(index)?;
        let sides = sides.into_iter().map(|(lin, bound)| Some((parts(lin)?, bound))).collect::<Option<Vec<_>>>()?;
        // The columns of an image are what a run of lanes goes along, its rows what it stands still in.
        let slope = |parts: &Parts| parts.along.typical().0;
        let x = sides.iter().find(|(parts, _)| slope(parts) == 1)?;
        let y = sides.iter().find(|(parts, _)| slope(parts) == 0);
        if y.iter().count() + 1 != sides.len() || slope(&place) != 1 {
            return None;
        }

        let frame = Frame::new(0, 0, 0, &[], &[]);
        let starts = |parts: &Parts| {
            let mut starts = vec![0; spec.k];
            parts.rest.lanes(&frame, &mut starts);
            starts.into_iter().map(|start| i64::from(start as i32)).collect::<Vec<_>>()
        };
        let (at, xs) = (starts(&place), starts(&x.0));
        let ys = y.map_or_else(|| vec![0; spec.k], |(parts, _)| starts(parts));
        // Rows and columns of lane 0 of each run, and where its first term lies.
        let mut runs: Vec<([i64; 2], i64, usize)> = Vec::new();
        let mut lane = 0;
        while lane < spec.n {
            let (p, x) = (place.along.piece(&frame, lane), x.0.along.piece(&frame, lane));
            let y = y.map(|(parts, _)| parts.along.piece(&frame, lane));
            let len = p.len.min(x.len).min(y.map_or(i64::MAX, |y| y.len)).clamp(1, (spec.n - lane) as i64) as usize;
            if len > 1 && (p.slope != 1 || x.slope != 1 || y.is_some_and(|y| y.slope != 0)) {
                return None;
            }
            runs.push(([y.map_or(0, |y| y.value) + ys[0], x.value + xs[0]], p.value + at[0], len));
            lane += len;
        }
        // How far apart rows lie, by two terms of different rows or else by two runs.
        let of_terms = (0..spec.k).find(|&k| ys[k] != ys[0]);
        let of_runs = runs.windows(2).find(|two| two[1].0[0] == two[0].0[0] + 1);
        let stride = match (of_terms, of_runs) {
            (Some(k), _) => (at[k] - at[0] - (xs[k] - xs[0])).checked_div(ys[k] - ys[0])?,
            (None, Some(two)) => two[1].1 - two[0].1 - (two[1].0[1] - two[0].0[1]),
            (None, None) => 0,
        };
        let regular = |k: usize| at[k] - at[0] == (ys[k] - ys[0]) * stride + xs[k] - xs[0];
        if !(0..spec.k).all(regular) {
            return None;
        }

        let (row, column) = (least_most(ys.iter().map(|y| y - ys[0]))?, least_most(xs.iter().map(|x| x - xs[0]))?);
        let rows = least_most(runs.iter().map(|run| run.0[0]))?;
        let columns = least_most(runs.iter().flat_map(|run| [run.0[1], run.0[1] + run.2 as i64 - 1]))?;
        let start = [rows[0] + row[0], columns[0] + column[0]];
        let size = [rows[1] + row[1] - start[0] + 1, columns[1] + column[1] - start[1] + 1];
        if size[0].checked_mul(size[1])? > COPY_MAX {
            return None;
        }
        let bounds = [y.map_or(1, |(_, bound)| *bound), x.1];
        let end = [0, 1].map(|axis| bounds[axis].min(start[axis] + size[axis]));
        let terms = (0..spec.k).map(|k| ((ys[k] - ys[0] - row[0]) * size[1] + xs[k] - xs[0] - column[0]) as usize);

        // Runs of one image count from the same place; all images have the same ones.
        let base = |run: &([i64; 2], i64, usize)| run.1 - run.0[0] * stride - run.0[1];
        let run =
            |run: &([i64; 2], i64, usize)| [((run.0[0] - rows[0]) * size[1] + run.0[1] - columns[0]) as usize, run.2];
        let images: Vec<_> = runs.chunk_by(|a, b| base(a) == base(b)).collect();
        let first: Vec<[usize; 2]> = images.first()?.iter().map(run).collect();
        let lanes: usize = first.iter().map(|[_, len]| len).sum();
        // What lies between rows is added up, too.
        let span = first.last().map_or(0, |[at, len]| at + len) - first.first()?[0];
        let alike = images.iter().all(|image| image.iter().map(run).eq(first.iter().copied()));
        if !alike || !first.is_sorted() || span > 2 * lanes {
            return None;
        }
        Some(Edged {
            buffer: *buffer,
            group: place.rest,
            first: at[0],
            images: images.iter().filter_map(|image| image.first()).map(base).collect(),
            stride,
            start,
            end,
            size,
            terms: terms.collect(),
            runs: first,
            lanes,
        })
    }

    /// How many images there are.
    pub(super) fn images(&self) -> usize {
        self.images.len()
    }

    /// The sums of the images `from..to` of group `o`: of each row of `weights`, which has a word a term, a
    /// line of `sums`, which are `stride` apart.
    pub(super) fn multiply(
        &self,
        run: &Run,
        o: usize,
        [from, to]: [usize; 2],
        weights: &[u32],
        sums: &mut [u32],
        stride: usize,
    ) -> Result<()> {
        let (Some(view), Some(&[begin, _]), Some(&[last, len])) =
            (run.views.get(self.buffer), self.runs.first(), self.runs.last())
        else {
            return Ok(());
        };
        let mut frame = Frame::new(0, 0, 0, run.views, run.faults);
        frame.set_var(O, o);
        let group = self.group.piece(&frame, 0).value - self.first;
        let [height, width] = self.size.map(|n| n as usize);
        let span = (last + len - begin).next_multiple_of(BLOCK);
        let mut copy = run.pool.take((height * width + BLOCK) as u64 * 4)?;
        let mut lines = run.pool.take(span as u64 * 4)?;
        let inside = [0, 1].map(|axis| self.start[axis].max(0)..self.end[axis].max(self.start[axis].max(0)));
        copy.words_mut().fill(0);
        for image in from..to {
            for y in inside[0].clone() {
                let at = (y - self.start[0]) as usize * width + (inside[1].start - self.start[1]) as usize;
                let n = (inside[1].end - inside[1].start) as usize;
                let source = self.images[image] + group + y * self.stride + inside[1].start;
                if let Some(row) = copy.words_mut().get_mut(at..at + n) {
                    view.load(source, 1, row);
                }
            }
            for (row, weights) in weights.chunks_exact(self.terms.len()).enumerate() {
                add_up(copy.words(), begin, &self.terms, weights, lines.words_mut());
                let mut out = sums.get_mut(row * stride + (image - from) * self.lanes..).unwrap_or(&mut []);
                for &[at, len] in &self.runs {
                    let Some((now, rest)) = out.split_at_mut_checked(len) else { break };
                    now.copy_from_slice(&lines.words()[at - begin..][..len]);
                    out = rest;
                }
            }
        }
        Ok(())
    }
}

wide! {
    /// `out[i]` is the sum over the terms of a weight times the word of `copy` at `begin + i` from where the term begins.
    fn add_up(copy: &[u32], begin: usize, terms: &[usize], weights: &[u32], out: &mut [u32]) {
        for (n, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let mut sums = [0f32; BLOCK];
            for (&term, &weight) in terms.iter().zip(weights) {
                let Some(line) = copy.get(term + begin + n * BLOCK..).and_then(|line| line.first_chunk::<BLOCK>()) else {
                    continue;
                };
                let weight = f32::from_bits(weight);
                sums.iter_mut().zip(line).for_each(|(sum, &x)| *sum += weight * f32::from_bits(x));
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum.to_bits());
        }
    }
}

fn least_most(values: impl Iterator<Item = i64>) -> Option<[i64; 2]> {
    values.map(|x| [x; 2]).reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])
}

/// Whether the group shifts `lin`, and no more than that.
fn apart(lin: &Lin) -> bool {
    lin.terms.iter().all(|(atom, _)| only(atom, O) || !mentions(atom))
}

/// Whether the group has a part in `lin`.
fn grouped(lin: &Lin) -> bool {
    lin.terms.iter().any(|(atom, _)| mentions(atom))
}

fn mentions(atom: &Atom) -> bool {
    let mut found = false;
    Lin { terms: vec![(atom.clone(), 1)], constant: 0 }.visit(&mut |atom| found |= matches!(atom, Atom::Var(O, _)));
    found
}
