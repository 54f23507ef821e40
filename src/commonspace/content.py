"""One datum for everything: an ordered tuple of parts.

A sentence, a photo, a recipe with three photos, a clip with its soundtrack: all are a `Content`.
Parts only hold or name their bytes; decoding is the business of `commonspace.processing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image as PILImage

from commonspace.errors import ContentError

MediaSource = str | Path | bytes | np.ndarray | PILImage


@dataclass(frozen=True)
class Text:
    """A run of text, in any language."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ContentError(f"a text part holds a str, not {type(self.text).__name__}")


@dataclass(frozen=True, eq=False)
class _Media:
    """A part whose bytes come from a path, from memory, or from an array already decoded."""

    source: MediaSource
    name: str | None = None  # what errors call this part; the path where there is one

    @property
    def label(self) -> str:
        if self.name:
            return self.name
        if isinstance(self.source, (str, Path)):
            return str(self.source)
        return f"<{type(self).__name__.lower()} in memory>"

    def read_bytes(self) -> bytes:
        """The encoded bytes; for arrays and PIL images their raw values."""
        if isinstance(self.source, bytes):
            return self.source
        if isinstance(self.source, (str, Path)):
            try:
                return Path(self.source).read_bytes()
            except OSError as error:
                reason = error.strerror or error
                raise ContentError(f"{self.label}: cannot be read ({reason}); check the path") from error
        values = np.asarray(self.source)
        return f"{values.dtype}{values.shape}".encode() + values.tobytes()


@dataclass(frozen=True, eq=False)
class Image(_Media):
    """An image: path, encoded bytes, PIL image, or uint8 array [height, width, 3]."""


@dataclass(frozen=True, eq=False)
class Audio(_Media):
    """A sound: path, encoded bytes, or float array [samples] or [channels, samples] with its `rate` in Hz."""

    rate: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, np.ndarray) and not self.rate:
            raise ContentError(f"{self.label}: an audio array needs its rate in Hz, as in Audio(samples, rate=16000)")


@dataclass(frozen=True, eq=False)
class Video(_Media):
    """A clip: path, encoded bytes, or uint8 array [frames, height, width, 3] with its `fps`.

    With `sound` the soundtrack, where there is one, is embedded between the frames.
    """

    fps: float | None = None
    sound: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.source, np.ndarray) and not self.fps:
            raise ContentError(f"{self.label}: a video array needs its fps, as in Video(frames, fps=25)")


@dataclass(frozen=True)
class Document:
    """Texts and images that belong together, in reading order: a page, or several."""

    parts: tuple[Text | Image, ...]

    def __init__(self, *parts: str | Text | Image) -> None:
        object.__setattr__(self, "parts", tuple(Text(p) if isinstance(p, str) else p for p in parts))
        for part in self.parts:
            if not isinstance(part, (Text, Image)):
                raise ContentError(f"a document holds texts and images, not {type(part).__name__}")


Part = Text | Image | Audio | Video | Document
_MEDIA: dict[str, type[_Media]] = {"image": Image, "audio": Audio, "video": Video}


@dataclass(frozen=True)
class Content:
    """An ordered tuple of parts that is embedded as one vector. A plain str is a `Text`."""

    parts: tuple[Part, ...]

    def __init__(self, *parts: str | Part) -> None:
        object.__setattr__(self, "parts", tuple(Text(p) if isinstance(p, str) else p for p in parts))
        if not self.parts:
            raise ContentError("a content needs at least one part")
        for part in self.parts:
            if not isinstance(part, Part):
                raise ContentError(
                    f"{type(part).__name__} is no part; use a str, Text, Image, Audio, Video or Document"
                )

    @property
    def modalities(self) -> frozenset[str]:
        """Names of the kinds of part in this content, as in {"image", "text"}."""
        return frozenset(type(part).__name__.lower() for part in self.parts)

    @property
    def is_text(self) -> bool:
        """Whether every part is text: only such contents take a task prefix."""
        return all(isinstance(part, Text) for part in self.parts)

    def digest(self) -> int:
        """64-bit signed hash of the raw content, before prefix, augmentation and truncation (eq. 3 compares these)."""
        state = hashlib.blake2b(digest_size=8)
        for part in _flatten(self.parts):
            payload = part.text.encode() if isinstance(part, Text) else part.read_bytes()
            options = f":{part.sound}" if isinstance(part, Video) else ""
            state.update(f"{type(part).__name__}{options}:{len(payload)}:".encode())
            state.update(payload)
        return int.from_bytes(state.digest(), "little", signed=True)

    def to_json(self, name_media: Callable[[_Media], str]) -> list[Any]:
        """The JSON form: a list of strings (text) and one-key objects; `name_media` gives each medium its file name."""
        return [_part_to_json(part, name_media) for part in self.parts]

    @classmethod
    def from_json(cls, value: Any, open_media: Callable[[str], str | Path | bytes]) -> Content:
        """Inverse of `to_json`; `open_media` turns a name into a path or bytes. A lone str or object is one part."""
        items = value if isinstance(value, list) else [value]
        return cls(*(_part_from_json(item, open_media) for item in items))


def _flatten(parts: Iterable[Part]) -> Iterable[Text | _Media]:
    for part in parts:
        if isinstance(part, Document):
            yield Text(f"\x00document:{len(part.parts)}")
            yield from part.parts
        else:
            yield part


def _part_to_json(part: Part, name_media: Callable[[_Media], str]) -> Any:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Document):
        return {"document": [_part_to_json(inner, name_media) for inner in part.parts]}
    item: dict[str, Any] = {type(part).__name__.lower(): name_media(part)}
    if isinstance(part, Video) and not part.sound:
        item["sound"] = False
    return item


def _part_from_json(item: Any, open_media: Callable[[str], str | Path | bytes]) -> Part:
    if isinstance(item, str):
        return Text(item)
    if isinstance(item, dict):
        if set(item) == {"text"}:
            return Text(item["text"])
        if set(item) == {"document"} and isinstance(item["document"], list):
            return Document(*(_part_from_json(inner, open_media) for inner in item["document"]))
        kind = next((k for k in _MEDIA if k in item), None)
        if kind and isinstance(item[kind], str) and set(item) <= {kind, "sound"}:
            options = {"sound": item["sound"]} if "sound" in item and kind == "video" else {}
            if "sound" not in item or kind == "video":
                return _MEDIA[kind](open_media(item[kind]), name=item[kind], **options)
    raise ContentError(
        f'{item!r:.120} is no part; write "some text", {{"image": "file.png"}}, {{"audio": "file.ogg"}}, '
        '{"video": "file.mp4", "sound": false} or {"document": [...]}'
    )
