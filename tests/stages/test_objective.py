"""The loss a stage trains with is what its config says, put together from the plain functions."""

from __future__ import annotations

import pytest
import torch

from commonspace.errors import ConfigError
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.sigmoid import sigmoid_loss
from commonspace.objectives.sigmoid_options import SigmoidOptions
from commonspace.objectives.spread import spread_loss
from commonspace.stages.objective import Objective

NCE = {
    "name": "nce", "matryoshka": True, "matryoshka_weights": [0.5, 1.0], "reverse": True, "spread": 0.2,
    "same_tower": "query", "mask_margin": None, "hardness_alpha": 0.0, "hardness_on": "hard",
    "share_negatives": False, "classification": False, "chunk_rows": 2,
}  # fmt: skip
SIGMOID = {
    "name": "sigmoid", "matryoshka": True, "matryoshka_weights": None, "spread": 0.0, "bias": -2.0, "learn_bias": True,
    "chunk_rows": None,
}  # fmt: skip


@pytest.fixture
def vectors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 8), (5, 8), (5, 2, 8)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("task", ["both", "one"])
def test_nce_with_weights_spread_and_reverse(vectors, task):
    objective = Objective.of(NCE, (4, 8), ["both"])
    loss, report = objective(task, *vectors, temperature=0.1)
    expected = 0.0
    for size, weight in ((4, 0.5), (8, 1.0)):
        cut = [part[..., :size] for part in vectors]
        plain = bidirectional_nce if task == "both" else nce_loss
        part, _ = plain(*cut, temperature=0.1, options=NCEOptions(same_tower="query"))
        expected += weight * (part + 0.2 * spread_loss(*cut[:2])[0])
    torch.testing.assert_close(loss, expected)
    assert ("reverse/loss" in report) == (task == "both") and {"spread", "loss@4", "loss@8"} <= set(report)


def test_sigmoid_with_its_bias(vectors):
    objective = Objective.of(SIGMOID, (4, 8), ["both"])
    loss, _ = objective("both", *vectors, temperature=0.1)
    cuts = [[part[..., :size] for part in vectors] for size in (4, 8)]
    expected = sum(sigmoid_loss(*cut, temperature=0.1, bias=-2.0)[0] for cut in cuts)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert objective.bias.bias.grad != 0


def test_what_a_group_turns_off_is_off(vectors):
    off = {"matryoshka": False, "matryoshka_weights": None, "reverse": False, "spread": 0.0, "same_tower": "none"}
    loss, report = Objective.of(NCE | off, (4, 8), ["both"])("both", *vectors, temperature=0.1)
    torch.testing.assert_close(loss, nce_loss(*vectors, temperature=0.1)[0])
    assert not {"spread", "loss@4", "reverse/loss"} & set(report)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (NCE | {"name": "triplet"}, "name=triplet is no loss of this group; choose one of nce, sigmoid"),
        (NCE | {"bias": 0.0}, "unknown option bias of nce"),
        (SIGMOID | {"reverse": True}, "unknown option reverse of sigmoid"),
        (NCE | {"matryoshka": False}, "matryoshka_weights has no effect"),
        (NCE | {"classification": True, "same_tower": "none"}, "classification has no reverse, but both name one"),
    ],
)
def test_what_makes_no_sense_is_refused(group, message):
    with pytest.raises(ConfigError, match=message):
        Objective.of(group, (4, 8), ["both"])


def test_a_reverse_of_the_sigmoid_loss_is_refused():
    with pytest.raises(ConfigError, match="sigmoid has no reverse"):
        Objective(None, ["both"], SigmoidOptions())
