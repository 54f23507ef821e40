"""Small shards made on the spot, and a processor that decodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from commonspace.content import Content, Image, Text
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import ContentError
from commonspace.processing.pieces import Piece, Pieces

BROKEN = b"broken"


class ByteProcessor:
    """Text becomes its UTF-8 bytes, an image its bytes between marks; media that start with `BROKEN` cannot be read."""

    def __call__(self, content: Content, task: str | None = None, role: str | None = None) -> Pieces:
        pieces = []
        for part in content.parts:
            if isinstance(part, Text):
                prefix = f"{task}|{role}|" if task else ""
                ids = torch.tensor(list((prefix + part.text).encode()), dtype=torch.int64)
                pieces.append(Piece("text", ids, len(ids)))
            else:
                data = part.read_bytes()
                if data.startswith(BROKEN):
                    raise ContentError(f"{part.label}: is not an image")
                pixels = torch.tensor(list(data[:12]), dtype=torch.uint8).view(3, 2, 2)
                mark = [Piece("mark", torch.tensor(number), 1) for number in (0, 1)]
                pieces += [mark[0], Piece("image", pixels, 4), mark[1]]
        return Pieces(tuple(pieces))


@pytest.fixture
def processor() -> ByteProcessor:
    return ByteProcessor()


def image_record(number: int, *, task: str = "image_caption", concept: str | None = None, data: bytes = b"") -> Record:
    """An image with its caption in three languages; captions differ in length."""
    caption = f"picture {number} " + "x" * (number * 7 % 40)
    return Record(
        key=f"r{number}",
        task=task,
        source="made",
        concept=concept or f"c{number}",
        queries=(Variant(Content(Image(data or b"\x89PNG" + number.to_bytes(8, "big")))),),
        positives=tuple(Variant(Content(f"{caption} {language}"), language) for language in ("en", "fr", "de")),
        extra={"number": number},
    )


def text_record(number: int, *, task: str = "summary") -> Record:
    return Record(
        key=f"t{number}",
        task=task,
        source="made",
        concept=f"t{number // 2}",
        queries=(Variant(Content(f"title {number}"), "en"),),
        positives=(Variant(Content(f"body {number} " + "y" * (number % 9)), "en"),),
    )


@pytest.fixture
def make_record() -> Callable[..., Record]:
    return image_record


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., ShardReader]:
    """Writes records as one split under `tmp_path` and opens it."""

    def make(records: Iterable[Record], task: str = "image_caption", split: str = "train", **options) -> ShardReader:
        with ShardWriter(tmp_path / task, task, split, {"made": "CC0"}, **options) as writer:
            for record in records:
                writer.write(record)
        return ShardReader(tmp_path / task, split)

    return make


@pytest.fixture
def two_tasks(make_shards: Callable[..., ShardReader], tmp_path: Path) -> Path:
    """A folder with 60 image records (numbers 7 and 8 broken) and 40 text records, in several tars each."""
    make_shards(
        [image_record(n, data=BROKEN + bytes([n]) if n in (7, 8) else b"") for n in range(60)], max_bytes=40_000
    )
    make_shards([text_record(n) for n in range(40)], "summary")
    make_shards([image_record(n) for n in range(5)], split="dev")
    return tmp_path
