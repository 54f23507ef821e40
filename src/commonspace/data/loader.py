"""Plans in, batches out: reading, drawing and decoding in workers, in order, resumable at any batch.

The main process only hands out `StepPlan`s; a worker makes the whole batch of one plan. Order is that of the plans for
any number of workers, and what is in flight when a run dies is simply planned again.
"""

from __future__ import annotations

import logging
import time
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from commonspace.data.batch import Batch, PackedBatch, pack, unpack
from commonspace.data.encoding import Encoded, Processing, TaskOptions, draw, encode, sample_seed
from commonspace.data.mixture import Mixture, StepPlan
from commonspace.data.negatives import NegativeLists
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, ContentError, DataError
from commonspace.processing.pieces import Pieces

log = logging.getLogger(__name__)


@dataclass
class TaskData:
    """Where one task's samples come from: shards, options, mined negatives, and how many records may be used."""

    reader: ShardReader
    options: TaskOptions = field(default_factory=TaskOptions)
    negatives: NegativeLists | None = None
    limit: int | None = None

    @property
    def length(self) -> int:
        return min(self.limit or len(self.reader), len(self.reader))


class MixtureDataset(Dataset):
    """Maps a `StepPlan` to a batch; packed for the journey when it runs in a worker.

    skip_budget  rows that are tried for one place of a batch before training stops with a `DataError`
    memory       megabytes of records and processed contents each worker keeps from one batch to the next
    """

    def __init__(
        self, tasks: Mapping[str, TaskData], processor: Processing, *, skip_budget: int = 16, memory: int = 0
    ) -> None:
        if skip_budget < 1 or memory < 0:
            raise ConfigError(f"skip_budget={skip_budget} must be at least 1 and memory={memory} at least 0")
        self.tasks, self.processor, self.skip_budget = dict(tasks), processor, skip_budget
        self.memory, self._room = memory, memory * 1_000_000
        self._records: dict[tuple[ShardReader, int], Record] = {}
        self._pieces: dict[tuple[int, bool], Pieces] = {}

    def __getitem__(self, plan: StepPlan) -> Batch | PackedBatch:
        batch = self.batch(plan)
        return batch if get_worker_info() is None else pack(batch)

    def batch(self, plan: StepPlan) -> Batch:
        """Read, draw and process the samples of one plan."""
        done: ChainMap[tuple[int, bool], Pieces] = ChainMap({}, self._pieces)
        skipped: list[str] = []
        samples = [self._place(plan, int(row), done, skipped) for row in plan.indices]
        for (digest, prefix), pieces in done.maps[0].items():
            if not prefix and self._has_room(sum(piece.value.nbytes for piece in pieces.pieces)):
                self._pieces[digest, False] = pieces
        return Batch(
            task=plan.task,
            query=[sample.query for sample in samples],
            positive=[sample.positive for sample in samples],
            negatives=[sample.negatives for sample in samples],
            query_ids=torch.tensor([sample.query_id for sample in samples], dtype=torch.int64),
            positive_ids=torch.tensor([sample.positive_id for sample in samples], dtype=torch.int64),
            sources=[sample.source for sample in samples],
            step=plan.step,
            reverse=plan.reverse,
            skipped=skipped,
        )

    def _place(self, plan: StepPlan, row: int, done: MutableMapping, skipped: list[str]) -> Encoded:
        """The sample for one place of a batch: the planned row, or the first after it that can be used."""
        data = self.tasks[plan.task]
        for candidate in islice(_candidates(row, plan, data.length), self.skip_budget):
            try:
                return self._encode(data, candidate, sample_seed(plan.seed, candidate), done)
            except (ContentError, DataError) as error:
                skipped.append(str(error))
        raise DataError(
            f"task {plan.task}, step {plan.step}: {self.skip_budget} samples in a row could not be used, "
            f"the last: {skipped[-1]}; mend the data or raise skip_budget"
        )

    def _encode(self, data: TaskData, row: int, seed: int, done: MutableMapping) -> Encoded:
        mined = data.negatives.of(row) if data.negatives else ()
        sample = draw(
            self._read(data.reader, row), seed, data.options, data.reader.source(row), mined, data.reader.read
        )
        return encode(sample, seed, data.options, self.processor, done)

    def _read(self, reader: ShardReader, row: int) -> Record:
        """A record from memory where it is kept."""
        if (reader, row) in self._records:
            return self._records[reader, row]
        record = reader.read(row)
        if self._has_room(int(reader.column("size")[row])):
            self._records[reader, row] = record
        return record

    def _has_room(self, size: int) -> bool:
        """Whether `size` bytes more may be kept; if so they count from here on."""
        fits = size <= self._room
        self._room -= size if fits else 0
        return fits


def _candidates(row: int, plan: StepPlan, length: int) -> Iterator[int]:
    """`row`, then the rows after it that are not in the batch, then those that are (the loss masks equal contents)."""
    yield row
    taken = set(plan.all_indices.tolist())
    following = [(row + distance) % length for distance in range(1, min(length, len(taken) + 1024))]
    yield from (other for other in following if other not in taken)
    yield from (other for other in following if other in taken)


class MixtureLoader:
    """Batches of a mixture from where it stands to its last step; `len` is all its steps.

    state_dict counts batches handed out: saved between two batches it is exact, whatever the workers have in flight.
    It also carries how many samples were skipped, by task. The wait a batch tells is that for the loader alone:
    whoever takes the batches may score, save or log between two of them.
    """

    def __init__(self, dataset: MixtureDataset, mixture: Mixture, *, workers: int = 0, prefetch: int = 2) -> None:
        self.dataset, self.mixture, self.workers, self.prefetch = dataset, mixture, workers, prefetch
        self.skipped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.mixture)

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            self.dataset,
            sampler=_Plans(self.mixture, self.mixture.step),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            prefetch_factor=self.prefetch if self.workers else None,
        )
        asked = time.perf_counter()
        for item in loader:
            batch = unpack(item) if isinstance(item, PackedBatch) else item
            batch.waited = time.perf_counter() - asked
            for message in batch.skipped:
                log.warning("step %d, task %s: sample skipped: %s", batch.step, batch.task, message)
            self.skipped[batch.task] += len(batch.skipped)
            self.mixture.step = batch.step + 1
            yield batch
            asked = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Primitives only, well under a kilobyte a task."""
        return {**self.mixture.state_dict(), "skipped": dict(self.skipped)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches `state` counts; ConfigError where the mixture changed."""
        self.mixture.load_state_dict(state)
        self.skipped = Counter(state["skipped"])


class _Plans(Sampler):
    """The plans from `start` on; the mixture's own count is left to the loader."""

    def __init__(self, mixture: Mixture, start: int) -> None:
        self.mixture, self.start = mixture, start

    def __iter__(self) -> Iterator[StepPlan]:
        return (self.mixture.plan(step) for step in range(self.start, len(self.mixture)))

    def __len__(self) -> int:
        return len(self.mixture) - self.start


def _as_it_is(item: Batch | PackedBatch) -> Batch | PackedBatch:
    return item
