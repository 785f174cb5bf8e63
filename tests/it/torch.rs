//! Values and gradients against PyTorch's, from `tests/data/torch_reference.txt`.
//!
//! Every case is computed by the oracle, which rounds nothing but constants, and on every device.

use std::sync::OnceLock;

use wgrad::ops::pad::PadMode;
use wgrad::prelude::*;

use crate::devices::devices;
use crate::support::{assert_close, exact};

/// Numbers with a shape.
struct Array {
    dtype: DType,
    dims: Vec<usize>,
    values: Vec<f64>,
}

/// One case of the file.
#[derive(Default)]
struct Case {
    name: String,
    op: String,
    options: Vec<(String, String)>,
    inputs: Vec<Array>,
    outputs: Vec<Array>,
    weight: Option<Array>,
    grads: Vec<(usize, Array)>,
}

/// What PyTorch has and wgrad has not.
const NOT_WORDS: &[&str] = &["fmod"];

fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let text = include_str!("../data/torch_reference.txt");
        text.split("\n\n").filter(|case| !case.trim().is_empty()).map(parse).collect()
    })
}

fn parse(text: &str) -> Case {
    let mut case = Case::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        match word {
            "case" => case.name = rest.into(),
            "op" => {
                let mut words = rest.split(' ');
                case.op = words.next().expect("an op").into();
                let pair = |word: &str| word.split_once('=').map(|(k, v)| (k.to_string(), v.to_string()));
                case.options = words.filter_map(pair).collect();
            }
            "in" => case.inputs.push(array(rest)),
            "out" => case.outputs.push(array(rest)),
            "w" => case.weight = Some(array(rest)),
            "grad" => {
                let (index, rest) = rest.split_once(' ').expect("an input's number");
                case.grads.push((index.parse().expect("a number"), array(&format!("f32 {rest}"))));
            }
            _ => panic!("{}: what is {word:?}?", case.name),
        }
    }
    case
}

fn array(text: &str) -> Array {
    let (head, values) = text.split_once(" :").expect("a colon");
    let (dtype, dims) = head.split_once(' ').expect("a dtype and a shape");
    let dtype = DType::ALL.into_iter().find(|d| d.name() == dtype).expect("a dtype");
    let dims = dims.split(',').filter(|d| *d != "-").map(|d| d.parse().expect("a size")).collect();
    Array { dtype, dims, values: values.split_whitespace().map(|v| v.parse().expect("a number")).collect() }
}

impl Array {
    fn tensor(&self, device: &Device) -> Tensor {
        let values: Vec<f32> = self.values.iter().map(|&v| v as f32).collect();
        Tensor::from_vec(values, &self.dims, device).cast(self.dtype)
    }
}

impl Case {
    fn text(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn number(&self, key: &str) -> f64 {
        self.text(key).unwrap_or_else(|| panic!("{}: no {key}", self.name)).parse().expect("a number")
    }

    fn int(&self, key: &str) -> isize {
        self.number(key) as isize
    }

    fn flag(&self, key: &str) -> bool {
        self.text(key) == Some("true")
    }

    fn list(&self, key: &str) -> Vec<isize> {
        let text = self.text(key).unwrap_or_else(|| panic!("{}: no {key}", self.name));
        text.split(',').map(|n| n.parse().expect("a number")).collect()
    }

    fn reduce(&self) -> Reduce {
        match self.text("reduction") {
            Some("sum") => Reduce::Sum,
            Some("none") => Reduce::None,
            Some("batchmean") => Reduce::BatchMean,
            _ => Reduce::Mean,
        }
    }

    fn conv(&self) -> ConvOptions {
        let options = ConvOptions::default().stride(self.list("stride")).padding(self.list("padding"));
        let options = options.dilation(self.list("dilation")).groups(self.int("groups") as usize);
        match self.text("output_padding") {
            Some(_) => options.output_padding(self.list("output_padding")),
            None => options,
        }
    }

    fn pool(&self) -> PoolOptions {
        let mut options = PoolOptions::default().stride(self.list("stride")).padding(self.list("padding"));
        if self.text("dilation").is_some() {
            options = options.dilation(self.list("dilation"));
        }
        options.count_include_pad(self.text("count_include_pad") != Some("false"))
    }

    fn classes(&self, weight: Option<&Tensor>) -> ClassOptions {
        let mut options = ClassOptions::default().reduce(self.reduce());
        if self.text("ignore_index").is_some() {
            options = options.ignore_index(self.int("ignore_index") as i32);
        }
        if self.text("label_smoothing").is_some() {
            options = options.label_smoothing(self.number("label_smoothing"));
        }
        match weight {
            Some(weight) => options.weight(weight),
            None => options,
        }
    }

    fn attention(&self, mask: Option<&Tensor>) -> AttentionOptions {
        let mut options = AttentionOptions::default();
        if self.flag("is_causal") {
            options = options.causal();
        }
        if self.text("scale").is_some() {
            options = options.scale(self.number("scale"));
        }
        match mask {
            Some(mask) => options.mask(mask),
            None => options,
        }
    }

    /// A reduction over the axes that the case names.
    fn reduction(
        &self,
        keep: impl Fn(wgrad::shape::Keepdim<Vec<isize>>) -> Tensor,
        drop: impl Fn(Vec<isize>) -> Tensor,
    ) -> Tensor {
        if self.flag("keepdim") { keep(keepdim(self.list("axes"))) } else { drop(self.list("axes")) }
    }

    /// The results of the case's op on `x`.
    fn run(&self, x: &[Tensor]) -> Vec<Tensor> {
        let (first, second, third) = (&x[0], x.get(1), x.get(2));
        let two = || second.unwrap_or_else(|| panic!("{}: a second input", self.name));
        let three = || third.unwrap_or_else(|| panic!("{}: a third input", self.name));
        let axis = || self.int("axis");
        let upsample = || Upsample::size(self.list("size"));
        let one = match self.op.as_str() {
            "conv1d" => first.conv1d(two(), third, self.conv()),
            "conv2d" => first.conv2d(two(), third, self.conv()),
            "conv3d" => first.conv3d(two(), third, self.conv()),
            "conv_transpose1d" => first.conv_transpose1d(two(), third, self.conv()),
            "conv_transpose2d" => first.conv_transpose2d(two(), third, self.conv()),
            "conv_transpose3d" => first.conv_transpose3d(two(), third, self.conv()),
            "max_pool1d" => first.max_pool1d(self.list("kernel"), self.pool()),
            "max_pool2d" => first.max_pool2d(self.list("kernel"), self.pool()),
            "avg_pool1d" => first.avg_pool1d(self.list("kernel"), self.pool()),
            "avg_pool2d" => first.avg_pool2d(self.list("kernel"), self.pool()),
            "adaptive_avg_pool1d" => first.adaptive_avg_pool1d(self.list("size")),
            "adaptive_avg_pool2d" => first.adaptive_avg_pool2d(self.list("size")),
            "adaptive_max_pool1d" => first.adaptive_max_pool1d(self.list("size")),
            "adaptive_max_pool2d" => first.adaptive_max_pool2d(self.list("size")),
            "upsample_nearest" => first.upsample_nearest(upsample()),
            "upsample_bilinear" => first.upsample_bilinear(upsample(), self.flag("align_corners")),

            "layer_norm" => {
                let axes: Vec<isize> = (1..=self.int("trailing")).map(|k| -k).collect();
                first.layer_norm(axes, second, third, self.number("eps"))
            }
            "rms_norm" => {
                let axes: Vec<isize> = (1..=self.int("trailing")).map(|k| -k).collect();
                first.rms_norm(axes, second, self.number("eps"))
            }
            "group_norm" => first.group_norm(self.int("groups") as usize, second, third, self.number("eps")),
            "batch_norm" => first.batch_norm(second, third, self.number("eps")).0,
            "instance_norm" => first.instance_norm(second, third, self.number("eps")),

            "softmax" => first.softmax(axis()),
            "log_softmax" => first.log_softmax(axis()),
            "logsumexp" => self.reduction(|a| first.logsumexp(a), |a| first.logsumexp(a)),
            "scaled_dot_product_attention" => {
                first.scaled_dot_product_attention(two(), three(), self.attention(x.get(3)))
            }

            "mse_loss" => first.mse_loss(two(), self.reduce()),
            "l1_loss" => first.l1_loss(two(), self.reduce()),
            "huber_loss" => first.huber_loss(two(), self.number("delta"), self.reduce()),
            "smooth_l1_loss" => first.smooth_l1_loss(two(), self.number("beta"), self.reduce()),
            "cross_entropy" => first.cross_entropy_with(two(), self.classes(third)),
            "nll_loss" => first.nll_loss(two(), self.classes(third)),
            "bce" => first.binary_cross_entropy(two(), self.reduce()),
            "bce_with_logits" => first.binary_cross_entropy_with_logits(two(), third, self.reduce()),
            "kl_div" => first.kl_div(two(), self.flag("log_target"), self.reduce()),
            "cosine_similarity" => first.cosine_similarity(two(), axis(), self.number("eps")),
            "cosine_embedding_loss" => {
                first.cosine_embedding_loss(two(), three(), self.number("margin"), self.reduce())
            }

            "relu" => first.relu(),
            "leaky_relu" => first.leaky_relu(self.number("slope")),
            "elu" => first.elu(self.number("alpha")),
            "gelu" if self.text("approximate") == Some("tanh") => first.gelu_tanh(),
            "gelu" => first.gelu(),
            "silu" => first.silu(),
            "mish" => first.mish(),
            "softplus" => first.softplus(),
            "sigmoid" => first.sigmoid(),
            "hardswish" => first.hardswish(),
            "glu" => first.glu(axis()),
            "erf" => first.erf(),
            "tanh" => first.tanh(),
            "expm1" => first.expm1(),
            "sinh" => first.sinh(),
            "log1p" => first.log1p(),
            "abs" => first.abs(),
            "clamp" => first.clamp(self.number("min"), self.number("max")),
            "atan2" => first.atan2(two()),
            "pow" => first.pow(two()),
            "remainder" => first.rem(two()),
            "maximum" => first.maximum(two()),
            "minimum" => first.minimum(two()),

            "einsum" => Tensor::einsum(self.text("equation").expect("an equation"), &x.iter().collect::<Vec<_>>()),
            "matmul" => first.matmul(two()),

            "cumsum" => first.cumsum(axis()),
            "cumprod" => first.cumprod(axis()),
            "cummax" => first.cummax(axis()).0,
            "std" | "var" => {
                let correction = self.number("correction");
                match self.op.as_str() {
                    "std" => self.reduction(|a| first.std_with(a, correction), |a| first.std_with(a, correction)),
                    _ => self.reduction(|a| first.var_with(a, correction), |a| first.var_with(a, correction)),
                }
            }
            "norm" => self.reduction(|a| first.norm(a, self.number("p")), |a| first.norm(a, self.number("p"))),
            "prod" => self.reduction(|a| first.prod(a), |a| first.prod(a)),
            "max" => self.reduction(|a| first.max(a), |a| first.max(a)),
            "min" => self.reduction(|a| first.min(a), |a| first.min(a)),

            "pad" => self.pad(first),
            "unfold" => first.unfold(axis(), self.int("size") as usize, self.int("step") as usize),
            "tril" => first.tril(self.int("k")),
            "triu" => first.triu(self.int("k")),
            "diag" => first.diag(self.int("k")),
            "roll" => first.roll(self.list("shifts"), self.list("axes")),

            "gather" => first.gather(axis(), two()),
            "scatter" => first.scatter(axis(), two(), three()),
            "scatter_add" => first.scatter_add(axis(), two(), three()),
            "index_select" => first.index_select(axis(), two()),
            "embedding" => first.embedding(two()),
            "sort" => {
                let (values, indices) = first.sort(axis(), self.flag("descending"));
                return vec![values, indices];
            }
            "argsort" => first.argsort(axis(), self.flag("descending")),
            "topk" => {
                let k = self.int("k") as usize;
                if self.flag("largest") {
                    let (values, indices) = first.topk(k, axis());
                    return vec![values, indices];
                }
                let (values, indices) = (-first).topk(k, axis());
                return vec![-values, indices];
            }
            op => panic!("{}: no word for {op:?}", self.name),
        };
        vec![one]
    }

    /// Padding that may be negative: what is left is sliced first.
    fn pad(&self, x: &Tensor) -> Tensor {
        let (before, after) = (self.list("before"), self.list("after"));
        let mut x = x.clone();
        for (axis, (&b, &a)) in before.iter().zip(&after).enumerate() {
            let (start, cut) = ((-b).max(0) as usize, (-a).max(0) as usize);
            x = x.narrow(axis as isize, start, x.dim(axis as isize) - start - cut);
        }
        let pairs: Vec<_> = before.iter().zip(&after).map(|(&b, &a)| (b.max(0) as usize, a.max(0) as usize)).collect();
        match self.text("mode") {
            Some("reflect") => x.pad(&pairs, PadMode::Reflect),
            Some("replicate") => x.pad(&pairs, PadMode::Replicate),
            _ => x.pad(&pairs, self.number("value")),
        }
    }

    /// Checks results and gradients, computed by the oracle or read from a device.
    fn check(&self, device: &Device, tolerance: f64, values: impl Fn(&Tensor) -> Vec<f64>) {
        let inputs: Vec<Tensor> = self.inputs.iter().map(|x| x.tensor(device).tracked()).collect();
        let results = self.run(&inputs);
        for (k, want) in self.outputs.iter().enumerate().take(results.len()) {
            let what = format!("{} on {device}, result {k}", self.name);
            let got = &results[k];
            assert!(got.is_valid(), "{what}: {:?}", got.error());
            assert_eq!((got.dims(), got.dtype()), (&want.dims[..], want.dtype), "{what}");
            assert_close(&what, &values(got), &want.values, tolerance);
        }
        let Some(weight) = &self.weight else { return };
        let targets: Vec<&Tensor> = self.grads.iter().map(|(k, _)| &inputs[*k]).collect();
        let loss = (&results[0] * weight.tensor(device)).sum(..);
        for (dx, (k, want)) in loss.grad(&targets).iter().zip(&self.grads) {
            let what = format!("{} on {device}, gradient {k}", self.name);
            assert!(dx.is_valid(), "{what}: {:?}", dx.error());
            assert_eq!(dx.dims(), want.dims, "{what}");
            assert_close(&what, &values(dx), &want.values, tolerance);
        }
    }
}

/// Elements read from a device.
fn read(x: &Tensor) -> Vec<f64> {
    let x = x.cast(DType::F32).to_vec::<f32>().unwrap_or_else(|error| panic!("{error}"));
    x.into_iter().map(f64::from).collect()
}

fn check(ops: &[&str]) {
    for op in ops {
        let mut any = false;
        for case in cases().iter().filter(|case| case.op == *op) {
            case.check(&Device::cpu(), 1e-6, exact);
            for device in devices() {
                case.check(&device, 5e-5, read);
            }
            any = true;
        }
        assert!(any, "no case of {op}");
    }
}

macro_rules! families {
    ($($family:ident: $($op:literal)*;)*) => {
        $(#[test]
        fn $family() {
            check(&[$($op),*]);
        })*

        #[test]
        fn every_case_belongs_to_a_family() {
            let known = [$($($op),*),*];
            for case in cases() {
                let op = case.op.as_str();
                assert!(known.contains(&op) || NOT_WORDS.contains(&op), "{}: no family has {op}", case.name);
            }
        }
    };
}

families! {
    convolutions: "conv1d" "conv2d" "conv3d";
    transposed_convolutions: "conv_transpose1d" "conv_transpose2d" "conv_transpose3d";
    pools: "max_pool1d" "max_pool2d" "avg_pool1d" "avg_pool2d";
    adaptive_pools: "adaptive_avg_pool1d" "adaptive_avg_pool2d" "adaptive_max_pool1d" "adaptive_max_pool2d";
    upsampling: "upsample_nearest" "upsample_bilinear";
    norms: "layer_norm" "rms_norm" "group_norm" "batch_norm" "instance_norm";
    softmaxes: "softmax" "log_softmax" "logsumexp";
    attention: "scaled_dot_product_attention";
    regression_losses: "mse_loss" "l1_loss" "huber_loss" "smooth_l1_loss";
    class_losses: "cross_entropy" "nll_loss";
    binary_losses: "bce" "bce_with_logits";
    divergence_and_cosine: "kl_div" "cosine_similarity" "cosine_embedding_loss";
    activations: "relu" "leaky_relu" "elu" "gelu" "silu" "mish" "softplus" "sigmoid" "hardswish" "glu";
    scalar_rows: "erf" "tanh" "expm1" "sinh" "log1p" "abs" "clamp" "atan2" "pow" "remainder" "maximum" "minimum";
    einsum: "einsum";
    matmul: "matmul";
    scans: "cumsum" "cumprod" "cummax";
    reductions: "std" "var" "norm" "prod" "max" "min";
    movement: "pad" "unfold" "tril" "triu" "diag" "roll";
    indexing: "gather" "scatter" "scatter_add" "index_select" "embedding";
    sorting: "sort" "argsort" "topk";
}
