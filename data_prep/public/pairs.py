"""Reader of pairs as they lie: sentence-transformers' columns in parquet, Tevatron's JSON lines, BEIR's tables."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commonspace.errors import DataError
from data_prep.public.contents import LeftOut
from data_prep.public.reader import Found, Judged, Part, Reader, Sides, exploded
from data_prep.public.spec import PublicSet, options
from data_prep.public.tables import read_table


@dataclass(frozen=True)
class ColumnOptions(Sides):
    """Sides over the columns of files that hold whole pairs; `_row` is a row's number in its file.

    files  {pattern: published split, or null where rows say it}
    each   path of a list: a record for each item, `_each`, at most `each_most`
    """

    files: Mapping[str, str | None] = field(default_factory=dict)
    encoding: str = "utf-8"
    each: str | None = None
    each_most: int | None = None


@dataclass(frozen=True)
class BeirOptions(Sides):
    """Sides over judged pairs: `query` and `document` are rows of two tables, `_negatives` documents judged irrelevant.

    corpus, queries, qrels   patterns; a group named in `qrels`' pattern as {name} is put for it in the others
    qrels           {pattern: published split, or null where a row says it, as by `_name` of a {name}}
    query_id, document_id    columns of the tables' own ids
    columns         of `qrels` and `queries` where they have no first line that says them
    judged          names in `qrels` of query, document and score
    """

    corpus: str = ""
    queries: str = ""
    qrels: Mapping[str, str | None] = field(default_factory=dict)
    query_id: str = "_id"
    document_id: str = "_id"
    qrels_columns: tuple[str, ...] | None = None
    query_columns: tuple[str, ...] | None = None
    judged: tuple[str, str, str] = ("query-id", "corpus-id", "score")


class PairReader(Reader):
    """Whole pairs in columns, or, where the options name `qrels`, BEIR's tables."""

    def __init__(self, spec: PublicSet, folder: Path) -> None:
        super().__init__(spec, folder)
        self.beir = "qrels" in spec.read
        where = f"{spec.name}: read"
        self.options = options(BeirOptions if self.beir else ColumnOptions, spec.read, where)

    def parts(self) -> list[Part]:
        if self.beir:
            return self._judged_parts()
        found = self.matches(self.options.files)
        return [Part(path.relative_to(self.folder).as_posix(), (path,), published) for path, published in found]

    def records(self, part: Part, drops: Counter) -> Iterator[Found]:
        rows = self._judged(part, drops) if self.beir else self._columns(part)
        for number, row in rows:
            try:
                yield self.options.record(self.spec, row, _no_files, part.published)
            except LeftOut as why:
                drops[str(why)] += 1
            except DataError as error:
                where = f"{part.files[0]}: row {number}"
                raise DataError(f"{where}: {error}; is it as {self.spec.title} is published?") from error

    def _columns(self, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
        (path,) = part.files
        for number, row in enumerate(read_table(path, encoding=self.options.encoding)):
            row["_row"], row["_file"] = number, path.name.partition(".")[0]
            try:
                each = self.options.each
                items = list(exploded(row, each, self.options.each_most)) if each else [row]
            except DataError as error:
                raise DataError(f"{path}: row {number}: {error}; is it as published?") from error
            yield from ((number, item) for item in items)

    def _judged_parts(self) -> list[Part]:
        """One part a file of judgements, with the tables of its group beside it."""
        found = []
        for pattern, published in self.options.qrels.items():
            expression = _expression(pattern)
            for path, _ in self.matches({re.sub(r"\{\w+\}", "*", pattern): published}):
                match = expression.fullmatch(path.relative_to(self.folder).as_posix())
                names = match.groupdict() if match else {}
                tables = [self._tables(which, names) for which in (self.options.queries, self.options.corpus)]
                name = path.relative_to(self.folder).as_posix()
                files = (path, *tables[0], *tables[1])
                found.append(Part(name, files, published, len(tables[0]), names=tuple(names.items())))
        return found

    def _tables(self, pattern: str, names: Mapping[str, str]) -> list[Path]:
        return [path for path, _ in self.matches({_named(pattern, names): None})]

    def _judged(self, part: Part, drops: Counter) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of judgements; of the corpus only what they name is held, so it may be larger than memory."""
        path, queries, corpus = part.files[0], part.files[1 : 1 + part.start], part.files[1 + part.start :]
        judged = self._judgements(path)
        wanted = {document for documents in judged.values() for document, _ in documents}
        asked = _chosen(queries, self.options.query_id, set(judged), self.options.query_columns)
        documents = _chosen(corpus, self.options.document_id, wanted, None)
        self.judged = self._found(part, judged, asked, documents)
        number, names = 0, {f"_{name}": value for name, value in part.names}
        for query, found in judged.items():
            wrong = [documents[name] for name, score in found if score <= 0 and name in documents]
            for name, score in found:
                number += 1
                if score <= 0:
                    continue
                if query not in asked or name not in documents:
                    drops["judged query or document is not in the tables"] += 1
                    continue
                pair = {"query": asked[query], "document": documents[name], "_query": query, "_document": name}
                yield number, {**pair, **names, "_negatives": wrong}

    def _found(
        self,
        part: Part,
        judged: Mapping[str, list[tuple[str, float]]],
        asked: Mapping[str, Any],
        documents: Mapping[str, Any],
    ) -> Judged:
        """How many pairs are judged right, and how many of them lack their query or document."""
        pairs = [(query, name) for query, found in judged.items() for name, score in found if score > 0]
        lacking = [(query, name) for query, name in pairs if query not in asked or name not in documents]
        tables = {
            self.options.queries: any(query not in asked for query, _ in lacking),
            self.options.corpus: any(name not in documents for _, name in lacking),
        }
        named = [_named(pattern, dict(part.names)) for pattern, lacks in tables.items() if lacks]
        first = " and ".join(lacking[0]) if lacking else ""
        return Judged(part.name, len(pairs), len(lacking), first, " and ".join(named))

    def _judgements(self, path: Path) -> dict[str, list[tuple[str, float]]]:
        query, document, score = self.options.judged
        found: dict[str, list[tuple[str, float]]] = {}
        for number, row in enumerate(read_table(path, columns=self.options.qrels_columns), start=1):
            try:
                found.setdefault(str(row[query]), []).append((str(row[document]), float(row[score])))
            except (KeyError, ValueError, TypeError) as error:
                raise DataError(f"{path}: row {number} is no judgement ({error!r}); is it as published?") from error
        return found


def _chosen(
    paths: tuple[Path, ...], field: str, wanted: set[str], columns: tuple[str, ...] | None
) -> dict[str, dict[str, Any]]:
    """Rows of some tables by id, of those wanted."""
    found = {}
    for path in paths:
        for row in read_table(path, columns=columns):
            if field not in row:
                raise DataError(f"{path}: has no column {field!r} but {', '.join(row)}; is it as published?")
            if str(row[field]) in wanted:
                found[str(row[field])] = row
    return found


def check_judged(spec: PublicSet, folder: Path, found: Iterable[Judged], most: float) -> None:
    """Refuse a set of which a file of judgements lacks more than a share of `most` of its pairs in the tables.

    Of each file: as that of a held-out split is the smallest, it could be lost whole among all.

    Raises:
        DataError: too many are missing.
    """
    for one in found:
        if one.missing > most * one.pairs:
            share = math.ceil(100 * one.missing / one.pairs) / 100
            raise DataError(
                f"{folder / one.file}: {one.missing} of the {one.pairs} pairs that {spec.title} judges there lack "
                f"their query or passage in {one.tables}, as {one.first}. Finish the download of these tables, or say "
                f"missing={share:g} to build without these pairs"
            )


def _named(pattern: str, names: Mapping[str, str]) -> str:
    """A pattern with what its {name}s stand for."""
    for name, value in names.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern with {name} for a group of it and * for anything."""
    escaped, seen = "", set()
    for piece in re.split(r"(\{\w+\}|\*)", pattern):
        name = piece.strip("{}")
        if piece == "*":
            escaped += "[^/]*"
        elif piece.startswith("{"):
            escaped += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            escaped += re.escape(piece)
    return re.compile(escaped)


def _no_files(name: str) -> bytes:
    raise FileNotFoundError(name)
