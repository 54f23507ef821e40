"""Retrieval on dev, as often as training wants it: contents are processed once, only the embedding is repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from commonspace.content import Content
from commonspace.errors import DataError
from commonspace.evaluation.metrics import ReciprocalRank
from commonspace.evaluation.ranking import rank_relevant
from commonspace.evaluation.suite import EvalTask, Suite
from commonspace.models.embedder import Embedder
from commonspace.processing.pieces import Pieces
from commonspace.processing.processor import Processor

CUTOFF = 10


class DevRetrieval:
    """MRR@10 of every ungrouped task of a dev suite, both directions where the suite has them.

    `scores(embedder)` gives {"image_caption image->text": 0.41, ..., "mean": ...}; "mean" weighs tasks equally, so a
    task asked both ways counts once. It is what checkpoints and greedy soups are chosen by; held-out data never is.
    """

    def __init__(self, suite: Suite, processor: Processor) -> None:
        if suite.split == "heldout":
            raise DataError("choices are made on dev: this suite is the held-out one")
        self.tasks = [task for task in suite.tasks if not task.grouped]
        self._pieces: dict[tuple[str | None, str | None, int], Pieces] = {}
        for task in self.tasks:
            for role, contents, digests in _sides(task):
                for content, digest in zip(contents, digests, strict=True):
                    key = _key(task, role, content, digest)
                    if key not in self._pieces:
                        self._pieces[key] = processor(content, task=key[0], role=key[1])

    def scores(self, embedder: Embedder, *, batch_tokens: int = 8192, bf16: bool = False) -> dict[str, float]:
        """MRR@10 by task and direction, and their mean over tasks; the embedder is left as it was.

        With `bf16` contents are embedded in autocast; ranking is in float32 always.
        """
        keys = list(self._pieces)
        with torch.autocast(embedder.device.type, torch.bfloat16, enabled=bf16):
            vectors_NE = embedder.embed_pieces([self._pieces[key] for key in keys], batch_tokens=batch_tokens)
        row_of = {key: row for row, key in enumerate(keys)}
        scores: dict[str, float] = {}
        by_task: dict[str, list[float]] = {}
        for task in self.tasks:
            query_QE, item_GE = (
                vectors_NE[[row_of[_key(task, role, c, d)] for c, d in zip(contents, digests, strict=True)]]
                for role, contents, digests in _sides(task)
            )
            metric = ReciprocalRank(CUTOFF, sync_on_compute=False)  # every process scores the whole suite
            metric.update(rank_relevant(query_QE, item_GE, task.relevance))
            scores[task.label] = float(metric.compute())
            by_task.setdefault(task.name, []).append(scores[task.label])
            scores[f"{task.label} gap"] = float(torch.dist(query_QE.mean(0), item_GE.mean(0)))
        scores["mean"] = float(np.mean([np.mean(values) for values in by_task.values()]))
        return scores


def _sides(task: EvalTask) -> tuple[tuple[str, Sequence[Content], Sequence[int]], ...]:
    return (
        ("query", task.queries, task.query_digests.tolist()),
        ("document", task.gallery, task.gallery_digests.tolist()),
    )


def _key(task: EvalTask, role: str, content: Content, digest: int) -> tuple[str | None, str | None, int]:
    """What an embedding depends on: the content, and for a text-only query its prefix, as in training."""
    prefixed = task.prompt and role == "query" and content.is_text
    return (task.prompt, role, digest) if prefixed else (None, None, digest)
