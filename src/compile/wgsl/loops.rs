//! The loops of each kind of kernel. Loop bounds are made to look unknown until run time, because
//! drivers that unroll take seconds to compile (lavapipe 25.0.7: 4.5 s against 85 ms, 2026-11).

use crate::compile::index::Atom;
use crate::compile::kernel::{ExprId, FoldKind, I, J, K, Loop, Reduce, Scan, Scatter, Store};
use crate::compile::plan::{Limits, Target};
use crate::compile::wgsl::four::View;
use crate::compile::wgsl::online::{Along, along};
use crate::compile::wgsl::text::{Text, wgsl_type};
use crate::dtype::DType;
use crate::graph::op::{Extreme, Reduction, ScatterMode};
use crate::graph::source::ALL_KERNELS;

pub const WORKGROUP: u64 = 64;

fn bit(v: u8) -> u64 {
    1 << v
}

/// Whether an expression depends on nothing but `o` and reductions of stages before `stage`.
fn outer_only(stage_of: Vec<usize>, stage: usize) -> impl Fn(u64) -> bool {
    move |deps| {
        let reduced_before = (0..stage_of.len()).all(|n| deps >> (8 + n.min(55)) & 1 == 0 || stage_of[n] < stage);
        deps & (bit(I) | bit(J) | bit(K)) == 0 && reduced_before
    }
}

/// The head of a shader: who an invocation is.
pub fn begin(text: &mut Text<'_>, workgroup: u64) {
    text.line(format_args!("@compute @workgroup_size({workgroup})"));
    // Not the index, which is the same here: with that, lavapipe 25.0.7 takes 1.5 times as long for
    // a map (2026-11).
    text.open("fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) place: vec3<u32>) {");
    text.line("let local = place.x;");
    text.line("let wide = meta_.first + group.x + group.y * 32768u;");
    // 0, which no compiler can know.
    text.line("let zero = meta_.inf & 1u;");
}

/// Lines that a workgroup takes, one an invocation; on few of them both threads of a small processor
/// should have something to do.
fn lines_a_group(lines: usize, limits: &Limits) -> u64 {
    if lines >= 4096 || limits.target == Target::Gpu { WORKGROUP } else { 8 }
}

/// Who goes along a row of a reduction.
struct Row {
    /// Whether a workgroup shares it.
    shared: bool,
    /// Whether each of its invocations has one turn, and keeps what it loaded.
    held: bool,
    /// Invocations of the workgroup that shares it.
    lanes: u64,
}

impl Row {
    /// A page does without.
    fn is_held(&self) -> bool {
        ALL_KERNELS && self.held
    }
}

/// Maps and reductions.
pub fn looped(text: &mut Text<'_>, l: &Loop, limits: &Limits) -> u64 {
    if l.reduces.is_empty() && l.inner == 1 {
        return map(text, l);
    }
    // The widest workgroup that has room for every reduction's shares.
    let fours = text.four.is_some_and(|four| !four.elements.is_empty());
    let inner = if fours { 4 * l.inner } else { l.inner };
    let words: u64 = l.reduces.iter().map(|r| if matches!(r.fold, FoldKind::Arg(_)) { 2 } else { 1 }).sum();
    let room = (u64::from(limits.workgroup_bytes_max) / (4 * words.max(1))).min(u64::from(limits.invocations_max));
    let widest = (1 << room.max(1).ilog2()).min(256);
    let shared = limits.target == Target::Gpu && l.rows && inner >= 64 && widest >= 32;
    // A row of which each invocation has four elements stays in registers from stage to stage.
    let held = shared && fours && (32..=widest).contains(&(l.inner as u64));
    let across = if shared { (inner as u64 / 4).next_power_of_two().clamp(32, widest) } else { 1 };
    let row = Row { shared, held, lanes: if ALL_KERNELS && held { l.inner as u64 } else { across } };
    let (held, lanes) = (row.is_held(), row.lanes);
    let rows_a_group = lines_a_group(l.outer, limits);
    if shared {
        shared_memory(text, l, lanes);
    }
    begin(text, if shared { lanes } else { rows_a_group });
    if shared {
        text.line("let o = wide;");
    } else {
        text.line(format_args!("let o = wide * {rows_a_group}u + local;"));
    }
    text.line(format_args!("if (o >= {}u) {{ return; }}", l.outer));
    match held {
        true => text.line("let i = local;"),
        false => text.line(format_args!("let inner = {}u + zero;", l.inner)),
    }
    let stage_of: Vec<usize> = l.reduces.iter().map(|r| r.stage).collect();
    let stages = stage_of.iter().max().map_or(0, |s| s + 1);
    let mut stage = 0;
    while stage < stages {
        let stored = || l.stores.iter().any(|s| known_from(text, l, s) == Some(stage + 1));
        let found = if !ALL_KERNELS || held || stored() { Vec::new() } else { along(text, l, stage, limits) };
        let along = if ALL_KERNELS { &found[..] } else { &[] };
        let here: Vec<(usize, &Reduce)> = l.reduces.iter().enumerate().filter(|(_, r)| r.stage == stage).collect();
        let values = elements(text, &here).concat();
        text.define(&values, &outer_only(stage_of.clone(), stage));
        for (n, r) in here.iter().copied().chain(along.iter().map(Along::sum)) {
            declare(text, n, r);
        }
        let early: Vec<&Store> = l.stores.iter().filter(|s| known_from(text, l, s) == Some(stage)).collect();
        reduce_loop(text, &here, along, &early, &row);
        along.iter().for_each(|a| a.keep(text));
        if shared {
            combine(text, &here, lanes);
        }
        stage += 1;
        if !along.is_empty() {
            along.iter().for_each(|a| a.lower(text));
            if shared {
                combine(text, &along.iter().map(Along::sum).collect::<Vec<_>>(), lanes);
            }
            stage += 1;
        }
    }
    stores(text, l, stage_of, stages, &row);
    text.close("}");
    if shared { l.outer as u64 } else { (l.outer as u64).div_ceil(rows_a_group) }
}

/// One invocation an element, or a word of them where elements are packed.
fn map(text: &mut Text<'_>, l: &Loop) -> u64 {
    let granule = l.stores.iter().map(|s| per_word(text, s)).max().unwrap_or(1) as u64;
    begin(text, WORKGROUP);
    let at = format!("wide * {WORKGROUP}u + local");
    if granule == 1 {
        text.line(format_args!("let o = {at};"));
        text.line(format_args!("if (o >= {}u) {{ return; }}", l.outer));
        let values: Vec<ExprId> = l.stores.iter().map(|s| s.value).collect();
        text.define(&values, &|_| true);
        store_words(text, &l.stores.iter().collect::<Vec<_>>());
    } else {
        words(text, &l.stores.iter().collect::<Vec<_>>());
        text.line(format_args!("let base = ({at}) * {granule}u;"));
        text.open(format_args!("for (var lane = 0u; lane < {granule}u + zero; lane++) {{"));
        text.line("let o = base + lane;");
        text.line(format_args!("if (o >= {}u) {{ break; }}", l.outer));
        let values: Vec<ExprId> = l.stores.iter().map(|s| s.value).collect();
        text.define(&values, &|_| true);
        for s in &l.stores {
            packed_store(text, s, "o", l.outer);
        }
        text.close("}");
    }
    text.close("}");
    (l.outer as u64).div_ceil(granule).div_ceil(WORKGROUP)
}

/// The words that packed stores gather their elements in.
fn words(text: &mut Text<'_>, stores: &[&Store]) {
    for s in stores {
        if per_word(text, s) > 1 {
            text.line(format_args!("var w{} = 0u;", s.buffer));
        }
    }
}

fn per_word(text: &Text<'_>, s: &Store) -> usize {
    text.kernel.buffers[s.buffer].dtype.per_word()
}

/// A store of a 32-bit element.
pub fn store_word(text: &mut Text<'_>, s: &Store) {
    text.atoms(&s.index, &|_| true);
    let line = format!("store{}({}, {});", s.buffer, text.index(&s.index), text.value(s.value));
    text.line(line);
}

/// Stores of 32-bit elements, which may be four neighbours each time; packed ones are.
pub fn store_words(text: &mut Text<'_>, stores: &[&Store]) {
    let mut rest = stores;
    while let Some((first, after)) = rest.split_first() {
        rest = match rest.split_at_checked(4) {
            Some((four, after)) if ALL_KERNELS && per_word(text, first) > 1 => {
                let (b, per) = (first.buffer, per_word(text, first));
                let dtype = text.kernel.buffers[b].dtype;
                text.atoms(&first.index, &|_| true);
                let at = text.index(&first.index.div(per));
                for (k, word) in four.chunks(per).enumerate() {
                    let bits = |(lane, s): (usize, &&Store)| {
                        let value = text.value(s.value);
                        format!("({} << {}u)", text.pack(&value, dtype), lane * 32 / per)
                    };
                    let bits: Vec<String> = word.iter().enumerate().map(bits).collect();
                    text.line(format_args!("store{b}({at} + {k}u, {});", bits.join(" | ")));
                }
                after
            }
            Some((four, after)) if text.view(first.buffer) == View::Wide => {
                text.atoms(&first.index, &|_| true);
                let values: Vec<String> = four.iter().map(|s| text.value(s.value)).collect();
                let (b, at) = (first.buffer, text.index(&first.index.div(4)));
                let t = wgsl_type(text.kernel.buffers[b].dtype);
                text.line(format_args!("quad_store{b}({at}, vec4<{t}>({}));", values.join(", ")));
                after
            }
            _ => {
                store_word(text, first);
                after
            }
        };
    }
}

/// A store of element `position` of a loop over `n`, gathered into words where it is packed.
fn packed_store(text: &mut Text<'_>, s: &Store, position: &str, n: usize) {
    let dtype = text.kernel.buffers[s.buffer].dtype;
    let per = dtype.per_word();
    if per == 1 {
        return store_word(text, s);
    }
    let value = text.value(s.value);
    let bits = text.pack(&value, dtype);
    let b = s.buffer;
    text.line(format_args!("w{b} |= {bits} << (({position} % {per}u) * {}u);", 32 / per));
    text.atoms(&s.index, &|_| true);
    let at = text.index(&s.index);
    text.line(format_args!(
        "if ({position} % {per}u == {}u || {position} == {}u) {{ store{b}(({at}) / {per}u, w{b}); w{b} = 0u; }}",
        per - 1,
        n.saturating_sub(1)
    ));
}

/// The stores of a kernel with reductions: once a row, then once an element.
fn stores(text: &mut Text<'_>, l: &Loop, stage_of: Vec<usize>, stages: usize, row: &Row) {
    let (&Row { shared, lanes, .. }, held) = (row, row.is_held());
    let late = l.stores.iter().filter(|s| known_from(text, l, s).is_none());
    let (elements, rows): (Vec<&Store>, Vec<&Store>) = late.partition(|s| s.each_element);
    let values: Vec<ExprId> = elements.iter().chain(&rows).map(|s| s.value).collect();
    text.define(&values, &outer_only(stage_of, stages));
    if shared && !rows.is_empty() {
        text.open("if (local == 0u) {");
    }
    store_words(text, &rows);
    if shared && !rows.is_empty() {
        text.close("}");
    }
    if elements.is_empty() {
        return;
    }
    let values: Vec<ExprId> = elements.iter().map(|s| s.value).collect();
    if held {
        text.define(&values, &|_| true);
        return store_words(text, &elements);
    }
    let granule = elements.iter().map(|s| per_word(text, s)).max().unwrap_or(1);
    words(text, &elements);
    let (start, step) =
        if shared { (format!("local * {granule}u"), lanes as usize * granule) } else { ("0u".into(), granule) };
    if granule == 1 {
        text.open(format_args!("for (var i = {start}; i < inner; i += {step}u) {{"));
    } else {
        text.open(format_args!("for (var start = {start}; start < inner; start += {step}u) {{"));
        text.open(format_args!("for (var i = start; i < min(start + {granule}u, inner); i++) {{"));
    }
    text.define(&values, &|_| true);
    match granule {
        1 => store_words(text, &elements),
        _ => elements.iter().for_each(|s| packed_store(text, s, "i", l.inner)),
    }
    text.close("}");
    if granule > 1 {
        text.close("}");
    }
}

/// The running result of reduction `n`.
fn declare(text: &mut Text<'_>, n: usize, r: &Reduce) {
    let t = wgsl_type(r.dtype);
    match r.fold {
        FoldKind::Value(kind) => {
            let identity = text.literal(kind.identity(r.dtype).bits(r.dtype), r.dtype);
            text.line(format_args!("var r{n}: {t} = {identity};"));
        }
        FoldKind::Arg(_) => {
            let value = wgsl_type(text.kernel.dtypes[r.value as usize]);
            text.line(format_args!("var v{n}: {value} = {value}();"));
            text.line(format_args!("var a{n} = 0xffffffffu;"));
        }
    }
}

/// The elements of each reduction that one turn of its loop takes in.
pub fn elements(text: &Text<'_>, here: &[(usize, &Reduce)]) -> Vec<Vec<ExprId>> {
    let four = text.four.map_or(&[][..], |four| &four.elements);
    here.iter().map(|(n, r)| four.get(*n).map_or(vec![r.value], |four| four.to_vec())).collect()
}

/// The stage in whose loop each element of a store is known already, so that no loop after it need
/// compute it once more; none for stores of rows and of packed elements.
fn known_from(text: &Text<'_>, l: &Loop, s: &Store) -> Option<usize> {
    if !s.each_element || per_word(text, s) > 1 {
        return None;
    }
    let mut deps = text.deps[s.value as usize];
    s.index.visit(&mut |atom| {
        if let Atom::Value(id, _) = atom {
            deps |= text.deps[*id as usize];
        }
    });
    let needed = l.reduces.iter().enumerate().filter(|(n, _)| deps >> (8 + (*n).min(55)) & 1 == 1);
    let stage = needed.map(|(_, r)| r.stage + 1).max().unwrap_or(0);
    l.reduces.iter().any(|r| r.stage == stage).then_some(stage)
}

/// Combines the elements of a row, or this invocation's share of them, with what is taken `along`,
/// and stores what is `early`.
fn reduce_loop(text: &mut Text<'_>, here: &[(usize, &Reduce)], along: &[Along<'_>], early: &[&Store], row: &Row) {
    let (&Row { shared, lanes, .. }, held) = (row, row.is_held());
    let along = if ALL_KERNELS { along } else { &[] };
    let taken = along.iter().map(Along::sum);
    let sums: Vec<(usize, &Reduce)> = here.iter().copied().chain(taken).filter(|(_, r)| in_pieces(r)).collect();
    let elements = elements(text, here);
    // Sums go in pieces of 128, so that long rows keep their digits.
    let pieces = !sums.is_empty() && !held;
    let turns = 128 / elements.iter().map(Vec::len).max().unwrap_or(1) as u64;
    let step = if shared { lanes } else { 1 };
    let start = if shared { "local" } else { "0u" };
    if pieces {
        text.open(format_args!("for (var start = {start}; start < inner; start += {}u) {{", turns * step));
        sums.iter().for_each(|(n, _)| text.line(format_args!("var p{n} = 0.0;")));
        text.open(format_args!("for (var i = start; i < min(start + {}u, inner); i += {step}u) {{", turns * step));
    } else if !held {
        text.open(format_args!("for (var i = {start}; i < inner; i += {step}u) {{"));
    }
    text.define(&elements.concat(), &|_| true);
    for ((n, r), elements) in here.iter().zip(&elements) {
        for (k, &element) in elements.iter().enumerate() {
            let value = text.value(element);
            match r.fold {
                _ if along.iter().any(|a| a.is_below(*n)) => {
                    along.iter().filter(|a| a.is_below(*n)).for_each(|a| a.add(text, &value));
                }
                FoldKind::Value(_) if pieces && in_pieces(r) => text.line(format_args!("p{n} += {value};")),
                FoldKind::Value(kind) => {
                    let sum = text.scalar(kind.combine(), &[format!("r{n}"), value], r.dtype, r.dtype);
                    text.line(format_args!("r{n} = {sum};"));
                }
                FoldKind::Arg(extreme) => {
                    let better = better(text, extreme, &value, &format!("v{n}"), text.kernel.dtypes[element as usize]);
                    let at = format!("i * {}u + {k}u", elements.len());
                    text.line(format_args!("if (a{n} == 0xffffffffu || {better}) {{ v{n} = {value}; a{n} = {at}; }}"));
                }
            }
        }
    }
    let values: Vec<ExprId> = early.iter().map(|s| s.value).collect();
    text.define(&values, &|_| true);
    store_words(text, early);
    if !held {
        text.close("}");
    }
    if pieces {
        sums.iter().for_each(|(n, _)| text.line(format_args!("r{n} += p{n};")));
        text.close("}");
    }
    if !shared {
        for (n, r) in here {
            if let FoldKind::Arg(_) = r.fold {
                text.line(format_args!("let r{n} = i32(a{n});"));
            }
        }
    }
}

fn in_pieces(r: &Reduce) -> bool {
    r.fold == FoldKind::Value(Reduction::Sum) && r.dtype.is_float()
}

/// Whether `x` beats `best`; NaN beats everything but NaN.
fn better(text: &mut Text<'_>, extreme: Extreme, x: &str, best: &str, dtype: DType) -> String {
    let sign = if extreme == Extreme::Max { ">" } else { "<" };
    if !dtype.is_float() {
        return format!("({x} {sign} {best})");
    }
    text.lib("minmax");
    format!("(!is_nan({best}) && (is_nan({x}) || {x} {sign} {best}))")
}

/// Workgroup memory for [`combine`].
fn shared_memory(text: &mut Text<'_>, l: &Loop, lanes: u64) {
    for (n, r) in l.reduces.iter().enumerate() {
        let t = match r.fold {
            FoldKind::Value(_) => wgsl_type(r.dtype),
            FoldKind::Arg(_) => wgsl_type(text.kernel.dtypes[r.value as usize]),
        };
        text.global(format_args!("var<workgroup> s{n}: array<{t}, {lanes}>;"));
        if matches!(r.fold, FoldKind::Arg(_)) {
            text.global(format_args!("var<workgroup> t{n}: array<u32, {lanes}>;"));
        }
    }
}

/// Combines the shares of a workgroup's invocations, in an order that depends on nothing else.
fn combine(text: &mut Text<'_>, here: &[(usize, &Reduce)], lanes: u64) {
    for (n, r) in here {
        match r.fold {
            FoldKind::Value(_) => text.line(format_args!("s{n}[local] = r{n};")),
            FoldKind::Arg(_) => text.line(format_args!("s{n}[local] = v{n}; t{n}[local] = a{n};")),
        }
    }
    text.line("workgroupBarrier();");
    text.open(format_args!("for (var half = {}u; half > 0u; half >>= 1u) {{", lanes.next_power_of_two() / 2));
    match !ALL_KERNELS || lanes.is_power_of_two() {
        true => text.open("if (local < half) {"),
        false => text.open(format_args!("if (local < half && local + half < {lanes}u) {{")),
    }
    for (n, r) in here {
        match r.fold {
            FoldKind::Value(kind) => {
                let sum = text.scalar(
                    kind.combine(),
                    &[format!("s{n}[local]"), format!("s{n}[local + half]")],
                    r.dtype,
                    r.dtype,
                );
                text.line(format_args!("s{n}[local] = {sum};"));
            }
            FoldKind::Arg(extreme) => {
                let dtype = text.kernel.dtypes[r.value as usize];
                text.open("{");
                text.line(format_args!("let x = s{n}[local + half]; let at = t{n}[local + half];"));
                text.line(format_args!("let best = s{n}[local]; let best_at = t{n}[local];"));
                let wins = better(text, extreme, "x", "best", dtype);
                let loses = better(text, extreme, "best", "x", dtype);
                let take =
                    format!("(at != 0xffffffffu && (best_at == 0xffffffffu || {wins} || (!{loses} && at < best_at)))");
                text.line(format_args!("if {take} {{ s{n}[local] = x; t{n}[local] = at; }}"));
                text.close("}");
            }
        }
    }
    text.close("}");
    text.line("workgroupBarrier();");
    text.close("}");
    for (n, r) in here {
        match r.fold {
            FoldKind::Value(_) => text.line(format_args!("r{n} = s{n}[0];")),
            FoldKind::Arg(_) => text.line(format_args!("let r{n} = i32(t{n}[0]);")),
        }
    }
}

/// One invocation a line: the base, then the updates in order.
pub fn scatter(text: &mut Text<'_>, s: &Scatter, limits: &Limits) -> u64 {
    if let Some(order) = s.order.filter(|_| ALL_KERNELS) {
        return sorted_scatter(text, s, order);
    }
    let lines = lines_a_group(s.lines, limits);
    begin(text, lines);
    text.line(format_args!("let o = wide * {lines}u + local;"));
    text.line(format_args!("if (o >= {}u) {{ return; }}", s.lines));
    text.open(format_args!("for (var i = 0u; i < {}u + zero; i++) {{", s.axis));
    text.define(&[s.base], &|_| true);
    text.atoms(&s.out_index, &|_| true);
    let line = format!("store{}({}, {});", s.out, text.index(&s.out_index), text.value(s.base));
    text.line(line);
    text.close("}");
    text.open(format_args!("for (var j = 0u; j < {}u + zero; j++) {{", s.updates));
    text.define(&[s.index], &|_| true);
    let line = format!("let i = u32({});", text.value(s.index));
    text.line(line);
    text.line(format_args!("if (i >= {}u) {{ raise(0u); continue; }}", s.axis));
    text.define(&[s.value], &|_| true);
    text.atoms(&s.out_index, &|_| true);
    let (at, value) = (text.index(&s.out_index), text.value(s.value));
    match s.mode {
        ScatterMode::Set => text.line(format_args!("store{}({at}, {value});", s.out)),
        ScatterMode::Add => {
            text.line(format_args!("let at = {at};"));
            text.line(format_args!("store{}(at, load{}(at) + {value});", s.out, s.out));
        }
    }
    text.close("}");
    text.close("}");
    (s.lines as u64).div_ceil(lines)
}

/// One invocation an element: the base, then those of the sorted updates that are its own.
fn sorted_scatter(text: &mut Text<'_>, s: &Scatter, order: ExprId) -> u64 {
    begin(text, WORKGROUP);
    let (lines, axis, last) = (s.lines, s.axis, s.updates - 1);
    text.line(format_args!("let at = wide * {WORKGROUP}u + local;"));
    text.line(format_args!("if (at >= {}u) {{ return; }}", lines * axis));
    // Neighbours in memory are neighbours here.
    match s.out_index.coefficient(&Atom::Var(I, axis)) {
        1 => text.line(format_args!("let o = at / {axis}u; let i = at % {axis}u;")),
        _ => text.line(format_args!("let o = at % {lines}u; let i = at / {lines}u;")),
    }
    // The index of update `k` in the order, as `i32`.
    let index = |text: &mut Text<'_>| {
        text.define(&[order], &|_| true);
        text.line(format_args!("let j = u32({});", text.value(order)));
        text.define(&[s.index], &|_| true);
        text.value(s.index)
    };
    // Indices out of range stand at the ends.
    text.open(format_args!("for (var k = 0u; k <= {last}u && i == zero; k += {}u) {{", last.max(1)));
    let found = index(text);
    text.line(format_args!("if (u32({found}) >= {axis}u) {{ raise(0u); }}"));
    text.close("}");
    text.line(format_args!("var lo = zero; var hi = {}u;", s.updates));
    text.open("while (lo < hi) {");
    text.line("let k = (lo + hi) / 2u;");
    let found = index(text);
    text.line(format_args!("if ({found} < i32(i)) {{ lo = k + 1u; }} else {{ hi = k; }}"));
    text.close("}");
    text.define(&[s.base], &|_| true);
    text.line(format_args!("var r = {};", text.value(s.base)));
    text.open(format_args!("for (var k = lo; k <= {last}u; k++) {{"));
    let found = index(text);
    text.line(format_args!("if ({found} != i32(i)) {{ break; }}"));
    text.define(&[s.value], &|_| true);
    let value = text.value(s.value);
    text.line(match s.mode {
        ScatterMode::Set => format!("r = {value};"),
        ScatterMode::Add => format!("r += {value};"),
    });
    text.close("}");
    text.atoms(&s.out_index, &|_| true);
    let line = format!("store{}({}, r);", s.out, text.index(&s.out_index));
    text.line(line);
    text.close("}");
    ((lines * axis) as u64).div_ceil(WORKGROUP)
}

/// One invocation a line, keeping the running result.
pub fn scan(text: &mut Text<'_>, s: &Scan, limits: &Limits) -> u64 {
    let lines = lines_a_group(s.lines, limits);
    begin(text, lines);
    text.line(format_args!("let o = wide * {lines}u + local;"));
    text.line(format_args!("if (o >= {}u) {{ return; }}", s.lines));
    let dtype = text.kernel.buffers[s.store.buffer].dtype;
    let identity = text.literal(s.kind.identity(dtype).bits(dtype), dtype);
    let elements = text.four.map_or(vec![s.value], |four| four.elements.concat());
    text.define(&elements, &|deps| deps & bit(I) == 0);
    text.line(format_args!("var r: {} = {identity};", wgsl_type(dtype)));
    text.open(format_args!("for (var i = 0u; i < {}u + zero; i++) {{", s.n));
    text.define(&elements, &|_| true);
    for (k, &element) in elements.iter().enumerate() {
        let value = text.value(element);
        let next = text.scalar(s.kind.combine(), &["r".into(), value], dtype, dtype);
        text.line(format_args!("r = {next}; let r{k} = r;"));
    }
    text.atoms(&s.store.index, &|_| true);
    let b = s.store.buffer;
    if ALL_KERNELS && text.view(b) == View::Wide {
        let (at, t) = (text.index(&s.store.index.div(4)), wgsl_type(dtype));
        text.line(format_args!("quad_store{b}({at}, vec4<{t}>(r0, r1, r2, r3));"));
    } else {
        let at = text.index(&s.store.index);
        for k in 0..elements.len() {
            let beside = if k == 0 { String::new() } else { format!(" + {k}u") };
            text.line(format_args!("store{b}({at}{beside}, r{k});"));
        }
    }
    text.close("}");
    text.close("}");
    (s.lines as u64).div_ceil(lines)
}
