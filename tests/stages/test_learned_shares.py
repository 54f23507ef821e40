"""Learned shares: their gradient against autograd through the average itself."""

from __future__ import annotations

import pytest
import torch

from commonspace.stages.learned_shares import LearnedShares

SHAPES = {"text.layer.0.weight": (4, 3), "text.layer.1.weight": (5,), "head.weight": (2, 2)}


def models(count: int) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [{name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()} for _ in range(count)]


@pytest.mark.parametrize("by_layer", [False, True])
def test_the_gradient_is_autograds(by_layer: bool) -> None:
    ingredients = models(3)
    shares = LearnedShares(list(SHAPES), 3, by_layer)
    with torch.no_grad():
        shares.logits_GN.copy_(torch.randn(shares.logits_GN.shape, generator=torch.Generator().manual_seed(1)))
    targets = models(5)[4]

    def loss_of(mixed: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(((mixed[name] - targets[name]) ** 3).sum() for name in SHAPES)

    logits = shares.logits_GN.detach().clone().requires_grad_()
    rows = logits.softmax(-1)
    place = dict(zip(SHAPES, range(3) if by_layer else (0, 0, 0), strict=True))
    whole = {n: sum(rows[place[n], i] * one[n] for i, one in enumerate(ingredients)) for n in SHAPES}
    loss_of(whole).backward()

    blended = dict(shares.blend().tensors(ingredients, ["a", "b", "c"]))
    for name in SHAPES:
        torch.testing.assert_close(blended[name], whole[name].detach())
    leaves = {name: tensor.requires_grad_() for name, tensor in blended.items()}
    loss_of(leaves).backward()
    shares.backward({name: leaf.grad for name, leaf in leaves.items()}, ingredients)
    torch.testing.assert_close(shares.logits_GN.grad, logits.grad, rtol=1e-4, atol=1e-4)


def test_equal_at_the_start() -> None:
    blend = LearnedShares(list(SHAPES), 4, by_layer=False).blend()
    assert blend.members == (0, 1, 2, 3) and blend.to_json()["shares"] == [0.25] * 4
    by_layer = LearnedShares(list(SHAPES), 2, by_layer=True).blend().to_json()["by_layer"]
    assert by_layer == {"text.layer.0": [0.5, 0.5], "text.layer.1": [0.5, 0.5], "head.weight": [0.5, 0.5]}
