"""Kernels that stand beside one another in the table give the same loss, so that their seconds can be compared."""

from __future__ import annotations

import pytest
import torch

from benchmarks.losses import NUMBERS_A_LOGIT, kernels, needed


@pytest.mark.parametrize(
    "one, other, times",
    [
        ("one way", "one way, chunks", 1),
        ("one way", "one way, sentence-transformers", 1),
        ("both ways", "both ways, chunks", 1),
        ("both ways", "both ways, open_clip", 2),
        ("sigmoid", "sigmoid, open_clip", 1),
    ],
)
def test_kernels_agree(one: str, other: str, times: int) -> None:
    torch.manual_seed(0)
    query, positive = torch.randn(2, 600, 384).unbind()  # more than a chunk
    expected, found = (kernels()[name](query, positive) for name in (one, other))
    torch.testing.assert_close(times * found, expected)


def test_what_a_kernel_needs_grows_with_the_square_of_the_batch_unless_in_chunks() -> None:
    assert needed("one way", 2000) == 4 * NUMBERS_A_LOGIT * 2000**2
    assert needed("one way, chunks", 2000) == needed("one way, chunks", 1000) * 2
