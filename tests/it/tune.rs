//! Tuning: what is found is measured, agrees, is in force and is kept; nothing else ever is.
//!
//! Software is tuned here with candidates of the test's own: one that is bound to win, one that is
//! fast because it computes only half, one that no driver takes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use wgrad::compile::tiles::{Product, Tile};
use wgrad::device::Tuning;
use wgrad::device::gpu::Gpu;
use wgrad::optim::Adam;
use wgrad::prelude::*;
use wgrad::train::{Checkpoint, Record};

use crate::devices::own_gpu;
use crate::gpu_kept::Folder;
use crate::support::random as uniform;

/// Suits products of few columns, where software's own tile leaves lanes idle.
const TALL: Tile = Tile { width: 1, height: 8, across: 8, down: 8, depth: 0 };
/// Says that it computes 16 times as many columns as it does, and so is faster than any other.
const LAZY: Tile = Tile { width: 8, height: 1, across: 128, down: 8, depth: 0 };
/// Has more invocations than any device allows.
const HUGE: Tile = Tile { width: 128, height: 64, across: 1, down: 1, depth: 0 };

/// A GPU that tries `candidates`; none where there is none, or one without timestamps.
fn tunable(candidates: &'static [Tile]) -> Option<Device> {
    let device = own_gpu()?;
    let gpu = Gpu::of(&device).unwrap();
    gpu.set_candidates(candidates);
    if !gpu.wgpu().0.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        let error = wgrad::tune(&device, || Ok(())).unwrap_err().to_string();
        assert!(error.contains("timestamp"), "{error}");
        return None;
    }
    Some(device)
}

fn is_software(device: &Device) -> bool {
    format!("{:?}", Gpu::of(device).unwrap().info().device_type) == "Cpu"
}

/// Operands of a product of few columns.
fn narrow(device: &Device) -> (Tensor, Tensor) {
    (uniform(&[512, 256]).to_device(device), uniform(&[256, 8]).to_device(device))
}

fn tuned(device: &Device, work: impl Fn() -> Tensor) -> Tuning {
    let tuning = wgrad::tune(device, || work().realize()).unwrap();
    println!("{tuning}");
    tuning
}

#[track_caller]
fn same(x: &Tensor, want: &[f32]) {
    let got = x.to_vec::<f32>().unwrap();
    let close = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-4 * want.abs().max(1.0);
    assert!(got.len() == want.len() && got.iter().zip(want).all(close));
}

/// Whether the shader of `y` cuts products as [`TALL`] does.
fn is_tall(y: &Tensor) -> bool {
    let explained = wgrad::explain([y]).unwrap();
    explained.wgsl().any(|text| text.contains("const WIDTH: u32 = 1u;") && text.contains("const HEIGHT: u32 = 8u;"))
}

#[test]
fn a_better_tile_is_found_and_in_force() {
    let Some(device) = tunable(&[TALL]) else { return println!("not run: there is no adapter") };
    let (x, w) = narrow(&device);
    let work = || x.matmul(&w).relu();
    let before = work();
    let want = before.to_vec::<f32>().unwrap();
    assert!(!is_tall(&work()) && device.tuning_hash().is_none());
    let made = device.plans_made();

    let tuning = tuned(&device, work);
    assert_eq!((tuning.products().len(), tuning.known(), tuning.left_out().len()), (1, 0, 0), "{tuning}");
    let row = &tuning.products()[0];
    assert_eq!([row.product.batch, row.product.m, row.product.n, row.product.k], [1, 512, 8, 256]);
    assert!(row.default_seconds > 0.0 && row.best_seconds > 0.0 && tuning.seconds() > row.default_seconds);
    assert!(tuning.kept().is_none());
    if is_software(&device) {
        assert!(row.best == TALL && row.speed_up() > 1.03, "{tuning}");
        assert!(is_tall(&work()));
    }
    // What was compiled before is compiled anew, and comes to the same.
    let y = work();
    same(&y, &want);
    same(&narrow(&Device::cpu()).0.matmul(&narrow(&Device::cpu()).1).relu(), &want);
    assert!(device.plans_made() > made + 1);

    let hash = device.tuning_hash();
    assert!(hash.is_some());
    let again = tuned(&device, work);
    assert_eq!((again.products().len(), again.known(), device.tuning_hash()), (0, 1, hash), "{again}");
    // Another shape is another product.
    tuned(&device, || x.matmul(&w.repeat(2, 1)));
    assert_ne!(device.tuning_hash(), hash);
}

#[test]
fn what_computes_wrongly_or_does_not_compile_never_wins() {
    let Some(device) = tunable(&[LAZY, HUGE]) else { return println!("not run: there is no adapter") };
    let (x, w) = (uniform(&[128, 300]).to_device(&device), uniform(&[300, 1024]).to_device(&device));
    let want = x.matmul(&w).to_vec::<f32>().unwrap();
    let tuning = tuned(&device, || x.matmul(&w));
    let row = &tuning.products()[0];
    assert_eq!(row.best, row.default, "{tuning}");
    let left_out = |what: &str| tuning.left_out().iter().any(|fact| fact.contains(what));
    assert!(left_out(&HUGE.to_string()), "{tuning}");
    if is_software(&device) {
        assert!(left_out(&format!("{LAZY}: tune: its result is not")), "{tuning}");
    }
    same(&x.matmul(&w), &want);
}

#[test]
fn a_training_step_goes_on_as_it_would_have() {
    let Some(device) = tunable(&[TALL]) else { return println!("not run: there is no adapter") };
    let run = |tune: bool| -> Vec<f32> {
        let params = Params::new(&device, 1);
        let at = params.at("net");
        let conv = nn::Conv2d::new(&at.at("conv"), 3, 8, 3, ConvOptions::default());
        let (hidden, out) = (nn::Linear::new(&at.at("hidden"), 8 * 36, 32), nn::Linear::new(&at.at("out"), 32, 8));
        let (x, y) = (uniform(&[64, 3, 8, 8]).to_device(&device), Tensor::arange(0, 64, 1, &device) % 8);
        let mut adam = Adam::new(&params, 1e-2);
        let mut step = || {
            let pass = Pass::train(&params);
            let found = conv.forward(&x, &pass).relu().flatten(1, -1);
            let loss = out.forward(&hidden.forward(&found, &pass).relu(), &pass).cross_entropy(&y);
            adam.step(loss.backward(&params))?;
            loss.item::<f32>()
        };
        let first = match tune {
            true => {
                let mut first = f32::NAN;
                let tuning = wgrad::tune(&device, || step().map(|loss| first = loss)).unwrap();
                println!("{tuning}");
                let found = tuning.products();
                assert!(found.len() >= 6 && tuning.left_out().is_empty(), "{tuning}");
                assert!(found.iter().any(|row| row.product.operands.iter().any(|operand| !operand.plain)), "{tuning}");
                first
            }
            false => step().unwrap(),
        };
        std::iter::once(first).chain((0..4).map(|_| step().unwrap())).collect()
    };
    let (want, got) = (run(false), run(true));
    assert!(want[4] < want[0], "{want:?}");
    assert!(want.iter().zip(&got).all(|(want, got)| (want - got).abs() < 1e-4), "{want:?} and {got:?}");
}

#[test]
fn choices_are_kept_for_the_next_program() {
    let Some(device) = tunable(&[TALL]) else { return println!("not run: there is no adapter") };
    let folder = Folder::new("tuned");
    device.set_cache_dir(&folder.0);
    let product = |device: &Device| {
        let (x, w) = narrow(device);
        x.matmul(&w)
    };
    let want = product(&device).to_vec::<f32>().unwrap();
    let tuning = tuned(&device, || product(&device));
    let file = tuning.kept().expect("it is kept").to_path_buf();
    assert!(tuning.to_string().contains(&file.display().to_string()));
    let good = std::fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&good).lines().last().unwrap().to_string();
    let (name, tile) = text.split_at(text.find("1 512 8 256 ").expect("the product"));
    assert!(name.len() < 30 && tile.ends_with(&tuning.products()[0].best.to_string()), "{text:?}");

    let hash_with = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let device = tunable(&[TALL]).unwrap();
        device.set_cache_dir(&folder.0);
        same(&product(&device), &want);
        device.tuning_hash()
    };
    assert_eq!(hash_with(&good), device.tuning_hash());
    assert_eq!(hash_with(&of(&good, "1 512 8 256 nn 64x8/8x8/0\n")), Some(hash_of(&file, &folder.0)));
    let fresh = tunable(&[TALL]).unwrap();
    fresh.set_cache_dir(&folder.0);
    assert!(is_tall(&product(&fresh)));
    let again = tuned(&fresh, || product(&fresh));
    assert_eq!((again.products().len(), again.known()), (0, 1));

    // Damaged, or by another hand: such a file is passed over.
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let impossible = [
        "1 512 8 256 nn 4096x4096/8x8/16\n",
        "1 512 8 256 nn 64x8/8x8/0\n1 512 8 256 nt 2x2/1x1/7\n",
        "1 512 8 256 nn\n",
        "1 512 8 256 n 64x8/8x8/0\n",
        "1 512 8 256 nx 64x8/8x8/0\n",
        "1 512 8 99999999999999999999999 nn 64x8/8x8/0\n",
        "1 512 8 -1 nn 64x8/8x8/0\n",
        "64x8/8x8/0\n",
        "\n",
        "\u{0}\u{ffff}",
    ];
    let hostile = impossible.iter().map(|text| of(&good, text)).chain([damaged, Vec::new(), good[..9].to_vec()]);
    for bytes in hostile {
        assert_eq!(hash_with(&bytes), None, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// The kept file `like` with another `text`, headed and summed as if it were right.
fn of(like: &[u8], text: &str) -> Vec<u8> {
    let kind = b"\ntuned\n";
    let at = like.windows(kind.len()).position(|bytes| bytes == kind).expect("its kind") + kind.len();
    let mut hasher = DefaultHasher::new();
    text.as_bytes().hash(&mut hasher);
    [&like[..at], &hasher.finish().to_le_bytes(), text.as_bytes()].concat()
}

/// The hash of the choices that the folder gives to yet another device.
fn hash_of(file: &Path, folder: &Path) -> u64 {
    assert!(file.exists());
    let device = tunable(&[TALL]).unwrap();
    device.set_cache_dir(folder);
    device.tuning_hash().expect("the choices of the file")
}

#[test]
fn records_and_checkpoints_name_the_choices() {
    let Some(device) = tunable(&[TALL]) else { return println!("not run: there is no adapter") };
    let (x, w) = narrow(&device);
    let folder = Folder::new("tuned-record");
    std::fs::create_dir_all(&folder.0).unwrap();
    let written = |name: &str| {
        let [record, checkpoint] = ["jsonl", "safetensors"].map(|end| folder.0.join(format!("{name}.{end}")));
        let params = Params::new(&device, 42);
        params.weight("w", [2], Init::Ones);
        Record::begin(&record, &device, 42, &[], &[]).unwrap();
        Checkpoint::save(&checkpoint, &params, &mut Adam::new(&params, 0.1), None, &[]).unwrap();
        [record, checkpoint].map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
    };
    let [record, checkpoint] = written("before");
    assert!(record.contains("\"tuning\":null") && !checkpoint.contains("tuning"), "{record}");
    tuned(&device, || x.matmul(&w));
    let hash = format!("{:016x}", device.tuning_hash().unwrap());
    assert!(written("after").iter().all(|text| text.contains("tuning") && text.contains(&hash)));
}

#[test]
fn a_failure_ends_the_tuning_and_comes_out() {
    let Some(device) = tunable(&[TALL]) else { return println!("not run: there is no adapter") };
    for device in [device, Device::cpu()] {
        let bad = || Tensor::ones([2, 3], &device).matmul(&Tensor::ones([2, 3], &device)).realize();
        assert!(wgrad::tune(&device, bad).unwrap_err().to_string().contains("matmul"));
        assert!(wgrad::tune(&device, || Tensor::ones([3], &device).exp().realize()).unwrap().products().is_empty());
        let twice = wgrad::tune(&device, || wgrad::tune(&device, || Ok(())).map(drop));
        assert!(Gpu::of(&device).is_none() || twice.unwrap_err().to_string().contains("tuned already"));
    }
}

#[test]
fn processors_are_not_tuned() {
    for device in [Some(Device::cpu()), own_gpu().filter(is_software)].into_iter().flatten() {
        let (x, w) = narrow(&device);
        let y = x.matmul(&w);
        let tuning = wgrad::tune(&device, || y.realize()).unwrap();
        assert!(y.is_realized() && tuning.products().is_empty() && tuning.to_string().starts_with("nothing was tuned"));
        assert_eq!(device.tuning_hash(), None);
    }
}

#[test]
fn products_are_written_and_read() {
    for text in ["1 512 8 256 nn", "12 1 1 1 tT", "4 3 2 1 Nt"] {
        assert_eq!(text.parse::<Product>().unwrap().to_string(), text);
    }
    for text in ["", "1 2 3 4", "1 2 3 4 nn ", " 1 2 3 4 nn", "1 2 3 4 n", "1 2 3 4 nnn", "1 2 3 4 é", "1 2 3 4 ab"] {
        assert!(text.parse::<Product>().is_err(), "{text:?}");
    }
}
