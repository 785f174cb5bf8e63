//! WGSL: a kernel as shader text and how to launch it.
//!
//! Every element access goes through a function `loadN` or `storeN`, which knows the buffer's
//! packing and its windows, so the rest of the text deals in 32-bit values. `text` writes
//! expressions, `loops` the loops of generated kernels, `product` fills in the parameters of the
//! templates of `shaders/`, `cooperative` of the one for matrix units; `base` and `four` rewrite a kernel before that. Pure: a kernel and limits in, text out.

mod base;
#[cfg_attr(target_arch = "wasm32", path = "no_cooperative.rs")]
pub mod cooperative;
mod four;
mod loops;
mod online;
mod product;
mod sort;
mod text;

use crate::compile::kernel::{Access, Dot, Kernel, Kind};
use crate::compile::plan::Limits;
use crate::compile::shader::{Shader, ShaderBinding};
use crate::compile::tiles::Tile;
use crate::dtype::{DType, Number};
use crate::graph::op::{CustomShader, Templated};
use crate::graph::source;
use crate::graph::source::ALL_KERNELS;
use four::View;
use text::Text;

pub use four::grouped;
use product::along_k;
pub use product::{NARROW_GROUP, TILED_MIN, is_tiled, product_of};

/// The shader of `kernel` within `limits`.
pub fn emit(kernel: &Kernel, limits: &Limits) -> Shader {
    if let Kind::Custom(spec) = &kernel.kind {
        let bindings = kernel.buffers.iter().enumerate().map(|(k, b)| ShaderBinding {
            buffer: k,
            offset_bytes: 0,
            size_bytes: (b.numel as u64 * b.dtype.bytes() as u64).next_multiple_of(4).max(4),
            writable: b.access != Access::Read,
            element_bytes: 4,
        });
        return match &spec.shader {
            CustomShader::Own { wgsl, entry, grid, unchecked } => Shader {
                text: wgsl.clone(),
                entry: entry.clone(),
                groups: grid.iter().map(|&n| u64::from(n)).product(),
                grid: Some(*grid),
                bindings: bindings.map(|binding| ShaderBinding { element_bytes: 0, ..binding }).collect(),
                raises_faults: false,
                unchecked: *unchecked,
                bare: true,
            },
            CustomShader::Template(templated) => template(templated, bindings.collect()),
        };
    }
    // Told of the kernel as it is: rewritten for four neighbours, its operands stand elsewhere.
    let tiled = match &kernel.kind {
        Kind::Dot(d) => tile(kernel, d, limits).map(|tile| (along_k(kernel, d), tile)),
        _ => None,
    };
    let (kernel, starts) = base::rebase(kernel, limits);
    let cut = match &kernel.kind {
        Kind::Dot(d) => cooperative::cut(&kernel, d, limits),
        _ => None,
    };
    let four = if cut.is_some() { None } else { four::four(&kernel, limits) };
    let kernel = four.as_ref().map_or(&kernel, |four| &four.kernel);
    let mut text = Text::new(kernel, four.as_ref());
    let bindings = buffers(&mut text, kernel, &starts, limits);
    let groups = match &kernel.kind {
        Kind::Loop(l) => loops::looped(&mut text, l, limits),
        Kind::Dot(d) => match &cut {
            Some(cut) => cooperative::dot(&mut text, d, cut),
            None => product::dot(&mut text, d, tiled),
        },
        Kind::Scatter(s) => loops::scatter(&mut text, s, limits),
        Kind::Scan(s) => loops::scan(&mut text, s, limits),
        Kind::Sort(s) => sort::sort(&mut text, s),
        Kind::Custom(_) => 0,
    };
    Shader {
        raises_faults: text.raises,
        text: text.finish(if cut.is_some() { cooperative::ENABLES } else { "" }),
        entry: "main".into(),
        groups,
        grid: None,
        bindings,
        unchecked: true,
        bare: false,
    }
}

/// The tile of the product `d` of `kernel`, which is as it was lowered; a narrow one has none.
pub fn tile(kernel: &Kernel, d: &Dot, limits: &Limits) -> Option<Tile> {
    let chosen = || if ALL_KERNELS { limits.tiles.chosen(&product_of(kernel, d)) } else { None };
    is_tiled(d).then(|| chosen().unwrap_or_else(|| limits.tiles.tile(d)))
}

/// A template whose parameters are constants.
fn template(templated: &Templated, mut bindings: Vec<ShaderBinding>) -> Shader {
    let mut text = String::from(
        "struct Meta { first: u32, inf: u32, nan: u32, fault: u32 }
@group(0) @binding(0) var<uniform> meta_: Meta;
fn first_group() -> u32 { return meta_.first; }
fn zero() -> u32 { return meta_.inf & 1u; }
",
    );
    for (name, value) in &templated.constants {
        text += &match value {
            Number::Float(x) => format!("const {name}: f32 = {:?}f;\n", f64::from(*x as f32)),
            Number::Int(n) => format!("const {name}: u32 = {n}u;\n"),
            Number::Bool(b) => format!("const {name}: bool = {b};\n"),
        };
    }
    text::write_source(&mut text, templated.template.text);
    // What could be vectors of four may be declared as such.
    bindings.iter_mut().filter(|b| b.size_bytes % 16 == 0).for_each(|b| b.element_bytes = 16);
    Shader { text, entry: "main".into(), groups: templated.groups, bindings, unchecked: true, ..Shader::default() }
}

/// Declares the buffers' windows and their load and store functions.
fn buffers(text: &mut Text<'_>, kernel: &Kernel, starts: &[u64], limits: &Limits) -> Vec<ShaderBinding> {
    let window_bytes = (limits.binding_bytes_max & !255).max(256);
    let mut bindings = Vec::new();
    let mut number = 1 + u32::from(!kernel.faults.is_empty());
    for (k, buffer) in kernel.buffers.iter().enumerate() {
        let bytes = (buffer.numel as u64 * buffer.dtype.bytes() as u64).next_multiple_of(4).max(4);
        let n_windows = bytes.div_ceil(window_bytes);
        let writable = buffer.access != Access::Read;
        let packed = buffer.dtype.bytes() < 4;
        let word = if packed { "u32" } else { text::wgsl_type(buffer.dtype) };
        let binding = |w: u64, element_bytes| ShaderBinding {
            buffer: k,
            offset_bytes: starts[k] + w * window_bytes,
            size_bytes: window_bytes.min(bytes - w * window_bytes),
            writable,
            element_bytes,
        };
        let mode = if writable { "read_write" } else { "read" };
        let view = text.view(k);
        if view != View::Single {
            text.global(format_args!("@group(0) @binding({number}) var<storage, {mode}> q{k}: array<vec4<{word}>>;"));
            if buffer.access != Access::Write {
                text.global(format_args!("fn quad{k}(n: u32) -> vec4<{word}> {{ return q{k}[n]; }}"));
            }
            if writable {
                text.global(format_args!("fn quad_store{k}(n: u32, quad: vec4<{word}>) {{ q{k}[n] = quad; }}"));
            }
            number += 1;
            bindings.push(binding(0, 16));
        }
        if view == View::Wide {
            continue;
        }
        for w in 0..n_windows {
            text.global(format_args!("@group(0) @binding({number}) var<storage, {mode}> b{k}_{w}: array<{word}>;"));
            number += 1;
            bindings.push(binding(w, 4));
        }
        // Word `n` of the buffer, whichever window it is in.
        let words = window_bytes / 4;
        let each = |access: &dyn Fn(String) -> String| -> String {
            let mut body = String::new();
            for w in 0..n_windows {
                let at = if w == 0 { "n".into() } else { format!("n - {}u", w * words) };
                let access = access(format!("b{k}_{w}[{at}]"));
                if w + 1 == n_windows {
                    body += &access;
                } else {
                    body += &format!("if (n < {}u) {{ {access} }} else ", (w + 1) * words);
                }
            }
            body
        };
        if buffer.access != Access::Write {
            let read = if n_windows == 1 {
                each(&|at| format!("return {at};"))
            } else {
                format!(
                    "var word: {word}; {} return word;",
                    each(&|at| format!("{{ word = {at}; }}")).replace("{ {", "{").replace("} }", "}")
                )
            };
            text.global(format_args!("fn word{k}(n: u32) -> {word} {{ {read} }}"));
            let value = unpack(text, buffer.dtype, &format!("word{k}"));
            let result = text::wgsl_type(buffer.dtype);
            text.global(format_args!("fn load{k}(n: u32) -> {result} {{ return {value}; }}"));
        }
        if writable {
            let write = if n_windows == 1 {
                each(&|at| format!("{at} = word;"))
            } else {
                each(&|at| format!("{{ {at} = word; }}")).replace("{ {", "{").replace("} }", "}")
            };
            text.global(format_args!("fn store{k}(n: u32, word: {word}) {{ {write} }}"));
        }
    }
    bindings
}

/// Element `n` of a packed buffer from its words.
fn unpack(text: &mut Text<'_>, dtype: DType, word: &str) -> String {
    match dtype {
        DType::F32 | DType::I32 | DType::U32 => format!("{word}(n)"),
        DType::Bool | DType::U8 => format!("({word}(n >> 2u) >> ((n & 3u) * 8u)) & 255u"),
        DType::F16 | DType::BF16 => {
            text.lib("float16");
            format!("{dtype}_load(({word}(n >> 1u) >> ((n & 1u) * 16u)) & 65535u)")
        }
    }
}
