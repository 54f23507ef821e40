"""Sigmoid loss (SigLIP, 2303.15343): each pair decided alone, match or no match.

L = -1/B sum_i sum_j log sigmoid( z_ij (s(q_i,p_j)/t + b) ),   z_ii = 1, else -1;  s = cosine
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from commonspace.objectives.gather import Group
from commonspace.objectives.nce import check_negatives, check_pairs
from commonspace.objectives.nce_options import PAPER
from commonspace.objectives.nce_terms import Pool, Rows, by_spans, negatives


class PairBias(nn.Module):
    """The learned bias b: -10 at the start, so that a batch's many non-matches do not dominate the first steps."""

    def __init__(self, initial: float = -10.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(initial))

    def forward(self) -> Tensor:
        return self.bias


def sigmoid_loss(
    query_BE: Tensor,
    positive_BE: Tensor,
    negative_BKE: Tensor | None = None,
    *,
    temperature: float | Tensor,
    bias: float | Tensor,
    query_ids: Tensor | None = None,
    positive_ids: Tensor | None = None,
    negative_ids_BK: Tensor | None = None,
    negative_mask_BK: Tensor | None = None,
    group: Group | None = None,
    chunk_rows: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum over all pairs, divided by the number of rows.

    Arguments as `nce_loss`, with the `bias` of the logits, and `chunk_rows` as in `NCEOptions`.

    Pairs that equation 3 masks (one query or one target) are left out: they are neither non-matches nor this row's
    match. A row's hard negatives are non-matches of that row.

    Relations: without duplicates and hard negatives equal to open_clip's SigLipLoss with logit_scale 1/t. Symmetric in
    queries and targets by itself, so it needs no reverse.
    """
    check_pairs(query_BE, positive_BE, temperature)
    check_negatives(query_BE, negative_BKE, negative_mask_BK, negative_ids_BK, positive_ids, PAPER)
    with torch.autocast(query_BE.device.type, enabled=False):
        rows = Rows.of(query_BE, positive_BE, negative_BKE, negative_mask_BK, negative_ids_BK, temperature)
        pool = Pool.of(rows, query_ids, positive_ids, group, PAPER)
        losses_B, figures_B3 = by_spans(lambda span: _span_losses(rows, pool, span, bias), rows, chunk_rows)
        loss, means = losses_B.mean(), figures_B3.mean(dim=0)
    figures = {"loss": loss, "temperature": rows.temperature_B1.mean()}
    figures |= dict(zip(("positive_similarity", "negatives", "masked"), means.unbind(), strict=True))
    return loss, {name: figure.detach() for name, figure in figures.items()}


def _span_losses(rows: Rows, pool: Pool, span: slice, bias: float | Tensor) -> tuple[Tensor, Tensor]:
    """Losses [C] of the rows in `span`, and their detached figures [C, 3]."""
    temperature_C1 = rows.temperature_B1[span]
    positive_C1 = (rows.query_BE[span] * rows.positive_BE[span]).sum(dim=-1, keepdim=True)
    losses_C = -F.logsigmoid(positive_C1 / temperature_C1 + bias)[:, 0]
    count_C = torch.zeros_like(losses_C)
    in_batch, hard, masked_C = negatives(rows, pool, span, PAPER)
    for similarity_CN, keep_CN in in_batch + hard:
        logits_CN = (similarity_CN / temperature_C1 + bias).masked_fill(~keep_CN, -math.inf)
        losses_C = losses_C + F.softplus(logits_CN).sum(dim=1)
        count_C = count_C + keep_CN.sum(dim=1)
    figures = (positive_C1[:, 0].detach(), count_C, masked_C)
    return losses_C, torch.stack([figure.to(losses_C.dtype) for figure in figures], dim=1)
