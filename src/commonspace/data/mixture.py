"""Which task and which records make up each training step: a pure function of the configuration and the step's number.

Nothing is drawn from a stream of random numbers that would have to be wound back: `Mixture.plan(step)` seeds a new
generator for the task, the epoch and the window it needs. To resume is to start counting at another number, whatever
the number of workers; with several ranks each plans the same global batch and takes its own slice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from commonspace.data.batching import spread_order, window_batches
from commonspace.errors import ConfigError

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class TaskPlan:
    """What the mixture has to know of one task.

    length       records to draw from
    batch_size   samples of a global batch, all ranks together
    rate         share of the steps, relative to the other tasks; None where `Mixture` has a `temperature`
    reverse      the objective is also taken target to query; handed through to the batch
    tokens       int [length], rough length of each record; None: batches are not sorted by length
    concepts     int [length], equal where records say the same thing and should not meet in a batch; None: all differ
    bucket       batches are cut from this many batches' worth of records sorted by length; 1 does not sort
    fingerprint  identifies the data, so that a run cannot resume on other data unnoticed
    """

    name: str
    length: int
    batch_size: int
    rate: float | None = 1.0
    reverse: bool = False
    tokens: np.ndarray | None = None
    concepts: np.ndarray | None = None
    bucket: int = 16
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for name in ("tokens", "concepts"):
            values = getattr(self, name)
            if values is not None and len(values) != self.length:
                raise ConfigError(f"task {self.name}: {len(values)} {name} for {self.length} records")
        checks = {
            "has no records; build its shards or take it out": self.length > 0,
            f"batch_size must be at least 1, not {self.batch_size}": self.batch_size >= 1,
            f"has {self.length} records, too few for one batch of {self.batch_size}; lower its batch_size": (
                self.length >= self.batch_size
            ),
            f"rate must be above 0, not {self.rate}; take the task out instead": self.rate is None or self.rate > 0,
            f"bucket must be at least 1, not {self.bucket}": self.bucket >= 1,
        }
        for message, holds in checks.items():
            if not holds:
                raise ConfigError(f"task {self.name}: {message}")

    @property
    def batches(self) -> int:
        """Batches of one epoch; what is left over by the division sits that epoch out."""
        return self.length // self.batch_size


@dataclass(frozen=True, eq=False)
class StepPlan:
    """One step, or one of its sub-batches: rows of one task's records and the seed of every draw.

    indices      rows of this rank; `all_indices` those of all ranks
    epochs       how often the run has been through the task's records once this is trained on, 1.5: once and a half
    others       plans of the step's further sub-batches
    """

    step: int
    task: str
    epoch: int
    indices: np.ndarray
    all_indices: np.ndarray
    seed: int
    reverse: bool = False
    epochs: float = 0.0
    others: tuple[StepPlan, ...] = ()


class Mixture:
    """Steps over several tasks: each batch of one task, tasks at their rates, records without repeat in an epoch.

    temperature  None: tasks bring rates. A number T: the samples drawn from a task are proportional to
                 length ** (1 / T), so 1 is in proportion to size and a large T gives every task the same.
    sub_batches  a step draws so many tasks, one of them perhaps twice, and takes that share of each one's batch_size:
                 sub-batches of one task each that meet in one batch (VLM2Vec-V2, 2507.04590). 1: a batch has one task
    Iterating yields the plans that are left, and counts them; `state_dict` holds that count.
    Raises `ConfigError` for a mixture that cannot be trained on and for a state of another mixture.
    """

    def __init__(
        self,
        tasks: Sequence[TaskPlan],
        *,
        seed: int,
        steps: int,
        temperature: float | None = None,
        sub_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.asked = {task.name: task.batch_size for task in tasks}
        self.seed, self.steps, self.rank, self.world_size = seed, steps, rank, world_size
        self.sub_batches, self.step = sub_batches, 0
        if not tasks or len(self.asked) != len(tasks):
            raise ConfigError(f"a mixture needs tasks, each name once; got {[task.name for task in tasks]}")
        if steps < 1 or sub_batches < 1 or not 0 <= rank < world_size:
            numbers = f"steps={steps}, sub_batches={sub_batches}, rank={rank}, world_size={world_size}"
            raise ConfigError(f"{numbers} make no mixture")
        tasks = [_share_of(task, sub_batches, world_size) for task in tasks]
        self.tasks = {task.name: task for task in tasks}
        self.shares = _shares(tasks, temperature)
        # Of low discrepancy: even a short run keeps to the rates, and a longer one starts with the same draws.
        draws = (np.random.default_rng([seed, 0]).random() + _GOLDEN * np.arange(steps * sub_batches)) % 1
        self._choice = np.searchsorted(np.cumsum(self.shares)[:-1], draws, side="right").astype(np.int32)
        self._turns = _count_before(self._choice, len(tasks))
        self._orders: dict[str, tuple[int, np.ndarray]] = {}
        self._windows: dict[str, tuple[int, int, list[np.ndarray]]] = {}

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[StepPlan]:
        while self.step < self.steps:
            self.step += 1
            yield self.plan(self.step - 1)

    def plan(self, step: int) -> StepPlan:
        """The plan of one step, 0 to steps - 1; the same whenever and wherever it is asked for."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside 0..{self.steps - 1}")
        first, *others = (self._sub_plan(step, number) for number in range(self.sub_batches))
        return replace(first, others=tuple(others)) if others else first

    def _sub_plan(self, step: int, number: int) -> StepPlan:
        """The plan of one sub-batch of a step; draws of the first are those of a step that is not divided."""
        place = step * self.sub_batches + number
        task = list(self.tasks.values())[self._choice[place]]
        epoch, turn = divmod(int(self._turns[place]), task.batches)
        rows = self._window(task, epoch, turn // task.bucket)[turn % task.bucket]
        own = task.batch_size // self.world_size
        indices = rows[self.rank * own : (self.rank + 1) * own]
        seed = _seed(self.seed, "step", step, *([number] if number else []))
        epochs = epoch + (turn + 1) / task.batches
        return StepPlan(step, task.name, epoch, indices, rows, seed, task.reverse, epochs)

    def _window(self, task: TaskPlan, epoch: int, window: int) -> list[np.ndarray]:
        """The batches cut from one stretch of an epoch's order, sorted by length inside that stretch."""
        kept = self._windows.get(task.name)
        if kept and kept[:2] == (epoch, window):
            return kept[2]
        rows = self._order(task, epoch)[window * task.bucket * task.batch_size :][: task.bucket * task.batch_size]
        rng = np.random.default_rng([_seed(self.seed, task.name, epoch), window])
        batches = window_batches(rows, task.batch_size, task.tokens, task.concepts, rng)
        self._windows[task.name] = (epoch, window, batches)
        return batches

    def _order(self, task: TaskPlan, epoch: int) -> np.ndarray:
        kept = self._orders.get(task.name)
        if kept and kept[0] == epoch:
            return kept[1]
        rng = np.random.default_rng(_seed(self.seed, task.name, epoch))
        order = spread_order(task.length, task.concepts, rng)[: task.batches * task.batch_size]
        self._orders[task.name] = (epoch, order)
        return order

    def schedule(self, steps: int | None = None) -> list[dict[str, Any]]:
        """What each task gets out of the first `steps` steps (all by default): steps, share, samples, epochs."""
        counts = np.bincount(self._choice[: (steps or self.steps) * self.sub_batches], minlength=len(self.tasks))
        return [
            {
                "task": task.name,
                "records": task.length,
                "batch_size": self.asked[task.name],
                "share": float(share),
                "steps": int(count) if self.sub_batches == 1 else int(count) / self.sub_batches,
                "samples": int(count) * task.batch_size,
                "epochs": int(count) / task.batches,
            }
            for task, share, count in zip(self.tasks.values(), self.shares, counts, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """The number of steps consumed, and what must be equal for that number to mean the same: primitives only."""
        return {"step": self.step, "mixture": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after `state["step"]` steps; ConfigError where the mixture is not the one the state came from."""
        own, other = self._identity(), state["mixture"]
        if changed := sorted(key for key in {*own, *other} if own.get(key) != other.get(key)):
            listing = ", ".join(f"{key} (was {other.get(key)}, is {own.get(key)})" for key in changed)
            raise ConfigError(f"cannot go on exactly where the run stopped, the mixture changed: {listing}")
        if not 0 <= state["step"] <= self.steps:
            raise ConfigError(f"the run stopped after {state['step']} steps, this one has only {self.steps}")
        self.step = int(state["step"])

    def _identity(self) -> dict[str, Any]:
        """Everything `plan` depends on but the number of steps: a longer run may go on from a shorter one."""
        values: dict[str, Any] = {"seed": self.seed}
        if self.sub_batches > 1:
            values["sub_batches"] = self.sub_batches
        for task, share in zip(self.tasks.values(), self.shares, strict=True):
            digest = hashlib.blake2b(digest_size=8)
            for column in (task.tokens, task.concepts):
                digest.update(b"-" if column is None else np.ascontiguousarray(column).tobytes())
            values[f"tasks.{task.name}"] = (
                f"{task.length} records in batches of {task.batch_size}, share {share:.6g}, bucket {task.bucket}, "
                f"data {task.fingerprint[:12]}/{digest.hexdigest()}"
            )
        return values


def _share_of(task: TaskPlan, sub_batches: int, world_size: int) -> TaskPlan:
    """A task whose batches are one sub-batch each; ConfigError where its batch cannot be divided evenly."""
    if task.batch_size % (sub_batches * world_size):
        parts = " times ".join(
            f"{count} {name}" for count, name in ((sub_batches, "sub-batches"), (world_size, "processes")) if count > 1
        )
        raise ConfigError(f"task {task.name}: batch_size {task.batch_size} cannot be split over {parts}")
    return replace(task, batch_size=task.batch_size // sub_batches) if sub_batches > 1 else task


def _shares(tasks: Sequence[TaskPlan], temperature: float | None) -> np.ndarray:
    """Probability of each task at a step, [tasks]."""
    if temperature is None:
        if missing := [task.name for task in tasks if task.rate is None]:
            raise ConfigError(f"no rate for {', '.join(missing)}; give each task one, or set a sampling temperature")
        weights = np.array([task.rate for task in tasks], dtype=np.float64)
    else:
        if temperature <= 0:
            raise ConfigError(f"a sampling temperature is above 0, not {temperature}")
        if given := [task.name for task in tasks if task.rate is not None]:
            raise ConfigError(f"a sampling temperature leaves the rates of {', '.join(given)} without effect; drop one")
        lengths = np.array([task.length for task in tasks], dtype=np.float64)
        weights = lengths ** (1 / temperature) / np.array([task.batch_size for task in tasks])
    return weights / weights.sum()


def _count_before(choice: np.ndarray, tasks: int) -> np.ndarray:
    """For each step, how many earlier steps had the same task."""
    turns = np.empty(len(choice), dtype=np.int64)
    for task in range(tasks):
        places = np.flatnonzero(choice == task)
        turns[places] = np.arange(len(places))
    return turns


def _seed(*parts: int | str) -> int:
    """A 63-bit seed from names and numbers, the same on every machine."""
    text = "\x00".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
