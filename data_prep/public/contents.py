"""One row of a set to the variants of a record's side: its texts, its picture, its sound, its clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from commonspace.content import Audio, Content, Document, Image, Video
from commonspace.data.sample import Variant
from commonspace.errors import DataError
from data_prep.pictures import header_fault, is_whole_picture
from data_prep.public.fields import fill, find, one, texts

KINDS = ("text", "image", "page", "audio", "video")
NOT_UTF8 = "text is not UTF-8"
_BROKEN = "broken media"
Opener = Callable[[str], Path | bytes]  # of a medium's name


class LeftOut(Exception):
    """Why a row is not taken: no error, it is counted and passed over."""


def encodable(text: str) -> str:
    """A text as it is, if UTF-8 has it: JSON and the names in a tar may hold one half of a pair of surrogates.

    Raises:
        LeftOut: it has not.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LeftOut(NOT_UTF8) from error
    return text


def side_of(what: Mapping[str, Any], row: Mapping[str, Any], open_media: Opener, language: str | None) -> list[Variant]:
    """The variants of one side, in order; the first is the canonical one.

    {text: PATH or TEMPLATE, or a list of them}, {text: {en: ..., zh: ...}}, {text: ..., without: PATH} where a text
    that stands in the other would give it away, {image: TEMPLATE}, {page: ...}, {audio: ...}, or {video: ...,
    start: PATH, end: PATH} for a stretch of one. A medium may have several templates, of which the first file that is
    there is taken. A field that holds encoded bytes, as in parquet, is named by its path alone.

    Raises:
        LeftOut: there is no text, one that UTF-8 cannot say, or no medium that is whole, in this row.
    """
    kind = _kind(what)
    if kind == "text":
        found = _texts(what, row, language)
        if not found:
            raise LeftOut("empty text")
        return found
    medium = _medium(what[kind], row, open_media)
    label = medium if isinstance(medium, Path) else f"{kind} in the row"
    if kind in ("image", "page"):
        if fault := header_fault(medium):
            raise LeftOut(fault)
        if not is_whole_picture(medium):
            raise LeftOut(_BROKEN)
        picture = Image(medium, name=str(label))
        return [Variant(Content(Document(picture) if kind == "page" else picture), language)]
    from data_prep.public.wholeness import is_whole_clip, is_whole_sound

    if kind == "audio":
        if not is_whole_sound(medium):
            raise LeftOut(_BROKEN)
        return [Variant(Content(Audio(medium, name=str(label))), language)]
    if "start" in what:
        return [Variant(Content(_stretch(medium, what, row)), language)]
    if not is_whole_clip(medium):
        raise LeftOut(_BROKEN)
    return [Variant(Content(Video(medium, name=str(label))), language)]


def file_names(what: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    """The files that the medium of a side may lie in; none where it is a text, or bytes in the row."""
    kind = _kind(what)
    values = [] if kind == "text" else [_value(name, row) for name in _names(what[kind])]
    return [str(value) for value in values if value is not None and not isinstance(value, bytes)]


def _kind(what: Mapping[str, Any]) -> str:
    return next(key for key in KINDS if key in what)


def _names(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _value(name: str, row: Mapping[str, Any]) -> Any:
    """What a template or path of a medium stands for in a row: the name of a file, or its bytes."""
    if "{" in name:
        return fill(name, row)
    value = one(row, name)
    return value.get("bytes") if isinstance(value, Mapping) else value


def _texts(what: Mapping[str, Any], row: Mapping[str, Any], language: str | None) -> list[Variant]:
    by_language = what["text"] if isinstance(what["text"], Mapping) else {language: what["text"]}
    found = []
    for code, paths in by_language.items():
        for path in [paths] if isinstance(paths, str) else paths:
            found += [(text, code) for text in texts(row, path)]
    if "without" in what:
        inner = str(one(row, what["without"])).strip()
        found = [(text.replace(inner, "").strip() if inner else text, code) for text, code in found]
    return [Variant(Content(encodable(text)), code) for text, code in found if text]


def _medium(names: Any, row: Mapping[str, Any], open_media: Opener) -> Path | bytes:
    for name in _names(names):
        value = _value(name, row)
        if isinstance(value, bytes):
            if not value:
                raise LeftOut("empty media file")
            return value
        if value is None:
            raise LeftOut("no media file")
        try:
            return open_media(str(value))
        except FileNotFoundError:
            continue
    raise LeftOut("no media file")


def inside(folder: Path) -> Opener:
    """Opens files below a folder; a name that leads out of it is an error."""
    root = folder.resolve()

    def open_media(name: str) -> Path:
        path = root / name
        try:
            resolved = path.resolve()
        except ValueError as error:  # a name that no file can have
            raise FileNotFoundError(name) from error
        if not resolved.is_relative_to(root):
            raise DataError(f"{name!r} lies outside {folder}; the annotations are not as published, do not use them")
        if not path.is_file():
            raise FileNotFoundError(name)
        if not path.stat().st_size:
            raise LeftOut("empty media file")
        return path

    return open_media


def _stretch(medium: Path | bytes, what: Mapping[str, Any], row: Mapping[str, Any]) -> Video:
    if not isinstance(medium, Path):
        raise DataError("stretches are cut from files, not from bytes in a row")
    from data_prep.public.cutting import cut_clip

    about = medium.stat()
    if not _is_whole(medium, about.st_size, about.st_mtime_ns):
        raise LeftOut(_BROKEN)
    start, end = (float(find(row, what[key])[0]) for key in ("start", "end"))
    try:
        clip = cut_clip(medium, start, end)
    except DataError as error:
        raise LeftOut("stretch cannot be cut from its video") from error
    return Video(clip, name=f"{medium.name}-{start:g}-{end:g}.mp4")


@lru_cache(maxsize=1)
def _is_whole(path: Path, size: int, changed: int) -> bool:
    """Asked once of a video of many stretches, which follow one another, and again where the file was changed."""
    from data_prep.public.wholeness import is_whole_clip

    return is_whole_clip(path)
