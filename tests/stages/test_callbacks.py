"""What happens beside the steps: when dev is scored, which weights are averaged, how logs end."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from commonspace.errors import ConfigError
from commonspace.stages import callbacks
from commonspace.stages.callbacks import (
    SNAPSHOTS,
    DevScores,
    SameSteps,
    WeightAverage,
    require_same,
    trained_tensors,
)
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.settings import StageSettings
from tests.models.tiny import tiny_embedder
from tests.stages.test_contrastive import make_stage


def at(step: int) -> SimpleNamespace:
    """A trainer that has taken so many steps."""
    return SimpleNamespace(global_step=step)


def dev_of(scores: Callable[..., dict[str, float]]) -> SimpleNamespace:
    """Dev whose scores are known, and a space of one figure."""
    dev = SimpleNamespace(scores=scores, geometry={"hubness": 2.0})
    dev.logged = partial(DevRetrieval.logged, dev)
    return dev


@pytest.mark.parametrize("every, steps, expected", [(4, 10, [4, 8]), (5, 10, [5]), (20, 7, [])])
def test_dev_is_scored_at_every_interval_but_the_last_step(every: int, steps: int, expected: list[int]) -> None:
    logged: dict[int, dict[str, float]] = {}
    now = 0
    stage = SimpleNamespace(
        steps=steps,
        bf16=True,
        pending=0,
        group=None,
        embedder=None,
        log_now=lambda values: logged.update({now: values}),
        log=lambda *_, **__: None,
    )
    callback = DevScores(dev_of(lambda _, bf16, group: {"mean": 0.5, "speech audio->text gap": 0.1}), every)
    for now in range(1, steps + 1):
        callback.on_train_batch_end(at(now), stage)
    assert list(logged) == expected
    found = {"dev/mean": 0.5, "dev/speech audio->text gap": 0.1, "geometry/hubness": 2.0}
    assert all(values == found for values in logged.values())


@pytest.mark.parametrize("first, reached, expected", [(True, 0, [0]), (False, 0, []), (True, 4, [])])
def test_what_a_stage_starts_from_is_scored_once_where_asked(first: bool, reached: int, expected: list[int]) -> None:
    stage, scored = SimpleNamespace(steps=10, bf16=False, group=None, embedder=None, log_now=lambda values: None), []
    dev = dev_of(lambda _, bf16, group: scored.append(reached) or {"mean": 0.25})
    DevScores(dev, 0, first).on_train_start(at(reached), stage)
    assert scored == expected
    assert not expected or stage.dev_scored == (0, 0.25)


def test_without_intervals_no_step_is_scored() -> None:
    callback = DevScores(SimpleNamespace(scores=lambda *_, **__: pytest.fail("scored")), 0)
    for step in range(1, 11):
        callback.on_train_batch_end(at(step), SimpleNamespace(steps=10))


def compare(monkeypatch: pytest.MonkeyPatch, first: dict, second: dict) -> None:
    """What the first of two processes finds."""
    theirs: list[torch.Tensor] = []
    monkeypatch.setattr(callbacks, "gather_rows", lambda rows, group: theirs.append(rows) or rows)
    require_same(second, None)
    monkeypatch.setattr(callbacks, "gather_rows", lambda rows, group: torch.cat([rows, theirs.pop(0)]))
    require_same(first, None)


def test_processes_that_would_part_are_told_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"steps": 10, "done": 4, "tasks.speech": "48 records"}
    compare(monkeypatch, plan, dict(plan))
    with pytest.raises(ConfigError, match=r"processes \[1\] .*: steps: 10, tasks.speech: 48 records; give all"):
        compare(monkeypatch, plan, {**plan, "steps": 9, "tasks.speech": "47 records"})
    with pytest.raises(ConfigError, match="done, steps, tasks.speech"):
        compare(monkeypatch, plan, {"steps": 10, "done": 4})


def test_what_is_compared_is_all_that_decides_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict] = []
    monkeypatch.setattr(callbacks, "require_same", lambda values, *_: told.append(values))
    data = SimpleNamespace(state_dict=lambda: {"step": 4, "mixture": {"seed": 1, "tasks.speech": "48 records"}})
    stage = SimpleNamespace(steps=10, bf16=False, group=None, device=None)
    SameSteps().on_train_start(SimpleNamespace(datamodule=data), stage)
    assert told == [{"steps": 10, "bf16": False, "done": 4, "seed": 1, "tasks.speech": "48 records"}]


def run(average: WeightAverage, stage, steps: int) -> None:
    """Weights become the number of the step."""
    for step in range(1, steps + 1):
        with torch.no_grad():
            for tensor in trained_tensors(stage).values():
                tensor.fill_(float(step))
        average.on_train_batch_end(at(step), stage)


@pytest.mark.parametrize(
    "steps, share, every", [(100, 0.4, 5), (60, 0.25, 2), (150, 0.25, 5), (182, 0.25, 6), (8, 0.25, 1)]
)
def test_the_tail_is_the_mean_of_its_whole_share(steps: int, share: float, every: int) -> None:
    stage = make_stage(tiny_embedder())
    average = WeightAverage(StageSettings("finetune", steps=steps, average="tail", average_share=share), steps)
    run(average, stage, steps)
    average.apply(stage)
    taken = range(steps, steps - math.ceil(share * steps), -every)
    assert len(taken) <= SNAPSHOTS
    expected = sum(taken) / len(taken)
    assert all(torch.allclose(t, torch.full_like(t, expected)) for t in trained_tensors(stage).values())


def test_an_average_that_is_saved_goes_on_where_it_was() -> None:
    settings = StageSettings("finetune", steps=10, average="ema", average_decay=0.5)
    stages = [make_stage(tiny_embedder()) for _ in range(2)]
    whole, first, second = (WeightAverage(settings, 10) for _ in range(3))
    run(whole, stages[0], 6)
    run(first, stages[1], 5)
    second.load_state_dict(first.state_dict())
    second.on_train_batch_end(at(6), stages[0])  # whose weights are those of step 6
    for average, stage in ((whole, stages[0]), (second, stages[1])):
        average.apply(stage)
    assert all(torch.equal(a, b) for a, b in zip(*(trained_tensors(stage).values() for stage in stages), strict=True))


def test_only_what_trains_is_averaged() -> None:
    stage = make_stage(tiny_embedder(), freeze=("words", "text"))
    names = set(trained_tensors(stage))
    assert "head.weight" in names and not any(name.startswith("backbone.text.") for name in names)
