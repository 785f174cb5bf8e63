"""Writes tensors of PyTorch as a safetensors file, which takes a few lines and no package."""
import json
import struct

import torch

KINDS = {torch.int64: "I64", torch.int32: "I32"}


def write(path, tensors):
    """The length of a JSON header, the header, the elements; floats of any kind become float32."""
    header, data = {}, b""
    for name, x in tensors.items():
        kind = KINDS.get(x.dtype, "F32")
        x = x.detach().contiguous().cpu()
        raw = (x.to(torch.float32) if kind == "F32" else x).numpy().tobytes()
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    print(f"{path.name}: {len(header)} tensors, {path.stat().st_size} bytes, PyTorch {torch.__version__}")
