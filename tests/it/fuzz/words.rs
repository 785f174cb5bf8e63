//! Every public word, each with arguments drawn at random.

use wgrad::device::CustomKernel;
use wgrad::prelude::*;

use super::arguments::Args;
use super::layers::{ACTIVATE, LOSS, NORMALIZE, POOL, PRODUCT};

/// A word, and a call of it.
pub type Word = (&'static str, fn(&mut Args) -> Vec<Tensor>);

const DTYPES: [DType; 9] =
    [DType::F32, DType::F32, DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::U8, DType::Bool];

macro_rules! unary {
    ($($word:ident)*) => { &[$((stringify!($word), |a| vec![a.x().$word()])),*] };
}
macro_rules! binary {
    ($($word:ident)*) => {
        &[$((stringify!($word), |a| {
            let x = a.x();
            vec![if a.chance(30) { x.$word(a.number()) } else { x.$word(a.beside(&x)) }]
        })),*]
    };
}
macro_rules! along {
    ($($word:ident)*) => {
        &[$((stringify!($word), |a| { let x = a.x(); vec![x.$word(a.axis(x.rank()))] })),*]
    };
}
macro_rules! over {
    ($($word:ident)*) => {
        &[$((stringify!($word), |a| { let x = a.x(); vec![x.$word(a.axes(x.rank()))] })),*]
    };
}

/// A word of two integer tensors, which few are by chance.
macro_rules! whole {
    ($($word:ident)*) => {
        &[$((stringify!($word), |a| {
            let dtype = a.one(&[DType::I32, DType::U32, DType::U8, DType::I32, DType::Bool]);
            let x = a.fit_as(&[2, 3], dtype);
            vec![x.$word(a.fit_as(&[3], dtype))]
        })),*]
    };
}

/// All of them.
pub fn words() -> Vec<Word> {
    [
        UNARY, BINARY, WHOLE, OVER, ALONG, CREATE, MOVE, JOIN, INDEX, RANDOM, PRODUCT, POOL, ACTIVATE, NORMALIZE, LOSS,
        MARK,
    ]
    .concat()
}

const UNARY: &[Word] = unary! {
    neg abs sign floor ceil round trunc exp expm1 ln log1p log2 sqrt rsqrt recip sin cos tan asin acos atan
    sinh cosh tanh erf isnan isinf not relu gelu gelu_tanh silu mish softplus sigmoid hardswish erfinv t
    detach tracked zeros_like ones_like
};
const BINARY: &[Word] = binary! {
    atan2 add sub mul div floor_divide rem pow maximum minimum eq ne lt le gt ge bitand bitor bitxor shl shr
};
const WHOLE: &[Word] = whole! { bitand bitor bitxor shl shr };
const OVER: &[Word] = over! { sum prod max min mean var std argmax argmin any all logsumexp squeeze flip permute };
const ALONG: &[Word] = along! { cumsum cumprod softmax log_softmax glu unsqueeze };

const CREATE: &[Word] = &[
    ("new", |a| {
        let rows: Vec<Vec<f32>> = (0..a.rng.below(3)).map(|_| vec![1.0; a.rng.below(3)]).collect();
        a.say(&rows);
        vec![Tensor::new(rows, &a.device())]
    }),
    ("new", |a| {
        let rows: [i64; 2] = [a.one(&[1, i64::MIN, 1 << 31]), 2];
        a.say(rows);
        vec![Tensor::new(rows, &a.device())]
    }),
    ("from_slice", |a| {
        let n = a.rng.below(9);
        a.say(n);
        vec![Tensor::from_slice(&vec![1.5f32; n], a.dims(), &a.device())]
    }),
    ("from_vec", |a| {
        let n = a.rng.below(9);
        a.say(n);
        vec![Tensor::from_vec(vec![7u8; n], a.dims(), &a.device())]
    }),
    ("zeros", |a| vec![Tensor::zeros(a.dims(), &a.device())]),
    ("ones", |a| vec![Tensor::ones(a.dims(), &a.device())]),
    ("full", |a| vec![Tensor::full(a.dims(), a.number(), &a.device())]),
    ("full_like", |a| vec![a.x().full_like(a.number())]),
    ("arange", |a| vec![Tensor::arange(a.number(), a.number(), a.number(), &a.device())]),
    ("linspace", |a| vec![Tensor::linspace(a.float(), a.float(), a.size(9), &a.device())]),
    ("eye", |a| vec![Tensor::eye(a.size(6), &a.device())]),
    ("one_hot", |a| {
        let n = a.size(6);
        let x = if a.chance(50) { a.indices(&[3], n) } else { a.x() };
        vec![x.one_hot(n)]
    }),
    ("input", |a| vec![Tensor::input(a.number(), &a.device())]),
    ("key", |a| vec![Tensor::key(a.size(9) as u64, &a.device())]),
];

const MOVE: &[Word] = &[
    ("reshape", |a| {
        let x = a.x();
        vec![x.reshape(a.dims_for(&x, false))]
    }),
    ("expand", |a| {
        let x = a.x();
        vec![x.expand(a.dims_for(&x, true))]
    }),
    ("broadcast_to", |a| {
        let x = a.x();
        vec![x.broadcast_to(a.dims_for(&x, true))]
    }),
    ("flatten", |a| {
        let x = a.x();
        vec![x.flatten(a.axis(x.rank()), a.axis(x.rank()))]
    }),
    ("permute", |a| {
        let x = a.x();
        let mut axes: Vec<isize> = (0..x.rank() as isize).collect();
        for k in (1..axes.len()).rev() {
            axes.swap(k, a.rng.below(k + 1));
        }
        a.say(&axes);
        vec![x.permute(axes)]
    }),
    ("transpose", |a| {
        let x = a.x();
        vec![x.transpose(a.axis(x.rank()), a.axis(x.rank()))]
    }),
    ("tril", |a| vec![a.x().tril(a.int())]),
    ("triu", |a| vec![a.x().triu(a.int())]),
    ("diag", |a| vec![a.x().diag(a.int())]),
    ("unfold", |a| {
        let x = a.x();
        vec![x.unfold(a.axis(x.rank()), a.size(4), a.size(4))]
    }),
    ("slice", |a| {
        let x = a.x();
        vec![x.slice(a.picks(&x))]
    }),
    ("slice_axis", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let picks = a.picks(&x);
        vec![x.slice_axis(axis, picks, a.int())]
    }),
    ("narrow", |a| {
        let x = a.x();
        vec![x.narrow(a.axis(x.rank()), a.size(4), a.size(4))]
    }),
    ("narrow_at", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let start = if a.chance(20) { a.x() } else { a.indices(&[], 4) };
        vec![x.narrow_at(axis, &start, a.size(4))]
    }),
    ("update_at", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let start = if a.chance(20) { a.x() } else { a.indices(&[], 4) };
        let mut dims = x.dims().to_vec();
        if let Some(dim) = x.shape().axis(axis).ok().and_then(|k| dims.get_mut(k)) {
            *dim = a.rng.below(*dim + 1);
        }
        let part = a.fit_as(&dims, x.dtype());
        vec![x.update_at(axis, &start, &part)]
    }),
    ("pad", |a| {
        let x = a.x();
        let n = if a.chance(8) { a.rng.below(10) } else { a.rng.below(x.rank() + 1) };
        let pairs: Vec<(usize, usize)> = (0..n).map(|_| (a.size(4), a.size(4))).collect();
        let mode = match a.rng.below(3) {
            0 => PadMode::Constant(a.number()),
            1 => PadMode::Reflect,
            _ => PadMode::Replicate,
        };
        a.say(mode);
        vec![x.pad(&pairs, mode)]
    }),
    ("with_dims", |a| {
        let x = a.x();
        vec![x.with_dims(|[m, n]| x.reshape([m * n]))]
    }),
];

const JOIN: &[Word] = &[
    ("cat", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let mut parts = vec![x.clone()];
        for _ in 0..a.rng.below(3) {
            let mut dims = x.dims().to_vec();
            if let Some(dim) = x.shape().axis(axis).ok().and_then(|k| dims.get_mut(k)) {
                *dim = a.rng.below(3);
            }
            parts.push(a.fit(&dims));
        }
        vec![Tensor::cat(&parts, axis)]
    }),
    ("cat", |a| vec![Tensor::cat(&a.xs(), a.axis(2))]),
    ("stack", |a| {
        let x = a.x();
        let parts: Vec<Tensor> = (0..a.rng.below(3)).map(|_| a.fit(x.dims())).chain([x.clone()]).collect();
        vec![Tensor::stack(&parts, a.axis(x.rank() + 1))]
    }),
    ("stack", |a| vec![Tensor::stack(&a.xs(), a.axis(2))]),
    ("split", |a| {
        let x = a.x();
        x.split(a.size(4), a.axis(x.rank()))
    }),
    ("split", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let first = a.rng.below(x.dim(axis) + 1);
        let sizes = [first, x.dim(axis) - first, if a.chance(10) { a.size(2) } else { 0 }];
        a.say(sizes);
        x.split(sizes, axis).to_vec()
    }),
    ("split", |a| {
        let x = a.x();
        let sizes: Vec<usize> = (0..a.rng.below(3)).map(|_| a.size(4)).collect();
        x.split(sizes, a.axis(x.rank()))
    }),
    ("chunk", |a| {
        let x = a.x();
        x.chunk(a.size(5), a.axis(x.rank()))
    }),
    ("repeat", |a| {
        let x = a.x();
        vec![x.repeat(a.size(4), a.axis(x.rank()))]
    }),
    ("tile", |a| {
        let x = a.x();
        vec![x.tile(a.sizes(x.rank(), 0))]
    }),
    ("roll", |a| {
        let x = a.x();
        let axes = a.axes(x.rank());
        let n = if a.chance(80) { wgrad::shape::Axes::axes(&axes).map_or(x.rank(), |axes| axes.len()) } else { 1 };
        let shifts: Vec<isize> = (0..n).map(|_| a.int()).collect();
        vec![x.roll(shifts, axes)]
    }),
];

/// A shape of indices along `axis` of `x`.
fn index_dims(a: &mut Args, x: &Tensor, axis: isize) -> Vec<usize> {
    let along = x.shape().axis(axis).unwrap_or(0);
    let shorter = a.chance(20);
    let dim = |(k, &n): (usize, &usize)| if k == along || shorter { a.rng.below(n.max(1) + 1) } else { n };
    x.dims().iter().enumerate().map(dim).collect()
}

const INDEX: &[Word] = &[
    ("gather", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let dims = index_dims(a, &x, axis);
        vec![x.gather(axis, &a.indices(&dims, x.dim(axis)))]
    }),
    ("scatter", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let dims = index_dims(a, &x, axis);
        let index = a.indices(&dims, x.dim(axis));
        vec![if a.chance(20) { x.scatter(axis, &index, a.number()) } else { x.scatter(axis, &index, a.fit(&dims)) }]
    }),
    ("scatter_add", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let dims = index_dims(a, &x, axis);
        let index = a.indices(&dims, x.dim(axis));
        vec![match a.chance(20) {
            true => x.scatter_add(axis, &index, a.number()),
            false => x.scatter_add(axis, &index, a.fit_as(&dims, x.dtype())),
        }]
    }),
    ("index_select", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let n = a.rng.below(4);
        vec![x.index_select(axis, &a.indices(&[n], x.dim(axis)))]
    }),
    ("take", |a| {
        let x = a.x();
        let axis = a.axis(x.rank());
        let dims = a.one(&[&[][..], &[2], &[2, 2], &[0], &[1, 3, 1]]);
        vec![x.take(&a.indices(dims, x.dim(axis)), axis)]
    }),
    ("embedding", |a| {
        let x = if a.chance(70) { a.fit(&[4, 3]) } else { a.x() };
        let dims = a.one(&[&[][..], &[2], &[2, 2], &[0], &[1, 3, 1]]);
        vec![x.embedding(&a.indices(dims, x.dim(0)))]
    }),
    ("masked_fill", |a| {
        let x = a.x();
        let mask = if a.chance(80) { a.fit_as(x.dims(), DType::Bool) } else { a.x() };
        vec![if a.chance(50) { x.masked_fill(&mask, a.number()) } else { x.masked_fill(&mask, a.fit(&[])) }]
    }),
    ("where_", |a| {
        let x = a.x();
        vec![match a.rng.below(3) {
            0 => x.where_(a.number(), a.number()),
            1 => a.beside(&x).where_(&x, a.number()),
            _ => a.beside(&x).where_(&x, a.beside(&x)),
        }]
    }),
    ("sort", |a| {
        let x = a.x();
        let (y, index) = x.sort(a.axis(x.rank()), a.flag());
        vec![y, index]
    }),
    ("argsort", |a| {
        let x = a.x();
        vec![x.argsort(a.axis(x.rank()), a.flag())]
    }),
    ("topk", |a| {
        let x = a.x();
        let (y, index) = x.topk(a.size(4), a.axis(x.rank()));
        vec![y, index]
    }),
    ("cummax", |a| {
        let x = a.x();
        let (y, index) = x.cummax(a.axis(x.rank()));
        vec![y, index]
    }),
    ("var_with", |a| {
        let x = a.x();
        vec![x.var_with(a.axes(x.rank()), a.float())]
    }),
    ("std_with", |a| {
        let x = a.x();
        vec![x.std_with(a.axes(x.rank()), a.float())]
    }),
    ("norm", |a| {
        let x = a.x();
        vec![x.norm(a.axes(x.rank()), a.float())]
    }),
];

const RANDOM: &[Word] = &[
    ("fold_in", |a| {
        let key = a.key();
        vec![if a.chance(50) { key.fold_in(a.number()) } else { key.fold_in(a.indices(&[], 9)) }]
    }),
    ("split_key", |a| {
        let mut keys = a.key().split_key(a.size(4));
        keys.truncate(3);
        keys
    }),
    ("bits", |a| vec![Tensor::bits(a.dims(), &a.key())]),
    ("uniform", |a| vec![Tensor::uniform(a.dims(), &a.key())]),
    ("uniform_in", |a| vec![Tensor::uniform_in(a.dims(), a.float()..a.float(), &a.key())]),
    ("normal", |a| vec![Tensor::normal(a.dims(), &a.key())]),
    ("bernoulli", |a| {
        let dims = a.dims();
        vec![match a.chance(50) {
            true => Tensor::bernoulli(dims, a.part(), &a.key()),
            false => Tensor::bernoulli(dims, a.fit(&[]), &a.key()),
        }]
    }),
    ("randint", |a| {
        let dims = a.dims();
        let (low, high) = (a.int() as i64, a.int() as i64);
        vec![Tensor::randint(dims, low..high, &a.key())]
    }),
    ("permutation", |a| vec![Tensor::permutation(a.size(9), &a.key())]),
    ("dropout", |a| vec![a.x().dropout(a.part(), &a.key())]),
];

const MARK: &[Word] = &[
    ("cast", |a| vec![a.x().cast(a.any(&DTYPES))]),
    ("bitcast", |a| vec![a.x().bitcast(a.any(&DTYPES))]),
    ("to_device", |a| vec![a.x().to_device(&a.device())]),
    ("grad", |a| {
        let y = if a.chance(60) { a.x().sum(..) } else { a.x() };
        let targets = a.xs();
        y.grad(&targets.iter().collect::<Vec<_>>())
    }),
    ("vjp", |a| {
        let y = a.x();
        let dy = a.fit(y.dims());
        let targets = a.xs();
        y.vjp(&dy, &targets.iter().collect::<Vec<_>>())
    }),
    ("custom_gradient", |a| {
        let inputs = a.xs();
        let which = a.rng.below(4);
        a.say(which);
        let one = a.unit();
        let sum = move |x: &[Tensor]| x.iter().fold(one.clone(), |sum, x| sum + x);
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let y = wgrad::custom_gradient("custom_gradient", &inputs, sum, move |x, _, dy| match which {
            0 => Vec::new(),
            1 => vec![None; x.len()],
            2 => vec![Some(dy.clone()); x.len()],
            _ => vec![Some(dy.clone())],
        });
        [y.clone()].into_iter().chain(y.sum(..).grad(&inputs)).collect()
    }),
    ("checkpoint", |a| {
        let inputs = a.xs();
        let one = a.unit();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let recompute = if a.rng.below(2) == 0 { wgrad::Recompute::All } else { wgrad::Recompute::Cheap };
        let y = wgrad::checkpoint_with(recompute, |x| x.iter().fold(one, |y, x| y * x.exp()), &inputs);
        [y.clone()].into_iter().chain(y.sum(..).grad(&inputs)).collect()
    }),
    ("twice", |a| {
        let wgsl = "@group(0) @binding(0) var<storage, read> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < arrayLength(&y) { y[id.x] = 2.0 * x[id.x]; }
            }";
        let kernel = CustomKernel::new("twice", wgsl).grid([64, 1, 1]).build().expect("a kernel that is right");
        let x = a.x().cast(DType::F32);
        match a.rng.below(8) {
            0 => kernel.call(&[&x, &x], |_| vec![x.clone()]),
            1 => kernel.call(&[&x], |_| Vec::new()),
            _ => kernel.call(&[&x], |x| x.iter().map(|x| x + x).collect()),
        }
    }),
];
