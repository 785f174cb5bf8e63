"""Writes the tables that tests/it/parquet.rs reads: python parquet_reference.py, with pyarrow.

All hold the same twelve rows, written in every way that the reader knows.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N = 12
K = range(N)
HERE = Path(__file__).parent
types = {
    "f32": pa.float32(), "f64": pa.float64(), "f16": pa.float16(), "i8": pa.int8(), "i32": pa.int32(),
    "i64": pa.int64(), "u32": pa.uint32(), "flag": pa.bool_(), "kind": pa.string(), "twice": pa.float64(),
}
values = {
    "f32": [k / 4 - 1 for k in K],
    "f64": [10.0**-k for k in K],
    "f16": np.array([k / 8 for k in K], np.float16),
    "i8": [k - 6 for k in K],
    "i32": [k * k * (-1) ** k for k in K],
    "i64": [2**40 * (k % 2) + k for k in K],
    "u32": [2**32 - 1 - k for k in K],
    "flag": [k % 3 == 0 for k in K],
    "kind": [["apple", "pear", "ä"][k % 3] for k in K],
    "twice": [float(k // 6) for k in K],
}
table = pa.table({name: pa.array(values[name], type) for name, type in types.items()})
# A column that is never null has no levels, as some writers say it.
required = table.cast(pa.schema([pa.field(name, type, nullable=False) for name, type in types.items()]))
split = {name: "BYTE_STREAM_SPLIT" for name in ["f32", "f64", "f16"]}
delta = {name: "DELTA_BINARY_PACKED" for name in ["i8", "i32", "i64", "u32"]}

ways = {
    "snappy": (table, {}),
    "plain": (required, {"use_dictionary": False, "compression": "none"}),
    "groups": (table, {"row_group_size": 5, "compression": "gzip", "data_page_size": 1, "write_batch_size": 2}),
    "zstd": (table, {"compression": "zstd", "data_page_version": "2.0", "use_dictionary": ["kind", "twice"]}),
    "packed": (required, {"use_dictionary": False, "column_encoding": {**split, **delta, "flag": "RLE"}, "data_page_version": "2.0"}),
}
others = pa.table(
    {
        "holes": pa.array([1.0, None, 3.0]),
        "lists": pa.array([[1], [2, 3], []]),
        "point": pa.array([{"x": 1, "y": 2.5}] * 3),
        "price": pa.array([1, 2, 3], pa.decimal128(5, 2)),
        "nan": pa.array([0.0, float("nan"), 1.0]),
    }
)
for name, (rows, options) in ways.items():
    pq.write_table(rows, HERE / f"parquet_{name}.parquet", store_schema=False, write_statistics=False, **options)
pq.write_table(others, HERE / "parquet_others.parquet", store_schema=False, write_statistics=False)
pq.write_table(others, HERE / "parquet_lz4.parquet", compression="lz4", store_schema=False, write_statistics=False)
