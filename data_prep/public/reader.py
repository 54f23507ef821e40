"""What the three layout readers share: parts of a set, and rows of it to records."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commonspace.content import Content
from commonspace.data.sample import Record
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.public.contents import LeftOut, Opener, encodable, file_names, side_of
from data_prep.public.fields import fill, find
from data_prep.public.media import Media
from data_prep.public.spec import PublicSet

_MOST_NEGATIVES = 8
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})(?!\d)")  # train-00003-of-00082.parquet, or -00082-4f0c1d2e.parquet
_SHOWN = 5  # names in an error
Found = tuple[Record, str]  # and the published split it is of


@dataclass(frozen=True)
class Judged:
    """Of the pairs that a file of judgements names: how many, how many the tables lack, which one is the first.

    tables  that lack them
    """

    file: str
    pairs: int
    missing: int
    first: str
    tables: str


@dataclass(frozen=True)
class Part:
    """What is read in one go, and not again once it is done: a tar, a file, a stretch of rows of one.

    files  it first, then those that are joined to it
    media  what is there of the files that its rows name
    """

    name: str
    files: tuple[Path, ...]
    published: str | None  # split, where the file decides it
    start: int = 0  # rows of the file
    stop: int | None = None
    names: tuple[tuple[str, str], ...] = ()  # what a pattern with {name} stands for in this file
    media: Media = field(default_factory=Media)


class Reader:
    """A set in a folder. `parts` may be read by several processes; `records` yields those of one, in order.

    judged  of a part of judgements, from its first record on
    """

    def __init__(self, spec: PublicSet, folder: Path) -> None:
        self.spec, self.folder = spec, Path(folder)
        self.judged: Judged | None = None

    def parts(self) -> list[Part]:
        raise NotImplementedError

    def records(self, part: Part, drops: Counter) -> Iterator[Found]:
        raise NotImplementedError

    def matches(self, files: Mapping[str, str | None]) -> list[tuple[Path, str | None]]:
        """The files that patterns find, each with the split its pattern stands for.

        Raises:
            DataError: a pattern finds nothing, or not all files of which one says how many they are.
        """
        found: dict[Path, str | None] = {}
        for pattern, published in files.items():
            paths = sorted(path for path in self.folder.glob(pattern) if path.is_file())
            if not paths:
                what = "\n  ".join(self.spec.download)
                raise DataError(
                    f"{self.folder}: has no {pattern}, as {self.spec.title} is published. Put there:\n  {what}"
                )
            for path in paths:
                found.setdefault(path, published)
        self._check_numbered(found)
        return sorted(found.items())

    def _check_numbered(self, paths: Iterable[Path]) -> None:
        """Of files that are numbered, as train-00003-of-00082, all must be there."""
        found: dict[tuple[Path, str, str], set[int]] = defaultdict(set)
        for path in paths:
            if match := _NUMBERED.match(path.name):
                found[path.parent, match[1], match[3]].add(int(match[2]))
        for (folder, name, total), numbers in found.items():
            first = int(int(total) in numbers)  # some count from 1
            missing = [number for number in range(first, first + int(total)) if number not in numbers]
            if missing:
                names = ", ".join(f"{name}-{number:05d}-of-{total}" for number in missing[:_SHOWN])
                raise DataError(
                    f"{folder}: {len(missing)} of the {int(total)} files {name}-*-of-{total} of {self.spec.title} are "
                    f"missing: {names}{', ...' if len(missing) > _SHOWN else ''}. Finish the download"
                )


@dataclass(frozen=True)
class Sides:
    """How a row becomes a record.

    key        template of what is unique to a row
    query, positive   see `contents.side_of`
    concept    template; rows of one lie on one side of a split by hash, and answer one another. By default the key
    negatives  {each: PATH of a list, text: TEMPLATE in which `_each` is one of them, most: at most so many}
    language   code, or template
    split      path of the published split, where the row says it
    """

    key: str
    query: Mapping[str, Any]
    positive: Mapping[str, Any]
    concept: str | None = None
    negatives: Mapping[str, Any] | None = None
    language: str | None = None
    split: str | None = None

    def record(self, spec: PublicSet, row: Mapping[str, Any], open_media: Opener, published: str | None) -> Found:
        """The record of a row, and its published split.

        Raises:
            LeftOut: the row cannot be used.
            DataError: a field is not there.
        """
        published = self._published(row, published)
        row = {**row, "_split": published}
        if spec.side(published) is None:
            raise LeftOut(f"split {published}")
        key = encodable(fill(self.key, row))
        concept = encodable(fill(self.concept, row)) if self.concept else key
        language = encodable(fill(self.language, row)) if self.language else None
        record = Record(
            key=record_key(spec.name, key),
            task=spec.task,
            source=spec.name,
            concept=f"{spec.name}:{concept}"[:200],
            queries=tuple(side_of(self.query, row, open_media, language)),
            positives=tuple(side_of(self.positive, row, open_media, language)),
            negatives=self._negatives(row, open_media),
            extra={"published": key, "split": published},
        )
        return record, published

    def media(self, spec: PublicSet, row: Mapping[str, Any], published: str | None) -> list[list[str]]:
        """The files that each medium of a row may lie in; none of a row that its split leaves out.

        Raises:
            DataError: a field is not there.
        """
        published = self._published(row, published)
        if spec.side(published) is None:
            return []
        names = [file_names(side, {**row, "_split": published}) for side in (self.query, self.positive)]
        return [some for some in names if some]

    def _published(self, row: Mapping[str, Any], published: str | None) -> str:
        published = str(find(row, self.split)[0]) if self.split else published
        if published is None:
            raise DataError("neither the file nor the row says of which split it is")
        return published

    def _negatives(self, row: Mapping[str, Any], open_media: Opener) -> tuple[Content, ...]:
        if self.negatives is None:
            return ()
        what = {"text": self.negatives["text"]}
        rows: Sequence[Mapping[str, Any]] = [row]
        if "each" in self.negatives:
            rows = [{**row, "_each": item} for item in find(row, f"{self.negatives['each']}[]")]
        found = []
        for item in rows[: self.negatives.get("most", _MOST_NEGATIVES)]:
            try:
                found += [variant.content for variant in side_of(what, item, open_media, None)]
            except LeftOut:
                continue
        return tuple(found)


def exploded(row: Mapping[str, Any], path: str, most: int | None) -> Iterator[dict[str, Any]]:
    """A row for each item of a list in it, which is `_each` there; `_index` is its number."""
    items = find(row, f"{path}[]")
    for index, item in enumerate(items[:most]):
        yield {**row, "_each": item, "_index": index}
