"""Retrieval on dev, as often as training wants it: contents are processed once, only the embedding is repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from commonspace.content import Content
from commonspace.data.storage import place
from commonspace.errors import DataError
from commonspace.evaluation.geometry import shape, summary
from commonspace.evaluation.metrics import ReciprocalRank, reciprocal_rank
from commonspace.evaluation.ranking import rank_relevant, truncate
from commonspace.evaluation.shares import embed_in_shares
from commonspace.evaluation.suite import EvalTask, Suite, build_suite
from commonspace.models.embedder import Embedder
from commonspace.objectives.gather import Group
from commonspace.processing.pieces import Pieces
from commonspace.processing.processor import Processor

CUTOFF = 10
console = Console()


class DevRetrieval:
    """MRR@10 of every ungrouped task of a dev suite, both directions where the suite has them.

    `scores(embedder)` gives {"image_caption image->text": 0.41, ..., "mean": ...}; "mean" weighs tasks equally, so a
    task asked both ways counts once. It is what checkpoints and greedy soups are chosen by; held-out data never is.
    """

    def __init__(self, suite: Suite, processor: Processor) -> None:
        if suite.split == "heldout":
            raise DataError("choices are made on dev: this suite is the held-out one")
        self.tasks = [task for task in suite.tasks if not task.grouped]
        self._scored_NE: torch.Tensor | None = None
        self._geometry: dict[str, float] | None = None
        self._contents: dict[int, Content] = {}
        self._pieces: dict[tuple[str | None, str | None, int], Pieces] = {}
        for task in self.tasks:
            for role, contents, digests in _sides(task):
                for content, digest in zip(contents, digests, strict=True):
                    key = _key(task, role, content, digest)
                    self._contents[digest] = content
                    if key not in self._pieces:
                        self._pieces[key] = processor(content, task=key[0], role=key[1])
        self._rows = {key: row for row, key in enumerate(self._pieces)}

    def scores(
        self, embedder: Embedder, *, batch_tokens: int = 8192, bf16: bool = False, group: Group | None = None
    ) -> dict[str, float]:
        """MRR@10 by task and direction, and their mean over tasks; the embedder is left as it was.

        With `bf16` contents are embedded in autocast; ranking is in float32 always. The processes of a `group` embed a
        share each; all call this, and all get the scores of one process.
        """
        return self.scores_of(self.vectors(embedder, batch_tokens=batch_tokens, bf16=bf16, group=group))

    def vectors(
        self, embedder: Embedder, *, batch_tokens: int = 8192, bf16: bool = False, group: Group | None = None
    ) -> torch.Tensor:
        """Unit vectors of everything that the tasks ask and offer, float32 [N, E]; `sides` knows whose is which row."""
        with torch.autocast(embedder.device.type, torch.bfloat16, enabled=bf16):
            return embed_in_shares(embedder, list(self._pieces.values()), batch_tokens, group)

    def scores_of(self, vectors_NE: torch.Tensor) -> dict[str, float]:
        """MRR@10 by task and direction, the distance between the means of both sides, and the mean over tasks."""
        scores: dict[str, float] = {}
        by_task: dict[str, list[float]] = {}
        for task in self.tasks:
            query_Q, item_G = self.sides(task)
            query_QE, item_GE = vectors_NE[query_Q], vectors_NE[item_G]
            metric = ReciprocalRank(CUTOFF, sync_on_compute=False)  # every process ranks the whole suite
            metric.update(rank_relevant(query_QE, item_GE, task.relevance))
            scores[task.label] = float(metric.compute())
            by_task.setdefault(task.name, []).append(scores[task.label])
            scores[f"{task.label} gap"] = float(torch.dist(query_QE.mean(0), item_GE.mean(0)))
        scores["mean"] = float(np.mean([np.mean(values) for values in by_task.values()]))
        self._scored_NE, self._geometry = vectors_NE, None
        return scores

    def queries_of(self, vectors_NE: torch.Tensor) -> pd.DataFrame:
        """A line a query: task, direction, query, concept and reciprocal_rank, 0 beyond the tenth place."""
        lines = []
        for task in self.tasks:
            query_Q, item_G = self.sides(task)
            ranks = rank_relevant(vectors_NE[query_Q], vectors_NE[item_G], task.relevance)
            columns = {"query": task.keys, "concept": task.concepts, "reciprocal_rank": reciprocal_rank(ranks, CUTOFF)}
            lines.append(pd.DataFrame(columns).assign(task=task.name, direction=task.direction))
        return pd.concat(lines, ignore_index=True)

    @property
    def geometry(self) -> dict[str, float]:
        """The shape of the space as the vectors scored last have it (`evaluation.geometry.summary`); {} before that."""
        if self._geometry is None and self._scored_NE is not None:
            # Of a text that is asked with a prefix and stands in a pool without, the one in the pool is the point.
            place = {key[2]: row for key, row in sorted(self._rows.items(), key=lambda item: item[0][0] is None)}
            unit_NE = truncate(self._scored_NE, None)
            points = {digest: (self._contents[digest], unit_NE[row]) for digest, row in place.items()}
            self._geometry = summary(shape(self.tasks, points))
        return self._geometry or {}

    def logged(self, scores: Mapping[str, float], kind: str = "dev") -> dict[str, float]:
        """What a run logs after `scores` were taken: those as dev/<task>, the space as geometry/<measure>."""
        named = {f"{kind}/{name}": value for name, value in scores.items()}
        return named | {f"geometry/{name}": value for name, value in self.geometry.items()}

    def sides(self, task: EvalTask) -> tuple[list[int], list[int]]:
        """Rows of a task's queries and of its items among `vectors` and `pieces`."""
        query_Q, item_G = (
            [self._rows[_key(task, role, content, digest)] for content, digest in zip(contents, digests, strict=True)]
            for role, contents, digests in _sides(task)
        )
        return query_Q, item_G

    @property
    def pieces(self) -> list[Pieces]:
        """Everything that is embedded, processed, in the order of `vectors`."""
        return list(self._pieces.values())

    @property
    def fingerprint(self) -> str:
        """32 hex digits over what is asked, offered and right: scores of equal fingerprints can be compared."""
        state = hashlib.blake2b(digest_size=16)
        for task in self.tasks:
            state.update(task.label.encode())
            for array in (task.query_digests, task.gallery_digests, task.relevance.starts, task.relevance.items):
                state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()


def dev_retrieval(plain: Mapping[str, Any], embedder: Embedder) -> DevRetrieval | None:
    """Dev retrieval over tasks that train (`dev_undrawn`: that are named) and have a dev split; None without any."""
    root, stage = place(plain["paths"]["data"]) / plain["data"]["tier"], plain["stage"]
    asked = [name for name, task in plain["data"]["tasks"].items() if task["rate"] > 0 or stage["dev_undrawn"]]
    names = [name for name in asked if (root / name / "dev.json").is_file()]
    if not names:
        return None
    try:
        return DevRetrieval(build_suite(root, "dev", names, limit=stage["dev_limit"]), embedder.processor)
    except DataError as error:
        console.print(f"no dev retrieval: {error}")
        return None


def _sides(task: EvalTask) -> tuple[tuple[str, Sequence[Content], Sequence[int]], ...]:
    return (
        ("query", task.queries, task.query_digests.tolist()),
        ("document", task.gallery, task.gallery_digests.tolist()),
    )


def _key(task: EvalTask, role: str, content: Content, digest: int) -> tuple[str | None, str | None, int]:
    """What an embedding depends on: the content, and for a text-only query its prefix, as in training."""
    prefixed = task.prompt and role == "query" and content.is_text
    return (task.prompt, role, digest) if prefixed else (None, None, digest)
