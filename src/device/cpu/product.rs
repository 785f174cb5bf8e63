//! Products of matrices in memory: the `gemm` crate for floats, and a kernel of ours for integers
//! and for the web.

#[cfg(not(target_arch = "wasm32"))]
pub(super) use float::{Matrix, multiply};

/// What a product multiplies and adds.
pub(super) trait Number: Copy {
    const ZERO: Self;
    const ONE: Self;
    fn of(bits: u32) -> Self;
    fn bits(self) -> u32;
    /// `self + x * z`.
    fn plus(self, x: Self, z: Self) -> Self;
}

impl Number for u32 {
    const ZERO: u32 = 0;
    const ONE: u32 = 1;
    fn of(bits: u32) -> u32 {
        bits
    }
    fn bits(self) -> u32 {
        self
    }
    fn plus(self, x: u32, z: u32) -> u32 {
        self.wrapping_add(x.wrapping_mul(z))
    }
}

impl Number for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    fn of(bits: u32) -> f32 {
        f32::from_bits(bits)
    }
    fn bits(self) -> u32 {
        self.to_bits()
    }
    fn plus(self, x: f32, z: f32) -> f32 {
        self + x * z
    }
}

/// Rows of a tile of the result held in registers.
const ROWS: usize = 4;
/// Columns of it.
const COLUMNS: usize = 16;
/// Terms added before a tile goes back to memory.
const DEPTH: usize = 512;

/// `out[i * stride + j] = sum over p of lhs[i * k + p] * rhs[p * width + j]`, for `j < n`.
pub(super) fn multiply_packed<T: Number>(
    k: usize,
    n: usize,
    lhs: &[u32],
    rhs: &[u32],
    width: usize,
    out: &mut [u32],
    stride: usize,
) {
    if n == 0 || stride < n {
        return;
    }
    out.fill(T::ZERO.bits());
    for depth in (0..k).step_by(DEPTH) {
        let end = k.min(depth + DEPTH);
        for (rows, out) in lhs.chunks(ROWS * k).zip(out.chunks_mut(ROWS * stride)) {
            for column in (0..n).step_by(COLUMNS) {
                let len = COLUMNS.min(n - column);
                let mut tile = [[T::ZERO; COLUMNS]; ROWS];
                for p in depth..end {
                    let mut line = [T::ZERO; COLUMNS];
                    let Some(from) = rhs.get(p * width + column..).and_then(|line| line.get(..len)) else { continue };
                    line.iter_mut().zip(from).for_each(|(x, &bits)| *x = T::of(bits));
                    for (row, tile) in rows.chunks_exact(k).zip(&mut tile) {
                        let x = T::of(row[p]);
                        tile.iter_mut().zip(&line).for_each(|(sum, &z)| *sum = sum.plus(x, z));
                    }
                }
                for (out, tile) in out.chunks_mut(stride).zip(&tile) {
                    let Some(out) = out.get_mut(column..column + len) else { continue };
                    out.iter_mut().zip(tile).for_each(|(out, &sum)| *out = T::of(*out).plus(sum, T::ONE).bits());
                }
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod float {
    /// Where element `(i, j)` lies: at `start + i * row + j * column`.
    #[derive(Clone, Copy)]
    pub(in crate::device::cpu) struct Matrix {
        pub start: *mut f32,
        pub row: isize,
        pub column: isize,
    }

    impl Matrix {
        /// The part that begins at `(i, j)`.
        pub(in crate::device::cpu) fn part(self, i: usize, j: usize) -> Matrix {
            let offset = (i as isize).wrapping_mul(self.row).wrapping_add((j as isize).wrapping_mul(self.column));
            Matrix { start: self.start.wrapping_offset(offset), ..self }
        }
    }

    /// `y = lhs · rhs`, `[m, k] · [k, n] -> [m, n]`, on this thread; with `more`, added to `y`.
    ///
    /// # Safety
    /// Every element of the three matrices is in memory that may be read, and for `y` written;
    /// nobody else writes them, or touches `y`, meanwhile; the elements of `y` are distinct.
    pub(in crate::device::cpu) unsafe fn multiply(
        [m, n, k]: [usize; 3],
        y: Matrix,
        lhs: Matrix,
        rhs: Matrix,
        more: bool,
    ) {
        // SAFETY: the caller's promise is what gemm asks for.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y.start,
                y.column,
                y.row,
                more,
                lhs.start,
                lhs.column,
                lhs.row,
                rhs.start,
                rhs.column,
                rhs.row,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[cfg(test)]
mod tests {
    use super::{Matrix, multiply, multiply_packed};

    #[test]
    fn both_kernels_agree() {
        for [m, n, k] in [[1, 1, 1], [3, 5, 7], [4, 16, 512], [5, 17, 513], [9, 40, 1100], [2, 3, 0]] {
            let element = |x: usize| ((x * 37 % 101) as f32 / 50.0 - 1.0).to_bits();
            let mut lhs: Vec<u32> = (0..m * k).map(element).collect();
            let mut rhs: Vec<u32> = (0..k * n).map(element).collect();
            let mut packed = vec![1; m * (n + 2)];
            multiply_packed::<f32>(k, n, &lhs, &rhs, n, &mut packed, n + 2);
            let mut y = vec![1.0f32; m * n];
            let at = |start: &mut [u32], row: usize| Matrix {
                start: start.as_mut_ptr().cast(),
                row: row as isize,
                column: 1,
            };
            let out = Matrix { start: y.as_mut_ptr(), row: n as isize, column: 1 };
            // SAFETY: the vectors hold m * k, k * n and m * n elements, and are this thread's own.
            unsafe { multiply([m, n, k], out, at(&mut lhs, k), at(&mut rhs, n), false) };
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let (got, want) = (f32::from_bits(packed[i * (n + 2) + j]), y[i * n + j]);
                assert!((got - want).abs() <= 1e-4, "[{i}, {j}] of {m} {n} {k}: {got}, not {want}");
            }
        }
    }
}
