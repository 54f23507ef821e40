"""Plans in, batches out: reading, drawing and decoding in workers, in order, resumable at any batch.

The main process only hands out `StepPlan`s; a worker makes the whole batch of one plan. Order is that of the plans for
any number of workers, and what is in flight when a run dies is simply planned again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from commonspace.data.batch import Batch, PackedBatch, SubBatch, joined, pack, unpack
from commonspace.data.encoding import Encoded, Processing, TaskOptions, draw, encode, sample_seed
from commonspace.data.mixture import Mixture, StepPlan
from commonspace.data.negatives import NegativeLists
from commonspace.data.places import Places
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.data.worker_signals import heed_only_the_parent, held_back
from commonspace.errors import ConfigError, ContentError, DataError
from commonspace.processing.pieces import Pieces

log = logging.getLogger(__name__)


@dataclass
class TaskData:
    """One task's shards, options, mined negatives of either direction, and how many records may be used."""

    reader: ShardReader
    options: TaskOptions = field(default_factory=TaskOptions)
    negatives: NegativeLists | None = None
    limit: int | None = None
    reverse_negatives: NegativeLists | None = None

    @property
    def length(self) -> int:
        return min(self.limit or len(self.reader), len(self.reader))


class MixtureDataset(Dataset):
    """Maps a `StepPlan` to a batch; packed for the journey when it runs in a worker.

    skip_budget  rows that are tried for one place of a batch before training stops with a `DataError`
    memory       megabytes of records and processed contents each worker keeps from one batch to the next

    Workers note where they are in `places`, memory that they share with the training process: if it waits for ever, it
    can still say for what.
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
        self.numbers = {name: number for number, name in enumerate(tasks)}
        self.places = Places()

    def __getitem__(self, plan: StepPlan) -> Batch | PackedBatch:
        batch = self.batch(plan)
        return batch if get_worker_info() is None else pack(batch)

    def batch(self, plan: StepPlan) -> Batch:
        """Read, draw and process the samples of one plan, its sub-batches one after the other."""
        done: ChainMap[tuple[int, bool], Pieces] = ChainMap({}, self._pieces)
        batches = [self._one_task(part, done) for part in (plan, *plan.others)]
        for (digest, prefix), pieces in done.maps[0].items():
            if not prefix and self._has_room(sum(piece.value.nbytes for piece in pieces.pieces)):
                self._pieces[digest, False] = pieces
        return joined(batches)

    def _one_task(self, plan: StepPlan, done: MutableMapping) -> Batch:
        reader, skipped = self.tasks[plan.task].reader, list[str]()
        reader.fetch([row for row in plan.indices.tolist() if (reader, row) not in self._records])
        samples = [self._place(plan, int(row), done, skipped) for row in plan.indices]
        return Batch(
            task=plan.task,
            query=[sample.query for sample in samples],
            positive=[sample.positive for sample in samples],
            negatives=[sample.negatives for sample in samples],
            query_ids=torch.tensor([sample.query_id for sample in samples], dtype=torch.int64),
            positive_ids=torch.tensor([sample.positive_id for sample in samples], dtype=torch.int64),
            sources=[sample.source for sample in samples],
            negative_ids=[sample.negative_ids for sample in samples],
            **_reverse(samples) if self.tasks[plan.task].reverse_negatives else {},
            step=plan.step,
            reverse=plan.reverse,
            seed=plan.seed,
            parts=(SubBatch(plan.task, len(samples), plan.epochs, tuple(skipped)),),
        )

    def _place(self, plan: StepPlan, row: int, done: MutableMapping, skipped: list[str]) -> Encoded:
        """The sample for one place of a batch: the planned row, or the first after it that can be used."""
        data = self.tasks[plan.task]
        for candidate in islice(_candidates(row, plan, data.length), self.skip_budget):
            self.places.note(plan.step, self.numbers[plan.task], candidate)
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
        reverse = data.reverse_negatives.of(row) if data.reverse_negatives else ()
        record, source = self._read(data.reader, row), data.reader.source(row)
        sample = draw(record, seed, data.options, source, mined, data.reader.read, reverse)
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


def _reverse(samples: Sequence[Encoded]) -> dict[str, list]:
    return {name: [getattr(one, name) for one in samples] for name in ("reverse_negatives", "reverse_negative_ids")}


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

    stall_seconds  how long a batch may take before the process, the shard and the record it waits for are named: with
                   workers in a DataError, else in the log, for nothing can end a decoder in this process. None: never
    """

    def __init__(
        self,
        dataset: MixtureDataset,
        mixture: Mixture,
        *,
        workers: int = 0,
        prefetch: int = 2,
        stall_seconds: float | None = None,
    ) -> None:
        self.dataset, self.mixture, self.workers, self.prefetch = dataset, mixture, workers, prefetch
        self.stall_seconds = stall_seconds
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
            worker_init_fn=heed_only_the_parent,
            prefetch_factor=self.prefetch if self.workers else None,
            generator=torch.Generator(),  # its own: a draw from torch's would move the masks of a resumed run's dropout
            timeout=(self.stall_seconds or 0) if self.workers else 0,
        )
        asked = time.perf_counter()
        with held_back():
            items = iter(loader)
        for item in self._watched(items):
            batch = unpack(item) if isinstance(item, PackedBatch) else item
            batch.waited = time.perf_counter() - asked
            for part in batch.parts:
                self.skipped[part.task] += len(part.skipped)
                for message in part.skipped:
                    log.warning("step %d, task %s: sample skipped: %s", batch.step, part.task, message)
            self.mixture.step = batch.step + 1
            yield batch
            asked = time.perf_counter()

    def _watched(self, items: Iterator[Any]) -> Iterator[Any]:
        """The same items; a wait for one beyond `stall_seconds` is told, see the class."""
        while True:
            timer = threading.Timer(self.stall_seconds or 0, lambda: log.error(self.stalled()))
            timer.daemon = True
            if self.stall_seconds is not None and not self.workers:
                timer.start()
            try:
                item = next(items)
            except StopIteration:
                return
            except RuntimeError as error:  # what torch's loader makes of its timeout
                if "timed out" not in str(error):
                    raise
                raise DataError(self.stalled()) from error
            finally:
                timer.cancel()
            yield item

    def stalled(self) -> str:
        """What the next batch waits for: this process's rank, the step, its task, and the record a worker is at."""
        plan, rank = self.mixture.plan(self.mixture.step), self.mixture.rank
        tasks, place = self.dataset.tasks, self.dataset.places.of(plan.step)
        if place is not None:
            task, row = place
            at = f"it reads {list(tasks.values())[task].reader.source(row)}"
        else:
            sources = [
                tasks[part.task].reader.source(int(row)) for part in (plan, *plan.others) for row in part.indices
            ]
            tars = sorted({source.rpartition(":")[0] for source in sources})
            at = f"no worker has begun it; it is to come from {', '.join(tars)}"
        return (
            f"process {rank} has waited {self.stall_seconds:g} s for step {plan.step} of task {plan.task}: {at}; look "
            "at that file and its disk, or raise data.stall_seconds"
        )

    def state_dict(self) -> dict[str, Any]:
        """Primitives only, well under a kilobyte a task."""
        return {**self.mixture.state_dict(), "skipped": dict(self.skipped), "draws": self._draws()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches `state` counts; ConfigError where the mixture or how samples are drawn changed."""
        self.mixture.load_state_dict(state)
        own, other = self._draws(), state["draws"]
        if changed := sorted(name for name in {*own, *other} if own.get(name) != other.get(name)):
            listing = ", ".join(f"{name} (was {other.get(name)}, is {own.get(name)})" for name in changed)
            raise ConfigError(f"cannot go on exactly where the run stopped, samples are drawn otherwise: {listing}")
        self.skipped = Counter(state["skipped"])

    def _draws(self) -> dict[str, Any]:
        """What decides which sample a row becomes; neither workers nor memory are among it."""
        tasks = self.dataset.tasks
        draws = {f"tasks.{name}": _drawn(task) for name, task in tasks.items()}
        return {"skip_budget": self.dataset.skip_budget, **draws}


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


def _drawn(task: TaskData) -> str:
    reverse = f", {task.reverse_negatives} of the reverse" if task.reverse_negatives else ""
    return f"{task.options}, {task.negatives or 'no'} mined negatives{reverse}"
