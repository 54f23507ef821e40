"""Which dev queries are worth looking at: the hardest failures of every task, and as many that were found at once."""

from __future__ import annotations

import torch

from commonspace.evaluation.ranking import rank_relevant
from commonspace.evaluation.suite import EvalTask
from commonspace.stages.dev import DevRetrieval
from commonspace.tracking.media import Example

SHOWN = 3  # items that a query found


def dev_examples(dev: DevRetrieval, vectors_NE: torch.Tensor, count: int) -> list[Example]:
    """`count` failures and `count` successes of every task and direction, at most.

    The hardest failure is the query whose own answer scores lowest against what was found in its place.
    """
    found = []
    for task in dev.tasks if count else ():
        query_Q, item_G = dev.sides(task)
        query_QE, item_GE = vectors_NE[query_Q].float(), vectors_NE[item_G].float()
        scores_QG = query_QE @ item_GE.T
        ranks_Q = rank_relevant(query_QE, item_GE, task.relevance).first
        examples = [_example(task, query, scores_QG[query], int(ranks_Q[query])) for query in range(len(query_Q))]
        examples.sort(key=lambda one: one.answer_score - one.scores[0])
        failures = [one for one in examples if one.rank > 1]
        found += failures[:count] + [one for one in reversed(examples) if one.rank == 1][:count]
    return found


def _example(task: EvalTask, query: int, scores_G: torch.Tensor, rank: int) -> Example:
    right = torch.from_numpy(task.relevance.of(query))
    answer = int(right[scores_G[right].argmax()])
    best = scores_G.topk(min(SHOWN, len(scores_G))).indices.tolist()
    return Example(
        task=task.label,
        kind="success" if rank == 1 else "failure",
        rank=rank,
        query=task.queries[query],
        answer=task.gallery[answer],
        answer_score=float(scores_G[answer]),
        found=tuple(task.gallery[item] for item in best),
        scores=tuple(float(scores_G[item]) for item in best),
    )
