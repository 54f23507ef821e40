"""Reader of tars as img2dataset writes them (and video2dataset, and most webdatasets): members of one stem are a row.

Nothing is unpacked: members are read in order, their names only tell which belong together. img2dataset leaves
`00000_stats.json` beside each tar it has finished; where some tars have one, a tar without is half-downloaded.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commonspace.errors import DataError
from data_prep.public.contents import NOT_UTF8, LeftOut
from data_prep.public.reader import Found, Part, Reader, Sides
from data_prep.public.spec import PublicSet, options

_MOST_BYTES = 500_000_000  # of one row, whose members are held together
_TEXTS = ("txt", "json", "cls")


@dataclass(frozen=True)
class TarOptions(Sides):
    """Sides whose fields are the members by their endings: `txt`, `json.caption`, `jpg`; and `key`, their stem.

    tars  {pattern: published split}
    any   {name: endings}: a field of that name is the first of those members that a row has
    """

    tars: Mapping[str, str | None] = field(default_factory=dict)
    any: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class TarReader(Reader):
    """img2dataset's output folder."""

    def __init__(self, spec: PublicSet, folder: Path) -> None:
        super().__init__(spec, folder)
        self.options: TarOptions = options(TarOptions, {"key": "{key}", **spec.read}, f"{spec.name}: read")

    def parts(self) -> list[Part]:
        found = self.matches(self.options.tars)
        finished = {path for path, _ in found if _stats(path).is_file()}
        for path, _ in found:
            if finished and path not in finished:
                raise DataError(f"{path}: has no {_stats(path).name} as others have, so it was not downloaded whole")
        return [Part(path.relative_to(self.folder).as_posix(), (path,), published) for path, published in found]

    def records(self, part: Part, drops: Counter) -> Iterator[Found]:
        (path,) = part.files
        count = 0
        for stem, members in _rows(path):
            count += 1
            try:
                row = self._row(stem, members)
                yield self.options.record(self.spec, row, _no_files, part.published)
            except LeftOut as why:
                drops[str(why)] += 1
            except DataError as error:
                raise DataError(f"{path}: {stem}: {error}") from error
        _check_count(path, count)

    def _row(self, stem: str, members: Mapping[str, bytes]) -> dict[str, Any]:
        row: dict[str, Any] = {"key": stem, **members}
        for ending in _TEXTS:
            if ending in members:
                row[ending] = _decoded(members[ending], ending)
        for name, endings in (self.options.any or {}).items():
            row[name] = next((members[ending] for ending in endings if ending in members), None)
        return row


def _no_files(name: str) -> bytes:
    raise FileNotFoundError(name)


def _decoded(data: bytes, ending: str) -> Any:
    try:
        text = data.decode("utf-8")
        return json.loads(text) if ending == "json" else text
    except UnicodeDecodeError as error:
        raise LeftOut(NOT_UTF8) from error
    except (ValueError, RecursionError) as error:
        raise LeftOut("JSON is broken") from error


class _Member(tarfile.TarInfo):
    """A member of an archive that ends by its mark, a block of zeros, as all that write such tars leave it.

    `tarfile` takes a file that is cut between members or inside a header for one that has ended.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, where a member or the end mark belongs") from error


def _rows(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Stems of the members and {ending: bytes} of each."""
    stem, members, seen, size = None, {}, set(), 0
    try:
        with tarfile.open(path, "r|*", tarinfo=_Member) as tar:
            for member in tar:
                if member.isdir():
                    continue
                _check(path, member)
                name, _, ending = member.name.partition(".") if "/" not in member.name else _split_name(member.name)
                if name != stem:
                    if stem is not None:
                        yield stem, members
                    if name in seen:
                        raise DataError(f"{path}: {name} comes twice; its tar was not written by img2dataset")
                    stem, members, size = name, {}, 0
                    seen.add(name)
                size += member.size
                if size > _MOST_BYTES:
                    raise DataError(
                        f"{path}: {name[:200]}: its members have {size} bytes up to {member.name[:200]!r}, at most "
                        f"{_MOST_BYTES} of a row are read; do not use this archive, or take the row out of it"
                    )
                content = tar.extractfile(member)
                members[ending.lower()] = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: ends early or is broken ({error}) after {len(seen)} rows; download it again"
        ) from error
    if stem is not None:
        yield stem, members


def _split_name(name: str) -> tuple[str, str, str]:
    folder, _, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    return f"{folder}/{stem}", dot, ending


def _check(path: Path, member: tarfile.TarInfo) -> None:
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or "\\" in member.name:
        raise DataError(f"{path}: member {member.name[:200]!r} would lie outside its folder; do not use this archive")
    if not member.isfile():
        raise DataError(f"{path}: member {member.name[:200]!r} is a link or a device; do not use this archive")


def _stats(path: Path) -> Path:
    return path.with_name(f"{path.stem}_stats.json")


def _check_count(path: Path, count: int) -> None:
    if not _stats(path).is_file():
        return
    try:
        written = json.loads(_stats(path).read_text(encoding="utf-8")).get("successes")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{_stats(path)}: cannot be read ({error}); download the tar again") from error
    if isinstance(written, int) and written != count:
        raise DataError(f"{path}: holds {count} rows where img2dataset wrote {written}; download it again")
