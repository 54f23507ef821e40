"""Mixtures by medium: who counts to which, what is left out, and that draws are those of a Dirichlet."""

from __future__ import annotations

import numpy as np
import pytest

from commonspace.data.rates import dirichlet, medium_of, mixed, shares, without
from commonspace.errors import ConfigError

TASKS = {
    "caption": {"direction": "image -> text", "rate": 3.0},
    "stamp": {"direction": "image+text -> text", "rate": 1.0},
    "speech": {"direction": "audio -> text", "rate": 2.0},
    "code": {"direction": "text -> code", "rate": 1.0},
    "idle": {"direction": "video -> text", "rate": 0.0},
}
DATA = {"tasks": TASKS, "without": [], "without_rest": False, "dirichlet": None, "concentration": 1.0}


@pytest.mark.parametrize(
    "direction, medium",
    [
        ("text -> text", "text"), ("text -> code", "text"), ("image+text -> text", "image"),
        ("text -> document", "document"),
        ("audio -> text", "audio"), ("video -> audio", "video"), ("image -> image", "image"),
    ],
)  # fmt: skip
def test_the_medium_of_a_task(direction: str, medium: str) -> None:
    assert medium_of(direction) == medium


def test_shares_and_what_is_left_without_a_medium() -> None:
    assert shares(TASKS) == {"audio": 2 / 7, "image": 4 / 7, "text": 1 / 7}
    left = without(TASKS, ["image"])
    assert {name: task["rate"] for name, task in left.items()} == {
        "caption": 0.0, "stamp": 0.0, "speech": 2.0, "code": 1.0, "idle": 0.0
    }  # fmt: skip
    assert TASKS["caption"]["rate"] == 3.0


def test_the_rest_sees_as_much_as_before() -> None:
    data, stage = mixed({**DATA, "without": ["image"], "without_rest": True}, {"steps": 70, "token_budget": None})
    assert stage == {"steps": 30, "token_budget": None} and shares(data["tasks"]) == {"audio": 2 / 3, "text": 1 / 3}
    _, same = mixed({**DATA, "without": ["image"]}, {"steps": 70, "token_budget": None})
    assert same["steps"] == 70


def test_draws_are_a_dirichlets_and_keep_ratios_within_a_medium() -> None:
    found = []
    for draw in range(400):
        drawn = dirichlet(TASKS, draw, 1.0)
        assert drawn["caption"]["rate"] == pytest.approx(3 * drawn["stamp"]["rate"]) and drawn["idle"]["rate"] == 0.0
        assert sum(task["rate"] for task in drawn.values()) == pytest.approx(7.0)
        found.append(list(shares(drawn).values()))
    means, variances = np.mean(found, axis=0), np.var(found, axis=0)
    np.testing.assert_allclose(means, 1 / 3, atol=0.04)
    np.testing.assert_allclose(variances, (1 / 3) * (2 / 3) / 4, atol=0.012)  # of Dirichlet(1, 1, 1)
    assert dirichlet(TASKS, 5, 1.0) == dirichlet(TASKS, 5, 1.0) != dirichlet(TASKS, 6, 1.0)


def test_what_leaves_nothing_or_names_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="video is no medium of a task that is drawn; those are audio, image, text"):
        without(TASKS, ["video"])
    with pytest.raises(ConfigError, match="leaves no task"):
        without(TASKS, ["image", "audio", "text"])
    with pytest.raises(ConfigError, match="of one medium"):
        dirichlet({"code": TASKS["code"]}, 1, 1.0)
    with pytest.raises(ConfigError, match="names no medium"):
        medium_of("any -> any")
