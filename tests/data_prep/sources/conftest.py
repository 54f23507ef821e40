"""Tiny media for sources' fixtures, made here: no test of a reader needs the real packages."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image as PILImage

from commonspace.data.sample import Record
from data_prep.source import Source
from data_prep.sources import openmoji


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """Encoded bytes of a noisy picture (a photo, to `style_of`) or of one colour (a drawing)."""

    def make(size: tuple[int, int] = (40, 30), colour: str | None = None, kind: str = "PNG", seed: int = 0) -> bytes:
        noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        made = PILImage.new("RGB", size, colour) if colour else PILImage.fromarray(noise)
        buffer = io.BytesIO()
        made.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
        return buffer.getvalue()

    return make


@pytest.fixture
def sound() -> Callable[..., bytes]:
    """An ogg of a tone; 0 samples make a file without sound."""

    def make(samples: int = 8000, pitch: float = 440.0) -> bytes:
        buffer = io.BytesIO()
        wave = 0.3 * np.sin(np.arange(samples) * 2 * np.pi * pitch / 16000)
        soundfile.write(buffer, wave.astype(np.float32), 16000, format="OGG", subtype="VORBIS")
        return buffer.getvalue()

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Puts a file below the test's folder."""

    def put(name: str, data: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return put


@pytest.fixture
def read() -> Callable[..., tuple[dict[str, list[Record]], Counter]]:
    """Runs a source's reader: records by task, and what was dropped. Keys must be unique inside a task."""

    def run(source: Source, **folders: Path) -> tuple[dict[str, list[Record]], Counter]:
        drops: Counter = Counter()
        assert source.records is not None
        named = {package.name: folders.get(package.name, folders.get("root")) for package in source.packages}
        records: dict[str, list[Record]] = {}
        for record in source.records({name: path for name, path in named.items() if path}, drops):
            records.setdefault(record.task, []).append(record)
        for found in records.values():
            assert len({record.key for record in found}) == len(found)
        return records, +drops

    return run


@pytest.fixture
def derived(write: Callable[[str, str | bytes], Path], tmp_path: Path) -> Path:
    """CLDR's names of emoji of several characters, in all languages that are read."""
    for code in ("en", *openmoji.LANGUAGES):
        names = {"🇹🇩": "flag: Chad", "👋🏽": "waving hand: medium skin tone"}
        table = {sign: {"tts": [name if code == "en" else f"{name} {code}"]} for sign, name in names.items()}
        path = f"package/annotationsDerived/{code}/annotations.json"
        write(path, json.dumps({"annotationsDerived": {"annotations": table}}))
    return tmp_path


@pytest.fixture
def frames_of() -> Callable[[Record], list[np.ndarray]]:
    """The pictures of a record's clip, uint8 [height, width, 3] each."""

    def decode(record: Record) -> list[np.ndarray]:
        (video,) = record.queries[0].content.parts
        return [frame.to_ndarray(format="rgb24") for frame in av.open(io.BytesIO(video.source)).decode(video=0)]

    return decode
