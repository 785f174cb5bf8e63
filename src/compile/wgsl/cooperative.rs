//! Products on the matrix units of a GPU: which of them are computed there, how they are cut, and the
//! parameters of the template.
//!
//! Such a unit multiplies f16 and adds up in f32, so it serves products whose operands are f16 whatever
//! they were computed in, and on some GPUs those of f32; no product means something else for it.
//! Knows no devices: what one can do comes in as [`Cooperative`].

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Dot, Expr, ExprId, I, J, K, Kernel};
use crate::compile::plan::Limits;
use crate::compile::wgsl::loops::store_word;
use crate::compile::wgsl::product::along_k;
use crate::compile::wgsl::source::source;
use crate::compile::wgsl::text::Text;
use crate::dtype::DType;
use crate::graph::scalar::Scalar;

/// What must stand before everything else in a shader.
pub const ENABLES: &str = "enable f16;\nenable wgpu_cooperative_matrix;\n";

/// Rows and columns of a workgroup's results, the largest first.
const EDGES: [u32; 2] = [128, 64];

/// What the matrix units of a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cooperative {
    /// Rows, columns and steps of the matrices that a subgroup multiplies: 8 or 16.
    pub side: u32,
    /// Invocations of the largest subgroup that the device makes.
    pub subgroup: u32,
    /// Whether they multiply f32, too.
    pub f32: bool,
    /// Rows, columns and steps below which a product is not worth it.
    pub least: usize,
    /// Rows and columns that the results of a workgroup may have.
    pub edge_max: u32,
}

impl Cooperative {
    /// Units that multiply f16 matrices of `side` by `side`, by subgroups of up to `subgroup`.
    pub fn new(side: u32, subgroup: u32) -> Cooperative {
        Cooperative { side, subgroup, f32: false, least: 32, edge_max: EDGES[0] }
    }

    /// The cuts that fit a device, the largest first.
    pub fn cuts(&self, elem: DType, limits: &Limits) -> impl Iterator<Item = Cut> {
        let all = EDGES.map(|edge| Cut::new(self, edge, elem));
        let (invocations_max, bytes_max) = (limits.invocations_max, limits.workgroup_bytes_max);
        let fits = move |cut: &Cut| cut.invocations() <= invocations_max && cut.bytes() <= bytes_max;
        let edge_max = self.edge_max;
        all.into_iter().flatten().filter(move |cut| cut.edge <= edge_max && fits(cut))
    }
}

/// How a product is cut: a workgroup has `edge` rows and columns, two invocations for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    side: u32,
    subgroup: u32,
    /// Rows and columns of a workgroup.
    pub edge: u32,
    /// Of both operands: f16 or f32.
    elem: DType,
    /// Matrices of a subgroup, along rows and along columns, 2 or 4.
    parts: [u32; 2],
}

impl Cut {
    fn new(of: &Cooperative, edge: u32, elem: DType) -> Option<Cut> {
        let Cooperative { side: side @ (8 | 16), subgroup, .. } = *of else { return None };
        if subgroup == 0 || !(2 * edge).is_multiple_of(subgroup) {
            return None;
        }
        let n = edge / side;
        let parts = match n * n * subgroup {
            all if all == 4 * 2 * edge => [2, 2],
            all if all == 8 * 2 * edge => [4, 2],
            all if all == 16 * 2 * edge => [4, 4],
            _ => return None,
        };
        Some(Cut { side, subgroup, edge, elem, parts })
    }

    fn invocations(&self) -> u32 {
        2 * self.edge
    }

    /// Elements of a word.
    fn per(&self) -> u32 {
        self.elem.per_word() as u32
    }

    /// Steps that lie in workgroup memory at once: 8 words of each operand an invocation.
    fn depth(&self) -> u32 {
        16 * self.per()
    }

    /// Subgroups along rows and along columns.
    fn subgroups(&self) -> [u32; 2] {
        self.parts.map(|parts| self.edge / (self.side * parts))
    }

    /// Bytes of workgroup memory: of both operands, which take most along the contraction, and of
    /// one matrix of each subgroup.
    fn bytes(&self) -> u32 {
        let [down, across] = self.subgroups();
        let words = self.edge * (self.depth() / self.per() + 4);
        4 * (2 * words + down * across * self.side * self.side)
    }

    fn groups(&self, d: &Dot) -> usize {
        let edge = self.edge as usize;
        d.batch.saturating_mul(d.m.div_ceil(edge)).saturating_mul(d.n.div_ceil(edge))
    }
}

/// How a product is cut for matrix units, where they are worth it: the largest cut that leaves no part
/// of the device idle.
pub fn cut(kernel: &Kernel, d: &Dot, limits: &Limits) -> Option<Cut> {
    let units = limits.cooperative.as_ref()?;
    if d.dtype != DType::F32 || d.sums.iter().any(Option::is_some) || d.m.min(d.n).min(d.k) < units.least {
        return None;
    }
    let elem = match is_half(kernel, [d.lhs, d.rhs]) {
        true => DType::F16,
        false if units.f32 => DType::F32,
        false => return None,
    };
    units.cuts(elem, limits).find(|cut| cut.groups(d) >= limits.tiles.busy())
}

/// Whether every one of `values` is an f16 number, whichever way it was come by.
fn is_half(kernel: &Kernel, values: [ExprId; 2]) -> bool {
    let mut seen = vec![false; kernel.body.len()];
    let mut open = values.to_vec();
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id as usize], true) {
            continue;
        }
        match &kernel.body[id as usize] {
            Expr::Cast { from: DType::F16, .. } => {}
            Expr::Const(bits) if half::f16::from_f32(f32::from_bits(*bits)).to_f32().to_bits() == *bits => {}
            // What lies past an edge is 0.
            Expr::Scalar { op: Scalar::Where, src: [_, a, b] } => open.extend([*a, *b]),
            _ => return false,
        }
    }
    true
}

/// The template with loaders of words and a store written from the expressions.
pub fn dot(text: &mut Text<'_>, d: &Dot, cut: &Cut) -> u64 {
    let (side, elem) = (cut.side, if cut.elem == DType::F16 { "f16" } else { "f32" });
    text.global(format_args!("alias elem = {elem};"));
    for (name, elem, role) in [("row", elem, "A"), ("column", elem, "B"), ("sum", "f32", "C")] {
        text.global(format_args!("alias {name}_part = coop_mat{side}x{side}<{elem}, {role}>;"));
    }
    let [down, across] = cut.subgroups();
    let numbers = [
        ("BATCH", d.batch as u32),
        ("M", d.m as u32),
        ("N", d.n as u32),
        ("SIDE", side),
        ("LANES", cut.subgroup),
        ("DOWN", down),
        ("ACROSS", across),
        ("DEPTH", cut.depth()),
        ("PER", cut.per()),
    ];
    numbers.iter().for_each(|(name, value)| text.global(format_args!("const {name}: u32 = {value}u;")));
    let along = along_k(text.kernel, d);
    let [tall, wide] = cut.parts.map(|parts| parts == 4);
    let flags = [("TALL", tall), ("WIDE", wide), ("LHS_ALONG_K", along[0]), ("RHS_ALONG_K", along[1])];
    flags.iter().for_each(|(name, value)| text.global(format_args!("const {name}: bool = {value};")));
    text.global("fn zero() -> u32 { return meta_.inf & 1u; }");
    text.global(format_args!("fn depth() -> u32 {{ return {}u + zero(); }}", d.k));
    text.global("fn first_group() -> u32 { return meta_.first; }");
    let edge = cut.edge as usize;
    // What lies past an edge is asked for where a workgroup does not end with it.
    let edges = [d.m, d.n].map(|n| (!n.is_multiple_of(edge)).then_some(n));
    operand(text, ("lhs", ["i", "k"]), (d.lhs, along[0]), (cut, (I, edges[0], d.m), d.k));
    operand(text, ("rhs", ["k", "j"]), (d.rhs, along[1]), (cut, (J, edges[1], d.n), d.k));
    put(text, "row", "rows_at", cut);
    put(text, "column", "columns_at", cut);
    text.open("fn store(o: u32, i: u32, j: u32, r0: f32) {");
    for (name, edge) in ["i", "j"].iter().zip(edges) {
        guard(text, name, edge, "");
    }
    let values: Vec<ExprId> = d.stores.iter().map(|s| s.value).collect();
    text.define(&values, &|_| true);
    d.stores.iter().for_each(|s| store_word(text, s));
    text.close("}");
    text.source(source!("cooperative"));
    cut.groups(d) as u64
}

fn guard(text: &mut Text<'_>, name: &str, edge: Option<usize>, result: &str) {
    if let Some(n) = edge {
        text.line(format_args!("if ({name} >= {n}u) {{ return{result}; }}"));
    }
}

/// The loader of a word of an operand: two halves side by side along the contraction or along the axis
/// that workgroups go over, or one f32.
fn operand(
    text: &mut Text<'_>,
    (name, [a, b]): (&str, [&str; 2]),
    (one, along_k): (ExprId, bool),
    (cut, (var, edge, n), k): (&Cut, (Var, Option<usize>, usize), usize),
) {
    let axis = if a == "k" { b } else { a };
    let signature = format!("{name}_word(o: u32, {a}: u32, {b}: u32) -> u32");
    let (side_by_side, extent) = if along_k { (K, k) } else { (var, n) };
    if cut.elem == DType::F16
        && let Some((buffer, at)) = word(text.kernel, one, (side_by_side, extent))
    {
        text.open(format_args!("fn {signature} {{"));
        guard(text, axis, edge, " 0u");
        text.atoms(&at, &|_| true);
        let at = text.index(&at);
        text.line(format_args!("return word{buffer}({at});"));
        return text.close("}");
    }
    text.open(format_args!("fn {name}(o: u32, {a}: u32, {b}: u32) -> f32 {{"));
    guard(text, axis, edge, " 0.0");
    // The second half of a word.
    guard(text, "k", (cut.per() > 1 && along_k && !k.is_multiple_of(2)).then_some(k), " 0.0");
    text.define(&[one], &|_| true);
    let value = text.value(one);
    text.line(format_args!("return {value};"));
    text.close("}");
    let value = match cut.elem {
        DType::F16 => {
            let next = if along_k { "k" } else { axis };
            let [c, d] = [a, b].map(|v| if v == next { format!("{v} + 1u") } else { v.into() });
            // They are f16 numbers, so that no rounding is left to the GPU.
            format!("pack2x16float(vec2<f32>({name}(o, {a}, {b}), {name}(o, {c}, {d})))")
        }
        _ => format!("bitcast<u32>({name}(o, {a}, {b}))"),
    };
    text.line(format_args!("fn {signature} {{ return {value}; }}"));
}

/// The buffer and the word in which an operand lies at a multiple of two along `var`, where it is
/// loaded as it is and its next neighbour along `var` is in the same word.
fn word(kernel: &Kernel, operand: ExprId, (var, n): (Var, usize)) -> Option<(usize, Lin)> {
    let Expr::Cast { src, from: DType::F16 } = &kernel.body[operand as usize] else { return None };
    let Expr::Load { buffer, index, mask: None } = &kernel.body[*src as usize] else { return None };
    let own = |(atom, c): &(Atom, i64)| matches!(atom, Atom::Var(v, _) if *v == var) && *c == 1;
    let even = |(_, c): &(Atom, i64)| c % 2 == 0;
    let apart = |(atom, c): &(Atom, i64)| {
        let mut other = true;
        Lin { terms: vec![(atom.clone(), *c)], constant: 0 }
            .visit(&mut |atom| other &= !matches!(atom, Atom::Var(v, _) if *v == var));
        other
    };
    let whole = n.is_multiple_of(2) && index.constant % 2 == 0 && index.terms.iter().any(own);
    let aligned = index.terms.iter().all(|term| own(term) || (even(term) && apart(term)));
    (whole && aligned).then(|| (*buffer, index.div(2)))
}

/// What a word becomes in workgroup memory.
fn put(text: &mut Text<'_>, name: &str, array: &str, cut: &Cut) {
    text.open(format_args!("fn put_{name}(at: u32, word: u32) {{"));
    match cut.elem {
        DType::F16 => {
            text.line("let two = vec2<f16>(unpack2x16float(word));");
            text.line(format_args!("{array}[at] = two.x;"));
            text.line(format_args!("{array}[at + 1u] = two.y;"));
        }
        _ => text.line(format_args!("{array}[at] = bitcast<f32>(word);")),
    }
    text.close("}");
}
