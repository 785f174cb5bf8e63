//! Products, pools, activations, norms and losses, each with arguments drawn at random.

use wgrad::prelude::*;

use super::arguments::Args;
use super::words::Word;

const REDUCE: [Reduce; 4] = [Reduce::Mean, Reduce::Sum, Reduce::BatchMean, Reduce::None];

fn conv_options(a: &mut Args, spatial: usize, groups: usize, transposed: bool) -> ConvOptions {
    let mut options = ConvOptions::default().groups(if a.chance(5) { a.size(4) } else { groups });
    if a.chance(40) {
        options = options.stride(a.sizes(spatial, 1));
    }
    if a.chance(40) {
        options = options.padding(a.sizes(spatial, 0));
    } else if a.chance(20) {
        options = options.padding_same();
        a.say("same");
    }
    if a.chance(30) {
        options = options.dilation(a.sizes(spatial, 1));
    }
    if a.chance(if transposed { 20 } else { 3 }) {
        options = options.output_padding(a.sizes(spatial, 0));
    }
    a.say(groups);
    options
}

/// Input, weight and bias that mostly fit.
fn conv_operands(a: &mut Args, spatial: usize, transposed: bool) -> (Tensor, Tensor, Option<Tensor>, usize) {
    let (g, i, o) = (1 + a.rng.below(2), 1 + a.rng.below(2), 1 + a.rng.below(2));
    let mut x = vec![a.rng.below(3), g * i];
    let mut w = if transposed { vec![g * i, o] } else { vec![g * o, i] };
    for _ in 0..spatial {
        x.push(a.rng.below(4) + usize::from(!a.chance(20)) * 2);
        w.push(a.rng.below(3) + usize::from(!a.chance(5)));
    }
    (a.fit(&x), a.fit(&w), a.maybe(&[g * o]), g)
}

macro_rules! convs {
    ($($word:ident $spatial:literal $transposed:literal),*) => {
        [$((stringify!($word), |a| {
            let (x, w, b, groups) = conv_operands(a, $spatial, $transposed);
            let options = conv_options(a, $spatial, groups, $transposed);
            vec![x.$word(&w, b.as_ref(), options)]
        })),*]
    };
}

const CONVS: [Word; 6] = convs!(
    conv1d 1 false, conv2d 2 false, conv3d 3 false,
    conv_transpose1d 1 true, conv_transpose2d 2 true, conv_transpose3d 3 true
);

pub const PRODUCT: &[Word] = &[
    ("matmul", |a| {
        let (b, m, k, n) = (a.rng.below(3), a.rng.below(4), a.rng.below(4), a.rng.below(4));
        let left = [vec![k], vec![m, k], vec![b, m, k], vec![1, m, k], vec![2, b, m, k]];
        let (i, j) = (a.rng.below(5), a.rng.below(5));
        let x = a.fit(&left[i]);
        let right = [vec![k], vec![k, n], vec![b, k, n], vec![1, k, n], vec![2, 1, k, n]];
        vec![x.matmul(&a.fit(&right[j]))]
    }),
    ("matmul", |a| vec![a.x().matmul(&a.x())]),
    ("outer", |a| {
        let (m, n) = (a.rng.below(4), a.rng.below(4));
        vec![a.fit(&[m]).outer(&a.fit(&[n]))]
    }),
    ("einsum", |a| {
        let (equation, operands) = a.equation();
        vec![Tensor::einsum(&equation, &operands.iter().collect::<Vec<_>>())]
    }),
    ("einsum", |a| {
        let operands = a.xs();
        let equation = a.any(&["", "->", "i", "ij,jk", "...", "ii", "abcdefghi->", "...a,...a->...", ",", "i->i->i"]);
        vec![Tensor::einsum(equation, &operands.iter().collect::<Vec<_>>())]
    }),
    CONVS[0],
    CONVS[1],
    CONVS[2],
    CONVS[3],
    CONVS[4],
    CONVS[5],
    ("scaled_dot_product_attention", |a| {
        let (b, kv, group) = (1 + a.rng.below(2), 1 + a.rng.below(2), 1 + a.rng.below(2));
        let (l, s, e, f) = (a.rng.below(4), a.rng.below(4), a.rng.below(4), a.rng.below(3));
        let heads = a.chance(60);
        let with = |h: usize, m: usize, n: usize| if heads { vec![b, h, m, n] } else { vec![m, n] };
        let (q, k, v) = (a.fit(&with(kv * group, l, e)), a.fit(&with(kv, s, e)), a.fit(&with(kv, s, f)));
        let mut options = AttentionOptions::default();
        if a.chance(30) {
            options = options.causal();
            a.say("causal");
        }
        if a.chance(30) {
            let dtype = a.one(&[DType::Bool, DType::F32]);
            options = options.mask(&a.fit_as(&[l, s], dtype));
        }
        if a.chance(20) {
            options = options.scale(a.float());
        }
        if a.chance(20) {
            options = options.dropout(a.part(), &a.key());
        }
        vec![q.scaled_dot_product_attention(&k, &v, options)]
    }),
];

fn image(a: &mut Args, spatial: usize) -> Tensor {
    let mut dims = vec![a.rng.below(3), 1 + a.rng.below(2)];
    dims.extend((0..spatial).map(|_| a.rng.below(7)));
    a.fit(&dims)
}

fn pool_options(a: &mut Args, spatial: usize) -> PoolOptions {
    let mut options = PoolOptions::default();
    if a.chance(40) {
        options = options.stride(a.sizes(spatial, 1));
    }
    if a.chance(30) {
        options = options.padding(a.sizes(spatial, 0));
    }
    if a.chance(30) {
        options = options.dilation(a.sizes(spatial, 1));
    }
    options.count_include_pad(a.flag())
}

macro_rules! pools {
    ($($word:ident $spatial:literal),*; $($adaptive:ident $n:literal),*) => {
        &[$((stringify!($word), |a| {
            let x = image(a, $spatial);
            let kernel = a.sizes($spatial, 1);
            let options = pool_options(a, $spatial);
            vec![x.$word(kernel, options)]
        })),*, $((stringify!($adaptive), |a| {
            let x = image(a, $n);
            vec![x.$adaptive(a.sizes($n, 0))]
        })),*,
        ("upsample_nearest", |a| { let (x, to) = upsampled(a); vec![x.upsample_nearest(to)] }),
        ("upsample_bilinear", |a| { let (x, to) = upsampled(a); vec![x.upsample_bilinear(to, a.flag())] }),
        ]
    };
}

fn upsampled(a: &mut Args) -> (Tensor, Upsample) {
    let spatial = a.rng.below(4);
    let x = image(a, spatial);
    let to = match a.chance(50) {
        true => Upsample::size(a.sizes(spatial, 1)),
        false => {
            let scale = a.float();
            a.wild |= scale.abs() > 4.0;
            Upsample::scale(scale)
        }
    };
    (x, to)
}

pub const POOL: &[Word] = pools! {
    max_pool1d 1, max_pool2d 2, avg_pool1d 1, avg_pool2d 2;
    adaptive_avg_pool1d 1, adaptive_avg_pool2d 2, adaptive_max_pool1d 1, adaptive_max_pool2d 2
};

pub const ACTIVATE: &[Word] = &[
    ("clamp", |a| {
        let x = a.x();
        vec![match a.rng.below(3) {
            0 => x.clamp(a.number(), a.number()),
            1 => x.clamp(a.beside(&x), a.number()),
            _ => x.clamp(a.beside(&x), a.beside(&x)),
        }]
    }),
    ("leaky_relu", |a| vec![a.x().leaky_relu(a.float())]),
    ("elu", |a| vec![a.x().elu(a.float())]),
];

pub const NORMALIZE: &[Word] = &[
    ("layer_norm", |a| {
        let x = a.x();
        let n = a.rng.below(x.rank() + 1);
        let axes: Vec<isize> = (n..x.rank()).map(|k| k as isize).collect();
        a.say(&axes);
        let own = &x.dims()[n..];
        vec![x.layer_norm(axes, a.maybe(own).as_ref(), a.maybe(own).as_ref(), a.float())]
    }),
    ("layer_norm", |a| {
        let x = a.x();
        vec![x.layer_norm(a.axes(x.rank()), None, None, a.float())]
    }),
    ("rms_norm", |a| {
        let x = a.x();
        vec![x.rms_norm(a.axis(x.rank()), a.maybe(&[x.dim(-1)]).as_ref(), a.float())]
    }),
    ("group_norm", |a| {
        let x = a.x();
        let groups = if a.chance(50) { a.size(5) } else { 1 };
        let c = [x.dim(1)];
        vec![x.group_norm(groups, a.maybe(&c).as_ref(), a.maybe(&c).as_ref(), a.float())]
    }),
    ("instance_norm", |a| {
        let x = a.x();
        let c = [x.dim(1)];
        vec![x.instance_norm(a.maybe(&c).as_ref(), a.maybe(&c).as_ref(), a.float())]
    }),
    ("batch_norm", |a| {
        let x = a.x();
        let c = [x.dim(1)];
        let (y, mean, var) = x.batch_norm(a.maybe(&c).as_ref(), a.maybe(&c).as_ref(), a.float());
        vec![y, mean, var]
    }),
    ("batch_norm_with", |a| {
        let x = a.x();
        let c = [x.dim(1)];
        let (mean, var) = (a.fit(&c), a.fit(&c));
        vec![x.batch_norm_with(&mean, &var, a.maybe(&c).as_ref(), a.maybe(&c).as_ref(), a.float())]
    }),
];

/// A prediction and a target.
fn both(a: &mut Args) -> (Tensor, Tensor) {
    let x = a.x();
    let target = if a.chance(85) { a.fit(x.dims()) } else { a.x() };
    (x, target)
}

/// Logits, a target and options that mostly fit.
fn classes(a: &mut Args) -> (Tensor, Tensor, ClassOptions) {
    let x = if a.chance(70) { a.fit(&[3, 4]) } else { a.x() };
    let axis = usize::from(x.rank() > 1);
    let rows: Vec<usize> = x.dims().iter().enumerate().filter(|&(k, _)| k != axis).map(|(_, &n)| n).collect();
    let n = x.dim(axis as isize);
    let target = if a.chance(70) { a.indices(&rows, n) } else { a.fit(x.dims()) };
    let mut options = ClassOptions::default().reduce(a.any(&REDUCE));
    if a.chance(30) {
        options = options.weight(&a.fit(&[n]));
    }
    if a.chance(30) {
        options = options.ignore_index(a.any(&[0, 1, -100, i32::MIN]));
    }
    if a.chance(30) {
        options = options.label_smoothing(a.part());
    }
    (x, target, options)
}

pub const LOSS: &[Word] = &[
    ("mse_loss", |a| {
        let (x, target) = both(a);
        vec![x.mse_loss(&target, a.any(&REDUCE))]
    }),
    ("l1_loss", |a| {
        let (x, target) = both(a);
        vec![x.l1_loss(&target, a.any(&REDUCE))]
    }),
    ("huber_loss", |a| {
        let (x, target) = both(a);
        vec![x.huber_loss(&target, a.float(), a.any(&REDUCE))]
    }),
    ("smooth_l1_loss", |a| {
        let (x, target) = both(a);
        vec![x.smooth_l1_loss(&target, a.float(), a.any(&REDUCE))]
    }),
    ("cross_entropy", |a| {
        let (x, target, _) = classes(a);
        a.given.truncate(2);
        vec![x.cross_entropy(&target)]
    }),
    ("cross_entropy_with", |a| {
        let (x, target, options) = classes(a);
        vec![x.cross_entropy_with(&target, options)]
    }),
    ("nll_loss", |a| {
        let (x, target, options) = classes(a);
        vec![x.nll_loss(&target, options)]
    }),
    ("binary_cross_entropy", |a| {
        let (x, target) = both(a);
        vec![x.binary_cross_entropy(&target, a.any(&REDUCE))]
    }),
    ("binary_cross_entropy_with_logits", |a| {
        let (x, target) = both(a);
        let weight = if a.chance(50) { Some(a.beside(&x)) } else { None };
        vec![x.binary_cross_entropy_with_logits(&target, weight.as_ref(), a.any(&REDUCE))]
    }),
    ("kl_div", |a| {
        let (x, target) = both(a);
        vec![x.kl_div(&target, a.flag(), a.any(&REDUCE))]
    }),
    ("cosine_similarity", |a| {
        let (x, z) = both(a);
        vec![x.cosine_similarity(&z, a.axis(x.rank()), a.float())]
    }),
    ("cosine_embedding_loss", |a| {
        let (x, z) = both(a);
        let rows = x.dims().split_last().map_or(vec![], |(_, rows)| rows.to_vec());
        let target = a.fit(&rows);
        vec![x.cosine_embedding_loss(&z, &target, a.float(), a.any(&REDUCE))]
    }),
];
