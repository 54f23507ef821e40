"""What happens beside the steps: when dev is scored, which weights are averaged, how logs end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from commonspace.stages.callbacks import SNAPSHOTS, DevScores, WeightAverage, checkpoints, close, trained_tensors
from commonspace.stages.settings import StageSettings
from tests.models.tiny import tiny_embedder
from tests.stages.test_contrastive import make_stage


def at(step: int) -> SimpleNamespace:
    """A trainer that has taken so many steps."""
    return SimpleNamespace(global_step=step)


@pytest.mark.parametrize("every, steps, expected", [(4, 10, [4, 8]), (5, 10, [5]), (20, 7, [])])
def test_dev_is_scored_at_every_interval_but_the_last_step(every: int, steps: int, expected: list[int]) -> None:
    logged: dict[int, dict[str, float]] = {}
    now = 0
    stage = SimpleNamespace(
        steps=steps,
        bf16=True,
        embedder=None,
        log_now=lambda values: logged.update({now: values}),
        log=lambda *_, **__: None,
    )
    callback = DevScores(SimpleNamespace(scores=lambda _, bf16: {"mean": 0.5, "speech audio->text gap": 0.1}), every)
    for now in range(1, steps + 1):
        callback.on_train_batch_end(at(now), stage)
    assert list(logged) == expected
    assert all(values == {"dev/mean": 0.5, "dev/speech audio->text gap": 0.1} for values in logged.values())


def run(average: WeightAverage, stage, steps: int) -> None:
    """Weights become the number of the step."""
    for step in range(1, steps + 1):
        with torch.no_grad():
            for tensor in trained_tensors(stage).values():
                tensor.fill_(float(step))
        average.on_train_batch_end(at(step), stage)


def test_the_tail_is_the_mean_of_the_last_weights() -> None:
    stage = make_stage(tiny_embedder())
    average = WeightAverage(StageSettings("finetune", steps=100, average="tail", average_share=0.4), 100)
    run(average, stage, 100)
    average.apply(stage)
    taken = [100 - 5 * n for n in range(SNAPSHOTS)]
    expected = sum(taken) / SNAPSHOTS
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


def test_checkpoints_keep_the_latest_and_a_last(tmp_path) -> None:
    made = checkpoints(tmp_path, every=3, keep=2)
    assert (made.save_top_k, made.monitor, made.mode, made.save_last) == (2, "step", "max", True)
    assert made.dirpath == str(tmp_path)


def test_logs_are_ended_one_by_one() -> None:
    ended: list[str] = []
    close([SimpleNamespace(finalize=ended.append), SimpleNamespace(finalize=ended.append)])
    assert ended == ["success", "success"]
