"""How many queries a task of mteb asks, and of how large a pool: of our own tasks counted, of mteb's as it tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask


def size_of(task: AbsTask) -> dict[str, Any]:
    """{"queries", "pool", "pools"} of a task, over the subsets and splits that it asks for.

    queries  of all pools; of a task that ranks nothing, its samples
    pool     items a query is ranked against, a mean over queries where pools differ; None where nothing is ranked
    pools    how many are ranked apart
    {} where mteb does not tell of every one of them: a part would pass for the whole.
    """
    found = list(_counts(task))
    if not found or None in found:
        return {}
    counts = [one for one in found if one is not None]
    queries = sum(asked for asked, _ in counts)
    ranked = [(asked, items) for asked, items in counts if items is not None]
    pool = round(sum(asked * items for asked, items in ranked) / queries, 1) if len(ranked) == len(counts) else None
    return {"queries": queries, "pool": pool, "pools": len(counts)}


def _counts(task: AbsTask) -> Iterator[tuple[int, float | None] | None]:
    if own := getattr(task, "pools", None):
        yield from own.values()
        return
    statistics: Mapping[str, Any] = task.metadata.descriptive_stats or {}
    for split in task.eval_splits:
        whole = statistics.get(split) or {}
        apart = whole.get("hf_subset_descriptive_stats") or {"default": whole}
        for subset in task.hf_subsets:
            yield _count(apart.get(subset) or {})


def _count(told: Mapping[str, Any]) -> tuple[int, float | None] | None:
    """(queries or samples, items) of one subset; None where mteb has too little.

    Its samples of a task that ranks are queries and items together, and no count of either.
    """
    if "num_queries" in told:
        ranked = told.get("top_ranked_statistics")  # of reranking: each query has a few items of its own
        return told["num_queries"], ranked["average_top_ranked_per_query"] if ranked else told["num_documents"]
    if "queries_text_statistics" in told or "num_samples" not in told:
        return None
    return told["num_samples"], None
