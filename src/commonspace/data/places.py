"""Which record a worker is at, for the message when the loader stalls or a worker dies."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info


class Places:
    """Which record of which step each worker is at, in memory shared with the process that started them."""

    _SLOTS = 256  # workers; more than that share

    def __init__(self) -> None:
        self._at_S3 = torch.full((self._SLOTS, 3), -1, dtype=torch.int64).share_memory_()

    def note(self, step: int, task: int, row: int) -> None:
        """This worker, or the process itself, is about to read `row` of a task, by its number, for `step`."""
        worker = get_worker_info()
        self._at_S3[worker.id % self._SLOTS if worker else 0] = torch.tensor([step, task, row])

    def of(self, step: int) -> tuple[int, int] | None:
        """The task and row that somebody is at for `step`; None where nobody has begun it."""
        found_N2 = self._at_S3[self._at_S3[:, 0] == step, 1:]
        return (int(found_N2[0, 0]), int(found_N2[0, 1])) if len(found_N2) else None
