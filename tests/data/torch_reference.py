"""Reference values and gradients of wgrad's composite ops, computed by PyTorch in float64.

    python3 -m venv ~/.cache/wgrad-torch && ~/.cache/wgrad-torch/bin/pip install torch numpy
    ~/.cache/wgrad-torch/bin/python tests/data/torch_reference.py

writes torch_reference.txt beside itself (made with PyTorch 2.15.0, CPU; any recent one will do). The tests read that
file, not this one, so nobody needs PyTorch to run them. A case is some lines, then an empty one:

    case <unique name>
    op <op> key=value key=value ...     lists are joined by commas: stride=2,1
    in f32 2,3 : v v v ...              the inputs in order; f32, i32 or bool (0 or 1); a scalar's shape is `-`
    out f32 2,3 : v v ...               one line a result
    w f32 2,3 : v v ...                 present where gradients follow: loss = sum(result 0 * w)
    grad 0 2,3 : v v ...                the gradient of that loss with respect to input 0

Inputs and weights are multiples of a power of two, so f32 holds them exactly, and the results can be compared to nine
digits. Most inputs are odd multiples of 1/64, and second operands odd multiples of 1/128, so that no value, difference
or quotient stands on a kink (0, 1, a tie, ...); the cases about ties and special values say so in their names.
"""
import math
import os

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(20)
lines, names = [], set()


def normal(*shape, scale=1.0, grid=64):
    """Normal numbers, each at the nearest odd multiple of 1/grid below."""
    k = torch.floor(torch.randn(shape) * scale * grid / 2)
    return (2 * k + 1) / grid


def second(*shape, scale=1.0):
    return normal(*shape, scale=scale, grid=128)


def positive(*shape):
    return normal(*shape).abs() + 0.25


def distinct(*shape):
    """Different numbers around zero, none of them zero."""
    n = math.prod(shape)
    return ((2 * torch.randperm(n) + 1 - n - n % 2) / 16).reshape(shape)


def ids(high, *shape):
    return torch.randint(0, high, shape)


def t(*values):
    """A tensor of floats, from (nested) lists."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def number(v):
    if isinstance(v, (bool, int)):
        return str(int(v))
    return "%.9g" % v  # also nan, inf and -inf


def option(v):
    if isinstance(v, bool):
        return str(v).lower()
    return ",".join(map(str, v)) if isinstance(v, (tuple, list)) else str(v)


def shape_of(x):
    return ",".join(map(str, x.shape)) or "-"


def line(word, x, dtype=True):
    kind = {torch.float64: "f32", torch.int64: "i32", torch.bool: "bool"}[x.dtype] + " " if dtype else ""
    values = " ".join(number(v) for v in x.detach().reshape(-1).tolist())
    lines.append(f"{word} {kind}{shape_of(x)} : {values}".rstrip())


def case(name, op, f, *inputs, grads=None, **options):
    """One case of `op`; f computes it. `grads` lists the inputs to differentiate by: all the float ones if not given."""
    assert name not in names, name
    names.add(name)
    if grads is None:
        grads = [i for i, x in enumerate(inputs) if x.is_floating_point()]
    inputs = [x.detach().clone().requires_grad_(i in grads) for i, x in enumerate(inputs)]
    outs = f(*inputs)
    outs = list(outs) if isinstance(outs, (tuple, list)) else [outs]
    lines.append(f"case {name}")
    lines.append(" ".join([f"op {op}"] + [f"{k}={option(v)}" for k, v in options.items()]))
    for x in inputs:
        if x.is_floating_point():
            printed = torch.tensor([float(number(v)) for v in x.detach().reshape(-1).tolist()])
            assert torch.equal(printed.float().double().reshape(x.shape), x.detach()), name
        line("in", x)
    for x in outs:
        line("out", x)
    if grads and outs[0].is_floating_point():
        w = normal(*outs[0].shape, grid=16)
        line("w", w)
        for i, g in zip(grads, torch.autograd.grad((outs[0] * w).sum(), [inputs[i] for i in grads])):
            line(f"grad {i}", g, dtype=False)
    lines.append("")


# ---- convolutions: x [N, C, ...], weight [O, C/groups, ...], bias [O]; transposed: weight [C, O/groups, ...] ----

def conv(name, op, x, weight, bias=None, **o):
    g = getattr(F, op)
    args = {k: (v if k == "groups" else list(v)) for k, v in o.items()}
    case(name, op, lambda *i: g(*i, **args), normal(*x), normal(*weight), *([normal(bias)] if bias else []), **o)


conv("conv1d_plain", "conv1d", (2, 3, 7), (4, 3, 3), stride=(1,), padding=(0,), dilation=(1,), groups=1)
conv("conv1d_bias_stride_padding", "conv1d", (2, 2, 8), (3, 2, 3), 3, stride=(2,), padding=(1,), dilation=(1,), groups=1)
conv("conv1d_dilation_groups", "conv1d", (1, 4, 9), (6, 2, 2), 6, stride=(1,), padding=(2,), dilation=(3,), groups=2)
conv("conv1d_depthwise_stride_leaves_rest", "conv1d", (2, 3, 8), (3, 1, 3), stride=(3,), padding=(0,), dilation=(1,), groups=3)
conv("conv2d_plain", "conv2d", (2, 2, 4, 5), (3, 2, 3, 2), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
conv("conv2d_bias_same", "conv2d", (1, 2, 4, 4), (2, 2, 3, 3), 2, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
conv("conv2d_uneven", "conv2d", (1, 4, 6, 5), (4, 2, 3, 2), 4, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
conv("conv2d_stride_leaves_rest", "conv2d", (1, 1, 6, 7), (2, 1, 2, 3), stride=(3, 2), padding=(0, 1), dilation=(1, 1), groups=1)
conv("conv2d_pointwise", "conv2d", (2, 3, 3, 2), (4, 3, 1, 1), 4, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
conv("conv2d_depthwise", "conv2d", (1, 3, 5, 5), (6, 1, 3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1), groups=3)
conv("conv3d_plain", "conv3d", (1, 2, 3, 4, 3), (2, 2, 2, 2, 2), stride=(1, 1, 1), padding=(0, 0, 0), dilation=(1, 1, 1), groups=1)
conv("conv3d_uneven", "conv3d", (1, 2, 4, 3, 5), (2, 1, 2, 3, 2), 2, stride=(2, 1, 2), padding=(1, 1, 0), dilation=(1, 1, 2), groups=2)
conv("conv_transpose1d_plain", "conv_transpose1d", (2, 3, 4), (3, 2, 3), stride=(1,), padding=(0,), output_padding=(0,), dilation=(1,), groups=1)
conv("conv_transpose1d_stride_output_padding", "conv_transpose1d", (1, 2, 5), (2, 3, 3), 3, stride=(2,), padding=(1,), output_padding=(1,), dilation=(1,), groups=1)
conv("conv_transpose1d_dilation_groups", "conv_transpose1d", (2, 4, 3), (4, 1, 2), 2, stride=(3,), padding=(0,), output_padding=(2,), dilation=(2,), groups=2)
conv("conv_transpose2d_plain", "conv_transpose2d", (1, 2, 3, 4), (2, 3, 2, 3), stride=(1, 1), padding=(0, 0), output_padding=(0, 0), dilation=(1, 1), groups=1)
conv("conv_transpose2d_upsampling", "conv_transpose2d", (2, 2, 3, 2), (2, 1, 3, 3), 1, stride=(2, 2), padding=(1, 1), output_padding=(1, 1), dilation=(1, 1), groups=1)
conv("conv_transpose2d_uneven", "conv_transpose2d", (1, 4, 2, 3), (4, 1, 2, 3), 2, stride=(3, 1), padding=(0, 2), output_padding=(1, 0), dilation=(1, 2), groups=2)
conv("conv_transpose3d_plain", "conv_transpose3d", (1, 2, 2, 2, 3), (2, 2, 2, 1, 2), stride=(1, 1, 1), padding=(0, 0, 0), output_padding=(0, 0, 0), dilation=(1, 1, 1), groups=1)
conv("conv_transpose3d_uneven", "conv_transpose3d", (1, 2, 2, 3, 2), (2, 1, 2, 2, 3), 2, stride=(2, 1, 2), padding=(0, 1, 1), output_padding=(1, 0, 1), dilation=(1, 1, 1), groups=2)

# ---- pooling and resizing ----

def pool(name, op, x, **o):
    args = {"kernel_size" if k == "kernel" else k: v for k, v in o.items()}
    case(name, op, lambda x: getattr(F, op)(x, **args), distinct(*x), **o)


pool("max_pool1d_plain", "max_pool1d", (2, 2, 8), kernel=(2,), stride=(2,), padding=(0,), dilation=(1,))
pool("max_pool1d_overlap", "max_pool1d", (1, 3, 9), kernel=(3,), stride=(2,), padding=(1,), dilation=(2,))
pool("max_pool2d_plain", "max_pool2d", (1, 2, 4, 6), kernel=(2, 3), stride=(2, 3), padding=(0, 0), dilation=(1, 1))
pool("max_pool2d_overlap", "max_pool2d", (2, 1, 5, 6), kernel=(3, 2), stride=(2, 1), padding=(1, 1), dilation=(1, 2))
pool("avg_pool1d_plain", "avg_pool1d", (2, 2, 7), kernel=(3,), stride=(2,), padding=(0,), count_include_pad=True)
pool("avg_pool1d_pad_counts", "avg_pool1d", (1, 2, 8), kernel=(3,), stride=(2,), padding=(1,), count_include_pad=True)
pool("avg_pool1d_pad_does_not_count", "avg_pool1d", (1, 2, 8), kernel=(3,), stride=(2,), padding=(1,), count_include_pad=False)
pool("avg_pool2d_plain", "avg_pool2d", (1, 2, 4, 5), kernel=(2, 2), stride=(1, 2), padding=(0, 0), count_include_pad=True)
pool("avg_pool2d_pad_counts", "avg_pool2d", (1, 2, 4, 5), kernel=(3, 2), stride=(2, 1), padding=(1, 1), count_include_pad=True)
pool("avg_pool2d_pad_does_not_count", "avg_pool2d", (1, 2, 4, 5), kernel=(3, 2), stride=(2, 1), padding=(1, 1), count_include_pad=False)
for op, x, size in [("adaptive_avg_pool1d", (2, 2, 7), (3,)), ("adaptive_avg_pool1d", (1, 2, 3), (5,)), ("adaptive_avg_pool2d", (1, 2, 5, 7), (3, 2)),
                    ("adaptive_avg_pool2d", (2, 3, 4, 3), (1, 1)), ("adaptive_max_pool1d", (2, 2, 7), (3,)), ("adaptive_max_pool1d", (1, 2, 3), (5,)),
                    ("adaptive_max_pool2d", (1, 2, 5, 7), (3, 2)), ("adaptive_max_pool2d", (2, 2, 4, 3), (1, 1))]:
    case(f"{op}_{x[2]}_to_{size[0]}", op, lambda x: getattr(F, op)(x, list(size)), distinct(*x), size=size)
for x, size in [((1, 2, 3, 4), (6, 8)), ((1, 2, 3, 4), (5, 3)), ((2, 1, 4, 5), (2, 9))]:
    tag = f"{x[2]}x{x[3]}_to_{size[0]}x{size[1]}"
    case(f"upsample_nearest_{tag}", "upsample_nearest", lambda x: F.interpolate(x, size=size, mode="nearest"), normal(*x), size=size)
    for corners in (False, True):
        case(f"upsample_bilinear_{tag}_corners_{str(corners).lower()}", "upsample_bilinear", lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=corners),
             normal(*x), size=size, align_corners=corners)

# ---- norms; the affine inputs follow x where given ----

for tag, axes, affine in [("last", (5,), True), ("last_two", (4, 5), True), ("no_affine", (5,), False)]:
    case(f"layer_norm_{tag}", "layer_norm", lambda x, *a: F.layer_norm(x, axes, *a, eps=1e-5), normal(2, 4, 5), *([normal(*axes), normal(*axes)] if affine else []),
         trailing=len(axes), eps=1e-5)
case("layer_norm_far_from_zero", "layer_norm", lambda x, g, b: F.layer_norm(x, (6,), g, b, eps=1e-5), normal(3, 6) + 100, normal(6), normal(6), trailing=1, eps=1e-5)
for tag, axes, affine in [("last", (5,), True), ("last_two", (3, 5), True), ("no_affine", (5,), False)]:
    case(f"rms_norm_{tag}", "rms_norm", lambda x, *a: F.rms_norm(x, axes, *a, eps=1e-6), normal(2, 3, 5), *([normal(*axes)] if affine else []), trailing=len(axes), eps=1e-6)
case("group_norm_two_groups", "group_norm", lambda x, g, b: F.group_norm(x, 2, g, b, eps=1e-5), normal(2, 4, 3), normal(4), normal(4), groups=2, eps=1e-5)
case("group_norm_image_no_affine", "group_norm", lambda x: F.group_norm(x, 3, eps=1e-5), normal(2, 6, 2, 3), groups=3, eps=1e-5)
case("batch_norm_rows", "batch_norm", lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=1e-5), normal(6, 3), normal(3), normal(3), eps=1e-5)
case("batch_norm_image", "batch_norm", lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=1e-3), normal(2, 3, 3, 2), normal(3), normal(3), eps=1e-3)
case("batch_norm_no_affine", "batch_norm", lambda x: F.batch_norm(x, None, None, training=True, eps=1e-5), normal(3, 2, 4), eps=1e-5)
case("instance_norm_image", "instance_norm", lambda x, g, b: F.instance_norm(x, weight=g, bias=b, eps=1e-5), normal(2, 3, 3, 3), normal(3), normal(3), eps=1e-5)
case("instance_norm_no_affine", "instance_norm", lambda x: F.instance_norm(x, eps=1e-5), normal(2, 2, 5), eps=1e-5)

# ---- softmax and attention: q [.., L, E], k [.., S, E], v [.., S, F], then the mask where there is one ----

for op in ("softmax", "log_softmax"):
    for axis, x in [(-1, (3, 7)), (0, (5, 4)), (1, (2, 5, 3))]:
        case(f"{op}_axis_{axis}", op, lambda x: getattr(F, op)(x, dim=axis), normal(*x, scale=2), axis=axis)
    case(f"{op}_large", op, lambda x: getattr(F, op)(x, dim=-1), t([1000, 999, 990], [-1000, -1001, -1000.5]), axis=-1)
case("softmax_minus_infinity", "softmax", lambda x: F.softmax(x, dim=-1), t([0.5, -math.inf, 1.25], [-math.inf, -math.inf, 2]), axis=-1)
case("logsumexp_last", "logsumexp", lambda x: torch.logsumexp(x, -1), normal(3, 5), axes=(-1,), keepdim=False)
case("logsumexp_two_axes", "logsumexp", lambda x: torch.logsumexp(x, (0, 2), keepdim=True), normal(2, 3, 4), axes=(0, 2), keepdim=True)
case("logsumexp_large_and_infinite", "logsumexp", lambda x: torch.logsumexp(x, -1), t([1000, 1000], [-math.inf, -math.inf], [-math.inf, 3], [math.inf, 1]), grads=[], axes=(-1,), keepdim=False)

sdpa = F.scaled_dot_product_attention
attention = "scaled_dot_product_attention"
case("sdpa_plain", attention, lambda q, k, v: sdpa(q, k, v), normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 3))
case("sdpa_heads_scale", attention, lambda q, k, v: sdpa(q, k, v, scale=0.25), normal(1, 2, 3, 5), normal(1, 2, 4, 5), normal(1, 2, 4, 5), scale=0.25)
case("sdpa_causal", attention, lambda q, k, v: sdpa(q, k, v, is_causal=True), normal(1, 2, 5, 3), normal(1, 2, 5, 3), normal(1, 2, 5, 3), is_causal=True)
case("sdpa_causal_more_keys", attention, lambda q, k, v: sdpa(q, k, v, is_causal=True), normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 4), is_causal=True)
case("sdpa_float_mask", attention, lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), normal(2, 2, 3, 4), normal(2, 2, 4, 4), normal(2, 2, 4, 4), normal(3, 4), mask="float")
case("sdpa_bool_mask", attention, lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), normal(2, 2, 3, 4), normal(2, 2, 4, 4), normal(2, 2, 4, 4),
     torch.tensor([[[[1, 0, 1, 1]] * 3], [[[0, 0, 1, 0], [1, 1, 0, 1], [1, 1, 1, 1]]]], dtype=torch.bool), mask="bool")
case("sdpa_grouped_heads", attention, lambda q, k, v: sdpa(q, k, v, enable_gqa=True), normal(1, 4, 3, 2), normal(1, 2, 4, 2), normal(1, 2, 4, 2), enable_gqa=True)
case("sdpa_grouped_heads_causal", attention, lambda q, k, v: sdpa(q, k, v, enable_gqa=True, is_causal=True), normal(2, 6, 3, 2), normal(2, 2, 3, 2), normal(2, 2, 3, 2), enable_gqa=True, is_causal=True)

# ---- losses: prediction, target, then weights where given ----

for op, options in [("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {"delta": 0.75}), ("smooth_l1_loss", {"beta": 0.75})]:
    for reduction in ("mean", "sum", "none"):
        case(f"{op}_{reduction}", op, lambda x, y: getattr(F, op)(x, y, reduction=reduction, **options), normal(3, 4), second(3, 4), reduction=reduction, **options)
for reduction in ("mean", "sum", "none"):
    case(f"cross_entropy_ids_{reduction}", "cross_entropy", lambda x, y: F.cross_entropy(x, y, reduction=reduction), normal(4, 5), ids(5, 4), target="ids", reduction=reduction)
    case(f"cross_entropy_probabilities_{reduction}", "cross_entropy", lambda x, p: F.cross_entropy(x, p, reduction=reduction), normal(3, 4),
         t([0.5, 0.25, 0.125, 0.125], [0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25]), target="probabilities", reduction=reduction)
    case(f"cross_entropy_everything_{reduction}", "cross_entropy", lambda x, y, w: F.cross_entropy(x, y, w, ignore_index=1, label_smoothing=0.125, reduction=reduction), normal(5, 4),
         torch.tensor([0, 1, 3, 2, 1]), positive(4), grads=[0], target="ids", reduction=reduction, weight=True, ignore_index=1, label_smoothing=0.125)
case("cross_entropy_label_smoothing", "cross_entropy", lambda x, y: F.cross_entropy(x, y, label_smoothing=0.25), normal(4, 5), ids(5, 4), target="ids", reduction="mean", label_smoothing=0.25)
case("cross_entropy_probabilities_smoothing_weight", "cross_entropy", lambda x, p, w: F.cross_entropy(x, p, w, label_smoothing=0.25), normal(2, 3), t([0.5, 0.25, 0.25], [0, 1, 0]), positive(3),
     grads=[0], target="probabilities", reduction="mean", weight=True, label_smoothing=0.25)
case("cross_entropy_ignore_index", "cross_entropy", lambda x, y: F.cross_entropy(x, y), normal(5, 3), torch.tensor([0, -100, 2, 1, -100]), target="ids", reduction="mean", ignore_index=-100)
case("cross_entropy_weight", "cross_entropy", lambda x, y, w: F.cross_entropy(x, y, w), normal(5, 3), ids(3, 5), positive(3), grads=[0], target="ids", reduction="mean", weight=True)
case("cross_entropy_images", "cross_entropy", lambda x, y: F.cross_entropy(x, y), normal(2, 4, 2, 3), ids(4, 2, 2, 3), target="ids", reduction="mean")
case("nll_loss_mean", "nll_loss", lambda x, y: F.nll_loss(x, y), normal(4, 5), ids(5, 4), reduction="mean")
case("nll_loss_weight_ignore", "nll_loss", lambda x, y, w: F.nll_loss(x, y, w, ignore_index=2), normal(6, 4), torch.tensor([2, 0, 1, 2, 3, 3]), positive(4), grads=[0], reduction="mean", weight=True, ignore_index=2)
case("nll_loss_none", "nll_loss", lambda x, y: F.nll_loss(x, y, reduction="none"), normal(2, 3, 4), ids(3, 2, 4), reduction="none")
odds = lambda *s: (torch.randint(0, 16, s) * 2 + 1) / 32  # in (0, 1)
for reduction in ("mean", "none"):
    case(f"bce_{reduction}", "bce", lambda p, y: F.binary_cross_entropy(p, y, reduction=reduction), odds(3, 4), odds(3, 4), grads=[0], reduction=reduction)
case("bce_hard_targets_sum", "bce", lambda p, y: F.binary_cross_entropy(p, y, reduction="sum"), odds(5), t(0, 1, 1, 0, 1), grads=[0], reduction="sum")
case("bce_with_logits_mean", "bce_with_logits", lambda x, y: F.binary_cross_entropy_with_logits(x, y), normal(3, 4, scale=2), odds(3, 4), reduction="mean")
case("bce_with_logits_pos_weight", "bce_with_logits", lambda x, y, p: F.binary_cross_entropy_with_logits(x, y, pos_weight=p, reduction="sum"), normal(3, 4), odds(3, 4), positive(4), grads=[0], reduction="sum", pos_weight=True)
case("bce_with_logits_large", "bce_with_logits", lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none"), t(100, -100, 100, -100, 20, -20), t(1, 1, 0, 0, 0.5, 0.5), grads=[0], reduction="none")
for log_target in (False, True):  # `mean` divides by the number of elements, `batchmean` by the first axis
    for reduction in ("batchmean", "mean", "sum", "none"):
        case(f"kl_div_{reduction}_log_target_{str(log_target).lower()}", "kl_div", lambda x, y: F.kl_div(x, y, reduction=reduction, log_target=log_target), -positive(2, 3),
             -positive(2, 3) if log_target else odds(2, 3), reduction=reduction, log_target=log_target)
case("kl_div_zero_target", "kl_div", lambda x, y: F.kl_div(x, y, reduction="sum"), -positive(2, 3), t([0, 0.5, 0.5], [1, 0, 0]), grads=[0], reduction="sum", log_target=False)
case("cosine_similarity_last", "cosine_similarity", lambda x, y: F.cosine_similarity(x, y, dim=-1, eps=1e-8), normal(3, 4), second(3, 4), axis=-1, eps=1e-8)
case("cosine_similarity_axis_broadcast", "cosine_similarity", lambda x, y: F.cosine_similarity(x, y, dim=1, eps=1e-8), normal(2, 3, 4), second(1, 3, 4), axis=1, eps=1e-8)
case("cosine_embedding_loss_mean", "cosine_embedding_loss", lambda x, y, s: F.cosine_embedding_loss(x, y, s), normal(4, 3), second(4, 3), t(1, -1, 1, -1), grads=[0, 1], margin=0.0, reduction="mean")
case("cosine_embedding_loss_margin", "cosine_embedding_loss", lambda x, y, s: F.cosine_embedding_loss(x, y, s, margin=0.25, reduction="none"), normal(4, 3), second(4, 3), t(-1, -1, 1, -1), grads=[0, 1], margin=0.25, reduction="none")

# ---- activations ----

points = torch.cat([normal(12, scale=2), t(-8 + 1 / 64, 8 + 1 / 64, 1 / 64, -1 / 64)])
for op, f, options in [
    ("relu", F.relu, {}), ("leaky_relu", lambda x: F.leaky_relu(x, 0.125), {"slope": 0.125}), ("elu", lambda x: F.elu(x, 0.75), {"alpha": 0.75}),
    ("gelu", F.gelu, {"approximate": "none"}), ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), {"approximate": "tanh"}), ("silu", F.silu, {}), ("mish", F.mish, {}),
    ("softplus", F.softplus, {}), ("sigmoid", torch.sigmoid, {}), ("hardswish", F.hardswish, {}), ("erf", torch.erf, {}), ("tanh", torch.tanh, {}),
    ("expm1", torch.expm1, {}), ("sinh", torch.sinh, {}),
]:
    case(op, op.removesuffix("_tanh"), f, points, **options)
case("relu_at_zero", "relu", F.relu, t(-1, 0, 1))
case("abs_at_zero", "abs", torch.abs, t(-1, 0, 1))
case("clamp_at_its_bounds", "clamp", lambda x: torch.clamp(x, -1, 2), t(-2, -1, 0, 2, 3), min=-1, max=2)
case("log1p", "log1p", torch.log1p, t(-0.75, -1 / 128, 1 / 1024, 0.5, 3, 100))
case("glu_last", "glu", lambda x: F.glu(x, -1), normal(3, 6), axis=-1)
case("glu_first", "glu", lambda x: F.glu(x, 0), normal(4, 3), axis=0)

# ---- einsum and products ----

for i, (equation, *shapes) in enumerate([
    ("ij,jk->ik", (3, 4), (4, 2)), ("ij,kj->ki", (3, 4), (2, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)), ("i,j->ij", (3,), (5,)), ("ij->ji", (3, 4)), ("ij->j", (3, 4)),
    ("ij->", (2, 3)), ("bhqd,bhkd->bhqk", (1, 2, 3, 4), (1, 2, 5, 4)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("i,i->", (6,), (6,)), ("ij,ij->i", (3, 4), (3, 4)),
    ("abc,cd,b->da", (2, 3, 4), (4, 2), (3,)), ("...ij,...jk->...ik", (2, 1, 3, 2), (4, 2, 3)), ("b...,b->...", (3, 2, 4), (3,)), ("ab,cb", (2, 3), (4, 3)),
]):
    case(f"einsum_{i}", "einsum", lambda *x: torch.einsum(equation, *x), *[normal(*s) for s in shapes], equation=equation)
case("einsum_diagonal", "einsum", lambda x: torch.einsum("bii->bi", x), normal(2, 3, 3), equation="bii->bi")
for a, b in [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 3)), ((2, 3), (3, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((4,), (2, 4, 3))]:
    case("matmul_" + "x".join(map(str, a)) + "_by_" + "x".join(map(str, b)), "matmul", torch.matmul, normal(*a), normal(*b))

# ---- scans and reductions ----

case("cumsum_last", "cumsum", lambda x: torch.cumsum(x, -1), normal(3, 5), axis=-1)
case("cumsum_first", "cumsum", lambda x: torch.cumsum(x, 0), normal(4, 3), axis=0)
case("cumprod_last", "cumprod", lambda x: torch.cumprod(x, -1), normal(3, 5), axis=-1)
case("cumprod_with_zeros", "cumprod", lambda x: torch.cumprod(x, 1), t([1.5, 0, 2, -0.5], [0, 3, 0, 1], [2, -1, 0.5, 0]), axis=1)
case("cummax_values", "cummax", lambda x: torch.cummax(x, 1)[0], distinct(2, 6), axis=1)
for op in ("std", "var"):
    case(f"{op}_unbiased_last", op, lambda x: getattr(torch, op)(x, -1, correction=1), normal(3, 5), axes=(-1,), correction=1, keepdim=False)
    case(f"{op}_biased_two_axes", op, lambda x: getattr(torch, op)(x, (0, 2), correction=0, keepdim=True), normal(2, 3, 4), axes=(0, 2), correction=0, keepdim=True)
for p in (1.0, 2.0, math.inf, 3.0):
    case(f"norm_{p:g}", "norm", lambda x: torch.linalg.vector_norm(x, p, -1), distinct(3, 5), p=f"{p:g}", axes=(-1,), keepdim=False)
case("norm_2_all", "norm", lambda x: torch.linalg.vector_norm(x, 2), normal(3, 4), p=2, axes=(0, 1), keepdim=False)
case("prod_last", "prod", lambda x: torch.prod(x, -1), normal(3, 4), axes=(-1,), keepdim=False)
case("prod_with_zeros", "prod", lambda x: torch.prod(x, 1), t([2, 0, 3, 0.5], [0, 0, 4, 1], [0, 0, 0, 0], [1, 2, 3, 4]), axes=(1,), keepdim=False)
ties = t([1, 3, 3, 2], [2, 2, 2, 2], [-1, -1, 0, -2])
for op, f in [("max", torch.amax), ("min", torch.amin)]:
    case(f"{op}_ties_last", op, lambda x: f(x, -1), ties, axes=(-1,), keepdim=False)
    case(f"{op}_ties_all", op, lambda x: f(x, (0, 1), keepdim=True), ties, axes=(0, 1), keepdim=True)
case("maximum_ties", "maximum", torch.maximum, t(1, 2, 3, -1), t(2, 2, 1, -1))
case("minimum_ties", "minimum", torch.minimum, t(1, 2, 3, -1), t(2, 2, 1, -1))

# ---- movement ----

def pad(name, x, per_axis, mode, **o):
    last_first = [n for before_after in reversed(per_axis) for n in before_after]
    while last_first[-2:] == [0, 0]:
        last_first = last_first[:-2]
    case(name, "pad", lambda x: F.pad(x, last_first, mode=mode, **o), normal(*x), before=[b for b, _ in per_axis], after=[a for _, a in per_axis], mode=mode, **o)


pad("pad_constant", (2, 3), [(1, 0), (2, 1)], "constant", value=0.5)
pad("pad_constant_crops", (3, 5), [(0, 1), (-2, -1)], "constant", value=0.0)
pad("pad_reflect_last", (1, 2, 5), [(0, 0), (0, 0), (4, 2)], "reflect")
pad("pad_reflect_image", (1, 2, 3, 4), [(0, 0), (0, 0), (1, 2), (3, 0)], "reflect")
pad("pad_replicate_last", (1, 2, 4), [(0, 0), (0, 0), (3, 1)], "replicate")
pad("pad_replicate_image", (1, 1, 3, 2), [(0, 0), (0, 0), (2, 1), (0, 4)], "replicate")
case("unfold_last", "unfold", lambda x: x.unfold(-1, 3, 2), normal(2, 8), axis=-1, size=3, step=2)
case("unfold_overlapping_first", "unfold", lambda x: x.unfold(0, 3, 1), normal(5, 3), axis=0, size=3, step=1)
case("unfold_with_gaps", "unfold", lambda x: x.unfold(1, 2, 3), normal(2, 9, 2), axis=1, size=2, step=3)
for k in (-1, 0, 2):
    case(f"tril_{k}", "tril", lambda x: torch.tril(x, k), normal(2, 3, 4), k=k)
    case(f"triu_{k}", "triu", lambda x: torch.triu(x, k), normal(4, 3), k=k)
    case(f"diag_to_matrix_{k}", "diag", lambda x: torch.diag(x, k), normal(3), k=k)
    case(f"diag_of_matrix_{k}", "diag", lambda x: torch.diag(x, k), normal(3, 4), k=k)
case("roll_one_axis", "roll", lambda x: torch.roll(x, 2, -1), normal(2, 5), shifts=(2,), axes=(-1,))
case("roll_two_axes", "roll", lambda x: torch.roll(x, (-4, 1), (0, 1)), normal(3, 4), shifts=(-4, 1), axes=(0, 1))

# ---- indexing: table or input, indices, then the source where there is one ----

case("gather_last", "gather", lambda x, i: torch.gather(x, 1, i), normal(3, 4), ids(4, 3, 5), axis=1)
case("gather_first_smaller", "gather", lambda x, i: torch.gather(x, 0, i), normal(4, 3, 2), ids(4, 2, 2, 2), axis=0)
case("scatter_last", "scatter", lambda x, i, s: torch.scatter(x, 1, i, s), normal(2, 5), torch.tensor([[4, 0, 2], [1, 3, 0]]), normal(2, 3), axis=1)
case("scatter_first", "scatter", lambda x, i, s: torch.scatter(x, 0, i, s), normal(4, 3), torch.tensor([[3, 0, 1], [0, 2, 3]]), normal(2, 3), axis=0)
case("scatter_add_repeats", "scatter_add", lambda x, i, s: torch.scatter_add(x, 0, i, s), normal(3, 4), ids(3, 5, 4), normal(5, 4), axis=0)
case("scatter_add_last", "scatter_add", lambda x, i, s: torch.scatter_add(x, -1, i, s), normal(2, 3), torch.tensor([[2, 2, 0, 2], [1, 1, 1, 1]]), normal(2, 4), axis=-1)
case("index_select_rows", "index_select", lambda x, i: torch.index_select(x, 0, i), normal(4, 3), torch.tensor([2, 0, 2, 3, 2]), axis=0)
case("index_select_middle", "index_select", lambda x, i: torch.index_select(x, 1, i), normal(2, 3, 2), torch.tensor([1, 1]), axis=1)
case("embedding", "embedding", lambda w, i: F.embedding(i, w), normal(5, 3), torch.tensor([[0, 4, 4], [2, 0, 4]]))
for descending in (False, True):
    tag = "descending" if descending else "ascending"
    case(f"sort_last_{tag}", "sort", lambda x: torch.sort(x, dim=-1, descending=descending, stable=True), distinct(3, 7), axis=-1, descending=descending)
    case(f"sort_first_{tag}", "sort", lambda x: torch.sort(x, dim=0, descending=descending, stable=True), distinct(5, 3), axis=0, descending=descending)
    case(f"argsort_ties_{tag}", "argsort", lambda x: torch.argsort(x, dim=-1, descending=descending, stable=True), t([2, 1, 2, 1, 3], [0, 0, 0, 0, 0]), grads=[], axis=-1, descending=descending)
    case(f"topk_{tag}", "topk", lambda x: torch.topk(x, 3, -1, largest=descending, sorted=True), distinct(2, 7), k=3, axis=-1, largest=descending)
case("topk_first", "topk", lambda x: torch.topk(x, 2, 0), distinct(5, 3), k=2, axis=0, largest=True)

# ---- arithmetic with corners ----

case("atan2_quadrants", "atan2", torch.atan2, normal(12), second(12))
case("atan2_axes", "atan2", torch.atan2, t(0, 0, 1, -1, 0), t(1, -1, 0, 0, 0), grads=[])
case("pow_positive_base", "pow", torch.pow, positive(3, 4), second(4))
case("pow_negative_base_whole_exponents", "pow", torch.pow, t(-1.5, -2, 0.5, -0.75, 3), t(3, 2, -2, -1, 0), grads=[0])
case("pow_corners", "pow", torch.pow, t(0, 0, 0, -8, -1, 1, 2), t(0, 2, -1, 0.5, math.inf, math.inf, -math.inf), grads=[])
case("pow_zero_base_gradient", "pow", torch.pow, t(0, 0, 0), t(1, 2, 3))
for op in ("remainder", "fmod"):
    case(f"{op}_signs", op, getattr(torch, op), second(4, 4, scale=4), normal(4, 4))
    case(f"{op}_whole", op, getattr(torch, op), t(7, -7, 7, -7, 6, -6, 0.5), t(3, 3, -3, -3, 3, 3, 2), grads=[])
case("remainder_ints", "remainder", torch.remainder, torch.tensor([7, -7, 7, -7, 6, -6]), torch.tensor([3, 3, -3, -3, 3, -3]))
case("fmod_ints", "fmod", torch.fmod, torch.tensor([7, -7, 7, -7, 6, -6]), torch.tensor([3, 3, -3, -3, 3, -3]))

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_reference.txt")
with open(path, "w") as f:
    f.write("\n".join(lines))
print(f"{len(names)} cases, {os.path.getsize(path)} bytes, PyTorch {torch.__version__}")
