from __future__ import annotations

import pytest
import torch

from commonspace.models.dropout import Dropout, dropout


@pytest.mark.parametrize("shape", [(400, 300), (7, 5, 3)])
def test_dropout_keeps_its_share_and_the_mean(shape: tuple[int, ...]) -> None:
    layer, ones = Dropout(0.25), torch.ones(shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = layer(ones)
    assert ((out == 0) | (out == torch.tensor(1 / 0.75))).all()
    if ones.numel() > 1000:
        assert out.mean().item() == pytest.approx(1, abs=0.01)
        assert (out != out.roll(1, 1)).float().mean().item() == pytest.approx(2 * 0.25 * 0.75, abs=0.01)
    assert torch.equal(layer.eval()(ones), ones)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_its_gradient_is_its_own_mask(dtype: torch.dtype) -> None:
    ones = torch.ones(64, 5, dtype=dtype, requires_grad=True)
    out = dropout(ones, 0.5, training=True)
    out.sum().backward()
    assert out.dtype == dtype and torch.equal(ones.grad, out.detach())
