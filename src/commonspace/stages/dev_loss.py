"""The contrastive loss of dev pairs: smooth where retrieval scores are steps, so coefficients can be learned on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from commonspace.errors import DataError
from commonspace.evaluation.suite import EvalTask
from commonspace.models.embedder import Embedder
from commonspace.objectives.gradcache import cached_backward, token_chunks
from commonspace.objectives.nce import nce_loss
from commonspace.stages.dev import DevRetrieval


@dataclass(frozen=True)
class DevBatch:
    """Pairs of one task and direction: rows of `DevRetrieval.pieces`, query by query its positive."""

    label: str
    task: str
    query_B: tuple[int, ...]
    positive_B: tuple[int, ...]


class DevLoss:
    """Equation 2 on pairs of a dev suite, in batches where no other row's positive is right for a query.

    Batches are drawn once, by `seed`, so two models are compared on the same wrong targets. All have `batch_size`
    pairs, but where a task has not as many it makes one batch of what it has: losses of different tasks are not
    comparable, one model's with another's are. "mean" weighs tasks equally.
    """

    def __init__(self, dev: DevRetrieval, batch_size: int, temperature: float, seed: int = 1) -> None:
        self.dev, self.temperature = dev, temperature
        draw = np.random.default_rng(seed)
        self.batches = [batch for task in dev.tasks for batch in _batches(dev, task, batch_size, draw)]
        if not self.batches:
            raise DataError("no task has two dev pairs that differ; a loss needs a wrong target")
        order = draw.permutation(len(self.batches))
        self.batches = [self.batches[place] for place in order]

    def of_vectors(self, vectors_NE: torch.Tensor) -> dict[str, float]:
        """Loss by task and direction, and their mean over tasks, of the vectors that `dev.vectors` gives."""
        by_label: dict[str, list[float]] = {}
        task_of = {}
        for batch in self.batches:
            loss, _ = self._loss(vectors_NE[list(batch.query_B)], vectors_NE[list(batch.positive_B)])
            by_label.setdefault(batch.label, []).append(float(loss))
            task_of[batch.label] = batch.task
        losses = {label: float(np.mean(values)) for label, values in sorted(by_label.items())}
        by_task: dict[str, list[float]] = {}
        for label, value in losses.items():
            by_task.setdefault(task_of[label], []).append(value)
        return {**losses, "mean": float(np.mean([np.mean(values) for values in by_task.values()]))}

    def backward(self, embedder: Embedder, number: int, *, batch_tokens: int = 8192, bf16: bool = False) -> float:
        """Add the gradient of batch `number` (counted round and round) to the parameters that take one; its loss."""
        batch, pieces = self.batches[number % len(self.batches)], self.dev.pieces
        rows = [*batch.query_B, *batch.positive_B]
        contents = [pieces[row] for row in rows]
        chunks = token_chunks([content.tokens for content in contents], batch_tokens, padded=False)
        loss, _ = cached_backward(partial(_encode, embedder, bf16), contents, chunks, lambda v: self._loss(*v.chunk(2)))
        return float(loss)

    def _loss(self, query_BE: torch.Tensor, positive_BE: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return nce_loss(query_BE, positive_BE, temperature=self.temperature)


def _encode(embedder: Embedder, bf16: bool, contents: list) -> torch.Tensor:
    with torch.autocast(embedder.device.type, torch.bfloat16, enabled=bf16):
        return embedder(contents).float()


def _batches(dev: DevRetrieval, task: EvalTask, size: int, draw: np.random.Generator) -> Iterator[DevBatch]:
    """Full batches of a task; one smaller where none is full."""
    query_Q, item_G = dev.sides(task)
    made = _pairs(task, size, draw)
    full = [pairs for pairs in made if len(pairs) == size]
    for pairs in full or sorted(made, key=len)[-1:]:
        if len(pairs) > 1:
            queries, items = zip(*pairs, strict=True)
            yield DevBatch(task.label, task.name, tuple(query_Q[q] for q in queries), tuple(item_G[i] for i in items))


def _pairs(task: EvalTask, size: int, draw: np.random.Generator) -> list[list[tuple[int, int]]]:
    """(query, its own positive) dealt out so that within a batch no query is answered by another's positive."""
    made: list[list[tuple[int, int]]] = []
    answers: list[set[int]] = []  # of all queries of a batch
    for query in draw.permutation(len(task.queries)).tolist():
        right = task.relevance.of(query).tolist()
        if not right:
            continue
        own = next((item for item in right if task.gallery_digests[item] == task.targets[query]), right[0])
        for pairs, taken in zip(made, answers, strict=True):
            if len(pairs) < size and own not in taken and not {item for _, item in pairs} & set(right):
                pairs.append((query, own))
                taken.update(right)
                break
        else:
            made.append([(query, own)])
            answers.append(set(right))
    return made
