"""Reference random numbers, drawn by JAX on the CPU with jax_threefry_partitionable=True (its default layout).

    python3 -m venv ~/.cache/wgrad-jax && ~/.cache/wgrad-jax/bin/pip install jax
    ~/.cache/wgrad-jax/bin/python tests/data/jax_reference.py

writes jax_reference.txt beside itself (made with JAX 0.10.2). The tests read that file, not this one. The form is that
of torch_reference.py: cases of lines, an empty line between two.

    case <unique name>
    op <op> key=<word 0>,<word 1> key=value ...
    out u32 3,5 : v v ...            hex: eight hex digits, the bits of an f32, in place of a number

An option range=a,b says that only the elements a .. b of the flattened result stand in the file.

What JAX computes, all arithmetic in u32 unless it says f32; H(key, (a, b)) is Threefry-2x32 with 20 rounds (rotations 13 15
26 6 and 17 29 16 24 in turn, the third key word key0 ^ key1 ^ 0x1BD11BDA, keys added every four rounds), a pair of words:

    key(seed)          (seed >> 32, seed & 0xFFFFFFFF) of a 64-bit seed; JAX without 64-bit types, as here, keeps a seed's
                       low 32 bits, so word 0 is 0
    fold_in(key, d)    H(key, (0, d)), both words, d a u32
    split(key, n)      key i of n is H(key, (i >> 32, i & 0xFFFFFFFF)): the same as fold_in(key, i) below 2^32
    bits(key, shape)   element i of the flattened result: (a, b) = H(key, (i >> 32, i & 0xFFFFFFFF)); a ^ b
    uniform            f32 from the bits (bits >> 9) | 0x3F800000, minus 1: a multiple of 2^-23 in [0, 1);
                       in [lo, hi): max(lo, u * (hi - lo) + lo) in f32; XLA's CPU rounds that once, others twice, so bits
                       stand here (hex) only where hi - lo is a power of two and the two agree
    normal             sqrt(2) * erf_inv(v) in f32, v uniform in [lo, 1) with lo the f32 after -1; hi - lo rounds to 2 in f32.
                       erf_inv is Giles' single-precision polynomial in -log1p(-v * v)
    bernoulli(p)       uniform < p
    randint(lo, hi)    (h, l) = bits of the two keys of split(key, 2); s = hi - lo; m = (2^16 % s)^2 % s (products wrap);
                       lo + ((h % s) * m + l % s) % s
    permutation(n)     ceil(3 ln n / ln(2^32 - 1)) times: (key, sub) = split(key, 2), then a stable sort of the numbers,
                       at first 0 .. n, by bits(sub, n)
    categorical        the first greatest of logits - ln(-ln(uniform in [2^-126, 1))); logit i of the flattened ones is
                       i * 37 % 101 / 16
"""
import os

import jax
import numpy as np

jax.config.update("jax_threefry_partitionable", True)
lines, names = [], set()


def case(name, op, *outs, **options):
    assert name not in names, name
    names.add(name)
    lines.append(f"case {name}")
    option = lambda v: ",".join(map(str, v)) if isinstance(v, tuple) else str(v)
    lines.append(" ".join([f"op {op}"] + [f"{k}={option(v)}" for k, v in options.items()]))
    for kind, x in outs:
        text = {"hex": lambda v: "%08x" % v, "f32": lambda v: "%.9g" % v}.get(kind, lambda v: str(int(v)))
        lines.append(f"out {kind} {','.join(map(str, x.shape)) or '-'} : " + " ".join(map(text, x.reshape(-1).tolist())))
    lines.append("")


keys = [(0, 0), (0, 42), (1, 2), (0xFFFFFFFF, 0xFFFFFFFF), (0x13198A2E, 0x03707344)]
shapes = [((), None), ((1,), None), ((7,), None), ((3, 5), None), ((2, 3, 4), None), ((1000,), (0, 64)), ((70000,), (69990, 70000)), ((300, 300), (65530, 65546))]
for n, words in enumerate(keys):
    key = jax.random.wrap_key_data(np.array(words, np.uint32), impl="threefry2x32")
    for shape, part in shapes if n in (1, 4) else shapes[2:4]:
        tag = f"key{n}_" + ("x".join(map(str, shape)) or "scalar")
        options = dict(key=words, shape=shape or "-", **({"range": part} if part else {}))
        take = lambda x: np.asarray(x).reshape(-1)[slice(*part)] if part else np.asarray(x)
        case(f"bits_{tag}", "bits", ("u32", take(jax.random.bits(key, shape, np.uint32))), **options)
        for op, x in [("uniform", jax.random.uniform(key, shape, np.float32)), ("normal", jax.random.normal(key, shape, np.float32))]:
            case(f"{op}_{tag}", op, ("hex", take(x).view(np.uint32)), ("f32", take(x)), **options)
    for lo, hi in [(-0.5, 1.5), (-0.3, 0.6)]:
        x = np.asarray(jax.random.uniform(key, (7,), np.float32, lo, hi))
        exact = [("hex", x.view(np.uint32))] if hi - lo == 2 else []  # XLA fuses the multiply and add: see above
        case(f"uniform_{hi}_key{n}", "uniform", *exact, ("f32", x), key=words, shape=(7,), lo=lo, hi=hi)
    case(f"bernoulli_key{n}", "bernoulli", ("bool", np.asarray(jax.random.bernoulli(key, np.float32(0.3), (20,)))), key=words, shape=(20,), p=0.3)
    for lo, hi in [(0, 10), (-5, 100000)]:
        case(f"randint_{hi}_key{n}", "randint", ("i32", np.asarray(jax.random.randint(key, (9,), lo, hi, np.int32))), key=words, shape=(9,), lo=lo, hi=hi)
    for count in (2, 5):
        case(f"split_{count}_key{n}", "split", ("u32", np.asarray(jax.random.key_data(jax.random.split(key, count)))), key=words, n=count)
    for data in (0, 1, 1234567, 0xFFFFFFFF):
        case(f"fold_in_{data}_key{n}", "fold_in", ("u32", np.asarray(jax.random.key_data(jax.random.fold_in(key, np.uint32(data))))), key=words, data=data)
    for count in (1, 2, 10):
        case(f"permutation_{count}_key{n}", "permutation", ("i32", np.asarray(jax.random.permutation(key, count))), key=words, n=count)
case("permutation_2000_key1", "permutation", ("i32", np.asarray(jax.random.permutation(jax.random.key(42), 2000))[:64]), key=(0, 42), n=2000, range=(0, 64))
for rows, classes in ((1, 3), (20, 10), (40, 97)):
    logits = (np.arange(rows * classes) * 37 % 101 / 16).astype(np.float32).reshape(rows, classes)
    drawn = np.asarray(jax.random.categorical(jax.random.key(42), logits)).astype(np.int32)
    case(f"categorical_{rows}x{classes}", "categorical", ("i32", drawn), key=(0, 42), rows=rows, classes=classes)
for seed in (0, 42, 123456789, 0xFFFFFFFF):
    case(f"key_{seed}", "key", ("u32", np.asarray(jax.random.key_data(jax.random.key(np.uint32(seed))))), seed=seed)

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jax_reference.txt")
with open(path, "w") as f:
    f.write("\n".join(lines))
print(f"{len(names)} cases, {os.path.getsize(path)} bytes, JAX {jax.__version__}")
