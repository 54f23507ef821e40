"""A cursor over a little-endian binary file that says what was wrong when the file ends early."""

from __future__ import annotations

import struct

import numpy as np

from commonspace.errors import WeightsError


class Cursor:
    """Reads numbers, arrays and byte runs one after another from `data`; `name` is what errors call the file."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.position = 0

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, not copied."""
        if count < 0 or self.position + count > len(self.data):
            raise WeightsError(
                f"{self.name}: ends at byte {len(self.data)}, but {count} bytes are expected at {self.position}; "
                "the file is cut off or of another format, fetch it again"
            )
        view = memoryview(self.data)[self.position : self.position + count]
        self.position += count
        return view

    def numbers(self, layout: str) -> tuple:
        """The next numbers by a `struct` layout (without the byte order)."""
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def number(self, layout: str) -> int | float:
        """The next single number."""
        return self.numbers(layout)[0]

    def array(self, dtype: str, count: int) -> np.ndarray:
        """The next `count` values of a little-endian numpy dtype, read-only."""
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count), dtype)

    def at(self, offset: int, count: int) -> memoryview:
        """`count` bytes at an absolute offset; the position stays."""
        before, self.position = self.position, offset
        try:
            return self.take(count)
        finally:
            self.position = before
