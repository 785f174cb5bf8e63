//! Modules against PyTorch's, whose state dicts, results and gradients `tests/data/torch/nn.py`
//! wrote; and what no other library can tell: modes, mistakes, caches.

use wgrad::io::SafeTensors;
use wgrad::prelude::*;

use crate::devices::devices;
use crate::support::{assert_close, by_itself, message};

fn cpu() -> Device {
    Device::cpu()
}

/// What PyTorch has for one case.
struct Case {
    name: &'static str,
    file: SafeTensors,
    device: Device,
}

impl Case {
    fn new(name: &'static str, device: &Device) -> Case {
        let bytes = include_bytes!("../data/torch/nn.safetensors").to_vec();
        Case { name, file: SafeTensors::from_bytes("nn.safetensors", bytes).unwrap(), device: device.clone() }
    }

    fn get(&self, key: &str) -> Tensor {
        self.file.tensor(&format!("{}/{key}", self.name), &self.device).unwrap()
    }

    /// The paths below `folder`.
    fn below(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{}/{folder}/", self.name);
        self.file.names().filter_map(|name| name.strip_prefix(&prefix)).map(String::from).collect()
    }

    /// A store with the module that `build` makes and PyTorch's weights, by their names.
    fn load<M>(&self, build: impl Fn(&Params) -> M) -> (Params, M) {
        let params = Params::new(&self.device, 1);
        let module = build(&params);
        let mut paths: Vec<String> = params.paths().into_iter().map(|(path, _)| path).collect();
        paths.sort();
        assert_eq!(paths, self.below("state"), "{}: the state dict's names", self.name);
        let cells: Vec<(Param, Tensor)> =
            params.paths().into_iter().map(|(path, cell)| (cell, self.get(&format!("state/{path}")))).collect();
        params.assign(cells.iter().map(|(cell, value)| (cell, value.clone()))).unwrap();
        (params, module)
    }

    #[track_caller]
    fn same(&self, key: &str, got: &Tensor, tolerance: f64) {
        let what = format!("{} on {}, {key}", self.name, self.device);
        if let Some(error) = got.error() {
            panic!("{what}: {error}");
        }
        let want = self.get(key);
        assert_eq!(got.dims(), want.dims(), "{what}");
        assert_close(&what, &numbers(got), &numbers(&want), tolerance);
    }

    /// Result, gradients, what is kept, and the result of an evaluation.
    #[track_caller]
    fn check(&self, params: &Params, run: impl Fn(&Tensor, &Pass) -> (Tensor, Vec<(&'static str, Tensor)>)) {
        let tolerance = 5e-5;
        let pass = Pass::train(params);
        let x = self.get("in").tracked();
        let (y, more) = run(&x, &pass);
        let loss = (&y * self.get("w")).sum(..);
        let grads = loss.backward(params);
        if x.dtype().is_float() {
            self.same("grad", &loss.grad(&[&x])[0], tolerance);
        }
        for path in self.below("grad") {
            let cell = params.get(&path).unwrap();
            self.same(&format!("grad/{path}"), grads.get(&cell).unwrap(), tolerance);
        }
        grads.accumulate(&mut None).unwrap();
        self.same("out", &y, tolerance);
        more.iter().for_each(|(key, value)| self.same(key, value, tolerance));
        for path in self.below("after") {
            self.same(&format!("after/{path}"), &params.get(&path).unwrap().value(), tolerance);
        }
        let before = contents(params);
        self.same("eval", &run(&x, &Pass::eval()).0, tolerance);
        assert_eq!(contents(params), before, "{}: an evaluation changed something", self.name);
    }
}

/// Every number of the store, and how far its random numbers are.
fn contents(params: &Params) -> (u64, Vec<Vec<f64>>) {
    (params.passes(), params.iter().map(|cell| numbers(&cell.value())).collect())
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let values = x.cast(DType::F32).to_vec::<f32>().unwrap_or_else(|error| panic!("{error}"));
    values.into_iter().map(f64::from).collect()
}

/// The module of `build` is PyTorch's of the case `name`.
#[track_caller]
fn check<M: Module>(name: &'static str, build: impl Fn(&Params) -> M) {
    for device in devices() {
        let case = Case::new(name, &device);
        let (params, module) = case.load(&build);
        case.check(&params, |x, pass| (module.forward(x, pass), Vec::new()));
    }
}

fn conv() -> ConvOptions {
    ConvOptions::default()
}

#[test]
fn linear_and_embedding() {
    check("linear", |p| nn::Linear::new(p, 5, 3));
    check("linear_3d", |p| nn::Linear::without_bias(p, 5, 3));
    check("embedding", |p| nn::Embedding::new(p, 7, 3));
}

#[test]
fn convolutions() {
    check("conv1d", |p| nn::Conv1d::new(p, 4, 6, 3, conv().stride(2).padding(1).groups(2)));
    check("conv2d", |p| nn::Conv2d::new(p, 3, 4, [3, 2], conv().stride([1, 2]).padding([1, 0]).dilation([2, 1])));
    check("conv2d_same", |p| nn::Conv2d::without_bias(p, 2, 3, 3, conv().padding_same()));
    check("conv3d", |p| nn::Conv3d::new(p, 2, 3, 2, conv().stride(2)));
}

#[test]
fn transposed_convolutions() {
    let options = conv().stride(2).padding(1).output_padding(1).groups(2);
    check("conv_transpose1d", |p| nn::ConvTranspose1d::new(p, 4, 6, 3, options.clone()));
    check("conv_transpose2d", |p| nn::ConvTranspose2d::new(p, 3, 2, [3, 2], conv().stride(2).dilation([2, 1])));
    check("conv_transpose3d", |p| nn::ConvTranspose3d::without_bias(p, 2, 3, 2, conv().stride(2)));
}

#[test]
fn norms() {
    check("layer_norm", |p| nn::LayerNorm::new(&p.at("norm"), 6));
    check("layer_norm_2", |p| nn::LayerNorm::new(&p.at("norm"), [3, 4]).eps(1e-3));
    check("rms_norm", |p| nn::RmsNorm::new(&p.at("norm"), 6).eps(1e-5));
    check("group_norm", |p| nn::GroupNorm::new(&p.at("norm"), 2, 4));
}

#[test]
fn batch_norms() {
    check("batch_norm", |p| nn::BatchNorm::new(&p.at("norm"), 3));
    check("batch_norm_1d", |p| nn::BatchNorm::new(&p.at("norm"), 3).eps(1e-3));
    check("batch_norm_2d", |p| nn::BatchNorm::new(&p.at("norm"), 3).momentum(0.3));
    check("batch_norm_3d", |p| nn::BatchNorm::without_affine(&p.at("norm"), 2));
}

#[test]
fn a_sequence_of_modules() {
    check("sequential", |p| {
        nn::Sequential::new()
            .then(nn::Conv2d::without_bias(&p.at(0), 1, 4, 3, conv()))
            .then(nn::BatchNorm::new(&p.at(1), 4))
            .then(nn::Activation::Relu)
            .then(nn::MaxPool2d::new(2, PoolOptions::default()))
            .then(nn::Flatten)
            .then(nn::Dropout::new(0.0))
            .then(nn::Linear::new(&p.at(6), 16, 3))
    });
}

#[test]
fn weights_begin_as_in_pytorch() {
    let params = Params::new(&cpu(), 3);
    // The greatest element of a weight and of a bias, and the bound of both.
    let close = |cell: &Param, bound: f64| {
        let most = numbers(&cell.value()).into_iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        assert!(most <= bound && most > 0.6 * bound, "{}: {most} of {bound}", cell.path());
    };
    let linear = nn::Linear::new(&params.at("linear"), 16, 20);
    close(&linear.weight, 0.25);
    close(linear.bias.as_ref().unwrap(), 0.25);
    let conv2d = nn::Conv2d::new(&params.at("conv"), 8, 12, 3, conv().groups(2));
    close(&conv2d.weight, 1.0 / 6.0);
    close(conv2d.bias.as_ref().unwrap(), 1.0 / 6.0);
    let transposed = nn::ConvTranspose2d::new(&params.at("transposed"), 12, 16, 2, conv());
    close(&transposed.weight, 0.125);
    let table = numbers(&nn::Embedding::new(&params.at("table"), 50, 40).weight.value());
    let square = table.iter().map(|x| x * x).sum::<f64>() / table.len() as f64;
    assert!((square - 1.0).abs() < 0.1, "{square}");
}

#[test]
fn pools_and_activations_are_their_words() {
    let x = crate::support::random(&[2, 4, 6, 6]);
    let line = crate::support::random(&[2, 4, 6]);
    let eval = Pass::eval();
    let options = || PoolOptions::default().stride(2).padding(1);
    let act = |a: nn::Activation| a.forward(&x, &eval);
    let pairs = [
        (nn::MaxPool2d::new([2, 3], options()).forward(&x, &eval), x.max_pool2d([2, 3], options())),
        (nn::AvgPool2d::new(2, options()).forward(&x, &eval), x.avg_pool2d(2, options())),
        (nn::MaxPool1d::new(2, options()).forward(&line, &eval), line.max_pool1d(2, options())),
        (nn::AvgPool1d::new(3, options()).forward(&line, &eval), line.avg_pool1d(3, options())),
        (nn::AdaptiveAvgPool1d::new(4).forward(&line, &eval), line.adaptive_avg_pool1d(4)),
        (nn::AdaptiveMaxPool1d::new(4).forward(&line, &eval), line.adaptive_max_pool1d(4)),
        (nn::AdaptiveAvgPool2d::new([4, 1]).forward(&x, &eval), x.adaptive_avg_pool2d([4, 1])),
        (nn::AdaptiveMaxPool2d::new(4).forward(&x, &eval), x.adaptive_max_pool2d(4)),
        (act(nn::Activation::Relu), x.relu()),
        (act(nn::Activation::LeakyRelu(0.1)), x.leaky_relu(0.1)),
        (act(nn::Activation::Elu(0.5)), x.elu(0.5)),
        (act(nn::Activation::Gelu), x.gelu()),
        (act(nn::Activation::GeluTanh), x.gelu_tanh()),
        (act(nn::Activation::Silu), x.silu()),
        (act(nn::Activation::Mish), x.mish()),
        (act(nn::Activation::Softplus), x.softplus()),
        (act(nn::Activation::Sigmoid), x.sigmoid()),
        (act(nn::Activation::Tanh), x.tanh()),
        (act(nn::Activation::Hardswish), x.hardswish()),
        (act(nn::Activation::Glu(1)), x.glu(1)),
        (act(nn::Activation::Softmax(-1)), x.softmax(-1)),
        (act(nn::Activation::LogSoftmax(-1)), x.log_softmax(-1)),
        (nn::Flatten.forward(&x, &eval), x.reshape([2, -1])),
        (nn::Residual::new(nn::Activation::Relu).forward(&x, &eval), &x + x.relu()),
    ];
    for (k, (got, want)) in pairs.iter().enumerate() {
        assert_eq!(got.dims(), want.dims(), "pair {k}");
        assert_eq!(numbers(got), numbers(want), "pair {k}");
    }
}

#[test]
fn dropout_drops_in_training_only_and_each_time_others() {
    let params = Params::new(&cpu(), 3);
    let x = Tensor::ones([1000], &cpu());
    let dropout = nn::Dropout::new(0.25);
    let pass = Pass::train(&params);
    let [a, b] = [0; 2].map(|_| numbers(&dropout.forward(&x, &pass)));
    let c = numbers(&dropout.forward(&x, &Pass::train(&params)));
    assert!(a != b && a != c && b != c);
    let dropped = a.iter().filter(|&&x| x == 0.0).count();
    assert!((200..300).contains(&dropped), "{dropped}");
    assert!(a.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
    assert_eq!(numbers(&dropout.forward(&x, &Pass::eval())), numbers(&x));
}

#[test]
fn a_batch_norm_used_twice_moves_twice() {
    let params = Params::new(&cpu(), 3);
    let norm = nn::BatchNorm::new(&params, 1).momentum(0.5);
    let x = Tensor::new([[1.0], [3.0]], &cpu());
    let pass = Pass::train(&params);
    let y = norm.forward(&x, &pass) + norm.forward(&(&x * 2.0), &pass);
    let now = || [&norm.running_mean, &norm.running_var, &norm.num_batches_tracked].map(|p| numbers(&p.value())[0]);
    assert_eq!(now(), [0.0, 1.0, 0.0]);
    (y * &x).sum(..).backward(&params).accumulate(&mut None).unwrap();
    // 0, then (0 + 2) / 2, then (1 + 4) / 2; the variances of the batches are 2 and 8.
    assert_eq!(now(), [2.5, (1.5 + 8.0) / 2.0, 2.0]);
}

#[test]
fn steps_of_a_batch_norm_share_one_plan() {
    by_itself("nn::steps_of_a_batch_norm_share_one_plan", one_plan_of_a_batch_norm);
}

fn one_plan_of_a_batch_norm() {
    let device = Device::cpu();
    let params = Params::new(&device, 3);
    let norm = nn::BatchNorm::new(&params, 2);
    let dropout = nn::Dropout::new(0.5);
    let mut plans = Vec::new();
    for k in 0..4 {
        let pass = Pass::train(&params);
        let x = Tensor::new([[1.0, 2.0], [3.0, f64::from(k)]], &device);
        let loss = dropout.forward(&norm.forward(&x, &pass), &pass).sum(..);
        let before = device.plans_made();
        loss.backward(&params).accumulate(&mut None).unwrap();
        plans.push(device.plans_made() - before);
    }
    assert_eq!(plans, [1, 0, 0, 0]);
    one_plan_of_a_network(&device);

    assert_eq!(numbers(&norm.num_batches_tracked.value()), [4.0]);
}

/// With weights, statistics and random numbers that all change.
fn one_plan_of_a_network(device: &Device) {
    let params = Params::new(device, 3);
    let model = nn::Sequential::new()
        .then(nn::Conv2d::without_bias(&params.at(0), 1, 4, 3, conv().stride(2)))
        .then(nn::BatchNorm::new(&params.at(1), 4))
        .then(nn::Activation::Relu)
        .then(nn::Conv2d::without_bias(&params.at(2), 4, 4, 2, conv()))
        .then(nn::BatchNorm::new(&params.at(3), 4))
        .then(nn::Flatten)
        .then(nn::Dropout::new(0.5))
        .then(nn::Linear::new(&params.at(4), 4, 3));
    let mut adam = wgrad::optim::AdamW::new(&params, 1e-2);
    let mut plans = Vec::new();
    for k in 0..4 {
        let x = Tensor::from_vec((0..50).map(|i| (i * k) as f32 / 50.0).collect(), [2, 1, 5, 5], device);
        let pass = Pass::train(&params);
        let loss = model.forward(&x, &pass).cross_entropy(&Tensor::new([0, 2], device));
        let before = device.plans_made();
        adam.step(loss.backward(&params)).unwrap();
        plans.push(device.plans_made() - before);
    }
    // The first step begins with weights that do not lie in a slab yet.
    assert_eq!(plans[2..], [0, 0], "{plans:?}");
    let counts = [1, 3].map(|k| numbers(&params.get(&format!("{k}.num_batches_tracked")).unwrap().value()));
    assert_eq!(counts, [[4.0], [4.0]]);
}

#[test]
fn wrong_shapes_are_errors_that_name_the_word() {
    let params = Params::new(&cpu(), 3);
    let eval = Pass::eval();
    let train = Pass::train(&params);
    let x = |dims: &[usize]| Tensor::ones(dims, &cpu());
    let fc = nn::Linear::new(&params.at("fc"), 4, 2);
    let words = |y: Tensor| message(&y);
    assert_eq!(words(fc.forward(&x(&[3]), &eval)), "linear: fc.weight [2, 4] does not fit the input [3]");
    assert_eq!(words(fc.forward(&x(&[]), &eval)), "linear: fc.weight [2, 4] does not fit the input []");
    let table = nn::Embedding::new(&params.at("table"), 4, 2);
    assert!(words(table.forward(&x(&[3]), &eval)).starts_with("embedding: "));
    let c2 = nn::Conv2d::new(&params.at("c2"), 4, 2, 3, conv());
    assert!(words(c2.forward(&x(&[1, 3, 5, 5]), &eval)).starts_with("conv2d: "));
    assert!(words(c2.forward(&x(&[5]), &train)).starts_with("conv2d: "));
    let odd = nn::Conv2d::new(&params.at("odd"), 4, 3, 3, conv().groups(2));
    assert_eq!(words(odd.forward(&x(&[1, 4, 5, 5]), &eval)), "conv2d: 4 to 3 channels: they do not make 2 groups");
    let none = nn::ConvTranspose1d::new(&params.at("none"), 4, 2, 3, conv().groups(0));
    assert!(words(none.forward(&x(&[1, 4, 5]), &eval)).starts_with("conv_transpose1d: "));
    let kernel = nn::Conv1d::new(&params.at("kernel"), 4, 2, [3, -3], conv());
    assert!(words(kernel.forward(&x(&[1, 4, 5]), &eval)).starts_with("conv1d: "));
    let layer = nn::LayerNorm::new(&params.at("layer"), [3, 4]);
    assert!(words(layer.forward(&x(&[4]), &eval)).starts_with("layer_norm: "));
    let rms = nn::RmsNorm::new(&params.at("rms"), 3);
    assert!(words(rms.forward(&x(&[4]), &eval)).starts_with("rms_norm: "));
    let group = nn::GroupNorm::new(&params.at("group"), 0, 3);
    assert!(words(group.forward(&x(&[2, 3]), &eval)).starts_with("group_norm: "));
    let batch = nn::BatchNorm::new(&params.at("batch"), 3);
    assert!(words(batch.forward(&x(&[2, 4]), &eval)).starts_with("batch_norm_with: "));
    assert!(words(batch.forward(&x(&[2, 4]), &train)).starts_with("batch_norm: "));
    assert!(words(batch.forward(&x(&[1, 3]), &train)).starts_with("batch_norm: "));
    assert!(words(nn::Dropout::new(1.5).forward(&x(&[1]), &eval)).starts_with("dropout: p is 1.5"));
    assert!(
        words(nn::MaxPool2d::new(3, PoolOptions::default()).forward(&x(&[1, 1, 2, 2]), &eval))
            .starts_with("max_pool2d")
    );
    assert!(words(nn::Flatten.forward(&x(&[]), &eval)).starts_with("flatten: "));
    let twice = nn::Linear::new(&params.at("fc"), 4, 2);
    assert_eq!(words(twice.forward(&x(&[4]), &eval)), "weight: fc.weight is taken already");
    // A module in a box does not see its caller; the sequence does.
    let model = nn::Sequential::new().then(nn::Activation::Relu).then(nn::Residual::new(fc.clone()));
    assert_eq!(words(model.forward(&x(&[3]), &eval)), "linear: fc.weight [2, 4] does not fit the input [3]");
}

#[test]
fn a_mistake_before_a_module_stays_the_first() {
    let params = Params::new(&cpu(), 3);
    let bad = Tensor::ones([2], &cpu()).reshape([3]);
    let train = Pass::train(&params);
    let modules: Vec<Box<dyn Module>> = vec![
        Box::new(nn::Linear::new(&params.at("fc"), 4, 2)),
        Box::new(nn::Embedding::new(&params.at("table"), 4, 2)),
        Box::new(nn::Conv2d::new(&params.at("conv"), 4, 2, 3, conv())),
        Box::new(nn::ConvTranspose2d::new(&params.at("transposed"), 4, 2, 3, conv())),
        Box::new(nn::LayerNorm::new(&params.at("layer"), 4)),
        Box::new(nn::RmsNorm::new(&params.at("rms"), 4)),
        Box::new(nn::GroupNorm::new(&params.at("group"), 2, 4)),
        Box::new(nn::BatchNorm::new(&params.at("batch"), 4)),
        Box::new(nn::Dropout::new(0.5)),
        Box::new(nn::Flatten),
        Box::new(nn::MaxPool2d::new(2, PoolOptions::default())),
        Box::new(nn::AdaptiveAvgPool2d::new(2)),
        Box::new(nn::Activation::Gelu),
        Box::new(nn::Residual::new(nn::Activation::Gelu)),
    ];
    for module in &modules {
        for pass in [&train, &Pass::eval()] {
            assert_eq!(module.forward(&bad, pass).error().map(|e| e.op().to_string()).as_deref(), Some("reshape"));
        }
    }
}

#[test]
fn attention() {
    check("attention", |p| nn::MultiHeadAttention::new(p, 8, 2));
    check("attention_causal", |p| nn::MultiHeadAttention::without_bias(p, 8, 4, 4).causal());
    check("attention_grouped", |p| nn::MultiHeadAttention::without_bias(p, 16, 4, 2).causal().rotary(10_000.0));
    for device in devices() {
        let case = Case::new("attention_across", &device);
        let (params, module) = case.load(|p| nn::MultiHeadAttention::new(p, 8, 2));
        let memory = case.get("memory");
        case.check(&params, |x, pass| (module.attend(x, &memory, None, pass), Vec::new()));
    }
}

#[test]
fn transformer_blocks() {
    check("block_gelu", |p| nn::TransformerBlock::new(p, 8, 2).causal());
    let rotary = |p: &Params| nn::TransformerBlock::swiglu(p, 16, 4, 2, 24).causal().rotary(10_000.0);
    check("block_swiglu", rotary);
}

#[test]
fn recurrent_networks() {
    let builds: [(&str, fn(&Params) -> nn::Lstm); 2] =
        [("lstm", |p| nn::Lstm::new(p, 3, 4, 2)), ("lstm_plain", |p| nn::Lstm::without_bias(p, 3, 4, 1))];
    for device in devices() {
        for (name, build) in builds {
            let case = Case::new(name, &device);
            let (params, lstm) = case.load(build);
            case.check(&params, |x, pass| {
                let (y, state) = lstm.run(x, None, pass);
                (y, vec![("h", state.h), ("c", state.c)])
            });
        }
        let case = Case::new("gru", &device);
        let (params, gru) = case.load(|p| nn::Gru::new(p, 3, 4, 2));
        case.check(&params, |x, pass| {
            let (y, h) = gru.run(x, None, pass);
            (y, vec![("h", h)])
        });
    }
}

#[test]
fn a_state_carries_on_where_it_ended() {
    let params = Params::new(&cpu(), 3);
    let lstm = nn::Lstm::new(&params.at("lstm"), 3, 4, 2);
    let gru = nn::Gru::new(&params.at("gru"), 3, 4, 2);
    let x = crate::support::random(&[2, 5, 3]);
    let [a, b] = x.split([2, 3], 1);
    let eval = Pass::eval();
    let (first, state) = lstm.run(&a, None, &eval);
    let (second, _) = lstm.run(&b, Some(&state), &eval);
    let whole = numbers(&lstm.forward(&x, &eval));
    assert_close("lstm", &numbers(&Tensor::cat(&[first, second], 1)), &whole, 1e-6);
    let (first, state) = gru.run(&a, None, &eval);
    let (second, _) = gru.run(&b, Some(&state), &eval);
    let whole = numbers(&gru.forward(&x, &eval));
    assert_close("gru", &numbers(&Tensor::cat(&[first, second], 1)), &whole, 1e-6);
}

/// A small model that makes text: tokens `[n, t]` to scores `[n, t, 11]`.
struct Gpt {
    tokens: nn::Embedding,
    positions: nn::Embedding,
    blocks: [nn::TransformerBlock; 2],
    head: nn::Linear,
}

impl Gpt {
    fn new(params: &Params) -> Gpt {
        let blocks = [
            nn::TransformerBlock::new(&params.at("block.0"), 16, 4).causal().dropout(0.1),
            nn::TransformerBlock::swiglu(&params.at("block.1"), 16, 4, 2, 24).causal().rotary(10_000.0),
        ];
        Gpt {
            tokens: nn::Embedding::new(&params.at("tokens"), 11, 16),
            positions: nn::Embedding::new(&params.at("positions"), 256, 16),
            blocks,
            head: nn::Linear::new(&params.at("head"), 16, 11),
        }
    }

    fn forward(&self, tokens: &Tensor, pass: &Pass) -> Tensor {
        let positions = Tensor::arange(0, tokens.dim(1) as i64, 1, tokens.device());
        let x = self.tokens.forward(tokens, pass) + self.positions.forward(&positions, pass);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x, pass));
        self.head.forward(&x, pass)
    }

    fn forward_cached(&self, tokens: &Tensor, cache: &mut nn::KvCache, pass: &Pass) -> Tensor {
        let positions = cache.positions(tokens.dim(1));
        let mut x = self.tokens.forward(tokens, pass) + self.positions.forward(&positions, pass);
        for block in &self.blocks {
            x = block.forward_cached(&x, cache, pass);
        }
        self.head.forward(&x, pass)
    }
}

#[test]
fn generating_200_tokens_takes_two_plans_and_gives_what_the_whole_gives() {
    by_itself("nn::generating_200_tokens_takes_two_plans_and_gives_what_the_whole_gives", generating);
}

fn generating() {
    let device = Device::cpu();
    let gpt = Gpt::new(&Params::new(&device, 3));
    let pass = Pass::eval();
    let mut cache = nn::KvCache::new(210, &device);
    let mut tokens = vec![3, 1, 4, 1, 5];
    let before = device.plans_made();
    let mut scores = Vec::new();
    let mut next = Tensor::new([tokens.clone()], &device);
    for _ in 0..200 {
        let y = gpt.forward_cached(&next, &mut cache, &pass);
        cache.advance([&y]).unwrap();
        scores.extend(y.to_vec::<f32>().unwrap().into_iter().map(f64::from));
        let last = &scores[scores.len() - 11..];
        let best = (0..11).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap() as i32;
        tokens.push(best);
        next = Tensor::new([[best]], &device);
    }
    assert_eq!(device.plans_made() - before, 2);
    tokens.pop();
    assert_eq!((cache.len(), tokens.len()), (204, 204));
    let whole = gpt.forward(&Tensor::new([tokens], &device), &pass);
    assert_close("all scores", &scores, &numbers(&whole), 1e-4);
}

#[test]
fn a_cache_grows_by_what_succeeds_and_begins_again() {
    for device in devices() {
        let params = Params::new(&device, 3);
        let attention = nn::MultiHeadAttention::new(&params, 8, 2).causal();
        let pass = Pass::eval();
        let x = crate::support::random(&[2, 4, 8]).to_device(&device);
        let whole = numbers(&attention.forward(&x, &pass));
        let mut cache = nn::KvCache::new(4, &device);
        for _ in 0..2 {
            let [a, b] = x.split([3, 1], 1);
            let first = attention.forward_cached(&a, &mut cache, &pass);
            // What is asked again before the cache advances is the same again.
            let again = attention.forward_cached(&a, &mut cache, &pass);
            cache.advance([&first, &again]).unwrap();
            assert_eq!(numbers(&first), numbers(&again));
            let long = attention.forward_cached(&a, &mut cache, &pass);
            assert_eq!(message(&long), "kv_cache: 3 positions after 3 are more than the capacity 4");
            assert!(cache.advance([&long]).is_err());
            let other = attention.forward_cached(&b.narrow(0, 0, 1), &mut cache, &pass);
            assert!(message(&other).starts_with("update_at: "), "{other:?}");
            assert_eq!(cache.len(), 3);
            let second = attention.forward_cached(&b, &mut cache, &pass);
            cache.advance([&second]).unwrap();
            assert_eq!((cache.len(), cache.capacity()), (4, 4));
            assert_close("both parts", &numbers(&Tensor::cat(&[first, second], 1)), &whole, 1e-5);
            cache.clear();
            assert!(cache.is_empty());
        }
    }
}

/// As many sequences as heads: a mask of three axes is of sequences all the same.
#[test]
fn masks_are_of_sequences() {
    let attention = nn::MultiHeadAttention::new(&Params::new(&cpu(), 3), 8, 2);
    let x = crate::support::random(&[2, 3, 8]);
    let masked = |x: &Tensor, mask: &Tensor| attention.attend(x, x, Some(mask), &Pass::eval());
    let mask = crate::support::random(&[2, 3, 3]);
    let y = masked(&x, &mask);
    let alone = [0, 1].map(|n| masked(&x.narrow(0, n, 1), &mask.narrow(0, n, 1).squeeze(0)));
    assert_close("each", &numbers(&y), &numbers(&Tensor::cat(&alone, 0)), 1e-6);
    assert_eq!(numbers(&masked(&x, &mask.unsqueeze(1))), numbers(&y));
    let takes = "multi_head_attention: takes a mask [t, s], [n, t, s] or [n, heads, t, s], got [3]";
    assert_eq!(message(&masked(&x, &Tensor::ones([3], &cpu()))), takes);
}

#[test]
fn wrong_shapes_of_sequences_are_errors() {
    let params = Params::new(&cpu(), 3);
    let eval = Pass::eval();
    let x = |dims: &[usize]| Tensor::ones(dims, &cpu());
    let attention = nn::MultiHeadAttention::new(&params.at("attention"), 8, 2);
    let takes = "multi_head_attention: takes [n, t, 8], got ";
    assert_eq!(message(&attention.forward(&x(&[4, 8]), &eval)), format!("{takes}[4, 8]"));
    assert_eq!(message(&attention.attend(&x(&[1, 4, 8]), &x(&[1, 4, 7]), None, &eval)), format!("{takes}[1, 4, 7]"));
    let misfit = attention.attend(&x(&[2, 4, 8]), &x(&[3, 4, 8]), None, &eval);
    assert!(message(&misfit).starts_with("scaled_dot_product_attention: "));
    let mask = Tensor::ones([3, 4], &cpu());
    let masked = attention.attend(&x(&[2, 4, 8]), &x(&[2, 4, 8]), Some(&mask), &eval);
    assert!(message(&masked).starts_with("scaled_dot_product_attention: "));
    let odd = nn::MultiHeadAttention::new(&params.at("odd"), 8, 3);
    let fact = "multi_head_attention: 8 elements do not make 3 heads that share 3";
    assert_eq!(message(&odd.forward(&x(&[1, 4, 8]), &eval)), fact);
    assert_eq!(message(&odd.attend(&x(&[1, 4, 8]), &x(&[1, 4, 8]), None, &eval)), fact);
    let none = nn::MultiHeadAttention::without_bias(&params.at("none"), 8, 0, 0).rotary(10.0);
    assert!(message(&none.forward(&x(&[1, 4, 8]), &eval)).starts_with("multi_head_attention: "));
    let halves = nn::MultiHeadAttention::new(&params.at("halves"), 6, 2).rotary(10.0);
    assert_eq!(message(&halves.forward(&x(&[1, 4, 6]), &eval)), "rotary: 3 elements have no halves");
    let block = nn::TransformerBlock::new(&params.at("block"), 8, 2);
    assert!(message(&block.forward(&x(&[1, 4, 6]), &eval)).starts_with("layer_norm: "));
    let again = block.clone().recompute(wgrad::Recompute::Cheap);
    assert!(message(&again.forward(&x(&[1, 4, 6]), &Pass::train(&params))).starts_with("layer_norm: "));
    let lstm = nn::Lstm::new(&params.at("lstm"), 3, 4, 2);
    let steps = "takes [n, t, 3] with t from 1 to 65536, got ";
    assert_eq!(message(&lstm.forward(&x(&[1, 0, 3]), &eval)), format!("lstm: {steps}[1, 0, 3]"));
    assert_eq!(message(&lstm.forward(&x(&[1, 100_000, 3]), &eval)), format!("lstm: {steps}[1, 100000, 3]"));
    let gru = nn::Gru::new(&params.at("gru"), 3, 4, 1);
    assert_eq!(message(&gru.forward(&x(&[3]), &eval)), format!("gru: {steps}[3]"));
    let state = gru.run(&x(&[2, 1, 3]), Some(&x(&[1, 1, 4])), &eval).1;
    assert_eq!(message(&state), "gru: the state is [1, 2, 4], got [1, 1, 4]");
    let flat = nn::Gru::new(&params.at("flat"), 3, 4, 0);
    assert!(message(&flat.forward(&x(&[2, 1, 3]), &eval)).starts_with("gru: takes 1 to "));
    let bad = x(&[2]).reshape([3]);
    let mut cache = nn::KvCache::new(8, &cpu());
    let cached = block.forward_cached(&bad, &mut cache, &eval);
    let results = [attention.forward(&bad, &eval), cached, lstm.forward(&bad, &eval), gru.forward(&bad, &eval)];
    for y in results {
        assert_eq!(y.error().map(|e| e.op().to_string()).as_deref(), Some("reshape"));
    }
}
