//! [`Kernel`]: one launch as plain data, for generated code and interpreters alike.
//!
//! A kernel is a loop structure ([`Kind`]) over a few flat variables, and expressions ([`Expr`])
//! over those variables that say what is loaded, computed and stored. Expressions have no effects
//! but one: an index out of range raises the kernel's fault. Knows no shader text and no devices.

use std::panic::Location;

use crate::compile::index::{Lin, Var};
use crate::dtype::DType;
use crate::graph::mix::Map;
use crate::graph::op::{CustomSpec, Extreme, Reduction, ScatterMode};
use crate::graph::scalar::Scalar;

/// An expression's number in [`Kernel::body`]; operands come before their users.
pub type ExprId = u32;

/// A value at one point of the iteration space. Values are 32 bits wide: floats are `f32`
/// (`f16` and `bf16` widen when loaded and round when stored), bools and `u8` are `u32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant's sentence names its fields")]
pub enum Expr {
    /// These bits.
    Const(u32),
    /// An index as a value (`i32` or `u32`).
    Index(Lin),
    /// Element `index` of a buffer; 0 where `mask` is given and false.
    Load { buffer: usize, index: Lin, mask: Option<ExprId> },
    /// A row of the scalar table; unary rows repeat their operand.
    Scalar { op: Scalar, src: [ExprId; 3] },
    /// A number of dtype `from` as the expression's dtype.
    Cast { src: ExprId, from: DType },
    /// The same bits.
    Bitcast(ExprId),
    /// Bool: whether `0 <= index < bound`.
    Inside { index: Lin, bound: usize },
    /// Bool: whether `0 <= value < bound`; where it is not, and `mask` is absent or true, the
    /// kernel's fault number `fault` is raised.
    Checked { value: ExprId, bound: usize, mask: Option<ExprId>, fault: usize },
    /// Threefry bits of element `counter` under the key words `key`.
    Random { key: [ExprId; 2], counter: Lin },
    /// What reduction `n` of the kernel (or its product) came to at this outer point.
    Reduced(usize),
}

impl Expr {
    /// The index that it reads at, or is the value of.
    pub fn index_mut(&mut self) -> Option<&mut Lin> {
        match self {
            Expr::Load { index, .. }
            | Expr::Index(index)
            | Expr::Inside { index, .. }
            | Expr::Random { counter: index, .. } => Some(index),
            _ => None,
        }
    }
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// What a person reads: the words it came from.
    pub name: String,
    /// The loops.
    pub kind: Kind,
    /// Every expression, operands first.
    pub body: Vec<Expr>,
    /// The dtype of each expression: what its 32 bits mean, and for `u8`, `f16`, `bf16` and
    /// `bool` what they are rounded or masked to.
    pub dtypes: Vec<DType>,
    /// The buffers it touches; an index into this is a "buffer" elsewhere in the kernel.
    pub buffers: Vec<Buffer>,
    /// What an index out of range is reported as.
    pub faults: Vec<FaultSite>,
}

/// A buffer a kernel touches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// The plan's slot.
    pub slot: usize,
    /// The dtype of its elements in memory.
    pub dtype: DType,
    /// How many elements there are.
    pub numel: usize,
    /// Whether the kernel reads or writes it.
    pub access: Access,
}

/// How a kernel uses a buffer; none is both read and written unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only loads.
    Read,
    /// Only stores, every element once.
    Write,
    /// Loads and stores of the same invocation.
    ReadWrite,
}

/// Where in the user's code an index came from; excluded from a kernel's identity.
#[derive(Clone, Debug)]
pub struct FaultSite {
    /// The user's word.
    pub word: &'static str,
    /// How many elements the indexed axis has.
    pub bound: usize,
    /// The user's line.
    pub at: &'static Location<'static>,
}

impl PartialEq for FaultSite {
    fn eq(&self, _: &FaultSite) -> bool {
        true
    }
}
impl Eq for FaultSite {}
impl std::hash::Hash for FaultSite {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// The loops of a kernel. The variable numbers of each kind are constants of this module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// For each `o < outer`: reductions over `i < inner`, stage by stage, then stores.
    Loop(Loop),
    /// A batched matrix product.
    Dot(Dot),
    /// For each line: copies the base, then applies the updates in order.
    Scatter(Scatter),
    /// For each line: running results.
    Scan(Scan),
    /// For each line: one pass of a stable merge sort of `u32` keys.
    Sort(Sort),
    /// The user's own shader; the kernel has no expressions.
    Custom(std::sync::Arc<CustomSpec>),
}

/// The outer variable: a row, a line, a batch.
pub const O: Var = 0;
/// The inner variable: a column, a position on a line.
pub const I: Var = 1;
/// The second inner variable of a product: its columns.
pub const J: Var = 2;
/// The contracted variable of a product.
pub const K: Var = 3;

/// Maps and chains of reductions over the same rows. A map has `inner == 1` and no reductions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loop {
    /// Extent of [`O`].
    pub outer: usize,
    /// Extent of [`I`].
    pub inner: usize,
    /// Reductions over [`I`]; one may use the results of those of earlier stages.
    pub reduces: Vec<Reduce>,
    /// What is written.
    pub stores: Vec<Store>,
    /// Whether neighbours along [`I`] are neighbours in memory (a row reduction) or neighbours
    /// along [`O`] are (a column reduction).
    pub rows: bool,
}

/// One reduction of a [`Loop`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// How elements combine.
    pub fold: FoldKind,
    /// The element at `(o, i)`.
    pub value: ExprId,
    /// The dtype of the elements.
    pub dtype: DType,
    /// 0 when it needs no other reduction, else one more than those it needs.
    pub stage: usize,
}

/// How a reduction combines elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoldKind {
    /// By a reduction.
    Value(Reduction),
    /// The first position of an extreme, as `i32`.
    Arg(Extreme),
}

/// A store: `buffer[index] = value`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// Into [`Kernel::buffers`].
    pub buffer: usize,
    /// The element written.
    pub index: Lin,
    /// What is written, in the buffer's dtype.
    pub value: ExprId,
    /// Once for each `(o, i)`, or once for each `o`.
    pub each_element: bool,
}

/// `y[o, i, j] = sum over k of lhs(o, i, k) * rhs(o, k, j)`, then stores over `(o, i, j)` that
/// see the sum as `Reduced(0)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dot {
    /// Extent of [`O`].
    pub batch: usize,
    /// Extent of [`I`].
    pub m: usize,
    /// Extent of [`J`].
    pub n: usize,
    /// Extent of [`K`].
    pub k: usize,
    /// `f32`, `i32` or `u32`.
    pub dtype: DType,
    /// Over `O, I, K`.
    pub lhs: ExprId,
    /// Over `O, K, J`.
    pub rhs: ExprId,
    /// Over `O, I, J`, all of them `each_element`.
    pub stores: Vec<Store>,
    /// Where the sums over `K` of `lhs`, over `I`, and of `rhs`, over `J`, are stored as `Reduced(1)`:
    /// only of a tiled product of one batch, and only on GPUs.
    pub sums: [Option<Store>; 2],
}

/// For each `o < lines`: `out[o, i] = base` for `i < axis`, then for `j < updates` in order
/// `out[o, index(o, j)]` is set to, or added, `value(o, j)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scatter {
    /// Extent of [`O`].
    pub lines: usize,
    /// Extent of [`I`]: elements of the axis written into.
    pub axis: usize,
    /// Extent of [`J`] and [`K`]: updates of a line.
    pub updates: usize,
    /// Whether updates replace or add.
    pub mode: ScatterMode,
    /// Over `O, I`.
    pub base: ExprId,
    /// Over `O, J`: an `i32` index, not yet checked; out of range raises fault 0.
    pub index: ExprId,
    /// Over `O, J`.
    pub value: ExprId,
    /// Over `O, K`, where the indices of a line were sorted: which update is number `k` in their
    /// stable order. Every element can then be computed by itself.
    pub order: Option<ExprId>,
    /// The buffer written, [`Access::ReadWrite`], of a 32-bit dtype.
    pub out: usize,
    /// The element of `out` at `O, I`.
    pub out_index: Lin,
}

/// For each `o < lines`: `out[o, i]` = the elements up to `i` combined.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scan {
    /// Extent of [`O`].
    pub lines: usize,
    /// Extent of [`I`].
    pub n: usize,
    /// How elements combine.
    pub kind: Reduction,
    /// The element at `(o, i)`.
    pub value: ExprId,
    /// What is written at `(o, i)`, a 32-bit dtype.
    pub store: Store,
}

/// One pass over lines of `n` keys. With `merge` 0, blocks of `block` positions are sorted by
/// rank: out gets positions. Otherwise neighbouring sorted runs of `merge` positions become one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    /// How many lines of keys there are.
    pub lines: usize,
    /// Keys on a line.
    pub n: usize,
    /// Distance between neighbours on a line: line `o` starts at `o / stride * stride * n + o % stride`.
    pub stride: usize,
    /// Positions a first pass sorts together.
    pub block: usize,
    /// Length of the runs this pass merges; 0 for the first pass.
    pub merge: usize,
    /// The `u32` keys.
    pub keys: usize,
    /// The `i32` positions so far; unused by the first pass.
    pub runs: Option<usize>,
    /// The `i32` positions after this pass.
    pub out: usize,
}

impl Kernel {
    /// The number of an expression of `dtype`, shared with an equal one that `seen` has.
    pub fn intern(&mut self, seen: &mut Map<(Expr, DType), ExprId>, expr: Expr, dtype: DType) -> ExprId {
        let key = (expr, dtype);
        if let Some(&id) = seen.get(&key) {
            return id;
        }
        let id = self.body.len() as ExprId;
        self.body.push(key.0.clone());
        self.dtypes.push(dtype);
        seen.insert(key, id);
        id
    }

    /// Everything that is stored by index, sums beside a product included.
    pub fn stores_mut(&mut self) -> Vec<&mut Store> {
        match &mut self.kind {
            Kind::Loop(l) => l.stores.iter_mut().collect(),
            Kind::Dot(d) => {
                let mut all: Vec<&mut Store> = d.stores.iter_mut().collect();
                all.extend(d.sums.iter_mut().flatten());
                all
            }
            Kind::Scan(s) => vec![&mut s.store],
            Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_) => Vec::new(),
        }
    }

    /// Which variables (bits 0 to 7) and reductions (bits 8 and up) each expression depends on.
    pub fn dependencies(&self) -> Vec<u64> {
        let mut deps: Vec<u64> = Vec::with_capacity(self.body.len());
        for expr in &self.body {
            let mut set = 0u64;
            let of_lin = |lin: &Lin, set: &mut u64| {
                lin.visit(&mut |atom| match atom {
                    crate::compile::index::Atom::Var(v, _) => *set |= 1 << v,
                    crate::compile::index::Atom::Value(id, _) => *set |= deps[*id as usize],
                    _ => {}
                });
            };
            match expr {
                Expr::Const(_) => {}
                Expr::Index(lin) | Expr::Inside { index: lin, .. } => of_lin(lin, &mut set),
                Expr::Load { index, mask, .. } => {
                    of_lin(index, &mut set);
                    set |= mask.map_or(0, |m| deps[m as usize]);
                }
                Expr::Scalar { src, .. } => set |= src.iter().fold(0, |s, x| s | deps[*x as usize]),
                Expr::Cast { src, .. } | Expr::Bitcast(src) => set |= deps[*src as usize],
                Expr::Checked { value, mask, .. } => {
                    set |= deps[*value as usize] | mask.map_or(0, |m| deps[m as usize]);
                }
                Expr::Random { key, counter } => {
                    of_lin(counter, &mut set);
                    set |= key.iter().fold(0, |s, x| s | deps[*x as usize]);
                }
                Expr::Reduced(n) => set |= 1 << (8 + (*n).min(55)),
            }
            deps.push(set);
        }
        deps
    }
}
