"""Loss curves of PyTorch on the CPU: three models, every optimizer, 20 steps.

    python3 -m venv ~/.cache/wgrad-torch && ~/.cache/wgrad-torch/bin/pip install torch numpy
    ~/.cache/wgrad-torch/bin/python tests/data/torch/curves.py

writes curves.safetensors beside itself (made with PyTorch 2.15.0, CPU, float32). The test curves.rs reads that file, so
nobody needs PyTorch to run it. Of a model `name` the file has

    name/state/<path>      the state dict before the first step
    name/x, name/y         five batches, which the steps take in turn
    name/loss/<optimizer>  the losses of 20 steps, each before its update

PyTorch has no Lion; the one here is the paper's Algorithm 2 (Chen and others, 2023).
"""
import copy
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

from store import write

STEPS, BATCHES = 20, 5
torch.manual_seed(7)
torch.use_deterministic_algorithms(True)
found = {}


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (b1 * m + (1 - b1) * p.grad).sign())
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=1e-3),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-3, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-4),
    "rmsprop_centered": lambda p: torch.optim.RMSprop(p, 1e-4, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 5e-3, lr_decay=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
    "lion": lambda p: Lion(p, 1e-4, weight_decay=0.1),
}


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(20, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.fc3(F.gelu(self.fc2(F.relu(self.fc1(x)))))


class Cnn(nn.Module):
    """The usual network for images of 28 by 28: two convolutions, two poolings, two linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(8 * 7 * 7, 24), nn.Linear(24, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x.reshape(-1, 1, 28, 28))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Gpt(nn.Module):
    """Two causal blocks over 12 positions; the head is the embedding."""

    def __init__(self, vocab=23, size=24, heads=3, length=12):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, size), nn.Embedding(length, size)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(size, heads, 4 * size, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, x):
        t = x.shape[1]
        x = self.tok(x) + self.pos.weight[:t]
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        for block in self.blocks:
            x = block(x, src_mask=mask, is_causal=True)
        return self.norm(x) @ self.tok.weight.T


def curves(name, model, x, y):
    for path, value in model.state_dict().items():
        found[f"{name}/state/{path}"] = value.clone()
    found[f"{name}/x"], found[f"{name}/y"] = x, y.to(torch.int32)
    for optimizer, make in OPTIMIZERS.items():
        trained, losses = copy.deepcopy(model), []
        step = make(trained.parameters())
        for n in range(STEPS):
            scores = trained(x[n % BATCHES])
            loss = F.cross_entropy(scores.flatten(0, -2), y[n % BATCHES].flatten())
            step.zero_grad()
            loss.backward()
            step.step()
            losses.append(loss.item())
        print(f"{name:4} {optimizer:16} {losses[0]:.4f} -> {losses[-1]:.4f}")
        found[f"{name}/loss/{optimizer}"] = torch.tensor(losses)


def classes(*dims, most):
    return torch.randint(0, most, dims)


curves("mlp", Mlp(), torch.randn(BATCHES, 16, 20), classes(BATCHES, 16, most=5))
# Images are mostly empty, in 256 shades.
images = (torch.rand(BATCHES, 4, 784) * 4 - 3).clamp(min=0)
curves("cnn", Cnn(), (images * 255).round() / 255, classes(BATCHES, 4, most=10))
text = classes(BATCHES, 4, 13, most=23)
gpt = Gpt()
nn.init.normal_(gpt.tok.weight, std=0.2)
nn.init.normal_(gpt.pos.weight, std=0.2)
curves("gpt", gpt, text[..., :-1].to(torch.int32), text[..., 1:])
write(pathlib.Path(__file__).with_name("curves.safetensors"), found)
