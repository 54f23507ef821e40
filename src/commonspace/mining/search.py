"""Exact nearest neighbours in blocks: memory grows with the block, not with the number of pairs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

_SCORES = 32_000_000  # held at once: 128 MB


def neighbours(
    query_NE: torch.Tensor, target_NE: torch.Tensor, count: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each query its `count` best targets by inner product, best first, a block of queries at a time.

    Row i of both is pair i. Yields (rows [Q], found rows [Q, K], their scores [Q, K], own positive's score [Q]).
    Of equal scores the lower row comes first.
    """
    count = min(count, len(target_NE))
    block = max(1, _SCORES // len(target_NE))
    for start in range(0, len(query_NE), block):
        rows_Q = np.arange(start, min(start + block, len(query_NE)))
        scores_QN = (query_NE[rows_Q[0] : rows_Q[-1] + 1] @ target_NE.T).float()
        scores_QK, found_QK = scores_QN.topk(count, dim=1)
        order_QK = torch.from_numpy(np.lexsort((found_QK.cpu().numpy(), -scores_QK.cpu().numpy()), axis=1))
        own_Q = scores_QN[torch.arange(len(rows_Q)), torch.from_numpy(rows_Q)]
        yield (
            rows_Q,
            found_QK.cpu().gather(1, order_QK).numpy(),
            scores_QK.cpu().gather(1, order_QK).numpy(),
            own_Q.cpu().numpy(),
        )
