"""Averaging, clipping and the update act once a step, whatever made the gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from commonspace.errors import ConfigError
from commonspace.objectives.gradcache import cached_backward
from commonspace.objectives.nce import nce_loss
from commonspace.objectives.step import GradientStep

PAIRS = 6


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 4).double()


def batch(number: int) -> Tensor:
    return torch.randn(2 * PAIRS, 5, generator=torch.Generator().manual_seed(number), dtype=torch.float64)


def loss_fn(vectors_NE: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return nce_loss(*vectors_NE.chunk(2), temperature=0.1)


def backward(net: nn.Module, rows: Tensor, cached: bool) -> None:
    if cached:
        chunks = [list(range(4)), list(range(4, 2 * PAIRS))]
        cached_backward(lambda items: net(torch.stack(items)), list(rows), chunks, loss_fn)
    else:
        loss_fn(net(rows))[0].backward()


def by_hand(numbers: list[list[int]], clip: float | None) -> nn.Linear:
    """Steps of SGD on the mean loss of each list of batches, its gradient clipped by its norm."""
    net = model()
    for together in numbers:
        net.zero_grad()
        torch.stack([loss_fn(net(batch(number)))[0] for number in together]).mean().backward()
        gradients = [parameter.grad for parameter in net.parameters()]
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        scale = 1.0 if clip is None or norm <= clip else clip / norm
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= 0.5 * scale * gradient
    return net


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("clip", [None, 0.01, 1e9])
@pytest.mark.parametrize("together", [1, 2, 3])
def test_a_step_is_one_clipped_mean_of_its_batches(together, clip, cached):
    net = model()
    step = GradientStep(torch.optim.SGD(net.parameters(), lr=0.5), net.parameters(), clip_norm=clip, batches=together)
    norms = []
    for number in range(6):
        backward(net, batch(number), cached)
        norms.append(step())
    taken = [norm is not None for norm in norms]
    assert taken == [(number + 1) % together == 0 for number in range(6)]
    expected = by_hand([list(range(first, first + together)) for first in range(0, 6, together)], clip)
    for name, value in expected.state_dict().items():
        assert (net.state_dict()[name] - value).abs().max() < 1e-7, name  # clipping divides by the norm + 1e-6
    if clip == 0.01:
        assert all(norm > clip for norm in norms if norm is not None), "the clip must have had something to do"


def test_under_autocast_the_update_is_that_of_float32_gradients():
    """Mixed precision ends where the vectors leave the model: gradients are float32, and nothing rescales them."""
    net = model().float()
    step = GradientStep(torch.optim.SGD(net.parameters(), lr=0.5), net.parameters(), clip_norm=0.01)
    before = net.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = net(batch(0).float())
    assert vectors.dtype == torch.bfloat16
    loss_fn(vectors.float())[0].backward()
    gradient = net.weight.grad.clone()
    assert gradient.dtype == torch.float32
    norm = step()
    torch.testing.assert_close(net.weight, before - 0.5 * gradient * 0.01 / (norm + 1e-6))


def test_frozen_and_untouched_parameters_stay_where_they_are():
    net = nn.ModuleDict({"used": model(), "unused": model(), "frozen": model()}).requires_grad_(True)
    net["frozen"].requires_grad_(False)
    step = GradientStep(torch.optim.SGD(net.parameters(), lr=0.5), net.parameters(), batches=2)
    for number in range(2):
        backward(net["used"], batch(number), False)
        step()
    assert not torch.equal(net["used"].weight, model().weight)
    assert all(torch.equal(net[name].weight, model().weight) for name in ("unused", "frozen"))
    assert all(parameter.grad is None for parameter in net.parameters()) and step.pending == 0


def test_a_gradient_that_is_not_finite_stops_the_run():
    net = model()
    step = GradientStep(torch.optim.SGD(net.parameters(), lr=0.5), net.parameters())
    (net(batch(0)) / 0).sum().backward()
    with pytest.raises(RuntimeError, match="non-finite"):
        step()


@pytest.mark.parametrize("arguments", [{"batches": 0}, {"clip_norm": 0.0}, {"clip_norm": -1.0}])
def test_idle_settings_are_refused(arguments):
    net = model()
    with pytest.raises(ConfigError, match="at least 1"):
        GradientStep(torch.optim.SGD(net.parameters(), lr=0.5), net.parameters(), **arguments)
