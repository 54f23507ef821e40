"""Writing a split: tars, index and description, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.data.estimate import estimate_tokens
from commonspace.data.sample import Record
from commonspace.data.shards import INDEX_SCHEMA, VERSION
from commonspace.data.tar_records import pack_record
from commonspace.errors import DataError
from commonspace.files import sha256_of

_KEY = re.compile(r"[!-\-0-\[\]-~]{1,88}")  # printable ASCII but . / \ : a ustar name has 100 bytes


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
        names = [shard["file"] for shard in self.shards]
        if names:
            names += self._describe()
        # All is written now. From here until its successor is in place the split does not exist.
        (self.folder / f"{self.split}.json").unlink(missing_ok=True)
        for name in names:
            os.replace(self._partial(name), self.folder / name)
        for path in (self.folder / f"{self.split}.parquet", *self.folder.glob(f"{self.split}-*.tar")):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _describe(self) -> tuple[str, str]:
        """Write the index and the description beside their places; their names, the description last."""
        index, meta = f"{self.split}.parquet", f"{self.split}.json"
        pq.write_table(pa.table(self._rows, schema=INDEX_SCHEMA), self._partial(index))
        described = {
            "version": VERSION,
            "task": self.task,
            "split": self.split,
            "count": self.count,
            "index_sha256": sha256_of(self._partial(index)),
            "shards": self.shards,
            "licences": self.licences,
        }
        self._partial(meta).write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n")
        return index, meta

    def _disk_error(self, failure: OSError) -> DataError:
        reason = failure.strerror or str(failure)
        return DataError(
            f"{self.folder / self.split}: cannot be written ({reason}); free space or choose another place"
        )
