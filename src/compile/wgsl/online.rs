//! Online: a sum of exponentials below a maximum, taken along by the loop that finds the maximum.
//!
//! A row that no workgroup holds in registers is so read once for `sum(exp(x - max(x)))`, not twice:
//! what was added below a smaller maximum shrinks when a greater one is found. What a row of
//! infinities or with a NaN comes to stays what its definition says.

use crate::compile::kernel::{Expr, ExprId, FoldKind, Loop, Reduce};
use crate::compile::plan::{Limits, Target};
use crate::compile::wgsl::loops::elements;
use crate::compile::wgsl::text::Text;
use crate::graph::op::Reduction;
use crate::graph::scalar::Scalar;
use crate::graph::source::ALL_KERNELS;

/// Reduction `sum`, which the loop of reduction `max` takes along.
pub struct Along<'l> {
    max: usize,
    sum: usize,
    reduce: &'l Reduce,
}

/// What the loop of `stage` takes along: all of the next stage, or nothing.
pub fn along<'l>(text: &Text<'_>, l: &'l Loop, stage: usize, limits: &Limits) -> Vec<Along<'l>> {
    if !ALL_KERNELS || limits.target != Target::Gpu {
        return Vec::new();
    }
    let next = l.reduces.iter().enumerate().filter(|(_, r)| r.stage == stage + 1);
    let found = next.map(|(sum, reduce)| {
        let values = elements(text, &[(sum, reduce)]).concat();
        let max = l.reduces.iter().enumerate().find(|(max, r)| {
            let below = elements(text, &[(*max, *r)]).concat();
            let is_below = |(&value, &x): (&ExprId, &ExprId)| is_exp_below(text, value, x, *max);
            r.stage == stage && r.fold == FoldKind::Value(Reduction::Max) && values.iter().zip(&below).all(is_below)
        });
        let is_sum = reduce.fold == FoldKind::Value(Reduction::Sum);
        max.filter(|_| is_sum).map(|(max, _)| Along { max, sum, reduce })
    });
    let found: Vec<Along<'l>> = found.collect::<Option<_>>().unwrap_or_default();
    // One maximum, one sum: what loops over a row is no longer than it was.
    if found.iter().any(|a| found.iter().any(|b| a.max == b.max && a.sum != b.sum)) { Vec::new() } else { found }
}

/// Whether `value` is `exp(x - r)`, `r` being the result of reduction `max`.
fn is_exp_below(text: &Text<'_>, value: ExprId, x: ExprId, max: usize) -> bool {
    let body = &text.kernel.body;
    let Expr::Scalar { op: Scalar::Exp, src } = &body[value as usize] else { return false };
    let Expr::Scalar { op: Scalar::Sub, src } = &body[src[0] as usize] else { return false };
    src[0] == x && matches!(body[src[1] as usize], Expr::Reduced(n) if n == max)
}

impl<'l> Along<'l> {
    /// The sum, as the loop knows reductions.
    pub fn sum(&self) -> (usize, &'l Reduce) {
        (self.sum, self.reduce)
    }

    /// Whether the sum is taken below reduction `n`, which [`Along::add`] then finds, too.
    pub fn is_below(&self, n: usize) -> bool {
        self.max == n
    }

    /// Takes in element `x`. The least number of all adds nothing and is no maximum to be below.
    pub fn add(&self, text: &mut Text<'_>, x: &str) {
        let (m, s, dtype) = (self.max, self.sum, self.reduce.dtype);
        // By its bits: a NaN, which drivers find unequal to nothing, is to pass.
        text.open(format_args!("if (bitcast<u32>({x}) != {:#x}u) {{", f32::NEG_INFINITY.to_bits()));
        let top = text.scalar(Reduction::Max.combine(), &[format!("r{m}"), x.into()], dtype, dtype);
        text.line(format_args!("let top = {top};"));
        let less = text.scalar(Scalar::Exp, &[format!("r{m} - top")], dtype, dtype);
        text.line(format_args!("if (!(top == r{m})) {{ let less = {less}; r{s} *= less; p{s} *= less; r{m} = top; }}"));
        let more = text.scalar(Scalar::Exp, &[format!("{x} - top")], dtype, dtype);
        text.line(format_args!("p{s} += {more};"));
        text.close("}");
    }

    /// Remembers what this invocation's share of the sum is below.
    pub fn keep(&self, text: &mut Text<'_>) {
        text.line(format_args!("let top{0} = r{0};", self.max));
    }

    /// Brings this invocation's share below the maximum of the whole row.
    pub fn lower(&self, text: &mut Text<'_>) {
        let (m, s, dtype) = (self.max, self.sum, self.reduce.dtype);
        let less = text.scalar(Scalar::Exp, &[format!("top{m} - r{m}")], dtype, dtype);
        text.line(format_args!("r{s} *= {less};"));
    }
}
