"""A run that is stopped and taken up again against one that was not: sample keys of every later step, and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.exactness.compare import Distance, distance
from benchmarks.exactness.subject import NotOffered, Subject

STEPS, STOP = 12, 5


@dataclass(frozen=True)
class Resumed:
    """same: later steps whose sample keys, in order, are those of the uninterrupted run; of `later` in all."""

    same: int
    later: int
    weights: Distance

    @property
    def exact(self) -> bool:
        return self.same == self.later and self.weights.exact


def check(subject: Subject, folder: Path) -> Resumed | str:
    """The comparison; where resuming is not offered, the reason."""
    try:
        if subject.resume is None:
            raise NotOffered("no resume")
        traces = []
        for name, stop in (("whole", None), ("stopped", STOP)):
            (folder / name).mkdir(parents=True)
            traces.append(subject.resume(folder / name, stop))
    except NotOffered as reason:
        return str(reason)
    whole, stopped = traces
    if len(whole.batches) != STEPS:
        raise ValueError(f"{subject.name}: {len(whole.batches)} steps, not {STEPS}")
    later = list(zip(whole.batches[STOP:], stopped.batches[STOP:], strict=False))
    same = sum(expected == found for expected, found in later)
    return Resumed(same, STEPS - STOP, distance(stopped.weights, whole.weights))
