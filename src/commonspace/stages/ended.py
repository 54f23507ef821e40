"""Runs that leave no checkpoint once they have ended, and when such a run is not trained again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from commonspace.evaluation.kept_scores import forget_scores, read_scores
from commonspace.models.folder import read_json
from commonspace.stages.origin import origin_of
from commonspace.tracking.record import last_start


def keeps_checkpoints(plain: Mapping[str, Any]) -> bool:
    """Whether the checkpoints of a run stay once it has ended: where its model does, and `callbacks.keep` is not 0."""
    return plain["save"] and plain["callbacks"]["keep"] > 0


def ended_before(plain: Mapping[str, Any], run: Path, say: Callable[[str], object]) -> float | None:
    """The dev mean of a run that has ended, kept no checkpoint and is not to be trained again; None for any other.

    It is trained again, and its scores go, where the rows or the model that it began from are no longer what they were,
    or its own model no longer stands where it was saved. `say` is told which it is.
    """
    if keeps_checkpoints(plain) or not (scores := read_scores(run)):
        return None
    if not origin_of(plain).is_of(last_start(run)):
        why = "on other rows or from another model"
    elif plain["save"] and not _made_by(Path(plain["output"]), run.name):
        why = f"its model is no longer at {plain['output']}"
    else:
        say(f"{run}: ended before, dev mean {scores['mean']:.3f}; resume=never trains it anew")
        return scores["mean"]
    say(f"{run}: ended before, but {why}; it is trained anew")
    forget_scores(run)
    return None


def _made_by(folder: Path, run_id: str) -> bool:
    told = folder / "training.json"
    return told.is_file() and read_json(told).get("run_id") == run_id
