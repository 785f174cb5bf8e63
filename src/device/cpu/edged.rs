//! [`Edged`]: products of few rows with the patches of images of one channel, as depthwise convolutions and
//! the gradients of their weights are.
//!
//! An image is copied once, with as much as its patches reach over its edges. There each tap of all patches is
//! a slice, and nothing asks any more what is outside. Knows the index expressions, but no convolution.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Access, Dot, Expr, ExprId, I, J, K, Kernel, O};
use crate::device::cpu::index::{Index, only};
use crate::device::cpu::lanes::{Frame, Place};
use crate::device::cpu::memory::View;
use crate::device::cpu::patches::{Parts, conditions};
use crate::device::cpu::program::Run;
use crate::error::Result;
use crate::graph::wide::wide;

/// Rows of the product that are worth it, taps, and places that are looked through beforehand.
const ROWS_MAX: usize = 4;
const TAPS_MAX: usize = 1024;
const PLACES_MAX: usize = 1 << 24;
/// Columns of a task, if images have fewer.
const TASK_COLUMNS: usize = 1 << 14;
/// Words of a copy.
const COPY_MAX: i64 = 1 << 20;
/// Elements that are added up at once.
const BLOCK: usize = 64;

/// The patches of images that are alike.
pub(super) struct Edged {
    /// How many rows, columns and terms there are.
    extents: [usize; 3],
    /// Whether the taps are the columns, and what they are multiplied with lies as the images do.
    back: bool,
    /// Where the left operand lies along the terms.
    left: (usize, Index),
    buffer: usize,
    /// Where the first tap of a group begins, and what of that `images` count in.
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
    /// Where the taps begin in it.
    taps: Vec<usize>,
    /// Places that follow one another there, from where, as many: those of a row.
    runs: Vec<[usize; 2]>,
    /// How many places an image has.
    lanes: usize,
}

impl Edged {
    /// The product `spec`, where its right operand is such patches.
    pub(super) fn new(kernel: &Kernel, spec: &Dot) -> Option<Edged> {
        let (terms, columns) = ((K, spec.k), (J, spec.n));
        let found = Edged::along(kernel, spec, terms, columns);
        found.or_else(|| Edged::along(kernel, spec, columns, terms))
    }

    fn along(kernel: &Kernel, spec: &Dot, taps: (Var, usize), places: (Var, usize)) -> Option<Edged> {
        let load = |id: ExprId| match kernel.body.get(id as usize)? {
            Expr::Load { buffer, index, mask } => Some((*buffer, index, *mask)),
            _ => None,
        };
        let ((left, lies, None), (buffer, index, mask)) = (load(spec.lhs)?, load(spec.rhs)?) else { return None };
        let reads = |buffer: usize| kernel.buffers.get(buffer).is_some_and(|buffer| buffer.access == Access::Read);
        let fits = spec.m <= ROWS_MAX && (2..=TAPS_MAX).contains(&taps.1) && places.1 <= PLACES_MAX;
        let sides = conditions(kernel, mask)?;
        let alike = apart(index) && !sides.iter().any(|(lin, _)| grouped(lin)) && !is_chosen(lies);
        if !fits || !alike || !(1..=2).contains(&sides.len()) || !reads(left) || !reads(buffer) {
            return None;
        }
        let parts = |lin| Some(Parts::new(lin, taps.0, places)?.0);
        let place = parts(index)?;
        let sides = sides.into_iter().map(|(lin, bound)| Some((parts(lin)?, bound))).collect::<Option<Vec<_>>>()?;
        // The columns of an image are what a run of places goes along, its rows what it stands still in.
        let slope = |parts: &Parts| parts.along.typical().0;
        let x = sides.iter().find(|(parts, _)| slope(parts) == 1)?;
        let y = sides.iter().find(|(parts, _)| slope(parts) == 0);
        if y.iter().count() + 1 != sides.len() || slope(&place) != 1 {
            return None;
        }

        let frame = Frame::new(0, 0, 0, &[], &[]);
        let starts = |parts: &Parts| {
            let mut starts = vec![0; taps.1];
            parts.rest.lanes(&frame, &mut starts);
            starts.into_iter().map(|start| i64::from(start as i32)).collect::<Vec<_>>()
        };
        let (at, xs) = (starts(&place), starts(&x.0));
        let ys = y.map_or_else(|| vec![0; taps.1], |(parts, _)| starts(parts));
        // Rows and columns of lane 0 of each run, and where its first tap lies.
        let mut runs: Vec<([i64; 2], i64, usize)> = Vec::new();
        let mut lane = 0;
        while lane < places.1 {
            let (p, x) = (place.along.piece(&frame, lane), x.0.along.piece(&frame, lane));
            let y = y.map(|(parts, _)| parts.along.piece(&frame, lane));
            let len = p.len.min(x.len).min(y.map_or(i64::MAX, |y| y.len)).clamp(1, (places.1 - lane) as i64) as usize;
            if len > 1 && (p.slope != 1 || x.slope != 1 || y.is_some_and(|y| y.slope != 0)) {
                return None;
            }
            runs.push(([y.map_or(0, |y| y.value) + ys[0], x.value + xs[0]], p.value + at[0], len));
            lane += len;
        }
        // How far apart rows lie, by two taps of different rows or else by two runs.
        let of_taps = (0..taps.1).find(|&k| ys[k] != ys[0]);
        let of_runs = runs.windows(2).find(|two| two[1].0[0] == two[0].0[0] + 1);
        let stride = match (of_taps, of_runs) {
            (Some(k), _) => (at[k] - at[0] - (xs[k] - xs[0])).checked_div(ys[k] - ys[0])?,
            (None, Some(two)) => two[1].1 - two[0].1 - (two[1].0[1] - two[0].0[1]),
            (None, None) => 0,
        };
        let regular = |k: usize| at[k] - at[0] == (ys[k] - ys[0]) * stride + xs[k] - xs[0];
        if !(0..taps.1).all(regular) {
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
        let begins = (0..taps.1).map(|k| ((ys[k] - ys[0] - row[0]) * size[1] + xs[k] - xs[0] - column[0]) as usize);

        // Runs of one image count from the same place, and each goes on after the one before it, or it is another
        // reading of that image; all images have the same ones.
        let base = |run: &([i64; 2], i64, usize)| run.1 - run.0[0] * stride - run.0[1];
        let run =
            |run: &([i64; 2], i64, usize)| [((run.0[0] - rows[0]) * size[1] + run.0[1] - columns[0]) as usize, run.2];
        let one_image = |a: &_, b: &_| {
            let ([at, len], [next, _]) = (run(a), run(b));
            base(a) == base(b) && at + len <= next
        };
        let images: Vec<_> = runs.chunk_by(one_image).collect();
        let first: Vec<[usize; 2]> = images.first()?.iter().map(run).collect();
        let lanes: usize = first.iter().map(|[_, len]| len).sum();
        // What lies between rows is added up, too.
        let span = first.last().map_or(0, |[at, len]| at + len) - first.first()?[0];
        let alike = images.iter().all(|image| image.iter().map(run).eq(first.iter().copied()));
        let worth = span <= 2 * lanes && span.next_multiple_of(BLOCK) <= 4 * lanes;
        if !alike || !worth {
            return None;
        }
        Some(Edged {
            extents: [spec.m, spec.n, spec.k],
            back: taps.0 == J,
            left: (left, Index::new(lies, K, &mut |_| Place::Uniform(0))),
            buffer,
            group: place.rest,
            first: at[0],
            images: images.iter().filter_map(|image| image.first()).map(base).collect(),
            stride,
            start,
            end,
            size,
            taps: begins.collect(),
            runs: first,
            lanes,
        })
    }

    /// How many tasks each group is, which have results of their own.
    pub(super) fn tasks(&self) -> usize {
        if self.back { 1 } else { self.images.len().div_ceil(self.images_of_task()) }
    }

    /// How far apart the lines of a task's sums are.
    pub(super) fn width(&self) -> usize {
        if self.back { self.extents[1] } else { self.images_of_task() * self.lanes }
    }

    fn images_of_task(&self) -> usize {
        (TASK_COLUMNS / self.lanes.max(1)).clamp(1, self.images.len().max(1))
    }

    /// The sums of a task of group `o`, lines of columns [`Edged::width`] apart, for `store`.
    pub(super) fn multiply(
        &self,
        run: &Run,
        o: usize,
        task: usize,
        store: impl FnOnce([usize; 2], &mut [u32]),
    ) -> Result<()> {
        let [m, n, k] = self.extents;
        let (Some(view), Some(&[begin, _]), Some(&[last, len])) =
            (run.views.get(self.buffer), self.runs.first(), self.runs.last())
        else {
            return Ok(());
        };
        let mut frame = Frame::new(0, 0, 0, run.views, run.faults);
        frame.set_var(O, o);
        let group = self.group.piece(&frame, 0).value - self.first;
        let mut left = run.pool.take((m * k) as u64 * 4)?;
        for (i, row) in left.words_mut().chunks_exact_mut(k).enumerate() {
            frame.set_var(I, i);
            let (buffer, index) = &self.left;
            index.pieces(&frame, k, |first, n, at, step| run.views[*buffer].load(at, step, &mut row[first..first + n]));
        }
        let (images, columns) = match self.back {
            true => (0..self.images.len(), [0, n]),
            false => {
                let (each, all) = (self.images_of_task(), self.images.len());
                let images = task * each..all.min((task + 1) * each);
                (images.clone(), [images.start * self.lanes, images.end * self.lanes])
            }
        };
        let width = self.width();
        let mut sums = run.pool.take((m * width) as u64 * 4)?;
        sums.words_mut().fill(0);
        let mut copy = run.pool.take((self.size[0] * self.size[1]) as u64 * 4 + BLOCK as u64 * 4)?;
        copy.words_mut().fill(0);
        let span = last + len - begin;
        let mut line = run.pool.take(span.next_multiple_of(BLOCK) as u64 * 4)?;
        line.words_mut().fill(0);
        for (image, at) in images.clone().zip(images.clone().map(|image| (image - images.start) * self.lanes)) {
            self.copy(view, self.images[image] + group, copy.words_mut());
            for (i, left) in left.words().chunks_exact(k).enumerate() {
                let sums = &mut sums.words_mut()[i * width..];
                if self.back {
                    let mut rest = &left[image * self.lanes..];
                    for &[to, len] in &self.runs {
                        let now;
                        (now, rest) = rest.split_at(len);
                        line.words_mut()[to - begin..][..len].copy_from_slice(now);
                    }
                    let before = sums[..n].to_vec();
                    add_products(copy.words(), begin, &self.taps, line.words(), &mut sums[..n]);
                    self.mend(copy.words(), line.words(), &before, sums);
                } else {
                    add_taps(copy.words(), begin, &self.taps, left, line.words_mut());
                    let mut rest = &mut sums[at..];
                    for &[from, len] in &self.runs {
                        let now;
                        (now, rest) = rest.split_at_mut(len);
                        now.copy_from_slice(&line.words()[from - begin..][..len]);
                    }
                }
            }
        }
        store(columns, sums.words_mut());
        Ok(())
    }

    /// Adds up anew, over its places alone, what is not finite: what lies between rows counts 0 times, which is
    /// nothing for finite elements only.
    fn mend(&self, copy: &[u32], line: &[u32], before: &[u32], sums: &mut [u32]) {
        let begin = self.runs.first().map_or(0, |run| run[0]);
        for ((&tap, sum), &before) in self.taps.iter().zip(sums).zip(before) {
            if f32::from_bits(*sum).is_finite() {
                continue;
            }
            let products = |&[at, len]: &[usize; 2]| {
                let both = line[at - begin..][..len].iter().zip(&copy[tap + at..][..len]);
                both.map(|(&a, &b)| f32::from_bits(a) * f32::from_bits(b)).sum::<f32>()
            };
            *sum = (f32::from_bits(before) + self.runs.iter().map(products).sum::<f32>()).to_bits();
        }
    }

    /// Copies the image whose row 0 and column 0 lie at `base`; what is around it stays.
    fn copy(&self, view: &View, base: i64, copy: &mut [u32]) {
        let inside = [0, 1].map(|axis| self.start[axis].max(0)..self.end[axis]);
        let n = (inside[1].end - inside[1].start).max(0) as usize;
        if n == 0 {
            return;
        }
        for y in inside[0].clone() {
            let to = (y - self.start[0]) * self.size[1] + inside[1].start - self.start[1];
            view.load(base + y * self.stride + inside[1].start, 1, &mut copy[to as usize..][..n]);
        }
    }
}

wide! {
    /// Sets element `i` of `out` to the sum, over the taps, of a weight times the element of `copy` that is `begin + i`
    /// from where the tap begins.
    fn add_taps(copy: &[u32], begin: usize, taps: &[usize], weights: &[u32], out: &mut [u32]) {
        for (n, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let mut sums = [0f32; BLOCK];
            for (&tap, &weight) in taps.iter().zip(weights) {
                let Some(line) = block(copy, tap + begin + n * BLOCK) else { continue };
                let weight = f32::from_bits(weight);
                sums.iter_mut().zip(line).for_each(|(sum, &x)| *sum += weight * f32::from_bits(x));
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum.to_bits());
        }
    }
}

wide! {
    /// Adds to the sum of each tap the products of `line` and the elements of `copy` from `begin` after it on.
    fn add_products(copy: &[u32], begin: usize, taps: &[usize], line: &[u32], sums: &mut [u32]) {
        for (&tap, out) in taps.iter().zip(sums) {
            let mut sums = [0f32; BLOCK];
            for (n, line) in line.chunks_exact(BLOCK).enumerate() {
                let Some(copy) = block(copy, tap + begin + n * BLOCK) else { continue };
                let both = line.iter().zip(copy);
                sums.iter_mut().zip(both).for_each(|(sum, (&a, &b))| *sum += f32::from_bits(a) * f32::from_bits(b));
            }
            let mut half = BLOCK / 2;
            while half > 0 {
                let (low, high) = sums.split_at_mut(half);
                low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
                half /= 2;
            }
            *out = (f32::from_bits(*out) + sums[0]).to_bits();
        }
    }
}

#[inline(always)]
fn block(words: &[u32], at: usize) -> Option<&[u32; BLOCK]> {
    words.get(at..)?.first_chunk()
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

/// Whether a value takes part in `lin`.
fn is_chosen(lin: &Lin) -> bool {
    let mut found = false;
    lin.visit(&mut |atom| found |= matches!(atom, Atom::Value(..)));
    found
}

fn mentions(atom: &Atom) -> bool {
    let mut found = false;
    Lin { terms: vec![(atom.clone(), 1)], constant: 0 }.visit(&mut |atom| found |= matches!(atom, Atom::Var(O, _)));
    found
}
