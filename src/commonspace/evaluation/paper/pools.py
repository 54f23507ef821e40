"""Queries, items and which of them are right: what every layout comes to, and how it is scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from commonspace.content import Content, Text
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.intervals import bootstrap
from commonspace.evaluation.metrics import hit_rate, normalized_gain, reciprocal_rank
from commonspace.evaluation.ranking import Ranks, rank_scores
from commonspace.evaluation.relevance import Relevance

_MEASURES = {"R": hit_rate, "NDCG": normalized_gain, "MRR": reciprocal_rank}


@dataclass(frozen=True)
class Pool:
    """One question to a data set.

    right    rows of the items that answer each query
    units    what an interval resamples: queries about one medium stand or fall together
    groups   of queries and of items where each has a pool of its own (locales); None: one pool
    itself   each query's own row among the items, which is no answer; None where queries are no items
    absent   media that the data set names and the folder does not have, left out on both sides
    gains    of each query's right items, where judges graded them: NDCG's; None: 1 each
    """

    queries: Sequence[Content]
    items: Sequence[Content]
    right: Sequence[Sequence[int]]
    units: Sequence[str]
    groups: tuple[Sequence[str], Sequence[str]] | None = None
    itself: Sequence[int] | None = None
    absent: int = 0
    gains: Sequence[Sequence[float]] | None = None

    def digest(self) -> str:
        """32 hex digits over all that a figure is made of.

        Texts and media in memory count by their bytes, files by name, size and time of change: nothing is decoded.
        """
        state = hashlib.blake2b(digest_size=16)
        for content in (*self.queries, *self.items):
            stamps = [f"{type(part).__name__}:{_stamp(part)}" for part in content.parts]
            state.update(json.dumps(stamps).encode())
        told = [list(map(list, self.right)), self.units, self.groups, self.itself and list(self.itself), self.absent]
        state.update(json.dumps([*told, self.gains and list(map(list, self.gains))]).encode())
        return state.hexdigest()


@dataclass(frozen=True)
class Captioned:
    """Media of one kind ("image", "video") with the texts of each."""

    kind: str
    media: Sequence[Content]
    texts: Sequence[Sequence[str]]
    absent: int = 0

    def asked(self, direction: str) -> Pool:
        """The pool of "KIND->text", where every distinct text is an item, or of "text->KIND", where every text asks.

        A text is right for every medium that has it, and such a medium for it: no model can tell equal texts apart.
        """
        owners: dict[str, list[int]] = {}
        for row, texts in enumerate(self.texts):
            for text in dict.fromkeys(texts):
                owners.setdefault(text, []).append(row)
        if direction == f"text->{self.kind}":
            asked = [(text, str(row)) for row, texts in enumerate(self.texts) for text in texts]
            right, units = [owners[text] for text, _ in asked], [unit for _, unit in asked]
            return Pool([Content(text) for text, _ in asked], self.media, right, units, absent=self.absent)
        if direction != f"{self.kind}->text":
            raise ConfigError(f"direction: {direction!r} is neither {self.kind}->text nor text->{self.kind}")
        item = {text: place for place, text in enumerate(owners)}
        right = [[item[text] for text in dict.fromkeys(texts)] for texts in self.texts]
        units = [str(row) for row in range(len(right))]
        return Pool(self.media, [Content(text) for text in owners], right, units, absent=self.absent)


@dataclass(frozen=True)
class Figure:
    """A measured figure: its value, 95% interval, number of queries, and mean pool a query is ranked in."""

    value: float
    ci95: tuple[float, float]
    queries: int
    pool: float
    absent: int


def check_metric(metric: str) -> None:
    """ConfigError for a metric that is not R@K, NDCG@K or MRR@K."""
    name, _, k = metric.partition("@")
    if name not in _MEASURES or not k.isdigit() or int(k) < 1:
        raise ConfigError(f"metric: {metric!r} is none of R@K, NDCG@K, MRR@K with a whole K")


def score(pool: Pool, query_QE: torch.Tensor, item_GE: torch.Tensor, metric: str, draws: int) -> Figure:
    """Rank every query of a pool by cosine; where there are groups the value is the mean over groups.

    Raises DataError for a query that has no right item left.
    """
    check_metric(metric)
    ranks, groups = _ranks(pool, query_QE, item_GE)
    name, _, k = metric.partition("@")
    if name == "NDCG" and pool.gains is not None:
        values_Q = normalized_gain(ranks, int(k), _gains(pool, query_QE, item_GE))
    else:
        values_Q = _MEASURES[name](ranks, int(k))
    names, rows, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    weights_Q = len(values_Q) / (len(names) * counts[rows])  # every group counts alike
    low, high = bootstrap((values_Q * weights_Q)[None, :, None], pool.units, draws)[0]
    sizes = dict(zip(*np.unique(_item_groups(pool), return_counts=True), strict=True))
    size = float(np.mean([sizes[group] for group in groups])) - (pool.itself is not None)
    return Figure(float((values_Q * weights_Q).mean()), (float(low), float(high)), len(values_Q), size, pool.absent)


def _gains(pool: Pool, query_QE: torch.Tensor, item_GE: torch.Tensor) -> np.ndarray:
    """Gains of every query's right items, best ranked first, of equal scores the lowest first, float64 [pairs]."""
    assert pool.gains is not None
    found: list[float] = []
    for query_E, some, gains in zip(query_QE.double(), pool.right, pool.gains, strict=True):
        scores = torch.round(item_GE[list(some)].double() @ query_E, decimals=7)
        found += [gain for _, gain in sorted(zip((-scores).tolist(), gains, strict=True))]
    return np.array(found, dtype=np.float64)


def _item_groups(pool: Pool) -> Sequence[str]:
    return pool.groups[1] if pool.groups else [""] * len(pool.items)


def _ranks(pool: Pool, query_QE: torch.Tensor, item_GE: torch.Tensor) -> tuple[Ranks, Sequence[str]]:
    if (lonely := next((row for row, some in enumerate(pool.right) if not some), None)) is not None:
        raise DataError(f"query {lonely} has no right item in its pool; the data set and its folder do not fit")
    starts = np.concatenate([[0], np.cumsum([len(some) for some in pool.right])]).astype(np.int64)
    relevance = Relevance(starts, np.array([item for some in pool.right for item in sorted(some)], dtype=np.int64))
    groups = pool.groups[0] if pool.groups else [""] * len(pool.queries)
    queries, items_EG = query_QE.double(), item_GE.double().T

    def scores(rows: np.ndarray, items: np.ndarray) -> torch.Tensor:
        block_QG = torch.round(queries[rows] @ items_EG[:, items], decimals=7)
        if pool.itself is not None:
            own = np.searchsorted(items, np.asarray(pool.itself)[rows])
            block_QG[np.arange(len(rows)), own] = -torch.inf
        return block_QG

    return rank_scores(scores, relevance, groups, _item_groups(pool)), groups


def _stamp(part: Any) -> str:
    if isinstance(part, Text):
        return part.text
    if not isinstance(part.source, (str, Path)):
        return hashlib.blake2b(part.read_bytes(), digest_size=16).hexdigest()
    try:
        found = Path(part.source).stat()
    except OSError as error:
        raise DataError(f"{part.label}: cannot be read ({error.strerror}); fetch it again") from error
    return f"{Path(part.source).name}:{found.st_size}:{found.st_mtime_ns}"


def present(root: Path, name: str, absent: str) -> Path | None:
    """The file of a medium; where it is not there DataError, or with absent="skip" None."""
    path = root / name
    if path.is_file():
        return path
    if absent == "skip":
        return None
    raise DataError(
        f"{path}: the data set names it and it is not there; fetch it, or leave such media out: absent=skip"
    )


def read_json(path: Path) -> Any:
    """A JSON file of a data set; DataError names what is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); docs/paper_tables.md has the layout") from error
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error}); fetch it again") from error
