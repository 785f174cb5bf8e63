//! [`Panel`]: expressions over rows and columns of a product: operands that are computed, results that are stored.

use crate::compile::index::Var;
use crate::compile::kernel::{Kernel, O};
use crate::device::cpu::code::{Builder, Compiled};
use crate::device::cpu::lanes::Frame;
use crate::device::cpu::memory::View;
use crate::device::cpu::program::{Run, block_lanes};

/// Expressions over a batch and two variables, the second of which the lanes run along.
pub(super) struct Panel {
    pub code: Compiled,
    slow: Var,
    lane: Var,
    pub block: usize,
}

impl Panel {
    pub(super) fn new(
        kernel: &Kernel,
        [rows, columns]: [(Var, usize); 2],
        ask: impl FnOnce(&mut Builder) -> Result<(), String>,
    ) -> Result<Panel, String> {
        let (slow, lane) = if columns.1 >= 32 || columns.1 >= rows.1 { (rows, columns) } else { (columns, rows) };
        // Rows innermost: what a block of lanes has in common in all of them stands outside.
        let mut builder = Builder::new(kernel, &[O, lane.0, slow.0], lane.0, 0, false);
        builder.pass();
        ask(&mut builder)?;
        let code = builder.finish();
        let block = block_lanes(code.registers, lane.1);
        Ok(Panel { code, slow: slow.0, lane: lane.0, block })
    }

    /// Computes rows and columns of batch `o` in blocks of lanes, and calls `f` with the frame,
    /// the row and the column of each.
    pub(super) fn sweep(
        &self,
        mut frame: Frame,
        o: usize,
        rows: (Var, [usize; 2]),
        columns: [usize; 2],
        mut f: impl FnMut(&mut Frame, [usize; 2]),
    ) {
        let Some(pass) = self.code.passes.first() else { return };
        let by_rows = rows.0 == self.slow;
        let ([slow, slow_end], [lane, lane_end]) = if by_rows { (rows.1, columns) } else { (columns, rows.1) };
        frame.set_var(O, o);
        frame.run(&pass.levels[0]);
        frame.run(&pass.levels[1]);
        for l in (lane..lane_end).step_by(self.block) {
            frame.set_var(self.lane, l);
            frame.n = self.block.min(lane_end - l);
            frame.run(&pass.levels[2]);
            for s in slow..slow_end {
                frame.set_var(self.slow, s);
                frame.run(&pass.levels[3]);
                f(&mut frame, if by_rows { [s, l] } else { [l, s] });
            }
        }
    }

    /// Computes `(rows, columns)` of batch `o` into `view`, whose rows are `stride` apart.
    pub(super) fn fill(
        &self,
        run: &Run,
        o: usize,
        rows: (Var, [usize; 2]),
        columns: [usize; 2],
        view: &View,
        stride: usize,
    ) {
        let step = if rows.0 == self.slow { 1 } else { stride as i64 };
        self.sweep(run.frame(&self.code, self.block), o, rows, columns, |frame, [row, column]| {
            let at = row * stride + (column - columns[0]);
            if let Some(value) = self.code.passes.first().and_then(|pass| pass.values.first()) {
                view.store(at as i64, step, frame.lanes(*value, frame.n));
            }
        });
    }
}
