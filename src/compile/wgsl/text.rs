//! Text: expressions as WGSL statements, each named once in the scope where it is first needed.

use std::fmt::{self, Write};

use crate::compile::index::{Atom, Lin};
use crate::compile::kernel::{Expr, ExprId, I, J, K, Kernel, O};
use crate::compile::wgsl::four::{Four, View};
use crate::compile::wgsl::source::source;
use crate::dtype::DType;
use crate::graph::scalar::{Family, Scalar};
use crate::graph::source::ALL_KERNELS;

/// Marks the vector that a load belongs to among the named expressions.
const QUAD: ExprId = 1 << 31;

/// Names of the kernel variables in shaders.
const VARIABLES: [(u8, &str); 4] = [(O, "o"), (I, "i"), (J, "j"), (K, "k")];

/// Files of `shaders/lib`, by name.
const LIB: &[(&str, &str)] = &[
    ("asin", source!("lib/asin")),
    ("atan", source!("lib/atan")),
    ("convert", source!("lib/convert")),
    ("erf", source!("lib/erf")),
    ("expm1", source!("lib/expm1")),
    ("float16", source!("lib/float16")),
    ("integer", source!("lib/integer")),
    ("ln", source!("lib/ln")),
    ("log1p", source!("lib/log1p")),
    ("minmax", source!("lib/minmax")),
    ("pow", source!("lib/pow")),
    ("rem", source!("lib/rem")),
    ("sin", source!("lib/sin")),
    ("sinh", source!("lib/sinh")),
    ("tanh", source!("lib/tanh")),
    ("threefry", source!("lib/threefry")),
];

/// A shader being written.
pub struct Text<'k> {
    /// The kernel.
    pub kernel: &'k Kernel,
    /// Which variables and reductions each expression depends on.
    pub deps: Vec<u64>,
    /// Whether a fault can be raised.
    pub raises: bool,
    /// How the kernel goes over fours, when it does.
    pub four: Option<&'k Four>,
    globals: String,
    body: String,
    indent: usize,
    libs: Vec<&'static str>,
    /// Expressions and index atoms that have a name, innermost scope last.
    scopes: Vec<(Vec<ExprId>, Vec<Atom>)>,
}

/// The WGSL type values of `dtype` are computed in.
pub fn wgsl_type(dtype: DType) -> &'static str {
    match dtype.compute() {
        DType::F32 => "f32",
        DType::I32 => "i32",
        _ => "u32",
    }
}

impl<'k> Text<'k> {
    /// An empty shader of `kernel`.
    pub fn new(kernel: &'k Kernel, four: Option<&'k Four>) -> Text<'k> {
        let mut text = Text {
            kernel,
            deps: kernel.dependencies(),
            raises: !kernel.faults.is_empty(),
            four,
            globals: String::new(),
            body: String::new(),
            indent: 0,
            libs: Vec::new(),
            scopes: vec![Default::default()],
        };
        text.global("struct Meta { first: u32, inf: u32, nan: u32, fault: u32 }");
        text.global("@group(0) @binding(0) var<uniform> meta_: Meta;");
        if text.raises {
            text.global("@group(0) @binding(1) var<storage, read_write> faults: array<atomic<u32>>;");
            text.global("fn raise(k: u32) { atomicMax(&faults[0], meta_.fault + k); }");
        }
        text
    }

    /// A module-scope line.
    pub fn global(&mut self, line: impl fmt::Display) {
        write_line(&mut self.globals, 0, &line);
    }

    /// A line of the function being written.
    pub fn line(&mut self, line: impl fmt::Display) {
        write_line(&mut self.body, self.indent, &line);
    }

    /// A file of `shaders/`.
    pub fn source(&mut self, source: &str) {
        write_source(&mut self.body, source);
    }

    /// A line that opens a block, whose names are forgotten when it closes.
    pub fn open(&mut self, line: impl fmt::Display) {
        self.line(line);
        self.indent += 1;
        self.scopes.push(Default::default());
    }

    /// Closes a block.
    pub fn close(&mut self, line: impl fmt::Display) {
        self.indent = self.indent.saturating_sub(1);
        if self.scopes.len() > 1 {
            self.scopes.pop();
        }
        self.line(line);
    }

    /// Makes a file of `shaders/lib` part of the shader.
    pub fn lib(&mut self, name: &'static str) {
        self.libs.push(name);
    }

    /// The whole shader, after `enables`.
    pub fn finish(self, enables: &str) -> String {
        let mut whole = self.globals;
        whole.insert_str(0, enables);
        for (_, source) in LIB.iter().filter(|(name, _)| self.libs.contains(name)) {
            write_source(&mut whole, source);
        }
        whole.push_str(&self.body);
        whole
    }

    /// Names what `roots` need and `wanted` accepts, operands first.
    pub fn define(&mut self, roots: &[ExprId], wanted: &dyn Fn(u64) -> bool) {
        for id in reachable(self.kernel, roots) {
            if wanted(self.deps[id as usize]) {
                self.atoms_of(id, &|_| true);
                if !self.is_named(id) {
                    self.name(id);
                }
            } else {
                // Parts of an index that the loop does not change are worked out before it.
                self.atoms_of(id, wanted);
            }
        }
    }

    fn is_named(&self, id: ExprId) -> bool {
        self.scopes.iter().any(|(ids, _)| ids.contains(&id))
    }

    /// Names the quotients and remainders in the index of expression `id`, where `wanted`.
    fn atoms_of(&mut self, id: ExprId, wanted: &dyn Fn(u64) -> bool) {
        let lin = match &self.kernel.body[id as usize] {
            Expr::Index(lin)
            | Expr::Load { index: lin, .. }
            | Expr::Inside { index: lin, .. }
            | Expr::Random { counter: lin, .. } => lin,
            Expr::Const(_)
            | Expr::Scalar { .. }
            | Expr::Cast { .. }
            | Expr::Bitcast(_)
            | Expr::Checked { .. }
            | Expr::Reduced(_) => return,
        };
        self.atoms(&lin.clone(), wanted);
    }

    /// Names the quotients and remainders of `lin` where `wanted` accepts what they depend on.
    pub fn atoms(&mut self, lin: &Lin, wanted: &dyn Fn(u64) -> bool) {
        for (atom, _) in &lin.terms {
            let (Atom::Div(inner, d) | Atom::Mod(inner, d)) = atom else { continue };
            self.atoms(inner, wanted);
            let known = self.scopes.iter().any(|(_, atoms)| atoms.contains(atom));
            if known || !wanted(self.deps_of(inner)) || !self.values_named(inner) {
                continue;
            }
            let op = if matches!(atom, Atom::Div(..)) { "/" } else { "%" };
            let text = format!("let {} = ({}) {op} {d}u;", self.atom_name(atom), self.index(inner));
            self.line(text);
            if let Some((_, atoms)) = self.scopes.last_mut() {
                atoms.push(atom.clone());
            }
        }
    }

    fn deps_of(&self, lin: &Lin) -> u64 {
        let mut set = 0;
        lin.visit(&mut |atom| match atom {
            Atom::Var(v, _) => set |= 1 << v,
            Atom::Value(id, _) => set |= self.deps[*id as usize],
            Atom::Div(..) | Atom::Mod(..) => {}
        });
        set
    }

    fn values_named(&self, lin: &Lin) -> bool {
        let mut all = true;
        lin.visit(&mut |atom| {
            if let Atom::Value(id, _) = atom {
                all &= self.is_named(*id);
            }
        });
        all
    }

    fn atom_name(&self, atom: &Atom) -> String {
        use std::hash::{Hash, Hasher};
        let mut h = crate::graph::mix::Mix::default();
        atom.hash(&mut h);
        format!("q{:x}", h.finish() as u32)
    }

    /// `lin` as a `u32` expression.
    pub fn index(&self, lin: &Lin) -> String {
        let mut text = String::new();
        for (atom, c) in &lin.terms {
            let named = self.scopes.iter().any(|(_, atoms)| atoms.contains(atom));
            let inner = match atom {
                Atom::Var(v, _) => VARIABLES.iter().find(|(n, _)| n == v).map_or("o", |(_, name)| name).to_string(),
                Atom::Value(id, _) => format!("u32({})", self.value(*id)),
                Atom::Div(..) | Atom::Mod(..) if named => self.atom_name(atom),
                Atom::Div(x, d) => format!("({}) / {d}u", self.index(x)),
                Atom::Mod(x, d) => format!("({}) % {d}u", self.index(x)),
            };
            let term = match c.abs() {
                1 => inner,
                c => format!("({inner}) * {}u", c as u32),
            };
            match (*c < 0, text.is_empty()) {
                (false, true) => text = term,
                (false, false) => text = format!("{text} + {term}"),
                (true, true) => text = format!("0u - ({term})"),
                (true, false) => text = format!("{text} - ({term})"),
            }
        }
        match (text.is_empty(), lin.constant) {
            (true, c) => format!("{}u", c as u32),
            (false, 0) => text,
            (false, c) if c < 0 => format!("{text} - {}u", c.unsigned_abs() as u32),
            (false, c) => format!("{text} + {}u", c as u32),
        }
    }

    /// How expression `id` is written where it is used.
    pub fn value(&self, id: ExprId) -> String {
        match &self.kernel.body[id as usize] {
            Expr::Const(bits) => self.literal(*bits, self.kernel.dtypes[id as usize]),
            Expr::Reduced(n) => format!("r{n}"),
            _ => format!("e{id}"),
        }
    }

    /// `bits` as a literal of `dtype`.
    pub fn literal(&self, bits: u32, dtype: DType) -> String {
        match dtype.compute() {
            DType::F32 => {
                let x = f32::from_bits(bits);
                if x.is_nan() {
                    "bitcast<f32>(meta_.nan)".into()
                } else if x.is_infinite() {
                    let sign = if x < 0.0 { " | 0x80000000u" } else { "" };
                    format!("bitcast<f32>(meta_.inf{sign})")
                } else if bits == 0x8000_0000 || (x != 0.0 && !x.is_normal()) {
                    format!("bitcast<f32>({bits}u)")
                } else {
                    // The same number with more digits in a page, which so is linked without what
                    // formats an f32.
                    let digits = if ALL_KERNELS { format!("{x:?}f") } else { format!("{:?}f", f64::from(x)) };
                    if x < 0.0 { format!("({digits})") } else { digits }
                }
            }
            DType::I32 => match bits as i32 {
                i32::MIN => "(-2147483647i - 1i)".into(),
                n if n < 0 => format!("({n}i)"),
                n => format!("{n}i"),
            },
            _ => format!("{bits}u"),
        }
    }

    /// How buffer `k` is seen.
    pub fn view(&self, k: usize) -> View {
        self.four.map_or(View::Single, |four| four.views[k])
    }

    /// The vector that expression `id` is a component of, and which, when it is a load of one.
    fn quad(&mut self, id: ExprId) -> Option<(ExprId, usize)> {
        let (first, lane) = self.four.and_then(|four| four.loads[id as usize])?;
        let Expr::Load { buffer, index, .. } = &self.kernel.body[first as usize] else { return None };
        if self.view(*buffer) == View::Single {
            return None;
        }
        if !self.is_named(first | QUAD) {
            self.atoms(index, &|_| true);
            let line = format!("let g{first} = quad{buffer}({});", self.index(&index.div(4)));
            self.line(line);
            self.named(first | QUAD);
        }
        Some((first, lane))
    }

    /// Writes `let eN = …;`.
    fn name(&mut self, id: ExprId) {
        let dtype = self.kernel.dtypes[id as usize];
        if let Some((first, lane)) = self.quad(id) {
            self.line(format_args!("let e{id} = g{first}[{lane}u];"));
            return self.named(id);
        }
        let text = match &self.kernel.body[id as usize] {
            Expr::Const(_) | Expr::Reduced(_) => return,
            Expr::Index(lin) => match dtype.compute() {
                DType::I32 => format!("i32({})", self.index(lin)),
                _ => self.index(lin),
            },
            Expr::Load { buffer, index, mask } => {
                let at = self.index(index);
                match mask {
                    None => format!("load{buffer}({at})"),
                    Some(mask) => {
                        let (mask, zero) = (self.value(*mask), self.literal(0, dtype));
                        format!("select({zero}, load{buffer}(select(0u, {at}, {mask} != 0u)), {mask} != 0u)")
                    }
                }
            }
            Expr::Inside { index, bound } => format!("select(0u, 1u, ({}) < {bound}u)", self.index(index)),
            Expr::Bitcast(src) => match self.kernel.body[*src as usize] {
                // No constant of WGSL may be infinite or NaN.
                Expr::Const(bits) if dtype == DType::F32 => format!("bitcast<f32>({bits}u | (meta_.inf & 1u))"),
                _ => format!("bitcast<{}>({})", wgsl_type(dtype), self.value(*src)),
            },
            Expr::Cast { src, from } => self.cast(&self.value(*src), *from, dtype),
            Expr::Checked { value, bound, mask, fault } => {
                let (value, fault, bound) = (self.value(*value), *fault, *bound);
                let mask = mask.map(|m| format!(" && {} != 0u", self.value(m))).unwrap_or_default();
                self.line(format_args!("let e{id} = select(0u, 1u, u32({value}) < {bound}u);"));
                self.line(format_args!("if (e{id} == 0u{mask}) {{ raise({fault}u); }}"));
                self.named(id);
                return;
            }
            Expr::Random { key, counter } => {
                self.libs.push("threefry");
                format!("threefry({}, {}, {})", self.value(key[0]), self.value(key[1]), self.index(counter))
            }
            Expr::Scalar { op, src } => {
                let operand = if op.spec().family == Family::Choose { src[1] } else { src[0] };
                let mut operands = src.map(|s| self.value(s));
                // A division by a constant 0 is a compiler's to define; by a 0 it does not know, it is IEEE's.
                if matches!(op, Scalar::Div | Scalar::FloorDiv | Scalar::Rem)
                    && matches!(self.kernel.body[src[1] as usize], Expr::Const(0))
                    && self.kernel.dtypes[operand as usize].is_float()
                {
                    operands[1] = "bitcast<f32>(meta_.inf & 1u)".into();
                }
                self.scalar(*op, &operands, self.kernel.dtypes[operand as usize], dtype)
            }
        };
        for lib in self.needs(id) {
            self.libs.push(lib);
        }
        self.line(format_args!("let e{id} = {text};"));
        self.named(id);
    }

    fn named(&mut self, id: ExprId) {
        if let Some((ids, _)) = self.scopes.last_mut() {
            ids.push(id);
        }
    }

    fn needs(&self, id: ExprId) -> Vec<&'static str> {
        match &self.kernel.body[id as usize] {
            Expr::Scalar { op, .. } => op.spec().needs.to_vec(),
            Expr::Cast { from, .. } => {
                let mut libs = Vec::new();
                if from.is_float() && !self.kernel.dtypes[id as usize].is_float() {
                    libs.push("convert");
                }
                if self.kernel.dtypes[id as usize].bytes() == 2 {
                    libs.push("float16");
                }
                libs
            }
            _ => Vec::new(),
        }
    }

    /// A row of the table on written operands of dtype `operand`.
    pub fn scalar(&mut self, op: Scalar, src: &[String], operand: DType, result: DType) -> String {
        let spec = op.spec();
        spec.needs.iter().for_each(|lib| {
            self.libs.push(lib);
        });
        let float = operand.is_float() || spec.family == Family::Choose;
        let mut text = if float { spec.wgsl } else { spec.wgsl_int }.replace("$t", wgsl_type(operand));
        for (k, src) in src.iter().enumerate() {
            text = text.replace(&format!("${k}"), src);
        }
        match (result, op) {
            (DType::U8, _) if spec.family != Family::Choose => format!("({text}) & 255u"),
            (DType::Bool, Scalar::Not) => format!("{text} & 1u"),
            _ => text,
        }
    }

    /// `value` of dtype `from` as `to`.
    fn cast(&self, value: &str, from: DType, to: DType) -> String {
        match (from.compute(), to) {
            (DType::F32, DType::F32) => value.to_string(),
            (DType::F32, DType::F16 | DType::BF16) => format!("{to}_load({to}_store({value}))"),
            (DType::F32, DType::I32) => format!("to_i32({value})"),
            (DType::F32, DType::U32) => format!("to_u32({value})"),
            (DType::F32, DType::U8) => format!("min(to_u32({value}), 255u)"),
            (DType::F32, DType::Bool) => format!("select(1u, 0u, {value} == 0.0)"),
            (_, DType::F32) => format!("f32({value})"),
            (_, DType::F16 | DType::BF16) => format!("{to}_load({to}_store(f32({value})))"),
            (_, DType::I32) => format!("i32({value})"),
            (_, DType::U32) => format!("u32({value})"),
            (_, DType::U8) => format!("u32({value}) & 255u"),
            (DType::I32, DType::Bool) => format!("select(0u, 1u, {value} != 0i)"),
            (_, DType::Bool) => format!("select(0u, 1u, {value} != 0u)"),
        }
    }

    /// The bits of `value` as they lie in memory in a packed `dtype`.
    pub fn pack(&mut self, value: &str, dtype: DType) -> String {
        match dtype {
            DType::F16 | DType::BF16 => {
                self.lib("float16");
                format!("{dtype}_store({value})")
            }
            DType::Bool | DType::U8 => format!("({value} & 255u)"),
            DType::F32 | DType::I32 | DType::U32 => value.to_string(),
        }
    }
}

/// What `roots` are made of, operands first.
pub fn reachable(kernel: &Kernel, roots: &[ExprId]) -> Vec<ExprId> {
    let mut seen = vec![false; kernel.body.len()];
    roots.iter().for_each(|&r| seen[r as usize] = true);
    for id in (0..kernel.body.len()).rev() {
        if seen[id] {
            operands(&kernel.body[id], &mut |x| seen[x as usize] = true);
        }
    }
    (0..seen.len() as ExprId).filter(|&id| seen[id as usize]).collect()
}

/// Calls `f` on every operand of `expr`, those inside indices too.
fn operands(expr: &Expr, f: &mut impl FnMut(ExprId)) {
    let lin = |lin: &Lin, f: &mut dyn FnMut(ExprId)| {
        lin.visit(&mut |atom| {
            if let Atom::Value(id, _) = atom {
                f(*id);
            }
        });
    };
    match expr {
        Expr::Const(_) | Expr::Reduced(_) => {}
        Expr::Index(index) | Expr::Inside { index, .. } => lin(index, f),
        Expr::Load { index, mask, .. } => {
            lin(index, f);
            mask.iter().for_each(|&m| f(m));
        }
        Expr::Scalar { src, .. } => src.iter().for_each(|&s| f(s)),
        Expr::Cast { src, .. } | Expr::Bitcast(src) => f(*src),
        Expr::Checked { value, mask, .. } => {
            f(*value);
            mask.iter().for_each(|&m| f(m));
        }
        Expr::Random { key, counter } => {
            lin(counter, f);
            key.iter().for_each(|&k| f(k));
        }
    }
}

/// One copy for lines of every type.
fn write_line(to: &mut String, indent: usize, line: &dyn fmt::Display) {
    // Writing into a string does not fail.
    let _ = writeln!(to, "{:1$}{line}", "", indent * 4);
}

/// `source` with its blocks indented, which programs do not carry.
pub fn write_source(to: &mut String, source: &str) {
    let mut depth = 0usize;
    for line in source.lines() {
        let closes = usize::from(line.starts_with('}'));
        write_line(to, depth.saturating_sub(closes), &line);
        let count = |brace| line.matches(brace).count();
        depth = (depth + count('{')).saturating_sub(count('}'));
    }
}
