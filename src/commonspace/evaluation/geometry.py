"""The shape of the space: do modalities lie apart, do pairs lie together, is the room used, are there hubs?

Legend: N vectors, E their size. All vectors have unit length; prefixes are left out, so that a text is one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from scipy.stats import skew

from commonspace.content import Content
from commonspace.evaluation.engine import Embeds
from commonspace.evaluation.ranking import rank_relevant, truncate
from commonspace.evaluation.relevance import Relevance
from commonspace.evaluation.suite import EvalTask, Suite

_SAMPLE = 2000  # vectors of a modality that pairwise distances are taken over
_NEIGHBOURS = 10
Vectors = dict[int, tuple[Content, torch.Tensor]]  # by digest
Figures = dict[str, dict[str, float]]  # {measure: {modality, pair of modalities, or task: value}}


def modality_gap(first_NE: torch.Tensor, second_NE: torch.Tensor) -> float:
    """Distance between the two centroids (Liang et al., 2022): 0 where they coincide, at most 2."""
    return float(torch.dist(first_NE.mean(0), second_NE.mean(0)))


def alignment(query_NE: torch.Tensor, positive_NE: torch.Tensor) -> float:
    """Mean squared distance of the two sides of a pair (Wang and Isola, 2020): 0 is best, 2 is unrelated."""
    return float((query_NE - positive_NE).square().sum(1).mean())


def uniformity(vectors_NE: torch.Tensor) -> float:
    """log mean exp(-2 |x - y|^2) over pairs (Wang and Isola, 2020): 0 where all are one point, below where they spread.

    Vectors beyond the first 2000 of a fixed shuffle are left out.
    """
    order = np.random.default_rng(0).permutation(len(vectors_NE))[:_SAMPLE]
    distances = torch.pdist(vectors_NE[order].double())
    return float(torch.logsumexp(-2 * distances.square(), 0) - np.log(len(distances))) if len(distances) else 0.0


def effective_rank(vectors_NE: torch.Tensor) -> float:
    """exp of the entropy of the singular values' shares, centred (Roy and Vetterli, 2007): 1 to E directions in use."""
    singular = torch.linalg.svdvals((vectors_NE - vectors_NE.mean(0)).double())
    shares = singular / singular.sum().clamp(min=1e-12)
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum()))


def hubness(query_QE: torch.Tensor, item_GE: torch.Tensor, neighbours: int = _NEIGHBOURS) -> float:
    """Skewness of how often an item is among the nearest of a query (Radovanovic et al., 2010): above 1, hubs."""
    nearest = (query_QE @ item_GE.T).topk(min(neighbours, len(item_GE)), dim=1).indices
    counts = torch.bincount(nearest.flatten(), minlength=len(item_GE)).double().numpy()
    return float(skew(counts)) if counts.std() > 0 else 0.0


def geometry(model: Embeds, suite: Suite) -> Figures:
    """Every figure of this file for one model, see `shape`."""
    tasks = [task for task in suite.tasks if not task.grouped]
    return shape(tasks, _vectors(model, tasks))


def shape(tasks: Sequence[EvalTask], vectors: Vectors) -> Figures:
    """Every figure of this file for unit vectors of the contents of ungrouped tasks.

    The mixed corpus puts the items of all tasks in one pool: `mixed_recall_at_1`, and `mixed_wrong_modality`, the
    share of first places that go to an item of another modality than the correct one. `direction_asymmetry` is of
    tasks that are asked both ways, each in its own pool: the first way's mean reciprocal rank less the second's.
    """
    by_modality: dict[str, list[int]] = {}
    for digest, (content, _) in vectors.items():
        by_modality.setdefault(modality(content), []).append(digest)
    stacked = {name: _stack(vectors, digests) for name, digests in sorted(by_modality.items()) if len(digests) > 2}
    figures: Figures = {
        "modality_gap": {f"{a} | {b}": modality_gap(stacked[a], stacked[b]) for a, b in combinations(stacked, 2)},
        "uniformity": {name: uniformity(values) for name, values in stacked.items()},
        "effective_rank": {name: effective_rank(values) for name, values in stacked.items()},
        "alignment": {},
        "hubness": {},
    }
    for task in tasks:
        queries, items = _stack(vectors, task.query_digests), _stack(vectors, task.gallery_digests)
        figures["alignment"][task.label] = alignment(queries, _stack(vectors, task.targets))
        figures["hubness"][task.label] = hubness(queries, items)
    return figures | {"direction_asymmetry": _asymmetry(tasks, vectors)} | _mixed(tasks, vectors)


def summary(figures: Figures) -> dict[str, float]:
    """Few enough for a curve each while a model trains: {"modality_gap image | text": ..., "hubness": ...}.

    Figures of modalities as they are, those of tasks by their mean; of asymmetry the mean of its size.
    """
    found = {f"{measure} {name}": value for measure in _OF_SPACE for name, value in figures[measure].items()}
    for measure in figures.keys() - set(_OF_SPACE):
        values = list(figures[measure].values())
        if values:
            found[measure] = float(np.mean(np.abs(values) if measure == "direction_asymmetry" else values))
    return dict(sorted(found.items()))


_OF_SPACE = ("modality_gap", "uniformity", "effective_rank")  # the others are of tasks


def _asymmetry(tasks: Sequence[EvalTask], vectors: Vectors) -> dict[str, float]:
    found = {}
    for task, other in combinations(tasks, 2):
        if task.name == other.name and task.direction.split("->") == other.direction.split("->")[::-1]:
            first, second = sorted((task, other), key=lambda one: one.direction)
            found[f"{task.name} {first.direction} - {second.direction}"] = _reciprocal(first, vectors) - _reciprocal(
                second, vectors
            )
    return found


def _reciprocal(task: EvalTask, vectors: Vectors) -> float:
    """Mean reciprocal rank of a task in its own pool."""
    queries, items = _stack(vectors, task.query_digests), _stack(vectors, task.gallery_digests)
    return float((1 / rank_relevant(queries, items, task.relevance).first).mean())


def modality(content: Content) -> str:
    """Kinds of part in a content, as "image+text"."""
    return "+".join(sorted(content.modalities))


def _vectors(model: Embeds, tasks: Sequence[EvalTask]) -> Vectors:
    contents: dict[int, Content] = {}
    for task in tasks:
        contents.update(zip(task.query_digests.tolist(), task.queries, strict=True))
        contents.update(zip(task.gallery_digests.tolist(), task.gallery, strict=True))
    rows = truncate(torch.as_tensor(model.embed(list(contents.values()))), None)
    return {digest: (content, row) for (digest, content), row in zip(contents.items(), rows, strict=True)}


def _stack(vectors: Vectors, digests: Sequence[int] | np.ndarray) -> torch.Tensor:
    return torch.stack([vectors[int(digest)][1] for digest in digests])


def _mixed(tasks: Sequence[EvalTask], vectors: Vectors) -> dict[str, dict[str, float]]:
    """Recall where targets of all modalities share one pool. The query's own content is no target of itself."""
    pool = sorted({int(digest) for task in tasks for digest in task.gallery_digests})
    place = {digest: row for row, digest in enumerate(pool)}
    items = _stack(vectors, pool)
    kinds = np.array([modality(vectors[digest][0]) for digest in pool])
    recall, wrong = {}, {}
    for task in tasks:
        rows = np.array([place[int(digest)] for digest in task.gallery_digests])
        right = [np.sort(rows[task.relevance.of(query)]) for query in range(len(task.queries))]
        starts = np.concatenate([[0], np.cumsum([len(some) for some in right])])
        queries = _stack(vectors, task.query_digests)
        own = np.array([place.get(int(digest), -1) for digest in task.query_digests])
        best = _nearest_other(queries, items, own)
        ranks = rank_relevant(queries, items, Relevance(starts, np.concatenate(right))).first
        # A query that is itself an item of the pool stands before all others; it asks for something else.
        recall[task.label] = float((ranks - (own >= 0) <= 1).mean())
        wrong[task.label] = float((kinds[best] != kinds[[some[0] for some in right]]).mean())
    return {"mixed_recall_at_1": recall, "mixed_wrong_modality": wrong}


def _nearest_other(query_QE: torch.Tensor, item_GE: torch.Tensor, own: np.ndarray) -> np.ndarray:
    """Row of the nearest item of each query apart from itself, int64 [Q]."""
    best = []
    for start in range(0, len(query_QE), 512):
        scores = query_QE[start : start + 512] @ item_GE.T
        rows = np.arange(len(scores))
        mine = own[start : start + 512]
        scores[rows[mine >= 0], mine[mine >= 0]] = -torch.inf
        best.append(scores.argmax(1).numpy())
    return np.concatenate(best)
