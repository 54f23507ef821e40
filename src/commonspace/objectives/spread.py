"""Spread-out term: random pairs should be as orthogonal as random unit vectors (EmbeddingGemma, 2509.20354).

L_S = 1/(B(B-1)) sum_{i != j} (q_i . q_j)^2 + 1/(B(B-1)) sum_{i != j} (p_i . p_j)^2      on unit vectors
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from commonspace.errors import ConfigError
from commonspace.objectives.gather import Group, gather_rows, require_equal_rows


def spread_loss(
    query_BE: Tensor, positive_BE: Tensor, *, group: Group | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared cosine of different rows, of queries plus of positives: 2/E for random vectors, 2 for collapsed.

    With `group`, pairs reach over processes and the loss is that of this process's rows. Needs two rows.

    Relations: second-moment part of the global orthogonal regulariser (1708.06320); the first-moment part is left out,
    as in EmbeddingGemma. Memory is E*E, not B*B: sum_ij (x_i . x_j)^2 is the product of two second-moment matrices.
    """
    with torch.autocast(query_BE.device.type, enabled=False):
        require_equal_rows(query_BE.shape[0], group, query_BE.device)
        query, positive = _moment(query_BE, group), _moment(positive_BE, group)
    loss = query + positive
    report = {"loss": loss, "query_spread": query, "positive_spread": positive}
    return loss, {name: value.detach() for name, value in report.items()}


Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def with_spread(loss_fn: Loss, weight: float) -> Loss:
    """`loss_fn` plus `weight` times `spread_loss` of its first two arguments, queries and positives.

    The report is that of `loss_fn`, its `loss` too, with the term's own value, unweighted, as `spread`. A `group` among
    the arguments serves both. EmbeddingGemma sums the two under `matryoshka` and gives no weight.
    """
    if not (math.isfinite(weight) and weight > 0):
        raise ConfigError(f"spread={weight} must be a positive weight; without the term take the loss as it is")

    def both(*vectors: Tensor | None, **arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, report = loss_fn(*vectors, **arguments)
        term, figures = spread_loss(vectors[0], vectors[1], group=arguments.get("group"))
        return loss + weight * term, report | {"spread": figures["loss"]}

    return both


def _moment(rows_BE: Tensor, group: Group | None) -> Tensor:
    rows_BE = F.normalize(rows_BE.to(torch.promote_types(rows_BE.dtype, torch.float32)), dim=-1)
    pool_NE = gather_rows(rows_BE, group)
    own, total = rows_BE.shape[0], pool_NE.shape[0]
    if total < 2:
        raise ConfigError("spread_loss compares different rows; it needs a batch of at least 2")
    everything = ((rows_BE.T @ rows_BE) * (pool_NE.T @ pool_NE)).sum()
    with_itself = rows_BE.square().sum(dim=-1).square().sum()
    return (everything - with_itself) / (own * (total - 1))
