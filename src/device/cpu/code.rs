//! From the expressions of a kernel to instructions: where each value is computed, and in what
//! registers.
//!
//! Variables are nested; an expression is computed at the innermost level that it depends on, so
//! what does not change in a loop stands outside it. Innermost registers are shared by values
//! that are not alive together.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Expr, ExprId, Kernel, O, Store};
use crate::device::cpu::index::Index;
use crate::device::cpu::lanes::{Code, Frame, Instr, Place, cast};
use crate::dtype::DType;
use crate::graph::scalar::Scalar;

/// Values of an index that are kept at most.
const TABLE_MAX: usize = 1 << 16;

/// One sweep over the loops: instructions of each level, and what is done with their values.
#[derive(Default)]
pub(super) struct Pass {
    /// Run once; then when the outermost variable changes, and so on inwards.
    pub levels: Vec<Vec<Instr>>,
    /// Values that the driver reads.
    pub values: Vec<Place>,
    /// What is written.
    pub puts: Vec<Put>,
}

/// A store.
pub(super) struct Put {
    pub buffer: usize,
    pub index: Index,
    pub value: Place,
}

/// A kernel's expressions as instructions.
pub(super) struct Compiled {
    pub passes: Vec<Pass>,
    pub uniforms: usize,
    pub registers: usize,
    /// Where `Reduced(n)` is to be written.
    pub reduced: Vec<Place>,
}

/// Makes [`Compiled`].
pub(super) struct Builder<'k> {
    kernel: &'k Kernel,
    deps: Vec<u64>,
    order: Vec<Var>,
    lane: Var,
    /// Whether the innermost values of a pass are still there in the next.
    keep: bool,
    /// Whether what no loop is over stands for lanes that repeat.
    repeats: bool,
    places: Vec<Option<Place>>,
    splats: Vec<Option<Place>>,
    /// Parts of indices that depend on the lane variable alone, which loads and loops inside share.
    shared: Vec<(Lin, Place)>,
    uniforms: usize,
    lanes: usize,
    passes: Vec<Pass>,
    reduced: Vec<Place>,
}

impl<'k> Builder<'k> {
    /// A builder for loops over `order`, outermost first, with lanes along `lane`.
    pub(super) fn new(kernel: &'k Kernel, order: &[Var], lane: Var, reduces: usize, keep: bool) -> Builder<'k> {
        let n = kernel.body.len();
        let (lanes, uniforms) = if lane == O { (reduces, 0) } else { (0, reduces) };
        let place = |k| if lane == O { Place::Lane(k) } else { Place::Uniform(k) };
        let reduced = (0..reduces).map(place).collect();
        Builder {
            kernel,
            deps: kernel.dependencies(),
            order: order.to_vec(),
            lane,
            keep,
            repeats: false,
            places: vec![None; n],
            splats: vec![None; n],
            shared: Vec::new(),
            uniforms,
            lanes,
            passes: Vec::new(),
            reduced,
        }
    }

    /// The same for lanes that repeat: an expression depends on what `deps` says, and one of a variable
    /// that no loop is over differs from lane to lane, but in every block in the same way.
    pub(super) fn repeating(self, deps: &[u64]) -> Builder<'k> {
        Builder { deps: deps.to_vec(), repeats: true, ..self }
    }

    /// Begins the next pass.
    pub(super) fn pass(&mut self) {
        if !self.keep {
            if self.order.last() == Some(&self.lane) {
                self.shared.clear();
            }
            for id in 0..self.places.len() {
                if self.level(id) == self.order.len() {
                    (self.places[id], self.splats[id]) = (None, None);
                }
            }
        }
        let levels = (0..=self.order.len()).map(|_| Vec::new()).collect();
        self.passes.push(Pass { levels, ..Pass::default() });
    }

    /// Asks for a value in each lane, to be read by the driver at the end of the pass.
    pub(super) fn value(&mut self, id: ExprId) -> Result<(), String> {
        let place = self.in_lanes(id)?;
        self.now().values.push(place);
        Ok(())
    }

    /// Asks for a store at the end of the pass; in each lane, or once.
    pub(super) fn put(&mut self, store: &Store, in_lanes: bool) -> Result<(), String> {
        let value = if in_lanes { self.in_lanes(store.value)? } else { self.place(store.value)? };
        let index = self.index(&store.index)?;
        self.now().puts.push(Put { buffer: store.buffer, index, value });
        Ok(())
    }

    /// The level of an expression: 0, or one more than the place of its innermost variable.
    fn level(&self, id: usize) -> usize {
        let deps = self.deps[id];
        let deps = if deps >> 8 != 0 { deps | 1 << O } else { deps };
        (0..self.order.len()).rev().find(|&k| deps & 1 << self.order[k] != 0).map_or(0, |k| k + 1)
    }

    fn varies(&self, id: usize) -> bool {
        let deps = self.deps[id];
        let lanes = if self.repeats { 0xff } else { 1 << self.lane };
        deps & lanes != 0 || (self.lane == O && deps >> 8 != 0)
    }

    fn now(&mut self) -> &mut Pass {
        if self.passes.is_empty() {
            self.pass();
        }
        let last = self.passes.len() - 1;
        &mut self.passes[last]
    }

    fn in_lanes(&mut self, id: ExprId) -> Result<Place, String> {
        let place = self.place(id)?;
        let at = id as usize;
        match (place, self.splats[at]) {
            (Place::Lane(_), _) => Ok(place),
            (_, Some(splat)) => Ok(splat),
            (Place::Uniform(_), None) => {
                let splat = self.new_lane();
                self.splats[at] = Some(splat);
                self.emit(at, Code::Splat(place), splat, u32::MAX);
                Ok(splat)
            }
        }
    }

    fn index(&mut self, lin: &Lin) -> Result<Index, String> {
        let mut ids = Vec::new();
        lin.visit(&mut |atom| {
            if let Atom::Value(id, _) = atom {
                ids.push(*id);
            }
        });
        for id in ids {
            self.place(id)?;
        }
        Ok(self.ready_index(lin))
    }

    /// An index whose values have been computed.
    fn ready_index(&mut self, lin: &Lin) -> Index {
        let whole = self.plain_index(lin);
        let level = 1 + self.order.iter().position(|&v| v == self.lane).unwrap_or(0);
        // What repeats is computed before the first block, and so is its index.
        if !whole.jumps() || self.repeats {
            return whole;
        }
        let Some((common, rest)) = Index::split(lin, self.lane) else { return whole };
        let place = match self.shared.iter().find(|(known, _)| *known == common) {
            Some((_, place)) => *place,
            None => {
                let (code, out) = (self.common_index(&common), self.new_lane());
                self.now().levels[level].push(Instr { code, out, keep: u32::MAX });
                self.shared.push((common, out));
                out
            }
        };
        let mut index = self.plain_index(&rest);
        index.add_lanes(place);
        index
    }

    /// An index of the lane variable alone: worked out once, where loops outside would do it again.
    fn common_index(&self, lin: &Lin) -> Code {
        let index = self.plain_index(lin);
        let mut extent = 0;
        lin.visit(&mut |atom| {
            if let Atom::Var(_, n) = atom {
                extent = extent.max(*n);
            }
        });
        if self.order.first() == Some(&self.lane) || extent > TABLE_MAX {
            return Code::Index(index);
        }
        let mut values = vec![0; extent];
        index.lanes(&Frame::new(0, 0, 0, &[], &[]), &mut values);
        Code::Table(self.lane, values)
    }

    fn plain_index(&self, lin: &Lin) -> Index {
        Index::new(lin, self.lane, &mut |id| self.places[id as usize].unwrap_or(Place::Uniform(0)))
    }

    /// The place of a value, computed with all that it needs unless it has one already.
    fn place(&mut self, id: ExprId) -> Result<Place, String> {
        let root = id as usize;
        let mut needed = vec![false; root + 1];
        needed[root] = true;
        for at in (0..=root).rev() {
            if needed[at] && self.places[at].is_none() {
                operands(&self.kernel.body[at], &mut |src| needed[src as usize] = true);
            }
        }
        for (at, needed) in needed.into_iter().enumerate() {
            if needed && self.places[at].is_none() {
                let place = self.compute(at)?;
                self.places[at] = Some(place);
            }
        }
        self.places[root].ok_or_else(|| "a value has no place".into())
    }

    fn compute(&mut self, at: usize) -> Result<Place, String> {
        let varies = self.varies(at);
        let dtype = self.kernel.dtypes[at];
        let mut keep = u32::MAX;
        let code = match &self.kernel.body[at] {
            Expr::Const(bits) => {
                let index = Index::new(&Lin::constant(i64::from(*bits)), self.lane, &mut |_| Place::Uniform(0));
                Code::Index(index)
            }
            Expr::Index(lin) => Code::Index(self.ready_index(lin)),
            Expr::Load { buffer, index, mask } => {
                let mask = mask.map(|mask| self.operand(mask, varies)).transpose()?;
                keep = kept(dtype);
                Code::Load { buffer: *buffer, index: self.ready_index(index), mask }
            }
            Expr::Scalar { op: Scalar::Where, src } => {
                let [c, a, b] = *src;
                Code::Select([self.operand(c, varies)?, self.operand(a, varies)?, self.operand(b, varies)?])
            }
            Expr::Scalar { op, src: [a, b, _] } => {
                let spec = op.spec();
                let operand = self.kernel.dtypes[*a as usize].compute();
                let lanes = match operand {
                    DType::F32 => spec.lanes_f32,
                    DType::I32 => spec.lanes_i32,
                    _ => spec.lanes_u32,
                };
                let lanes = lanes.ok_or_else(|| format!("{} has no meaning on {operand}", spec.name))?;
                keep = kept(dtype);
                Code::Apply(lanes, [self.operand(*a, varies)?, self.operand(*b, varies)?])
            }
            Expr::Cast { src, from } => match cast(*from, dtype) {
                Some(lanes) => {
                    let src = self.operand(*src, varies)?;
                    Code::Apply(lanes, [src, src])
                }
                None => return self.place(*src),
            },
            Expr::Bitcast(src) => return self.place(*src),
            Expr::Inside { index, bound } => Code::Inside(self.ready_index(index), clip(*bound)),
            Expr::Checked { value, bound, mask, fault } => {
                let signed = self.kernel.dtypes[*value as usize] == DType::I32;
                let mask = mask.map(|mask| self.operand(mask, varies)).transpose()?;
                // As bits, a negative index is greater than every bound.
                let bound = if signed { clip(*bound).min(1 << 31) } else { clip(*bound) };
                Code::Checked { value: self.operand(*value, varies)?, bound, mask, fault: *fault }
            }
            Expr::Random { key, counter } => {
                let key = [self.place(key[0])?, self.place(key[1])?];
                Code::Random { key, counter: self.ready_index(counter) }
            }
            Expr::Reduced(n) => {
                return self.reduced.get(*n).copied().ok_or_else(|| format!("there is no reduction {n}"));
            }
        };
        let out = if varies {
            self.new_lane()
        } else {
            self.uniforms += 1;
            Place::Uniform(self.uniforms - 1)
        };
        self.emit(at, code, out, keep);
        Ok(out)
    }

    fn operand(&mut self, id: ExprId, in_lanes: bool) -> Result<Place, String> {
        if in_lanes { self.in_lanes(id) } else { self.place(id) }
    }

    fn new_lane(&mut self) -> Place {
        self.lanes += 1;
        Place::Lane(self.lanes - 1)
    }

    fn emit(&mut self, at: usize, code: Code, out: Place, keep: u32) {
        let level = self.level(at);
        self.now().levels[level].push(Instr { code, out, keep });
    }

    /// The instructions, with registers shared where lifetimes allow.
    pub(super) fn finish(mut self) -> Compiled {
        // The last position at which each value is read; `None` where it must stay.
        let mut last: Vec<Option<usize>> = vec![None; self.lanes];
        let inner = self.order.len();
        let mut position = 0;
        for pass in &mut self.passes {
            for instr in &mut pass.levels[inner] {
                if let Place::Lane(at) = instr.out {
                    last[at] = Some(position);
                }
                instr.visit(&mut |place| {
                    if let Place::Lane(at) = place
                        && let Some(last) = &mut last[*at]
                    {
                        *last = position;
                    }
                });
                position += 1;
            }
            pass.visit_results(&mut |place| {
                if let Place::Lane(at) = place
                    && let Some(last) = &mut last[*at]
                {
                    *last = position;
                }
            });
            position += 1;
        }
        let mut registers = 0;
        let mut map: Vec<usize> = vec![usize::MAX; self.lanes];
        for (map, last) in map.iter_mut().zip(&last) {
            if last.is_none() {
                *map = registers;
                registers += 1;
            }
        }
        let (mut free, mut position): (Vec<usize>, usize) = (Vec::new(), 0);
        let mut ends: Vec<Vec<usize>> = vec![Vec::new(); self.passes.iter().map(|p| p.levels[inner].len() + 1).sum()];
        for (at, last) in last.iter().enumerate() {
            if let Some(last) = last {
                ends[*last].push(at);
            }
        }
        for pass in &self.passes {
            for instr in &pass.levels[inner] {
                if let Place::Lane(at) = instr.out {
                    map[at] = free.pop().unwrap_or_else(|| {
                        registers += 1;
                        registers - 1
                    });
                }
                free.extend(ends[position].iter().map(|&at| map[at]));
                position += 1;
            }
            free.extend(ends[position].iter().map(|&at| map[at]));
            position += 1;
        }
        let mut rename = |place: &mut Place| {
            if let Place::Lane(at) = place {
                *at = map[*at];
            }
        };
        for pass in &mut self.passes {
            for instr in pass.levels.iter_mut().flatten() {
                rename(&mut instr.out);
                instr.visit(&mut rename);
            }
            pass.visit_results(&mut rename);
        }
        self.reduced.iter_mut().for_each(rename);
        Compiled { passes: self.passes, uniforms: self.uniforms, registers, reduced: self.reduced }
    }
}

impl Pass {
    fn visit_results(&mut self, f: &mut impl FnMut(&mut Place)) {
        self.values.iter_mut().for_each(&mut *f);
        for put in &mut self.puts {
            f(&mut put.value);
            put.index.visit(f);
        }
    }
}

impl Compiled {
    /// How many instructions the innermost level has.
    pub(super) fn work(&self) -> usize {
        self.passes
            .iter()
            .map(|pass| pass.levels.last().map_or(0, Vec::len) + pass.puts.len() + pass.values.len())
            .sum()
    }
}

/// The operands of an expression.
pub(super) fn operands(expr: &Expr, f: &mut impl FnMut(ExprId)) {
    let of_lin = |lin: &Lin, f: &mut dyn FnMut(ExprId)| {
        lin.visit(&mut |atom| {
            if let Atom::Value(id, _) = atom {
                f(*id);
            }
        });
    };
    match expr {
        Expr::Const(_) | Expr::Reduced(_) => {}
        Expr::Index(lin) | Expr::Inside { index: lin, .. } => of_lin(lin, f),
        Expr::Load { index, mask, .. } => {
            of_lin(index, f);
            mask.iter().for_each(|&id| f(id));
        }
        Expr::Scalar { src, .. } => src.iter().for_each(|&id| f(id)),
        Expr::Cast { src, .. } | Expr::Bitcast(src) => f(*src),
        Expr::Checked { value, mask, .. } => {
            f(*value);
            mask.iter().for_each(|&id| f(id));
        }
        Expr::Random { key, counter } => {
            of_lin(counter, f);
            key.iter().for_each(|&id| f(id));
        }
    }
}

/// The bits a value of `dtype` can have.
fn kept(dtype: DType) -> u32 {
    match dtype {
        DType::U8 => 255,
        DType::Bool => 1,
        _ => u32::MAX,
    }
}

/// A bound as bits; nothing is beyond the greatest.
fn clip(bound: usize) -> u32 {
    u32::try_from(bound).unwrap_or(u32::MAX)
}
