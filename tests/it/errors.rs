//! What wrong calls say: for every word that can be called wrongly the whole message, and what
//! becomes of a mistake afterwards.

use wgrad::prelude::*;

use crate::arrays::cpu;
use crate::support::message;

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, &cpu())
}

fn ints(n: usize) -> Tensor {
    Tensor::full([n], 0, &cpu())
}

fn key() -> Tensor {
    Tensor::key(0, &cpu())
}

fn plain() -> ConvOptions {
    ConvOptions::default()
}

/// One row a word: a wrong call and its message, without the place.
macro_rules! wrong {
    ($($word:ident: $call:expr => $message:literal;)*) => {
        /// The words of the table.
        pub const WORDS: &[&str] = &[$(stringify!($word)),*];

        #[test]
        fn messages() {
            let mut wrong = Vec::new();
            $({
                let said = message(&$call);
                if said != $message {
                    wrong.push(format!("    {}: {} => {said:?};", stringify!($word), stringify!($call)));
                }
            })*
            assert!(wrong.is_empty(), "these rows say something else:\n{}", wrong.join("\n"));
        }
    };
}

wrong! {
    new: Tensor::new(vec![vec![1], vec![2, 3]], &cpu()) => "new: rows of different lengths";
    from_slice: Tensor::from_slice(&[1, 2, 3], [2, 2], &cpu()) => "from_slice: 3 elements for the shape [2, 2]";
    from_vec: Tensor::from_vec(vec![1u8], [1; 9], &cpu()) => "from_vec: 9 dimensions, but at most 8 are possible";
    zeros: Tensor::zeros([70_000, 0, 70_000], &cpu()) => "zeros: [70000, 0, 70000] has more than 2^32 - 1 elements";
    ones: Tensor::ones([2, -1], &cpu()) => "ones: [2, -1] has a negative dimension";
    full: Tensor::full([1], 1i64 << 33, &cpu()) => "full: 8589934592 does not fit i32";
    arange: Tensor::arange(0, 5, 0, &cpu()) => "arange: a step of 0";
    linspace: Tensor::linspace(0.0, 1.0, usize::MAX, &cpu()) => "linspace: [18446744073709551615] has more than 2^32 - 1 elements";
    eye: Tensor::eye(1 << 20, &cpu()) => "eye: [1048576, 1048576] has more than 2^32 - 1 elements";
    one_hot: zeros(&[2]).one_hot(3) => "one_hot: classes are integers, got f32";
    input: Tensor::input(1i64 << 40, &cpu()) => "input: 1099511627776 does not fit i32";
    reshape: zeros(&[2, 3]).reshape([4, -1]) => "reshape: [2, 3] does not fit [4, -1]";
    expand: zeros(&[2, 3]).expand([4, 3]) => "expand: [2, 3] does not broadcast to [4, 3]";
    broadcast_to: zeros(&[2, 3]).broadcast_to([3]) => "broadcast_to: [2, 3] does not broadcast to [3]";
    flatten: zeros(&[2, 3]).flatten(1, 0) => "flatten: axis 1 is after axis 0";
    permute: zeros(&[2, 3]).permute([0, 0]) => "permute: [0, 0] does not name every axis of [2, 3] once";
    transpose: zeros(&[2, 3]).transpose(0, 2) => "transpose: axis 2 is out of range for [2, 3]";
    t: zeros(&[2, 3, 4]).t() => "t: takes a matrix, got [2, 3, 4]; transpose names the axes";
    squeeze: zeros(&[2, 3]).squeeze(0) => "squeeze: axis 0 of [2, 3] has size 2, not 1";
    unsqueeze: zeros(&[2, 3]).unsqueeze(4) => "unsqueeze: axis 4 is out of range for a new axis of [2, 3]";
    flip: zeros(&[2, 3]).flip([0, -2]) => "flip: axis 0 is named twice in [0, -2]";
    tril: zeros(&[2]).tril(0) => "tril: takes matrices, got [2]";
    triu: zeros(&[2]).triu(0) => "triu: takes matrices, got [2]";
    diag: zeros(&[2, 3, 4]).diag(0) => "diag: takes a vector or a matrix, got [2, 3, 4]";
    unfold: zeros(&[4]).unfold(0, 5, 1) => "unfold: a window of 5 with dilation 1 does not fit into 4 elements";
    slice: zeros(&[2, 3]).slice((.., 3)) => "slice: index 3 is out of range for axis 1 of [2, 3]";
    slice_axis: zeros(&[4]).slice_axis(0, .., 0) => "slice_axis: a step of 0";
    narrow: zeros(&[4]).narrow(0, 2, 3) => "narrow: 3 elements from 2 leave axis 0 of [4]";
    narrow_at: zeros(&[4]).narrow_at(0, &zeros(&[]), 2) => "narrow_at: indices are integers, got f32";
    update_at: zeros(&[4]).update_at(0, &Tensor::new(0, &cpu()), &zeros(&[5])) => "update_at: f32 [5] does not fit into f32 [4] along axis 0";
    pad: zeros(&[2]).pad(&[(2, 0)], PadMode::Reflect) => "pad: reflection by (2, 0) of axis 0 of [2]";
    with_dims: zeros(&[2, 3]).with_dims(|[n]| zeros(&[n])) => "with_dims: 1 dimensions are needed, but the shape is [2, 3]";
    cat: Tensor::cat(&[zeros(&[2, 3]), zeros(&[3, 2])], 0) => "cat: f32 [2, 3] and f32 [3, 2] do not join along axis 0";
    stack: Tensor::stack(&[zeros(&[2, 3]), zeros(&[3, 2])], 0) => "stack: shapes differ: [2, 3] and [3, 2]";
    split: zeros(&[4]).split([1, 2], 0)[1] => "split: 4 elements in parts of [1, 2]";
    chunk: zeros(&[4]).chunk(0, 0)[0] => "chunk: 0 parts";
    repeat: zeros(&[1 << 16]).repeat(1 << 16, 0) => "repeat: [4294967296] has more than 2^32 - 1 elements";
    tile: zeros(&[2]).tile([-1]) => "tile: [-1] has a negative dimension";
    roll: zeros(&[2, 3]).roll([1, 2], 0) => "roll: 2 shifts for 1 axes";
    gather: zeros(&[2, 3]).gather(0, &ints(2)) => "gather: indices [2] along axis 0 of [2, 3]";
    scatter: zeros(&[2]).scatter(0, &zeros(&[2]), 1.0) => "scatter: indices are integers, got f32";
    scatter_add: ints(2).scatter_add(0, &ints(2), zeros(&[2])) => "scatter_add: f32 into i32";
    index_select: zeros(&[2]).index_select(0, &Tensor::new(0, &cpu())) => "index_select: an index has one axis, got []";
    take: zeros(&[2]).take(&zeros(&[1]), 0) => "take: indices are integers, got f32";
    embedding: zeros(&[2]).embedding(&ints(2)) => "embedding: the weight is a matrix, got [2]";
    masked_fill: zeros(&[2]).masked_fill(&ints(2), 1.0) => "masked_fill: a mask is bool, got i32";
    where_: zeros(&[2]).where_(zeros(&[3]), 0.0) => "where_: shapes do not broadcast: [2] and [3] and []";
    sort: zeros(&[2]).sort(1, false).0 => "sort: axis 1 is out of range for [2]";
    argsort: zeros(&[2]).argsort(-2, false) => "argsort: axis -2 is out of range for [2]";
    topk: zeros(&[2]).topk(3, 0).1 => "topk: 3 elements from 0 leave axis 0 of [2]";
    cumsum: zeros(&[2]).cumsum(1) => "cumsum: axis 1 is out of range for [2]";
    cumprod: zeros(&[]).cumprod(0) => "cumprod: axis 0 is out of range for []";
    cummax: zeros(&[2]).cummax(1).0 => "cummax: axis 1 is out of range for [2]";
    sum: zeros(&[2]).sum(1) => "sum: axis 1 is out of range for [2]";
    prod: zeros(&[2]).prod([0, 0]) => "prod: axis 0 is named twice in [0, 0]";
    max: zeros(&[2, 0]).max(1) => "max: max over axes [1] of [2, 0] has no elements";
    min: zeros(&[0]).min(..) => "min: min over axes [0] of [0] has no elements";
    mean: zeros(&[2]).mean(isize::MIN) => "mean: axis -9223372036854775808 is out of range for [2]";
    var: zeros(&[2]).var(1) => "var: axis 1 is out of range for [2]";
    var_with: zeros(&[2]).var_with(1, 0.0) => "var_with: axis 1 is out of range for [2]";
    std: zeros(&[2]).std(1) => "std: axis 1 is out of range for [2]";
    std_with: zeros(&[2]).std_with(1, 0.0) => "std_with: axis 1 is out of range for [2]";
    argmax: zeros(&[2, 3]).argmax([0, 1]) => "argmax: takes one axis or `..`, got axes [0, 1]";
    argmin: zeros(&[0]).argmin(0) => "argmin: axis 0 of [0] has no elements";
    any: zeros(&[2]).any(1) => "any: axis 1 is out of range for [2]";
    all: zeros(&[2]).all(1) => "all: axis 1 is out of range for [2]";
    norm: zeros(&[2]).norm(0, f64::NAN) => "norm: p is NaN";
    logsumexp: zeros(&[2]).logsumexp(1) => "logsumexp: axis 1 is out of range for [2]";
    fold_in: zeros(&[2]).fold_in(1) => "fold_in: a key is u32 [2], got f32 [2]";
    split_key: zeros(&[2]).split_key(2)[1] => "split_key: a key is u32 [2], got f32 [2]";
    bits: Tensor::bits([2], &zeros(&[2])) => "bits: a key is u32 [2], got f32 [2]";
    uniform: Tensor::uniform([2], &ints(2)) => "uniform: a key is u32 [2], got i32 [2]";
    uniform_in: Tensor::uniform_in([2], 1.0..0.0, &key()) => "uniform_in: no numbers in 1..0";
    normal: Tensor::normal([-2], &key()) => "normal: [-2] has a negative dimension";
    bernoulli: Tensor::bernoulli([2], 1.5, &key()) => "bernoulli: 1.5 is no probability";
    categorical: Tensor::new([1, 2], &cpu()).categorical(&key()) => "categorical: logits [.., classes] are needed, got i32 [2]";
    randint: Tensor::randint([2], 3..3, &key()) => "randint: no i32 in 3..3";
    permutation: Tensor::permutation(1 << 31, &key()) => "permutation: 2147483648 does not fit i32";
    dropout: zeros(&[2]).dropout(2.0, &key()) => "dropout: p is 2, but a probability is in 0..=1";
    matmul: zeros(&[2, 3]).matmul(&zeros(&[4, 5])) => "matmul: inner dimensions differ: [2, 3] @ [4, 5]";
    outer: zeros(&[2, 3]).outer(&zeros(&[2])) => "outer: takes two vectors, got [2, 3] and [2]";
    einsum: Tensor::einsum("ij,jk->ik", &[&zeros(&[2, 3]), &zeros(&[4, 5])]) => "einsum: j of \"ij,jk->ik\" is 3 and 4";
    conv1d: zeros(&[1, 2, 3]).conv1d(&zeros(&[1, 3, 2]), None, plain()) => "conv1d: channels do not fit: input [1, 2, 3] and weight [1, 3, 2] in 1 groups";
    conv2d: zeros(&[1, 2, 3]).conv2d(&zeros(&[1, 2, 1, 1]), None, plain()) => "conv2d: the input and the weight take 4 dimensions, got [1, 2, 3] and [1, 2, 1, 1]";
    conv3d: zeros(&[1, 1, 2, 2, 2]).conv3d(&zeros(&[1, 1, 3, 1, 1]), None, plain()) => "conv3d: a window of 3 with dilation 1 does not fit into 2 elements";
    conv_transpose1d: zeros(&[1, 2, 3]).conv_transpose1d(&zeros(&[3, 2, 1]), None, plain()) => "conv_transpose1d: channels do not fit: input [1, 2, 3] and weight [3, 2, 1] in 1 groups";
    conv_transpose2d: zeros(&[1, 1, 2, 2]).conv_transpose2d(&zeros(&[1, 1, 2, 2]), None, plain().stride(0)) => "conv_transpose2d: stride 0 is less than 1";
    conv_transpose3d: zeros(&[1, 1, 2, 2, 2]).conv_transpose3d(&zeros(&[1]), None, plain()) => "conv_transpose3d: the input and the weight take 5 dimensions, got [1, 1, 2, 2, 2] and [1]";
    scaled_dot_product_attention: zeros(&[2, 3])
        .scaled_dot_product_attention(&zeros(&[2, 4]), &zeros(&[2, 3]), AttentionOptions::default()) => "scaled_dot_product_attention: queries [2, 3], keys [2, 4] and values [2, 3] do not fit";
    max_pool1d: zeros(&[1, 1, 3]).max_pool1d(4, PoolOptions::default()) => "max_pool1d: a window of 4 with dilation 1 does not fit into 3 elements";
    max_pool2d: zeros(&[1, 1, 3]).max_pool2d(2, PoolOptions::default()) => "max_pool2d: takes 4 dimensions, got [1, 1, 3]";
    avg_pool1d: zeros(&[1, 1, 3]).avg_pool1d(2, PoolOptions::default().padding(2)) => "avg_pool1d: padding 2 is more than half of the kernel 2";
    avg_pool2d: zeros(&[1, 1, 3, 3]).avg_pool2d([1, 2, 3], PoolOptions::default()) => "avg_pool2d: kernel [1, 2, 3] is neither one number nor one for each of 2 axes";
    adaptive_avg_pool1d: zeros(&[1, 1, 0]).adaptive_avg_pool1d(1) => "adaptive_avg_pool1d: the windows of [1, 1, 0] have no elements";
    adaptive_avg_pool2d: zeros(&[1, 1, 1, 1]).adaptive_avg_pool2d(1 << 20) => "adaptive_avg_pool2d: [1, 1, 1048576, 1048576, 1] has more than 2^32 - 1 elements";
    adaptive_max_pool1d: zeros(&[1, 1, 2]).adaptive_max_pool1d(-1) => "adaptive_max_pool1d: size -1 is less than 0";
    adaptive_max_pool2d: zeros(&[1, 1, 2]).adaptive_max_pool2d(1) => "adaptive_max_pool2d: takes 4 dimensions, got [1, 1, 2]";
    upsample_nearest: zeros(&[1, 1]).upsample_nearest(Upsample::size(2)) => "upsample_nearest: takes [n, c, spatial…] with at least one element an axis, got [1, 1]";
    upsample_bilinear: zeros(&[1, 1, 2]).upsample_bilinear(Upsample::scale(f64::NAN), false) => "upsample_bilinear: [1, 1, 2] scaled by NaN has no elements or too many";
    clamp: zeros(&[2]).clamp(zeros(&[3]), 1.0) => "clamp: shapes [2] and [3] do not broadcast";
    glu: zeros(&[3]).glu(0) => "glu: axis 0 of [3] has no two halves";
    softmax: zeros(&[3]).softmax(1) => "softmax: axis 1 is out of range for [3]";
    log_softmax: zeros(&[]).log_softmax(0) => "log_softmax: axis 0 is out of range for []";
    layer_norm: zeros(&[2, 3]).layer_norm(-1, Some(&zeros(&[2])), None, 1e-5) => "layer_norm: weight and bias of [2, 3] over axes [1] take [3], got [2]";
    rms_norm: zeros(&[2, 3]).rms_norm(2, None, 1e-5) => "rms_norm: axis 2 is out of range for [2, 3]";
    group_norm: zeros(&[2, 3]).group_norm(2, None, None, 1e-5) => "group_norm: the channels of [2, 3] do not make 2 groups";
    instance_norm: zeros(&[2, 3]).instance_norm(None, None, 1e-5) => "instance_norm: takes at least 3 dimensions, got [2, 3]";
    batch_norm: zeros(&[1, 3]).batch_norm(None, None, 1e-5).0 => "batch_norm: a channel of [1, 3] has no two values to take a variance of";
    batch_norm_with: zeros(&[2, 3]).batch_norm_with(&zeros(&[2]), &zeros(&[3]), None, None, 1e-5) => "batch_norm_with: weight and bias of [2, 3] over axes [1] take [3], got [2] (mean, var)";
    mse_loss: zeros(&[2]).mse_loss(&zeros(&[1]), Reduce::Mean) => "mse_loss: shapes differ: [2] and [1]";
    l1_loss: zeros(&[2]).l1_loss(&zeros(&[]), Reduce::Mean) => "l1_loss: shapes differ: [2] and []";
    huber_loss: zeros(&[2]).huber_loss(&zeros(&[2]), 0.0, Reduce::Mean) => "huber_loss: delta 0 must be positive";
    smooth_l1_loss: zeros(&[2]).smooth_l1_loss(&zeros(&[2]), -1.0, Reduce::Mean) => "smooth_l1_loss: beta -1 must be positive";
    cross_entropy: zeros(&[2, 3]).cross_entropy(&ints(3)) => "cross_entropy: [2, 3] with a i32 target [3], which takes [2]";
    cross_entropy_with: zeros(&[2, 3]).cross_entropy_with(&ints(2), ClassOptions::default().label_smoothing(2.0)) => "cross_entropy: label_smoothing 2 is not in 0..=1";
    nll_loss: zeros(&[2, 3]).nll_loss(&zeros(&[2]), ClassOptions::default()) => "nll_loss: class ids are integers, got f32";
    binary_cross_entropy: zeros(&[2]).binary_cross_entropy(&zeros(&[3]), Reduce::Mean) => "binary_cross_entropy: shapes differ: [2] and [3]";
    binary_cross_entropy_with_logits: zeros(&[2])
        .binary_cross_entropy_with_logits(&zeros(&[2]), Some(&zeros(&[3])), Reduce::Mean) => "binary_cross_entropy_with_logits: pos_weight [3] does not broadcast to [2]";
    kl_div: zeros(&[2]).kl_div(&zeros(&[3]), false, Reduce::Mean) => "kl_div: shapes differ: [2] and [3]";
    cosine_similarity: zeros(&[2]).cosine_similarity(&zeros(&[2]), 1, 1e-8) => "cosine_similarity: axis 1 is out of range for [2]";
    cosine_embedding_loss: zeros(&[2, 3]).cosine_embedding_loss(&zeros(&[2, 3]), &ints(3), 0.0, Reduce::Mean) => "cosine_embedding_loss: rows of [2, 3] with targets [3]";
    bitcast: zeros(&[2]).bitcast(DType::F16) => "bitcast: only 32-bit dtypes can be reinterpreted, got f32 as f16";
    grad: zeros(&[2]).grad(&[&zeros(&[2])])[0] => "grad: the loss must have one element, got [2]";
    vjp: zeros(&[2]).vjp(&zeros(&[3]), &[&zeros(&[2])])[0] => "vjp: the cotangent of f32 [2] is f32 [3]";
    atan2: zeros(&[2]).atan2(zeros(&[3])) => "atan2: shapes do not broadcast: [2] and [3]";
    add: zeros(&[2]) + zeros(&[3]) => "add: shapes do not broadcast: [2] and [3]";
    sub: zeros(&[2]) - zeros(&[3]) => "sub: shapes do not broadcast: [2] and [3]";
    mul: zeros(&[2]) * zeros(&[3]) => "mul: shapes do not broadcast: [2] and [3]";
    div: zeros(&[2]) / zeros(&[3]) => "div: shapes do not broadcast: [2] and [3]";
    rem: zeros(&[2]) % zeros(&[3]) => "rem: shapes do not broadcast: [2] and [3]";
    floor_divide: zeros(&[2]).floor_divide(zeros(&[3])) => "floor_divide: shapes do not broadcast: [2] and [3]";
    pow: zeros(&[2]).pow(zeros(&[3])) => "pow: shapes do not broadcast: [2] and [3]";
    maximum: zeros(&[2]).maximum(zeros(&[3])) => "maximum: shapes do not broadcast: [2] and [3]";
    minimum: zeros(&[2]).minimum(zeros(&[3])) => "minimum: shapes do not broadcast: [2] and [3]";
    eq: zeros(&[2]).eq(zeros(&[3])) => "eq: shapes do not broadcast: [2] and [3]";
    ne: zeros(&[2]).ne(zeros(&[3])) => "ne: shapes do not broadcast: [2] and [3]";
    lt: zeros(&[2]).lt(zeros(&[3])) => "lt: shapes do not broadcast: [2] and [3]";
    le: zeros(&[2]).le(zeros(&[3])) => "le: shapes do not broadcast: [2] and [3]";
    gt: zeros(&[2]).gt(zeros(&[3])) => "gt: shapes do not broadcast: [2] and [3]";
    ge: zeros(&[2]).ge(zeros(&[3])) => "ge: shapes do not broadcast: [2] and [3]";
    bitand: zeros(&[2]) & ints(2) => "bitand: takes bool or integer tensors, got f32";
    bitor: ints(2) | zeros(&[2]) => "bitor: takes bool or integer tensors, got f32";
    bitxor: ints(2) ^ 0.5 => "bitxor: takes bool or integer tensors, got f32";
    shl: zeros(&[2]) << 1 => "shl: takes integer tensors, got f32";
    shr: ints(2).cast(DType::Bool) >> true => "shr: takes integer tensors, got bool";
    not: !zeros(&[2]) => "not: takes bool or integer tensors, got f32";
}

/// Words that take whatever they are given.
const TOLERANT: &[&str] = &[
    "neg",
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "trunc",
    "exp",
    "expm1",
    "ln",
    "log1p",
    "log2",
    "sqrt",
    "rsqrt",
    "recip",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "isnan",
    "isinf",
    "relu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softplus",
    "sigmoid",
    "hardswish",
    "leaky_relu",
    "elu",
    "erfinv",
    "detach",
    "tracked",
    "zeros_like",
    "ones_like",
    "full_like",
    "key",
    "cast",
    "to_device",
];
/// Words whose mistakes are those of closures, tested in `gradients` and `gpu_runtime`.
const ELSEWHERE: &[&str] = &["custom_gradient", "checkpoint", "twice"];

#[test]
fn every_word_has_a_row() {
    let known = |word: &&str| WORDS.contains(word) || TOLERANT.contains(word) || ELSEWHERE.contains(word);
    let missing: Vec<&str> = crate::fuzz::words().iter().map(|word| word.0).filter(|word| !known(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_place_is_the_call() {
    let (x, z) = (zeros(&[2, 3]), zeros(&[4, 5]));
    let y = x.matmul(&z);
    let (line, text) = (line!() - 1, y.error().map(|error| error.to_string()).unwrap_or_default());
    let file = file!();
    assert_eq!(text, format!("matmul: inner dimensions differ: [2, 3] @ [4, 5] at {file}:{line}:15"));
    let y = zeros(&[2]) + zeros(&[3]);
    let (line, text) = (line!() - 1, y.error().map(|error| error.to_string()).unwrap_or_default());
    assert_eq!(text, format!("add: shapes do not broadcast: [2] and [3] at {file}:{line}:13"));
}

#[test]
fn the_first_mistake_stays() {
    let bad = zeros(&[2, 3]).matmul(&zeros(&[4, 5]));
    let first = bad.error().map(|error| error.to_string()).unwrap_or_default();
    let (x, index) = (zeros(&[2]), ints(1));
    let later = [
        &bad + 1.0,
        1.0 - &bad,
        -&bad,
        bad.sum(7),
        bad.reshape([9, 9]),
        bad.permute([3]),
        bad.softmax(4),
        bad.sort(5, true).1,
        bad.cummax(5).0,
        bad.split([1, 2], 3)[1].clone(),
        bad.chunk(0, 0)[0].clone(),
        bad.slice((1, 2, 3)),
        bad.to_device(&cpu()),
        bad.cast(DType::I32),
        bad.grad(&[&x])[0].clone(),
        bad.batch_norm(None, None, 0.0).2,
        x.add(&bad),
        x.gather(8, &bad),
        x.scatter(8, &index, &bad),
        x.scatter_add(8, &bad, 1),
        x.take(&bad, 9),
        x.embedding(&bad),
        x.update_at(8, &bad, &x),
        x.matmul(&bad),
        x.where_(&bad, 1.0),
        x.vjp(&bad, &[&x])[0].clone(),
        x.sum(..).grad(&[&bad])[0].clone(),
        x.layer_norm(5, Some(&bad), None, 0.0),
        x.dropout(7.0, &bad),
        x.cross_entropy(&bad),
        x.conv2d(&bad, None, plain()),
        Tensor::cat(&[&x, &bad], 8),
        Tensor::stack(&[&x, &bad], 8),
        Tensor::einsum("?", &[&x, &bad]),
        Tensor::uniform([-1], &bad),
        Tensor::bernoulli([2], &bad, &key()),
    ];
    for (k, y) in later.iter().enumerate() {
        assert_eq!(y.error().map(|error| error.to_string()).as_ref(), Some(&first), "row {k}");
    }
    // Beside two mistakes, that of the first operand.
    assert_eq!((&bad + zeros(&[2]).sum(1)).to_string(), first);
    for read in [bad.to_vec::<f32>().err(), bad.item::<i32>().err(), bad.realize().err(), wgrad::realize([&bad]).err()]
    {
        assert_eq!(read.map(|error| error.to_string()).as_ref(), Some(&first));
    }
}

#[test]
fn invalid_tensors_print_their_mistake() {
    let bad = zeros(&[2]).sum(1);
    let said = bad.error().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(format!("{bad}"), said);
    assert_eq!(format!("{bad:.2}"), said);
    assert_eq!(format!("{bad:?}"), format!("Tensor(invalid: {said})"));
    assert_eq!((bad.rank(), bad.numel(), bad.dim(3), bad.dtype()), (0, 1, 0, DType::F32));
    assert!(bad.check().is_err() && !bad.is_valid());
}

#[test]
fn empty_tensors_with_long_axes_print() {
    assert_eq!(zeros(&[0, u32::MAX as usize]).to_string(), "[]");
    assert_eq!(zeros(&[u32::MAX as usize, 0]).to_string(), "[]");
}

#[test]
fn reading_takes_the_dtype_that_is_there() {
    let x = ints(2);
    let error = |text: Option<Error>| text.map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(error(x.to_vec::<f32>().err()), "to_vec: the tensor is i32, not f32");
    assert_eq!(error(x.to_vec::<u32>().err()), "to_vec: the tensor is i32, not u32");
    assert_eq!(error(x.item::<i32>().err()), "item: [2] has 2 elements");
}

#[test]
fn released_history_is_named() {
    let x = Tensor::new([1.0, 2.0], &cpu());
    let y = (&x * 2.0).exp();
    y.realize().unwrap();
    let dx = y.sum(..).grad(&[&x]);
    let said = message(&dx[0]);
    assert!(said.starts_with("grad: the history between target 0 (from tests/it/errors.rs:"), "{said}");
    assert!(said.contains("and the exp at tests/it/errors.rs:") && said.contains("target.tracked()"), "{said}");
}

#[test]
fn indices_out_of_range_name_their_word() {
    let x = Tensor::new([1.0, 2.0], &cpu());
    let y = x.index_select(0, &Tensor::new([1, 2], &cpu()));
    let said = y.to_vec::<f32>().map_err(|error| error.to_string()).expect_err("an index out of range");
    assert!(
        said.starts_with("index_select: index out of range for an axis of 2 elements at tests/it/errors.rs:"),
        "{said}"
    );
    // The error comes once; the elements are there, 0 where there is none.
    assert_eq!(y.to_vec::<f32>().unwrap(), [2.0, 0.0]);
    // The same graph from elsewhere has a plan already, but names its own line.
    let z = x.index_select(0, &Tensor::new([1, 2], &cpu()));
    let line = z.to_vec::<f32>().expect_err("an index out of range").location().map(|at| at.line());
    assert_eq!(line, Some(line!() - 2));
}

#[test]
fn a_plan_over_the_memory_limit_is_refused() {
    use wgrad::compile::{compile, graph::Graph};
    let device = cpu();
    let x = Tensor::uniform([1 << 10], &key());
    let (graph, _) = Graph::flatten(std::slice::from_ref(&x));
    let mut limits = wgrad::device::cpu::Cpu::of(&device).unwrap().limits();
    let plan = compile(&graph, &limits);
    assert!(wgrad::device::realize::fits("realize", &plan, &limits).is_ok());
    limits.memory_bytes_max = 4095;
    let error = wgrad::device::realize::fits("realize", &plan, &limits).expect_err("too little memory");
    assert_eq!(error.kind(), wgrad::ErrorKind::Memory);
    assert_eq!(error.to_string(), "realize: the plan needs 4096 bytes at its peak, but the device's limit is 4095");
    limits.memory_bytes_max = u64::MAX;
    limits.buffer_bytes_max = 4092;
    let error = wgrad::device::realize::fits("realize", &plan, &limits).expect_err("too large a tensor");
    assert_eq!(error.to_string(), "realize: a tensor of 4096 bytes, but a buffer of the device has at most 4092");
}
