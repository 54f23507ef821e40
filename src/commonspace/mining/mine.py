"""Hard negatives of one task in one direction: embed, search, apply the rules, ask teachers, select, write.

Queries and targets are the canonical sides of training records, of any modality. A negative is a record's key: the
loader takes that record's other side, in the language the training sample is drawn in. Whatever takes long is made in
parts (see `parts`), so a second call goes on where the first stopped, and several share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from commonspace.data.encoding import sample_seed
from commonspace.data.negatives import list_file, write_rows
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.mining.candidates import EDGES, EXACT, Pool, Search, find_candidates, recall_of_graphs
from commonspace.mining.options import MiningOptions
from commonspace.mining.parts import job_folder, make_parts, part_paths, read_part, write_part
from commonspace.mining.rules import OF_TEACHERS, RULES
from commonspace.mining.selection import select
from commonspace.mining.teachers import Teacher
from commonspace.mining.vectors import Model, Side, embed_side

_SAMPLE = 200  # queries by which graphs are compared with an exact search
SIDES: dict[str, tuple[Side, Side]] = {"forward": ("query", "positive"), "reverse": ("positive", "query")}
MakeTeachers = Callable[[ShardReader, Pool, tuple[Side, Side]], Sequence[Teacher]]


@dataclass
class Mined:
    """What mining one task gave. U records have a list, which may be empty; M negatives in all, T teachers.

    asked       rows of the records, int64 [U], rising; counts [U] of their lists
    rows, scores, ranks  of the negatives [M], list after list, in the order they are kept
    positives   scores of each record's own positive [U]
    teachers    names; teacher_scores [T, M], teacher_positives [T, U]
    dropped     neighbours taken out, by rule
    fates       histograms of neighbours' scores by what became of them, as in `find_candidates`
    skipped     one message for each record that could not be embedded
    recall      of the graphs, where the search was approximate
    """

    task: str
    direction: str
    options: MiningOptions
    asked: np.ndarray
    counts: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    positives: np.ndarray
    teachers: tuple[str, ...]
    teacher_scores: np.ndarray
    teacher_positives: np.ndarray
    dropped: dict[str, int]
    fates: np.ndarray
    skipped: list[str] = field(default_factory=list)
    recall: float | None = None

    def list_of(self, place: int) -> slice:
        """Where the negatives of the record asked[place] lie."""
        end = int(self.counts[: place + 1].sum())
        return slice(end - int(self.counts[place]), end)


def mine(
    model: Model,
    reader: ShardReader,
    options: MiningOptions,
    work: Path,
    *,
    direction: str = "forward",
    match: str = "concept",
    prompt: str | None = None,
    search: Search = EXACT,
    teachers: MakeTeachers | None = None,
    chunk: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> Mined:
    """Hard negatives of every record of `reader`; what was made on the way stays in `work`, for this and other calls.

    direction  "reverse" asks with positives and looks among queries
    match      what counts as one concept, see `candidates.concept_codes`
    prompt     task prefix of queries of text alone
    teachers   makes those who judge candidates
    chunk      records embedded and searched at a time: what an interruption costs at most
    seed       of `selection=random`
    Raises `DataError` where the reader is not a training split (held-out items must not be mined), holds one record or
    two of one key, or a teacher has no opinion on anything.
    """
    if reader.split != "train":
        raise DataError(f"{reader!r}: negatives are mined on the train split only")
    keys = reader.index.column("key")
    if len(keys.unique()) < len(keys):
        raise DataError(f"{reader!r}: two records have the same key, so a list could not name one; build it again")
    sides = SIDES[direction]
    query, target = (
        embed_side(model, reader, side, work, prompt=prompt if place == 0 else None, chunk=chunk, progress=progress)
        for place, side in enumerate(sides)
    )
    pool = Pool.of(reader, query, target, sides, match)
    folder, paths = find_candidates(reader, pool, options, search, work, match, progress)
    judges = list(teachers(reader, pool, sides)) if teachers else []
    opinions = [_opinions(judge, reader.task, folder, paths, work, progress) for judge in judges]
    mined = _selected(reader.task, direction, options, paths, judges, opinions, seed)
    mined.skipped = list(dict.fromkeys([*query.failures, *target.failures]))
    sample = np.random.default_rng(seed).permutation(mined.asked)[:_SAMPLE]
    mined.recall = recall_of_graphs(pool, search, options.depth, sample)
    return mined


def _opinions(
    judge: Teacher, task: str, candidates: Path, paths: Sequence[Path], work: Path, progress: bool
) -> list[Path]:
    """A teacher's scores of positives and candidates, in parts as the candidates are."""
    folder = job_folder(work, "scores", candidates=candidates.name, teacher=judge.fingerprint)
    scored = part_paths(folder, len(paths))

    def make(number: int) -> None:
        part = read_part(paths[number], "asked", "counts", "rows")
        asked_M = np.repeat(part["asked"], part["counts"])
        arrays = {
            "positives": judge.scores(part["asked"], part["asked"]),
            "scores": judge.scores(asked_M, part["rows"]),
        }
        write_part(scored[number], arrays)

    make_parts(scored, make, f"{judge.name} on {task}", progress=progress)
    if all(np.isnan(read_part(path, "scores")["scores"]).all() for path in scored):
        raise DataError(f"teacher {judge.name}: has no score for any candidate of {task}; leave the task out, or it")
    return scored


def _selected(
    task: str,
    direction: str,
    options: MiningOptions,
    paths: Sequence[Path],
    judges: Sequence[Teacher],
    opinions: Sequence[Sequence[Path]],
    seed: int,
) -> Mined:
    columns: dict[str, list[np.ndarray]] = {}
    taken = dict.fromkeys(OF_TEACHERS, 0)
    fates = np.zeros((len(RULES) + 2, len(EDGES) - 1), dtype=np.int64)
    for number, path in enumerate(paths):
        part = read_part(path)
        fates += part["fates"]
        scored = [read_part(opinion[number]) for opinion in opinions]
        for name, values in _select_part(part, scored, options, seed, taken).items():
            columns.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values, axis=-1) for name, values in columns.items()}
    dropped = {rule: int(fates[number + 2].sum()) for number, rule in enumerate(RULES)} | taken
    names = tuple(judge.name for judge in judges)
    return Mined(task, direction, options, **joined, teachers=names, dropped=dropped, fates=fates)


def _select_part(
    part: dict[str, np.ndarray],
    scored: Sequence[dict[str, np.ndarray]],
    options: MiningOptions,
    seed: int,
    taken: dict[str, int],
) -> dict[str, np.ndarray]:
    teachers, queries = len(scored), len(part["asked"])
    scores_TM = np.array([one["scores"] for one in scored], dtype=np.float32).reshape(teachers, len(part["rows"]))
    positive_TQ = np.array([one["positives"] for one in scored], dtype=np.float32).reshape(teachers, queries)
    ends = np.cumsum(part["counts"])
    chosen: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    counts = np.zeros(queries, dtype=np.int64)
    for place, (end, count, row) in enumerate(zip(ends, part["counts"], part["asked"].tolist(), strict=True)):
        own = slice(end - count, end)
        arguments = scores_TM[:, own], positive_TQ[:, place], part["ranks"][own]
        places, out = select(*arguments, options, sample_seed(seed, row))
        chosen.append(own.start + places)
        counts[place] = len(places)
        for rule, number in out.items():
            taken[rule] += number
    kept = np.concatenate(chosen)
    return {
        **{name: part[name][kept] for name in ("rows", "scores", "ranks")},
        "asked": part["asked"], "positives": part["positives"], "counts": counts,
        "teacher_scores": scores_TM[:, kept], "teacher_positives": positive_TQ,
    }  # fmt: skip


def write_mined(folder: Path, reader: ShardReader, mined: Mined) -> Path:
    """`<folder>/<task>.parquet`, for the loader; of the reverse direction `<task>.reverse.parquet`."""
    path = folder / list_file(mined.task, mined.direction)
    write_rows(path, reader, mined.asked, mined.counts, mined.rows, mined.scores)
    return path
