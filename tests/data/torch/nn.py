"""What PyTorch's modules give: weights by their names, results, gradients and running statistics.

    python3 -m venv ~/.cache/wgrad-torch && ~/.cache/wgrad-torch/bin/pip install torch numpy
    ~/.cache/wgrad-torch/bin/python tests/data/torch/nn.py

writes nn.safetensors beside itself (made with PyTorch 2.15.0, CPU; any recent one will do). The tests read that file, so
nobody needs PyTorch to run them. Of a case `name` the file has

    name/state/<path>   the state dict before the pass
    name/in             the input
    name/out            the result in training (no dropout is on)
    name/w              the cotangent: loss = sum(out * w)
    name/grad           the gradient of that loss by the input, when that is of floats
    name/grad/<path>    the gradients by the weights
    name/after/<path>   the buffers after the pass
    name/eval           the result in evaluation, after the pass
    name/<more>         what a case returns beside its result

Everything is computed in float64 and stored as float32; inputs and weights are multiples of 1/64, which both hold.
"""
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

from store import write

torch.set_default_dtype(torch.float64)
torch.manual_seed(31)
found = {}


def grid(x, scale=64):
    return torch.round(x * scale) / scale


def put(name, x):
    assert name not in found, name
    found[name] = x.detach().contiguous()


def case(name, module, x, run=None):
    """One case; `run` gives the result and a dict of what else there is."""
    run = run or (lambda module, x: (module(x), {}))
    with torch.no_grad():
        for path, p in module.named_parameters():
            p.copy_(grid(torch.randn(p.shape) * 0.4 + (1.0 if "norm" in path and path.endswith("weight") else 0.0)))
    for path, value in module.state_dict().items():
        put(f"{name}/state/{path}", value.clone())
    x = grid(x).requires_grad_() if x.is_floating_point() else x
    put(f"{name}/in", x)
    module.train()
    out, more = run(module, x)
    w = grid(torch.randn(out.shape))
    (out * w).sum().backward()
    put(f"{name}/out", out)
    put(f"{name}/w", w)
    if x.is_floating_point():
        put(f"{name}/grad", x.grad)
    for path, p in module.named_parameters():
        put(f"{name}/grad/{path}", p.grad)
    for path, b in module.named_buffers():
        put(f"{name}/after/{path}", b)
    for key, value in more.items():
        put(f"{name}/{key}", value)
    module.eval()
    with torch.no_grad():
        put(f"{name}/eval", run(module, x)[0])


def rotated(x, base=10_000.0):
    """Rotary positions on [.., t, e]: component i turns with component i + e / 2."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] * base ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


class Grouped(nn.Module):
    """Causal attention with rotary positions, in which several heads share keys and values."""

    def __init__(self, size, heads, kv_heads):
        super().__init__()
        self.shape = heads, kv_heads, size // heads
        self.in_proj_weight = nn.Parameter(torch.empty((heads + 2 * kv_heads) * self.shape[2], size))
        self.out_proj = nn.Linear(size, size, bias=False)

    def forward(self, x):
        heads, kv_heads, e = self.shape
        q, k, v = (x @ self.in_proj_weight.T).split([heads * e, kv_heads * e, kv_heads * e], -1)
        q, k, v = (z.unflatten(-1, (-1, e)).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True, enable_gqa=True)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class SwiGlu(nn.Module):
    """A block of attention and SwiGLU behind RMS norms."""

    def __init__(self, size, heads, kv_heads, hidden):
        super().__init__()
        self.self_attn = Grouped(size, heads, kv_heads)
        self.linear1 = nn.Linear(size, hidden, bias=False)
        self.linear2 = nn.Linear(hidden, size, bias=False)
        self.linear3 = nn.Linear(size, hidden, bias=False)
        self.norm1 = nn.RMSNorm(size, eps=1e-5)
        self.norm2 = nn.RMSNorm(size, eps=1e-5)

    def forward(self, x):
        x = x + self.self_attn(self.norm1(x))
        z = self.norm2(x)
        return x + self.linear2(F.silu(self.linear1(z)) * self.linear3(z))


def attention(causal):
    def run(module, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype) if causal else None
        return module(x, x, x, attn_mask=mask, is_causal=causal, need_weights=False)[0], {}

    return run


def across(module, x):
    memory = grid(torch.sin(torch.arange(2 * 3 * 8)).reshape(2, 3, 8))
    return module(x, memory, memory, need_weights=False)[0], {"memory": memory}


def encoder(module, x):
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
    return module(x, src_mask=mask, is_causal=True), {}


def lstm(module, x):
    y, (h, c) = module(x)
    return y, {"h": h, "c": c}


def gru(module, x):
    y, h = module(x)
    return y, {"h": h}


class Named(nn.Module):
    """A norm below a path that says so, which decides how `case` draws its weights."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x)


r = torch.randn
case("linear", nn.Linear(5, 3), r(4, 5))
case("linear_3d", nn.Linear(5, 3, bias=False), r(2, 3, 5))
case("embedding", nn.Embedding(7, 3), torch.tensor([[1, 6, 1], [0, 2, 3]]))
case("conv1d", nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), r(2, 4, 7))
case("conv2d", nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1)), r(2, 3, 6, 5))
case("conv2d_same", nn.Conv2d(2, 3, 3, padding="same", bias=False), r(1, 2, 4, 4))
case("conv3d", nn.Conv3d(2, 3, 2, stride=2), r(1, 2, 4, 4, 4))
case("conv_transpose1d", nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), r(2, 4, 4))
case("conv_transpose2d", nn.ConvTranspose2d(3, 2, (3, 2), stride=2, dilation=(2, 1)), r(2, 3, 3, 3))
case("conv_transpose3d", nn.ConvTranspose3d(2, 3, 2, stride=2, bias=False), r(1, 2, 2, 2, 2))
case("layer_norm", Named(nn.LayerNorm(6)), r(2, 3, 6))
case("layer_norm_2", Named(nn.LayerNorm((3, 4), eps=1e-3)), r(2, 3, 4))
case("rms_norm", Named(nn.RMSNorm(6, eps=1e-5)), r(2, 3, 6))
case("group_norm", Named(nn.GroupNorm(2, 4)), r(2, 4, 3, 2))
case("batch_norm", Named(nn.BatchNorm1d(3)), r(5, 3))
case("batch_norm_1d", Named(nn.BatchNorm1d(3, eps=1e-3)), r(2, 3, 4))
case("batch_norm_2d", Named(nn.BatchNorm2d(3, momentum=0.3)), r(2, 3, 2, 3))
case("batch_norm_3d", Named(nn.BatchNorm3d(2, affine=False)), r(2, 2, 2, 2, 2))
case("sequential", nn.Sequential(
    nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.0),
    nn.Linear(16, 3)), r(3, 1, 6, 6))
case("attention", nn.MultiheadAttention(8, 2, batch_first=True), r(2, 4, 8), attention(False))
case("attention_causal", nn.MultiheadAttention(8, 4, bias=False, batch_first=True), r(2, 5, 8), attention(True))
case("attention_across", nn.MultiheadAttention(8, 2, batch_first=True), r(2, 4, 8), across)
case("attention_grouped", Grouped(16, 4, 2), r(2, 5, 16))
case("block_gelu", nn.TransformerEncoderLayer(
    8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True), r(2, 4, 8), encoder)
case("block_swiglu", SwiGlu(16, 4, 2, 24), r(2, 4, 16))
case("lstm", nn.LSTM(3, 4, 2, batch_first=True), r(2, 5, 3), lstm)
case("lstm_plain", nn.LSTM(3, 4, bias=False, batch_first=True), r(2, 3, 3), lstm)
case("gru", nn.GRU(3, 4, 2, batch_first=True), r(2, 5, 3), gru)

write(pathlib.Path(__file__).with_suffix(".safetensors"), found)
