"""Reader of Qt's binary resource files (.rcc), formats 1 to 3: a tree of names beside a heap of packed files.

Layout, all big-endian: "qres", version, offsets of tree, data and names (format 3 adds flags). A node is a name offset
and flags, then child count and first child (folder) or locale and data offset (file); from format 2 on it ends with a
64-bit time. Data is a 32-bit length and that many bytes: plain, zlib after a 32-bit size, or zstandard.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

from commonspace.errors import DataError

MAX_FILE_BYTES = 64_000_000
_ZLIB, _FOLDER, _ZSTD = 1, 2, 4


class QtResource:
    """One .rcc file, opened lazily: `names()` walks the tree, `read(name)` unpacks one file.

    Raises:
        DataError: the file is not a resource file, is cut short, or points outside itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = path.read_bytes()
        if self._bytes[:4] != b"qres" or len(self._bytes) < 20:
            raise DataError(f"{path}: is not a Qt resource file; fetch its package again")
        self._version, self._tree, self._data, self._names = struct.unpack(">4I", self._bytes[4:20])
        if self._version not in (1, 2, 3):
            raise DataError(f"{path}: resource format {self._version} is unknown; this reader knows 1 to 3")
        self._files = dict(self._walk(0, "", depth=0))

    def names(self) -> list[str]:
        """Paths inside the resource, in the order of its tree, without a leading slash."""
        return list(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> bytes:
        """The unpacked bytes of one file."""
        if name not in self._files:
            raise DataError(f"{self.path}: holds no file {name}; fetch its package again")
        flags, offset = self._files[name]
        (length,) = self._unpack(">I", self._data + offset)
        start = self._data + offset + 4
        packed = self._bytes[start : start + length]
        if len(packed) != length:
            raise DataError(f"{self.path}: {name} is cut short; fetch its package again")
        return self._inflate(packed, flags, name)

    def _inflate(self, packed: bytes, flags: int, name: str) -> bytes:
        try:
            if flags & _ZSTD:
                plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=MAX_FILE_BYTES)
            elif flags & _ZLIB:
                plain = zlib.decompressobj().decompress(packed[4:], MAX_FILE_BYTES + 1)
            else:
                plain = packed
        except (zlib.error, zstandard.ZstdError) as error:
            raise DataError(f"{self.path}: {name} cannot be unpacked ({error}); fetch its package again") from error
        if len(plain) > MAX_FILE_BYTES:
            raise DataError(f"{self.path}: {name} unpacks to more than {MAX_FILE_BYTES} bytes; leave it out")
        return plain

    def _walk(self, index: int, folder: str, depth: int) -> Iterator[tuple[str, tuple[int, int]]]:
        if depth > 32:
            raise DataError(f"{self.path}: its folders nest deeper than 32; fetch its package again")
        node = self._tree + index * (22 if self._version >= 2 else 14)
        name_offset, flags = self._unpack(">IH", node)
        path = folder if index == 0 else f"{folder}/{self._name(name_offset)}".lstrip("/")
        if not flags & _FOLDER:
            yield path, (flags, self._unpack(">I", node + 10)[0])
            return
        count, first = self._unpack(">II", node + 6)
        if count and first <= index:
            raise DataError(f"{self.path}: a folder points back to itself; fetch its package again")
        for child in range(first, first + count):
            yield from self._walk(child, path, depth + 1)

    def _name(self, offset: int) -> str:
        start = self._names + offset
        (length,) = self._unpack(">H", start)
        raw = self._bytes[start + 6 : start + 6 + 2 * length]  # length, then a 32-bit hash, then UTF-16
        if len(raw) < 2 * length:
            raise DataError(f"{self.path}: is cut short inside its names; fetch its package again")
        return raw.decode("utf-16-be", errors="replace")

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(layout, self._bytes, offset)
        except struct.error as error:
            raise DataError(f"{self.path}: is cut short at byte {offset}; fetch its package again") from error
