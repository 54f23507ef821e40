"""One datum for everything: an ordered tuple of parts.

A sentence, a photo, a recipe with three photos, a clip with its soundtrack: all are a `Content`.
Parts only hold or name their bytes; decoding is the business of `commonspace.processing`.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL.Image import Image as PILImage

from commonspace.errors import ContentError

MAX_FILE_BYTES = 2**31
MediaSource = str | Path | bytes | np.ndarray | PILImage
PageText = Literal["before", "after"]
Unreadable = Literal["error", "alt"]


@dataclass(frozen=True)
class Text:
    """A run of text, in any language."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ContentError(f"a text part holds a str, not {type(self.text).__name__}")

    def encoded(self) -> bytes:
        """The text as UTF-8; raises ContentError where it cannot be, as JSON and surrogateescape can give it."""
        try:
            return self.text.encode()
        except UnicodeEncodeError as error:
            raise ContentError(
                f"text {self.text[:40]!r}: holds half of a surrogate pair at character {error.start}; "
                'decode it with errors="replace"'
            ) from error


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
            return self._read_file(Path(self.source))
        values = np.asarray(self.source)
        return f"{values.dtype}{values.shape}".encode() + values.tobytes()

    def _read_file(self, path: Path) -> bytes:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
                raise ContentError(f"{self.label}: cannot be read (is no regular file); check the path")
            if status.st_size > MAX_FILE_BYTES:
                raise ContentError(
                    f"{self.label}: has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read; cut it or scale it"
                )
            return path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a path that holds a zero byte
            reason = getattr(error, "strerror", None) or error
            raise ContentError(f"{self.label}: cannot be read ({reason}); check the path") from error


@dataclass(frozen=True, eq=False)
class Image(_Media):
    """An image: path, encoded bytes, PIL image, or uint8 array [height, width] or [height, width, 1, 3 or 4]."""


@dataclass(frozen=True, eq=False)
class Audio(_Media):
    """A sound: path, encoded bytes, or array [samples] or [channels, samples] with its `rate` in Hz.

    Floats lie in -1..1; integers of 8 to 32 bits fill their range.
    """

    rate: int | None = None

    def __post_init__(self) -> None:
        _check_pace(self, "rate", self.rate, "its rate in Hz, as in Audio(samples, rate=16000)")


@dataclass(frozen=True, eq=False)
class Video(_Media):
    """A clip: path, encoded bytes, or uint8 array [frames, height, width, 1, 3 or 4] with its `fps`.

    With `sound` the soundtrack, where there is one, is embedded between the frames.
    """

    fps: float | None = None
    sound: bool = True

    def __post_init__(self) -> None:
        _check_pace(self, "fps", self.fps, "its fps, as in Video(frames, fps=25)")


def _check_pace(part: Audio | Video, option: str, value: float | None, needs: str) -> None:
    """Arrays do not know how fast they run; files do, so that saying it there would be ignored."""
    if isinstance(part.source, np.ndarray):
        if not (isinstance(value, (int, float, np.number)) and value > 0):
            raise ContentError(f"{part.label}: {type(part).__name__} of an array needs {needs}")
    elif value is not None:
        raise ContentError(f"{part.label}: {option} is for arrays alone, a file brings its own; leave it out")


@dataclass(frozen=True, eq=False)
class Pdf(_Media):
    """The pages of a PDF in order, each an image: path or encoded bytes. It stands in a document.

    With `text` each page's text layer, where it has one, is embedded "before" or "after" the page's image.
    """

    text: PageText | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, (str, Path, bytes)):
            raise ContentError(f"{self.label}: a PDF is a path or encoded bytes, not {type(self.source).__name__}")
        if self.text not in (None, *get_args(PageText)):
            raise ContentError(f"{self.label}: text={self.text!r}; use 'before', 'after' or None")


@dataclass(frozen=True)
class Document:
    """Texts, images and PDFs that belong together, in reading order: a page, or several."""

    parts: tuple[Text | Image | Pdf, ...]

    def __init__(self, *parts: str | Text | Image | Pdf) -> None:
        object.__setattr__(self, "parts", tuple(Text(p) if isinstance(p, str) else p for p in parts))
        if not self.parts:
            raise ContentError("a document needs at least one text, image or PDF")
        for part in self.parts:
            if not isinstance(part, (Text, Image, Pdf)):
                raise ContentError(f"a document holds texts, images and PDFs, not {type(part).__name__}")

    @classmethod
    def from_pdf(cls, source: str | Path | bytes, text: PageText | None = None, name: str | None = None) -> Document:
        """The pages of a PDF; with `text` their text layers too, "before" or "after" each page's image."""
        return cls(Pdf(source, name=name, text=text))

    @classmethod
    def from_html(
        cls, source: str | Path | bytes, unreadable: Unreadable = "error", name: str | None = None
    ) -> Document:
        """The texts and images of an HTML page in reading order, see `commonspace.html_document`."""
        from commonspace.html_document import read_html

        return read_html(source, unreadable=unreadable, name=name)


Part = Text | Image | Audio | Video | Document
_MEDIA: dict[str, type[_Media]] = {"image": Image, "audio": Audio, "video": Video, "pdf": Pdf}
# What the JSON form may say beside a medium's name, where it is not the default.
_JSON_OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "video": {"sound": (True, False)},
    "pdf": {"text": get_args(PageText)},
}


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
                    f"{type(part).__name__} is no part; use a str, Text, Image, Audio, Video or Document "
                    "(which holds a Pdf)"
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
            payload = part.encoded() if isinstance(part, Text) else part.read_bytes()
            options = "".join(f":{option}" for option in _digest_options(part))
            state.update(f"{type(part).__name__}{options}:{len(payload)}:".encode())
            state.update(payload)
        return int.from_bytes(state.digest(), "little", signed=True)

    def to_json(self, name_media: Callable[[_Media], str]) -> list[Any]:
        """The JSON form, see `content_schema`; `name_media` gives each medium the name of a file that holds it."""
        return [_part_to_json(part, name_media) for part in self.parts]

    @classmethod
    def from_json(cls, value: Any, open_media: Callable[[str], str | Path | bytes]) -> Content:
        """Inverse of `to_json`; `open_media` turns a name into a path or bytes. A lone str or object is one part."""
        items = value if isinstance(value, list) else [value]
        return cls(*(_part_from_json(item, open_media) for item in items))


def content_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the JSON form of a content, the file `content.schema.json` of this package."""
    return json.loads(resources.files("commonspace").joinpath("content.schema.json").read_text(encoding="utf-8"))


def _flatten(parts: Iterable[Part]) -> Iterable[Text | _Media]:
    for part in parts:
        if isinstance(part, Document):
            yield Text(f"\x00document:{len(part.parts)}")
            yield from part.parts
        else:
            yield part


def _digest_options(part: Text | _Media) -> list[Any]:
    """What decides how a part is embedded beside its bytes."""
    options: list[Any] = []
    if isinstance(part, Video):
        options = [part.sound, part.fps] if part.fps else [part.sound]
    elif isinstance(part, Audio) and part.rate:
        options = [part.rate]
    elif isinstance(part, Pdf) and part.text:
        options = [part.text]
    elif isinstance(part, Image) and getattr(part.source, "mode", None) == "P":
        options = [part.source.getpalette()]
    return options


def _part_to_json(part: Part | Pdf, name_media: Callable[[_Media], str]) -> Any:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Document):
        return {"document": [_part_to_json(inner, name_media) for inner in part.parts]}
    item: dict[str, Any] = {type(part).__name__.lower(): name_media(part)}
    if isinstance(part, Video) and not part.sound:
        item["sound"] = False
    if isinstance(part, Pdf) and part.text:
        item["text"] = part.text
    return item


def _part_from_json(item: Any, open_media: Callable[[str], str | Path | bytes]) -> Any:
    if isinstance(item, str):
        return _text_from_json(item)
    if isinstance(item, dict):
        if set(item) == {"text"}:
            return _text_from_json(item["text"])
        if set(item) == {"document"} and isinstance(item["document"], list):
            return Document(*(_part_from_json(inner, open_media) for inner in item["document"]))
        kind = next((k for k in _MEDIA if k in item), None)
        if kind and isinstance(item[kind], str) and item[kind] and _options_fit(kind, item):
            options = {key: value for key, value in item.items() if key != kind}
            return _MEDIA[kind](open_media(item[kind]), name=item[kind], **options)
    raise ContentError(
        f'{item!r:.120} is no part; write "some text", {{"image": "file.png"}}, {{"audio": "file.ogg"}}, '
        '{"video": "file.mp4", "sound": false} or {"document": [...]}, in it {"pdf": "file.pdf", "text": "before"} too'
    )


def _text_from_json(value: str) -> Text:
    text = Text(value)
    if not value.isascii():  # known without reading it
        text.encoded()
    return text


def _options_fit(kind: str, item: dict[str, Any]) -> bool:
    known = _JSON_OPTIONS.get(kind, {})
    return all(
        any(type(value) is type(one) and value == one for one in known.get(key, ()))
        for key, value in item.items()
        if key != kind
    )
