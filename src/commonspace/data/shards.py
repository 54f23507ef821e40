"""Records on disk: webdataset tars with an index that finds any record by one seek.

A split of a task is `<split>-00000.tar ...`, `<split>.parquet` (one row a record) and `<split>.json` (what it is,
and the hashes of the other files). The last is written last: where it is missing, the split does not exist.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.data.sample import Record
from commonspace.data.storage import RemoteFolder, place
from commonspace.data.tar_bytes import Range, tars_of
from commonspace.data.tar_records import unpack_record
from commonspace.errors import ContentError, DataError
from commonspace.files import sha256_of

VERSION = 1
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.int32()),  # which tar
        ("offset", pa.int64()),  # of the record's first header, in bytes
        ("size", pa.int64()),  # to the end of its last member, padding included
        ("crc", pa.uint32()),  # of these bytes: damage is named by key, without hashing a whole tar
        ("concept", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),  # of the canonical positive
        ("tokens", pa.int32()),  # canonical query and positive, roughly (see estimate.py)
    ]
)


class ShardReader:
    """Random access to the records of one split.

    Pickles as a path and a fingerprint: workers read the index and open tars themselves, when they first need them.
    Raises `DataError` naming the tar and the key where something is missing, cut short or changed.
    """

    def __init__(self, folder: str | Path | RemoteFolder, split: str) -> None:
        self.folder, self.split = place(folder), split
        self._load_meta()

    def _load_meta(self) -> None:
        path = self.folder / f"{self.split}.json"
        try:
            raw = path.read_bytes()
            meta = json.loads(raw)
            self.task, self.count, self.shards = str(meta["task"]), int(meta["count"]), list(meta["shards"])
            self.licences, self._index_sha256 = dict(meta["licences"]), str(meta["index_sha256"])
        except OSError as error:
            reason = error.strerror or "not found"
            raise DataError(f"{path}: no such split ({reason}); build it with `commonspace data build`") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a description of shards ({error!r}); build the split again") from error
        if meta.get("version") != VERSION:
            raise DataError(f"{path}: version {meta.get('version')!r}, this program reads {VERSION}; build it again")
        if not self.count:
            raise DataError(f"{path}: the split is empty; build it again, or leave the task out")
        self._tars = tars_of(self.folder)
        self._check_sizes()
        self.fingerprint = hashlib.sha256(raw).hexdigest()
        self._table: pa.Table | None = None
        self._rows: dict[str, int] | None = None

    def _check_sizes(self) -> None:
        sizes = self._tars.sizes([shard["file"] for shard in self.shards])
        for shard, size in zip(self.shards, sizes, strict=True):
            if size not in (shard["bytes"], -1):
                state = "is missing" if size is None else f"has {size} bytes where {shard['bytes']} were written"
                raise DataError(f"{self.folder / shard['file']}: {state}; build or copy the split again")

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "split": self.split, "fingerprint": self.fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["split"])
        if self.fingerprint != state["fingerprint"]:
            raise DataError(f"{self.folder / self.split}: the shards changed while they were being read; start again")

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"ShardReader({self.task}/{self.split}, {self.count} records)"

    @property
    def index(self) -> pa.Table:
        """One row a record, columns as in `INDEX_SCHEMA`."""
        if self._table is None:
            path = self.folder / f"{self.split}.parquet"
            try:
                data = path.read_bytes()
            except OSError as error:
                reason = error.strerror or "not found"
                raise DataError(f"{path}: cannot be read ({reason}); build the split again") from error
            if hashlib.sha256(data).hexdigest() != self._index_sha256:
                raise DataError(f"{path}: not the index these shards were written with; build the split again")
            # one thread: a thread pool started here can abort the interpreter when it exits (pyarrow 26)
            self._table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False).combine_chunks()
        return self._table

    def column(self, name: str) -> np.ndarray:
        """One column of the index, [records]."""
        return self.index.column(name).to_numpy()

    def row_of(self, key: str) -> int:
        """The row of a record by its key."""
        if self._rows is None:
            self._rows = {name: row for row, name in enumerate(self.index.column("key").to_pylist())}
        if key not in self._rows:
            raise DataError(f"{self.folder / self.split}: no record has the key {key!r}")
        return self._rows[key]

    def source(self, row: int) -> str:
        """Where a record lies, as "<task folder>/<tar>:<key>"."""
        shard = self.shards[self.index.column("shard")[row].as_py()]["file"]
        return f"{self.folder.name}/{shard}:{self.index.column('key')[row].as_py()}"

    def __iter__(self) -> Iterator[Record]:
        return (self.read(row) for row in range(self.count))

    def fetch(self, rows: Sequence[int]) -> None:
        """Bring the bytes of some rows here at once, for `read` to take; of use where shards are far away."""
        self._tars.fetch(self._range(self._entry(row)) for row in rows)

    def read(self, row: int) -> Record:
        """The record in row `row`, 0 to len - 1, its media as bytes named "<tar>:<key>.<n>.<ending>".

        Raises `DataError` where the record is damaged, `StorageError` where its tar cannot be reached: that says
        nothing of the record, which a resumed run might find whole.
        """
        if not 0 <= row < self.count:
            raise IndexError(f"{self!r} has no row {row}")
        entry = self._entry(row)
        shard = self.shards[entry["shard"]]["file"]
        where = f"{self.folder / shard}: record {entry['key']!r}"
        block = self._tars.read(*self._range(entry))
        if len(block) != entry["size"] or zlib.crc32(block) != entry["crc"]:
            raise DataError(f"{where} is cut short or damaged; build or copy the split again")
        try:
            return unpack_record(entry["key"], shard, block)
        except (tarfile.TarError, ValueError, KeyError, TypeError, ContentError) as error:
            raise DataError(f"{where} does not hold a record ({error}); build the split again") from error

    def _entry(self, row: int) -> dict[str, Any]:
        """What the index says of a row's place."""
        return {name: self.index.column(name)[row].as_py() for name in ("key", "shard", "offset", "size", "crc")}

    def _range(self, entry: Mapping[str, Any]) -> Range:
        return self.shards[entry["shard"]]["file"], entry["offset"], entry["size"]

    def verify(self) -> None:
        """Hash every tar against the description; minutes on large sets."""
        self._check_sizes()
        for shard in self.shards:
            path = self.folder / shard["file"]
            if sha256_of(path) != shard["sha256"]:
                raise DataError(f"{path}: its sha256 is not the one it was written with; build or copy it again")
