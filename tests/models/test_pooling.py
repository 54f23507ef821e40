from __future__ import annotations

import pytest
import torch
from torch import nn

from commonspace.errors import ConfigError
from commonspace.models.pooling import (
    POOLINGS,
    input_and_last_pool,
    last_pool,
    mean_pool,
    pool,
    pooled_width,
    summary_pool,
)

LENGTHS = [3, 7, 1, 5]


@pytest.fixture
def ragged() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 6, generator=generator) for length in LENGTHS]


def padded(
    rows: list[torch.Tensor], width: int, filler: float, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    hidden, mask = torch.full((len(rows), width, 6), filler), torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        span = slice(width - len(row), width) if left else slice(0, len(row))
        hidden[number, span], mask[number, span] = row, True
    return hidden, mask


def gated(_: str, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`input_and_last` of tokens that are an image's."""
    kinds = torch.where(mask > 0, 1, -1)
    entered = summary_pool(2 * hidden, kinds, torch.ones(kinds.shape))
    return input_and_last_pool(entered, hidden, kinds, gate=0.5, centre_D=torch.ones(6))


def test_mean_equals_a_plain_loop(ragged):
    pooled = mean_pool(*padded(ragged, 7, 0.0))
    for row, vector in zip(ragged, pooled, strict=True):
        for dimension in range(6):
            by_hand = sum(float(token[dimension]) for token in row) / len(row)
            assert vector[dimension].item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("filler", [0.0, 1e30, float("nan"), float("inf")])
def test_padding_and_what_stands_there_do_not_move_a_vector(ragged, kind, left, filler):
    pooled = pool if kind != "input_and_last" else gated
    alone = torch.cat([pooled(kind, row[None], torch.ones(1, len(row))) for row in ragged])
    torch.testing.assert_close(pooled(kind, *padded(ragged, 11, filler, left)), alone)


def test_padding_gets_no_gradient(ragged):
    hidden, mask = padded(ragged, 9, float("nan"))
    hidden.requires_grad_()
    mean_pool(hidden, mask).sum().backward()
    assert (hidden.grad[~mask] == 0).all()
    expected = (1 / torch.tensor(LENGTHS))[:, None].expand(-1, 9)[mask]
    torch.testing.assert_close(hidden.grad[mask][:, 0], expected)


def test_last_takes_the_last_token(ragged):
    torch.testing.assert_close(last_pool(*padded(ragged, 9, 0.0)), torch.stack([row[-1] for row in ragged]))


def test_of_text_alone_both_means_stand_side_by_side_the_input_at_unit_size(ragged):
    hidden, mask = padded(ragged, 7, 0.0)
    entering = torch.randn(4, 7, 6)
    kinds = torch.where(mask, 0, -1)
    entered = summary_pool(0.01 * entering, kinds, torch.ones(4, 7))
    both = input_and_last_pool(entered, hidden, kinds, gate=0.3, centre_D=torch.randn(6))
    unit = entering / entering.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(both[:, :6], mean_pool(unit, mask), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(both[:, 6:], mean_pool(hidden, mask))
    assert both.shape[1] == pooled_width("input_and_last", 6) and pooled_width("mean", 6) == 6


def test_kinds_that_enter_count_alike_and_media_leave_by_the_gate():
    text, image, audio, mark = range(4)
    kinds = torch.tensor([[text, mark, image, image, image, mark, audio], [text, text, text, -1, -1, -1, -1]])
    entering, leaving, centre = torch.randn(2, 7, 6), torch.randn(2, 7, 6), torch.randn(6)
    entered = summary_pool(entering, kinds, torch.ones(2, 7))
    both = input_and_last_pool(entered, leaving, kinds, gate=0.25, centre_D=centre)
    unit = nn.functional.rms_norm(entering, (6,))
    torch.testing.assert_close(both[0, :6], (unit[0, 0] + unit[0, 2:5].mean(0) + unit[0, 6]) / 3)
    through = centre + 0.25 * (leaving[0] - centre)
    through[0] = leaving[0, 0]
    torch.testing.assert_close(both[0, 6:], through.mean(0))
    torch.testing.assert_close(both[1], torch.cat([unit[1, :3].mean(0), leaving[1, :3].mean(0)]))


def test_an_entry_of_weight_three_is_three_entries():
    image = 1
    entering = torch.randn(1, 4, 6)
    repeated = torch.cat([entering[:, :1].expand(1, 3, 6), entering[:, 1:]], dim=1)
    once = summary_pool(entering, torch.full((1, 4), image), torch.tensor([[3.0, 1, 1, 1]]))
    torch.testing.assert_close(once, summary_pool(repeated, torch.full((1, 6), image), torch.ones(1, 6)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_tokens_are_summed_in_float32(dtype):
    hidden = torch.full((1, 4096, 1), 1.001).to(dtype)
    pooled = mean_pool(hidden, torch.ones(1, 4096))
    assert pooled.dtype == torch.float32 and pooled.item() == pytest.approx(hidden[0, 0, 0].item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["mean", "last"])
def test_a_row_without_tokens_is_nan_and_not_a_plausible_vector(kind):
    assert pool(kind, torch.ones(1, 3, 6), torch.zeros(1, 3)).isnan().all()


def test_unknown_pooling_is_refused():
    with pytest.raises(ConfigError, match="pooling first is unknown"):
        pool("first", torch.ones(1, 1, 1), torch.ones(1, 1))
