"""A user's own pairs to shards: JSON lines whose contents name media files beside them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from commonspace.content import Audio, Content, Document, Image, Text, Video
from commonspace.data.sample import Record, Variant
from commonspace.errors import CommonspaceError, DataError
from commonspace.processing.svg import is_svg
from data_prep.build import build_progress
from data_prep.building import alone
from data_prep.keys import record_key
from data_prep.merge import write_tier
from data_prep.pictures import header_fault, is_whole_picture
from data_prep.public.wholeness import is_whole_clip, is_whole_sound
from data_prep.source import Source
from data_prep.split import concept
from data_prep.staging import medium_ids, stage

_FIELDS = frozenset({"query", "positive", "negatives", "concept", "language", "key", "synthetic"})
_TASK = "own"  # the one name that configs/task and the evaluation know for pairs of a user's own
_SHOWN_ERRORS = 10
_CONCEPT_CHARACTERS = 200
_MOST_PIXELS = 50_000_000  # what models here decode
_TOO_LARGE = f"picture over {_MOST_PIXELS} pixels"
_SVG_HEAD = 65536  # bytes in which an SVG shows itself


def build_own(pairs: Path, data: Path, name: str = "own") -> dict[str, Any]:
    """Build `<data>/<name>` from a file of pairs, one JSON object a line, and return its manifest.

    A row is {"query": CONTENT, "positive": CONTENT} and optionally "negatives" (list of CONTENT), "concept",
    "language", "key" and "synthetic" (what made it, in words). Media paths are relative to the file. Rows of one
    concept lie on one side of the split, and so do rows whose query or positive have a file in common; the concept is
    by default the positive's text, or its file name. A synthetic row is for training alone: it is left out where the
    file's other rows of its concept, or with one of its files, are on dev or held out.

    Raises:
        DataError: names the lines that cannot be used and why, up to ten of them; or another process builds the same.
    """
    pairs, data = Path(pairs), Path(data)
    rows = own_rows(pairs, name)

    def records(_folders: Mapping[str, Path], _drops: Counter) -> Iterator[Record]:
        return iter(rows)

    source = Source(name, (), "not stated", f"rows of {pairs.name}", frozenset({name}), records=records)
    state = hashlib.sha256(pairs.read_bytes()).hexdigest()
    with (
        alone(data / name),
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=data) as staging,
        build_progress() as progress,
    ):
        bar = progress.add_task(f"read {pairs.name}", total=len(rows))
        staged = stage(source, Path(staging), lambda count: progress.update(bar, completed=count), each_medium=True)
        return write_tier(name, [staged], data / name, state, progress)


def own_rows(pairs: Path, name: str) -> list[Record]:
    """The rows of a file of pairs as records, media as paths.

    Raises:
        DataError: names the lines that cannot be used and why, up to ten of them.
    """
    try:
        lines = pairs.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 and its like
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{pairs}: cannot be read as UTF-8 text ({error}); check the path") from error
    records, problems, keys = [], [], {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _record(json.loads(line), pairs.parent, name, number)
        except (CommonspaceError, OSError, ValueError, TypeError, RecursionError) as error:
            told = "its JSON is nested too deeply" if isinstance(error, RecursionError) else error
            problems.append(f"line {number}: {told}")
            continue
        other = keys.setdefault(record.key, number)
        if other != number:
            problems.append(f"line {number}: its key is that of line {other}")
        records.append(record)
    if problems:
        more = f"\n... and {len(problems) - _SHOWN_ERRORS} more" if len(problems) > _SHOWN_ERRORS else ""
        raise DataError(f"{pairs}: {len(problems)} rows cannot be used\n" + "\n".join(problems[:_SHOWN_ERRORS]) + more)
    if not records:
        raise DataError(
            f'{pairs}: holds no row; write lines like {{"query": "a fox", "positive": {{"image": "fox.jpg"}}}}'
        )
    return _with_members(records)


def _with_members(records: list[Record]) -> list[Record]:
    """Synthetic rows with the concepts of real rows that have their concept or one of their media: where these do not
    train, neither may they.
    """
    real = [record for record in records if "synthetic" not in record.extra]
    if len(real) == len(records):
        return records
    names = {record.concept: record.concept for record in real}
    for record in real:  # of several concepts that share a medium any one will do: they lie on one side
        names |= dict.fromkeys(_media_of(record), record.concept)

    def with_members(record: Record) -> Record:
        members = {names[mark] for mark in (record.concept, *_media_of(record)) if mark in names}
        return replace(record, extra={**record.extra, "members": sorted(members)}) if members else record

    return [with_members(record) if "synthetic" in record.extra else record for record in records]


def _media_of(record: Record) -> list[int]:
    return medium_ids((record.queries[0].content, record.positives[0].content))


def _record(row: Any, folder: Path, name: str, number: int) -> Record:
    if not isinstance(row, dict) or not {"query", "positive"} <= row.keys():
        raise DataError('a row is an object with "query" and "positive"')
    if unknown := row.keys() - _FIELDS:
        raise DataError(f"unknown field {', '.join(sorted(unknown))}; fields are {', '.join(sorted(_FIELDS))}")
    for field in ("concept", "language", "key", "synthetic"):
        if field in row and not (isinstance(row[field], str) and row[field].strip()):
            raise DataError(f'"{field}" is {row[field]!r}, not a text')
        Text(row.get(field, "")).encoded()  # an error where it cannot be
    if not isinstance(row.get("negatives", []), list):
        raise DataError('"negatives" is not a list of contents')
    positive = _content(row["positive"], folder)
    return Record(
        key=record_key(name, row.get("key", f"line {number:07d}")),
        task=_TASK,
        source=name,
        concept=concept(row.get("concept") or _default_concept(positive))[:_CONCEPT_CHARACTERS],
        queries=(Variant(_content(row["query"], folder), row.get("language")),),
        positives=(Variant(positive, row.get("language")),),
        negatives=tuple(_content(item, folder) for item in row.get("negatives", [])),
        extra={"line": number} | ({"synthetic": row["synthetic"]} if "synthetic" in row else {}),
    )


def _content(value: Any, folder: Path) -> Content:
    def open_media(file: str) -> Path:
        Text(file).encoded()  # an error where it cannot be
        path = folder / file
        if not path.is_file():
            raise DataError(f"{file}: no such file beside the pairs ({path})")
        if not path.stat().st_size:
            raise DataError(f"{file}: the file is empty")
        return path

    content = Content.from_json(value, open_media)
    for part in _inner(content):
        if not isinstance(part, Text):
            about = Path(part.source).stat()
            if fault := _fault(type(part), Path(part.source), about.st_size, about.st_mtime_ns):
                raise DataError(f"{part.label}: {fault}")
    if not any(not isinstance(part, Text) or part.text.strip() for part in content.parts):
        raise DataError(f"{value!r:.80} is blank")
    return content


@lru_cache(maxsize=100_000)  # many rows may ask about one file
def _fault(kind: type, path: Path, size: int, changed: int) -> str | None:
    """What is wrong with a medium, or None; a file is known by its path, size and time of change.

    Pages of a PDF and drawings in SVG are judged when they are embedded.
    """
    if kind is Image:
        fault = header_fault(path, _MOST_PIXELS)
        if fault == _TOO_LARGE:
            return f"{fault}, as in a decompression bomb; scale it down or leave it out"
        if fault:
            return None if _is_svg(path) else f"{fault}; replace it or leave it out"
    whole = {Image: is_whole_picture, Audio: is_whole_sound, Video: is_whole_clip}.get(kind)
    if whole is None or whole(path):
        return None
    return f"no whole {kind.__name__.lower()}, cut short or of another kind; replace it or leave it out"


def _is_svg(path: Path) -> bool:
    with path.open("rb") as file:
        return is_svg(file.read(_SVG_HEAD))


def _inner(content: Content) -> list[Any]:
    """The parts of a content, those of documents in their place."""
    return [inner for part in content.parts for inner in (part.parts if isinstance(part, Document) else (part,))]


def _default_concept(content: Content) -> str:
    """The first text of a content, else the name of its first file."""
    parts = _inner(content)
    texts = [part.text for part in parts if isinstance(part, Text) and part.text.strip()]
    return texts[0] if texts else Path(str(parts[0].source)).with_suffix("").name
