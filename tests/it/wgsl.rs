//! Every shader text is sound for every API: naga parses and validates it and writes it as SPIR-V,
//! MSL and HLSL.
//!
//! Judges the shaders of a broad corpus compiled for portable limits, which needs no GPU, and,
//! through [`watch`], every shader that is compiled for a device in the whole test run. What naga
//! writes is left in `shaders` of the target folder, for `spirv-val` and other judges.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::{Limits, Target};
use wgrad::compile::tiles::Tiles;
use wgrad::compile::{compile, wgsl};
use wgrad::graph::scalar::Family;
use wgrad::graph::{Op, Scalar};
use wgrad::prelude::*;

/// Has every shader judged that a GPU compiles from now on.
#[cfg(feature = "gpu")]
pub fn watch() {
    wgrad::device::gpu::pipeline::observe(|text| judge("a device's shader", text));
}

/// Panics where naga does not take `text`, or cannot write it for one of its APIs.
pub fn judge(name: &str, text: &str) {
    static SEEN: Mutex<Option<HashSet<u64>>> = Mutex::new(None);
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let hash = hasher.finish();
    if !SEEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(hash) {
        return;
    }
    if let Err(fact) = written(text, &format!("{hash:016x}")) {
        panic!("{name}: {fact}\n{text}");
    }
}

fn written(text: &str, hash: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(text))?;

    let cooperative = text.contains("enable wgpu_cooperative_matrix;");
    // Subgroups are of 1.3, which Vulkan 1.1 has.
    let lang_version = if cooperative { (1, 6) } else { (1, 3) };
    let options = spv::Options { lang_version, ..spv::Options::default() };
    let words = spv::write_vec(&module, &info, &options, None).map_err(|e| format!("SPIR-V: {e}"))?;
    let mut options = msl::Options::default();
    if cooperative {
        options.lang_version = (2, 3);
    }
    let (metal, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
        .map_err(|e| format!("MSL: {e}"))?;
    let mut direct = String::new();
    // It has no such matrices.
    if !cooperative {
        hlsl::Writer::new(&mut direct, &hlsl::Options::default(), &hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .map_err(|e| format!("HLSL: {e}"))?;
    }

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("shaders");
    let save = |kind: &str, bytes: &[u8]| std::fs::write(folder.join(format!("{hash}.{kind}")), bytes);
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let binary: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // A judge of its own, because spirv-val knows such matrices from 2023.3 on.
    save(if cooperative { "cooperative-spv" } else { "spv" }, &binary).map_err(|e| e.to_string())?;
    save("msl", metal.as_bytes()).map_err(|e| e.to_string())?;
    save("hlsl", direct.as_bytes()).map_err(|e| e.to_string())
}

/// What any GPU can do.
pub fn limits(target: Target) -> Limits {
    Limits {
        target,
        buffers_max: 7,
        binding_bytes_max: 1 << 27,
        buffer_bytes_max: 1 << 28,
        invocations_max: 256,
        workgroup_bytes_max: 16 << 10,
        groups_max: 65_535,
        tiles: Tiles::of(target),
        cooperative: None,
        sort_block: 64,
        template_flops_min: u64::MAX,
        memory_bytes_max: u64::MAX,
    }
}

/// Judges the shaders that compute `roots`, on GPUs of both kinds.
fn judge_graph(name: &str, roots: &[Tensor]) {
    for target in [Target::Gpu, Target::SoftwareGpu] {
        judge_within(name, roots, &limits(target));
    }
}

/// Judges the shaders that compute `roots` within `limits`.
pub fn judge_within(name: &str, roots: &[Tensor], limits: &Limits) {
    if let Some(error) = roots.iter().find_map(Tensor::error) {
        panic!("{name}: {error}");
    }
    let plan = compile(&Graph::flatten(roots).0, limits);
    for step in &plan.steps {
        let shader = wgsl::emit(&step.kernel, limits);
        judge(name, &shader.text);
        assert!(
            shader.bindings.len() <= limits.buffers_max,
            "{name}: {} bindings, not {}\n{}",
            shader.bindings.len(),
            limits.buffers_max,
            step.kernel
        );
        let windows = shader.bindings.iter().all(|b| b.size_bytes <= limits.binding_bytes_max);
        assert!(windows, "{name}: a binding of more than {} bytes", limits.binding_bytes_max);
        let shared = workgroup_bytes(&shader.text);
        assert!(shared <= limits.workgroup_bytes_max, "{name}: {shared} bytes of workgroup memory\n{}", shader.text);
    }
}

fn workgroup_bytes(text: &str) -> u32 {
    let Ok(module) = naga::front::wgsl::parse_str(text) else { return 0 };
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
    shared.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum()
}

/// A tensor that is there: whole numbers from 0 to 6.
fn data(dtype: DType, dims: &[usize]) -> Tensor {
    let n = dims.iter().product::<usize>() as i64;
    let x = (Tensor::arange(0, n, 1, &Device::cpu()) % 7).cast(dtype).reshape(dims);
    x.realize().unwrap();
    x
}

fn float(dims: &[usize]) -> Tensor {
    data(DType::F32, dims)
}

#[test]
fn every_row_of_the_table_on_every_dtype() {
    for &row in Scalar::ALL {
        let spec = row.spec();
        for dtype in DType::ALL {
            let x = data(dtype, &[37]);
            let choice = data(DType::Bool, &[37]);
            let src = if spec.family == Family::Choose { vec![&choice, &x, &x] } else { vec![&x; spec.arity] };
            let y = Tensor::primitive(Op::Scalar(row), &src, Shape::SCALAR, DType::F32);
            if y.is_valid() {
                judge_graph(&format!("{} of {dtype}", spec.name), &[y]);
            }
        }
    }
}

#[test]
fn every_cast() {
    for from in DType::ALL {
        for to in DType::ALL {
            judge_graph(&format!("{from} as {to}"), &[data(from, &[37]).cast(to)]);
            judge_graph(&format!("{from} as {to}, back"), &[(data(from, &[37]).cast(to) + data(to, &[37])).cast(from)]);
        }
    }
}

#[test]
fn constants_of_every_kind() {
    let x = float(&[5]);
    for value in [0.0, -0.0, 1.5, -1.5, 1e-42, 3.4e38, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        judge_graph(&format!("the constant {value}"), &[&x + value, Tensor::full([3], value, &Device::cpu())]);
    }
    let i = data(DType::I32, &[5]);
    for value in [0i64, -1, i64::from(i32::MIN), i64::from(i32::MAX)] {
        judge_graph(&format!("the constant {value}"), &[&i + value]);
    }
    let rate = Tensor::input(0.5, &Device::cpu());
    judge_graph("an input", &[&x * &rate, &i + Tensor::input(3, &Device::cpu())]);
}

/// WGSL has no constants that are infinite or NaN, not by way of their bits either.
#[test]
fn bits_of_special_numbers_are_no_constants() {
    for bits in [0x7f80_0000u32, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001] {
        let special = |device: &Device| Tensor::full([3], bits as i32, device).bitcast(DType::F32);
        let roots = [special(&Device::cpu()), special(&Device::cpu()) + float(&[3])];
        judge_graph(&format!("{bits:#x}"), &roots);
        for step in compile(&Graph::flatten(&roots).0, &limits(Target::Gpu)).steps {
            let text = wgsl::emit(&step.kernel, &limits(Target::Gpu)).text;
            assert!(text.contains(&format!("bitcast<f32>({bits}u | (meta_.inf & 1u))")), "{text}");
        }
        for device in crate::devices::devices() {
            for x in special(&device).to_vec::<f32>().unwrap() {
                let want = f32::from_bits(bits);
                assert!(x == want || x.is_nan() && want.is_nan(), "{bits:#x} on {device}: {x}");
            }
        }
    }
}

#[test]
fn movement() {
    for dtype in DType::ALL {
        let x = data(dtype, &[6, 10]);
        let y = data(dtype, &[6, 3]);
        let start = data(DType::I32, &[]);
        let all: [(&str, Tensor); 14] = [
            ("reshape", x.reshape([4, 15])),
            ("transpose", x.t()),
            ("expand", x.unsqueeze(1).expand([6, 4, 10])),
            ("slice", x.slice_axis(1, 1..9, 2)),
            ("slice backwards", x.slice_axis(1, .., -3)),
            ("narrow_at", x.narrow_at(1, &start, 3)),
            ("update_at", x.update_at(1, &start, &y)),
            ("flip", x.flip(..)),
            ("pad", x.pad(&[(1, 2), (0, 3)], PadMode::Constant(1.into()))),
            ("pad reflect", x.pad(&[(1, 2), (0, 3)], PadMode::Reflect)),
            ("cat", Tensor::cat(&[&x, &y, &x], 1)),
            ("roll", x.roll([2], [1])),
            ("unfold", x.unfold(1, 4, 3)),
            ("tril", x.tril(-1)),
        ];
        for (name, y) in all {
            judge_graph(&format!("{name} of {dtype}"), &[y]);
        }
    }
    let parts: Vec<Tensor> = (0..23).map(|k| data(DType::F32, &[3, k + 1])).collect();
    judge_graph("cat of many", &[Tensor::cat(&parts, 1).sin()]);
    judge_graph("stack of many, and its sum", &[Tensor::stack(&vec![float(&[9, 9]); 40], 0).sum(0)]);
    judge_graph("deep views", &[x_through_views()]);
}

fn x_through_views() -> Tensor {
    let x = float(&[4, 6, 10]);
    x.permute([2, 0, 1])
        .reshape([20, 12])
        .flip(0)
        .slice_axis(0, 1..19, 3)
        .pad(&[(1, 1), (2, 2)], 0.0)
        .t()
        .reshape([8, 16])
}

#[test]
fn reductions_and_rows() {
    for n in [1, 5, 64, 1000] {
        let x = float(&[6, n]);
        let (w, b) = (float(&[n]), float(&[n]));
        let all: [(&str, Tensor); 11] = [
            ("softmax", x.softmax(-1)),
            ("log_softmax", x.log_softmax(-1)),
            ("softmax of columns", x.t().softmax(0)),
            ("layer_norm", x.layer_norm(-1, Some(&w), Some(&b), 1e-5)),
            ("rms_norm", x.rms_norm(-1, Some(&w), 1e-5)),
            ("argmax", x.argmax(-1)),
            ("argmin of columns", x.t().argmin(0)),
            ("logsumexp", x.logsumexp(-1)),
            ("var", x.var_with(-1, 0.0)),
            ("packed softmax", x.softmax(-1).cast(DType::F16)),
            ("all", x.sum(..)),
        ];
        for (name, y) in all {
            judge_graph(&format!("{name} of {n}"), &[y]);
        }
        for dtype in DType::ALL {
            let x = data(dtype, &[6, n]);
            let found = [x.sum(-1), x.prod(0), x.max(-1), x.min(0), x.any(-1), x.all(..), x.argmax(-1), x.argmin(0)];
            judge_graph(&format!("reductions of {dtype} {n}"), &found);
            judge_graph(&format!("scans of {dtype} {n}"), &[x.cumsum(-1), x.cumprod(0), x.cummax(-1).0]);
        }
    }
    // Its rows are loaded in fours, and kept.
    let kept = data(DType::I32, &[7]).index_select(0, &data(DType::I32, &[20]));
    judge_graph("argmax beside what it goes along", &[kept.clone(), kept.argmax(0)]);
    let x = float(&[6, 1000]);
    let many: Vec<Tensor> = (0..40).map(|k| (&x + f64::from(k)).sin().sum(-1)).collect();
    judge_graph("many reductions of the same rows", &[Tensor::stack(&many, 0).sum(0)]);
    judge_graph("many reductions of the same rows, kept", &many);
    let sum = many.iter().skip(1).fold(many[0].clone(), |y, z| y + z);
    judge_graph("many reductions of the same rows, added", &[&x * sum.unsqueeze(1)]);
}

#[test]
fn products() {
    for dtype in [DType::F32, DType::I32, DType::U32, DType::U8, DType::F16, DType::BF16] {
        for (m, k, n) in [(1, 7, 9), (9, 7, 1), (8, 16, 8), (13, 5, 11), (64, 64, 64), (6, 1000, 6)] {
            let y = data(dtype, &[m, k]).matmul(&data(dtype, &[k, n]));
            judge_graph(&format!("{m} {k} {n} of {dtype}"), &[y]);
        }
    }
    let (x, w, b) = (float(&[2, 9, 16]), float(&[16, 12]), float(&[12]));
    judge_graph("a batch", &[x.matmul(&float(&[2, 16, 10]))]);
    judge_graph("an epilogue", &[(x.matmul(&w) + &b).gelu()]);
    let many: Vec<Tensor> = (0..4).map(|_| float(&[2, 9, 12])).collect();
    judge_graph("an epilogue of many", &[many.iter().fold(x.matmul(&w), |y, z| y * z)]);
    judge_graph("a prologue", &[x.softmax(-1).matmul(&w.exp())]);
    judge_graph("transposed", &[w.t().matmul(&x.transpose(1, 2))]);
    judge_graph("packed result", &[x.matmul(&w).cast(DType::BF16)]);
    for (groups, options) in [
        (1, ConvOptions::default()),
        (1, ConvOptions::default().stride([2, 1]).padding([1, 2]).dilation([2, 1])),
        (2, ConvOptions::default().groups(2).padding([1, 1])),
    ] {
        let image = float(&[2, 4, 9, 8]).tracked();
        let kernel = float(&[6, 4 / groups, 3, 3]).tracked();
        let y = image.conv2d(&kernel, Some(&float(&[6])), options).relu();
        judge_graph("conv2d", std::slice::from_ref(&y));
        judge_graph("conv2d and its gradient", &(&y * &y).sum(..).grad(&[&image, &kernel]));
    }
}

#[test]
fn indexed() {
    let index = data(DType::I32, &[4, 10]);
    for dtype in DType::ALL {
        let x = data(dtype, &[7, 10]);
        judge_graph(&format!("gather of {dtype}"), &[x.gather(0, &index)]);
        judge_graph(&format!("masked gather of {dtype}"), &[x.gather(0, &index).pad(&[(1, 1), (1, 1)], 0.0)]);
        judge_graph(&format!("scatter of {dtype}"), &[x.scatter(0, &index, data(dtype, &[4, 10]))]);
        if dtype != DType::Bool {
            judge_graph(&format!("scatter_add of {dtype}"), &[x.scatter_add(0, &index, data(dtype, &[4, 10]))]);
        }
        for n in [1, 10, 1000] {
            let x = data(dtype, &[n, 3]);
            judge_graph(&format!("argsort of {dtype}"), &[x.argsort(0, false), x.argsort(-1, true)]);
        }
    }
    let table = float(&[50, 12]).tracked();
    let ids = data(DType::I32, &[4, 5]);
    let y = table.embedding(&ids);
    judge_graph("embedding and its gradient", &[(&y * &y).sum(..).grad(&[&table]).remove(0), y]);
}

#[test]
fn random() {
    let key = Tensor::key(3, &Device::cpu());
    judge_graph("uniform", &[Tensor::uniform([33], &key), Tensor::normal([3, 3], &key.fold_in(7))]);
    judge_graph("bits", &[Tensor::bits([5], &key), Tensor::randint([7], -5..9, &key)]);
    judge_graph("dropout", &[float(&[9, 9]).dropout(0.5, &key), Tensor::permutation(100, &key)]);
}

#[test]
fn composites() {
    let x = float(&[2, 3, 8, 4]).tracked();
    let y = x.scaled_dot_product_attention(&x, &x, AttentionOptions::default().causal());
    judge_graph("attention and its gradient", &[(&y * &y).sum(..).grad(&[&x]).remove(0), y]);
    let image = float(&[2, 3, 9, 9]).tracked();
    let y = image.max_pool2d([3, 3], PoolOptions::default().stride([2, 2]).padding([1, 1]));
    judge_graph("max_pool2d and its gradient", &[(&y * &y).sum(..).grad(&[&image]).remove(0), y]);
    let logits = float(&[8, 10]).tracked();
    let loss = logits.cross_entropy(&data(DType::I32, &[8]));
    judge_graph("cross_entropy and its gradient", &[loss.grad(&[&logits]).remove(0), loss]);
    let empty = float(&[0, 5]);
    judge_graph("empty", &[empty.sum(0), empty.sin(), empty.matmul(&float(&[5, 4])), float(&[4, 0]).matmul(&empty)]);
}

/// Buffers of several bindings each.
#[test]
fn windows() {
    let narrow = |target| Limits { binding_bytes_max: 1024, buffers_max: 24, ..limits(target) };
    for dtype in DType::ALL {
        let per = 1024 / dtype.bytes();
        let x = data(dtype, &[3, per]);
        let y = data(dtype, &[per * 2 + 3]);
        let index = data(DType::I32, &[3, 20]);
        let all = [
            ("a map", x.maximum(x.flip(1))),
            ("an odd size", y.flip(0)),
            ("transpose", x.t().maximum(1)),
            ("rows", x.max(-1)),
            ("columns", x.max(0)),
            ("gather", x.gather(1, &index)),
            ("scatter", x.scatter(1, &index, data(dtype, &[3, 20]))),
            ("scan", x.cumsum(1)),
            ("matmul", data(dtype, &[8, 8]).matmul(&data(dtype, &[8, 60])).maximum(0)),
        ];
        for (name, y) in all {
            if name == "matmul" && dtype == DType::Bool {
                continue;
            }
            for target in [Target::Gpu, Target::SoftwareGpu] {
                judge_within(&format!("{name} of {dtype} in windows"), std::slice::from_ref(&y), &narrow(target));
            }
        }
    }
    for target in [Target::Gpu, Target::SoftwareGpu] {
        judge_within("softmax in windows", &[float(&[4, 300]).softmax(-1)], &narrow(target));
        judge_within("sort in windows", &[float(&[900]).argsort(0, false)], &narrow(target));
    }
}

/// The files of `shaders`, which are templates with their parameters filled in, and of
/// `shaders/lib`, which are functions over `Meta`.
#[test]
fn the_files_as_they_stand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    // SPIR-V of a module without an entry point is a library, which no API takes.
    let meta = "@compute @workgroup_size(1) fn main() {}
        struct Meta { first: u32, inf: u32, nan: u32, fault: u32 }
        @group(0) @binding(0) var<uniform> meta_: Meta;\n";
    let mut n = 0;
    for (folder, before) in [(folder.clone(), ""), (folder.join("lib"), meta)] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "wgsl") {
                let text = std::fs::read_to_string(&path).unwrap();
                // Some take the logarithm of another file.
                let uses_ln = text.contains("ln_(") || text.contains("log2_(");
                let ln =
                    if uses_ln && !path.ends_with("ln.wgsl") { include_str!("../../shaders/lib/ln.wgsl") } else { "" };
                judge(&path.display().to_string(), &format!("{before}{ln}{text}"));
                n += 1;
            }
        }
    }
    assert!(n > 2, "{n} files");
}
