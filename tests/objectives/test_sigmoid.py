from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from commonspace.objectives.sigmoid import PairBias, sigmoid_loss


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(F.normalize(torch.randn(2, 6, 8, generator=generator, dtype=torch.float64), dim=-1))


def test_equals_open_clip_without_duplicates(pairs):
    from open_clip.loss import SigLipLoss

    scale, bias = torch.tensor(10.0, dtype=torch.float64), torch.tensor(-10.0, dtype=torch.float64)
    reference = SigLipLoss()(*pairs, logit_scale=scale, logit_bias=bias)
    loss, report = sigmoid_loss(*pairs, temperature=0.1, bias=PairBias()())
    torch.testing.assert_close(loss, reference)
    assert report["negatives"] == 5


def test_equals_a_loop_with_masks_and_own_hard_negatives(pairs):
    query, positive = pairs
    negative = torch.randn(6, 2, 8, dtype=torch.float64)
    mask = torch.tensor([[1, 0], [1, 1], [0, 0], [1, 1], [0, 1], [1, 1]]).bool()
    ids = [1, 2, 1, 4, 5, 2]
    expected = 0.0
    for i in range(6):
        logit = [float(query[i] @ positive[j]) / 0.1 - 2 for j in range(6)]
        hard = [float(query[i] @ F.normalize(n, dim=-1)) / 0.1 - 2 for n in negative[i][mask[i]]]
        others = [logit[j] for j in range(6) if ids[i] != ids[j]]
        expected += math.log1p(math.exp(-logit[i])) + sum(math.log1p(math.exp(s)) for s in others + hard)
    loss, _ = sigmoid_loss(
        query, positive, negative, temperature=0.1, bias=-2.0, positive_ids=torch.tensor(ids), negative_mask_BK=mask
    )
    assert loss.item() == pytest.approx(expected / 6, abs=1e-10)


def test_gradients_stay_finite_at_a_tiny_temperature(pairs):
    query = pairs[0].float().requires_grad_()
    bias = PairBias()
    loss, _ = sigmoid_loss(query, pairs[1].float(), temperature=1e-6, bias=bias(), query_ids=torch.zeros(6))
    loss.backward()
    assert loss.isfinite() and query.grad.isfinite().all() and bias.bias.grad.isfinite()
