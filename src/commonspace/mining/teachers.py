"""Who judges candidates beside the model that ranked them: vectors, scores from a file, models that read pairs.

A teacher scores pairs of records, the side that asks of one with the side that answers of the other; NaN says that it
has no opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from commonspace.content import Content
from commonspace.data.shards import ShardReader
from commonspace.data.teacher import TeacherTables
from commonspace.errors import ContentError, DataError
from commonspace.files import sha256_of
from commonspace.mining.vectors import Side, Vectors, side_of

if TYPE_CHECKING:
    from commonspace.mining.options import TeacherOptions

_PAIRS = 16_384  # whose vectors are held at once
_RECORDS = 4096  # whose contents are held at once


class Teacher(Protocol):
    """`name` as reports have it; equal `fingerprint`s, equal scores."""

    name: str
    fingerprint: str

    def scores(self, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
        """Of each pair (row that asks, row that answers), float32 [P]."""
        ...


def cosines(query: Vectors, target: Vectors, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
    """Inner products of rows of one side with rows of another, float32 [P], a block of pairs at a time."""
    out_P = np.empty(len(rows_P), dtype=np.float32)
    for start in range(0, len(rows_P), _PAIRS):
        some = slice(start, start + _PAIRS)
        asked, place = np.unique(rows_P[some], return_inverse=True)  # pairs of a query lie together
        out_P[some] = np.einsum("pe,pe->p", query.rows(asked)[place], target.rows(others_P[some]))
    return out_P


class VectorTeacher:
    """Another model of ours: cosines of its vectors; none for what it could not embed."""

    def __init__(self, name: str, query: Vectors, target: Vectors) -> None:
        self.name, self.query, self.target = name, query, target
        self.fingerprint = f"{query.folder.name} {target.folder.name}"

    def scores(self, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
        """Cosines float32 [P]."""
        known_P = self.query.fact("usable")[rows_P] & self.target.fact("usable")[others_P]
        return np.where(known_P, cosines(self.query, self.target, rows_P, others_P), np.nan).astype(np.float32)


class TableTeacher:
    """Tables of vectors by content, as alignment's teachers are: late fusion of frozen encoders writes such."""

    def __init__(self, name: str, folder: Path, task: str, query_ids: np.ndarray, target_ids: np.ndarray) -> None:
        self.name, self.task, self._tables = name, task, TeacherTables(folder)
        if task not in self._tables.tasks:
            raise DataError(f"{folder}: knows the tasks {', '.join(self._tables.tasks)} and not {task}; mine those")
        self.fingerprint = sha256_of(folder / f"{task}.safetensors")
        self._ids = torch.from_numpy(query_ids), torch.from_numpy(target_ids)

    def scores(self, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
        """Inner products float32 [P]; DataError for a content that the table does not know."""
        sides = [
            self._tables.vectors(self.task, ids[torch.from_numpy(rows)], [f"row {row}" for row in rows])
            for ids, rows in zip(self._ids, (rows_P, others_P), strict=True)
        ]
        return (sides[0] * sides[1]).sum(1).numpy()


class FileTeacher:
    """Scores made elsewhere: a parquet or CSV file with the columns query, target (keys of records) and score.

    The pair (a, b) is the side of record a that asks against the side of record b that answers. Pairs that the file
    lacks have no score. Raises DataError for other columns, keys of no record, a pair named twice, and scores that are
    not finite.
    """

    def __init__(self, name: str, path: Path, reader: ShardReader) -> None:
        self.name, self.path, self._records = name, path, len(reader)
        self.fingerprint = sha256_of(path) if path.is_file() else ""
        table = _read_scores(path)
        keys = reader.index.column("key")
        rows = [
            pa.compute.index_in(table[side].cast(pa.string()), value_set=keys.combine_chunks())
            for side in ("query", "target")
        ]
        for side, found in zip(("query", "target"), rows, strict=True):
            if found.null_count:
                unknown = table[side].filter(found.is_null())[0].as_py()
                raise DataError(f"{path}: {side} {unknown!r} is the key of no record of {reader!r}; score these shards")
        pairs = self._pair(*(found.to_numpy().astype(np.int64) for found in rows))
        order = np.argsort(pairs, kind="stable")
        self._pairs, self._scores = pairs[order], table["score"].to_numpy().astype(np.float32)[order]
        if (twice := np.flatnonzero(np.diff(self._pairs) == 0)).size:
            query, target = divmod(int(self._pairs[twice[0]]), self._records)
            named = f"{keys[query].as_py()!r}, {keys[target].as_py()!r}"
            raise DataError(f"{path}: the pair {named} is named twice; leave one score each")
        if not np.isfinite(self._scores).all():
            raise DataError(f"{path}: holds scores that are not finite; leave those pairs out")

    def _pair(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        return rows * self._records + others

    def scores(self, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
        """float32 [P], NaN for pairs that the file lacks."""
        wanted = self._pair(rows_P, others_P)
        places = np.searchsorted(self._pairs, wanted).clip(max=max(0, len(self._pairs) - 1))
        known = self._pairs[places] == wanted if len(self._pairs) else np.zeros(len(wanted), dtype=bool)
        return np.where(known, self._scores[places] if len(self._scores) else np.nan, np.nan).astype(np.float32)


def _read_scores(path: Path) -> pa.Table:
    try:
        if path.suffix == ".csv":
            table = pyarrow.csv.read_csv(path)
        else:
            table = pq.ParquetFile(path).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as scores ({error}); give a whole .parquet or .csv file") from error
    if not {"query", "target", "score"} <= set(table.schema.names):
        raise DataError(f"{path}: has the columns {', '.join(table.schema.names)}; it needs query, target and score")
    try:
        return table.set_column(table.schema.names.index("score"), "score", table["score"].cast(pa.float32()))
    except pa.ArrowException as error:
        raise DataError(f"{path}: its scores are no numbers ({error})") from error


Judge = Callable[[Sequence[tuple[Content, Content]]], Sequence[float]]


class PairTeacher:
    """A model that reads both contents at once; `judge` scores pairs, loaded when first asked, `window` at a time.

    Pairs that it cannot read, as a sound by a model of texts, have no score.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        load: Callable[[], Judge],
        reader: ShardReader,
        sides: tuple[Side, Side],
        window: int = 64,
    ) -> None:
        self.name, self.fingerprint, self._load, self._reader, self._sides = name, fingerprint, load, reader, sides
        self._window = window
        self._judge: Judge | None = None
        self._contents: dict[tuple[Side, int], Content] = {}

    def scores(self, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
        """float32 [P]."""
        if self._judge is None:
            self._judge = self._load()
        out_P = np.empty(len(rows_P), dtype=np.float32)
        for start in range(0, len(rows_P), self._window):
            some = slice(start, start + self._window)
            out_P[some] = self._judged(rows_P[some], others_P[some])
        return out_P

    def _judged(self, rows_P: np.ndarray, others_P: np.ndarray) -> list[float]:
        assert self._judge is not None
        asks, answers = self._sides
        pairs = [
            (self._content(asks, int(row)), self._content(answers, int(other)))
            for row, other in zip(rows_P, others_P, strict=True)
        ]
        try:
            return list(self._judge(pairs))
        except ContentError:  # some pair cannot be read: each for itself
            return [self._alone(pair) for pair in pairs]

    def _alone(self, pair: tuple[Content, Content]) -> float:
        assert self._judge is not None
        try:
            return float(self._judge([pair])[0])
        except ContentError:
            return float("nan")

    def _content(self, side: Side, row: int) -> Content:
        if (side, row) not in self._contents:
            if len(self._contents) >= _RECORDS:
                self._contents.clear()
            self._contents[side, row] = side_of(self._reader.read(row), side)
        return self._contents[side, row]


def pair_teacher(options: TeacherOptions, reader: ShardReader, sides: tuple[Side, Side], device: str) -> PairTeacher:
    """A cross-encoder, a generative model or a transcriber of a folder."""
    from commonspace.mining.pair_models import WINDOW, CrossEncoder, Generative, weights_hash
    from commonspace.mining.transcriber import Transcriber

    kind = {"cross_encoder": CrossEncoder, "generative": Generative, "transcriber": Transcriber}[options.kind]
    given = {key: value for key, value in options.given.items() if key != "model"}
    folder = Path(options.given["model"])
    decides = {key: value for key, value in given.items() if key != "batch"}
    return PairTeacher(
        options.name,
        f"{options.kind} {weights_hash(folder)} {sorted(decides.items())}",
        lambda: kind(folder, device=device, **given),
        reader,
        sides,
        WINDOW * given["batch"],
    )
