"""What somebody else trained: a small network that PyTorch taught the digits 0 to 4, for examples/finetune.rs.

    python3 -m venv ~/.cache/wgrad-torch && ~/.cache/wgrad-torch/bin/pip install torch
    ~/.cache/wgrad-torch/bin/python examples/finetune.py

writes data/trunk.safetensors (made with PyTorch 2.15.0, CPU), so that nobody needs PyTorch to run the example.
The file is written by hand in a few lines; `safetensors.torch.save_file` does the same.
"""
import csv
import gzip
import json
import pathlib
import struct

import torch
from torch import nn

data = pathlib.Path(__file__).parents[1] / "data"
torch.manual_seed(1)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, classes))

    def forward(self, x):
        return self.classifier(self.features(x / 8 - 1))


rows = torch.tensor([[float(cell) for cell in row] for row in csv.reader(gzip.open(data / "digits.csv.gz", "rt"))])
rows = rows[rows[:, 64] < 5]
rows = rows[torch.randperm(len(rows))]
x, y = rows[:, :64].reshape(-1, 1, 8, 8), rows[:, 64].long()
(x, x_test), (y, y_test) = x.split([len(x) - 180, 180]), y.split([len(y) - 180, 180])

net = Net(5)
adam = torch.optim.AdamW(net.parameters(), 3e-3)
for epoch in range(30):
    for batch in torch.randperm(len(x)).split(64):
        # Moved by a pixel at random, so that it learns strokes and not places.
        moved = torch.roll(x[batch], tuple(torch.randint(-1, 2, (2,)).tolist()), (2, 3))
        loss = nn.functional.cross_entropy(net(moved), y[batch])
        adam.zero_grad()
        loss.backward()
        adam.step()
net.eval()
accuracy = (net(x_test).argmax(1) == y_test).double().mean().item()
print(f"test accuracy {accuracy:.4f} on {len(x_test)} images of the digits 0 to 4")

kinds = {torch.float32: ("F32", 4), torch.int64: ("I64", 8)}
header, body = {"__metadata__": {"format": "pt", "accuracy": f"{accuracy:.4f}", "by": f"PyTorch {torch.__version__}"}}, b""
for name, tensor in sorted(net.state_dict().items(), key=lambda item: -kinds[item[1].dtype][1]):
    start = len(body)
    body += bytes(tensor.contiguous().flatten().view(torch.uint8).tolist())
    header[name] = {"dtype": kinds[tensor.dtype][0], "shape": list(tensor.shape), "data_offsets": [start, len(body)]}
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
(data / "trunk.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
