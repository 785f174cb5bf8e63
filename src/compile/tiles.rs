//! Tiles: how a GPU's products are cut, by whose it is and by their shape.
//!
//! Data that plans depend on, and the rule that chooses from it. Knows no shader text.

use std::fmt;
use std::str::FromStr;

use crate::compile::kernel::Dot;
use crate::compile::plan::{Limits, Target};
use crate::graph::source::ALL_KERNELS;

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

/// Rows and columns of a workgroup, of an invocation, and the depth: no two tiles are written alike.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tile { across, down, depth, .. } = self;
        f.pad(&format!("{}x{}/{down}x{across}/{depth}", self.rows(), self.columns()))
    }
}

/// A product as far as its speed goes: what a tile is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Product {
    /// How many products of matrices it is.
    pub batch: usize,
    /// Rows of the left operand.
    pub m: usize,
    /// Columns of the right operand.
    pub n: usize,
    /// Steps of the contraction.
    pub k: usize,
    /// How the left and the right operand are read.
    pub operands: [Operand; 2],
}

/// How an operand of a product is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operand {
    /// Whether neighbours along the contraction are neighbours in memory.
    pub along_k: bool,
    /// Whether elements are whole words and read as they lie, not computed on the way, as the patches
    /// of a convolution are.
    pub plain: bool,
}

/// Batch, rows, columns, depth, and a letter for each operand: `n` as it is multiplied, `t` with its
/// axes exchanged, a capital where it is not plain.
impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Product { batch, m, n, k, operands: [lhs, rhs] } = self;
        let letter = |turned: bool, plain: bool| match (turned, plain) {
            (false, true) => 'n',
            (true, true) => 't',
            (false, false) => 'N',
            (true, false) => 'T',
        };
        let (lhs, rhs) = (letter(!lhs.along_k, lhs.plain), letter(rhs.along_k, rhs.plain));
        f.pad(&format!("{batch} {m} {n} {k} {lhs}{rhs}"))
    }
}

/// From what its `Display` writes.
impl FromStr for Product {
    type Err = ();

    fn from_str(text: &str) -> Result<Product, ()> {
        let mut words = text.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(());
        let (batch, m, n, k) = (number()?, number()?, number()?, number()?);
        let (Some(&[l, r]), None) = (words.next().map(str::as_bytes), words.next()) else { return Err(()) };
        let operand = |letter: u8, straight: u8| match letter {
            b'n' | b'N' | b't' | b'T' => {
                Ok(Operand { along_k: letter.eq_ignore_ascii_case(&straight), plain: letter.is_ascii_lowercase() })
            }
            _ => Err(()),
        };
        Ok(Product { batch, m, n, k, operands: [operand(l, b'n')?, operand(r, b't')?] })
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

/// `width` by `height` invocations of `down` rows by `across` columns, from workgroup memory: an
/// invocation must come to load one or two fours of each operand, and there must be whole eights of
/// fours of rows and of columns.
const fn cut([height, width]: [u32; 2], [down, across]: [u32; 2], depth: u32) -> Tile {
    Tile { width, height, across, down, depth }
}

/// What a search tries beside the ladder of a device.
const TRIED: [Tile; 13] = [
    shared(8, 4, 8),
    shared(8, 4, 16),
    cut([8, 8], [4, 8], 8),
    cut([8, 8], [8, 4], 8),
    shared(8, 8, 8),
    cut([8, 16], [8, 4], 16),
    shared(16, 4, 16),
    cut([8, 16], [8, 8], 8),
    cut([16, 8], [8, 8], 8),
    shared(16, 8, 8),
    shared(16, 8, 16),
    alone(8, 8),
    alone(16, 8),
];

/// The tiles that products of a device may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// From the largest to the smallest.
    ladder: &'static [Tile],
    /// Workgroups that keep the device busy.
    busy: usize,
    /// What a search found better than the rule, or as good, sorted by product.
    chosen: Vec<(Product, Tile)>,
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
        Tiles { ladder, busy, chosen: Vec::new() }
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
        Tiles::new(std::slice::from_ref(tile), self.busy)
    }

    /// These, but products that are in `chosen`, which is sorted, have the tiles that it says.
    pub fn with(&self, chosen: Vec<(Product, Tile)>) -> Tiles {
        Tiles { chosen, ..Tiles::new(self.ladder, self.busy) }
    }

    /// The tile that was chosen for a product.
    pub fn chosen(&self, product: &Product) -> Option<Tile> {
        let at = self.chosen.binary_search_by_key(product, |(known, _)| *known).ok()?;
        self.chosen.get(at).map(|(_, tile)| *tile)
    }

    /// Every tile that a product may be given within `limits`: those of the ladder and those that a
    /// search tries beside them.
    pub fn candidates(&self, limits: &Limits) -> Vec<Tile> {
        let fits =
            |tile: &&Tile| tile.invocations() <= limits.invocations_max && tile.bytes() <= limits.workgroup_bytes_max;
        let mut all: Vec<Tile> = self.ladder.iter().chain(&TRIED).filter(fits).copied().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether a tile may be the best one for a product, of which some tile makes `most` workgroups
    /// and whose results come to `least` with what some tile computes past its edges: one that is
    /// much too large leaves parts of the device idle, or computes mostly nothing.
    pub fn is_worth_trying(&self, tile: &Tile, product: &Product, [most, least]: [usize; 2]) -> bool {
        let groups = tile.groups([product.batch, product.m, product.n]);
        let busy = groups.saturating_mul(4) >= self.busy || groups.saturating_mul(2) >= most;
        busy && groups.saturating_mul(tile.rows() * tile.columns()) / 2 <= least
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
        let dims = [d.batch, d.m, d.n];
        let busy = |tile: &&Tile| self.missing(tile, dims) <= 1;
        self.fitting(dims).find(busy).copied().unwrap_or_else(|| self.smallest())
    }

    /// Tiles that compute little past the edges of `dims`, and the smallest.
    fn fitting(&self, dims: [usize; 3]) -> impl Iterator<Item = &'static Tile> {
        let results = dims.iter().fold(3usize, |n, &m| n.saturating_mul(m));
        let computed = move |tile: &Tile| tile.groups(dims).saturating_mul(2 * tile.rows() * tile.columns());
        let smallest = self.smallest();
        self.ladder.iter().filter(move |tile| !ALL_KERNELS || **tile == smallest || computed(tile) <= results)
    }

    /// How many times as many workgroups would keep the device busy: of small ones it takes more, for what
    /// hides the memory's latency is the number of invocations.
    fn missing(&self, tile: &Tile, dims: [usize; 3]) -> usize {
        let each = (BUSY_INVOCATIONS / tile.invocations()).max(1) as usize;
        (each * self.busy).div_ceil(tile.groups(dims).max(1))
    }

    /// Into how many parts the contraction of `[batch, m, n, k]` is better cut, so that more invocations have
    /// something to do; their number divides `whole`. Larger tiles load less, so they come first.
    pub fn parts(&self, [batch, m, n, k]: [usize; 4], whole: usize) -> Option<usize> {
        let dims = [batch, m, n];
        if !ALL_KERNELS {
            return self.narrow_parts(self.smallest().groups(dims), k, whole);
        }
        for tile in self.fitting(dims) {
            let missing = self.missing(tile, dims);
            let most = match *tile == self.smallest() {
                _ if missing <= 1 => return None,
                true => return divisor((2..=missing.min(k / PART_MIN)).rev(), whole),
                false => (2 * missing).min(k / LARGE_PART_MIN),
            };
            if let Some(parts) = divisor(missing..=most, whole) {
                return Some(parts);
            }
        }
        None
    }

    /// The same of a product that no tiles serve, in `groups` workgroups.
    pub fn narrow_parts(&self, groups: usize, k: usize, whole: usize) -> Option<usize> {
        divisor((2..=(2 * self.busy / groups.max(1)).min(k / PART_MIN)).rev(), whole)
    }
}

fn divisor(mut parts: impl Iterator<Item = usize>, whole: usize) -> Option<usize> {
    parts.find(|parts| whole.is_multiple_of(*parts))
}

/// Invocations of as many workgroups as keep a device busy, each.
const BUSY_INVOCATIONS: u32 = 128;
/// Steps that make a part worth its results' way through memory.
const PART_MIN: usize = 128;
/// The same where a smaller tile would keep the device busy.
const LARGE_PART_MIN: usize = 512;
