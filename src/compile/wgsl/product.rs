//! Products: a template of `shaders/` with loaders and stores written from the expressions of a kernel.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Dot, Expr, ExprId, I, J, K, Kernel, Store};
use crate::compile::tiles::{Operand, Product, Tile};
use crate::compile::wgsl::four::{View, moved};
use crate::compile::wgsl::loops::{store_word, store_words};
use crate::compile::wgsl::source::{native_source, source};
use crate::compile::wgsl::text::{Text, reachable, wgsl_type};

/// Rows and columns from which on a product is computed in tiles.
pub const TILED_MIN: usize = 6;
/// Results of a workgroup of a product that is not.
pub const NARROW_GROUP: usize = 64;

/// Whether a product is computed in tiles.
pub fn is_tiled(d: &Dot) -> bool {
    d.m.min(d.n) >= TILED_MIN
}

/// What makes the speed of the product `d` of `kernel`, which is as it was lowered.
pub fn product_of(kernel: &Kernel, d: &Dot) -> Product {
    let plain = |operand: ExprId| {
        let word = |buffer: usize| kernel.buffers.get(buffer).is_some_and(|buffer| buffer.dtype.bytes() == 4);
        let lies = |index: &Lin| index.terms.iter().all(|(atom, _)| matches!(atom, Atom::Var(..)));
        match kernel.body.get(operand as usize) {
            Some(Expr::Load { buffer, index, mask: None }) => word(*buffer) && lies(index),
            _ => false,
        }
    };
    let [l, r] = along_k(kernel, d);
    let (lhs, rhs) = (Operand { along_k: l, plain: plain(d.lhs) }, Operand { along_k: r, plain: plain(d.rhs) });
    Product { batch: d.batch, m: d.m, n: d.n, k: d.k, operands: [lhs, rhs] }
}

/// A product: a template of `shaders/` with loaders and stores written from the expressions; one that
/// is computed in tiles comes with which operands lie along the contraction and with its tile.
pub fn dot(text: &mut Text<'_>, d: &Dot, tiled: Option<([bool; 2], Tile)>) -> u64 {
    let tile = tiled.map(|(_, tile)| tile);
    let t = wgsl_type(d.dtype);
    text.global(format_args!("alias elem = {t};"));
    let mut numbers = vec![("BATCH", d.batch as u32), ("M", d.m as u32), ("N", d.n as u32)];
    numbers.push(("WIDTH", tile.map_or(NARROW_GROUP as u32, |tile| tile.width)));
    let mut flags = Vec::new();
    if let Some(([lhs, rhs], tile)) = tiled {
        if !tile.is_passed_around() {
            numbers.push(("HEIGHT", tile.height));
        }
        if tile.depth > 0 {
            numbers.push(("DEPTH", tile.depth));
            flags = vec![("TALL", tile.down == 8), ("WIDE", tile.across == 8)];
            flags.push(("LHS_ALONG_K", lhs));
            flags.push(("RHS_ALONG_K", rhs));
        }
    }
    numbers.iter().for_each(|(name, value)| text.global(format_args!("const {name}: u32 = {value}u;")));
    flags.iter().for_each(|(name, value)| text.global(format_args!("const {name}: bool = {value};")));
    text.global("fn zero() -> u32 { return meta_.inf & 1u; }");
    text.global(format_args!("fn depth() -> u32 {{ return {}u + zero(); }}", d.k));
    text.global("fn first_group() -> u32 { return meta_.first; }");
    let [rows, columns] = text.four.map_or([None; 2], |four| four.operands);
    // What lies past an edge is asked for where a tile does not end with it.
    let edges = tile.map_or([None; 2], |tile| {
        // An invocation alone does nothing where all it had were past an edge.
        let sizes = if tile.is_alone() { [8; 2] } else { [tile.rows(), tile.columns()] };
        [(d.m, sizes[0]), (d.n, sizes[1])].map(|(n, size)| (!n.is_multiple_of(size)).then_some(n))
    });
    operand(text, "lhs", ["i", "k"], d.lhs, rows, (tile.is_some(), t, edges[0]));
    operand(text, "rhs", ["k", "j"], d.rhs, columns, (tile.is_some(), t, edges[1]));
    let in_fours = text.four.is_some_and(|four| four.stores);
    product_stores(text, d, in_fours, (tile.is_some(), t, edges));
    if tile.is_some() {
        sum_store(text, "rows", d.sums[0].as_ref(), (I, d.m), t);
        sum_store(text, "columns", d.sums[1].as_ref(), (J, d.n), t);
    }
    let template = match tile {
        Some(tile) if tile.is_passed_around() => native_source!("lanes"),
        Some(tile) if tile.is_alone() => source!("matmul"),
        Some(_) => source!("tiles"),
        None => source!("matvec"),
    };
    text.source(template);
    match tile {
        Some(tile) => tile.groups([d.batch, d.m, d.n]) as u64,
        None => (d.batch * d.m * d.n).div_ceil(NARROW_GROUP) as u64,
    }
}

/// Of each operand, whether elements that are neighbours along the contraction are neighbours in memory,
/// as far as its first load tells.
pub fn along_k(kernel: &Kernel, d: &Dot) -> [bool; 2] {
    [d.lhs, d.rhs].map(|operand| {
        let load = reachable(kernel, &[operand]).into_iter().find_map(|id| match &kernel.body[id as usize] {
            Expr::Load { index, .. } => Some(index),
            _ => None,
        });
        let step = |index: &Lin| index.terms.iter().any(|(atom, c)| matches!(atom, Atom::Var(K, _)) && *c == 1);
        load.is_some_and(step)
    })
}

/// The loader of an operand: of one element, or for tiles of four neighbours, which are `n` along the
/// axis that tiles go over.
fn operand(
    text: &mut Text<'_>,
    name: &str,
    [a, b]: [&str; 2],
    one: ExprId,
    four: Option<[ExprId; 4]>,
    (tiled, t, edge): (bool, &str, Option<usize>),
) {
    let tile = if a == "k" { b } else { a };
    let guard = |text: &mut Text<'_>, each: usize, result: &str| {
        if let Some(n) = edge {
            text.line(format_args!("if ({tile} >= {}u) {{ return {result}(); }}", n / each));
        }
    };
    if let Some(four) = four {
        text.open(format_args!("fn {name}_four(o: u32, {a}: u32, {b}: u32) -> vec4<{t}> {{"));
        guard(text, 4, &format!("vec4<{t}>"));
        text.define(&four, &|_| true);
        let values = four.map(|id| text.value(id)).join(", ");
        text.line(format_args!("return vec4<{t}>({values});"));
        return text.close("}");
    }
    text.open(format_args!("fn {name}(o: u32, {a}: u32, {b}: u32) -> {t} {{"));
    guard(text, 1, t);
    text.define(&[one], &|_| true);
    let value = text.value(one);
    text.line(format_args!("return {value};"));
    text.close("}");
    if tiled {
        let at = |k: u32| {
            let [a, b] = [a, b].map(|v| if v == tile { format!("4u * {v} + {k}u") } else { v.into() });
            format!("{name}(o, {a}, {b})")
        };
        let values = [0, 1, 2, 3].map(at).join(", ");
        text.line(format_args!(
            "fn {name}_four(o: u32, {a}: u32, {b}: u32) -> vec4<{t}> {{ return vec4<{t}>({values}); }}"
        ));
    }
}

/// What is stored of a product: at one element, or for tiles at four columns.
fn product_stores(text: &mut Text<'_>, d: &Dot, four: bool, (tiled, t, edges): (bool, &str, [Option<usize>; 2])) {
    let guard = |text: &mut Text<'_>, v: &str, edge: Option<usize>, each: usize| {
        if let Some(n) = edge {
            text.line(format_args!("if ({v} >= {}u) {{ return; }}", n / each));
        }
    };
    let values: Vec<ExprId> = d.stores.iter().map(|s| s.value).collect();
    let stores: Vec<&Store> = d.stores.iter().collect();
    if four {
        text.open(format_args!("fn store_four(o: u32, i: u32, j: u32, r: vec4<{t}>) {{"));
        guard(text, "i", edges[0], 1);
        guard(text, "j", edges[1], 4);
        text.line("let r0 = r.x; let r1 = r.y; let r2 = r.z; let r3 = r.w;");
        text.define(&values, &|_| true);
        store_words(text, &stores);
        return text.close("}");
    }
    text.open(format_args!("fn store(o: u32, i: u32, j: u32, r0: {t}) {{"));
    guard(text, "i", edges[0], 1);
    guard(text, "j", edges[1], 1);
    text.define(&values, &|_| true);
    stores.iter().for_each(|s| store_word(text, s));
    text.close("}");
    if tiled {
        text.open(format_args!("fn store_four(o: u32, i: u32, j: u32, r: vec4<{t}>) {{"));
        // In a loop, because what is stored may be long, and drivers inline every copy of it.
        text.line("for (var k = 0u; k < 4u + zero(); k++) { store(o, i, 4u * j + k, r[k]); }");
        text.close("}");
    }
}

/// The store of the sums of four rows of the left operand, or of four columns of the right one.
fn sum_store(text: &mut Text<'_>, name: &str, sum: Option<&Store>, (var, n): (Var, usize), t: &str) {
    let (v, flag) = if var == I { ("i", "SUM_ROWS") } else { ("j", "SUM_COLUMNS") };
    text.global(format_args!("const {flag}: bool = {};", sum.is_some()));
    let Some(Store { buffer, index, .. }) = sum else {
        return text.line(format_args!("fn store_{name}({v}: u32, sums: vec4<{t}>) {{}}"));
    };
    if text.view(*buffer) == View::Wide {
        text.open(format_args!("fn store_{name}({v}: u32, sums: vec4<{t}>) {{"));
        text.line(format_args!("if ({v} >= {}u) {{ return; }}", n / 4));
        let at = moved(index, var, 0, &[]).div(4);
        text.atoms(&at, &|_| true);
        let at = text.index(&at);
        text.line(format_args!("quad_store{buffer}({at}, sums);"));
        return text.close("}");
    }
    text.open(format_args!("fn store_{name}_one({v}: u32, sum: {t}) {{"));
    text.line(format_args!("if ({v} >= {n}u) {{ return; }}"));
    text.atoms(index, &|_| true);
    let at = text.index(index);
    text.line(format_args!("store{buffer}({at}, sum);"));
    text.close("}");
    text.open(format_args!("fn store_{name}({v}: u32, sums: vec4<{t}>) {{"));
    text.line(format_args!("for (var k = 0u; k < 4u + zero(); k++) {{ store_{name}_one(4u * {v} + k, sums[k]); }}"));
    text.close("}");
}
