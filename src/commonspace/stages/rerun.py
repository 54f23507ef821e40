"""What a call does whose config ran before: go on from where that run is, let it be, or start anew.

Rows, lists of negatives and the model to begin from have names in a config; what lies there may have been made again
since. A run that began from other ones is not gone on from, nor taken for what the call asks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from commonspace.errors import DataError
from commonspace.evaluation.kept_scores import forget_scores, read_scores
from commonspace.models.folder import read_json
from commonspace.stages.origin import origin_of
from commonspace.tracking.identity import Identity, rank, run_identity
from commonspace.tracking.record import last_start, starts

Say = Callable[[str], object]
_PATIENCE = 60  # seconds that processes wait for the first to put a run aside


def identity_of(folder: Path, plain: Mapping[str, Any], say: Say) -> Identity:
    """Of the run to go on with in `folder`, or of a new one, which leaves the old as it is: where `resume` is never, or
    where a run whose model is kept began from other rows, lists of negatives or another model under the same names.
    """
    found = run_identity(folder, plain, fresh=plain["resume"] == "never")
    began = starts(folder / found.run_id)
    if not plain["save"] or not began or all(map(origin_of(plain).is_of, began)):
        return found
    say(f"{folder / found.run_id}: began from other rows, negatives or model than lie there now; a new run starts")
    return _anew(folder, plain, found)


def _anew(folder: Path, plain: Mapping[str, Any], old: Identity) -> Identity:
    """The new identity, which the first process makes and the others wait for."""
    until = time.monotonic() + _PATIENCE
    while (made := run_identity(folder, plain, fresh=True)).run_id == old.run_id:
        if rank() == 0 or time.monotonic() > until:
            raise DataError(f"{folder / old.run_id}: cannot be put aside; call it again with resume=never")
        time.sleep(0.2)
    return made


def keeps_checkpoints(plain: Mapping[str, Any]) -> bool:
    """Whether the checkpoints of a run stay once it has ended: where its model does, and `callbacks.keep` is not 0."""
    return plain["save"] and plain["callbacks"]["keep"] > 0


def ended_before(plain: Mapping[str, Any], run: Path, say: Say) -> float | None:
    """The dev mean of a run that has ended, kept no checkpoint and is not to be trained again; None for any other.

    It is trained again, and its scores go, where it began from what is no longer there, or its own model no longer
    stands where it was saved. `say` is told which it is.
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
