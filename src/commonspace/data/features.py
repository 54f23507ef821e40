"""Outputs of frozen towers on disk, looked up by what they were made of.

A key names the medium's bytes, the preprocessing and the tower's weights (processing/keys.py), so nothing in a store
ever goes stale. The store is two files that only grow: `values.bin`, float16 rows one after the other, and `index.bin`,
one fixed-size entry a feature. Values are written and synced before their entries, so an interruption leaves at most
values that nothing points to. Readers map the file and may be many; writers take turns by a lock.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from commonspace.errors import ConfigError, DataError
from commonspace.locks import take_lock

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from commonspace.models.embedder import Embedder

_MAGIC = b"commonspace features 1\n".ljust(32)
_ENTRY = np.dtype(  # head and tail are the two halves of the hashed key
    [("head", "<u8"), ("tail", "<u8"), ("offset", "<u8")]
    + [(name, "<u4") for name in ("rows", "width", "crc", "padding")]
)


class FeatureCache:
    """Feature rows by key: `get` from any number of processes, `put` from one at a time.

    Pickles as its path; each process opens the files when it first needs them and sees what was there then
    (`refresh` looks again). Raises `DataError` where the files are damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.refresh()

    def refresh(self) -> None:
        """Forget what was read, so that the next `get` sees what others have added."""
        self._entries: np.ndarray | None = None
        self._values: mmap.mmap | bytes = b""

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.refresh()

    def __len__(self) -> int:
        return len(self._index())

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(path.stat().st_size for path in (self._values_path, self._index_path) if path.exists())

    def get(self, key: str) -> torch.Tensor | None:
        """The feature of a key, float16 [rows, width], or None where there is none."""
        entry = self._find(key)
        if entry is None:
            return None
        start, rows, width = int(entry["offset"]), int(entry["rows"]), int(entry["width"])
        block = self._values[start : start + 2 * rows * width]
        if len(block) != 2 * rows * width or zlib.crc32(block) != entry["crc"]:
            raise DataError(
                f"{self._values_path}: the feature {key} is damaged; delete {self.folder} and build it again"
            )
        if not rows:  # something that was looked at and holds nothing, as a clip without sound
            return torch.zeros(0, width, dtype=torch.float16)
        return torch.frombuffer(bytearray(block), dtype=torch.float16).view(rows, width)

    def put(self, features: Mapping[str, torch.Tensor]) -> int:
        """Add features [rows, width] whose keys are new, all or none; returns how many were added.

        No rows stand for a medium that has nothing for this tower (a video without sound).
        """
        with self._writing():
            self.refresh()
            new = {key: value for key, value in features.items() if key not in self}
            start = self._values_path.stat().st_size if self._values_path.exists() else 0
            entries, blocks, offset = np.zeros(len(new), _ENTRY), [], start
            for number, (key, value) in enumerate(new.items()):
                if value.ndim != 2 or not torch.isfinite(value).all():
                    raise DataError(f"feature {key}: shape {tuple(value.shape)} or its values are no finite rows")
                block = value.detach().to("cpu", torch.float16).contiguous().numpy().tobytes()
                entries[number] = (*_halves(key), offset, *value.shape, zlib.crc32(block), 0)
                blocks.append(block)
                offset += len(block)
            try:
                _append(self._values_path, b"".join(blocks))
                _append(self._index_path, entries.tobytes(), _MAGIC)
            except OSError as error:
                raise DataError(f"{self.folder}: cannot be written ({error.strerror or error}); free space") from error
        self.refresh()
        return len(new)

    @property
    def _values_path(self) -> Path:
        return self.folder / "values.bin"

    @property
    def _index_path(self) -> Path:
        return self.folder / "index.bin"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock, and cut off what an interrupted writer left half-written at the end of the index."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            take_lock(lock, "keep features on another file system, with another paths.cache", wait=True)
            if self._index_path.exists():
                size = self._index_path.stat().st_size
                whole = max(0, size - len(_MAGIC)) // _ENTRY.itemsize
                os.truncate(self._index_path, len(_MAGIC) + whole * _ENTRY.itemsize if size >= len(_MAGIC) else 0)
            yield

    def _index(self) -> np.ndarray:
        """Entries sorted by key."""
        if self._entries is None:
            entries, values = self._open()
            self._values, self._entries = values, entries  # in this order: another thread reads once entries are there
        return self._entries

    def _open(self) -> tuple[np.ndarray, mmap.mmap | bytes]:
        try:
            raw = self._index_path.read_bytes()
        except FileNotFoundError:
            return np.zeros(0, _ENTRY), b""
        if raw[: len(_MAGIC)] != _MAGIC[: len(raw)]:
            raise DataError(f"{self._index_path}: not an index of features; delete {self.folder} and build it again")
        whole = max(0, len(raw) - len(_MAGIC)) // _ENTRY.itemsize
        entries = np.frombuffer(raw, _ENTRY, count=whole, offset=len(_MAGIC)) if whole else np.zeros(0, _ENTRY)
        if not whole:
            return entries, b""
        size = self._values_path.stat().st_size if self._values_path.exists() else 0
        ends = entries["offset"] + 2 * entries["rows"].astype(np.uint64) * entries["width"]
        if int(ends.max()) > size:
            raise DataError(
                f"{self._values_path}: has {size} bytes where its index names {int(ends.max())}; "
                f"delete {self.folder} and build it again"
            )
        with self._values_path.open("rb") as file:
            values = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return entries[np.argsort(entries["head"], kind="stable")], values

    def _find(self, key: str) -> np.void | None:
        head, tail = _halves(key)
        entries = self._index()
        place = int(np.searchsorted(entries["head"], np.uint64(head)))
        while place < len(entries) and entries["head"][place] == head:
            if entries["tail"][place] == tail:
                return entries[place]
            place += 1
        return None


def _halves(key: str) -> tuple[int, int]:
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _append(path: Path, data: bytes, head: bytes = b"") -> None:
    with path.open("ab") as file:
        if head and file.tell() == 0:
            file.write(head)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def attach_features(embedder: Embedder, cache: Path) -> FeatureCache:
    """Let the embedder's processor take the outputs of its frozen towers from `<cache>/features`.

    Towers that train are left out: their outputs change. Raises `ConfigError` where no tower is frozen.
    """
    from commonspace.processing.processor import Processor

    towers = {
        name: tower
        for name, tower in embedder.backbone.towers().items()
        if not embedder.backbone.own_towers and tower.frozen
    }
    if not towers:
        raise ConfigError("the model has no frozen tower whose outputs could be kept; set data.features=false")
    store, processor = FeatureCache(cache / "features"), embedder.processor
    embedder.processor = Processor(
        processor.preprocessing,
        processor.tokenizer,
        features=store,
        on_limit=processor.on_limit,
        fingerprints={name: tower.fingerprint for name, tower in towers.items()},
    )
    return store


def main(config: DictConfig) -> None:
    """`commonspace data features`: every frozen output of a tier's media, computed once."""
    from commonspace.data.feature_build import build_tier

    build_tier(config)
