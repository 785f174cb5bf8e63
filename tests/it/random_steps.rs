//! Random networks of awkward widths take steps of random optimizers: every plan of such a step,
//! with its slabs, agrees with the oracle, and the same steps give the same bits again.
//!
//! `SEED=7` replays one network, `NETWORKS=100` says how many (from `SEED` on, when both are given).

use wgrad::device::Verify;
use wgrad::optim::{Adam, AdamW, Optimizer, RmsProp, Rule, Sgd};
use wgrad::prelude::*;

use crate::devices::{is_cpu, own_gpu};
use crate::support::Rng;

/// Networks on the CPU when nobody says how many, and on a GPU, where each has shaders to compile.
const NETWORKS: [u64; 2] = [150, 6];
/// Plans of at most so many operations are compared.
const WORK_MAX: u64 = 4_000_000;
const WIDTHS: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 16, 17, 20, 32, 33, 65];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a network makes of its inputs: the loss of a pass.
type Loss = Box<dyn Fn(&Pass) -> Tensor>;

struct Gen<'a> {
    rng: Rng,
    params: &'a Params,
    layers: usize,
    told: Vec<String>,
}

impl Gen<'_> {
    fn chance(&mut self, percent: usize) -> bool {
        self.rng.below(100) < percent
    }

    fn one_of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len())].clone()
    }

    fn width(&mut self) -> usize {
        self.one_of(&WIDTHS)
    }

    /// A place for the weights of the next layer.
    fn at(&mut self, what: String) -> Params {
        self.layers += 1;
        let at = self.params.at(format!("{}.{}", self.layers, what.split(' ').next().unwrap_or("")));
        self.told.push(what);
        at
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> nn::Linear {
        let biased = self.chance(80);
        let at = self.at(format!("linear {inputs}x{outputs} {biased}"));
        if biased { nn::Linear::new(&at, inputs, outputs) } else { nn::Linear::without_bias(&at, inputs, outputs) }
    }

    fn activation(&mut self) -> nn::Activation {
        use nn::Activation::{Gelu, Relu, Sigmoid, Silu, Tanh};
        let all = [Relu, Gelu, Tanh, Sigmoid, Silu];
        self.one_of(&all)
    }

    /// The loss of scores `[n, classes]` against random answers.
    fn loss(&mut self, n: usize, classes: usize) -> Box<dyn Fn(&Tensor) -> Tensor> {
        let device = self.params.device().clone();
        if classes > 1 && self.chance(70) {
            let y: Vec<i32> = (0..n).map(|_| self.rng.below(classes) as i32).collect();
            let y = Tensor::from_vec(y, [n], &device);
            self.told.push("cross entropy".into());
            return Box::new(move |x| x.cross_entropy(&y));
        }
        let y = self.data(&[n, classes]);
        self.told.push("squared error".into());
        Box::new(move |x| x.mse_loss(&y, Reduce::Mean))
    }

    fn data(&mut self, dims: &[usize]) -> Tensor {
        let x: Vec<f32> = self.rng.vec(dims.iter().product(), -1.5..1.5).into_iter().map(|x| x as f32).collect();
        Tensor::from_vec(x, dims, self.params.device())
    }

    /// Layers over rows, some of them normed, dropped out or around which their input goes.
    fn rows(&mut self, n: usize, mut width: usize) -> (nn::Sequential, usize) {
        let mut all = nn::Sequential::new();
        for _ in 0..self.rng.below(3) {
            let outputs = self.width();
            all = all.then(self.linear(width, outputs));
            width = outputs;
            all = match self.rng.below(5) {
                0 => all.then(nn::LayerNorm::new(&self.at(format!("layer_norm {width}")), width)),
                1 => all.then(nn::RmsNorm::new(&self.at(format!("rms_norm {width}")), width)),
                // The variance of a few rows may be next to nothing.
                2 if n > 4 => all.then(nn::BatchNorm::new(&self.at(format!("batch_norm {width}")), width)),
                _ => all,
            };
            all = all.then(self.activation());
            if self.chance(20) {
                all = all.then(nn::Dropout::new(0.3));
            }
            if self.chance(20) {
                all = all.then(nn::Residual::new(self.linear(width, width)));
            }
        }
        (all, width)
    }

    fn perceptron(&mut self) -> Loss {
        let (n, inputs, outputs) = (self.width(), self.width(), self.width());
        let (body, width) = self.rows(n, inputs);
        let head = self.linear(width, outputs);
        let (x, loss) = (self.data(&[n, inputs]), self.loss(n, outputs));
        self.told.push(format!("{n} rows of {inputs}"));
        Box::new(move |pass| loss(&head.forward(&body.forward(&x, pass), pass)))
    }

    fn images(&mut self) -> Loss {
        let n = self.one_of(&[1, 2, 3, 5]);
        let (h, w) = (self.one_of(&[5, 7, 8, 9, 12]), self.one_of(&[6, 7, 8, 11]));
        let (mut channels, mut dims) = (self.one_of(&[1, 2, 3, 4]), [h, w]);
        let x = self.data(&[n, channels, h, w]);
        self.told.push(format!("{n} images {channels}x{h}x{w}"));
        let mut all = nn::Sequential::new();
        for _ in 0..self.rng.below(2) + 1 {
            let depthwise = self.chance(20);
            let outputs = if depthwise { channels } else { self.one_of(&[1, 2, 3, 4, 6, 8, 9, 16]) };
            let kernel = (self.rng.below(3) + 1).min(dims[0]).min(dims[1]);
            let (stride, padding) = (self.rng.below(2) + 1, self.rng.below(2));
            let groups = if depthwise { channels } else { 1 };
            let options = ConvOptions::default().stride(stride).padding(padding).groups(groups);
            let at = self.at(format!("conv {channels}to{outputs} {kernel} /{stride} +{padding} {groups}"));
            all = match self.chance(75) {
                true => all.then(nn::Conv2d::new(&at, channels, outputs, kernel, options)),
                false => all.then(nn::Conv2d::without_bias(&at, channels, outputs, kernel, options)),
            };
            dims = dims.map(|d| (d + 2 * padding - kernel) / stride + 1);
            channels = outputs;
            all = match self.rng.below(4) {
                0 if n * dims[0] * dims[1] > 4 => {
                    all.then(nn::BatchNorm::new(&self.at(format!("batch_norm {channels}")), channels))
                }
                1 => all.then(nn::GroupNorm::new(&self.at(format!("group_norm {channels}")), 1, channels)),
                _ => all,
            };
            all = all.then(self.activation());
            if dims.iter().all(|&d| d >= 2) && self.chance(50) {
                let most = self.chance(60);
                self.told.push(format!("pool {most}"));
                all = match most {
                    true => all.then(nn::MaxPool2d::new(2, PoolOptions::default())),
                    false => all.then(nn::AvgPool2d::new(2, PoolOptions::default())),
                };
                dims = dims.map(|d| d / 2);
            }
        }
        let (width, outputs) = (channels * dims[0] * dims[1], self.width());
        let (body, width) = (all.then(nn::Flatten), width);
        let (more, width) = self.rows(n, width);
        let head = self.linear(width, outputs);
        let loss = self.loss(n, outputs);
        Box::new(move |pass| loss(&head.forward(&more.forward(&body.forward(&x, pass), pass), pass)))
    }

    fn tokens(&mut self) -> Loss {
        let (n, t) = (self.one_of(&[1, 2, 3]), self.one_of(&[1, 3, 5, 8, 13]));
        let (count, heads) = (self.one_of(&[2, 5, 11, 32]), self.one_of(&[1, 2, 3]));
        let size = heads * self.one_of(&[2, 4, 5, 8]);
        let ids: Vec<i32> = (0..n * t).map(|_| self.rng.below(count) as i32).collect();
        let x = Tensor::from_vec(ids, [n, t], self.params.device());
        self.told.push(format!("{n} lines of {t} tokens"));
        let table = nn::Embedding::new(&self.at(format!("embedding {count}x{size}")), count, size);
        let (body, width): (Box<dyn Module>, usize) = match self.rng.below(4) {
            0 => {
                let hidden = self.one_of(&[1, 3, 4, 5]);
                (Box::new(nn::Lstm::new(&self.at(format!("lstm {size}to{hidden}")), size, hidden, 1)), hidden)
            }
            1 => {
                let hidden = self.one_of(&[1, 3, 4, 5]);
                (Box::new(nn::Gru::new(&self.at(format!("gru {size}to{hidden}")), size, hidden, 1)), hidden)
            }
            _ => {
                let block = nn::TransformerBlock::new(&self.at(format!("block {size} {heads}")), size, heads);
                (Box::new(if self.chance(70) { block.causal() } else { block }), size)
            }
        };
        let tied = width == size && self.chance(30);
        let head = if tied { None } else { Some(self.linear(width, count)) };
        let loss = self.loss(n * t, count);
        Box::new(move |pass| {
            let y = body.forward(&table.forward(&x, pass), pass);
            let scores = match &head {
                Some(head) => head.forward(&y, pass),
                None => y.matmul(&table.weight.tensor(pass).t()),
            };
            loss(&scores.flatten(0, 1))
        })
    }
}

/// Two steps and the loss after them; the bits of the losses and of all weights.
fn steps<R: Rule>(mut optimizer: Optimizer<R>, params: &Params, loss: &Loss) -> Result<Vec<u32>, String> {
    let told = |error: Error| error.to_string();
    let mut bits = Vec::new();
    for _ in 0..2 {
        let loss = loss(&Pass::train(params));
        optimizer.step(optimizer.backward(&loss)).map_err(told)?;
        bits.push(loss.item::<f32>().map_err(told)?.to_bits());
    }
    bits.push(loss(&Pass::eval()).item::<f32>().map_err(told)?.to_bits());
    for param in params.iter() {
        bits.extend(param.value().cast(DType::F32).to_vec::<f32>().map_err(told)?.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

/// Trains the network of `seed`.
fn train(seed: u64, device: &Device) -> Result<Vec<u32>, String> {
    let params = Params::new(device, seed);
    let mut g = Gen { rng: Rng::new(seed ^ 0x57e95), params: &params, layers: 0, told: Vec::new() };
    let loss = match g.rng.below(4) {
        0 => g.images(),
        1 => g.tokens(),
        _ => g.perceptron(),
    };
    let rule = g.rng.below(6);
    let told = format!("SEED={seed} on {device}, rule {rule}: {}", g.told.join(", "));
    // Gradients that are 0 but for rounding, as those of a bias before a norm, must not be blown up.
    let eps = 0.01;
    let found = match rule {
        0 => steps(Sgd::new(&params, 0.05), &params, &loss),
        1 => steps(Sgd::new(&params, 0.05).momentum(0.9).weight_decay(0.01), &params, &loss),
        2 => steps(Adam::new(&params, 0.01).eps(eps), &params, &loss),
        3 => steps(AdamW::new(&params, 0.01).eps(eps).clip_norm(0.5), &params, &loss),
        4 => steps(AdamW::new(&params, 0.01).eps(eps).group("*.bias", 2.0, 0.0).average(0.9), &params, &loss),
        _ => steps(RmsProp::new(&params, 0.01).eps(eps), &params, &loss),
    };
    found.map_err(|error| format!("{told}: {error}"))
}

fn run(device: &Device) {
    device.set_verify(Verify::FirstUse { work_max: WORK_MAX });
    let first = number("SEED");
    let usual = if first.is_some() { 1 } else { NETWORKS[usize::from(!is_cpu(device))] };
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + number("NETWORKS").unwrap_or(usual);
    let mut wrong = Vec::new();
    for seed in seeds {
        let twice = train(seed, device).and_then(|one| Ok((one, train(seed, device)?)));
        match twice {
            Ok((one, other)) if one == other => {}
            Ok(_) => wrong.push(format!("SEED={seed}: other bits the second time")),
            Err(text) => wrong.push(text),
        }
    }
    wrong.iter().for_each(|text| eprintln!("{text}"));
    assert!(wrong.is_empty(), "{} networks are wrong", wrong.len());
    let verified = device.verified();
    eprintln!("{device}: {verified:?}");
    assert!(verified.unchecked * 10 <= verified.agreed, "{device}: {verified:?}");
}

#[test]
fn random_networks_take_the_oracles_steps() {
    run(&wgrad::device::cpu::Cpu::beside());
}

#[test]
fn random_networks_take_the_oracles_steps_on_a_gpu() {
    if let Some(device) = own_gpu() {
        run(&device);
    }
}
