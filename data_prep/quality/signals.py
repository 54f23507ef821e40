"""What is measured of every row of a split, once: kept by chunk in the cache.

Thresholds are no part of it, so trying others costs no second reading.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image as PILImage
from rich.progress import Progress

from commonspace.content import Audio, Content, Image, Video
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import CommonspaceError
from commonspace.evaluation.fingerprints import image_hash
from commonspace.evaluation.relevance import normalise
from commonspace.processing.preprocessing import Preprocessing
from data_prep.public.wholeness import is_whole_clip
from data_prep.quality import minhash
from data_prep.quality.chunks import chunks, write_chunks, written
from data_prep.quality.contained import (
    FURTHER,
    ITEMS,
    further_of,
    inner,
    items_of,
    kind_of,
    picture_hash,
    pictures_alone,
    sound_print,
    texts_of,
    without_short,
)
from data_prep.quality.scripts import letters_of

VERSION = 4
_SIDE = [
    ("id", pa.int64()),  # digest of the content
    ("kind", pa.string()),  # text, or the media in it, as "image+text"
    ("characters", pa.int32()),  # of its texts
    ("text", pa.int64()),  # digest of its normalised texts; null without any
    ("words", pa.binary()),  # MinHash signature; null for short texts
    ("scripts", pa.map_(pa.string(), pa.int32())),  # letters of each; null without any text
    ("image", pa.uint64()),  # perceptual hash of its first picture outside documents of several parts
    ("least_side", pa.int32()),  # pixels, of all its pictures
    ("aspect", pa.float32()),  # longer side by shorter, of all its pictures the most
    ("sound", pa.binary()),  # fingerprint of its first sound
    ("seconds", pa.float32()),  # of that sound
    ("broken", pa.string()),  # why a medium cannot be read; null where all can
]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("concept", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        *((f"query_{name}", kind) for name, kind in _SIDE),
        *((f"positive_{name}", kind) for name, kind in _SIDE),
        ("items", ITEMS),
        ("further", FURTHER),
    ]
)


@dataclass(frozen=True)
class Split:
    """One split of one task of a tier."""

    tier: str
    task: str
    side: str
    folder: Path

    @property
    def reader(self) -> ShardReader:
        return ShardReader(self.folder, self.side)


def measure(splits: Sequence[Split], cache: Path, workers: int, least: int, progress: Progress) -> list[pa.Table]:
    """The signals of every row of some splits, one table each; of variants and parts without texts below `least`
    characters, which tell no item.

    Raises:
        DataError: a shard is damaged, or the cache cannot be written.
    """
    kept = {split: chunks(split.reader, cache, f"{VERSION}", "parquet") for split in splits}
    left = [(split, *chunk) for split, found in kept.items() for chunk in found if not chunk[2].is_file()]
    total = sum(len(split.reader) for split in splits)
    bar = progress.add_task(
        "measure rows", total=total, completed=total - sum(stop - start for _, start, stop, _ in left)
    )
    write_chunks(left, measure_chunk, workers, lambda rows: progress.advance(bar, rows))
    return [
        pa.concat_tables([without_short(pq.read_table(path), least) for _, _, path in kept[split]]) for split in splits
    ]


def measure_chunk(split: Split, start: int, stop: int, path: Path) -> None:
    """Write the signals of rows `start` to `stop`."""
    reader = split.reader
    rows = [_row(reader.read(row), split.side == "train") for row in range(start, stop)]
    with written(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial)


def _row(record: Record, with_negatives: bool) -> dict[str, Any]:
    """Of a training row the negatives are measured too: no evaluation asks those of its own rows."""
    row: dict[str, Any] = {"key": record.key, "concept": record.concept, "source": record.source}
    row["language"] = record.positives[0].language
    first = (record.queries[0].content, record.positives[0].content)
    for side, content in zip(("query", "positive"), first, strict=True):
        row |= {f"{side}_{name}": value for name, value in _content(content).items()}
    others = [variant.content for variant in (*record.queries[1:], *record.positives[1:])]
    others += record.negatives if with_negatives else ()
    return row | {"items": items_of([*first, *others]), "further": further_of(first, others)}


def _content(content: Content) -> dict[str, Any]:
    parts = inner(content)
    text = normalise(texts_of(content))
    found: dict[str, Any] = {
        "id": content.digest(),
        "kind": kind_of(content),
        "characters": len(text),
    }
    if text:
        words = minhash.signature(text)
        found |= {"text": Content(text).digest(), "scripts": letters_of(text)}
        found |= {"words": words.tobytes()} if words is not None else {}
    try:
        found |= _pictures(content, [part for part in parts if isinstance(part, Image)])
        found |= _sound(next((part for part in content.parts if isinstance(part, Audio)), None))
        if any(isinstance(part, Video) and not is_whole_clip(part.read_bytes()) for part in parts):
            found["broken"] = "clip of which no frame can be decoded, or that is cut short"
    except (CommonspaceError, OSError, ValueError, SyntaxError) as error:
        found["broken"] = str(error)[:200]
    return found


def _pictures(content: Content, pictures: Sequence[Image]) -> dict[str, Any]:
    if not pictures:
        return {}
    sizes = [_size(part) for part in pictures]
    known = [size for size in sizes if size is not None]
    found: dict[str, Any] = {}
    if known:
        found["least_side"] = min(map(min, known))
        found["aspect"] = max(max(size) / max(min(size), 1) for size in known)
    if alone := pictures_alone(content):
        found["image"] = picture_hash(alone[0])
    return found


def _size(part: Image) -> tuple[int, int] | None:
    """Width and height by the header. What Pillow does not open, as an SVG, has none: it is drawn, to judge it."""
    try:
        with PILImage.open(io.BytesIO(part.read_bytes())) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError):
        image_hash(part, Preprocessing())
        return None


def _sound(sound: Audio | None) -> dict[str, Any]:
    if sound is None:
        return {}
    found: dict[str, Any] = {"sound": sound_print(sound)}
    with suppress(soundfile.SoundFileError):  # in a container that FFmpeg reads; its length is not looked for
        found["seconds"] = float(soundfile.info(io.BytesIO(sound.read_bytes())).duration)
    return found
