"""Hard negatives on disk: for the records of a task, the keys of records whose positives are wrong for them.

One parquet a task, `<folder>/<task>.parquet`: key, negatives (list of keys, best first, as many as there are),
scores (their similarities). Its schema metadata says which shards it was mined on. `<task>.reverse.parquet` is the
same for the other direction: records whose queries are wrong for a record's positive.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.data.shards import ShardReader
from commonspace.data.storage import RemoteFolder
from commonspace.errors import DataError
from commonspace.files import replaced

SCHEMA = pa.schema(
    [("key", pa.string()), ("negatives", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))],
)


class NegativeLists:
    """Rows of hard negatives for each row of a task, ragged; two arrays, so that it travels to workers cheaply."""

    def __init__(self, rows: np.ndarray, ends: np.ndarray) -> None:
        self.rows, self.ends = rows, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __str__(self) -> str:
        """How many there are, and a hash of them: by it a resumed run knows its own lists again."""
        digest = hashlib.blake2b(self.rows.tobytes(), digest_size=6)
        digest.update(self.ends.tobytes())
        return f"{len(self.rows)} ({digest.hexdigest()})"

    def of(self, row: int) -> np.ndarray:
        """Rows whose positives are hard negatives of `row`, best first; empty where none were found."""
        return self.rows[self.ends[row - 1] if row else 0 : self.ends[row]]


def write_rows(
    path: Path, reader: ShardReader, asked: np.ndarray, counts: np.ndarray, rows: np.ndarray, scores: np.ndarray
) -> None:
    """Write what was mined on `reader`: of its rows asked [U] the lists, counts [U] of each among rows and scores [M].

    The file appears whole or not at all; DataError where it cannot be written.
    """
    keys = reader.index.column("key").combine_chunks()
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    lists = [pa.ListArray.from_arrays(ends, values) for values in (keys.take(pa.array(rows)), pa.array(scores))]
    columns = [keys.take(pa.array(asked)), lists[0], lists[1]]
    schema = SCHEMA.with_metadata({"shards": reader.fingerprint, "task": reader.task})
    table = pa.table([column.cast(kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema)
    try:
        with replaced(path) as partial:
            pq.write_table(table, partial)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def list_file(task: str, direction: str = "forward") -> str:
    """The file of a task's lists, by the direction they were mined in."""
    return f"{task}.parquet" if direction == "forward" else f"{task}.{direction}.parquet"


def read_negatives(path: Path | RemoteFolder, reader: ShardReader) -> NegativeLists:
    """The lists of a task, keys turned into rows of `reader`.

    Raises `DataError` where the file is missing, broken, or was mined on other shards.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(path.read_bytes()))
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
