//! The text form of kernels and plans: stable, for `explain` and for tests that compare text.

use std::fmt;

use crate::compile::kernel::{Access, Expr, FoldKind, Kernel, Kind, Store};
use crate::compile::plan::{Home, Plan};
use crate::graph::op::{CustomShader, Extreme, ScatterMode};

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match &self.kind {
            Kind::Loop(l) if l.reduces.is_empty() && l.inner == 1 => format!("map {}", l.outer),
            Kind::Loop(l) => format!("{} {} x {}", if l.rows { "rows" } else { "columns" }, l.outer, l.inner),
            Kind::Dot(d) => format!("product {} x [{}, {}] x [{}, {}]", d.batch, d.m, d.k, d.k, d.n),
            Kind::Scatter(s) => {
                let mode = if s.mode == ScatterMode::Add { "add" } else { "set" };
                format!("scatter {mode} {} lines, {} into {}", s.lines, s.updates, s.axis)
            }
            Kind::Scan(s) => format!("running {} {} x {}", s.kind.name(), s.lines, s.n),
            Kind::Sort(s) if s.merge == 0 => format!("sort {} x {} in blocks of {}", s.lines, s.n, s.block.min(s.n)),
            Kind::Sort(s) => format!("merge {} x {} in runs of {}", s.lines, s.n, s.merge),
            Kind::Custom(spec) => match &spec.shader {
                CustomShader::Own { grid, .. } => format!("custom {} grid {grid:?}", spec.name),
                CustomShader::Template(t) => {
                    let constants: Vec<String> = t.constants.iter().map(|(name, n)| format!("{name}={n}")).collect();
                    format!("{} {}", t.template.name, constants.join(" "))
                }
            },
        };
        writeln!(f, "{}: {shape}", self.name)?;
        for (k, b) in self.buffers.iter().enumerate() {
            let access = match b.access {
                Access::Read => "reads",
                Access::Write => "writes",
                Access::ReadWrite => "updates",
            };
            writeln!(f, "  b{k} {access} s{}: {} [{}]", b.slot, b.dtype, b.numel)?;
        }
        for (id, (expr, dtype)) in self.body.iter().zip(&self.dtypes).enumerate() {
            writeln!(f, "  e{id} = {expr} : {dtype}")?;
        }
        let store = |s: &Store| format!("  b{}[{}] = e{}", s.buffer, s.index, s.value);
        match &self.kind {
            Kind::Loop(l) => {
                for (n, r) in l.reduces.iter().enumerate() {
                    let fold = match r.fold {
                        FoldKind::Value(kind) => kind.name(),
                        FoldKind::Arg(Extreme::Max) => "argmax",
                        FoldKind::Arg(Extreme::Min) => "argmin",
                    };
                    writeln!(f, "  r{n} = {fold} e{} in stage {}", r.value, r.stage)?;
                }
                l.stores
                    .iter()
                    .try_for_each(|s| writeln!(f, "{}{}", store(s), if s.each_element { " each" } else { "" }))
            }
            Kind::Dot(d) => {
                writeln!(f, "  r0 = sum over k of e{} * e{}", d.lhs, d.rhs)?;
                let sums = d.sums.iter().zip([d.lhs, d.rhs]);
                sums.filter_map(|(s, of)| s.as_ref().map(|s| (s, of)))
                    .try_for_each(|(s, of)| writeln!(f, "  r1 = sum over k of e{of}\n{}", store(s)))?;
                d.stores.iter().try_for_each(|s| writeln!(f, "{}", store(s)))
            }
            Kind::Scatter(s) => {
                writeln!(f, "  b{}[{}] = e{}, then at e{} e{}", s.out, s.out_index, s.base, s.index, s.value)
            }
            Kind::Scan(s) => writeln!(f, "{}", store(&s.store)),
            Kind::Sort(_) | Kind::Custom(_) => Ok(()),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = |mask: &Option<u32>| mask.map(|m| format!(" if e{m}")).unwrap_or_default();
        match self {
            Expr::Const(bits) => write!(f, "bits {bits:#x}"),
            Expr::Index(lin) => write!(f, "index {lin}"),
            Expr::Load { buffer, index, mask } => write!(f, "b{buffer}[{index}]{}", given(mask)),
            Expr::Scalar { op, src } => {
                write!(f, "{}", op.spec().name)?;
                src[..op.spec().arity].iter().try_for_each(|s| write!(f, " e{s}"))
            }
            Expr::Cast { src, from } => write!(f, "cast e{src} from {from}"),
            Expr::Bitcast(src) => write!(f, "bitcast e{src}"),
            Expr::Inside { index, bound } => write!(f, "0 <= {index} < {bound}"),
            Expr::Checked { value, bound, mask, .. } => write!(f, "check 0 <= e{value} < {bound}{}", given(mask)),
            Expr::Random { key, counter } => write!(f, "random e{} e{} {counter}", key[0], key[1]),
            Expr::Reduced(n) => write!(f, "r{n}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, slot) in self.slots.iter().enumerate() {
            let home = match slot.home {
                Home::Leaf(n) if self.overwritten.contains(&n) => format!("leaf {n}, overwritten"),
                Home::Leaf(n) => format!("leaf {n}"),
                Home::Scalars => "runtime scalars".into(),
                Home::Output => "output".into(),
                Home::Temp(n) => format!("allocation {n}"),
            };
            writeln!(f, "s{k}: {} [{}], {} bytes, {home}", slot.dtype, slot.numel, slot.bytes())?;
        }
        for (k, step) in self.steps.iter().enumerate() {
            writeln!(f, "step {k}: {}, {} bytes, {} flops", step.kernel.name, step.bytes, step.flops)?;
        }
        let (bytes, flops) = self.steps.iter().fold((0, 0), |(b, n), s| (b + s.bytes, n + s.flops));
        let waves = match self.steps.last() {
            Some(step) if step.wave + 1 < self.steps.len() => format!(" in {} waves", step.wave + 1),
            _ => String::new(),
        };
        let (steps, peak) = (self.steps.len(), self.peak_bytes);
        writeln!(f, "{steps} steps{waves}, {bytes} bytes, {flops} flops, {peak} bytes at the peak")
    }
}
