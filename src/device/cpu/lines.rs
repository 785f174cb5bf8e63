//! Scatters, scans and sorts: work along lines whose order matters.
//!
//! Threads take different lines. Lanes run along the lines, or across them where neighbouring
//! lines are neighbours in memory.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{I, J, Kernel, O, Scan, Scatter, Sort, Store};
use crate::device::cpu::code::{Builder, Compiled, Pass};
use crate::device::cpu::lanes::Frame;
use crate::device::cpu::memory::View;
use crate::device::cpu::program::{Run, block_lanes};
use crate::device::cpu::threads;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::op::{Reduction, ScatterMode};

/// Fewer lines than this do not fill lanes that run across them.
const LINES_MIN: usize = 32;

/// One sweep over `lines` lines of `n` points.
struct Sweep {
    lines: usize,
    n: usize,
    /// The variable along a line.
    along: Var,
    /// Whether lanes run across lines.
    across: bool,
    code: Compiled,
    block: usize,
}

impl Sweep {
    fn new(
        kernel: &Kernel,
        [lines, n]: [usize; 2],
        along: Var,
        across: bool,
        ask: impl FnOnce(&mut Builder) -> std::result::Result<(), String>,
    ) -> std::result::Result<Sweep, String> {
        let mut builder = Builder::new(kernel, &[O, along], if across { O } else { along }, 0, false);
        builder.pass();
        ask(&mut builder)?;
        let code = builder.finish();
        let block = block_lanes(code.registers, if across { lines } else { n });
        Ok(Sweep { lines, n, along, across, code, block })
    }

    /// Calls `f` for each block of lanes of the lines `from..to`: points of a line come in order.
    /// It is given the first line and point of the block.
    fn run(&self, run: &Run, from: usize, to: usize, mut f: impl FnMut(&mut Frame, &Pass, usize, usize)) {
        let mut frame = run.frame(&self.code, self.block);
        let Some(pass) = self.code.passes.first() else { return };
        frame.run(&pass.levels[0]);
        let (lines_step, point_step) = if self.across { (self.block, 1) } else { (1, self.block) };
        for o in (from..to).step_by(lines_step) {
            frame.set_var(O, o);
            frame.n = self.block.min(to - o);
            frame.run(&pass.levels[1]);
            for i in (0..self.n).step_by(point_step) {
                frame.set_var(self.along, i);
                if !self.across {
                    frame.n = self.block.min(self.n - i);
                }
                frame.run(&pass.levels[2]);
                f(&mut frame, pass, o, i);
            }
        }
    }

    fn work(&self) -> usize {
        self.lines.saturating_mul(self.n).saturating_mul(self.code.work().max(1))
    }
}

/// Runs `f` over ranges of `lines` lines.
fn split(run: &Run, lines: usize, work: usize, f: impl Fn(&Run, usize, usize) -> Result<()> + Sync) -> Result<()> {
    if lines == 0 {
        return Ok(());
    }
    let run = &run.worth(work);
    let size = lines.div_ceil(threads::tasks(run.parallel));
    threads::each(run.parallel, lines.div_ceil(size), |task| f(run, task * size, lines.min((task + 1) * size)))
}

/// Whether lanes should run across lines when `(o, along)` is at `index`.
fn is_across(index: &Lin, lines: usize, along: Var) -> bool {
    let near = |v: Var| {
        let of = |(atom, c): &(Atom, i64)| matches!(atom, Atom::Var(w, _) if *w == v).then_some(c.unsigned_abs());
        index.terms.iter().find_map(of).unwrap_or(u64::MAX)
    };
    lines >= LINES_MIN && near(along) != 1
}

/// A [`Scatter`] ready to run.
pub(super) struct Scattering {
    base: Sweep,
    updates: Sweep,
    mode: ScatterMode,
    dtype: DType,
    axis: usize,
    out: usize,
}

impl Scattering {
    pub(super) fn new(kernel: &Kernel, spec: &Scatter) -> std::result::Result<Scattering, String> {
        let across = is_across(&spec.out_index, spec.lines, I);
        let put = |value, index: Lin| Store { buffer: spec.out, index, value, each_element: true };
        let base = Sweep::new(kernel, [spec.lines, spec.axis], I, across, |builder| {
            builder.put(&put(spec.base, spec.out_index.clone()), true)
        })?;
        let at = |atom: &Atom| matches!(atom, Atom::Var(I, _)).then(|| Lin::value(spec.index, spec.axis));
        let target = spec.out_index.replace(&at);
        let updates = Sweep::new(kernel, [spec.lines, spec.updates], J, across, |builder| {
            builder.value(spec.index)?;
            builder.put(&put(spec.value, target), true)
        })?;
        let dtype = kernel.buffers.get(spec.out).map_or(DType::F32, |buffer| buffer.dtype);
        if dtype.bytes() != 4 {
            return Err(format!("a scatter into {dtype}"));
        }
        Ok(Scattering { base, updates, mode: spec.mode, dtype, axis: spec.axis, out: spec.out })
    }

    pub(super) fn run(&self, run: &Run) -> Result<()> {
        let Some(view) = run.views.get(self.out) else { return Ok(()) };
        split(run, self.base.lines, self.base.work().saturating_add(self.updates.work()), |run, from, to| {
            self.base.run(run, from, to, |frame, pass, _, _| {
                pass.puts.iter().for_each(|put| frame.store(put.buffer, &put.index, put.value));
            });
            let mut target = vec![0; self.updates.block];
            self.updates.run(run, from, to, |frame, pass, _, _| self.update(frame, pass, view, &mut target));
            Ok(())
        })
    }

    fn update(&self, frame: &Frame, pass: &Pass, view: &View, target: &mut [u32]) {
        let ([index], [put]) = (&pass.values[..], &pass.puts[..]) else { return };
        let target = &mut target[..frame.n];
        put.index.lanes(frame, target);
        let values = frame.lanes(put.value, frame.n);
        for ((&index, &target), &value) in frame.lanes(*index, frame.n).iter().zip(&*target).zip(values) {
            // As bits, a negative index is greater than every other.
            if index >= 1 << 31 || index as usize >= self.axis {
                frame.raise(0);
                continue;
            }
            let at = i64::from(target);
            view.set(
                at,
                match (self.mode, self.dtype) {
                    (ScatterMode::Set, _) => value,
                    (_, DType::F32) => (f32::from_bits(view.get(at)) + f32::from_bits(value)).to_bits(),
                    _ => view.get(at).wrapping_add(value),
                },
            );
        }
    }
}

/// A [`Scan`] ready to run.
pub(super) struct Scanning {
    sweep: Sweep,
    carry: Carry,
}

/// How elements combine, and what a line begins with.
#[derive(Clone, Copy)]
enum Carry {
    Float(f64, fn(f64, f64) -> f64),
    Bits(u32, fn(u32, u32) -> u32),
}

impl Carry {
    fn new(kind: Reduction, dtype: DType) -> Carry {
        let start = kind.identity(dtype);
        let signed = dtype.compute() == DType::I32;
        match (kind, dtype.is_float()) {
            (Reduction::Sum, true) => Carry::Float(0.0, |x, z| x + z),
            (Reduction::Prod, true) => Carry::Float(1.0, |x, z| x * z),
            (Reduction::Max, true) => Carry::Float(start.as_f64(), |x, z| if x.is_nan() || x > z { x } else { z }),
            (Reduction::Min, true) => Carry::Float(start.as_f64(), |x, z| if x.is_nan() || x < z { x } else { z }),
            (Reduction::Sum, false) => Carry::Bits(0, u32::wrapping_add),
            (Reduction::Prod, false) => Carry::Bits(1, u32::wrapping_mul),
            (Reduction::Max, false) if signed => Carry::Bits(start.bits(dtype), |x, z| (x as i32).max(z as i32) as u32),
            (Reduction::Min, false) if signed => Carry::Bits(start.bits(dtype), |x, z| (x as i32).min(z as i32) as u32),
            (Reduction::Max, false) => Carry::Bits(start.bits(dtype), u32::max),
            (Reduction::Min, false) => Carry::Bits(start.bits(dtype), u32::min),
        }
    }
}

impl Scanning {
    pub(super) fn new(kernel: &Kernel, spec: &Scan) -> std::result::Result<Scanning, String> {
        let across = is_across(&spec.store.index, spec.lines, I);
        let sweep = Sweep::new(kernel, [spec.lines, spec.n], I, across, |builder| {
            builder.value(spec.value)?;
            builder.put(&Store { value: spec.value, ..spec.store.clone() }, true)
        })?;
        let dtype = kernel.dtypes.get(spec.value as usize).copied().unwrap_or(DType::F32);
        Ok(Scanning { sweep, carry: Carry::new(spec.kind, dtype) })
    }

    pub(super) fn run(&self, run: &Run) -> Result<()> {
        split(run, self.sweep.lines, self.sweep.work(), |run, from, to| {
            let carries = if self.sweep.across { self.sweep.block } else { 1 };
            match self.carry {
                Carry::Float(start, op) => {
                    let widen = |x| f64::from(f32::from_bits(x));
                    self.lines(run, [from, to], &mut vec![start; carries], start, |carry, x| {
                        *carry = op(*carry, widen(x));
                        (*carry as f32).to_bits()
                    });
                }
                Carry::Bits(start, op) => self.lines(run, [from, to], &mut vec![start; carries], start, |carry, x| {
                    *carry = op(*carry, x);
                    *carry
                }),
            }
            Ok(())
        })
    }

    fn lines<T: Copy>(
        &self,
        run: &Run,
        [from, to]: [usize; 2],
        carries: &mut [T],
        start: T,
        step: impl Fn(&mut T, u32) -> u32,
    ) {
        let (mut sums, mut scratch) = (vec![0; self.sweep.block], vec![0; self.sweep.block]);
        self.sweep.run(run, from, to, |frame, pass, _, i| {
            let ([value], [put]) = (&pass.values[..], &pass.puts[..]) else { return };
            if i == 0 {
                carries.fill(start);
            }
            let sums = &mut sums[..frame.n];
            let lanes = sums.iter_mut().zip(frame.lanes(*value, frame.n));
            match carries {
                [carry] => lanes.for_each(|(sum, x)| *sum = step(carry, *x)),
                _ => lanes.zip(carries.iter_mut()).for_each(|((sum, x), carry)| *sum = step(carry, *x)),
            }
            frame.store_words(put.buffer, &put.index, sums, &mut scratch);
        });
    }
}

/// A [`Sort`] ready to run.
pub(super) struct Sorting(Sort);

impl Sorting {
    pub(super) fn new(kernel: &Kernel, spec: &Sort) -> std::result::Result<Sorting, String> {
        let numel = spec.lines.checked_mul(spec.n).ok_or("too many keys")?;
        let used = [Some(spec.keys), spec.runs, Some(spec.out)];
        let fits =
            |at: usize| kernel.buffers.get(at).is_some_and(|buffer| buffer.numel >= numel && buffer.dtype.bytes() == 4);
        if spec.stride == 0
            || !spec.lines.is_multiple_of(spec.stride)
            || !used.into_iter().flatten().all(fits)
            || (spec.merge > 0 && spec.runs.is_none())
        {
            return Err("its buffers do not fit".into());
        }
        Ok(Sorting(spec.clone()))
    }

    pub(super) fn run(&self, run: &Run) -> Result<()> {
        let Sort { lines, n, stride, block, merge, .. } = self.0;
        let work = lines.saturating_mul(n).saturating_mul(16);
        split(run, lines, work, |run, from, to| {
            let (keys, out) = (&run.views[self.0.keys], &run.views[self.0.out]);
            let room = || run.pool.take(n as u64 * 4);
            let mut pairs: Vec<u64> = Vec::new();
            let (mut key, mut order, mut sorted) = (room()?, room()?, room()?);
            let (key, order, sorted) = (key.words_mut(), order.words_mut(), sorted.words_mut());
            for line in from..to {
                let (start, step) = ((line / stride * stride * n + line % stride) as i64, stride as i64);
                keys.load(start, step, key);
                let by_key = |&at: &u32| key.get(at as usize).copied().unwrap_or(u32::MAX);
                match self.0.runs.filter(|_| merge > 0) {
                    None => {
                        // Positions settle ties, so a sort that needs no memory is stable too.
                        pairs.clear();
                        pairs.extend(key.iter().zip(0..).map(|(&key, at)| u64::from(key) << 32 | at));
                        pairs.chunks_mut(block.max(1)).for_each(<[u64]>::sort_unstable);
                        sorted.iter_mut().zip(&pairs).for_each(|(at, &pair)| *at = pair as u32);
                    }
                    Some(runs) => {
                        run.views[runs].load(start, step, order);
                        for (pair, out) in
                            order.chunks(merge.saturating_mul(2)).zip(sorted.chunks_mut(merge.saturating_mul(2)))
                        {
                            let (mut left, mut right) = pair.split_at(merge.min(pair.len()));
                            for out in out {
                                // The left run wins a tie: that is what makes the sort stable.
                                let from = match (left.first(), right.first()) {
                                    (Some(x), Some(z)) if by_key(z) < by_key(x) => &mut right,
                                    (Some(_), _) => &mut left,
                                    _ => &mut right,
                                };
                                if let Some((first, rest)) = from.split_first() {
                                    (*out, *from) = (*first, rest);
                                }
                            }
                        }
                    }
                }
                out.store(start, step, sorted);
            }
            Ok(())
        })
    }
}
