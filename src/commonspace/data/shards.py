"""Records on disk: webdataset tars with an index that finds any record by one seek.

A split of a task is `<split>-00000.tar ...`, `<split>.parquet` (one row a record) and `<split>.json` (what it is,
and the hashes of the other files). The last is written last: where it is missing, the split does not exist.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.data.estimate import estimate_tokens
from commonspace.data.sample import Record
from commonspace.data.tar_records import pack_record, unpack_record
from commonspace.errors import ContentError, DataError

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
_KEY = re.compile(r"[!-\-0-\[\]-~]{1,88}")  # printable ASCII but . / \ : a ustar name has 100 bytes
_OPEN_FILES = 64  # per reader and process


class ShardWriter:
    """Writes the records of one split of one task; a context manager.

    Files get their names when the block ends without an error; until then, and after an error, an earlier version of
    the split stays as it was. Raises `DataError` on a duplicate or unusable key, a medium that cannot be stored, a
    source without a licence, and a full disk. A split without records is not written.
    """

    def __init__(
        self, folder: str | Path, task: str, split: str, licences: Mapping[str, str], max_bytes: float = 256e6
    ) -> None:
        self.folder, self.task, self.split = Path(folder), task, split
        self.licences, self.max_bytes = dict(licences), int(max_bytes)
        self.shards: list[dict[str, Any]] = []
        self._rows: dict[str, list[Any]] = {name: [] for name in INDEX_SCHEMA.names}
        self._keys: set[str] = set()
        self._file: io.BufferedWriter | None = None
        self._hash = hashlib.sha256()

    @property
    def count(self) -> int:
        """Records written so far."""
        return len(self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise self._disk_error(failure) from failure
        finally:
            if self._file:
                self._file.close()
            for path in self.folder.glob(f".{self.split}*.partial"):
                path.unlink(missing_ok=True)

    def write(self, record: Record) -> None:
        """Append one record; its media are read now."""
        self._check(record)
        block = pack_record(record)
        try:
            if self._file and self._file.tell() + len(block) > self.max_bytes:
                self._close_shard()
            if not self._file:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file, self._hash = self._partial(self._name(len(self.shards))).open("wb"), hashlib.sha256()
            offset = self._file.tell()
            self._file.write(block)
        except OSError as failure:
            raise self._disk_error(failure) from failure
        self._hash.update(block)
        self._keys.add(record.key)
        row = {
            "key": record.key,
            "shard": len(self.shards),
            "offset": offset,
            "size": len(block),
            "crc": zlib.crc32(block),
            "concept": record.concept,
            "source": record.source,
            "language": record.positives[0].language,
            "tokens": estimate_tokens(record.queries[0].content) + estimate_tokens(record.positives[0].content),
        }
        for name, value in row.items():
            self._rows[name].append(value)

    def _check(self, record: Record) -> None:
        where = f"{self.folder / self.split}: record {record.key!r}"
        if not _KEY.fullmatch(record.key):
            raise DataError(f"{where}: a key is 1 to 88 printable ASCII characters without dot, slash or space")
        if record.key in self._keys:
            raise DataError(f"{where} comes twice; give each record of a split a key of its own")
        if record.task != self.task:
            raise DataError(f"{where} belongs to task {record.task!r}, not to {self.task!r}")
        if record.source not in self.licences:
            raise DataError(f"{where}: source {record.source!r} has no licence; add it to `licences`")
        if not record.queries or not record.positives:
            raise DataError(f"{where} needs at least one query and one positive")

    def _name(self, shard: int) -> str:
        return f"{self.split}-{shard:05d}.tar"

    def _partial(self, name: str) -> Path:
        return self.folder / f".{name}.partial"

    def _close_shard(self) -> None:
        assert self._file is not None
        end = bytes(1024)  # two empty blocks end a tar
        self._file.write(end)
        self._hash.update(end)
        size = self._file.tell()
        self._file.close()
        self._file = None
        self.shards.append({"file": self._name(len(self.shards)), "bytes": size, "sha256": self._hash.hexdigest()})

    def _commit(self) -> None:
        if self._file:
            self._close_shard()
        meta_path, index_path = self.folder / f"{self.split}.json", self.folder / f"{self.split}.parquet"
        meta_path.unlink(missing_ok=True)  # from here until its successor is in place the split does not exist
        if not self.shards:
            stale = {index_path, *self.folder.glob(f"{self.split}-*.tar")}
        else:
            pq.write_table(pa.table(self._rows, schema=INDEX_SCHEMA), self._partial(index_path.name))
            meta = {
                "version": VERSION,
                "task": self.task,
                "split": self.split,
                "count": self.count,
                "index_sha256": _sha256(self._partial(index_path.name)),
                "shards": self.shards,
                "licences": self.licences,
            }
            self._partial(meta_path.name).write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n")
            names = [shard["file"] for shard in self.shards]
            for name in [*names, index_path.name, meta_path.name]:
                os.replace(self._partial(name), self.folder / name)
            stale = {path for path in self.folder.glob(f"{self.split}-*.tar") if path.name not in names}
        for path in stale:
            path.unlink(missing_ok=True)

    def _disk_error(self, failure: OSError) -> DataError:
        reason = failure.strerror or str(failure)
        return DataError(
            f"{self.folder / self.split}: cannot be written ({reason}); free space or choose another place"
        )


class ShardReader:
    """Random access to the records of one split.

    Pickles as a path and a fingerprint: workers read the index and open tars themselves, when they first need them.
    Raises `DataError` naming the tar and the key where something is missing, cut short or changed.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.folder, self.split = Path(folder), split
        self._load_meta()

    def _load_meta(self) -> None:
        path = self.folder / f"{self.split}.json"
        try:
            raw = path.read_bytes()
            meta = json.loads(raw)
            self.task, self.count, self.shards = str(meta["task"]), int(meta["count"]), list(meta["shards"])
            self.licences, self._index_sha256 = dict(meta["licences"]), str(meta["index_sha256"])
        except OSError as error:
            raise DataError(
                f"{path}: no such split ({error.strerror}); build it with `commonspace data build`"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a description of shards ({error!r}); build the split again") from error
        if meta.get("version") != VERSION:
            raise DataError(f"{path}: version {meta.get('version')!r}, this program reads {VERSION}; build it again")
        if not self.count:
            raise DataError(f"{path}: the split is empty; build it again, or leave the task out")
        for shard in self.shards:
            self._check_size(shard)
        self.fingerprint = hashlib.sha256(raw).hexdigest()
        self._table: pa.Table | None = None
        self._rows: dict[str, int] | None = None
        self._files: OrderedDict[int, io.FileIO] = OrderedDict()

    def _check_size(self, shard: Mapping[str, Any]) -> None:
        path = self.folder / shard["file"]
        size = path.stat().st_size if path.is_file() else None
        if size != shard["bytes"]:
            state = "is missing" if size is None else f"has {size} bytes where {shard['bytes']} were written"
            raise DataError(f"{path}: {state}; build or copy the split again")

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
                raise DataError(f"{path}: cannot be read ({error.strerror}); build the split again") from error
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

    def read(self, row: int) -> Record:
        """The record in row `row`, 0 to len - 1, its media as bytes named "<tar>:<key>.<n>.<ending>"."""
        if not 0 <= row < self.count:
            raise IndexError(f"{self!r} has no row {row}")
        values = {name: self.index.column(name)[row].as_py() for name in ("key", "shard", "offset", "size", "crc")}
        shard = self.shards[values["shard"]]["file"]
        where = f"{self.folder / shard}: record {values['key']!r}"
        try:
            block = os.pread(self._open(values["shard"]).fileno(), values["size"], values["offset"])
        except OSError as error:
            raise DataError(f"{where} cannot be read ({error.strerror})") from error
        if len(block) != values["size"] or zlib.crc32(block) != values["crc"]:
            raise DataError(f"{where} is cut short or damaged; build or copy the split again")
        try:
            return unpack_record(values["key"], shard, block)
        except (tarfile.TarError, ValueError, KeyError, TypeError, ContentError) as error:
            raise DataError(f"{where} does not hold a record ({error}); build the split again") from error

    def _open(self, shard: int) -> io.FileIO:
        if shard in self._files:
            self._files.move_to_end(shard)
        else:
            self._files[shard] = io.FileIO(self.folder / self.shards[shard]["file"])
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        return self._files[shard]

    def verify(self) -> None:
        """Hash every tar against the description; minutes on large sets."""
        for shard in self.shards:
            self._check_size(shard)
            path = self.folder / shard["file"]
            if _sha256(path) != shard["sha256"]:
                raise DataError(f"{path}: its sha256 is not the one it was written with; build or copy it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
