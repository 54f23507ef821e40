from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from commonspace.errors import ConfigError
from commonspace.objectives.sigmoid import PairBias, sigmoid_loss
from commonspace.objectives.sigmoid_options import SigmoidOptions


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


@pytest.mark.parametrize("chunk_rows", [1, 4, 6, 64])
def test_chunked_equals_whole(pairs, chunk_rows):
    results = []
    for chunk in (None, chunk_rows):
        query, positive = (side.clone().requires_grad_() for side in pairs)
        negative = torch.randn(
            6, 2, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        ).requires_grad_()
        bias = PairBias(-2.0).double()
        temperature = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        ids = {"positive_ids": torch.tensor([1, 2, 1, 4, 5, 2])}
        loss, report = sigmoid_loss(
            query, positive, negative, temperature=temperature, bias=bias(), chunk_rows=chunk, **ids
        )
        gradients = torch.autograd.grad(loss, [query, positive, negative, temperature, bias.bias])
        assert all(gradient.norm() > 0 for gradient in gradients)
        results.append((loss, gradients, report))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_chunks_take_memory_linear_in_the_batch():
    def kept(size: int) -> int:
        elements = []
        query, positive = torch.randn(2, size, 8, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: elements.append(t.numel()) or t, lambda t: t):
            sigmoid_loss(query, positive, temperature=0.1, bias=-10.0, chunk_rows=32)
        return sum(elements)

    assert kept(1024) < 2.2 * kept(512) < 1024 * 1024 / 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": math.nan}, "finite"),
        ({"chunk_rows": 0}, "at least 1"),
        ({"mask_margin": 0.1}, "unknown option mask_margin of sigmoid"),
    ],
)
def test_options_are_checked_when_the_config_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        SigmoidOptions.from_config(options)
