"""One source at a time to a folder of its own: rows as JSON lines, rendered media in one file beside them.

A staged source is kept under `<cache>/staged` by the hash of its packages and of the code that reads them, so a build
that was interrupted, or in which another source changed, does not read it again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from commonspace.content import Content, Image, Text
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.fetch import downloaded
from data_prep.source import Package, Source
from data_prep.unpack import unpack

_VERSION = 2
_REPORT_EVERY = 50
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Row:
    """A staged record without its media: what duplicates and splits are decided on."""

    value: dict[str, Any]

    @property
    def task(self) -> str:
        return self.value["task"]

    @property
    def concept(self) -> str:
        return self.value["concept"]

    @property
    def pair(self) -> tuple[int, int]:
        """Digests of the canonical query and positive."""
        return tuple(self.value["ids"])

    @property
    def picture_ids(self) -> list[int]:
        """Digests of those of the two sides that are one picture and nothing else."""
        return [number for number, alone in zip(self.value["ids"], self.value["pictures"], strict=True) if alone]

    @property
    def style(self) -> str | None:
        """What a source says of its picture: "drawing", "photo" or nothing."""
        return self.value["extra"].get("style")

    @property
    def media_ids(self) -> list[int]:
        """What joins this row to others: digests of those of the two sides that hold more than text, or of each medium.

        The second only where `stage` was told so.
        """
        if "each_medium" in self.value:
            return self.value["each_medium"]
        return [number for number, media in zip(self.value["ids"], self.value["media"], strict=True) if media]


@dataclass(frozen=True)
class Staged:
    """A source that was read: its rows, and why others were dropped."""

    source: Source
    folder: Path
    cache: Path
    count: int
    drops: dict[str, int]

    @property
    def fingerprint(self) -> str:
        return self.folder.name

    def rows(self) -> Iterator[Row]:
        with (self.folder / "rows.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                yield Row(json.loads(line))

    def records(self, wanted: Iterator[bool]) -> Iterator[tuple[Row, Record] | tuple[Row, None]]:
        """Every row with its record, which is None where `wanted`, one truth value a row, says so."""
        with (self.folder / "media.bin").open("rb") as media:
            for row, keep in zip(self.rows(), wanted, strict=True):
                yield row, self._record(row.value, media.fileno()) if keep else None

    def _record(self, value: dict[str, Any], media: int) -> Record:
        def open_media(reference: str) -> Path | bytes:
            kind, _, place = reference.partition(":")
            if kind == "file":
                return self.cache / place
            offset, size = (int(number) for number in place.split(":"))
            return os.pread(media, size, offset)

        def variants(items: list[list[Any]]) -> tuple[Variant, ...]:
            return tuple(Variant(Content.from_json(content, open_media), language) for language, content in items)

        return Record(
            key=value["key"],
            task=value["task"],
            source=self.source.name,
            concept=value["concept"],
            queries=variants(value["queries"]),
            positives=variants(value["positives"]),
            negatives=tuple(Content.from_json(content, open_media) for content in value["negatives"]),
            extra=value["extra"],
        )


def unpacked(package: Package, source: str, cache: Path) -> Path:
    """The folder of an unpacked package, named by its hash; unpacks it where that was not done yet.

    Raises:
        DataError: it was not fetched, is not the pinned file, or is broken.
    """
    stem = package.name.removeprefix("@").replace("/", "-")
    folder = cache / "unpacked" / f"{stem}-{package.sha256[:8]}"
    if not folder.is_dir():
        unpack(downloaded(package, source, cache), folder)
    return folder


def medium_ids(contents: Iterable[Content]) -> list[int]:
    """Digest of the bytes of each medium in some contents, those inside documents included: one file, one number.

    Raises:
        ContentError: a medium cannot be read.
    """
    media = [part for content in contents for part in _inner(content) if not isinstance(part, Text)]
    found = {hashlib.blake2b(medium.read_bytes(), digest_size=8).digest() for medium in media}
    return sorted(int.from_bytes(digest, "little", signed=True) for digest in found)


def stage(source: Source, cache: Path, advance: Advance, each_medium: bool = False) -> Staged:
    """Read a source into its folder under `<cache>/staged`, or find it there.

    With `each_medium` any file that two rows have joins their concepts, else only a whole side does. Packages are
    staged without: it would move 1,158 rows of the mini tier to another side, and published figures rest on its sides.

    Raises:
        DataError: a package is missing or broken, or two records of a task have one key.
    """
    cache = cache.resolve()
    folder = cache / "staged" / f"{source.name}-{fingerprint(source)}"
    if not folder.is_dir():
        folders = {package.name: unpacked(package, source.name, cache) for package in source.packages}
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{source.name}-", dir=folder.parent))
        try:
            _write(source, folders, partial, cache, advance, each_medium)
            partial.chmod(0o755)  # a cache may be shared; temporary folders are private
            if not folder.is_dir():
                os.rename(partial, folder)
            _forget_older(folder, source.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    summary = json.loads((folder / "staged.json").read_text(encoding="utf-8"))
    advance(summary["count"])
    return Staged(source, folder, cache, summary["count"], summary["drops"])


def fingerprint(source: Source) -> str:
    """Hash of the packages and of the code that turns them into records."""
    state = hashlib.sha256(f"{_VERSION}".encode())
    state.update(json.dumps([asdict(package) for package in source.packages]).encode())
    for path in sorted(_code_of(source)):
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()[:12]


def _code_of(source: Source) -> set[Path]:
    """The file of the reader and those of `data_prep` that it imports, directly or not, and this one."""
    if source.records is None:
        return set()
    paths, names = set(), [source.records.__module__, __name__]
    while names:
        spec = importlib.util.find_spec(names.pop())
        path = Path(spec.origin) if spec and spec.origin else None
        if path is None or path in paths or path.name == "__init__.py":
            continue
        paths.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("data_prep"):
                inner = [f"{node.module}.{item.name}" for item in node.names if _is_module(node.module, item.name)]
                names += [node.module, *inner]
    return paths


def _is_module(package: str, name: str) -> bool:
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return any((Path(place) / f"{name}.py").is_file() for place in places or ())


def _forget_older(folder: Path, name: str) -> None:
    """Drop what the same source left under another fingerprint."""
    for other in folder.parent.glob(f"{name}-*"):
        if other != folder and len(other.name) == len(folder.name):
            shutil.rmtree(other, ignore_errors=True)


def _write(
    source: Source, folders: dict[str, Path], out: Path, cache: Path, advance: Advance, each_medium: bool
) -> None:
    drops: Counter[str] = Counter()
    keys: set[tuple[str, str]] = set()
    if source.records is None:
        raise DataError(f"source {source.name} holds {source.role}, not records; it cannot be built")
    try:  # around the files too: what is left to write when they are closed may not fit either
        with (out / "rows.jsonl").open("w", encoding="utf-8") as rows, (out / "media.bin").open("wb") as media:
            spool = _Spool(media, cache, source.name)
            for record in source.records(folders, drops):
                if (record.task, record.key) in keys:
                    raise DataError(f"source {source.name}: two records of task {record.task} have key {record.key!r}")
                if record.source != source.name:
                    raise DataError(f"source {source.name}: record {record.key!r} names source {record.source!r}")
                keys.add((record.task, record.key))
                rows.write(json.dumps(_row(record, spool, each_medium), ensure_ascii=False) + "\n")
                if len(keys) % _REPORT_EVERY == 0:
                    advance(len(keys))
        summary = {"count": len(keys), "drops": dict(drops)}
        (out / "staged.json").write_text(json.dumps(summary, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise DataError(f"source {source.name}: {error}; after {len(keys)} records, in {out.parent}") from error


class _Spool:
    """Gives each medium a name: files of an unpacked package stay where they are, bytes go into one file, once each."""

    def __init__(self, stream: Any, cache: Path, source: str) -> None:
        self.stream, self.cache, self.source = stream, cache, source
        self.places: dict[bytes, str] = {}

    def __call__(self, medium: Any) -> str:
        if isinstance(medium.source, (str, Path)):
            path = Path(os.path.abspath(medium.source))
            return f"file:{path.relative_to(self.cache) if path.is_relative_to(self.cache) else path}"
        if not isinstance(medium.source, bytes):
            raise DataError(f"source {self.source}: {medium.label} is an array; encode it before it goes into a record")
        digest = hashlib.blake2b(medium.source, digest_size=16).digest()
        if digest not in self.places:
            self.places[digest] = f"span:{self.stream.tell()}:{len(medium.source)}"
            self.stream.write(medium.source)
        return self.places[digest]


def _row(record: Record, spool: _Spool, each_medium: bool) -> dict[str, Any]:
    canonical = [record.queries[0].content, record.positives[0].content]
    row = {
        "key": record.key,
        "task": record.task,
        "concept": record.concept,
        "queries": [[variant.language, variant.content.to_json(spool)] for variant in record.queries],
        "positives": [[variant.language, variant.content.to_json(spool)] for variant in record.positives],
        "negatives": [content.to_json(spool) for content in record.negatives],
        "extra": record.extra,
        "ids": [content.digest() for content in canonical],
        "media": [_has_media(content) for content in canonical],
        "pictures": [len(content.parts) == 1 and isinstance(content.parts[0], Image) for content in canonical],
    }
    return row | ({"each_medium": medium_ids(canonical)} if each_medium else {})


def _has_media(content: Content) -> bool:
    return any(not isinstance(part, Text) for part in _inner(content))


def _inner(content: Content) -> list[Any]:
    """The parts of a content, those of documents in their place."""
    return [inner for part in content.parts for inner in getattr(part, "parts", (part,))]
