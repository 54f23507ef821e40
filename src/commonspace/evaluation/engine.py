"""Evaluate anything that embeds: each distinct content once, every task of a suite, every Matryoshka size.

A model is an object with `embed(contents, *, task, role, progress) -> float [N, E]`. Nothing is skipped: a content
that cannot be read ends the evaluation with its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress

from commonspace.content import Content
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.intervals import DRAWS
from commonspace.evaluation.metrics import per_query
from commonspace.evaluation.quantised import check_forms, precision_of, rank_quantised
from commonspace.evaluation.ranking import Ranks, rank_relevant, truncate
from commonspace.evaluation.results import Row, Scored, current_commit, write_ranks, write_rows
from commonspace.evaluation.specs import BY_LANGUAGE
from commonspace.evaluation.suite import EvalTask, Suite
from commonspace.evaluation.summary import summarise

NearDuplicates = Mapping[int, str]  # content digest -> why it is one, as `near_duplicates.mark` gives


# Which contents of text alone take their task's prefix: none, queries (as the paper trains), or documents too.
PREFIX_POLICIES = ("none", "query", "task")


class Embeds(Protocol):
    """What evaluation asks of a model."""

    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        """Vectors [N, E] of the contents, in their order."""
        ...


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: its rows, and its ranks per query (one line per task, query and size)."""

    rows: list[Row]
    ranks: pd.DataFrame


def evaluate(
    model: Embeds,
    suite: Suite,
    scored: Scored,
    *,
    dims: Sequence[int] | None = None,
    near_duplicates: NearDuplicates | None = None,
    draws: int = DRAWS,
    quantised: Sequence[str] = (),
    rescored: int = 40,
    progress: bool = False,
) -> Evaluated:
    """Rank every query of the suite.

    dims             Matryoshka sizes; the widest is the one of headlines. None: the full width only
    near_duplicates  {content digest: why} as `near_duplicates.mark` gives; None leaves the subset
                     `no_near_duplicates` out of the rows
    draws            resamples behind each interval
    quantised        smaller forms of the vectors (`quantised.FORMS`), whose rows follow those of float32; their ranks
                     are not kept, for two models are compared by their own
    rescored         candidates that signs choose, where the form rescores them
    Deterministic given the model.
    """
    if scored.prefix_policy not in PREFIX_POLICIES:
        raise ConfigError(f"prefix_policy={scored.prefix_policy!r}: choose one of {', '.join(PREFIX_POLICIES)}")
    check_forms(quantised)
    if scored.commit is None:
        scored = replace(scored, commit=current_commit())
    if not suite.tasks:
        raise DataError(f"suite {suite.name}: no task to evaluate")
    vectors = _Vectors(model, suite, scored.prefix_policy, progress)
    frames: dict[str, list[pd.DataFrame]] = {scored.precision: []}
    with Progress(disable=not progress) as bar:
        step = bar.add_task("ranking", total=len(suite.tasks))
        for task in suite.tasks:
            query_QE, item_GE = vectors.of(task, "query"), vectors.of(task, "document")
            # Languages and actions are read at full size; sizes are compared on the tasks themselves.
            for dim in _sizes(dims, query_QE.shape[1])[: 1 if task.grouped else None]:
                sides = truncate(query_QE, dim), truncate(item_GE, dim), task.relevance
                ranked = {scored.precision: rank_relevant(*sides, *_groups(task))}
                for form in quantised if len(item_GE) > 1 else ():  # one item has no range
                    ranked[precision_of(form, rescored)] = rank_quantised(*sides, form, rescored, *_groups(task))
                for precision, ranks in ranked.items():
                    table = ranks_table(task, ranks, scored, dim, near_duplicates)
                    frames.setdefault(precision, []).append(table)
            bar.advance(step)
    tables = {precision: pd.concat(parts, ignore_index=True) for precision, parts in frames.items()}
    rows = [
        row
        for precision, table in tables.items()
        for row in summarise(table, replace(scored, precision=precision), draws)
    ]
    return Evaluated(rows, tables[scored.precision])


def _sizes(dims: Sequence[int] | None, width: int) -> list[int]:
    """Sizes from the widest down; a size beyond the embedding is refused by `truncate`."""
    return sorted(set(dims or (width,)), reverse=True)


def _groups(task: EvalTask) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    return (task.query_groups, task.gallery_groups) if task.grouped else (None, None)


class _Vectors:
    """Embeddings of all contents of a suite, each distinct one computed once per prefix it takes."""

    def __init__(self, model: Embeds, suite: Suite, prefix_policy: str, progress: bool) -> None:
        self.policy = prefix_policy
        wanted: dict[tuple[str | None, str | None], dict[int, Content]] = {}
        for task in suite.tasks:
            for role, digests, contents in _sides(task):
                for digest, content in zip(digests, contents, strict=True):
                    wanted.setdefault(self._prefix(task, role, content), {})[int(digest)] = content
        self.vectors: dict[tuple[str | None, str | None, int], torch.Tensor] = {}
        for (name, role), contents in sorted(wanted.items(), key=lambda item: str(item[0])):
            vectors = model.embed(list(contents.values()), task=name, role=role, progress=progress)
            if len(vectors) != len(contents):
                raise DataError(f"the model gave {len(vectors)} vectors for {len(contents)} contents")
            for digest, vector in zip(contents, torch.as_tensor(vectors), strict=True):
                self.vectors[name, role, digest] = vector

    def _prefix(self, task: EvalTask, role: str, content: Content) -> tuple[str | None, str | None]:
        roles = {"none": (), "query": ("query",), "task": ("query", "document")}[self.policy]
        return (task.prompt, role) if role in roles and task.prompt and content.is_text else (None, None)

    def of(self, task: EvalTask, role: str) -> torch.Tensor:
        """Vectors [N, E] of one side of a task, role query or document."""
        _, digests, contents = next(side for side in _sides(task) if side[0] == role)
        return torch.stack(
            [
                self.vectors[*self._prefix(task, role, content), int(digest)]
                for digest, content in zip(digests, contents, strict=True)
            ]
        )


def _sides(task: EvalTask) -> tuple[tuple[str, np.ndarray, tuple[Content, ...]], ...]:
    return (("query", task.query_digests, task.queries), ("document", task.gallery_digests, task.gallery))


def ranks_table(
    task: EvalTask, ranks: Ranks, scored: Scored, dim: int | None, near_duplicates: NearDuplicates | None = None
) -> pd.DataFrame:
    """One line per query: what `task_table` says, the rank of its best correct item, every metric's value."""
    return task_table(task, scored, dim, near_duplicates).assign(rank=ranks.first, **per_query(ranks))


def task_table(
    task: EvalTask, scored: Scored, dim: int | None, near_duplicates: NearDuplicates | None = None
) -> pd.DataFrame:
    """One line per query: where it comes from, its pool, and why it is a near-duplicate ("" where it is none)."""
    columns: dict[str, Any] = {
        "task": task.name,
        "suite": task.suite,
        "split": task.split,
        "direction": task.direction,
        "grouped": task.grouped,
        "query": task.keys,
        "digest": task.query_digests,
        "concept": task.concepts,
        "unit": task.units,
        "language": task.languages,
        "source": task.sources,
        "pool": task.pools,
        "correct": task.relevance.counts,
        "dim": dim,
        "seed": scored.seed,
    }
    table = pd.DataFrame(columns)
    table["dim"], table["seed"] = table["dim"].astype("Int64"), table["seed"].astype("Int64")
    if near_duplicates is None:
        table["near_duplicate"] = pd.Series([None] * len(table), dtype="string")
    else:
        pairs = zip(task.query_digests, task.targets, strict=True)
        reasons = [near_duplicates.get(int(a)) or near_duplicates.get(int(b)) or "" for a, b in pairs]
        table["near_duplicate"] = pd.Series(reasons, dtype="string")
    return table


def over_seeds(parts: Sequence[Evaluated], draws: int = DRAWS) -> list[Row]:
    """Rows with seed None that stand for several evaluations of the same tasks, one a seed; none where there is one."""
    if len(parts) < 2:
        return []
    first = parts[0].rows[0]
    scored = Scored(**{field.name: getattr(first, field.name) for field in fields(Scored)} | {"seed": None})
    return summarise(parts[0].ranks, scored, draws, others=[part.ranks for part in parts[1:]])


def _is_part(row: Row) -> bool:
    """Whether a row is of one language among several of its task."""
    return row.language != "all" and row.task in BY_LANGUAGE


def save(folder: Path, parts: Sequence[Evaluated], pooled: Sequence[Row] = ()) -> Path:
    """Write the rows and ranks of one model, those of all its seeds, and `pooled` rows over them. Returns the path."""
    own = [row for part in parts for row in part.rows]
    if pooled:  # of single seeds the figures over a whole task are enough
        own = [row for row in own if row.source == "all" and row.metric in ("R@1", "MRR@10") and not _is_part(row)]
    rows = [*pooled, *own]
    names = {row.model for row in rows}
    if len(names) != 1:
        raise DataError(f"one file holds one model, not {sorted(names)}")
    name = names.pop()
    write_ranks(folder, name, pd.concat([part.ranks for part in parts], ignore_index=True))
    return write_rows(folder, name, rows)
