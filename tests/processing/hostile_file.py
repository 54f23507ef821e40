"""One hostile file, and what those that make them share."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from commonspace.content import Audio, Content, Image, Video

Kind = Literal["image", "audio", "video"]
Outcome = Literal["taken", "refused", "either"]
PARTS = {"image": Image, "audio": Audio, "video": Video}
SEED = 20
MOST_PIXELS = 1_000_000  # the limit the files below are made to pass


@dataclass(frozen=True)
class HostileFile:
    """One file: how it is passed, what must come of it, and a word of the error where it is refused."""

    kind: Kind
    name: str
    data: bytes
    outcome: Outcome
    said: str = ""

    @property
    def content(self) -> Content:
        return Content(PARTS[self.kind](self.data, name=self.name))


def grain(height: int = 40, width: int = 50, channels: int = 3) -> np.ndarray:
    """Random pixels."""
    return np.random.default_rng(SEED).integers(0, 256, (height, width, channels), np.uint8)


def patched(data: bytes, box: bytes, offset: int, format: str, *values: int) -> bytes:
    """Numbers written `offset` bytes after the beginning of a box's or chunk's name."""
    changed, start = bytearray(data), data.find(box)
    assert start >= 0, f"no {box!r}"
    struct.pack_into(format, changed, start + offset, *values)
    return bytes(changed)
