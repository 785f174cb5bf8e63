//! The passes of a sort: blocks ordered by rank, and sorted runs merged. Knows keys as `u32` only.

use crate::compile::kernel::Sort;
use crate::compile::wgsl::loops::{WORKGROUP, begin};
use crate::compile::wgsl::text::Text;

/// One invocation a position: it counts who comes before it.
pub fn sort(text: &mut Text<'_>, s: &Sort) -> u64 {
    begin(text, WORKGROUP);
    let (n, stride, keys, out) = (s.n, s.stride, s.keys, s.out);
    text.line(format_args!("let at = wide * {WORKGROUP}u + local;"));
    text.line(format_args!("if (at >= {}u) {{ return; }}", s.lines * n));
    text.line(format_args!("let o = at / {n}u; let p = at % {n}u;"));
    text.line(format_args!("let base = o / {stride}u * {}u + o % {stride}u;", stride * n));
    match s.runs {
        None => {
            text.line(format_args!("let begin = p / {0}u * {0}u; let end = min(begin + {0}u, {n}u);", s.block.min(n)));
            text.line(format_args!("let key = load{keys}(base + p * {stride}u);"));
            text.line("var rank = begin;");
            text.open("for (var q = begin; q < end + zero; q++) {");
            text.line(format_args!("let other = load{keys}(base + q * {stride}u);"));
            text.line("rank += select(0u, 1u, other < key || (other == key && q < p));");
            text.close("}");
            text.line(format_args!("store{out}(base + rank * {stride}u, i32(p));"));
        }
        Some(runs) => {
            let run = s.merge;
            text.line(format_args!("let run = p / {run}u; let begin = run * {run}u; let left = (run & ~1u) * {run}u;"));
            text.line(format_args!("let mine = u32(load{runs}(base + p * {stride}u));"));
            text.line(format_args!("let key = load{keys}(base + mine * {stride}u);"));
            text.line("let odd = (run & 1u) == 1u;");
            text.line(format_args!("var lo = select(min(left + {run}u, {n}u), left, odd); let first = lo;"));
            text.line(format_args!("var hi = min(lo + {run}u, {n}u);"));
            // How many of the other run come before: on equal keys the left run does.
            text.open("while (lo < hi) {");
            text.line("let middle = (lo + hi) / 2u;");
            text.line(format_args!(
                "let other = load{keys}(base + u32(load{runs}(base + middle * {stride}u)) * {stride}u);"
            ));
            text.line("if (other < key || (odd && other == key)) { lo = middle + 1u; } else { hi = middle; }");
            text.close("}");
            text.line(format_args!("store{out}(base + (left + (p - begin) + (lo - first)) * {stride}u, i32(mine));"));
        }
    }
    text.close("}");
    ((s.lines * n) as u64).div_ceil(WORKGROUP)
}
