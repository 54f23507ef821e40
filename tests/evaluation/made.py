"""Made-up records and a model whose quality is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from commonspace.content import Audio, Content, Image, Text, Video
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter

FRUITS = [f"fruit {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]


def picture(name: str) -> Image:
    return Image(b"\x89PNG picture of " + name.encode(), name=f"{name}.png")


def voice(name: str) -> Audio:
    return Audio(b"OggS voice of " + name.encode(), name=f"{name}.ogg")


def clip(name: str) -> Video:
    return Video(b"\x00\x00\x00\x18ftypisom clip of " + name.encode(), name=f"{name}.mp4")


def record(
    key: str, task: str, concept: str, query: Content, *positives: tuple[str, Content], **extra: object
) -> Record:
    variants = tuple(Variant(content, language) for language, content in positives)
    return Record(key, task, "made", concept, (Variant(query),), variants, extra=dict(extra))


def write(root: Path, task: str, records: Sequence[Record], split: str = "heldout") -> None:
    with ShardWriter(root / task, task, split, {"made": "CC0-1.0", "other": "CC0-1.0"}) as writer:
        for item in records:
            writer.write(item)


def captions() -> list[Record]:
    """26 fruits, the first drawn twice, captioned in English and French."""
    rows = [
        record(
            f"c{i}", "image_caption", name, Content(picture(name)), ("en", Content(name)), ("fr", Content(f"le {name}"))
        )
        for i, name in enumerate(FRUITS)
    ]
    again = record(
        "c-again",
        "image_caption",
        FRUITS[0],
        Content(picture("again fruit a")),
        ("en", Content("a drawing of fruit a")),
    )
    return [*rows, again]


def make_tier(root: Path) -> Path:
    """Shards of images with captions in two languages, clips of two actions, and composed queries."""
    write(root, "image_caption", captions())
    moves = [
        record(
            f"v{i}-{action}",
            "video",
            "flare:wyvern",
            Content(clip(f"{i} {action}")),
            ("en", Content(f"a wyvern {action}, facing {i}")),
            action=action,
            has_sound=i < 4,
        )
        for action in ("moving", "dying")
        for i in range(6)
    ]
    write(root, "video", moves)
    asked = [
        record(
            f"s{i}-{code}",
            "stamp_language",
            name,
            Content(picture(name), Text(words)),
            (code, Content(f"{name} ({code})")),
            language=code,
        )
        for i, name in enumerate(FRUITS[:5])
        for code, words in (("fr", "French"), ("de", "German"))
    ]
    write(root, "stamp_language", asked)
    return root


class HashModel:
    """A deterministic embedder: `meaning` says which string stands for a content; equal strings, equal vectors."""

    def __init__(self, meaning: Callable[[Content], str], width: int = 32) -> None:
        self.meaning, self.width, self.calls = meaning, width, 0

    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        self.calls += len(contents)
        rows = []
        for content in contents:
            seed = hashlib.blake2b(self.meaning(content).encode(), digest_size=8).digest()
            rows.append(np.random.default_rng(int.from_bytes(seed, "little")).normal(size=self.width))
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class MadeFeatures:
    """Features by hash of the part, so that equal parts have equal features: stands in for `FrozenFeatures`."""

    widths = {"text": 24, "image": 40, "audio": 12, "video": 30}  # noqa: RUF012

    def vectors(self, contents, kind: str, progress: bool = False) -> np.ndarray:
        rows = []
        for content in contents:
            parts = [part for part in content.parts if type(part).__name__.lower() == kind]
            rng = np.random.default_rng(abs(Content(*parts).digest()))
            rows.append(rng.normal(size=self.widths[kind]))
        return np.array(rows, dtype=np.float32)
