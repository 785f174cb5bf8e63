//! Instructions over a block of lanes, and the frame of registers one thread runs them in.
//!
//! Every value is 32 bits. A value that is the same in all lanes is held once. Knows no loops:
//! whoever drives a frame sets its variables and says how many lanes are in use.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::compile::index::Var;
use crate::device::cpu::index::{Index, Piece};
use crate::device::cpu::memory::View;
use crate::dtype::DType;
use crate::graph::scalar::Lanes;
use crate::graph::wide::wide;
use crate::ops::threefry::threefry2x32;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One word for all lanes.
    Uniform(usize),
    /// A word for each lane.
    Lane(usize),
}

/// What an instruction does.
pub(super) enum Code {
    /// A function of one or two operands; unary ones repeat theirs.
    Apply(Lanes, [Place; 2]),
    /// The second operand where the first is not 0, else the third.
    Select([Place; 3]),
    /// One word in every lane, as far as the lane variable goes.
    Splat(Place),
    /// An index as a value.
    Index(Index),
    /// One that depends on this variable alone, for each of its values.
    Table(Var, Vec<u32>),
    /// An element of a buffer; 0 where the mask is false.
    Load { buffer: usize, index: Index, mask: Option<Place> },
    /// Whether the index is less than the bound.
    Inside(Index, u32),
    /// Whether the value is less than the bound; raises the fault where it is not and the mask is true.
    Checked { value: Place, bound: u32, mask: Option<Place>, fault: usize },
    /// Threefry bits.
    Random { key: [Place; 2], counter: Index },
}

/// One step of a block.
pub(super) struct Instr {
    pub code: Code,
    pub out: Place,
    /// The bits that the result's dtype keeps.
    pub keep: u32,
}

impl Instr {
    /// Visits the places it reads.
    pub(super) fn visit(&mut self, f: &mut impl FnMut(&mut Place)) {
        match &mut self.code {
            Code::Apply(_, src) => src.iter_mut().for_each(f),
            Code::Select(src) => src.iter_mut().for_each(f),
            Code::Splat(src) => f(src),
            Code::Table(..) => {}
            Code::Index(index) | Code::Inside(index, _) => index.visit(f),
            Code::Load { index, mask, .. } => {
                index.visit(f);
                mask.iter_mut().for_each(f);
            }
            Code::Checked { value, mask, .. } => {
                f(value);
                mask.iter_mut().for_each(f);
            }
            Code::Random { key, counter } => {
                counter.visit(f);
                key.iter_mut().for_each(f);
            }
        }
    }
}

/// A word for each lane.
#[derive(Clone)]
struct Register<'r> {
    own: Vec<u32>,
    /// Where a load found all of them side by side: they are read there.
    lying: Option<&'r [u32]>,
}

impl Register<'_> {
    fn words(&self) -> &[u32] {
        self.lying.unwrap_or(&self.own)
    }
}

/// The registers of one thread.
#[derive(Clone)]
pub(super) struct Frame<'r> {
    /// The variables; for the one the lanes run along, its value at lane 0.
    vars: [i64; 4],
    /// How many lanes are in use.
    pub n: usize,
    uniforms: Vec<u32>,
    registers: Vec<Register<'r>>,
    scratch: Vec<u32>,
    views: &'r [View<'r>],
    faults: &'r [AtomicBool],
}

impl<'r> Frame<'r> {
    /// A frame of `registers` of `lanes` lanes each.
    pub(super) fn new(
        uniforms: usize,
        registers: usize,
        lanes: usize,
        views: &'r [View<'r>],
        faults: &'r [AtomicBool],
    ) -> Frame<'r> {
        let registers = (0..registers).map(|_| Register { own: vec![0; lanes], lying: None }).collect();
        Frame { vars: [0; 4], n: lanes, uniforms: vec![0; uniforms], registers, scratch: vec![0; lanes], views, faults }
    }

    /// The value of a variable.
    pub(super) fn var(&self, v: Var) -> i64 {
        self.vars.get(usize::from(v)).copied().unwrap_or(0)
    }

    /// Sets a variable.
    pub(super) fn set_var(&mut self, v: Var, value: usize) {
        if let Some(var) = self.vars.get_mut(usize::from(v)) {
            *var = value as i64;
        }
    }

    /// The value in the first lane.
    pub(super) fn first(&self, place: Place) -> u32 {
        match place {
            Place::Uniform(at) => self.uniforms[at],
            Place::Lane(at) => self.registers[at].words()[0],
        }
    }

    /// The values of `n` lanes; of one, where all are the same.
    pub(super) fn lanes(&self, place: Place, n: usize) -> &[u32] {
        match place {
            Place::Uniform(at) => std::slice::from_ref(&self.uniforms[at]),
            Place::Lane(at) => &self.registers[at].words()[..n],
        }
    }

    /// The words of a place, to be written.
    pub(super) fn lanes_mut(&mut self, place: Place) -> &mut [u32] {
        match place {
            Place::Uniform(at) => std::slice::from_mut(&mut self.uniforms[at]),
            Place::Lane(at) => {
                let register = &mut self.registers[at];
                register.lying = None;
                &mut register.own[..self.n]
            }
        }
    }

    /// Runs instructions in order.
    pub(super) fn run(&mut self, instrs: &[Instr]) {
        for instr in instrs {
            match instr.out {
                Place::Uniform(at) => {
                    let mut word = [0];
                    self.compute(&instr.code, &mut word);
                    self.uniforms[at] = word[0] & instr.keep;
                }
                Place::Lane(at) => {
                    let lying = self.lying(&instr.code);
                    self.registers[at].lying = lying;
                    if lying.is_some() {
                        continue;
                    }
                    let mut out = std::mem::take(&mut self.registers[at].own);
                    let n = if matches!(instr.code, Code::Splat(_)) { out.len() } else { self.n };
                    self.compute(&instr.code, &mut out[..n]);
                    if instr.keep != u32::MAX {
                        out[..n].iter_mut().for_each(|x| *x &= instr.keep);
                    }
                    self.registers[at].own = out;
                }
            }
        }
    }

    /// What a load reads, where that is words side by side that nobody writes.
    fn lying(&self, code: &Code) -> Option<&'r [u32]> {
        let Code::Load { buffer, index, mask: None } = code else { return None };
        if index.jumps() {
            return None;
        }
        let Piece { value, slope, len } = index.piece(self, 0);
        let together = slope == 1 && len >= self.n as i64;
        together.then(|| self.views[*buffer].lying(value, self.n)).flatten()
    }

    /// Writes the value of `place` to a buffer, at `index`.
    pub(super) fn store(&mut self, buffer: usize, index: &Index, place: Place) {
        let n = match place {
            Place::Uniform(_) => 1,
            Place::Lane(_) => self.n,
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        self.store_words(buffer, index, self.lanes(place, n), &mut scratch);
        self.scratch = scratch;
    }

    /// Writes the value of every lane that is a multiple of `step` to a buffer, at `index`, which is not chosen.
    pub(super) fn store_each(&self, buffer: usize, index: &Index, place: Place, step: usize) {
        for (k, value) in self.lanes(place, self.n).iter().enumerate().step_by(step) {
            self.views[buffer].store(index.piece(self, k).value, 1, std::slice::from_ref(value));
        }
    }

    /// Writes `values` to a buffer, at `index`; `scratch` has room for as many words.
    pub(super) fn store_words(&self, buffer: usize, index: &Index, values: &[u32], scratch: &mut [u32]) {
        let (view, n) = (&self.views[buffer], values.len());
        if index.jumps() {
            index.lanes(self, &mut scratch[..n]);
            view.scatter(&scratch[..n], values);
        } else {
            index.pieces(self, n, |k, len, at, step| view.store(at, step, &values[k..k + len]));
        }
    }

    fn compute(&mut self, code: &Code, out: &mut [u32]) {
        let n = out.len();
        match code {
            Code::Apply(f, [a, b]) => f(self.lanes(*a, n), self.lanes(*b, n), out),
            Code::Select([c, a, b]) => {
                select(self.lanes(*c, n), self.lanes(*a, n), self.lanes(*b, n), out);
            }
            Code::Splat(place) => out.fill(self.first(*place)),
            Code::Index(index) => index.lanes(self, out),
            Code::Table(lane, values) => {
                let values = values.get(self.var(*lane) as usize..).unwrap_or(&[]);
                out.iter_mut().zip(values).for_each(|(out, value)| *out = *value);
            }
            Code::Load { buffer, index, mask } => self.load(*buffer, index, *mask, out),
            Code::Inside(index, bound) => {
                index.lanes(self, out);
                below(*bound, out);
            }
            Code::Checked { value, bound, mask, fault } => {
                let mut outside = false;
                let values = self.lanes(*value, n);
                match mask.map(|mask| self.lanes(mask, n)) {
                    Some(mask) => {
                        for ((out, x), m) in out.iter_mut().zip(values).zip(mask) {
                            *out = u32::from(x < bound);
                            outside |= x >= bound && *m != 0;
                        }
                    }
                    None => {
                        for (out, x) in out.iter_mut().zip(values) {
                            *out = u32::from(x < bound);
                            outside |= x >= bound;
                        }
                    }
                }
                if outside {
                    self.raise(*fault);
                }
            }
            Code::Random { key, counter } => {
                counter.lanes(self, out);
                let [k0, k1] = key.map(|place| self.lanes(place, n));
                match (k0, k1) {
                    (&[k0], &[k1]) => out.iter_mut().for_each(|x| *x = random([k0, k1], *x)),
                    _ => {
                        for (k, x) in out.iter_mut().enumerate() {
                            *x = random([k0[k.min(k0.len() - 1)], k1[k.min(k1.len() - 1)]], *x);
                        }
                    }
                }
            }
        }
    }

    fn load(&mut self, buffer: usize, index: &Index, mask: Option<Place>, out: &mut [u32]) {
        if let Some(Place::Uniform(at)) = mask
            && self.uniforms[at] == 0
        {
            return out.fill(0);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let view = &self.views[buffer];
        if index.jumps() {
            let index_lanes = &mut scratch[..out.len()];
            index.lanes(self, index_lanes);
            view.gather(index_lanes, out);
        } else {
            index.pieces(self, out.len(), |k, len, at, step| view.load(at, step, &mut out[k..k + len]));
        }
        self.scratch = scratch;
        if let Some(mask @ Place::Lane(_)) = mask {
            let mask = self.lanes(mask, out.len());
            for (out, m) in out.iter_mut().zip(mask) {
                *out = if *m != 0 { *out } else { 0 };
            }
        }
    }

    /// Notes that an index was out of range.
    pub(super) fn raise(&self, fault: usize) {
        if let Some(flag) = self.faults.get(fault) {
            flag.store(true, Relaxed);
        }
    }
}

wide! {
    /// The second operand where the first is not 0, else the third.
    fn select(c: &[u32], a: &[u32], b: &[u32], out: &mut [u32]) {
        for ((out, c), (a, b)) in out.iter_mut().zip(c).zip(a.iter().zip(b)) {
            // By bits, because with a branch compilers load by a mask, which is slow.
            let mask = u32::from(*c != 0).wrapping_neg();
            *out = (a & mask) | (b & !mask);
        }
    }
}

wide! {
    fn below(bound: u32, out: &mut [u32]) {
        out.iter_mut().for_each(|x| *x = u32::from(*x < bound));
    }
}

fn random(key: [u32; 2], counter: u32) -> u32 {
    let [x, z] = threefry2x32(key, [0, counter]);
    x ^ z
}

/// How numbers of `from` become numbers of `to`; `None` where the bits stay.
pub(super) fn cast(from: DType, to: DType) -> Option<Lanes> {
    macro_rules! map {
        (|$x:ident: $t:ident| $y:expr) => {
            Some(|a: &[u32], _: &[u32], out: &mut [u32]| {
                for (out, a) in out.iter_mut().zip(a) {
                    let $x = $t(*a);
                    *out = $y;
                }
            })
        };
    }
    match (from.compute(), to) {
        (_, to) if to == from => None,
        (DType::F32, DType::F32) => None,
        (DType::F32, DType::F16) => Some(round_f16),
        (DType::F32, DType::BF16) => Some(round_bf16),
        (DType::F32, DType::I32) => map!(|x: float| x as i32 as u32),
        (DType::F32, DType::U32) => map!(|x: float| x as u32),
        (DType::F32, DType::U8) => map!(|x: float| u32::from(x as u8)),
        (DType::F32, DType::Bool) => map!(|x: float| u32::from(x != 0.0)),
        (DType::I32, DType::F32) => map!(|x: signed| (x as f32).to_bits()),
        (DType::I32, DType::F16) => map!(|x: signed| f16::from_f64(f64::from(x)).to_f32().to_bits()),
        (DType::I32, DType::BF16) => map!(|x: signed| bf16::from_f32(x as f32).to_f32().to_bits()),
        (_, DType::F32) => map!(|x: bits| (x as f32).to_bits()),
        (_, DType::F16) => map!(|x: bits| f16::from_f64(f64::from(x)).to_f32().to_bits()),
        (_, DType::BF16) => map!(|x: bits| bf16::from_f32(x as f32).to_f32().to_bits()),
        (_, DType::Bool) => map!(|x: bits| u32::from(x != 0)),
        (_, DType::U8) => map!(|x: bits| x & 255),
        (_, DType::I32 | DType::U32) => None,
    }
}

fn float(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn signed(bits: u32) -> i32 {
    bits as i32
}

fn bits(bits: u32) -> u32 {
    bits
}

fn round_f16(x: &[u32], _: &[u32], out: &mut [u32]) {
    let mut halves = [f16::ZERO; 64];
    for (x, out) in x.chunks(64).zip(out.chunks_mut(64)) {
        let halves = &mut halves[..x.len()];
        halves.convert_from_f32_slice(bytemuck::cast_slice(x));
        halves.convert_to_f32_slice(bytemuck::cast_slice_mut(out));
    }
}

fn round_bf16(x: &[u32], _: &[u32], out: &mut [u32]) {
    for (x, out) in x.iter().zip(out) {
        *out = bf16::from_f32(f32::from_bits(*x)).to_f32().to_bits();
    }
}
