//! Mixed precision: what is rounded and what is not, models that learn as in `f32`, less memory, and
//! losses that are scaled.

use wgrad::compile::kernel::Kind;
use wgrad::data::{Array, Loader, TensorDataset};
use wgrad::nn::{Activation, BatchNorm, Conv2d, Embedding, LayerNorm, Linear, Sequential, TransformerBlock};
use wgrad::optim::{AdamW, LossScale, Sgd};
use wgrad::prelude::*;
use wgrad::train::{Outcome, Trainer};

use crate::devices::devices;
use crate::support::{Rng, exact};

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

/// How far a number is from its neighbours in `dtype`, as a part of it.
fn step(dtype: DType) -> f32 {
    if dtype == DType::F16 { 1.0 / 1024.0 } else { 1.0 / 128.0 }
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.to_vec::<f32>().unwrap()
}

fn rounded(x: &Tensor, dtype: DType) -> Tensor {
    x.cast(dtype).cast(DType::F32)
}

/// A model with what it learns from: its loss.
type Lesson = Box<dyn Fn(&Pass) -> Tensor>;
type Make = fn(&Params) -> Lesson;

fn ids(rng: &mut Rng, dims: &[usize], below: usize, device: &Device) -> Tensor {
    let n = dims.iter().product();
    Tensor::from_vec((0..n).map(|_| rng.below(below) as i32).collect::<Vec<_>>(), dims, device)
}

fn mlp(params: &Params) -> Lesson {
    let mut rng = Rng::new(2);
    let x = rng.tensor(&[24, 8], -1.0..1.0).to_device(params.device());
    let y = ids(&mut rng, &[24], 4, params.device());
    let (fc1, fc2) = (Linear::new(&params.at("fc1"), 8, 16), Linear::new(&params.at("fc2"), 16, 4));
    Box::new(move |pass| fc2.forward(&fc1.forward(&x, pass).relu(), pass).cross_entropy(&y))
}

fn cnn(params: &Params) -> Lesson {
    let mut rng = Rng::new(3);
    let x = rng.tensor(&[8, 2, 6, 6], -1.0..1.0).to_device(params.device());
    let y = ids(&mut rng, &[8], 3, params.device());
    let model = Sequential::new()
        .then(Conv2d::without_bias(&params.at("0"), 2, 8, 3, ConvOptions::default().padding(1)))
        .then(BatchNorm::new(&params.at("1"), 8))
        .then(Activation::Relu)
        .then(nn::MaxPool2d::new(2, PoolOptions::default()))
        .then(Conv2d::new(&params.at("4"), 8, 8, 2, ConvOptions::default()))
        .then(nn::Flatten)
        .then(Linear::new(&params.at("6"), 32, 3));
    Box::new(move |pass| model.forward(&x, pass).cross_entropy(&y))
}

fn transformer(params: &Params) -> Lesson {
    let mut rng = Rng::new(4);
    let x = ids(&mut rng, &[2, 6], 5, params.device());
    let y = ids(&mut rng, &[12], 5, params.device());
    let table = Embedding::new(&params.at("table"), 5, 8);
    let block = TransformerBlock::new(&params.at("block"), 8, 2).causal().rotary(100.0);
    let (norm, head) = (LayerNorm::new(&params.at("norm"), 8), Linear::new(&params.at("head"), 8, 5));
    Box::new(move |pass| {
        let h = block.forward(&table.forward(&x, pass), pass);
        head.forward(&norm.forward(&h, pass), pass).flatten(0, 1).cross_entropy(&y)
    })
}

const MODELS: [(&str, Make); 3] = [("mlp", mlp), ("cnn", cnn), ("transformer", transformer)];

/// The losses of `steps` steps.
fn learn(make: Make, device: &Device, low: Option<DType>, steps: usize) -> Vec<f32> {
    let params = Params::new(device, 7);
    let lesson = make(&params);
    let mut adam = AdamW::new(&params, 1e-2);
    if low == Some(DType::F16) {
        adam = adam.loss_scale(LossScale::dynamic().interval(8));
    }
    let mut losses = Vec::new();
    for _ in 0..steps {
        let pass = low.into_iter().fold(Pass::train(&params), Pass::autocast);
        let loss = lesson(&pass);
        assert_eq!(loss.dtype(), DType::F32);
        adam.step(adam.backward(&loss)).unwrap();
        losses.push(loss.item::<f32>().unwrap());
    }
    assert!(params.iter().all(|p| p.kind() != wgrad::params::Kind::Weight || p.value().dtype() == DType::F32));
    losses
}

/// The loss falls as in `f32`: in the end it is as far from it as a few roundings, by a tenth of the way.
#[test]
fn models_learn_as_in_f32() {
    for device in devices() {
        for (name, make) in MODELS {
            let plain = learn(make, &device, None, 25);
            let way = plain[0] - plain[24];
            assert!(way > 0.2, "{name} on {device}: {plain:?}");
            for dtype in HALVES {
                let low = learn(make, &device, Some(dtype), 25);
                println!("{name} on {device}: from {} to {}, in {dtype} to {}", plain[0], plain[24], low[24]);
                assert!(low.iter().zip(&plain).any(|(a, b)| a != b), "{name} on {device}: nothing was rounded");
                assert!((low[24] - plain[24]).abs() < 0.1 * way, "{name} on {device} in {dtype}: {low:?}, {plain:?}");
            }
        }
    }
}

/// Gradients of both the device and the oracle are near those of exact numbers.
#[test]
fn gradients_are_those_of_f32_but_for_roundings() {
    for device in devices() {
        // Where a rounding makes another pixel the greatest, the gradient is another: not the second.
        for (name, make) in [MODELS[0], MODELS[2]] {
            for dtype in HALVES {
                let params = Params::new(&device, 7);
                let lesson = make(&params);
                let plain = lesson(&Pass::train(&params)).backward(&params);
                let low = lesson(&Pass::train(&params).autocast(dtype)).backward(&params);
                for ((param, want), (_, got)) in plain.iter().zip(low.iter()) {
                    let what = format!("{name} on {device} in {dtype}, {}", param.path());
                    assert_eq!(got.dtype(), DType::F32, "{what}");
                    let want = exact(want);
                    let greatest = want.iter().fold(0.0f64, |m, x| m.max(x.abs())).max(1e-2);
                    let got = [numbers(got).iter().map(|&x| f64::from(x)).collect(), exact(got)];
                    for (who, got) in ["device", "oracle"].iter().zip(&got) {
                        let far = want.iter().zip(got).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
                        // A norm of few numbers magnifies their roundings.
                        let most = greatest * f64::from(step(dtype)) * 16.0;
                        assert!(far <= most, "{what} of the {who}: {far}, at most {most}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_result_is_f32_and_products_are_rounded() {
    for device in devices() {
        let params = Params::new(&device, 7);
        let mut rng = Rng::new(9);
        let x = rng.tensor(&[2, 4, 8], -1.0..1.0).to_device(&device);
        let image = rng.tensor(&[2, 2, 5, 5], -1.0..1.0).to_device(&device);
        let fc = Linear::new(&params.at("fc"), 8, 5);
        let conv = Conv2d::new(&params.at("conv"), 2, 3, 3, ConvOptions::default());
        let norm = LayerNorm::new(&params.at("norm"), 8);
        let batch = BatchNorm::new(&params.at("batch"), 2);
        let lstm = nn::Lstm::new(&params.at("lstm"), 8, 4, 1);
        let attention = nn::MultiHeadAttention::new(&params.at("attn"), 8, 2).causal();
        for dtype in HALVES {
            for train in [true, false] {
                let pass = if train { Pass::train(&params) } else { Pass::eval() }.autocast(dtype);
                assert_eq!(pass.autocast_dtype(), Some(dtype));
                let low = |x: &Tensor| rounded(x, dtype);
                let (w, b) = (fc.weight.value(), fc.bias.as_ref().unwrap().value());
                let (kernel, bias) = (conv.weight.value(), conv.bias.as_ref().unwrap().value());
                let cases = [
                    ("linear", fc.forward(&x, &pass), Some(low(&(low(&x).matmul(&low(&w).t()) + b)))),
                    (
                        "conv",
                        conv.forward(&image, &pass),
                        Some(low(&low(&image).conv2d(&low(&kernel), Some(&bias), ConvOptions::default()))),
                    ),
                    ("norm", norm.forward(&x, &pass), Some(x.layer_norm(-1, None, None, 1e-5))),
                    ("batch", batch.forward(&image, &pass), None),
                    ("attention", attention.forward(&x, &pass), None),
                    ("attend", attention.attend(&x, &x, None, &pass), None),
                    ("lstm", lstm.forward(&x, &pass), None),
                    ("softmax", fc.forward(&x, &pass).softmax(-1), None),
                ];
                for (name, got, want) in cases {
                    assert_eq!(got.dtype(), DType::F32, "{name}");
                    assert!(got.is_valid(), "{name}: {got}");
                    let Some(want) = want else { continue };
                    // Sums in another order may fall to the other side of a rounding.
                    let far = (got - want).abs().max(..).item::<f32>().unwrap();
                    assert!(far <= 2.0 * step(dtype), "{name} on {device} in {dtype}: {far}");
                }
            }
        }
        // What is not f32 stays as it is, and no other dtype will do.
        let half = x.cast(DType::F16);
        assert_eq!(Pass::eval().autocast(DType::BF16).operand(&half).dtype(), DType::F16);
        assert_eq!(Pass::eval().autocast(DType::F32).autocast_dtype(), None);
        let error = fc.forward(&x, &Pass::eval().autocast(DType::I32)).error().unwrap().to_string();
        assert!(error.starts_with("autocast: rounds to f16 or bf16, not i32"), "{error}");
    }
}

/// Evaluation, whole and position by position, gives what it gives in `f32` but for roundings; the
/// cache has 16 bits.
#[test]
fn evaluation_in_halves() {
    for device in devices() {
        let params = Params::new(&device, 7);
        let block = TransformerBlock::new(&params, 8, 2).causal().rotary(100.0);
        let x = Rng::new(9).tensor(&[1, 5, 8], -1.0..1.0).to_device(&device);
        let plain = numbers(&block.forward(&x, &Pass::eval()));
        for dtype in HALVES {
            let pass = Pass::eval().autocast(dtype);
            let whole = numbers(&block.forward(&x, &pass));
            let mut cache = nn::KvCache::new(8, &device);
            let mut parts = Vec::new();
            for t in 0..5 {
                let y = block.forward_cached(&x.narrow(1, t, 1), &mut cache, &pass);
                cache.advance([&y]).unwrap();
                parts.extend(numbers(&y));
            }
            for (what, got) in [("whole", whole), ("by position", parts)] {
                let far = got.iter().zip(&plain).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                assert!(far > 0.0 && far < 12.0 * step(dtype), "{what} on {device} in {dtype}: {far}");
            }
        }
    }
}

/// The graph of a step: loss and gradients.
fn step_of(
    device: &Device,
    low: Option<DType>,
    build: impl Fn(&Params, &Pass) -> Tensor,
) -> wgrad::device::Explanation {
    let params = Params::new(device, 7);
    let pass = low.into_iter().fold(Pass::train(&params), Pass::autocast);
    let loss = build(&params, &pass);
    let grads = loss.backward(&params);
    let mut roots: Vec<Tensor> = grads.iter().map(|(_, g)| g.clone()).collect();
    roots.push(loss);
    wgrad::explain(&roots).unwrap()
}

fn deep_mlp(params: &Params, pass: &Pass) -> Tensor {
    let x = Tensor::from_vec(vec![0.5f32; 2048 * 64], [2048, 64], params.device());
    let layers: Vec<Linear> = (0..6).map(|k| Linear::new(&params.at(k), 64, 64)).collect();
    let y = layers.iter().fold(x, |x, layer| layer.forward(&x, pass).gelu());
    (&y * &y).mean(..)
}

fn deep_gpt(params: &Params, pass: &Pass) -> Tensor {
    let table = Embedding::new(&params.at("table"), 50, 64);
    let x = Tensor::from_vec(vec![3i32; 16 * 32], [16, 32], params.device());
    let blocks: Vec<TransformerBlock> = (0..4).map(|k| TransformerBlock::new(&params.at(k), 64, 2).causal()).collect();
    let y = blocks.iter().fold(table.forward(&x, pass), |x, block| block.forward(&x, pass));
    let head = Linear::new(&params.at("head"), 64, 50);
    head.forward(&y, pass).flatten(0, 1).cross_entropy(&x.reshape(-1))
}

/// What lies between the passes has 16 bits, and few kernels more are needed for it.
#[test]
fn a_step_needs_less_memory() {
    for device in devices() {
        for (name, build, most) in [("mlp", deep_mlp as fn(&Params, &Pass) -> Tensor, 0.6), ("gpt", deep_gpt, 0.65)] {
            let plain = step_of(&device, None, build);
            for dtype in HALVES {
                let low = step_of(&device, Some(dtype), build);
                println!(
                    "{name} on {device} in {dtype}: a peak of {} bytes, not {}; {} moved, not {}; {} kernels, not {}",
                    low.peak_bytes(),
                    plain.peak_bytes(),
                    low.bytes(),
                    plain.bytes(),
                    low.kernels(),
                    plain.kernels()
                );
                assert!((low.peak_bytes() as f64) < most * plain.peak_bytes() as f64, "{name} on {device}");
                assert!((low.bytes() as f64) < 0.8 * plain.bytes() as f64, "{name} on {device}");
                assert!(low.kernels() <= plain.kernels() * 11 / 10, "{name} on {device}");
            }
        }
    }
}

/// A product writes what it rounded itself, whatever its shape is, and loads what is packed.
#[test]
fn products_write_halves() {
    for device in devices() {
        for dims in [[8, 8, 8], [16, 5, 12], [7, 3, 4], [6, 9, 6], [5, 4, 3], [1, 8, 8], [9, 70, 68], [130, 7, 132]] {
            let [m, k, n] = dims;
            let mut rng = Rng::new(5);
            let x = rng.tensor(&[m, k], -1.0..1.0).to_device(&device);
            let w = rng.tensor(&[k, n], -1.0..1.0).to_device(&device);
            let want = exact(&(x.matmul(&w) * 0.5).tanh());
            for dtype in HALVES {
                let y = x.matmul(&w).cast(dtype);
                let z = (y.cast(DType::F32) * 0.5).tanh();
                let plan = wgrad::explain([&y, &z]).unwrap();
                let products = plan.plan().steps.iter().filter(|s| matches!(s.kernel.kind, Kind::Dot(_))).count();
                assert_eq!(products, 1, "{plan}");
                wgrad::realize([&y, &z]).unwrap();
                let from_y = (y.cast(DType::F32) * 0.5).tanh();
                assert_eq!(numbers(&from_y).len(), m * n);
                for got in [numbers(&z), numbers(&from_y)] {
                    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                        let far = (f64::from(*got) - want).abs();
                        let most = f64::from(step(dtype)) * 2.0;
                        assert!(far <= most, "{device} {dims:?} {dtype} element {at}: {got}, not {want}");
                    }
                }
            }
        }
    }
}

fn lines() -> Loader {
    let x: Vec<f32> = (0..32).map(|k| (k as f32 - 16.0) / 8.0).collect();
    let y: Vec<f32> = x.iter().map(|x| 3.0 * x - 1.0).collect();
    let data = TensorDataset::of_arrays(Array::new(&x, [32, 1]).unwrap(), Array::new(&y, [32, 1]).unwrap()).unwrap();
    Loader::new(data, 8)
}

/// A scale that `f16` does not hold costs steps, not weights: each halves it.
#[test]
fn the_trainer_scales_losses_for_f16() {
    for device in devices() {
        let run = |low: DType, scale: Option<f64>, epochs: u64| {
            let params = Params::new(&device, 5);
            let fc = Linear::new(&params, 1, 1);
            let before = numbers(&fc.weight.value());
            let mut sgd = Sgd::new(&params, 0.05);
            if let Some(scale) = scale {
                sgd = sgd.loss_scale(LossScale::dynamic().initial(scale));
            }
            let mut trainer = Trainer::new(&params, sgd).autocast(low).epochs(epochs).quiet();
            let report = trainer.fit(&lines(), Some(&lines()), |batch, pass| {
                assert_eq!(pass.autocast_dtype(), Some(low));
                let outputs = fc.forward(&batch.x, pass);
                let loss = outputs.mse_loss(&batch.y, Reduce::Mean);
                Outcome { loss, outputs }
            });
            let epochs = report.unwrap().epochs;
            let scale = trainer.optimizer().present_loss_scale().map(|s| s.item::<f32>().unwrap());
            (before != numbers(&fc.weight.value()), scale, epochs)
        };
        // Four steps whose gradients overflow: nothing moves, and the scale halves each time.
        let (moved, scale, _) = run(DType::F16, Some(f64::from(1u32 << 30)), 1);
        assert_eq!((moved, scale), (false, Some((1u32 << 26) as f32)), "{device}");
        let (moved, scale, epochs) = run(DType::F16, Some(f64::from(1u32 << 30)), 40);
        assert!(moved && scale.is_some_and(|s| s < (1 << 20) as f32), "{device}: {scale:?}");
        let last = epochs.last().unwrap();
        assert!(last.train_loss < 1e-3 && last.test_loss.unwrap() < 1e-3, "{device}: {last:?}");
        let (moved, scale, _) = run(DType::F16, None, 1);
        assert!(scale.is_some_and(|s| s < 65536.0 || (moved && s == 65536.0)), "{device}: {scale:?}");
        let (moved, scale, epochs) = run(DType::BF16, None, 40);
        assert!(moved && scale.is_none() && epochs[39].train_loss < 1e-2, "{device}: {epochs:?}");
    }
}
