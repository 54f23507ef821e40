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
from commonspace.objectives.nce_terms import Pool, Rows, negatives


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
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum over all pairs, divided by the number of rows; arguments as `nce_loss`, and `bias` of the logits.

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
        positive_B1 = (rows.query_BE * rows.positive_BE).sum(dim=-1, keepdim=True)
        losses_B = -F.logsigmoid(positive_B1 / rows.temperature_B1 + bias)[:, 0]
        count_B = torch.zeros_like(losses_B)
        in_batch, hard, masked_B = negatives(rows, pool, slice(0, len(losses_B)), PAPER)
        for similarity_BN, keep_BN in in_batch + hard:
            logits_BN = (similarity_BN / rows.temperature_B1 + bias).masked_fill(~keep_BN, -math.inf)
            losses_B = losses_B + F.softplus(logits_BN).sum(dim=1)
            count_B = count_B + keep_BN.sum(dim=1)
        loss = losses_B.mean()
    figures = {"loss": loss, "positive_similarity": positive_B1.mean(), "negatives": count_B.mean()}
    figures |= {"masked": masked_B.mean(), "temperature": rows.temperature_B1.mean()}
    return loss, {name: figure.detach() for name, figure in figures.items()}
