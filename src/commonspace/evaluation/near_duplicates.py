"""Which held-out contents training has all but seen: every table is given with and without them.

An image counts by its perceptual hash, or, reported apart since that trunk is the model's own, by its frozen features;
a text where it reads the same; a sound by its bytes or its fingerprint. Parts of documents do not count (icons and
headings recur by design), nor do videos, whose mesh families are kept apart. A query is left out of the subset
`no_near_duplicates` where either side of its pair counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from commonspace.content import Audio, Content, Image
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.fingerprints import (
    audio_fingerprint,
    audio_matches,
    cosine_matches,
    hash_matches,
    image_hash,
)
from commonspace.evaluation.relevance import name_of
from commonspace.files import replaced
from commonspace.processing.preprocessing import Preprocessing

HASH_DISTANCE = 6
FEATURE_COSINE = 0.9
AUDIO_SIMILARITY = 0.9
_META = b"commonspace.inputs"
ImageVectors = Callable[[Sequence[Content]], np.ndarray]


def mark(
    root: Path,
    splits: Sequence[str] = ("heldout", "dev"),
    *,
    image_vectors: ImageVectors | None = None,
    features_name: str = "",
    workers: int = 2,
    progress: bool = False,
) -> dict[int, str]:
    """{content digest: "image hash" | "image feature" | "text" | "audio"} of the contents near to training.

    Kept in `<root>/near_duplicates.parquet` and read back while no shard, threshold or feature changed.
    image_vectors  frozen features [N, F] of contents of one image; without them that rule is not applied
    features_name  names those features, so that others are computed anew
    """
    inputs = _fingerprint(root, splits, features_name if image_vectors else "none")
    path = root / "near_duplicates.parquet"
    if (known := _read(path, inputs)) is not None:
        return known
    train, held = _collect(root, ("train",), progress), _collect(root, splits, progress)
    if not held.owners:
        raise DataError(f"{root}: no held-out shards; run `commonspace data build` first")
    reasons: dict[int, str] = {}  # part digest -> why
    _mark_texts(train, held, reasons)
    _mark_images(train, held, reasons, image_vectors, workers, progress)
    _mark_sounds(train, held, reasons, workers, progress)
    marked = {owner: reasons[part] for part, owners in held.owners.items() if part in reasons for owner in owners}
    _write(path, marked, inputs)
    return marked


def counts(marked: Mapping[int, str], digests: Iterable[int]) -> dict[str, int]:
    """How many of the digests are marked for each reason."""
    found = [marked[digest] for digest in digests if digest in marked]
    return {reason: found.count(reason) for reason in sorted(set(found))}


@dataclass
class _Parts:
    """Distinct comparable parts of some splits by digest, and the contents they stand in."""

    texts: dict[int, str] = field(default_factory=dict)
    images: dict[int, Image] = field(default_factory=dict)
    sounds: dict[int, Audio] = field(default_factory=dict)
    owners: dict[int, set[int]] = field(default_factory=dict)

    def add(self, content: Content) -> None:
        whole = content.digest()
        name = name_of(content)
        if name is not None:
            self.texts[whole] = name
            self.owners.setdefault(whole, set()).add(whole)
        for part in content.parts:
            if isinstance(part, (Image, Audio)):
                digest = Content(part).digest()
                places: dict[int, Any] = self.images if isinstance(part, Image) else self.sounds
                places.setdefault(digest, part)
                self.owners.setdefault(digest, set()).add(whole)


def _collect(root: Path, splits: Sequence[str], progress: bool) -> _Parts:
    parts = _Parts()
    readers = [ShardReader(path.parent, path.stem) for split in splits for path in sorted(root.glob(f"*/{split}.json"))]
    for reader in track(readers, description=f"reading {' and '.join(splits)}", disable=not progress):
        for record in reader:
            for content in _contents(record):
                parts.add(content)
    return parts


def _contents(record: Record) -> list[Content]:
    return [variant.content for variant in (*record.queries, *record.positives)]


def _mark_texts(train: _Parts, held: _Parts, reasons: dict[int, str]) -> None:
    seen = set(train.texts.values())
    reasons.update({digest: "text" for digest, text in held.texts.items() if text in seen})


def _mark_images(
    train: _Parts,
    held: _Parts,
    reasons: dict[int, str],
    image_vectors: ImageVectors | None,
    workers: int,
    progress: bool,
) -> None:
    if not train.images or not held.images:
        return
    preprocessing = Preprocessing()

    def hashes(parts: _Parts) -> np.ndarray:
        images = list(parts.images.values())
        return np.stack(_map(lambda image: image_hash(image, preprocessing), images, workers, "image hashes", progress))

    near = hash_matches(hashes(held), hashes(train), HASH_DISTANCE)
    reasons.update({digest: "image hash" for digest, hit in zip(held.images, near >= 0, strict=True) if hit})
    if image_vectors is None:
        return
    held_QF = image_vectors([Content(image) for image in held.images.values()])
    train_NF = image_vectors([Content(image) for image in train.images.values()])
    best = cosine_matches(held_QF, train_NF, train_NF.mean(axis=0))
    for digest, cosine in zip(held.images, best, strict=True):
        if cosine >= FEATURE_COSINE:
            reasons.setdefault(digest, "image feature")


def _mark_sounds(train: _Parts, held: _Parts, reasons: dict[int, str], workers: int, progress: bool) -> None:
    reasons.update({digest: "audio" for digest in held.sounds if digest in train.sounds})
    rest = {digest: part for digest, part in held.sounds.items() if digest not in reasons}
    if not rest or not train.sounds:
        return
    preprocessing = Preprocessing()

    def prints(sounds: Iterable[Audio]) -> list[np.ndarray]:
        return _map(lambda sound: audio_fingerprint(sound, preprocessing), list(sounds), workers, "sounds", progress)

    best = audio_matches(prints(rest.values()), prints(train.sounds.values()))
    for digest, similarity in zip(rest, best, strict=True):
        if similarity >= AUDIO_SIMILARITY:
            reasons[digest] = "audio"


def _map(function: Callable[[Any], Any], items: list[Any], workers: int, what: str, progress: bool) -> list[Any]:
    """In threads: decoders and transforms release the interpreter lock."""
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(function, items)
        return list(track(done, description=what, total=len(items), disable=not progress))


def _fingerprint(root: Path, splits: Sequence[str], features: str) -> bytes:
    """Of the shards' descriptions, which hold the hashes of their files, and of the rules."""
    state = hashlib.sha256(f"2:{HASH_DISTANCE}:{FEATURE_COSINE}:{AUDIO_SIMILARITY}:{features}:{list(splits)}".encode())
    for split in ("train", *splits):
        for path in sorted(root.glob(f"*/{split}.json")):
            state.update(path.parent.name.encode() + path.read_bytes())
    return state.hexdigest().encode()


def _read(path: Path, inputs: bytes) -> dict[int, str] | None:
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it, it is made again") from error
    if (table.schema.metadata or {}).get(_META) != inputs:
        return None
    return dict(zip(table["digest"].to_pylist(), table["reason"].to_pylist(), strict=True))


def _write(path: Path, marked: Mapping[int, str], inputs: bytes) -> None:
    columns = {"digest": pa.array(list(marked), pa.int64()), "reason": pa.array(list(marked.values()), pa.string())}
    table = pa.table(columns).replace_schema_metadata({_META: inputs})
    with replaced(path) as partial:
        pq.write_table(table, partial)
