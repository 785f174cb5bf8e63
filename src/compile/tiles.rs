//! Tiles: how a GPU's products are cut, by whose it is and by their shape.
//!
//! Data that plans depend on, and the rule that chooses from it. Knows no shader text.

use crate::compile::kernel::Dot;
use crate::compile::plan::Target;

/// How a product is cut: the results of a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// Invocations along the columns.
    pub width: u32,
    /// Invocations along the rows.
    pub height: u32,
    /// Results of an invocation along the columns, 4 or 8.
    pub across: u32,
    /// Results of an invocation along the rows: 4 or 8, or 16 where a subgroup passes operands around.
    pub down: u32,
    /// Steps of the contraction that lie in workgroup memory at once; 0 where there are none.
    pub depth: u32,
}

impl Tile {
    /// Rows of a workgroup.
    pub fn rows(&self) -> usize {
        (self.height * self.down) as usize
    }

    /// Columns of a workgroup.
    pub fn columns(&self) -> usize {
        (self.width * self.across) as usize
    }

    /// Workgroups that compute `dims`: batch, rows and columns.
    pub fn groups(&self, [batch, m, n]: [usize; 3]) -> usize {
        batch.saturating_mul(m.div_ceil(self.rows())).saturating_mul(n.div_ceil(self.columns()))
    }

    /// Invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        self.width * self.height
    }

    /// Whether every invocation loads for itself.
    pub fn is_alone(&self) -> bool {
        self.depth == 0 && !self.is_passed_around()
    }

    /// Whether a workgroup is a subgroup that passes operands around.
    pub fn is_passed_around(&self) -> bool {
        self.down == 16
    }

    /// Bytes of workgroup memory.
    pub fn bytes(&self) -> u32 {
        4 * self.depth * (self.rows() + self.columns()) as u32
    }
}

/// 8 by 8 results an invocation, from memory.
const fn alone(width: u32, height: u32) -> Tile {
    Tile { width, height, across: 8, down: 8, depth: 0 }
}

/// A subgroup of `width` invocations that pass around what each of them loads of the rows.
const fn passed(width: u32) -> Tile {
    Tile { width, height: 1, across: 4, down: 16, depth: 0 }
}

/// `n` by `n` invocations of `each` by `each` results, from workgroup memory.
const fn shared(n: u32, each: u32, depth: u32) -> Tile {
    Tile { width: n, height: n, across: each, down: each, depth }
}

/// The tiles that products of a device may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// From the largest to the smallest.
    ladder: &'static [Tile],
    /// Workgroups that keep the device busy.
    busy: usize,
}

impl Tiles {
    /// A GPU with memory of its own; most of them are large.
    pub const DISCRETE: Tiles = Tiles::new(&[shared(16, 8, 16), shared(8, 8, 8), shared(8, 4, 16)], 128);
    /// A GPU that nothing is known of, as in a browser, or a small one.
    pub const PORTABLE: Tiles = Tiles::new(&[shared(8, 8, 8), shared(8, 4, 16)], 32);
    /// Intel's have few registers.
    pub const INTEL: Tiles = Tiles::new(&[shared(16, 4, 16), shared(8, 4, 8)], 32);
    /// On Apple's the caches serve neighbours as well.
    pub const APPLE: Tiles = Tiles::new(&[alone(8, 8)], 32);
    /// Where a processor stands in for a GPU, barriers are dear, and an invocation is a lane of eight.
    pub const SOFTWARE: Tiles = Tiles::new(&[alone(8, 1)], 1);
    /// The same, where subgroups are the processor's vectors of eight.
    pub const VECTORS: Tiles = Tiles::new(&[passed(8)], 1);
    /// The same, of four.
    pub const SHORT_VECTORS: Tiles = Tiles::new(&[passed(4)], 1);

    const fn new(ladder: &'static [Tile], busy: usize) -> Tiles {
        Tiles { ladder, busy }
    }

    /// Those that suit a device of which only its kind is known.
    pub const fn of(target: Target) -> Tiles {
        match target {
            Target::Gpu => Tiles::PORTABLE,
            Target::Cpu | Target::SoftwareGpu => Tiles::SOFTWARE,
        }
    }

    /// From the largest to the smallest.
    pub fn ladder(&self) -> &'static [Tile] {
        self.ladder
    }

    /// These with one tile only.
    pub fn only(&self, tile: &'static Tile) -> Tiles {
        Tiles { ladder: std::slice::from_ref(tile), ..*self }
    }

    /// Workgroups that keep the device busy.
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// The last of the ladder.
    pub fn smallest(&self) -> Tile {
        self.ladder.last().copied().unwrap_or(alone(8, 8))
    }

    /// The tile of a product: the largest one that leaves no part of the device idle.
    pub fn tile(&self, d: &Dot) -> Tile {
        let busy = |tile: &&Tile| tile.groups([d.batch, d.m, d.n]) >= self.busy;
        self.ladder.iter().find(busy).copied().unwrap_or_else(|| self.smallest())
    }

    /// Into how many parts a contraction of `k` steps that keeps `groups` workgroups busy is better
    /// cut, so that more have something to do; their number divides `whole`.
    pub fn parts(&self, groups: usize, k: usize, whole: usize) -> Option<usize> {
        let most = (2 * self.busy / groups.max(1)).min(k / PART_MIN);
        (2..=most).rev().find(|parts| whole.is_multiple_of(*parts))
    }
}

/// Steps that make a part worth its results' way through memory.
const PART_MIN: usize = 128;
