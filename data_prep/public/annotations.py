"""Reader of annotations beside a folder of media: a JSON, JSON lines or CSV that names the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from commonspace.errors import DataError
from data_prep.public.contents import LeftOut, inside
from data_prep.public.fields import fill, one
from data_prep.public.media import look_at
from data_prep.public.reader import Found, Part, Reader, Sides, exploded
from data_prep.public.spec import PublicSet, options
from data_prep.public.tables import read_table

_ROWS = 10_000  # of a part


@dataclass(frozen=True)
class AnnotationOptions(Sides):
    """Sides over the rows of annotation files.

    files     {pattern: published split, or null where rows say it}
    rows      path to the rows inside a JSON file
    columns   of a CSV without a header
    encoding  of the files
    join      [{file, rows, by, as}]: rows of another table (of the same file where none is named) with the same value
              in the field `by`, as a list in the field `as`
    group     template: rows in which it reads the same become one, in whose field `_rows` they are a list
    each      path of a list: a record for each item, `_each`
    """

    files: Mapping[str, str | None] = field(default_factory=dict)
    rows: str = ""
    columns: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    join: tuple[Mapping[str, str], ...] = ()
    group: str | None = None
    each: str | None = None


class AnnotationReader(Reader):
    """Files of annotations and the media they name, all below one folder."""

    def __init__(self, spec: PublicSet, folder: Path) -> None:
        super().__init__(spec, folder)
        self.options: AnnotationOptions = options(AnnotationOptions, spec.read, f"{spec.name}: read")

    def parts(self) -> list[Part]:
        found = []
        for path, published in self.matches(self.options.files):
            count = len(self._rows(path))
            name = path.relative_to(self.folder).as_posix()
            files = (path, *self._joined(path))
            for start in range(0, count, _ROWS):
                stop = min(start + _ROWS, count)
                media = look_at(self.folder, self._media(path, start, stop, published))
                found.append(Part(f"{name} from row {start}", files, published, start, stop, media=media))
        return found

    def records(self, part: Part, drops: Counter) -> Iterator[Found]:
        path, open_media = part.files[0], inside(self.folder)
        for number, item in self._items(path, part.start, part.stop):
            with self._placed(path, number):
                try:
                    yield self.options.record(self.spec, item, open_media, part.published)
                except LeftOut as why:
                    drops[str(why)] += 1

    def _media(self, path: Path, start: int, stop: int, published: str | None) -> Iterator[list[str]]:
        """The names that each medium of some rows may have."""
        for number, item in self._items(path, start, stop):
            with self._placed(path, number):
                found = self.options.media(self.spec, item, published)
            yield from found

    def _items(self, path: Path, start: int, stop: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Some rows with their numbers, one for each item of them where `each` says so."""
        for number, row in enumerate(self._rows(path)[start:stop], start=start):
            with self._placed(path, number):
                items = list(exploded(row, self.options.each, None)) if self.options.each else [row]
            yield from ((number, item) for item in items)

    @contextmanager
    def _placed(self, path: Path, number: int) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            raise DataError(f"{path}: row {number}: {error}; is it as {self.spec.title} is published?") from error

    def _joined(self, path: Path) -> list[Path]:
        return [path.with_name(join["file"]) for join in self.options.join if "file" in join]

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        chosen = self.options
        joins = tuple(tuple(sorted(join.items())) for join in chosen.join)
        columns = tuple(chosen.columns) if chosen.columns else None
        there = [one.stat() for one in (path, *self._joined(path)) if one.is_file()]
        state = tuple((about.st_size, about.st_mtime_ns) for about in there)
        return _load(path, state, chosen.rows, columns, chosen.encoding, joins, chosen.group)


@lru_cache(maxsize=1)
def _load(
    path: Path,
    state: tuple[tuple[int, int], ...],
    rows: str,
    columns: Sequence[str] | None,
    encoding: str,
    joins: tuple[tuple[tuple[str, str], ...], ...],
    group: str | None,
) -> list[dict[str, Any]]:
    """All rows of a file: one process reads it once, however many parts it takes of it, unless its `state` changes."""
    found = list(read_table(path, rows, columns, encoding))
    for join in map(dict, joins):
        _join(found, path, join, encoding)
    if group:
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in found:
            groups.setdefault(fill(group, row), []).append(row)
        found = [{**members[0], "_rows": members} for members in groups.values()]
    return found


def _join(rows: list[dict[str, Any]], path: Path, join: Mapping[str, str], encoding: str) -> None:
    other = path.with_name(join["file"]) if "file" in join else path
    table: dict[Any, list[dict[str, Any]]] = {}
    for row in read_table(other, join.get("rows", ""), None, encoding):
        table.setdefault(_value(row, join["by"], other), []).append(row)
    for row in rows:
        row[join["as"]] = table.get(_value(row, join["by"], path), [])


def _value(row: Mapping[str, Any], field: str, path: Path) -> Any:
    try:
        return one(row, field)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
