"""The mixture as a LightningDataModule: shards found, batches made, position saved with every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from commonspace.data.batch import Batch
from commonspace.data.encoding import Processing, TaskOptions
from commonspace.data.loader import MixtureDataset, MixtureLoader, TaskData
from commonspace.data.mixture import Mixture, StepPlan, TaskPlan
from commonspace.data.negatives import NegativeLists, list_file, read_negatives
from commonspace.data.shards import ShardReader
from commonspace.data.storage import RemoteFolder, place
from commonspace.errors import ConfigError, DataError

__all__ = ["Batch", "CommonspaceDataModule"]


class CommonspaceDataModule(pl.LightningDataModule):
    """Training batches of several tasks, and the readers of their dev splits.

    root            folder of a tier's shards, <data>/<tier>; or where they lie elsewhere, a URL that fsspec reads
    tasks           {name: {"batch_size", "rate", "prompt", "reverse", "swap"}}; a rate of 0 leaves the task out
    processor       contents to pieces; it must pickle when there are workers
    steps           length of the run; or None with
    token_budget    tokens (queries, positives and negatives, as processed) to train on, turned into steps by
                    measuring `probes` samples a task; `steps` holds the result after `setup`
    workers         decoding processes; 0: decode in the training process
    bucket          batches are cut from this many batches' worth of samples sorted by length
    soundtrack      False: clips without their sound
    prefix_dropout  None: no prefixes; p: a text-only query loses its prefix with probability p
    canonical       probability of a record's first variant (see encoding.py)
    negatives       folder written by mining, tasks without a file there go without; None: only what shards carry
    negative_count  hard negatives a sample carries, at most
    reverse_negatives  a task that names its reverse also takes the lists mined in that direction, where there are some
    spread_concepts  a batch has as few records of one concept as can be; False: as they are drawn, and repeats are left
                    to equation 3's mask
    skip_budget     consecutive bad samples before training stops
    memory          megabytes of records and processed contents each worker keeps, for runs of many epochs
    stall_seconds   how long one batch may take before the record it waits for is named (see loader.py); None: for ever
    limit           use only the first so many records of a task
    shrink          a task with fewer records than its batch_size: True takes all of them for a batch (`shrunk` names
                    such tasks), False refuses
    temperature     samples by size of the task instead of by rate (see mixture.py)
    sub_batches     tasks that meet in one batch, each with its share of its batch_size (see mixture.py)

    Raises `ConfigError` or `DataError` in `setup` for what could not be trained on.
    """

    def __init__(
        self,
        root: str | Path | RemoteFolder,
        tasks: Mapping[str, Mapping[str, Any]],
        processor: Processing,
        *,
        seed: int,
        steps: int | None = None,
        token_budget: int | None = None,
        workers: int = 0,
        bucket: int = 16,
        prefix_dropout: float | None = None,
        soundtrack: bool = True,
        canonical: float = 0.5,
        negatives: str | Path | RemoteFolder | None = None,
        negative_count: int = 1,
        reverse_negatives: bool = False,
        spread_concepts: bool = True,
        skip_budget: int = 16,
        memory: int = 0,
        stall_seconds: float | None = None,
        limit: int | None = None,
        shrink: bool = False,
        temperature: float | None = None,
        sub_batches: int = 1,
        probes: int = 32,
    ) -> None:
        super().__init__()
        if (steps is None) == (token_budget is None):
            raise ConfigError("give exactly one of steps and token_budget")
        self.root, self.processor, self.seed, self.steps = place(root), processor, seed, steps
        self.task_configs = {name: dict(task) for name, task in tasks.items() if task.get("rate") != 0}
        self.token_budget, self.workers, self.bucket, self.probes = token_budget, workers, bucket, probes
        self.soundtrack = soundtrack
        self.prefix_dropout, self.canonical, self.skip_budget = prefix_dropout, canonical, skip_budget
        self.negatives = place(negatives) if negatives is not None else None
        self.memory, self.sub_batches, self.stall_seconds = memory, sub_batches, stall_seconds
        self.negative_count, self.limit, self.temperature = negative_count, limit, temperature
        self.reverse_negatives, self.spread_concepts = reverse_negatives, spread_concepts
        self.shrink = shrink
        self.data: dict[str, TaskData] = {}
        self.plans: list[TaskPlan] = []
        self.shrunk: dict[str, tuple[int, int]] = {}
        self.tokens_per_sample: dict[str, float] = {}
        self._loader: MixtureLoader | None = None
        self._state: dict[str, Any] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open the shards; with a token budget, measure what a step costs. Does nothing the second time."""
        if self.data:
            return
        if self.negatives and not any((self.negatives / f"{name}.parquet").exists() for name in self.task_configs):
            raise DataError(f"{self.negatives}: holds no negatives; run `commonspace mine`, or set negatives=null")
        for name, config in self.task_configs.items():
            self.data[name] = self._open(name, config)
            self.plans.append(self._plan(name, config))
        if self.reverse_negatives and not any(data.reverse_negatives for data in self.data.values()):
            raise DataError(
                f"{self.negatives}: no task that names its reverse has TASK.reverse.parquet; run `commonspace mine "
                "directions=[forward,reverse]`, or set reverse_negatives=false"
            )
        self.dataset = MixtureDataset(self.data, self.processor, skip_budget=self.skip_budget, memory=self.memory)
        if self.steps is None:
            self._measure()
            self.steps = max(1, round(self.token_budget / self.tokens_per_batch()))

    def _open(self, name: str, config: Mapping[str, Any]) -> TaskData:
        reader = ShardReader(self.root / name, "train")
        prompt = config.get("prompt") if self.prefix_dropout is not None else None
        if prompt is not None:
            first = reader.read(0)
            asked = first.positives if config.get("swap") else first.queries
            if not asked[0].content.is_text:
                raise ConfigError(f"task {name}: only text-only queries take a prefix; set its prompt to null")
        options = TaskOptions(
            prompt=prompt,
            prefix_dropout=self.prefix_dropout if prompt is not None else 0.0,
            canonical=self.canonical,
            negatives=self.negative_count,
            soundtrack=self.soundtrack,
            swap=bool(config.get("swap")),
        )
        mined = self._mined(reader, "forward")
        reverse = self._mined(reader, "reverse") if self.reverse_negatives and config.get("reverse") else None
        return TaskData(reader, options, mined, self.limit, reverse)

    def _mined(self, reader: ShardReader, direction: str) -> NegativeLists | None:
        """A task's lists of one direction; None where it was not mined."""
        path = self.negatives / list_file(reader.task, direction) if self.negatives else None
        return read_negatives(path, reader) if path is not None and path.exists() else None

    def _plan(self, name: str, config: Mapping[str, Any]) -> TaskPlan:
        data = self.data[name]
        concepts = data.reader.column("concept")[: data.length].astype(str) if self.spread_concepts else None
        return TaskPlan(
            name=name,
            length=data.length,
            batch_size=self._batch_size(name, int(config["batch_size"]), data.length),
            rate=config.get("rate") if self.temperature is None else None,
            reverse=bool(config.get("reverse", False)),
            tokens=data.reader.column("tokens")[: data.length],
            concepts=None if concepts is None else np.unique(concepts, return_inverse=True)[1].astype(np.int32),
            bucket=self.bucket,
            fingerprint=data.reader.fingerprint,
        )

    def _batch_size(self, name: str, asked: int, records: int) -> int:
        """The size asked for, or, where `shrink` lets it, all the records there are; of one nothing can be learnt."""
        if not self.shrink or records >= asked:
            return asked
        if records < 2:
            raise DataError(
                f"{self.root / name}: {records} record to train on, and a batch needs a wrong target beside the right "
                "one; add pairs of other concepts (the split goes by concept)"
            )
        self.shrunk[name] = (asked, records)
        return records

    def _measure(self) -> None:
        """Fill `tokens_per_sample` by the processed length of a few samples of each task."""
        for plan in self.plans:
            rows = np.random.default_rng(self.seed).permutation(plan.length)[: self.probes]
            batch = self.dataset.batch(StepPlan(0, plan.name, 0, rows, rows, self.seed))
            self.tokens_per_sample[plan.name] = batch.tokens / len(rows)

    def tokens_per_batch(self) -> float:
        """Tokens of a batch, mean over tasks: measured where there is a budget, else the shards' estimates."""
        self.setup()
        shares = Mixture(self.plans, seed=self.seed, steps=1, temperature=self.temperature).shares
        each = self.tokens_per_sample or {plan.name: float(np.mean(plan.tokens)) for plan in self.plans}
        return sum(share * plan.batch_size * each[plan.name] for plan, share in zip(self.plans, shares, strict=True))

    def train_dataloader(self) -> MixtureLoader:
        """The loader, standing where the restored checkpoint left off."""
        trainer = self.trainer
        self._loader = self.loader(trainer.global_rank if trainer else 0, trainer.world_size if trainer else 1)
        return self._loader

    def loader(self, rank: int = 0, world_size: int = 1) -> MixtureLoader:
        """Batches of one rank; for loops without a trainer."""
        self.setup()
        mixture = self._mixture(rank=rank, world_size=world_size)
        loader = MixtureLoader(self.dataset, mixture, workers=self.workers, stall_seconds=self.stall_seconds)
        if self._state is not None:
            loader.load_state_dict(self._state)
        return loader

    def schedule(self) -> list[dict[str, Any]]:
        """What each task gets out of the run: see `Mixture.schedule`."""
        self.setup()
        return self._mixture().schedule()

    def _mixture(self, **ranks: int) -> Mixture:
        options = {"temperature": self.temperature, "sub_batches": self.sub_batches, **ranks}
        return Mixture(self.plans, seed=self.seed, steps=self.steps, **options)

    @property
    def skipped(self) -> dict[str, int]:
        """Samples of each task that could not be used so far, those before a restart included; no task without any."""
        counts = self._loader.skipped if self._loader is not None else {}
        return {name: count for name, count in counts.items() if count}

    def state_dict(self) -> dict[str, Any]:
        """Where the mixture stands; saved by Lightning with each checkpoint. Primitives only."""
        if self._loader is not None:
            return self._loader.state_dict()
        return self._state or {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the position for the loader that is made next; ConfigError there if the mixture changed."""
        self._state = dict(state_dict) or None
