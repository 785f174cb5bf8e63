//! Maps and chains of reductions.
//!
//! Lanes run along the rows where these are long (`Rows`), along several rows one after the other where
//! they are not (`Flat`), otherwise each lane has a row of its own (`Columns`); a map is a `Columns`
//! without inner loop. A long row is cut into chunks whose totals combine in order, so that several
//! threads may share it.

use std::sync::{Mutex, PoisonError};

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{FoldKind, I, Kernel, Kind, Loop, O, Store};
use crate::device::cpu::code::{Builder, Compiled, Pass};
use crate::device::cpu::fold::{Folding, Total, Totals};
use crate::device::cpu::lanes::Frame;
use crate::device::cpu::program::{Run, block_lanes};
use crate::device::cpu::threads;
use crate::error::Result;
use crate::graph::source::ALL_KERNELS;

/// Rows at least this long have their lanes along the row.
const ROW_MIN: usize = 64;
/// From this length on several of them have their lanes along one after the other.
const FLAT_MIN: usize = 16;
/// Bytes of registers under which a whole row stays in them from one reduction to the next.
const WHOLE_BYTES: usize = 256 << 10;
/// Blocks of a chunk.
const CHUNK: usize = 32;

/// A [`Loop`] ready to run.
pub(super) struct Loops {
    outer: usize,
    inner: usize,
    shape: Shape,
    code: Compiled,
    /// For each pass, its reductions, by number.
    folds: Vec<Vec<(usize, Folding)>>,
    /// Lanes of a block.
    block: usize,
}

/// The stage from which a store's value is known.
fn stage_of(spec: &Loop, deps: &[u64], store: &Store) -> usize {
    let mut set = deps[store.value as usize];
    store.index.visit(&mut |atom| {
        if let Atom::Value(id, _) = atom {
            set |= deps[*id as usize];
        }
    });
    let needed = spec.reduces.iter().enumerate().filter(|(n, _)| set >> (8 + (*n).min(55)) & 1 == 1);
    needed.map(|(_, reduce)| reduce.stage + 1).max().unwrap_or(0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Map,
    Rows,
    Flat,
    Columns,
}

/// The same kernel over all elements of rows one after the other: their number, which is called `to`, takes
/// the place of row and column.
pub(super) fn flattened(kernel: &Kernel, [row, column]: [(Var, usize); 2], to: Var) -> Option<Kernel> {
    let at = Lin::var(to, row.1.checked_mul(column.1)?);
    let flat = |lin: &Lin| {
        lin.replace(&|atom| match atom {
            Atom::Var(v, _) if *v == row.0 => Some(at.div(column.1)),
            Atom::Var(v, _) if *v == column.0 => Some(at.rem(column.1)),
            _ => None,
        })
    };
    let mut kernel = kernel.clone();
    for expr in &mut kernel.body {
        if let Some(lin) = expr.index_mut() {
            *lin = flat(lin);
        }
    }
    let stores = match &mut kernel.kind {
        Kind::Loop(spec) => &mut spec.stores,
        Kind::Dot(spec) => &mut spec.stores,
        Kind::Scatter(_) | Kind::Scan(_) | Kind::Sort(_) | Kind::Custom(_) => return None,
    };
    stores.iter_mut().for_each(|store| store.index = flat(&store.index));
    Some(kernel)
}

impl Loops {
    pub(super) fn new(kernel: &Kernel, spec: &Loop) -> std::result::Result<Loops, String> {
        let shape = match spec {
            Loop { inner: 1, reduces, .. } if reduces.is_empty() => Shape::Map,
            Loop { rows: true, inner, .. } if *inner >= ROW_MIN => Shape::Rows,
            Loop { outer, inner, .. } if *outer < ROW_MIN && inner > outer => Shape::Rows,
            _ => Shape::Columns,
        };
        if spec.inner >= FLAT_MIN
            && (shape == Shape::Rows || spec.rows)
            && let Some(flat) = Loops::flat(kernel, spec)?
        {
            return Ok(flat);
        }
        let mut loops = Loops::build(kernel, spec, shape, true, None)?;
        if shape == Shape::Rows {
            if loops.code.registers * spec.inner * 4 <= WHOLE_BYTES {
                loops.block = spec.inner.max(1);
            } else {
                loops = Loops::build(kernel, spec, shape, false, None)?;
            }
        }
        Ok(loops)
    }

    /// Several rows in a block, if as many fit and no value chooses where a row's results go; pages may lack it.
    fn flat(kernel: &Kernel, spec: &Loop) -> std::result::Result<Option<Loops>, String> {
        if !ALL_KERNELS {
            return Ok(None);
        }
        let Some(flat) = flattened(kernel, [(O, spec.outer), (I, spec.inner)], O) else { return Ok(None) };
        let Kind::Loop(flat_spec) = &flat.kind else { return Ok(None) };
        // What depends on the position in a row alone is the same in every block.
        let mut loops = Loops::build(&flat, flat_spec, Shape::Flat, true, Some(&kernel.dependencies()))?;
        let rows = block_lanes(loops.code.registers, usize::MAX) / spec.inner;
        loops.block = rows * spec.inner;
        let chosen = loops.code.passes.last().is_some_and(|pass| pass.puts.iter().any(|put| put.index.is_chosen()));
        Ok((!chosen && rows.min(spec.outer) > 1).then_some(loops))
    }

    /// `repeating` says what each expression depends on, where lanes repeat.
    fn build(
        kernel: &Kernel,
        spec: &Loop,
        shape: Shape,
        whole: bool,
        repeating: Option<&[u64]>,
    ) -> std::result::Result<Loops, String> {
        let (order, lane): (&[_], _) = match shape {
            Shape::Map | Shape::Flat => (&[O], O),
            Shape::Rows => (&[O, I], I),
            Shape::Columns => (&[O, I], O),
        };
        let keep = whole && matches!(shape, Shape::Rows | Shape::Flat);
        let mut builder = Builder::new(kernel, order, lane, spec.reduces.len(), keep);
        if let Some(deps) = repeating {
            builder = builder.repeating(deps);
        }
        let stages = spec.reduces.iter().map(|reduce| reduce.stage + 1).max().unwrap_or(0);
        let mut folds = Vec::new();
        let each = |store: &&Store| store.each_element && shape != Shape::Map;
        let deps = kernel.dependencies();
        for stage in 0..stages {
            builder.pass();
            let mut now = Vec::new();
            // What needs no later reduction is stored in the same sweep.
            for store in spec.stores.iter().filter(each).filter(|store| stage_of(spec, &deps, store) == stage) {
                builder.put(store, true)?;
            }
            for (n, reduce) in spec.reduces.iter().enumerate().filter(|(_, reduce)| reduce.stage == stage) {
                // An empty row computes nothing, so that it raises no fault either.
                if spec.inner > 0 {
                    builder.value(reduce.value)?;
                }
                let dtype = match reduce.fold {
                    FoldKind::Value(_) => reduce.dtype,
                    FoldKind::Arg(_) => kernel.dtypes.get(reduce.value as usize).copied().unwrap_or(reduce.dtype),
                };
                now.push((n, Folding::new(reduce.fold, dtype)));
            }
            folds.push(now);
        }
        builder.pass();
        let late = |store: &&Store| stage_of(spec, &deps, store) >= stages && spec.inner > 0;
        for store in spec.stores.iter().filter(each).filter(late) {
            builder.put(store, true)?;
        }
        builder.pass();
        for store in spec.stores.iter().filter(|store| !each(store)) {
            builder.put(store, shape != Shape::Rows)?;
        }
        let code = builder.finish();
        let block = block_lanes(code.registers, if shape == Shape::Rows { spec.inner } else { spec.outer });
        Ok(Loops { outer: spec.outer, inner: spec.inner, shape, code, folds, block })
    }

    pub(super) fn run(&self, run: &Run) -> Result<()> {
        if self.outer == 0 {
            return Ok(());
        }
        let work = self.outer.saturating_mul(self.inner.max(1)).saturating_mul(self.code.work().max(1));
        let run = &run.worth(work);
        match self.shape {
            Shape::Rows => {
                if run.parallel && self.outer < threads::threads() {
                    return self.rows(run, 0, self.outer, true);
                }
                let size = self.outer.div_ceil(threads::tasks(run.parallel));
                threads::each(run.parallel, self.outer.div_ceil(size), |task| {
                    self.rows(run, task * size, self.outer.min((task + 1) * size), false)
                })
            }
            Shape::Flat if ALL_KERNELS => {
                let size = self.outer.div_ceil(threads::tasks(run.parallel)).next_multiple_of(self.block / self.inner);
                threads::each(run.parallel, self.outer.div_ceil(size), |task| {
                    self.many_rows(run, task * size, self.outer.min((task + 1) * size));
                    Ok(())
                })
            }
            Shape::Map | Shape::Flat | Shape::Columns => {
                // Each step down the columns costs the more lanes the less.
                let tasks = match self.shape {
                    Shape::Columns if run.parallel => threads::threads(),
                    _ => threads::tasks(run.parallel),
                };
                let size = self.outer.div_ceil(tasks).next_multiple_of(64);
                threads::each(run.parallel, self.outer.div_ceil(size), |task| {
                    self.columns(run, task * size, self.outer.min((task + 1) * size));
                    Ok(())
                })
            }
        }
    }

    fn frame<'r>(&self, run: &Run<'r>) -> Frame<'r> {
        let mut frame = run.frame(&self.code, self.block);
        self.code.passes.iter().for_each(|pass| frame.run(&pass.levels[0]));
        frame
    }

    /// The results of no elements for the reductions of pass `k`.
    fn totals(&self, k: usize) -> Vec<Total> {
        self.folds.get(k).into_iter().flatten().map(|(_, how)| Total::new(*how)).collect()
    }

    /// Lanes along the rows `from..to`; `share` spreads the chunks of each row over threads.
    fn rows(&self, run: &Run, from: usize, to: usize, share: bool) -> Result<()> {
        let mut frame = self.frame(run);
        let chunk = self.block.saturating_mul(CHUNK);
        let chunks = self.inner.div_ceil(chunk);
        let empty: Vec<Vec<Total>> = (0..self.code.passes.len()).map(|k| self.totals(k)).collect();
        let mut totals = empty.clone();
        for o in from..to {
            frame.set_var(O, o);
            for (k, pass) in self.code.passes.iter().enumerate() {
                frame.run(&pass.levels[1]);
                if k + 1 == self.code.passes.len() {
                    pass.puts.iter().for_each(|put| frame.store(put.buffer, &put.index, put.value));
                    continue;
                }
                let (totals, empty) = (&mut totals[k], &empty[k]);
                totals.clone_from(empty);
                if chunks == 1 {
                    self.chunk(&mut frame, pass, totals, 0);
                } else if share {
                    let parts: Vec<Mutex<Vec<Total>>> = (0..chunks).map(|_| Mutex::new(empty.clone())).collect();
                    threads::each(true, chunks, |n| {
                        let mut part = parts[n].lock().unwrap_or_else(PoisonError::into_inner);
                        self.chunk(&mut frame.clone(), pass, &mut part, n * chunk);
                        Ok(())
                    })?;
                    for part in parts {
                        let part = part.into_inner().unwrap_or_else(PoisonError::into_inner);
                        totals.iter_mut().zip(&part).for_each(|(total, later)| total.merge(later));
                    }
                } else {
                    let mut part = empty.clone();
                    for n in 0..chunks {
                        part.clone_from(empty);
                        self.chunk(&mut frame, pass, &mut part, n * chunk);
                        totals.iter_mut().zip(&part).for_each(|(total, later)| total.merge(later));
                    }
                }
                for ((n, _), total) in self.folds.get(k).into_iter().flatten().zip(&*totals) {
                    frame.lanes_mut(self.code.reduced[*n]).fill(total.bits());
                }
            }
        }
        Ok(())
    }

    /// Lanes along the rows `from..to`, as many at once as a block has.
    fn many_rows(&self, run: &Run, from: usize, to: usize) {
        let mut frame = self.frame(run);
        let rows = self.block / self.inner;
        let mut results = Vec::with_capacity(rows);
        for o in (from..to).step_by(rows) {
            frame.set_var(O, o * self.inner);
            frame.n = rows.min(to - o) * self.inner;
            for (k, pass) in self.code.passes.iter().enumerate() {
                frame.run(&pass.levels[1]);
                if k + 1 == self.code.passes.len() {
                    pass.puts.iter().for_each(|put| frame.store_each(put.buffer, &put.index, put.value, self.inner));
                    continue;
                }
                for ((n, how), value) in self.folds.get(k).into_iter().flatten().zip(&pass.values) {
                    let result = |row| {
                        let mut total = Total::new(*how);
                        total.push(row, 0);
                        total.bits()
                    };
                    results.clear();
                    results.extend(frame.lanes(*value, frame.n).chunks(self.inner).map(result));
                    let lanes = frame.lanes_mut(self.code.reduced[*n]).chunks_mut(self.inner);
                    lanes.zip(&results).for_each(|(row, result)| row.fill(*result));
                }
                pass.puts.iter().for_each(|put| frame.store(put.buffer, &put.index, put.value));
            }
        }
    }

    /// One sweep over the chunk of a row that begins at `start`.
    fn chunk(&self, frame: &mut Frame, pass: &Pass, totals: &mut [Total], start: usize) {
        let end = self.inner.min(start.saturating_add(self.block.saturating_mul(CHUNK)));
        if pass.values.is_empty() && pass.puts.is_empty() {
            return;
        }
        for i in (start..end).step_by(self.block) {
            frame.set_var(I, i);
            frame.n = self.block.min(end - i);
            frame.run(&pass.levels[2]);
            for (total, value) in totals.iter_mut().zip(&pass.values) {
                total.push(frame.lanes(*value, frame.n), i);
            }
            pass.puts.iter().for_each(|put| frame.store(put.buffer, &put.index, put.value));
        }
    }

    /// A row in each lane, for rows `from..to`.
    fn columns(&self, run: &Run, from: usize, to: usize) {
        let mut frame = self.frame(run);
        let totals =
            |folds: &Vec<(usize, Folding)>| folds.iter().map(|(_, how)| Totals::new(*how, self.block)).collect();
        let mut totals: Vec<Vec<Totals>> = self.folds.iter().map(totals).collect();
        for o in (from..to).step_by(self.block) {
            frame.set_var(O, o);
            frame.n = self.block.min(to - o);
            for (k, pass) in self.code.passes.iter().enumerate() {
                frame.run(&pass.levels[1]);
                if let (Some(body), false) = (pass.levels.get(2), k + 1 == self.code.passes.len()) {
                    let totals = totals.get_mut(k).map_or(&mut [][..], |totals| &mut totals[..]);
                    totals.iter_mut().for_each(Totals::clear);
                    let inner = if pass.values.is_empty() && pass.puts.is_empty() { 0 } else { self.inner };
                    for i in 0..inner {
                        frame.set_var(I, i);
                        frame.run(body);
                        for (total, value) in totals.iter_mut().zip(&pass.values) {
                            total.push(frame.lanes(*value, frame.n), i);
                        }
                        pass.puts.iter().for_each(|put| frame.store(put.buffer, &put.index, put.value));
                    }
                    for ((n, _), total) in self.folds.get(k).into_iter().flatten().zip(totals) {
                        total.bits(frame.lanes_mut(self.code.reduced[*n]));
                    }
                } else {
                    pass.puts.iter().for_each(|put| frame.store(put.buffer, &put.index, put.value));
                }
            }
        }
    }
}
