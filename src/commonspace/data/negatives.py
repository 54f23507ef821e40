"""Hard negatives on disk: for the records of a task, the keys of records whose positives are wrong for them.

One parquet a task, `<folder>/<task>.parquet`: key, negatives (list of keys, best first, as many as there are),
scores (their similarities). Its schema metadata says which shards it was mined on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.data.shards import ShardReader
from commonspace.errors import DataError

SCHEMA = pa.schema(
    [("key", pa.string()), ("negatives", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))],
)


class NegativeLists:
    """Rows of hard negatives for each row of a task, ragged; two arrays, so that it travels to workers cheaply."""

    def __init__(self, rows: np.ndarray, ends: np.ndarray) -> None:
        self.rows, self.ends = rows, ends

    def __len__(self) -> int:
        return len(self.ends)

    def of(self, row: int) -> np.ndarray:
        """Rows whose positives are hard negatives of `row`, best first; empty where none were found."""
        return self.rows[self.ends[row - 1] if row else 0 : self.ends[row]]


def write_negatives(
    path: Path, reader: ShardReader, negatives: Mapping[str, Sequence[str]], scores: Mapping[str, Sequence[float]]
) -> None:
    """Write lists mined on `reader`; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [list(negatives), [list(v) for v in negatives.values()], [list(scores[key]) for key in negatives]]
    table = pa.table(columns, schema=SCHEMA.with_metadata({"shards": reader.fingerprint, "task": reader.task}))
    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(table, partial)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)


def read_negatives(path: Path, reader: ShardReader) -> NegativeLists:
    """The lists of a task, keys turned into rows of `reader`.

    Raises `DataError` where the file is missing, broken, or was mined on other shards.
    """
    try:
        file = pq.ParquetFile(path)
        table = file.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: no readable list of negatives ({error}); run `commonspace mine`") from error
    if table.schema.names != SCHEMA.names:
        raise DataError(f"{path}: columns {table.schema.names}, expected {SCHEMA.names}; run `commonspace mine`")
    shards = (table.schema.metadata or {}).get(b"shards", b"").decode()
    if shards != reader.fingerprint:
        raise DataError(f"{path}: mined on other shards than {reader.folder}; run `commonspace mine` again")
    lists: list[list[int]] = [[] for _ in range(len(reader))]
    for key, keys in zip(table["key"].to_pylist(), table["negatives"].to_pylist(), strict=True):
        lists[reader.row_of(key)] = [reader.row_of(negative) for negative in keys]
    ends = np.cumsum([len(rows) for rows in lists], dtype=np.int64)
    return NegativeLists(np.array([row for rows in lists for row in rows], dtype=np.int64), ends)
