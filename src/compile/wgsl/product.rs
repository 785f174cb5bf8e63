//! Products: a template of `shaders/` with loaders and stores written from the expressions of a kernel.

use crate::compile::index::Var;
use crate::compile::kernel::{Dot, ExprId, I, J, Store};
use crate::compile::plan::{Limits, Target};
use crate::compile::wgsl::four::{View, moved};
use crate::compile::wgsl::loops::{store_word, store_words};
use crate::compile::wgsl::source::source;
use crate::compile::wgsl::text::{Text, wgsl_type};

/// Whether a product is computed in tiles of 8 rows and 8 columns.
pub fn is_tiled(d: &Dot) -> bool {
    d.m >= 6 && d.n >= 6
}

/// A product: a template of `shaders/` with loaders and stores written from the expressions.
pub fn dot(text: &mut Text<'_>, d: &Dot, limits: &Limits) -> u64 {
    let tiled = is_tiled(d);
    let t = wgsl_type(d.dtype);
    let (width, height) = match (tiled, limits.target) {
        (true, Target::Gpu) => (8, 8),
        (true, _) => (8, 1),
        (false, _) => (64, 1),
    };
    text.global(&format!("alias elem = {t};"));
    for (name, value) in [("BATCH", d.batch), ("M", d.m), ("N", d.n), ("WIDTH", width), ("HEIGHT", height)] {
        if name != "HEIGHT" || tiled {
            text.global(&format!("const {name}: u32 = {value}u;"));
        }
    }
    text.global("fn zero() -> u32 { return meta_.inf & 1u; }");
    text.global(&format!("fn depth() -> u32 {{ return {}u + zero(); }}", d.k));
    text.global("fn first_group() -> u32 { return meta_.first; }");
    let [rows, columns] = text.four.map_or([None; 2], |four| four.operands);
    operand(text, "lhs", ["i", "k"], d.lhs, rows, (tiled, t, d.m));
    operand(text, "rhs", ["k", "j"], d.rhs, columns, (tiled, t, d.n));
    let in_fours = text.four.is_some_and(|four| four.stores);
    product_stores(text, d, in_fours, (tiled, t));
    if tiled {
        sum_store(text, "rows", d.sums[0].as_ref(), (I, d.m), t);
        sum_store(text, "columns", d.sums[1].as_ref(), (J, d.n), t);
    }
    let template = match tiled {
        true => source!("matmul"),
        false => source!("matvec"),
    };
    template.lines().for_each(|line| text.line(line));
    match tiled {
        true => (d.batch * d.m.div_ceil(8 * height) * d.n.div_ceil(8 * width)) as u64,
        false => ((d.batch * d.m * d.n) as u64).div_ceil(64),
    }
}

/// The loader of an operand: of one element, or for tiles of four neighbours, which are `n` along the
/// axis that tiles go over.
fn operand(
    text: &mut Text<'_>,
    name: &str,
    [a, b]: [&str; 2],
    one: ExprId,
    four: Option<[ExprId; 4]>,
    (tiled, t, n): (bool, &str, usize),
) {
    let tile = if a == "k" { b } else { a };
    let edge = |text: &mut Text<'_>, whole: usize, result: &str| {
        if tiled && !n.is_multiple_of(8) {
            text.line(&format!("if ({tile} >= {whole}u) {{ return {result}(); }}"));
        }
    };
    if let Some(four) = four {
        text.open(&format!("fn {name}_four(o: u32, {a}: u32, {b}: u32) -> vec4<{t}> {{"));
        edge(text, n / 4, &format!("vec4<{t}>"));
        text.define(&four, |_| true);
        let values = four.map(|id| text.value(id)).join(", ");
        text.line(&format!("return vec4<{t}>({values});"));
        return text.close("}");
    }
    text.open(&format!("fn {name}(o: u32, {a}: u32, {b}: u32) -> {t} {{"));
    edge(text, n, t);
    text.define(&[one], |_| true);
    let value = text.value(one);
    text.line(&format!("return {value};"));
    text.close("}");
    if tiled {
        let at = |k: u32| {
            let [a, b] = [a, b].map(|v| if v == tile { format!("4u * {v} + {k}u") } else { v.into() });
            format!("{name}(o, {a}, {b})")
        };
        let values = [0, 1, 2, 3].map(at).join(", ");
        text.line(&format!(
            "fn {name}_four(o: u32, {a}: u32, {b}: u32) -> vec4<{t}> {{ return vec4<{t}>({values}); }}"
        ));
    }
}

/// What is stored of a product: at one element, or for tiles at four columns.
fn product_stores(text: &mut Text<'_>, d: &Dot, four: bool, (tiled, t): (bool, &str)) {
    let edge = |text: &mut Text<'_>, v: &str, n: usize, whole: usize| {
        if tiled && !n.is_multiple_of(8) {
            text.line(&format!("if ({v} >= {whole}u) {{ return; }}"));
        }
    };
    let values: Vec<ExprId> = d.stores.iter().map(|s| s.value).collect();
    let stores: Vec<&Store> = d.stores.iter().collect();
    if four {
        text.open(&format!("fn store_four(o: u32, i: u32, j: u32, r: vec4<{t}>) {{"));
        edge(text, "i", d.m, d.m);
        edge(text, "j", d.n, d.n / 4);
        text.line("let r0 = r.x; let r1 = r.y; let r2 = r.z; let r3 = r.w;");
        text.define(&values, |_| true);
        store_words(text, &stores);
        return text.close("}");
    }
    text.open(&format!("fn store(o: u32, i: u32, j: u32, r0: {t}) {{"));
    edge(text, "i", d.m, d.m);
    edge(text, "j", d.n, d.n);
    text.define(&values, |_| true);
    stores.iter().for_each(|s| store_word(text, s));
    text.close("}");
    if tiled {
        text.open(&format!("fn store_four(o: u32, i: u32, j: u32, r: vec4<{t}>) {{"));
        // In a loop, because what is stored may be long, and drivers inline every copy of it.
        text.line("for (var k = 0u; k < 4u + zero(); k++) { store(o, i, 4u * j + k, r[k]); }");
        text.close("}");
    }
}

/// The store of the sums of four rows of the left operand, or of four columns of the right one.
fn sum_store(text: &mut Text<'_>, name: &str, sum: Option<&Store>, (var, n): (Var, usize), t: &str) {
    let (v, flag) = if var == I { ("i", "SUM_ROWS") } else { ("j", "SUM_COLUMNS") };
    text.global(&format!("const {flag}: bool = {};", sum.is_some()));
    let Some(Store { buffer, index, .. }) = sum else {
        return text.line(&format!("fn store_{name}({v}: u32, sums: vec4<{t}>) {{}}"));
    };
    if text.view(*buffer) == View::Wide {
        text.open(&format!("fn store_{name}({v}: u32, sums: vec4<{t}>) {{"));
        text.line(&format!("if ({v} >= {}u) {{ return; }}", n / 4));
        let at = moved(index, var, 0, &[]).div(4);
        text.atoms(&at, &|_| true);
        let at = text.index(&at);
        text.line(&format!("quad_store{buffer}({at}, sums);"));
        return text.close("}");
    }
    text.open(&format!("fn store_{name}_one({v}: u32, sum: {t}) {{"));
    text.line(&format!("if ({v} >= {n}u) {{ return; }}"));
    text.atoms(index, &|_| true);
    let at = text.index(index);
    text.line(&format!("store{buffer}({at}, sum);"));
    text.close("}");
    text.open(&format!("fn store_{name}({v}: u32, sums: vec4<{t}>) {{"));
    text.line(&format!("for (var k = 0u; k < 4u + zero(); k++) {{ store_{name}_one(4u * {v} + k, sums[k]); }}"));
    text.close("}");
}
