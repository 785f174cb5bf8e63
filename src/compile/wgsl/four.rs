//! Four: a kernel rewritten so that an invocation computes four neighbours, whose loads and stores
//! become one access of 16 bytes where they lie side by side in memory.
//!
//! Every expression is written once for each of the four, and those that are equal are one. What
//! is computed does not change, and neither does the order of any sum.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Access, Buffer, Dot, Expr, ExprId, I, J, Kernel, Kind, Loop, O, Reduce, Scan, Store};
use crate::compile::plan::{Limits, Target};
use crate::compile::schedule::bindings;
use crate::compile::wgsl::text::reachable;
use crate::dtype::DType;
use crate::graph::mix::Map;
use crate::graph::source::ALL_KERNELS;

/// Expressions of one element that are still worth writing four times.
const BODY_MAX: usize = 96;
/// Expressions of what is stored of a product that are worth writing four times.
const STORED_MAX: usize = 24;
/// Columns below which a GPU rather has an invocation for each.
const COLUMNS_MIN: usize = 1 << 16;
/// Elements of a row that is worth going along in fours.
const ROW_MIN: usize = 16;

/// A kernel over fours.
pub struct Four {
    /// The kernel; the extent of the variable is a quarter.
    pub kernel: Kernel,
    /// Of each expression that loads one of four neighbours: the load of the first, and which it is.
    pub loads: Vec<Option<(ExprId, usize)>>,
    /// How each buffer is seen.
    pub views: Vec<View>,
    /// Of a product: its operands at four rows and at four columns, where those are whole fours.
    pub operands: [Option<[ExprId; 4]>; 2],
    /// Whether stores come in fours: one for each neighbour.
    pub stores: bool,
    /// Of each reduction or scan along rows that are whole fours: its elements at four neighbours.
    pub elements: Vec<[ExprId; 4]>,
}

/// How a shader sees a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As elements, or as words of packed ones.
    Single,
    /// As vectors of four elements.
    Wide,
    /// As both, by two bindings: drivers are slow at components of vectors.
    Both,
}

/// `kernel` over fours, where that makes accesses wider.
pub fn four(kernel: &Kernel, limits: &Limits) -> Option<Four> {
    let mut w = Writer::new(kernel);
    let (mut operands, mut stores) = ([None; 2], true);
    w.kernel.kind = match &kernel.kind {
        Kind::Loop(l) => w.looped(l, limits)?,
        Kind::Dot(d) => {
            stores = w.stored_in_fours(d);
            let (dot, found) = w.dot(d, stores)?;
            operands = found;
            dot
        }
        Kind::Scan(s) => w.scan(s)?,
        Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_) => return None,
    };
    let mut roots = Vec::new();
    operands.iter().flatten().for_each(|four| roots.extend_from_slice(four));
    let views = w.views(limits, roots);
    let wide = views.iter().any(|view| *view != View::Single);
    // Packed elements of a product are stored in fours or not at all.
    let packed = ALL_KERNELS && matches!(&w.kernel.kind, Kind::Dot(d) if !w.words(&d.stores));
    let elements = w.elements;
    (wide || packed).then_some(Four { kernel: w.kernel, loads: w.loads, views, operands, stores, elements })
}

/// Whether `lins` are four neighbours of which the first is at a multiple of four.
fn side_by_side(lins: &[Lin]) -> bool {
    let Some((first, rest)) = lins.split_first() else { return false };
    let aligned = first.constant % 4 == 0 && first.terms.iter().all(|(_, c)| c % 4 == 0);
    aligned && (1..).zip(rest).all(|(k, lin)| lin.constant == first.constant + k && lin.terms == first.terms)
}

struct Writer<'k> {
    old: &'k Kernel,
    kernel: Kernel,
    seen: Map<(Expr, DType), ExprId>,
    loads: Vec<Option<(ExprId, usize)>>,
    /// The stores that replaced one, of a buffer that may be written in fours.
    stores: Vec<(usize, bool)>,
    elements: Vec<[ExprId; 4]>,
}

impl<'k> Writer<'k> {
    fn new(old: &'k Kernel) -> Writer<'k> {
        let kernel = Kernel { body: Vec::new(), dtypes: Vec::new(), ..old.clone() };
        Writer { old, kernel, seen: Map::default(), loads: Vec::new(), stores: Vec::new(), elements: Vec::new() }
    }

    /// A map goes over four elements at once, a column reduction over four columns, a row reduction
    /// along its rows.
    fn looped(&mut self, l: &Loop, limits: &Limits) -> Option<Kind> {
        let map = l.inner == 1 && l.reduces.is_empty();
        let columns = !l.rows && (limits.target == Target::SoftwareGpu || l.outer >= COLUMNS_MIN);
        if self.is_long() || !self.words(&l.stores) {
            return None;
        }
        if !map && l.rows {
            return self.rows(l);
        }
        if !(map || columns) || !l.outer.is_multiple_of(4) {
            return None;
        }
        let lanes = self.lanes(O);
        let mut stores = Vec::with_capacity(4 * l.stores.len());
        l.stores.iter().for_each(|s| self.store(s, &lanes, O, &mut stores));
        let mut reduces = Vec::with_capacity(4 * l.reduces.len());
        for r in &l.reduces {
            for &value in &lanes[r.value as usize] {
                reduces.push(Reduce { value, ..*r });
            }
        }
        Some(Kind::Loop(Loop { outer: l.outer / 4, reduces, stores, ..l.clone() }))
    }

    fn rows(&mut self, l: &Loop) -> Option<Kind> {
        if !l.inner.is_multiple_of(4) || l.inner < ROW_MIN {
            return None;
        }
        let lanes = self.lanes(I);
        let mut stores = Vec::new();
        for s in &l.stores {
            if s.each_element {
                self.store(s, &lanes, I, &mut stores);
            } else {
                self.stores.push((s.buffer, false));
                stores.push(Store { value: lanes[s.value as usize][0], ..s.clone() });
            }
        }
        let mut reduces = l.reduces.clone();
        for r in &mut reduces {
            let four = lanes[r.value as usize];
            self.elements.push(four);
            r.value = four[0];
        }
        Some(Kind::Loop(Loop { inner: l.inner / 4, reduces, stores, ..l.clone() }))
    }

    /// A scan goes along lines that lie in one piece.
    fn scan(&mut self, s: &Scan) -> Option<Kind> {
        let stored = std::slice::from_ref(&s.store);
        if !ALL_KERNELS || self.is_long() || !self.words(stored) || !s.n.is_multiple_of(4) || s.n < ROW_MIN {
            return None;
        }
        let lanes = self.lanes(I);
        if !grouped(&s.store.index, I, &lanes) {
            return None;
        }
        self.stores.push((s.store.buffer, true));
        let four = lanes[s.value as usize];
        self.elements.push(four);
        let store = Store { value: four[0], index: moved(&s.store.index, I, 0, &lanes), ..s.store };
        Some(Kind::Scan(Scan { n: s.n / 4, value: four[0], store, ..*s }))
    }

    /// A product loads its left operand at four rows and its right one at four columns.
    fn dot(&mut self, d: &Dot, stores_in_fours: bool) -> Option<(Kind, [Option<[ExprId; 4]>; 2])> {
        if !super::product::is_tiled(d) {
            return None;
        }
        let rows = d.m.is_multiple_of(4).then(|| self.lanes(I)[d.lhs as usize]);
        let columns = d.n.is_multiple_of(4).then(|| self.lanes(J));
        // Without fours an operand and what is stored stay as they were.
        let one = match (rows, &columns) {
            (Some(_), Some(_)) if stores_in_fours => Vec::new(),
            _ => self.lanes(Var::MAX),
        };
        let first = |id: ExprId| one.get(id as usize).map_or(0, |lanes| lanes[0]);
        let mut stores = Vec::new();
        for s in &d.stores {
            match &columns {
                Some(lanes) if stores_in_fours => self.store(s, lanes, J, &mut stores),
                _ => {
                    self.stores.push((s.buffer, false));
                    stores.push(Store { value: first(s.value), ..s.clone() });
                }
            }
        }
        let (lhs, rhs) = (first(d.lhs), first(d.rhs));
        for (sum, (var, n)) in d.sums.iter().zip([(I, d.m), (J, d.n)]) {
            if let Some(s) = sum {
                let grouped = n.is_multiple_of(4) && grouped(&s.index, var, &[]);
                self.stores.push((s.buffer, grouped));
            }
        }
        let columns = columns.map(|lanes| lanes[d.rhs as usize]);
        Some((Kind::Dot(Dot { lhs, rhs, stores, ..d.clone() }), [rows, columns]))
    }

    /// Whether four columns of a product are stored at once.
    fn stored_in_fours(&self, d: &Dot) -> bool {
        let values: Vec<ExprId> = d.stores.iter().map(|s| s.value).collect();
        d.n.is_multiple_of(4) && (reachable(self.old, &values).len() <= STORED_MAX || !self.words(&d.stores))
    }

    /// Whether an element is too much to write four times.
    fn is_long(&self) -> bool {
        self.old.body.len() > BODY_MAX || self.old.body.iter().any(|e| matches!(e, Expr::Random { .. }))
    }

    /// Whether all that is stored are whole words.
    fn words(&self, stores: &[Store]) -> bool {
        stores.iter().all(|s| self.old.buffers[s.buffer].dtype.bytes() == 4)
    }

    /// Every expression at the four neighbours along `var`.
    fn lanes(&mut self, var: Var) -> Vec<[ExprId; 4]> {
        let mut lanes: Vec<[ExprId; 4]> = Vec::with_capacity(self.old.body.len());
        for (expr, &dtype) in self.old.body.iter().zip(&self.old.dtypes) {
            let mut ids = [0; 4];
            for (k, id) in ids.iter_mut().enumerate() {
                *id = self.push(shifted(expr, var, k, &lanes), dtype);
            }
            if let Expr::Load { index, mask: None, .. } = expr
                && dtype.bytes() == 4
                && ids[0] != ids[1]
                && grouped(index, var, &lanes)
            {
                ids.iter().enumerate().for_each(|(k, &id)| self.loads[id as usize] = Some((ids[0], k)));
            }
            lanes.push(ids);
        }
        lanes
    }

    fn push(&mut self, expr: Expr, dtype: DType) -> ExprId {
        let id = self.kernel.intern(&mut self.seen, expr, dtype);
        self.loads.resize(self.kernel.body.len(), None);
        id
    }

    /// Four stores for `s`, one after the other.
    fn store(&mut self, s: &Store, lanes: &[[ExprId; 4]], var: Var, all: &mut Vec<Store>) {
        self.stores.push((s.buffer, grouped(&s.index, var, lanes)));
        for (k, &value) in lanes[s.value as usize].iter().enumerate() {
            all.push(Store { value, index: moved(&s.index, var, k, lanes), ..*s });
        }
    }

    /// The buffers are better seen as vectors that groups of loads read, or that nothing but groups
    /// of stores write, for a part of a vector cannot be written alone.
    fn views(&self, limits: &Limits, mut roots: Vec<ExprId>) -> Vec<View> {
        let buffers = &self.kernel.buffers;
        let (mut single, mut wide) = (vec![false; buffers.len()], vec![false; buffers.len()]);
        self.elements.iter().for_each(|four| roots.extend_from_slice(four));
        let stores = match &self.kernel.kind {
            Kind::Loop(l) => {
                l.reduces.iter().for_each(|r| roots.push(r.value));
                &l.stores
            }
            Kind::Dot(d) => {
                roots.extend_from_slice(&[d.lhs, d.rhs]);
                &d.stores
            }
            Kind::Scan(s) if ALL_KERNELS => std::slice::from_ref(&s.store),
            Kind::Scan(_) | Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_) => return Vec::new(),
        };
        stores.iter().for_each(|s| roots.push(s.value));
        for id in reachable(&self.kernel, &roots) {
            if let Expr::Load { buffer, .. } = &self.kernel.body[id as usize] {
                let seen = if self.loads[id as usize].is_some() { &mut wide } else { &mut single };
                seen[*buffer] = true;
            }
        }
        for &(buffer, grouped) in &self.stores {
            let seen = if grouped { &mut wide } else { &mut single };
            seen[buffer] = true;
        }
        let mut room = limits.buffers_max.saturating_sub(bindings(&self.kernel, limits));
        let view = |(k, buffer): (usize, &Buffer)| {
            let bytes = (buffer.numel as u64).saturating_mul(4);
            // A group is whole and begins at a multiple of four: none reaches into a rest behind the last one.
            if !wide[k] || buffer.dtype.bytes() != 4 || bytes > limits.binding_bytes_max {
                return View::Single;
            }
            match single[k] {
                false => View::Wide,
                true if buffer.access == Access::Read && room > 0 => {
                    room -= 1;
                    View::Both
                }
                _ => View::Single,
            }
        };
        buffers.iter().enumerate().map(view).collect()
    }
}

/// Whether what lies at `index` and its neighbours along `var` lies side by side.
pub fn grouped(index: &Lin, var: Var, lanes: &[[ExprId; 4]]) -> bool {
    let at: Vec<Lin> = (0..4).map(|k| moved(index, var, k, lanes)).collect();
    side_by_side(&at)
}

/// `expr` at neighbour `k` along `var`; `lanes` has its operands.
fn shifted(expr: &Expr, var: Var, k: usize, lanes: &[[ExprId; 4]]) -> Expr {
    let at = |id: ExprId| lanes[id as usize][k];
    let lin = |lin: &Lin| moved(lin, var, k, lanes);
    match expr {
        Expr::Const(bits) => Expr::Const(*bits),
        Expr::Index(index) => Expr::Index(lin(index)),
        Expr::Load { buffer, index, mask } => Expr::Load { buffer: *buffer, index: lin(index), mask: mask.map(at) },
        Expr::Scalar { op, src } => Expr::Scalar { op: *op, src: src.map(at) },
        Expr::Cast { src, from } => Expr::Cast { src: at(*src), from: *from },
        Expr::Bitcast(src) => Expr::Bitcast(at(*src)),
        Expr::Inside { index, bound } => Expr::Inside { index: lin(index), bound: *bound },
        Expr::Checked { value, bound, mask, fault } => {
            Expr::Checked { value: at(*value), bound: *bound, mask: mask.map(at), fault: *fault }
        }
        Expr::Random { key, counter } => Expr::Random { key: key.map(at), counter: lin(counter) },
        Expr::Reduced(n) if var == I || var == Var::MAX => Expr::Reduced(*n),
        Expr::Reduced(n) => Expr::Reduced(4 * n + k),
    }
}

/// `lin` with `4 * var + k` for `var`.
pub fn moved(lin: &Lin, var: Var, k: usize, lanes: &[[ExprId; 4]]) -> Lin {
    lin.replace(&|atom| match atom {
        Atom::Var(v, n) if *v == var => Some(Lin::var(var, n / 4).times(4).offset(k as i64)),
        Atom::Value(id, bound) => Some(Lin::value(lanes[*id as usize][k], *bound)),
        Atom::Var(..) | Atom::Div(..) | Atom::Mod(..) => None,
    })
}
