//! Pools, upsampling, activations, norms, attention, losses and dropout: what PyTorch's numbers do
//! not cover (`torch.rs`), first and second derivatives, and what wrong input gives.

use wgrad::ErrorKind;
use wgrad::prelude::*;

use crate::support::{assert_close, derivatives, exact, floats, ints, message, random};

/// Whether every element and every derivative of `f` at `x` is a number.
#[track_caller]
fn finite(what: &str, x: &Tensor, f: impl Fn(&Tensor) -> Tensor) {
    let x = x.tracked();
    let y = f(&x);
    let dx = y.sum(..).grad(&[&x]).remove(0);
    let ddx = dx.sum(..).grad(&[&x]).remove(0);
    for (name, x) in [("value", y), ("gradient", dx), ("second gradient", ddx)] {
        let values = x.to_vec::<f32>().unwrap();
        assert!(values.iter().all(|v| v.is_finite()), "{what}: {name} {values:?}");
    }
}

fn halves(x: &Tensor) -> [Tensor; 2] {
    [x.cast(DType::F16), x.cast(DType::BF16)]
}

// ---- pools

/// `reduce` of each window along the last axis, by loops.
fn pooled(x: &[f64], n: usize, windows: &[(usize, usize)], reduce: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    x.chunks(n).flat_map(|row| windows.iter().map(|&(a, b)| reduce(&row[a..b])).collect::<Vec<_>>()).collect()
}

fn greatest(v: &[f64]) -> f64 {
    v.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len() as f64
}

#[test]
fn max_pool1d() {
    let x = random(&[2, 3, 7]);
    let y = x.max_pool1d(3, PoolOptions::default().stride(2).padding(1));
    let windows = [(0, 2), (1, 4), (3, 6), (5, 7)];
    assert_close("max_pool1d", &exact(&y), &pooled(&exact(&x), 7, &windows, greatest), 0.0);
    let y = ints(&[3, -7, -5, 2], &[1, 1, 4]).max_pool1d(2, PoolOptions::default());
    assert_eq!(y.to_vec::<i32>().unwrap(), [3, 2]);
    derivatives("max_pool1d", &[&[1, 2, 6]], |x| x[0].max_pool1d(3, PoolOptions::default().stride(1).padding(1)));
    let wrong = |x: &Tensor, kernel: isize, options: PoolOptions| message(&x.max_pool1d(kernel, options));
    assert_eq!(wrong(&random(&[2, 3]), 2, PoolOptions::default()), "max_pool1d: takes 3 dimensions, got [2, 3]");
    assert_eq!(wrong(&x, 0, PoolOptions::default()), "max_pool1d: kernel 0 is less than 1");
    assert_eq!(
        wrong(&x, 3, PoolOptions::default().padding(2)),
        "max_pool1d: padding 2 is more than half of the kernel 3"
    );
    assert_eq!(
        wrong(&x, 8, PoolOptions::default()),
        "max_pool1d: a window of 8 with dilation 1 does not fit into 7 elements"
    );
}

#[test]
fn max_pool2d() {
    // Rows and columns one after the other.
    let x = random(&[2, 2, 5, 7]);
    let y = x.max_pool2d([2, 3], PoolOptions::default().stride([1, 2]));
    let rows = x.max_pool2d([2, 1], PoolOptions::default().stride(1));
    let windows = [(0, 3), (2, 5), (4, 7)];
    assert_close("max_pool2d", &exact(&y), &pooled(&exact(&rows), 7, &windows, greatest), 0.0);
    derivatives("max_pool2d", &[&[1, 1, 4, 4]], |x| x[0].max_pool2d(2, PoolOptions::default().dilation(2).stride(1)));
    assert_eq!(
        message(&x.max_pool2d([1, 1, 1], PoolOptions::default())),
        "max_pool2d: kernel [1, 1, 1] is neither one number nor one for each of 2 axes"
    );
}

#[test]
fn avg_pool1d() {
    let x = random(&[2, 1, 6]);
    let y = x.avg_pool1d(3, PoolOptions::default().stride(2).padding(1).count_include_pad(false));
    let windows = [(0, 2), (1, 4), (3, 6)];
    assert_close("avg_pool1d", &exact(&y), &pooled(&exact(&x), 6, &windows, mean), 1e-7);
    assert_eq!(ints(&[1, 2], &[1, 1, 2]).avg_pool1d(2, PoolOptions::default()).to_vec::<f32>().unwrap(), [1.5]);
    derivatives("avg_pool1d", &[&[1, 2, 5]], |x| {
        x[0].avg_pool1d(2, PoolOptions::default().stride(1).padding(1).count_include_pad(false))
    });
    assert_eq!(message(&x.avg_pool1d(2, PoolOptions::default().stride(0))), "avg_pool1d: stride 0 is less than 1");
}

#[test]
fn avg_pool2d() {
    let x = random(&[1, 2, 3, 6]);
    let y = x.avg_pool2d([1, 3], PoolOptions::default());
    assert_close("avg_pool2d", &exact(&y), &pooled(&exact(&x), 6, &[(0, 3), (3, 6)], mean), 1e-7);
    derivatives("avg_pool2d", &[&[1, 1, 3, 4]], |x| x[0].avg_pool2d(2, PoolOptions::default().stride(1)));
    assert_eq!(message(&random(&[3]).avg_pool2d(1, PoolOptions::default())), "avg_pool2d: takes 4 dimensions, got [3]");
}

#[test]
fn adaptive_pools() {
    let x = random(&[2, 3, 7]);
    for (out, windows) in [
        (1, &[(0, 7)][..]),
        (3, &[(0, 3), (2, 5), (4, 7)]),
        (5, &[(0, 2), (1, 3), (2, 5), (4, 6), (5, 7)]),
        (9, &[(0, 1), (0, 2), (1, 3), (2, 4), (3, 4), (3, 5), (4, 6), (5, 7), (6, 7)]),
        (0, &[]),
    ] {
        let y = x.adaptive_max_pool1d(out);
        assert_eq!(y.dims(), [2, 3, out]);
        assert_close("max", &exact(&y), &pooled(&exact(&x), 7, windows, greatest), 0.0);
        assert_close("avg", &exact(&x.adaptive_avg_pool1d(out)), &pooled(&exact(&x), 7, windows, mean), 1e-6);
    }
    // What is infinite stays in its windows.
    let far = floats(&[1.0, f64::INFINITY, 2.0, 4.0, 6.0], &[1, 1, 5]).adaptive_avg_pool1d(3);
    assert_eq!(far.to_vec::<f32>().unwrap(), [f32::INFINITY, f32::INFINITY, 5.0]);
    let image = random(&[1, 2, 3, 7]);
    let rows = image.adaptive_max_pool2d([3, 5]);
    let windows = [(0, 2), (1, 3), (2, 5), (4, 6), (5, 7)];
    assert_close("max2d", &exact(&rows), &pooled(&exact(&image), 7, &windows, greatest), 0.0);
    derivatives("adaptive_avg_pool1d", &[&[1, 2, 5]], |x| x[0].adaptive_avg_pool1d(3));
    derivatives("adaptive_max_pool1d", &[&[1, 2, 5]], |x| x[0].adaptive_max_pool1d(3));
    derivatives("adaptive_avg_pool2d", &[&[1, 1, 4, 3]], |x| x[0].adaptive_avg_pool2d([2, 2]));
    derivatives("adaptive_max_pool2d", &[&[1, 1, 4, 3]], |x| x[0].adaptive_max_pool2d([3, 1]));
    assert_eq!(message(&x.adaptive_avg_pool2d(1)), "adaptive_avg_pool2d: takes 4 dimensions, got [2, 3, 7]");
    assert_eq!(message(&x.adaptive_max_pool1d(-1)), "adaptive_max_pool1d: size -1 is less than 0");
    let empty = random(&[2, 3, 0]).adaptive_max_pool1d(2);
    assert_eq!(message(&empty), "adaptive_max_pool1d: the windows of [2, 3, 0] have no elements");
}

// ---- upsampling

#[test]
fn upsample_nearest() {
    let x = random(&[1, 2, 3]);
    let picks = |to: Upsample, index: &[i32]| {
        let (y, want) = (x.upsample_nearest(to), x.index_select(-1, &ints(index, &[index.len()])));
        assert_eq!(y.dims(), want.dims());
        assert_close("nearest", &exact(&y), &exact(&want), 0.0);
    };
    picks(Upsample::scale(2.0), &[0, 0, 1, 1, 2, 2]);
    picks(Upsample::scale(1.5), &[0, 0, 1, 2]);
    picks(Upsample::scale(1.0 / 3.0), &[0]);
    for (n, every) in [(9, 3), (30, 10), (3000, 3), (700, 7), (121, 11)] {
        let line = Tensor::arange(0.0, n as f64, 1.0, &Device::cpu()).reshape([1, 1, n as isize]);
        let y = line.upsample_nearest(Upsample::scale(1.0 / every as f64));
        let want: Vec<f32> = (0..n / every).map(|i| (i * every) as f32).collect();
        assert_eq!(y.to_vec::<f32>().unwrap(), want, "{n} by {every}");
    }
    picks(Upsample::size(1), &[0]);
    picks(Upsample::size(5), &[0, 0, 1, 1, 2]);
    picks(Upsample::size(3), &[0, 1, 2]);
    derivatives("upsample_nearest", &[&[1, 1, 2, 3]], |x| x[0].upsample_nearest(Upsample::size([4, 5])));
    let wrong = |x: &Tensor, to: Upsample| message(&x.upsample_nearest(to));
    assert_eq!(
        wrong(&x, Upsample::size([2, 2])),
        "upsample_nearest: size [2, 2] is neither one number nor one for each of 1 axes"
    );
    assert_eq!(wrong(&x, Upsample::size(0)), "upsample_nearest: size 0 is less than 1");
    for scale in [0.0, -1.0, 0.1, f64::NAN, f64::INFINITY] {
        let want = format!("upsample_nearest: [1, 2, 3] scaled by {scale} has no elements or too many");
        assert_eq!(wrong(&x, Upsample::scale(scale)), want);
    }
    assert!(wrong(&random(&[2, 3]), Upsample::size(2)).starts_with("upsample_nearest: takes [n, c, spatial…]"));
}

#[test]
fn upsample_bilinear() {
    // A plane stays a plane, within the image.
    let x = Tensor::arange(0.0, 4.0, 1.0, &Device::cpu()).reshape([1, 1, 1, 4]) + floats(&[0.0, 10.0], &[2, 1]);
    let y = x.upsample_bilinear(Upsample::size([3, 7]), true);
    let want = Tensor::arange(0.0, 3.5, 0.5, &Device::cpu()) + floats(&[0.0, 5.0, 10.0], &[3, 1]);
    assert_close("corners", &exact(&y), &exact(&want), 1e-6);
    let y = x.upsample_bilinear(Upsample::scale(0.5), false);
    assert_close("half", &exact(&y), &[5.5, 7.5], 1e-6);
    for align in [false, true] {
        let same = x.upsample_bilinear(Upsample::scale(1.0), align);
        assert_close("same", &exact(&same), &exact(&x), 0.0);
        derivatives("upsample_bilinear", &[&[1, 1, 2, 3]], |x| x[0].upsample_bilinear(Upsample::size([3, 2]), align));
    }
    assert_eq!(message(&x.upsample_bilinear(Upsample::size(-2), true)), "upsample_bilinear: size -2 is less than 1");
}

// ---- activations

#[test]
fn activations_have_derivatives() {
    derivatives("relu", &[&[7]], |x| x[0].relu());
    derivatives("leaky_relu", &[&[7]], |x| x[0].leaky_relu(0.1));
    derivatives("elu", &[&[7]], |x| x[0].elu(0.7));
    derivatives("gelu", &[&[7]], |x| x[0].gelu());
    derivatives("gelu_tanh", &[&[7]], |x| x[0].gelu_tanh());
    derivatives("silu", &[&[7]], |x| x[0].silu());
    derivatives("mish", &[&[7]], |x| x[0].mish());
    derivatives("softplus", &[&[7]], |x| x[0].softplus());
    derivatives("sigmoid", &[&[7]], |x| x[0].sigmoid());
    derivatives("hardswish", &[&[7]], |x| x[0].hardswish());
    derivatives("clamp", &[&[7], &[], &[1]], |x| x[0].clamp(&x[1] - 1.5, &x[2] + 1.5));
    derivatives("glu", &[&[3, 4]], |x| x[0].glu(1));
    derivatives("softmax", &[&[3, 4]], |x| x[0].softmax(-1));
    derivatives("softmax over rows", &[&[3, 4]], |x| x[0].softmax(0));
    derivatives("log_softmax", &[&[3, 4]], |x| x[0].log_softmax(-1));
}

#[test]
fn activations_stay_finite() {
    let x = floats(&[-1000.0, -100.0, -30.0, -1e-30, 0.0, 1e-30, 30.0, 100.0, 1000.0, 3.0, -3.0, 1.0], &[12]);
    finite("relu", &x, |x| x.relu());
    finite("leaky_relu", &x, |x| x.leaky_relu(0.1));
    finite("elu", &x, |x| x.elu(1.0));
    finite("gelu", &x, |x| x.gelu());
    finite("gelu_tanh", &x, |x| x.gelu_tanh());
    finite("silu", &x, |x| x.silu());
    finite("mish", &x, |x| x.mish());
    finite("softplus", &x, |x| x.softplus());
    finite("sigmoid", &x, |x| x.sigmoid());
    finite("hardswish", &x, |x| x.hardswish());
    finite("clamp", &x, |x| x.clamp(-1.0, 1.0));
    finite("glu", &x, |x| x.glu(0));
    finite("softmax", &x, |x| x.softmax(0));
    finite("log_softmax", &x, |x| x.log_softmax(0));
}

#[test]
fn activations_at_zero_have_the_analytic_derivative() {
    let x = floats(&[0.0], &[1]).tracked();
    let slope = |y: Tensor| exact(&y.sum(..).grad(&[&x])[0])[0];
    let curve = |y: Tensor| exact(&y.sum(..).grad(&[&x])[0].sum(..).grad(&[&x])[0])[0];
    assert_eq!((slope(x.sigmoid()), curve(x.sigmoid())), (0.25, 0.0));
    assert_eq!((slope(x.softplus()), curve(x.softplus())), (0.5, 0.25));
    assert_eq!(slope(x.elu(0.5)), 0.5);
    assert_eq!(slope(x.relu()), 0.0);
}

#[test]
fn activations_of_other_dtypes_and_shapes() {
    for x in halves(&random(&[3, 4])) {
        let all = [x.relu(), x.elu(1.0), x.gelu(), x.gelu_tanh(), x.silu(), x.mish(), x.softplus(), x.sigmoid()];
        let more = [x.hardswish(), x.softmax(0), x.log_softmax(1), x.glu(1), x.leaky_relu(0.1), x.clamp(0.0, 1.0)];
        for y in all.iter().chain(&more) {
            assert_eq!(y.dtype(), x.dtype());
            y.realize().unwrap();
        }
    }
    let x = ints(&[-1, 0, 3], &[3]);
    assert_eq!(x.relu().to_vec::<i32>().unwrap(), [0, 0, 3]);
    assert_eq!(x.clamp(0, 2).to_vec::<i32>().unwrap(), [0, 0, 2]);
    assert_eq!(x.sigmoid().dtype(), DType::F32);
    assert_eq!(x.softmax(0).dtype(), DType::F32);
    assert_eq!(random(&[3, 0]).softmax(1).dims(), [3, 0]);
    assert_eq!(random(&[0, 3]).log_softmax(1).to_vec::<f32>().unwrap(), [0f32; 0]);
    assert_eq!(message(&random(&[2, 3]).softmax(2)), "softmax: axis 2 is out of range for [2, 3]");
    assert_eq!(message(&random(&[]).log_softmax(0)), "log_softmax: axis 0 is out of range for []");
    assert_eq!(message(&random(&[2, 3]).glu(-1)), "glu: axis 1 of [2, 3] has no two halves");
    let none = floats(&[f64::NEG_INFINITY; 2], &[2]).softmax(0).to_vec::<f32>().unwrap();
    assert!(none.iter().all(|v| v.is_nan()));
}

#[test]
fn activations_of_unsigned_numbers() {
    let words: [(&str, fn(&Tensor) -> Tensor); 10] = [
        ("leaky_relu", |x| x.leaky_relu(0.1)),
        ("elu", |x| x.elu(1.0)),
        ("gelu", |x| x.gelu()),
        ("gelu_tanh", |x| x.gelu_tanh()),
        ("silu", |x| x.silu()),
        ("mish", |x| x.mish()),
        ("softplus", |x| x.softplus()),
        ("sigmoid", |x| x.sigmoid()),
        ("hardswish", |x| x.hardswish()),
        ("glu", |x| x.glu(0)),
    ];
    let bytes = Tensor::new([0u8, 1, 200, 255], &Device::cpu());
    for (word, f) in words {
        let want = f(&bytes.cast(DType::F32)).to_vec::<f32>().unwrap();
        for dtype in [DType::U8, DType::U32, DType::I32] {
            assert_eq!(f(&bytes.cast(dtype)).to_vec::<f32>().unwrap(), want, "{word} of {dtype}");
        }
    }
}

// ---- norms

#[test]
fn norms_have_derivatives() {
    derivatives("layer_norm", &[&[2, 3, 4], &[4], &[4]], |x| x[0].layer_norm(-1, Some(&x[1]), Some(&x[2]), 1e-3));
    derivatives("layer_norm over two axes", &[&[2, 3, 2], &[3, 2]], |x| {
        x[0].layer_norm([1, 2], Some(&x[1]), None, 1e-3)
    });
    derivatives("rms_norm", &[&[2, 5], &[5]], |x| x[0].rms_norm(-1, Some(&x[1]), 1e-3));
    derivatives("group_norm", &[&[2, 4, 2], &[4], &[4]], |x| x[0].group_norm(2, Some(&x[1]), Some(&x[2]), 1e-3));
    derivatives("instance_norm", &[&[2, 2, 3], &[2]], |x| x[0].instance_norm(Some(&x[1]), None, 1e-3));
    derivatives("batch_norm", &[&[3, 2, 2], &[2], &[2]], |x| x[0].batch_norm(Some(&x[1]), Some(&x[2]), 1e-3).0);
    let var = floats(&[0.5, 2.0], &[2]);
    derivatives("batch_norm_with", &[&[3, 2, 2], &[2], &[2]], |x| {
        x[0].batch_norm_with(&x[1], &var, None, Some(&x[2]), 1e-3)
    });
}

#[test]
fn norms_are_standardized() {
    let x = random(&[3, 4, 5]) * 7.0 + 3.0;
    let standard = |y: &Tensor, axes: &[isize]| {
        assert_close("mean", &exact(&y.mean(axes)), &vec![0.0; exact(&y.mean(axes)).len()], 1e-6);
        let var = exact(&y.var_with(axes, 0.0));
        assert_close("var", &var, &vec![1.0; var.len()], 1e-6);
    };
    standard(&x.layer_norm(-1, None, None, 1e-9), &[2]);
    // Any axes may be taken together.
    standard(&x.layer_norm([0, 2], None, None, 1e-9), &[0, 2]);
    standard(&x.group_norm(4, None, None, 1e-9), &[2]);
    standard(&x.instance_norm(None, None, 1e-9), &[2]);
    let (y, mean, var) = x.batch_norm(None, None, 1e-9);
    standard(&y, &[0, 2]);
    assert_close("running mean", &exact(&mean), &exact(&x.mean([0, 2])), 1e-6);
    assert_close("running var", &exact(&var), &exact(&x.var([0, 2])), 1e-5);
    let again = x.batch_norm_with(&mean, &x.var_with([0, 2], 0.0), None, None, 1e-9);
    assert_close("the same statistics", &exact(&again), &exact(&y), 1e-5);
    // Halves are computed wide: squares of 3000 are no f16.
    let far = floats(&[3000.0, -3000.0], &[2]).cast(DType::F16);
    assert_eq!(exact(&far.layer_norm(0, None, None, 1e-5)), [1.0, -1.0]);
    assert_eq!(exact(&far.rms_norm(0, None, 1e-5)), [1.0, -1.0]);
    assert_eq!(far.layer_norm(0, None, None, 1e-5).dtype(), DType::F16);
    assert_eq!(random(&[0, 3]).layer_norm(-1, None, None, 1e-5).dims(), [0, 3]);
}

#[test]
fn norms_of_wrong_input() {
    let (x, w) = (random(&[2, 4, 3]), random(&[5]));
    assert_eq!(
        message(&x.layer_norm(-1, Some(&w), None, 1e-5)),
        "layer_norm: weight and bias of [2, 4, 3] over axes [2] take [3], got [5]"
    );
    assert_eq!(message(&x.layer_norm(3, None, None, 1e-5)), "layer_norm: axis 3 is out of range for [2, 4, 3]");
    assert_eq!(
        message(&x.rms_norm([1, 2], Some(&w), 1e-5)),
        "rms_norm: weight and bias of [2, 4, 3] over axes [1, 2] take [4, 3], got [5]"
    );
    assert_eq!(
        message(&x.group_norm(3, None, None, 1e-5)),
        "group_norm: the channels of [2, 4, 3] do not make 3 groups"
    );
    assert_eq!(
        message(&x.group_norm(0, None, None, 1e-5)),
        "group_norm: the channels of [2, 4, 3] do not make 0 groups"
    );
    assert_eq!(message(&w.group_norm(1, None, None, 1e-5)), "group_norm: takes at least 2 dimensions, got [5]");
    assert_eq!(message(&w.instance_norm(None, None, 1e-5)), "instance_norm: takes at least 3 dimensions, got [5]");
    let only = "instance_norm: a channel of [2, 4, 1, 1] has no two values to take a variance of";
    assert_eq!(message(&random(&[2, 4, 1, 1]).instance_norm(None, None, 1e-5)), only);
    let (y, mean, var) = random(&[1, 4]).batch_norm(None, None, 1e-5);
    for y in [y, mean, var] {
        assert_eq!(message(&y), "batch_norm: a channel of [1, 4] has no two values to take a variance of");
    }
    assert_eq!(
        message(&x.batch_norm_with(&w, &w, None, None, 1e-5)),
        "batch_norm_with: weight and bias of [2, 4, 3] over axes [1] take [4], got [5] (mean, var)"
    );
}

// ---- attention

#[test]
fn attention() {
    let (q, k, v) = (random(&[2, 4, 3, 5]), random(&[2, 4, 6, 5]), random(&[2, 4, 6, 2]));
    let plain =
        |q: &Tensor, k: &Tensor, v: &Tensor| (q.matmul(&k.transpose(-1, -2)) / 5f64.sqrt()).softmax(-1).matmul(v);
    let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::default());
    assert_close("plain", &exact(&y), &exact(&plain(&q, &k, &v)), 1e-6);
    // Grouped heads are repeated heads, for one group as for several.
    for heads in [1, 2] {
        let (k, v) = (k.narrow(1, 0, heads), v.narrow(1, 0, heads));
        let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().causal());
        let spread =
            |x: &Tensor| x.unsqueeze(2).expand([2, heads, 4 / heads, 6, x.dim(-1)]).reshape([2, 4, 6, x.dim(-1)]);
        let want = q.scaled_dot_product_attention(&spread(&k), &spread(&v), AttentionOptions::default().causal());
        assert_eq!(y.dims(), [2, 4, 3, 2]);
        assert_close("grouped", &exact(&y), &exact(&want), 1e-12);
    }
    // A row that sees nothing is zero, and so are its derivatives.
    let mask = Tensor::new([[true, false, true], [false, false, false]], &Device::cpu());
    let (q, k, v) = (random(&[2, 4]).tracked(), random(&[3, 4]).tracked(), random(&[3, 2]).tracked());
    let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().mask(&mask));
    assert_eq!(exact(&y)[2..], [0.0, 0.0]);
    let numbers = mask.where_(0.0, f64::NEG_INFINITY);
    let again = q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().mask(&numbers));
    assert_close("a mask of numbers", &exact(&again), &exact(&y), 0.0);
    for dx in y.sum(..).grad(&[&q, &k, &v]).iter().chain(&again.sum(..).grad(&[&q, &k, &v])) {
        assert!(exact(dx).iter().all(|v| v.is_finite()));
    }
    assert_eq!(
        random(&[2, 4])
            .scaled_dot_product_attention(&random(&[0, 4]), &random(&[0, 3]), AttentionOptions::default())
            .to_vec::<f32>()
            .unwrap(),
        [0.0; 6]
    );
    // Dropped weights: all of them, none of them.
    let key = Tensor::key(3, &Device::cpu());
    let dropped = |p| q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().dropout(p, &key));
    assert_close("p = 1", &exact(&dropped(1.0)), &[0.0; 4], 0.0);
    assert_ne!(exact(&dropped(0.5)), exact(&dropped(0.0)));
    for x in halves(&random(&[2, 4])) {
        assert_eq!(x.scaled_dot_product_attention(&x, &x, AttentionOptions::default()).dtype(), x.dtype());
    }
    derivatives("attention", &[&[2, 3], &[3, 3], &[3, 2]], |x| {
        x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::default().scale(0.5))
    });
    derivatives("attention with everything", &[&[1, 2, 2, 3], &[1, 1, 3, 3], &[1, 1, 3, 2], &[3]], |x| {
        let options = AttentionOptions::default().causal().mask(&x[3]);
        x[0].scaled_dot_product_attention(&x[1], &x[2], options)
    });
}

#[test]
fn attention_of_wrong_input() {
    let wrong = |q: &[usize], k: &[usize], v: &[usize], options: AttentionOptions| {
        message(&random(q).scaled_dot_product_attention(&random(k), &random(v), options))
    };
    let word = "scaled_dot_product_attention";
    for (q, k, v) in [
        (&[2, 3][..], &[2, 4][..], &[2, 3][..]),
        (&[2, 3], &[2, 3], &[3, 3]),
        (&[3], &[2, 3], &[2, 3]),
        (&[3, 2, 3], &[2, 2, 3], &[2, 2, 3]),
    ] {
        let want = format!("{word}: queries {q:?}, keys {k:?} and values {v:?} do not fit");
        assert_eq!(wrong(q, k, v, AttentionOptions::default()), want);
    }
    let options = AttentionOptions::default().mask(&random(&[5]));
    assert_eq!(
        wrong(&[2, 3], &[2, 3], &[2, 3], options),
        format!("{word}: the mask [5] does not broadcast to the scores [2, 2]")
    );
    let options = AttentionOptions::default().dropout(2.0, &Tensor::key(0, &Device::cpu()));
    assert_eq!(wrong(&[2, 3], &[2, 3], &[2, 3], options), format!("{word}: p is 2, but a probability is in 0..=1"));
}

// ---- losses

#[test]
fn losses_have_derivatives() {
    let two: &[&[usize]] = &[&[3, 2], &[3, 2]];
    for reduce in [Reduce::Mean, Reduce::Sum, Reduce::None, Reduce::BatchMean] {
        derivatives("mse_loss", two, |x| x[0].mse_loss(&x[1], reduce));
    }
    derivatives("l1_loss", two, |x| x[0].l1_loss(&x[1], Reduce::Mean));
    derivatives("huber_loss", two, |x| x[0].huber_loss(&x[1], 0.7, Reduce::Mean));
    derivatives("smooth_l1_loss", two, |x| x[0].smooth_l1_loss(&x[1], 0.7, Reduce::Mean));
    derivatives("kl_div", two, |x| x[0].kl_div(&x[1].exp(), false, Reduce::Mean));
    derivatives("kl_div of logarithms", two, |x| x[0].kl_div(&x[1], true, Reduce::Mean));
    derivatives("binary_cross_entropy", two, |x| x[0].sigmoid().binary_cross_entropy(&x[1].sigmoid(), Reduce::Mean));
    derivatives("binary_cross_entropy_with_logits", &[&[3, 2], &[3, 2], &[2]], |x| {
        x[0].binary_cross_entropy_with_logits(&x[1].sigmoid(), Some(&x[2].exp()), Reduce::Mean)
    });
    derivatives("cosine_similarity", &[&[2, 3, 2], &[3, 1]], |x| x[0].cosine_similarity(&x[1], 1, 1e-8));
    let sign = floats(&[1.0, -1.0, 1.0], &[3]);
    derivatives("cosine_embedding_loss", two, |x| x[0].cosine_embedding_loss(&x[1], &sign, -0.9, Reduce::Mean));
    let ids = ints(&[1, 3, 2, 0], &[2, 2]);
    derivatives("cross_entropy", &[&[2, 4, 2], &[4]], |x| {
        let options = ClassOptions::default().label_smoothing(0.2).weight(&x[1].exp()).ignore_index(3);
        x[0].cross_entropy_with(&ids, options)
    });
    derivatives("cross_entropy of probabilities", &[&[2, 3], &[2, 3]], |x| x[0].cross_entropy(&x[1].softmax(1)));
    derivatives("nll_loss", &[&[2, 4, 2]], |x| x[0].nll_loss(&ids, ClassOptions::default()));
}

#[test]
fn losses_at_the_edges() {
    let device = Device::cpu();
    // Probabilities of 0 and 1, right and wrong.
    let p = floats(&[0.0, 1.0, 0.0, 1.0], &[4]);
    let t = floats(&[0.0, 1.0, 1.0, 0.0], &[4]);
    assert_eq!(exact(&p.binary_cross_entropy(&t, Reduce::None)), [0.0, 0.0, 100.0, 100.0]);
    finite("binary_cross_entropy", &p, |p| p.binary_cross_entropy(&t, Reduce::None));
    finite("binary_cross_entropy_with_logits", &(&p * 2000.0 - 1000.0), |x| {
        x.binary_cross_entropy_with_logits(&t, None, Reduce::None)
    });
    finite("kl_div", &p, |p| floats(&[-1.0; 4], &[4]).kl_div(p, false, Reduce::Sum));
    finite("cosine_similarity", &Tensor::zeros([2, 3], &device), |x| x.cosine_similarity(&random(&[3]), 1, 1e-8));
    // Every row ignored: nothing of nothing, as PyTorch.
    let ignoring = ClassOptions::default().ignore_index(-100);
    let none = random(&[2, 3]).cross_entropy_with(&ints(&[-100, -100], &[2]), ignoring).item::<f32>().unwrap();
    assert!(none.is_nan());
    let logits = random(&[3]);
    let one = logits.cross_entropy(&ints(&[2], &[]));
    assert_close("a single row", &exact(&one), &[-exact(&logits.log_softmax(0))[2]], 1e-6);
    let of_a_batch = logits.cross_entropy_with(&ints(&[2], &[]), ClassOptions::default().reduce(Reduce::BatchMean));
    assert_eq!(exact(&of_a_batch), exact(&one));
    // PyTorch's numbers: short rows, a row of zeros, and a target that is neither 1 nor -1.
    let x = floats(&[1e-5, 0.0, 1e-3, 1e-3, 0.0, 0.0, 1.0, 2.0], &[4, 2]);
    let z = floats(&[1e-5, 0.0, 1e-7, 0.0, 1.0, 1.0, 2.0, 1.0], &[4, 2]);
    let y = x.cosine_embedding_loss(&z, &floats(&[1.0, 1.0, 1.0, 2.0], &[4]), 0.0, Reduce::None);
    assert_close("cosine_embedding_loss", &exact(&y), &[0.009_900_987, 0.929_640_2, 1.0, 0.0], 1e-6);
    for x in halves(&random(&[2, 3])) {
        assert_eq!(x.cross_entropy(&ints(&[0, 1], &[2])).dtype(), x.dtype());
        assert_eq!(x.mse_loss(&x, Reduce::Mean).dtype(), x.dtype());
    }
    // Ids of any integer dtype.
    let ids = Tensor::new([0u8, 2], &device);
    assert!(random(&[2, 3]).cross_entropy(&ids).item::<f32>().unwrap().is_finite());
}

#[test]
fn a_class_id_out_of_range_is_an_error() {
    for bad in [3, -1, -100] {
        let error = random(&[2, 3]).cross_entropy(&ints(&[0, bad], &[2])).item::<f32>().unwrap_err();
        assert_eq!((error.kind(), error.op()), (ErrorKind::Index, "cross_entropy"));
        assert!(error.location().unwrap().file().ends_with("ops_nn.rs"), "{error}");
    }
}

#[test]
fn losses_of_wrong_input() {
    let (x, z) = (random(&[2, 3]), random(&[2, 1]));
    let mean = Reduce::Mean;
    for (word, y) in [
        ("mse_loss", x.mse_loss(&z, mean)),
        ("l1_loss", x.l1_loss(&z, mean)),
        ("huber_loss", x.huber_loss(&z, 1.0, mean)),
        ("smooth_l1_loss", x.smooth_l1_loss(&z, 1.0, mean)),
        ("binary_cross_entropy", x.binary_cross_entropy(&z, mean)),
        ("binary_cross_entropy_with_logits", x.binary_cross_entropy_with_logits(&z, None, mean)),
        ("kl_div", x.kl_div(&z, false, mean)),
    ] {
        assert_eq!(message(&y), format!("{word}: shapes differ: [2, 3] and [2, 1]"));
    }
    assert_eq!(message(&x.huber_loss(&x, 0.0, mean)), "huber_loss: delta 0 must be positive");
    assert_eq!(message(&x.smooth_l1_loss(&x, f64::NAN, mean)), "smooth_l1_loss: beta NaN must be positive");
    assert_eq!(
        message(&x.binary_cross_entropy_with_logits(&x, Some(&random(&[2])), mean)),
        "binary_cross_entropy_with_logits: pos_weight [2] does not broadcast to [2, 3]"
    );
    let (ids, wrong) = (ints(&[0, 1], &[2]), ints(&[0, 1, 2], &[3]));
    let default = ClassOptions::default;
    assert_eq!(message(&x.cross_entropy(&wrong)), "cross_entropy: [2, 3] with a i32 target [3], which takes [2]");
    assert_eq!(message(&x.cross_entropy(&z)), "cross_entropy: [2, 3] with a f32 target [2, 1], which takes [2, 3]");
    assert_eq!(
        message(&x.cross_entropy_with(&ids, default().weight(&random(&[2])))),
        "cross_entropy: 3 classes take a weight [3], got [2]"
    );
    assert_eq!(
        message(&x.cross_entropy_with(&ids, default().label_smoothing(1.5))),
        "cross_entropy: label_smoothing 1.5 is not in 0..=1"
    );
    assert_eq!(
        message(&x.cross_entropy_with(&x, default().ignore_index(1))),
        "cross_entropy: ignore_index is for class ids, got f32"
    );
    assert_eq!(message(&random(&[]).cross_entropy(&ids)), "cross_entropy: takes [n, classes, …] or [classes], got []");
    assert_eq!(message(&x.nll_loss(&x, default())), "nll_loss: class ids are integers, got f32");
    assert_eq!(
        message(&x.nll_loss(&ids, default().label_smoothing(0.1))),
        "nll_loss: label_smoothing is for cross_entropy"
    );
    assert_eq!(message(&x.cosine_similarity(&x, 2, 1e-8)), "cosine_similarity: axis 2 is out of range for [2, 3]");
    assert_eq!(
        message(&x.cosine_embedding_loss(&x, &random(&[3]), 0.0, mean)),
        "cosine_embedding_loss: rows of [2, 3] with targets [3]"
    );
}

// ---- dropout

#[test]
fn dropout() {
    let key = Tensor::key(7, &Device::cpu());
    let x = Tensor::ones([4, 500], &Device::cpu()).tracked();
    for p in [0.1, 0.5, 0.9] {
        let y = x.dropout(p, &key);
        let values = exact(&y);
        let kept = values.iter().filter(|v| **v != 0.0).count() as f64 / 2000.0;
        assert!((kept - (1.0 - p)).abs() < 0.04, "{kept} kept at p = {p}");
        assert!(values.iter().all(|&v| v == 0.0 || (v - 1.0 / (1.0 - p)).abs() < 1e-6));
        // The gradient is the mask.
        assert_eq!(exact(&y.sum(..).grad(&[&x])[0]), values);
        assert_eq!(exact(&x.dropout(p, &key)), values);
    }
    assert_ne!(exact(&x.dropout(0.5, &key)), exact(&x.dropout(0.5, &Tensor::key(8, &Device::cpu()))));
    assert_eq!(exact(&x.dropout(0.0, &key)), exact(&x));
    let none = x.dropout(1.0, &key);
    assert_close("p = 1", &exact(&none), &[0.0; 2000], 0.0);
    assert_close("p = 1", &exact(&none.sum(..).grad(&[&x])[0]), &[0.0; 2000], 0.0);
    assert_eq!(message(&x.dropout(-0.5, &key)), "dropout: p is -0.5, but a probability is in 0..=1");
    assert_eq!(message(&x.dropout(f64::NAN, &key)), "dropout: p is NaN, but a probability is in 0..=1");
    assert_eq!(message(&x.dropout(0.5, &x)), "dropout: a key is u32 [2], got f32 [4, 500]");
}
