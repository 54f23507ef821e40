"""Small packages, sources and pictures that tests make themselves."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PILImage

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from data_prep.source import Package, Source


@pytest.fixture
def png() -> Callable[..., bytes]:
    """A plain coloured picture as PNG bytes."""

    def make(colour: str = "red", size: tuple[int, int] = (12, 9)) -> bytes:
        buffer = io.BytesIO()
        PILImage.new("RGB", size, colour).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture
def package_of() -> Callable[..., Package]:
    """The pin of a file."""

    def make(path: Path, client: str = "npm", name: str = "thing", version: str = "1.0") -> Package:
        data = path.read_bytes()
        return Package(client, name, version, path.name, hashlib.sha256(data).hexdigest(), len(data))

    return make


@pytest.fixture
def source_of() -> Callable[..., Source]:
    """A source without packages whose records are given."""

    def make(name: str, records: list[Record], **options) -> Source:
        settings = {"licence": "CC0", "provenance": "made up", "tiers": frozenset({"tiny"})} | options
        return Source(name, (), records=lambda _folders, _drops: iter(records), **settings)

    return make


@pytest.fixture
def row() -> Callable[..., Record]:
    """A record; `query` and `positive` are texts, or PNG bytes."""

    def make(key: str, query, positive, concept: str, task: str = "image_caption", source: str = "one") -> Record:
        sides = [Content(Image(side) if isinstance(side, bytes) else side) for side in (query, positive)]
        return Record(key, task, source, concept, (Variant(sides[0]),), (Variant(sides[1], "en"),))

    return make
