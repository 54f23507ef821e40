"""Files of vectors, whole or not at all; the suffix says which form.

.npy          float32 [entries, E]; rows are told apart by their place alone, so an entry that failed has a row of NaN
.parquet      columns key (string) and vector (E float32), one row for each entry that did not fail
.safetensors  `vectors` float32 [n, E] and `lines` int64 [n] of those that did not fail; the metadata has their `keys`

The last two say in their metadata, under "commonspace", what made them: the model's fingerprint, task, role and size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from safetensors.numpy import save_file

from commonspace.errors import DataError
from commonspace.serving.chunks import Chunk
from commonspace.serving.entries import Entry

Filled = Iterable[tuple[Sequence[Entry], Chunk]]
ABOUT = "commonspace"  # of the metadata


@dataclass(frozen=True)
class Form:
    """What a writer is told beside the vectors: number of entries, their size E, and what made them."""

    entries: int
    size: int
    about: Mapping[str, Any]


def write_vectors(path: Path, filled: Filled, form: Form) -> None:
    """Write every chunk of `filled`, in order, in the form of `path`'s suffix.

    Raises DataError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    try:
        _WRITERS[path.suffix](partial, filled, form)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); free space") from error
    finally:
        partial.unlink(missing_ok=True)


def read_parquet(path: Path) -> tuple[Iterator[tuple[list[str], np.ndarray]], Form]:
    """Batches of (keys, float32 [n, E]) of a .parquet file of vectors, and its form.

    Raises DataError for a file that is none.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read as parquet ({error}); write it by `commonspace embed`") from error
    schema = file.schema_arrow
    kind = schema.field("vector").type if "vector" in schema.names else None
    if "key" not in schema.names or not (kind and pa.types.is_fixed_size_list(kind)):
        raise DataError(f"{path}: has no columns key and vector (of fixed size); write it by `commonspace embed`")
    about = json.loads((schema.metadata or {}).get(ABOUT.encode(), b"{}"))
    return _batches(file, kind.list_size), Form(file.metadata.num_rows, kind.list_size, about)


def _batches(file: pq.ParquetFile, size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    for batch in file.iter_batches(columns=["key", "vector"]):
        values = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
        yield batch.column("key").to_pylist(), values.astype(np.float32, copy=False).reshape(-1, size)


def _succeeded(entries: Sequence[Entry], chunk: Chunk) -> tuple[list[Entry], np.ndarray]:
    failed = {failure.line for failure in chunk.failures}
    rows = [row for row, entry in enumerate(entries) if entry.line not in failed]
    return [entries[row] for row in rows], chunk.vectors_NE[rows]


def _write_npy(path: Path, filled: Filled, form: Form) -> None:
    out_NE = open_memmap(path, mode="w+", dtype=np.float32, shape=(form.entries, form.size))
    start = 0
    for entries, chunk in filled:
        out_NE[start : start + len(entries)] = chunk.vectors_NE
        start += len(entries)
    out_NE.flush()


def _write_parquet(path: Path, filled: Filled, form: Form) -> None:
    vector = pa.list_(pa.float32(), form.size)
    schema = pa.schema([("key", pa.string()), ("vector", vector)], metadata={ABOUT: json.dumps(dict(form.about))})
    with pq.ParquetWriter(path, schema) as writer:
        for entries, chunk in filled:
            kept, vectors_NE = _succeeded(entries, chunk)
            keys = pa.array([entry.key for entry in kept], pa.string())
            rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), type=vector)
            writer.write_batch(pa.record_batch([keys, rows], schema=schema))


def _write_safetensors(path: Path, filled: Filled, form: Form) -> None:
    parts = [_succeeded(entries, chunk) for entries, chunk in filled]
    kept = [entry for entries, _ in parts for entry in entries]
    tensors = {
        "vectors": np.concatenate([vectors_NE for _, vectors_NE in parts]),
        "lines": np.array([entry.line for entry in kept], dtype=np.int64),
    }
    keys = json.dumps([entry.key for entry in kept], ensure_ascii=False)
    save_file(tensors, path, metadata={ABOUT: json.dumps(dict(form.about)), "keys": keys})


_WRITERS: dict[str, Callable[[Path, Filled, Form], None]] = {
    ".npy": _write_npy,
    ".parquet": _write_parquet,
    ".safetensors": _write_safetensors,
}
