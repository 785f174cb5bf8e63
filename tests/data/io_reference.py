"""Files written by NumPy and by the safetensors library, for the readers of wgrad::io.

    python3 -m venv ~/.cache/wgrad-io && ~/.cache/wgrad-io/bin/pip install numpy safetensors ml_dtypes
    ~/.cache/wgrad-io/bin/python tests/data/io_reference.py

writes io_numpy.npz and io_torch.safetensors beside itself (made with NumPy 2.4.6 and safetensors 0.8.0).
With a folder as its argument it instead checks model.safetensors and data.npz there, which wgrad wrote: the test
io::the_reference_libraries_read_ours makes them and prints the command when WGRAD_IO_OUT names the folder.
"""
import pathlib
import sys

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

here = pathlib.Path(__file__).parent
arrays = {
    "f4": np.arange(6, dtype="<f4").reshape(2, 3) / 4,
    "f8": np.array([0.1, -2.5, np.inf], dtype="<f8"),
    "f2": np.array([[1.5], [-65504.0]], dtype="<f2"),
    "i8": np.array([1, -(2**31), 2**31 - 1], dtype="<i8"),
    "u4": np.array([0, 2**32 - 1], dtype="<u4"),
    "i1": np.array([-128, 127], dtype="i1"),
    "u1": np.arange(5, dtype="u1"),
    "b1": np.array([[True, False, True]]),
    "scalar": np.array(3.5, dtype="<f4"),
    "empty": np.zeros((0, 4), dtype="<f4"),
    "fortran": np.asfortranarray(np.arange(24, dtype="<i4").reshape(2, 3, 4)),
}


def write():
    np.savez_compressed(here / "io_numpy.npz", **arrays)
    tensors = {name: array for name, array in arrays.items() if name not in ("scalar", "empty", "fortran")}
    tensors["bf16"] = np.array([1.0, -2.0, 0.1], dtype=ml_dtypes.bfloat16)
    save_file(tensors, here / "io_torch.safetensors", {"format": "pt"})


def check(folder):
    want = np.array([[1.5, -2.0], [0.0, 3.25]], dtype="<f4")
    for found in (load_file(folder / "model.safetensors"), np.load(folder / "data.npz")):
        assert sorted(found.keys()) == ["flags", "half", "steps", "weight"], sorted(found.keys())
        assert found["weight"].dtype == want.dtype and (found["weight"] == want).all()
        assert found["flags"].dtype == bool and found["flags"].tolist() == [True, False, True]
        assert found["half"].dtype == np.float16 and found["half"].tolist() == 0.5
        assert found["steps"].tolist() == [7]
    with safetensors.safe_open(folder / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_tensor("steps").dtype == np.int64
    print("read and equal")


check(pathlib.Path(sys.argv[1])) if len(sys.argv) > 1 else write()
