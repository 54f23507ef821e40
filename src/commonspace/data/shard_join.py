"""Splits made of the shards of others: tars are linked, not copied, and rows that are left out leave the index alone.

So a mixture of terabytes is made in seconds, and dropping a row costs nothing; its bytes stay in the tar until the tars
are written anew. Readers of this project go by the index; a reader of the bare tars would still see the row.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.data.shards import INDEX_SCHEMA, VERSION, ShardReader
from commonspace.errors import DataError
from commonspace.files import sha256_of


def join_split(
    folder: Path,
    task: str,
    split: str,
    sources: Sequence[tuple[ShardReader, np.ndarray | None]],
    licences: Mapping[str, str],
) -> int:
    """Write one split of one task from some others, in their order; return its records. Without one, none is written.

    sources  readers of local splits, each with which of its rows are kept, bool [records], or None for all

    Raises:
        DataError: a key is in two of them, or the disk is full. Nothing of the split is left then.
    """
    shards, tables, origins = [], [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for reader, keep in sources:
            table = reader.index if keep is None else reader.index.filter(pa.array(keep))
            numbers = np.unique(table.column("shard").to_numpy())
            places = np.zeros(len(reader.shards), np.int32)
            for number in numbers:
                places[number] = len(shards)
                name = f"{split}-{len(shards):05d}.tar"
                _link(Path(reader.folder) / reader.shards[number]["file"], folder / name)
                shards.append({**reader.shards[number], "file": name})
                origins.append(Path(reader.folder) / reader.shards[number]["file"])
            column = pa.array(places[table.column("shard").to_numpy()], pa.int32())
            tables.append(table.set_column(INDEX_SCHEMA.get_field_index("shard"), "shard", column))
        index = pa.concat_tables(tables).cast(INDEX_SCHEMA) if tables else INDEX_SCHEMA.empty_table()
        _check_keys(index, origins, folder / split)
        if len(index):
            _describe(folder, task, split, index, shards, licences)
    except BaseException as error:
        for path in (*folder.glob(f"{split}-*.tar"), *folder.glob(f".{split}.*"), folder / f"{split}.parquet"):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise DataError(
                f"{folder / split}: cannot be written ({reason}); free space or choose another place"
            ) from error
        raise
    return len(index)


def _describe(
    folder: Path, task: str, split: str, index: pa.Table, shards: list[dict], licences: Mapping[str, str]
) -> None:
    partial = folder / f".{split}.parquet.partial"
    pq.write_table(index, partial)
    meta = {
        "version": VERSION,
        "task": task,
        "split": split,
        "count": len(index),
        "index_sha256": sha256_of(partial),
        "shards": shards,
        "licences": dict(licences),
    }
    description = folder / f".{split}.json.partial"
    description.write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n")
    os.replace(partial, folder / f"{split}.parquet")
    os.replace(description, folder / f"{split}.json")


def _check_keys(index: pa.Table, origins: Sequence[Path], where: Path) -> None:
    keys = np.asarray(index.column("key").to_pylist())
    if len(np.unique(keys)) == len(keys):
        return
    values, counts = np.unique(keys, return_counts=True)
    twice = str(values[counts > 1][0])
    places = index.column("shard").to_numpy()[np.flatnonzero(keys == twice)[:2]]
    tars = " and ".join(str(origins[place]) for place in places)
    raise DataError(
        f"{where}: key {twice!r} is in {tars}, and {int((counts > 1).sum())} keys in all come more than once; "
        "are two downloads of one set in its folder?"
    )


def _link(source: Path, target: Path) -> None:
    """One file under two names, or where the file system has no such thing a copy."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
