"""What a command is given to embed: lines of a JSON lines file, or media and text files, each with a key.

An entry that cannot be understood is kept with its error: whether that stops the work is the command's to decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonspace.content import Audio, Content, Document, Image, Pdf, Text, Video
from commonspace.errors import CommonspaceError, ContentError, DataError

# What a file holds, by its suffix; whether it can be decoded is found when it is.
_SUFFIXES: dict[type[Image | Audio | Video | Text], tuple[str, ...]] = {
    Image: (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".svg", ".avif"),
    Audio: (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".gsm"),
    Video: (".mp4", ".webm", ".mkv", ".mov", ".avi"),
    Text: (".txt", ".md"),
}


@dataclass(frozen=True)
class Entry:
    """One thing to embed.

    line     of the input file, from 1; of files given by name, the place among them
    key      the line's own "key", else its number; a file's path as it was given
    where    what errors call it
    raw      the line, or the path and a text file's text, as it stands: what says whether an entry is still the same
    content  None where `error` says why there is none
    """

    line: int
    key: str
    where: str
    raw: str
    content: Content | None = None
    error: CommonspaceError | None = None

    def named(self, error: CommonspaceError) -> str:
        """An error's message, opening with where the entry stands."""
        return str(error) if str(error).startswith(self.where) else f"{self.where}: {error}"

    def stamp(self) -> str:
        """Text that changes when the line or text does, or a media file or PDF that is named (size, time of change)."""
        return "\n".join([self.raw, *(_stamp(path) for path in _paths(self.content))])


def read_lines(path: Path) -> list[Entry]:
    """Entries of a JSON lines file, media files found beside it; blank lines count in numbers and give none.

    A line is a content, or {"key": "...", "content": CONTENT}. Raises DataError where the file cannot be read, is
    empty, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    # Not splitlines: JSON may hold U+2028 and its like inside a text.
    entries = [_entry(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not entries:
        raise DataError(f'{path}: holds no content; write one a line, as in ["a red fox", {{"image": "fox.jpg"}}]')
    return _distinct(entries)


def read_files(files: Sequence[str]) -> list[Entry]:
    """Entries of files, one content each, their kind told by the suffix. Raises DataError for a file given twice."""
    entries = []
    for number, name in enumerate(files, 1):
        content, error = _attempt(lambda name=name: content_of_file(Path(name)))
        raw = f"{name}\n{content.parts[0].text}" if content and isinstance(content.parts[0], Text) else name
        entries.append(Entry(number, name, name, raw, content, error))
    return _distinct(entries)


def content_of_file(path: Path) -> Content:
    """A media file, or the text of a text file, as one content.

    Raises ContentError for a suffix of no known kind, and for a text that is missing, empty or no UTF-8.
    """
    kind = kind_of_file(path)
    if kind is None:
        known = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
        raise ContentError(f"{path}: a file of unknown kind; use one of {known}, or a line of JSON (--jsonl)")
    if kind is not Text:
        return Content(kind(path, name=str(path)))
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ContentError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    if not text:
        raise ContentError(f"{path}: is empty; leave it out")
    return Content(text)


def kind_of_file(path: Path) -> type[Image | Audio | Video | Text] | None:
    """The part that a file of this suffix becomes; None where the suffix is of no known kind."""
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.suffix.lower() in suffixes), None)


def _entry(path: Path, number: int, line: str) -> Entry:
    where = f"{path}, line {number}"
    key, value = str(number), None
    try:
        value = json.loads(line)
    except ValueError as error:
        return Entry(number, key, where, line, error=DataError(f"{where}: not JSON ({error})"))
    if isinstance(value, dict) and set(value) == {"key", "content"} and isinstance(value["key"], str):
        key, value = value["key"], value["content"]
    content, error = _attempt(lambda: Content.from_json(value, lambda name: path.parent / name))
    return Entry(number, key, where, line, content, ContentError(f"{where}: {error}") if error else None)


def _attempt(read: Callable[[], Content]) -> tuple[Content | None, ContentError | None]:
    try:
        return read(), None
    except ContentError as error:
        return None, error


def _distinct(entries: list[Entry]) -> list[Entry]:
    seen: dict[str, Entry] = {}
    for entry in entries:
        if entry.key in seen:
            first = seen[entry.key].where
            raise DataError(f"{entry.where}: the key {entry.key!r} is that of {first} too; give each its own")
        seen[entry.key] = entry
    return entries


def _paths(content: Content | None) -> Iterator[Path]:
    parts: Iterable[Any] = content.parts if content else ()
    for part in parts:
        for inner in part.parts if isinstance(part, Document) else (part,):
            if isinstance(inner, (Image, Audio, Video, Pdf)) and isinstance(inner.source, Path):
                yield inner.source


def _stamp(path: Path) -> str:
    try:
        about = path.stat()
    except OSError:
        return f"{path}: absent"
    return f"{path}: {about.st_size} {about.st_mtime_ns}"
