"""Graded pairs: a pair with a higher score should be closer than a pair with a lower one (CoSENT).

L = log( 1 + sum over i, j with y_i < y_j of exp( (s(a_i,b_i) - s(a_j,b_j)) / t ) ),   s = cosine
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from commonspace.errors import ConfigError
from commonspace.objectives.gather import Group, gather_rows, require_equal_rows


def cosent_loss(
    first_BE: Tensor,
    second_BE: Tensor,
    *,
    scores: Tensor,
    temperature: float | Tensor = 0.05,
    group: Group | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One value for the batch, from the order of its pairs' cosines.

    Args:
        first_BE, second_BE: the two sides of each pair.
        scores: [B], graded similarity in any unit; only its order matters, equal scores are not compared.
        group: pairs are compared over processes. Every process then has the value of the whole batch; with the
            gather's gradient and averaging over processes its gradient is the whole batch's, without a factor.

    Report: `loss`, `ordered` (share of comparable pairs of pairs in the right order; 1 where none is comparable).

    Relations: sentence-transformers' CoSENTLoss with scale 1/t. What Qwen3-VL-Embedding trains similarity scores with.
    """
    if scores.shape != first_BE.shape[:1] or first_BE.shape != second_BE.shape:
        shapes = f"{tuple(first_BE.shape)}, {tuple(second_BE.shape)} and {tuple(scores.shape)}"
        raise ConfigError(f"pairs and scores are {shapes}; they must be [B, E], [B, E] and [B]")
    with torch.autocast(first_BE.device.type, enabled=False):
        require_equal_rows(len(first_BE), group, first_BE.device)
        wide = torch.promote_types(first_BE.dtype, torch.float32)
        cosines_N = gather_rows(F.cosine_similarity(first_BE.to(wide), second_BE.to(wide)), group)
        scores_N = gather_rows(scores.to(cosines_N.device), group)
        lower_NN = scores_N[:, None] < scores_N
        gaps_NN = cosines_N[:, None] - cosines_N
        logits = (gaps_NN / temperature).masked_fill(~lower_NN, -math.inf).flatten()
        loss = torch.cat([logits.new_zeros(1), logits]).logsumexp(dim=0)
    right = ((gaps_NN < 0) & lower_NN).sum().to(wide)
    ordered = torch.where(lower_NN.any(), right / lower_NN.sum().clamp(min=1), 1.0)
    return loss, {"loss": loss.detach(), "ordered": ordered.detach()}
