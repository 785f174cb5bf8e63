//! Matrix products.
//!
//! An operand that is a plain strided load goes to the product as it lies; any other comes through
//! a packed panel: copied by each tile, a few terms of its sums at a time, where it is only a view,
//! and computed beforehand where it is more. The result is cut into tiles by shape alone; a tile
//! whose sums are stored as they are is written in place, any other goes through a scratch tile and
//! the store expressions.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Access, Buffer, Dot, Expr, ExprId, I, J, K, Kernel, Kind, O};
use crate::device::cpu::check::is_apart;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::cpu::edged::Edged;
use crate::device::cpu::index::{Index, only, range};
#[cfg(not(target_arch = "wasm32"))]
use crate::device::cpu::lanes::Frame;
use crate::device::cpu::lanes::Place;
use crate::device::cpu::loops::flattened;
use crate::device::cpu::memory::{Binding, View};
use crate::device::cpu::panel::Panel;
use crate::device::cpu::patches::Patches;
use crate::device::cpu::product::multiply_packed;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::cpu::product::{Matrix, multiply};
use crate::device::cpu::program::Run;
use crate::device::cpu::threads;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::source::ALL_KERNELS;

/// Rows of a tile.
const TILE_ROWS: usize = 192;
/// Columns of a tile.
const TILE_COLUMNS: usize = 512;
/// Tiles that a product is cut into, if it has as many times the fewest rows.
const TILES_MIN: usize = 4;
const ROWS_MIN: usize = 32;
/// Words a panel of right operands may have.
const PANEL_WORDS: usize = 1 << 26;
/// Terms and columns that a panel of patches has: it stays in the cache of a core, and a row of it
/// fills the registers of every processor's kernel a whole number of times.
const PATCH_BLOCK: [usize; 2] = [352, 192];
/// Sums of a panel of few terms.
const PATCH_SUMS: usize = 1 << 16;
/// Where lines of patches run along the terms: as many terms, and so many words.
const PATCH_LINE: [usize; 2] = [768, 1 << 17];
/// Rows of a tile of patches.
const PATCH_ROWS: usize = 1024;
/// Rows and terms from which on right operands that lie along the terms are turned beforehand.
const TURN_ROWS: usize = 256;
const TURN_TERMS: usize = 256;
/// Words that are turned for all tiles of rows at once,
const TURN_WORDS: usize = 1 << 20;
/// and terms and columns of a piece.
#[cfg(not(target_arch = "wasm32"))]
const TURN_BLOCK: [usize; 2] = [64, 64];
/// Columns under which several rows of results are stored at once.
const FLAT_COLUMNS: usize = 128;
/// Words of left operands that are copied once for all tiles.
const WHOLE_WORDS: usize = 1 << 18;

/// A [`Dot`] ready to run.
pub(super) struct Product {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    dtype: DType,
    lhs: Operand,
    rhs: Operand,
    out: Out,
    tile: [usize; 2],
    /// Terms and columns that a tile takes at a time.
    block: [usize; 2],
    /// Whether a view of left operands is copied once for all tiles.
    whole: bool,
    /// How far apart rows and columns of a scratch tile are.
    steps: [usize; 2],
    /// Columns that share one panel of the right operand.
    slab: usize,
    /// Patches that are better not written out.
    #[cfg(not(target_arch = "wasm32"))]
    edged: Option<Edged>,
}

#[cfg_attr(
    target_arch = "wasm32",
    allow(dead_code, reason = "gemm reads strided operands, our own kernel packed ones")
)]
enum Operand {
    /// A strided view of a buffer.
    Plain(Strided),
    /// A right one of columns that lie side by side along the terms: turned once for all tiles.
    Turned(Strided),
    /// Any other view.
    Patches(Patches),
    /// Expressions.
    Computed(Panel),
}

#[cfg_attr(
    target_arch = "wasm32",
    allow(dead_code, reason = "gemm reads strided operands, our own kernel packed ones")
)]
enum Out {
    /// The sums as they are.
    Plain(Strided),
    /// Store expressions over the sums of a tile, which are the kernel's last buffer.
    Computed(Panel),
    /// The same over the elements of whole rows, by their number.
    Flat(Panel),
}

/// Element `(o, a, b)` at `offset(o) + a * strides[0] + b * strides[1]`.
#[cfg_attr(
    target_arch = "wasm32",
    allow(dead_code, reason = "gemm reads strided operands, our own kernel packed ones")
)]
struct Strided {
    buffer: usize,
    /// Along the batch.
    offset: Index,
    strides: [i64; 2],
}

impl Product {
    pub(super) fn new(kernel: &Kernel, spec: &Dot) -> std::result::Result<Product, String> {
        let Dot { batch, m, n, k, .. } = *spec;
        let dtype = spec.dtype.compute();
        // Skinny products are cut into narrower tiles, so that there is work for several threads.
        let columns = if m >= 32 { TILE_COLUMNS } else { ((1 << 19) / k.max(1)).clamp(64, TILE_COLUMNS * 4) };
        let even = |n: usize, most: usize| n.max(1).div_ceil(n.max(1).div_ceil(most)).next_multiple_of(16);
        let rhs = operand(kernel, spec, spec.rhs, [(K, k), (J, n)])?;
        let lhs = operand(kernel, spec, spec.lhs, [(I, m), (K, k)])?;
        // Our own kernel adds all terms at once.
        let packed = cfg!(target_arch = "wasm32") || dtype != DType::F32;
        let across_terms = matches!(&rhs, Operand::Patches(patches) if !patches.down());
        let along_terms = matches!(&rhs, Operand::Patches(patches) if patches.down());
        let depth = match &lhs {
            _ if packed => usize::MAX,
            _ if across_terms => PATCH_BLOCK[0],
            Operand::Patches(_) => PATCH_LINE[0],
            _ if along_terms => PATCH_LINE[0],
            _ => usize::MAX,
        };
        let depth = k.max(1).div_ceil(k.max(1).div_ceil(depth));
        let whole = matches!(lhs, Operand::Patches(_)) && !along_terms && !packed && m.saturating_mul(k) <= WHOLE_WORDS;
        let slab = match rhs {
            Operand::Computed(_) => (PANEL_WORDS / k.max(1)).max(TILE_COLUMNS),
            Operand::Turned(_) => (TURN_WORDS / k.max(1)).max(TILE_COLUMNS),
            Operand::Plain(_) | Operand::Patches(_) => n,
        };
        let mut most = [TILE_ROWS, columns];
        // A panel of few terms has as many more columns, unless they are too many sums: each takes some making ready.
        let more = (PATCH_BLOCK[0] / depth).min(PATCH_SUMS / PATCH_BLOCK[1] / m.max(1)).max(1);
        let wide = PATCH_BLOCK[1] * more;
        if matches!(rhs, Operand::Patches(_)) {
            // Other tiles of these columns would copy the same panel.
            let (columns, most_columns) = match across_terms && !packed {
                true => (3 * wide, TILE_COLUMNS.max(wide) * 4),
                false => (PATCH_LINE[1] / depth, TILE_COLUMNS * 4),
            };
            most = [PATCH_ROWS, columns.min(n.div_ceil(TILES_MIN)).clamp(64, most_columns)];
        } else if matches!(lhs, Operand::Computed(_)) && m > TILE_ROWS {
            // A panel of left operands would be computed again for each tile of columns.
            most[1] = columns.max(4096);
        }
        let across = batch.max(1) * n.max(1).div_ceil(most[1]);
        // A product of few tiles is cut into shorter ones, so that several threads have work.
        if across * m.div_ceil(most[0]) < TILES_MIN {
            most[0] = match across {
                1 => m.div_ceil(TILES_MIN).max(if n < 32 { 16 } else { ROWS_MIN }),
                _ if matches!(rhs, Operand::Patches(_)) => most[0],
                _ => m.div_ceil(TILES_MIN).max(ROWS_MIN),
            };
        }
        let tile = [even(m, most[0]), even(n.min(slab), most[1])];
        let width = if across_terms && !packed { even(tile[1], wide) } else { tile[1] };
        // Panels of both operands whose lines run along the terms are multiplied best by columns.
        #[cfg(not(target_arch = "wasm32"))]
        let edged = if packed { None } else { Edged::new(kernel, spec) };
        #[cfg(not(target_arch = "wasm32"))]
        let alone = edged.as_ref().map(Edged::width);
        #[cfg(target_arch = "wasm32")]
        let alone = None;
        let flat = ALL_KERNELS && !along_terms && n < FLAT_COLUMNS && n <= tile[1];
        let steps = match alone {
            Some(width) => [width, 1],
            None if flat => [n, 1],
            None if along_terms => [1, tile[0]],
            None => [tile[1], 1],
        };
        let out = Out::new(kernel, spec, tile, steps, flat, alone.is_none())?;
        Ok(Product {
            batch,
            m,
            n,
            k,
            dtype,
            lhs,
            rhs,
            out,
            tile,
            block: [depth, width],
            whole,
            steps,
            slab,
            #[cfg(not(target_arch = "wasm32"))]
            edged,
        })
    }

    pub(super) fn run(&self, run: &Run) -> Result<()> {
        let Product { batch, m, n, k, .. } = *self;
        if batch == 0 || m == 0 || n == 0 {
            return Ok(());
        }
        let run = &run.worth(batch.saturating_mul(m).saturating_mul(n).saturating_mul(k.max(1)) / 4);
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(edged) = &self.edged {
            return threads::each(run.parallel, batch * edged.tasks(), |task| {
                let (o, task) = (task / edged.tasks(), task % edged.tasks());
                edged.multiply(run, o, task, |columns, sums| self.store(run, o, [0, m], columns, sums))
            });
        }
        if batch >= 2 * threads::threads() {
            let alone = &Run { parallel: false, ..*run };
            threads::each(run.parallel, batch, |o| self.matrix(alone, o))
        } else {
            (0..batch).try_for_each(|o| self.matrix(run, o))
        }
    }

    /// Stores what the store expressions make of the sums of `rows` and `columns` of batch `o`.
    fn store(&self, run: &Run, o: usize, rows: [usize; 2], columns: [usize; 2], sums: &mut [u32]) {
        let (Out::Computed(panel) | Out::Flat(panel)) = &self.out else { return };
        let mut views = run.views.to_vec();
        let origin = rows[0] * self.steps[0] + columns[0] * self.steps[1];
        views.push(View::scratch(sums, self.dtype, origin).to_read());
        let run = Run { views: &views, ..*run };
        let (rows, columns) = match self.out {
            Out::Flat(_) => ([0, 1], rows.map(|row| row * self.n)),
            Out::Plain(_) | Out::Computed(_) => (rows, columns),
        };
        panel.sweep(run.frame(&panel.code, panel.block), o, (I, rows), columns, |frame, _| {
            for put in panel.code.passes.iter().flat_map(|pass| &pass.puts) {
                frame.store(put.buffer, &put.index, put.value);
            }
        });
    }

    /// The product of batch `o`.
    fn matrix(&self, run: &Run, o: usize) -> Result<()> {
        for start in (0..self.n).step_by(self.slab) {
            let columns = [start, self.n.min(start + self.slab)];
            let width = columns[1] - columns[0];
            let panel = match &self.rhs {
                Operand::Plain(_) | Operand::Patches(_) => None,
                Operand::Computed(_) | Operand::Turned(_) => {
                    let mut memory = run.pool.take(self.k as u64 * width as u64 * 4)?;
                    let mut binding = Binding::Write(memory.words_mut());
                    // SAFETY: each task below writes rows of its own.
                    let view = unsafe { View::new(&mut binding, DType::U32, self.k * width, true) };
                    if let Some(view) = view {
                        let size = self.k.div_ceil(threads::tasks(run.parallel)).max(1);
                        threads::each(run.parallel, self.k.div_ceil(size), |task| {
                            let rows = [task * size, self.k.min((task + 1) * size)];
                            match &self.rhs {
                                Operand::Computed(panel) => panel.fill(run, o, (K, rows), columns, &view, width),
                                #[cfg(not(target_arch = "wasm32"))]
                                Operand::Turned(at) => at.turn(run, o, rows, columns, &view),
                                _ => {}
                            }
                            Ok(())
                        })?;
                    }
                    Some(memory)
                }
            };
            let rhs = panel.as_ref().map_or(&[][..], |memory| memory.words());
            let mut left = None;
            if let (Operand::Patches(patches), true) = (&self.lhs, self.whole) {
                let memory = left.insert(run.pool.take(self.m as u64 * self.k as u64 * 4)?);
                patches.fill(run, o, [[0, self.m], [0, self.k]], memory.words_mut());
            }
            let lhs = left.as_ref().map_or(&[][..], |memory| memory.words());
            let (down, across) = (self.m.div_ceil(self.tile[0]), width.div_ceil(self.tile[1]));
            threads::each(run.parallel, down * across, |task| {
                let (i, j) = (task / across * self.tile[0], columns[0] + task % across * self.tile[1]);
                let rows = [i, self.m.min(i + self.tile[0])];
                self.tile(run, o, rows, [j, columns[1].min(j + self.tile[1])], [lhs, rhs], columns)
            })?;
        }
        Ok(())
    }

    /// The elements `rows` and `columns` of batch `o`; `panels` are the operands that were made ready
    /// for all tiles, the right ones of the columns `slab`.
    fn tile(
        &self,
        run: &Run,
        o: usize,
        rows: [usize; 2],
        columns: [usize; 2],
        panels: [&[u32]; 2],
        slab: [usize; 2],
    ) -> Result<()> {
        let [m, n] = [rows[1] - rows[0], columns[1] - columns[0]];
        let [depth, width] = self.block;
        let room = |words: usize| run.pool.take(words as u64 * 4);
        let mut left = match &self.lhs {
            Operand::Patches(_) if !self.whole => Some(room(depth * m)?),
            Operand::Plain(_) | Operand::Turned(_) | Operand::Patches(_) => None,
            Operand::Computed(_) => Some(room(self.k * m)?),
        };
        if let (Operand::Computed(code), Some(memory)) = (&self.lhs, &mut left) {
            let view = View::scratch(memory.words_mut(), DType::U32, rows[0] * self.k);
            code.fill(run, o, (I, rows), [0, self.k], &view, self.k);
        }
        let mut right = match &self.rhs {
            Operand::Patches(_) => Some(room(depth * width.min(n))?),
            _ => None,
        };
        let mut sums = match &self.out {
            Out::Plain(_) => None,
            Out::Computed(_) | Out::Flat(_) => {
                Some(room(if self.steps[1] == 1 { m * self.steps[0] } else { n * self.steps[1] })?)
            }
        };
        for start in (0..self.k.max(1)).step_by(depth) {
            let terms = [start, self.k.min(start + depth)];
            if let (Operand::Patches(patches), Some(memory)) = (&self.lhs, &mut left) {
                patches.fill(run, o, [rows, terms], memory.words_mut());
            }
            let lhs = left.as_ref().map_or(panels[0], |memory| memory.words());
            for first in (columns[0]..columns[1]).step_by(width) {
                let block = [first, columns[1].min(first + width)];
                if let (Operand::Patches(patches), Some(memory)) = (&self.rhs, &mut right) {
                    patches.fill(run, o, [terms, block], memory.words_mut());
                }
                let (rhs, slab) = right.as_ref().map_or((panels[1], slab), |memory| (memory.words(), block));
                let room =
                    sums.as_mut().and_then(|memory| memory.words_mut().get_mut((first - columns[0]) * self.steps[1]..));
                self.multiply(run, o, [rows, block, terms], lhs, rhs, slab, room.unwrap_or(&mut []));
            }
        }
        if let Some(sums) = &mut sums {
            self.store(run, o, rows, columns, sums.words_mut());
        }
        Ok(())
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn multiply(
        &self,
        run: &Run,
        o: usize,
        [rows, columns, terms]: [[usize; 2]; 3],
        lhs: &[u32],
        rhs: &[u32],
        slab: [usize; 2],
        sums: &mut [u32],
    ) {
        if self.dtype != DType::F32 {
            return self.multiply_packed(columns, lhs, rhs, slab, sums);
        }
        let [m, n, k] = [rows, columns, terms].map(|[from, to]| to - from);
        let mut frame = Frame::new(0, 0, 0, run.views, run.faults);
        frame.set_var(O, o);
        let matrix = |at: &Strided| Matrix {
            start: run.views[at.buffer].pointer(at.offset.piece(&frame, 0).value),
            row: at.strides[0] as isize,
            column: at.strides[1] as isize,
        };
        let packed = |start: *const u32, [row, column]: [usize; 2]| Matrix {
            start: start.cast_mut().cast(),
            row: row as isize,
            column: column as isize,
        };
        let lhs = match &self.lhs {
            Operand::Plain(at) | Operand::Turned(at) => matrix(at).part(rows[0], terms[0]),
            Operand::Patches(patches) if self.whole => {
                packed(lhs.as_ptr(), if patches.down() { [1, self.m] } else { [self.k, 1] }).part(rows[0], terms[0])
            }
            Operand::Patches(patches) => packed(lhs.as_ptr(), if patches.down() { [1, m] } else { [k, 1] }),
            Operand::Computed(_) => packed(lhs.as_ptr(), [self.k, 1]).part(0, terms[0]),
        };
        let rhs = match &self.rhs {
            Operand::Plain(at) => matrix(at).part(terms[0], columns[0]),
            Operand::Patches(patches) => packed(rhs.as_ptr(), if patches.down() { [1, k] } else { [n, 1] }),
            Operand::Computed(_) | Operand::Turned(_) => {
                packed(rhs.as_ptr(), [slab[1] - slab[0], 1]).part(terms[0], columns[0] - slab[0])
            }
        };
        let y = match &self.out {
            Out::Plain(at) => matrix(at).part(rows[0], columns[0]),
            Out::Computed(_) | Out::Flat(_) => packed(sums.as_mut_ptr(), self.steps),
        };
        // SAFETY: `Strided::new` proved that plain operands and the plain result stay inside
        // their buffers, that the operands' buffers are only read, and that elements of the
        // result are apart, so that no other tile has them; panels and sums hold k words for each
        // row, k for each column of the slab, panels of patches as many words for each line as a
        // line has terms, rows or columns, and sums a tile's rows or columns for each of the others;
        // `tile` cuts them at its block.
        unsafe { multiply([m, n, k], y, lhs, rhs, terms[0] > 0) };
    }

    #[cfg(target_arch = "wasm32")]
    fn multiply(
        &self,
        _: &Run,
        _: usize,
        [_, columns, _]: [[usize; 2]; 3],
        lhs: &[u32],
        rhs: &[u32],
        slab: [usize; 2],
        sums: &mut [u32],
    ) {
        self.multiply_packed(columns, lhs, rhs, slab, sums);
    }

    fn multiply_packed(&self, columns: [usize; 2], lhs: &[u32], rhs: &[u32], slab: [usize; 2], sums: &mut [u32]) {
        let (width, first, n) = (slab[1] - slab[0], columns[0] - slab[0], columns[1] - columns[0]);
        let rhs = rhs.get(first..).unwrap_or(&[]);
        match self.dtype {
            DType::F32 => multiply_packed::<f32>(self.k, n, lhs, rhs, width, sums, self.steps[0]),
            _ => multiply_packed::<u32>(self.k, n, lhs, rhs, width, sums, self.steps[0]),
        }
    }
}

/// The left or right operand `id` over two variables with their extents.
fn operand(kernel: &Kernel, spec: &Dot, id: ExprId, vars: [(Var, usize); 2]) -> std::result::Result<Operand, String> {
    if let Some(Expr::Load { buffer, index, mask: None }) = kernel.body.get(id as usize)
        && kernel.buffers.get(*buffer).is_some_and(|buffer| buffer.access == Access::Read)
        && let Some(at) = Strided::new(kernel, spec, *buffer, index, vars)
    {
        let turned =
            vars[0].0 == K && at.strides[0] == 1 && at.strides[1] != 1 && spec.m >= TURN_ROWS && spec.k >= TURN_TERMS;
        return Ok(if turned { Operand::Turned(at) } else { Operand::Plain(at) });
    }
    // Our own kernel wants lines of rows.
    let packed = cfg!(target_arch = "wasm32") || spec.dtype.compute() != DType::F32;
    match Patches::new(kernel, id, vars).filter(|patches| !packed || !patches.down()) {
        Some(patches) => Ok(Operand::Patches(patches)),
        None => Panel::new(kernel, vars, |builder| builder.value(id)).map(Operand::Computed),
    }
}

impl Strided {
    /// `index` as strides, when rows and columns are linear in it, it is inside the buffer, and for
    /// floats of this host.
    fn new(kernel: &Kernel, spec: &Dot, buffer: usize, index: &Lin, vars: [(Var, usize); 2]) -> Option<Strided> {
        let target = kernel.buffers.get(buffer)?;
        if cfg!(target_arch = "wasm32") || target.dtype != DType::F32 || spec.dtype.compute() != DType::F32 {
            return None;
        }
        let mut offset = Lin::constant(index.constant);
        let mut strides = [0; 2];
        let extents = [(O, spec.batch), vars[0], vars[1]];
        // The range counts on extents that are these.
        let mut known = true;
        index.visit(&mut |atom| match atom {
            Atom::Var(v, n) => known &= extents.iter().any(|(var, extent)| var == v && extent <= n),
            Atom::Value(..) => known = false,
            Atom::Div(..) | Atom::Mod(..) => {}
        });
        for (atom, c) in &index.terms {
            match (atom, vars.iter().position(|(var, _)| matches!(atom, Atom::Var(v, _) if v == var))) {
                (_, Some(at)) => strides[at] += c,
                _ if only(atom, O) => offset.terms.push((atom.clone(), *c)),
                _ => return None,
            }
        }
        let (lo, hi) = range(index);
        let offset = Index::new(&offset, O, &mut |_| Place::Uniform(0));
        (known && lo >= 0 && hi < target.numel as i128).then_some(Strided { buffer, offset, strides })
    }

    /// Writes terms and columns of batch `o` to `panel`, whose lines are terms.
    #[cfg(not(target_arch = "wasm32"))]
    fn turn(&self, run: &Run, o: usize, terms: [usize; 2], columns: [usize; 2], panel: &View) {
        let mut frame = Frame::new(0, 0, 0, run.views, run.faults);
        frame.set_var(O, o);
        let (start, width) = (self.offset.piece(&frame, 0).value, columns[1] - columns[0]);
        let mut block = [[0; TURN_BLOCK[1]]; TURN_BLOCK[0]];
        for k in (terms[0]..terms[1]).step_by(TURN_BLOCK[0]) {
            let depth = TURN_BLOCK[0].min(terms[1] - k);
            for j in (columns[0]..columns[1]).step_by(TURN_BLOCK[1]) {
                let n = TURN_BLOCK[1].min(columns[1] - j);
                for c in 0..n {
                    let at = start + k as i64 + self.strides[1] * (j + c) as i64;
                    let line = run.views[self.buffer].lying(at, depth).unwrap_or(&[]);
                    block.iter_mut().zip(line).for_each(|(row, x)| row[c] = *x);
                }
                for (row, line) in block[..depth].iter().enumerate() {
                    panel.store(((k + row) * width + j - columns[0]) as i64, 1, &line[..n]);
                }
            }
        }
    }
}

impl Out {
    fn new(
        kernel: &Kernel,
        spec: &Dot,
        tile: [usize; 2],
        steps: [usize; 2],
        flat: bool,
        plain: bool,
    ) -> std::result::Result<Out, String> {
        if plain
            && let [store] = &spec.stores[..]
            && kernel.body.get(store.value as usize) == Some(&Expr::Reduced(0))
            && is_apart(kernel, store.buffer)
            && let Some(at) = Strided::new(kernel, spec, store.buffer, &store.index, [(I, spec.m), (J, spec.n)])
        {
            return Ok(Out::Plain(at));
        }
        // The sums of a tile become a buffer, and `Reduced(0)` a load from it.
        let mut kernel = kernel.clone();
        let sums = kernel.buffers.len();
        let index = Lin::var(I, spec.m).times(steps[0] as i64).plus(&Lin::var(J, spec.n).times(steps[1] as i64));
        for expr in &mut kernel.body {
            if *expr == Expr::Reduced(0) {
                *expr = Expr::Load { buffer: sums, index: index.clone(), mask: None };
            }
        }
        let numel = spec.m.max(tile[0]).saturating_mul(spec.n.max(tile[1]));
        kernel.buffers.push(Buffer { slot: usize::MAX, dtype: spec.dtype.compute(), numel, access: Access::ReadWrite });
        let extents = [(I, spec.m), (J, spec.n)];
        let narrow = if flat { flattened(&kernel, extents, J) } else { None };
        let put = |kernel: &Kernel, extents: [(Var, usize); 2]| {
            let stores = if let Kind::Dot(spec) = &kernel.kind { &spec.stores[..] } else { &[] };
            Panel::new(kernel, extents, |builder| stores.iter().try_for_each(|store| builder.put(store, true)))
        };
        match narrow {
            Some(narrow) => put(&narrow, [(I, 1), (J, spec.m * spec.n)]).map(Out::Flat),
            None => put(&kernel, extents).map(Out::Computed),
        }
    }
}
