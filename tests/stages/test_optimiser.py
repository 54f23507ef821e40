"""Rates over the steps: by closed forms, and for groups that wait while new parts settle."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from commonspace.stages.optimiser import make_optimiser
from commonspace.stages.settings import SCHEDULES, StageSettings
from tests.models.tiny import tiny_embedder

STEPS, RISEN = 20, 2


def rates(**options) -> list[dict[str, float]]:
    """At each step, the rate of the head and of the transformer's last layer as shares of their full rates."""
    settings = StageSettings("finetune", steps=STEPS, learning_rate=1e-3, new_learning_rate=1e-2, **options)
    embedder = tiny_embedder()
    optimiser, schedule = make_optimiser(embedder, settings, STEPS)
    wanted = {"new": embedder.head.weight, "pretrained": embedder.backbone.layers()[-1].output.dense.weight}
    found = []
    for _ in range(STEPS):
        group_of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
        full = {"new": 1e-2, "pretrained": 1e-3}
        found.append({name: group_of[id(p)]["lr"] / full[name] for name, p in wanted.items()})
        optimiser.step()
        schedule.step()
    return found


def falls(shape: Callable[[float], float]) -> list[float]:
    """A rise over the first steps, none of them at 0, and then a shape of how much of the rest is over."""
    rise = [(step + 1) / (RISEN + 1) for step in range(RISEN)]
    return rise + [shape((step - RISEN) / (STEPS - RISEN)) for step in range(RISEN, STEPS)]


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"schedule": "constant"}, falls(lambda _: 1.0)),
        ({"schedule": "linear"}, falls(lambda share: 1 - share)),
        ({"schedule": "cosine"}, falls(half_cosine)),
        ({"schedule": "cosine", "schedule_floor": 0.2}, falls(lambda share: 0.2 + 0.8 * half_cosine(share))),
        ({"schedule": "inverse_sqrt"}, falls(lambda share: math.sqrt(3 / (share * 18 + 3)))),
        (
            {"schedule": "warmup_stable_decay", "schedule_decay": 0.25},
            falls(lambda share: half_cosine(max(0.0, (share * 18 + 2 - 15) / 5))),
        ),
    ],
)
def test_rates_rise_and_fall_as_asked(options, expected) -> None:
    found = [step["new"] for step in rates(warmup=0.1, **options)]
    assert found == pytest.approx(expected, abs=1e-9)


def test_every_schedule_is_known_and_moves_from_the_first_step_on() -> None:
    for schedule in SCHEDULES:
        found = [step["new"] for step in rates(warmup=0.1, schedule=schedule)]
        assert found[0] > 0 and max(found) == pytest.approx(1), schedule
        assert next(step["new"] for step in rates(warmup=0.0, schedule=schedule)) == pytest.approx(1), schedule


def test_what_is_pretrained_waits_and_then_rises_by_itself() -> None:
    found = rates(warmup=0.1, settle=0.25, schedule="linear")
    waits = [step["pretrained"] for step in found]
    assert waits[:5] == [0.0] * 5 and waits[5:8] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert waits[8:] == pytest.approx([1 - (step - 7) / 13 for step in range(8, 20)])
    assert [step["new"] for step in found] == pytest.approx(falls(lambda share: 1 - share))


def test_a_saved_schedule_goes_on_where_it_was() -> None:
    settings, embedder = StageSettings("finetune", steps=STEPS, settle=0.25), tiny_embedder()
    made = [make_optimiser(embedder, settings, STEPS) for _ in range(2)]
    (first, there), (second, again) = made
    for _ in range(9):
        first.step()
        there.step()
    second.load_state_dict(first.state_dict())
    again.load_state_dict(torch.load(_saved(there.state_dict()), weights_only=True))
    for _ in range(11):
        assert [g["lr"] for g in first.param_groups] == [g["lr"] for g in second.param_groups]
        for optimiser, schedule in made:
            optimiser.step()
            schedule.step()


def _saved(state: dict):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("own, expected", [(None, 1e-2), (0.3, 0.3)])
def test_learned_temperatures_have_a_rate_of_their_own(own: float | None, expected: float) -> None:
    """One of them moves by it in a step of Adam, whatever the gradient; its default is that of new parts."""
    settings = StageSettings(
        "finetune", steps=STEPS, new_learning_rate=1e-2, temperature_learning_rate=own, warmup=0.0, schedule="constant"
    )
    logarithm = torch.nn.Parameter(torch.tensor(1.0))
    optimiser, _ = make_optimiser(tiny_embedder(), settings, STEPS, [logarithm])
    logarithm.grad = torch.tensor(7.0)
    optimiser.step()
    assert float(1 - logarithm.detach()) == pytest.approx(expected, rel=1e-4)
