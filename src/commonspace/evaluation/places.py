"""Where an evaluation leaves its rows, and what it must not take away there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from commonspace.errors import ConfigError

TIERS = ("tiny", "mini", "full")  # whose results are documents of the project; others are a user's own
_BASELINES = {
    **{name: (name,) for name in ("chance", "bm25", "e5")},
    "late_fusion": ("late_fusion", "late_fusion_sum", "late_fusion_mlp"),
}


def results_folder(docs: str, runs: str, tier: str, split: str, limit: int | None = None) -> str:
    """`output` of a config that names none: DOCS/results/TIER for held-out rows of one of `TIERS`, all of them.

    Rows of dev, under a limit, or of pairs of one's own would replace or join those that are published: they go to
    RUNS/TIER/evaluation.
    """
    published = split == "heldout" and limit is None and tier in TIERS
    return f"{docs}/results/{tier}" if published else f"{runs}/{tier}/evaluation"


def models_of(embedder: str, name: str | None = None) -> tuple[str, ...]:
    """The models whose rows an evaluation of `embedder`, a baseline or a model folder, replaces."""
    if embedder == "baselines":
        return tuple(model for models in _BASELINES.values() for model in models)
    return _BASELINES.get(embedder, (name or Path(embedder).name,))


def check_tasks_kept(folder: Path, models: Iterable[str], shards: Collection[str]) -> None:
    """ConfigError where rows of one of `models` are of other tasks than those of `shards` too: they would be lost."""
    from commonspace.evaluation.results import read_rows, rows_path
    from commonspace.evaluation.specs import SPECS

    shard_of = {spec.name: spec.shard for spec in SPECS}
    for path in (rows_path(folder, model) for model in models):
        held = {shard_of.get(row.task, row.task) for row in read_rows(path)} if path.is_file() else set()
        if lost := sorted(held - set(shards)):
            raise ConfigError(
                f"data.tasks: {path} has rows of {', '.join(lost)} too, which would be lost; give another name= or "
                "output=FOLDER, leave data.tasks out, or delete that file"
            )
