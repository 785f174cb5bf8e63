//! Every tile that products may have on some GPU, over shapes and layouts that could break it, and
//! the forms that few or long contractions take; by the CPU's meaning of the plan and on a GPU.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::kernel::Kind;
use wgrad::compile::plan::{Limits, Target};
use wgrad::compile::tiles::{Tile, Tiles};
use wgrad::compile::wgsl::{emit, product_of};
use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::{checked_gpu, gpu, plain_cpu};
use crate::support::random as uniform;
use crate::wgsl::limits;

const TABLES: [Tiles; 7] = [
    Tiles::DISCRETE,
    Tiles::PORTABLE,
    Tiles::INTEL,
    Tiles::APPLE,
    Tiles::SOFTWARE,
    Tiles::VECTORS,
    Tiles::SHORT_VECTORS,
];

/// Those of the ladders and those that a search tries.
fn all_tiles() -> Vec<&'static Tile> {
    let mut all: Vec<Tile> = TABLES.iter().flat_map(|table| table.candidates(&limits(Target::Gpu))).collect();
    all.sort();
    all.dedup();
    all.into_iter().map(|tile| &*Box::leak(Box::new(tile))).collect()
}

fn with(tiles: Tiles) -> Limits {
    Limits { tiles, ..limits(Target::Gpu) }
}

/// Those of the ladders, for what differs between templates more than between tiles.
fn usual_tiles() -> Vec<&'static Tile> {
    let mut all: Vec<&Tile> = TABLES.iter().flat_map(|table| table.ladder()).collect();
    all.sort();
    all.dedup();
    all
}

/// Whether a GPU can run these tiles: where a workgroup is a subgroup, its own is one.
#[cfg(feature = "gpu")]
fn can(gpu: &Device, tiles: &Tiles) -> bool {
    let own = wgrad::device::gpu::Gpu::of(gpu).expect("a GPU").limits().tiles;
    tiles.ladder().iter().all(|tile| !tile.is_passed_around() || own.ladder().contains(tile))
}

/// There is none without the feature.
#[cfg(not(feature = "gpu"))]
fn can(_: &Device, _: &Tiles) -> bool {
    false
}

/// Plans within `limits` agree with the oracle, on the CPU and on a GPU that can run them.
#[track_caller]
fn agree_within(what: &str, limits: &Limits, build: &dyn Fn(&Device) -> Case) {
    for device in [Some(plain_cpu()), gpu().filter(|gpu| can(gpu, &limits.tiles))].into_iter().flatten() {
        agree(what, &How::Foreign(device, limits.clone().into()), build);
    }
}

/// Products of `[b, m, n, k]` with operands as they lie, and transposed, and with all that may be
/// computed beside them.
fn products(device: &Device, [b, m, n, k]: [usize; 4]) -> Case {
    let on = |dims: &[usize]| uniform(dims).to_device(device);
    let (x, w) = (on(&[b, m, k]), on(&[b, k, n]));
    let (xt, wt) = (on(&[b, k, m]), on(&[b, n, k]));
    let (row, whole) = (on(&[n]), on(&[b, m, n]));
    let roots = vec![
        x.matmul(&w),
        (x.matmul(&wt.transpose(1, 2)) + &row).relu(),
        xt.transpose(1, 2).matmul(&w) * &whole,
        xt.transpose(1, 2).matmul(&wt.transpose(1, 2)),
    ];
    Case::new(roots, vec![x, w, xt, wt, row, whole])
}

#[test]
fn every_tile_agrees_on_awkward_shapes() {
    for tile in all_tiles() {
        let (m, n) = (tile.rows(), tile.columns());
        // Whole tiles, whole fours beyond one, and nothing whole.
        let shapes = [[2, m, n, 17], [1, m + 4, n - 4, 8], [1, 7, n + 3, 33]];
        for dims in shapes {
            let what = format!("{tile:?} over {dims:?}");
            agree_within(&what, &with(Tiles::PORTABLE.only(tile)), &|device| products(device, dims));
        }
    }
}

#[test]
fn tiles_agree_with_the_drivers_checks() {
    let Some(device) = checked_gpu() else { return println!("not run: there is no adapter") };
    for tile in usual_tiles() {
        let limits = with(Tiles::PORTABLE.only(tile));
        if can(&device, &limits.tiles) {
            let how = How::Foreign(device.clone(), limits.into());
            // Nothing of it is whole.
            let dims = [1, 7, tile.columns() + 3, 33];
            agree(&format!("{tile:?}, checked"), &how, &|device| products(device, dims));
        }
    }
}

#[test]
fn every_tile_takes_sums_of_its_operands_along() {
    for tile in all_tiles() {
        let limits = with(Tiles::PORTABLE.only(tile));
        for [m, n, k] in [[tile.rows() + 3, tile.columns() + 8, 20], [8, 16, 65]] {
            let build = |device: &Device| {
                let [x, w] = [[m, k], [k, n]].map(|dims| uniform(&dims).to_device(device));
                Case::new(vec![x.matmul(&w), x.sum(1), w.sum(0)], vec![x, w])
            };
            let plan = compile(&Graph::flatten(&build(&Device::cpu()).roots).0, &limits);
            assert_eq!(plan.steps.len(), 1, "{tile:?}");
            agree_within(&format!("sums beside {tile:?}"), &limits, &build);
        }
    }
}

#[test]
fn tiles_multiply_integers_and_halves() {
    for tile in usual_tiles() {
        for dtype in [DType::I32, DType::U32, DType::F16, DType::BF16] {
            let build = |device: &Device| {
                let [x, w] = [[13, 40], [40, 18]].map(|dims| (uniform(&dims).to_device(device) * 9.0).cast(dtype));
                let leaves = if dtype.is_float() { vec![x.clone(), w.clone()] } else { Vec::new() };
                Case::new(vec![x.matmul(&w)], leaves)
            };
            let limits = with(Tiles::PORTABLE.only(tile));
            agree_within(&format!("{tile:?} of {dtype}"), &limits, &build);
        }
    }
}

#[test]
fn tiles_convolve() {
    for tile in usual_tiles() {
        let build = |device: &Device| {
            let x = uniform(&[2, 6, 9, 7]).to_device(device).tracked();
            let w = uniform(&[20, 3, 3, 2]).to_device(device).tracked();
            let options = ConvOptions::default().stride([2, 1]).padding([1, 1]).groups(2);
            let y = x.conv2d(&w, None, options);
            let mut roots = (&y * &y).sum(..).grad(&[&x, &w]);
            roots.push(y);
            Case::new(roots, vec![x, w])
        };
        agree_within(&format!("{tile:?} in a conv"), &with(Tiles::PORTABLE.only(tile)), &build);
    }
}

/// The kernels of `x` on a GPU of many tiles.
fn kinds(x: &Tensor) -> Vec<&'static str> {
    let plan = compile(&Graph::flatten(std::slice::from_ref(x)).0, &with(Tiles::DISCRETE));
    let kind = |kind: &Kind| match kind {
        Kind::Dot(d) if d.batch > 1 => "batch",
        Kind::Dot(_) => "product",
        Kind::Loop(_) => "loop",
        _ => "other",
    };
    plan.steps.iter().map(|step| kind(&step.kernel.kind)).collect()
}

#[test]
fn long_contractions_are_cut_into_parts() {
    let product = |device: &Device| {
        let [x, w] = [[24, 1536], [1536, 20]].map(|dims| uniform(&dims).to_device(device));
        Case::new(vec![x.matmul(&w).relu()], vec![x, w])
    };
    let gradient = |device: &Device| {
        let [x, w] = [[8, 3, 20, 20], [6, 3, 3, 3]].map(|dims| uniform(&dims).to_device(device).tracked());
        let y = x.conv2d(&w, None, ConvOptions::default().padding([1, 1]));
        Case::new((&y * &y).sum(..).grad(&[&w]), vec![x, w])
    };
    assert_eq!(kinds(&product(&Device::cpu()).roots[0]), ["batch", "loop"]);
    // The last one puts the axes of the weight in order.
    assert_eq!(kinds(&gradient(&Device::cpu()).roots[0]), ["product", "batch", "loop", "loop"]);
    let grouped = |device: &Device| {
        let [x, w] = [[16, 4, 20, 20], [12, 2, 3, 3]].map(|dims| uniform(&dims).to_device(device).tracked());
        let y = x.conv2d(&w, None, ConvOptions::default().padding([1, 1]).groups(2));
        Case::new((&y * &y).sum(..).grad(&[&w]), vec![x, w])
    };
    assert_eq!(kinds(&grouped(&Device::cpu()).roots[0]), ["batch", "batch", "loop", "loop"]);
    let limits = with(Tiles::DISCRETE);
    agree_within("a product in parts", &limits, &product);
    agree_within("a convolution in parts", &limits, &gradient);
    agree_within("a grouped convolution in parts", &limits, &grouped);
}

#[test]
fn long_reductions_keep_a_large_gpu_busy() {
    let outers = |x: &Tensor| -> Vec<usize> {
        let plan = compile(&Graph::flatten(std::slice::from_ref(x)).0, &with(Tiles::DISCRETE));
        let outer = |kind: &Kind| if let Kind::Loop(l) = kind { l.outer } else { 0 };
        plan.steps.iter().map(|step| outer(&step.kernel.kind)).collect()
    };
    let zeros = |dims: &[usize]| Tensor::from_vec(vec![0f32; dims.iter().product()], dims, &Device::cpu());
    assert_eq!(outers(&zeros(&[1 << 20]).sum(..)), [1024, 1]);
    assert_eq!(outers(&zeros(&[4096, 256]).sum(0)), [32768, 256]);
    assert_eq!(outers(&zeros(&[16, 64, 40, 40]).sum([0, 2, 3])), [1024, 64]);
    // A row that a softmax goes along stays whole.
    assert_eq!(outers(&zeros(&[64, 8200]).softmax(1)), [64]);
    let build = |device: &Device| {
        let [x, y] = [[17, 5, 33, 31], [3, 1, 3001, 7]].map(|dims| uniform(&dims).to_device(device));
        Case::new(vec![x.sum([0, 2, 3]), x.max([0, 2]), y.mean(2), y.sum([0, 2]), y.min(..)], vec![x, y])
    };
    agree_within("long reductions", &with(Tiles::DISCRETE), &build);
}

#[test]
fn convolutions_of_few_channels_agree() {
    let plain = ConvOptions::default;
    let cases: [(&[usize], &[usize], ConvOptions); 12] = [
        (&[2, 3, 9, 8], &[3, 1, 3, 3], plain().padding([1, 2]).groups(3)),
        (&[2, 3, 9, 8], &[6, 1, 2, 3], plain().stride([2, 1]).padding([0, 1]).dilation([1, 2]).groups(3)),
        (&[2, 3, 9, 8], &[2, 3, 3, 2], plain().stride([1, 2])),
        // Fours of them lie side by side.
        (&[2, 4, 8, 16], &[4, 1, 3, 3], plain().padding(1).groups(4)),
        (&[2, 4, 8, 16], &[4, 1, 5, 5], plain().padding(2).stride(2).groups(4)),
        (&[1, 2, 9, 9], &[2, 1, 7, 7], plain().padding(3).groups(2)),
        (&[1, 2, 11, 4], &[2, 1, 9, 1], plain().padding([4, 0]).groups(2)),
        // One that no row of is written out, and one of a single tap.
        (&[2, 2, 30], &[2, 1, 11], plain().groups(2)),
        (&[2, 7, 5, 6], &[1, 7, 1, 1], plain()),
        (&[2, 4, 21], &[4, 2, 3], plain().padding(2).stride(3).groups(2)),
        (&[1, 2, 4, 5, 6], &[4, 1, 2, 3, 3], plain().padding([1, 0, 1]).groups(2)),
        (&[1, 2, 6, 6, 6], &[2, 1, 5, 5, 5], plain().padding(2).groups(2)),
    ];
    for (x, w, options) in cases {
        let build = |device: &Device| {
            let [x, w] = [x, w].map(|dims| uniform(dims).to_device(device).tracked());
            let y = match w.rank() {
                3 => x.conv1d(&w, None, options.clone()),
                4 => x.conv2d(&w, None, options.clone()),
                _ => x.conv3d(&w, None, options.clone()),
            };
            let mut roots = (&y * &y).sum(..).grad(&[&x, &w]);
            roots.push(y);
            Case::new(roots, vec![x, w])
        };
        agree_within(&format!("{w:?} over {x:?}"), &with(Tiles::DISCRETE), &build);
    }
    let [x, w] = [[2, 3, 9, 8], [3, 1, 3, 3]].map(|dims| uniform(&dims).to_device(&Device::cpu()));
    let y = x.conv2d(&w, None, plain().groups(3)).relu();
    assert_eq!(kinds(&y), ["loop"]);
    // A few long sums are cut, all nine of a channel in one kernel.
    let large = |dims: [usize; 4]| Tensor::from_vec(vec![0f32; dims.iter().product()], dims, &Device::cpu()).tracked();
    let (x, w) = (large([4, 8, 128, 128]), large([8, 1, 3, 3]));
    let dw = x.conv2d(&w, None, plain().padding(1).groups(8)).sum(..).grad(&[&w]).remove(0);
    assert_eq!(kinds(&dw), ["loop", "loop"]);
}

#[test]
fn what_is_stored_for_another_kernel_leaves_room_for_bindings() {
    let all: Vec<Tensor> = (0..5).map(|_| uniform(&[2, 8, 8])).collect();
    let twice: Vec<Tensor> = all.iter().map(|x| x * 2.0).collect();
    let sum = |terms: Vec<Tensor>| terms.into_iter().reduce(|sum, term| sum + term).unwrap();
    let y = sum(twice.iter().zip(&all).map(|(t, x)| t + x).collect());
    let z = sum(twice.iter().map(|t| t.matmul(&uniform(&[2, 8, 8]))).collect());
    let few = Limits { buffers_max: 7, ..limits(Target::Gpu) };
    for step in compile(&Graph::flatten(&[y, z]).0, &few).steps {
        assert!(step.kernel.buffers.len() <= 7, "{}", step.kernel);
    }
}

#[test]
fn few_rows_along_the_contraction_are_sums() {
    // A weight as PyTorch lays it, times one vector, as when text is generated.
    let build = |m: usize| {
        move |device: &Device| {
            let [x, w] = [[m, 300], [50, 300]].map(|dims| uniform(&dims).to_device(device));
            Case::new(vec![x.matmul(&w.t()), w.matmul(&x.t())], vec![x, w])
        }
    };
    for m in [1, 3] {
        assert_eq!(kinds(&build(m)(&Device::cpu()).roots[0]), ["loop"]);
        agree_within("few rows", &with(Tiles::DISCRETE), &build(m));
    }
}

#[test]
fn a_tile_fits_what_every_gpu_has() {
    for tile in all_tiles() {
        assert!(tile.bytes() <= 16 << 10 && tile.invocations() <= 256, "{tile:?}");
        if tile.depth > 0 {
            // An invocation loads one or two fours of each operand.
            let (fours, each) = (|n: usize| tile.depth as usize * n / 4, tile.invocations() as usize);
            let loads = [tile.rows(), tile.columns()].map(fours);
            assert!(loads.iter().all(|n| [each, 2 * each].contains(n)), "{tile:?}: {loads:?}");
            // Fours change places within eights.
            assert!([tile.rows(), tile.columns()].iter().all(|n| n.is_multiple_of(32)), "{tile:?}");
        }
    }
    let written: std::collections::BTreeSet<String> = all_tiles().iter().map(|tile| tile.to_string()).collect();
    assert_eq!(written.len(), all_tiles().len(), "no two are written alike: {written:?}");
    let least = Limits { invocations_max: 64, workgroup_bytes_max: 4 << 10, ..limits(Target::Gpu) };
    let few = Tiles::DISCRETE.candidates(&least);
    assert!(few.len() > 2 && few.iter().all(|tile| tile.invocations() <= 64 && tile.bytes() <= 4 << 10), "{few:?}");
}

#[test]
fn a_chosen_tile_is_taken_for_its_product_alone() {
    let text = |y: Tensor, tiles: &Tiles| {
        let limits = with(tiles.clone());
        let plan = compile(&Graph::flatten(&[y]).0, &limits);
        let Kind::Dot(d) = &plan.steps[0].kernel.kind else { panic!("no product") };
        (product_of(&plan.steps[0].kernel, d), emit(&plan.steps[0].kernel, &limits).text)
    };
    let (x, w) = (uniform(&[64, 128]), uniform(&[128, 256]));
    let (product, before) = text(x.matmul(&w), &Tiles::PORTABLE);
    assert_eq!(product.to_string(), "1 64 256 128 nn");
    let chosen = *all_tiles().iter().find(|tile| tile.width == 16 && tile.depth == 16).unwrap();
    let tiles = Tiles::PORTABLE.with(vec![(product, *chosen)]);
    let (_, after) = text(x.matmul(&w), &tiles);
    assert!(!before.contains("const WIDTH: u32 = 16u") && after.contains("const WIDTH: u32 = 16u"), "{after}");
    assert_ne!(with(tiles.clone()), with(Tiles::PORTABLE), "plans depend on it");
    // Read another way, it is another product.
    let turned = uniform(&[256, 128]);
    assert!(!text(x.matmul(&turned.t()), &tiles).1.contains("const WIDTH: u32 = 16u"));
}

#[test]
fn a_tile_is_loaded_along_what_lies_side_by_side() {
    let flags = |y: Tensor| {
        let limits = with(Tiles::PORTABLE);
        let plan = compile(&Graph::flatten(&[y]).0, &limits);
        let text = emit(&plan.steps[0].kernel, &limits).text;
        ["LHS", "RHS"].map(|side| text.contains(&format!("const {side}_ALONG_K: bool = true;")))
    };
    // Whole fours, and not.
    for n in [64, 63] {
        let (x, w) = (uniform(&[n, n]), uniform(&[n, n]));
        assert_eq!(flags(x.matmul(&w)), [true, false], "{n}");
        assert_eq!(flags(x.matmul(&w.t())), [true, true], "{n}");
        assert_eq!(flags(x.t().matmul(&w)), [false, false], "{n}");
        assert_eq!(flags(x.t().matmul(&w.t())), [false, true], "{n}");
    }
}

#[test]
fn the_largest_tile_that_keeps_a_device_busy_is_taken() {
    let tile = |m: usize| {
        let [x, w] = [[m, 16], [16, m]].map(|dims| uniform(&dims));
        let plan = compile(&Graph::flatten(&[x.matmul(&w)]).0, &with(Tiles::DISCRETE));
        let Kind::Dot(d) = &plan.steps[0].kernel.kind else { panic!("no product") };

        Tiles::DISCRETE.tile(d).rows()
    };
    assert_eq!([100, 1000, 1500].map(tile), [32, 64, 128]);
    // 65 rows would be half of what two tiles of 64 compute; parts keep a large tile busy, if they are long.
    let groups = |[m, n, k]: [usize; 3]| {
        let parts = Tiles::DISCRETE.parts([1, m, n, k], k).unwrap_or(1);
        let plan = compile(&Graph::flatten(&[uniform(&[m, k]).matmul(&uniform(&[k, n]))]).0, &with(Tiles::DISCRETE));
        let Kind::Dot(d) = &plan.steps[0].kernel.kind else { panic!("no product") };
        (parts, Tiles::DISCRETE.tile(d).rows())
    };
    assert_eq!(groups([65, 9000, 16]), (1, 32));
    assert_eq!(groups([256, 256, 32768]), (32, 128));
    assert_eq!(groups([128, 128, 1024]), (8, 32));
}

/// Weights lie in slabs, which need not end with a whole four: what lies behind the last is never loaded with it.
#[test]
fn gpu_slabs_of_odd_sizes_are_loaded_in_fours() {
    let build = |device: &Device| {
        let slab = uniform(&[37 * 44 + 3]).to_device(device).tracked();
        let x = uniform(&[19, 37]).to_device(device).tracked();
        let w = slab.slice(..37 * 44).reshape([37, 44]);
        let bias = slab.slice(37 * 44 - 41..);
        Case::new(vec![x.matmul(&w) + bias.clone(), w.sum(0), bias * 2.0], vec![slab, x])
    };
    let roots = build(&plain_cpu()).roots;
    let plan = compile(&Graph::flatten(&roots[..1]).0, &with(Tiles::PORTABLE));
    let text = emit(&plan.steps[0].kernel, &with(Tiles::PORTABLE)).text;
    let loader = text.split("fn rhs_four").nth(1).and_then(|rest| rest.split("\n}").next());
    assert!(loader.is_some_and(|loader| loader.contains("quad")), "{text}");
    for device in [gpu(), checked_gpu()].into_iter().flatten() {
        agree("an odd slab", &How::Foreign(device, with(Tiles::PORTABLE).into()), &build);
    }
}

/// Rows of 9 are stored one by one, though their sums beside them, in the same buffer, come in fours.
#[test]
fn gpu_products_and_sums_share_a_buffer() {
    let build = |device: &Device| {
        let (x, dy) = (uniform(&[21, 9]).to_device(device), uniform(&[21, 8]).to_device(device));
        let parts = [dy.t().matmul(&x).reshape([72]), dy.sum(0)];
        Case::new(vec![Tensor::cat(&parts, 0)], vec![x, dy])
    };
    let plan = compile(&Graph::flatten(&build(&plain_cpu()).roots).0, &with(Tiles::PORTABLE));
    assert_eq!(plan.steps.len(), 1, "{plan}");
    for tile in usual_tiles() {
        agree_within(&format!("{tile:?}"), &with(Tiles::PORTABLE.only(tile)), &build);
    }
}
