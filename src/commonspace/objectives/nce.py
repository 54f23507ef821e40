"""Noise-contrastive loss, query to target: equations 2 and 3 of Gemini Embedding 2 (arXiv 2605.27295).

    L = 1/B sum_i -log( e(q_i,p_i) / ( e(q_i,p_i) + sum_k e(q_i,n_ik) + sum_j mask(i,j) e(q_i,p_j) ) )
    mask(i,j) = 0 where q_i = q_j or p_i = p_j (so also for j = i), else 1;  e(x,y) = exp(cosine(x,y) / temperature)

The positive counts once, through its own term. A hard negative n_ik counts in row i only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from commonspace.errors import ConfigError
from commonspace.objectives.gather import Group
from commonspace.objectives.nce_options import PAPER, NCEOptions
from commonspace.objectives.nce_terms import Pool, Rows, by_spans, span_losses

Report = dict[str, Tensor]


def nce_loss(
    query_BE: Tensor,
    positive_BE: Tensor,
    negative_BKE: Tensor | None = None,
    *,
    temperature: float | Tensor,
    query_ids: Tensor | None = None,
    positive_ids: Tensor | None = None,
    negative_ids_BK: Tensor | None = None,
    negative_mask_BK: Tensor | None = None,
    group: Group | None = None,
    options: NCEOptions = PAPER,
) -> tuple[Tensor, Report]:
    """Mean over the rows of `-log softmax` of the positive: equation 2 with the mask of equation 3.

    Args:
        query_BE, positive_BE: vectors of any length (cosine normalises them); any float type, computed in float32
            or wider, also under autocast.
        negative_BKE: K hard negatives a row; None where the task has none, K = 0 where this batch has none.
        temperature: number, 0-d tensor, or one value a row [B].
        query_ids, positive_ids: int64 [B], hashes of the raw contents; equal ids are never negatives of each other.
        negative_ids_BK: int64; a negative with the id of a row's positive is left out of that row.
        negative_mask_BK: bool, False where a row has fewer than K negatives.
        group: processes whose targets are negatives too; the loss is that of this process's own rows.

    Returns:
        loss 0-d, and a report of detached 0-d tensors over the rows: `loss`, `accuracy` (positive strictly first),
        `positive_similarity`, `negatives` (terms besides the positive), `masked` (targets left out of equation 2's
        sum other than the row's own, a share of all others), `temperature`.

    Relations: without duplicates and hard negatives equal to `cross_entropy(S/t, arange(B))`, and to one half of
    open_clip's ClipLoss, which adds the other direction (see `bidirectional_nce`).
    """
    if not options.mask:
        query_ids = positive_ids = negative_ids_BK = None
    check_pairs(query_BE, positive_BE, temperature)
    check_negatives(query_BE, negative_BKE, negative_mask_BK, negative_ids_BK, positive_ids, options)
    with torch.autocast(query_BE.device.type, enabled=False):
        rows = Rows.of(query_BE, positive_BE, negative_BKE, negative_mask_BK, negative_ids_BK, temperature)
        pool = Pool.of(rows, query_ids, positive_ids, group, options)
        losses_B, figures_B4 = by_spans(lambda span: span_losses(rows, pool, span, options), rows, options.chunk_rows)
        loss, means = losses_B.mean(), figures_B4.mean(dim=0)
    names = ("accuracy", "positive_similarity", "negatives", "masked")
    report = {"loss": loss.detach(), **dict(zip(names, means.unbind(), strict=True))}
    report["temperature"] = rows.temperature_B1.detach().mean()
    return loss, report


def bidirectional_nce(
    query_BE: Tensor,
    positive_BE: Tensor,
    negative_BKE: Tensor | None = None,
    reverse_negative_BKE: Tensor | None = None,
    *,
    reverse_negative_mask_BK: Tensor | None = None,
    reverse_negative_ids_BK: Tensor | None = None,
    **arguments: Any,
) -> tuple[Tensor, Report]:
    """`nce_loss` both ways on one forward pass: query to target plus target to query.

    Arguments and report as `nce_loss`; figures of the second direction carry the prefix `reverse/`. `loss` in the
    report is the forward direction's, the returned loss the sum.

    `reverse_negative_BKE` are hard negatives of the positives, which are queries; None where the reverse has none, for
    `negative_BKE` belong to queries.

    Relations: equal to the sum of the losses of two tasks, each the other's reverse, on the same pairs. Without hard
    negatives the sum is twice open_clip's symmetric ClipLoss.
    """
    options: NCEOptions = arguments.pop("options", PAPER)
    if options.classification:
        raise ConfigError("classification has no reverse: its wrong labels belong to the query; train it one way")
    forward, report = nce_loss(query_BE, positive_BE, negative_BKE, options=options, **arguments)
    shared = {name: arguments[name] for name in ("temperature", "group") if name in arguments}
    # Options on hard negatives have nothing to act on in a reverse without any; those on all negatives act both ways.
    has_any = reverse_negative_BKE is not None
    weighs = has_any or options.hardness_on == "all"
    mirror = {"none": "none", "query": "positive", "positive": "query", "both": "both"}
    backward, other = nce_loss(
        positive_BE,
        query_BE,
        reverse_negative_BKE,
        negative_mask_BK=reverse_negative_mask_BK,
        negative_ids_BK=reverse_negative_ids_BK,
        query_ids=arguments.get("positive_ids"),
        positive_ids=arguments.get("query_ids"),
        options=dataclasses.replace(
            options,
            same_tower=mirror[options.same_tower],
            share_negatives=options.share_negatives and has_any,
            hardness_alpha=options.hardness_alpha if weighs else 0.0,
        ),
        **shared,
    )
    return forward + backward, report | {f"reverse/{name}": value for name, value in other.items()}


def pad_negatives(vectors_ME: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Ragged hard negatives, row after row in `vectors_ME`, as (negative_BKE, negative_mask_BK) for `nce_loss`.

    `counts` [B] says how many belong to each row; K is the largest of them. Short rows hold zeros that the mask leaves
    out: nothing ever stands in for a missing negative.
    """
    if sum(counts) != vectors_ME.shape[0]:
        raise ConfigError(f"counts add up to {sum(counts)}, but there are {vectors_ME.shape[0]} negatives")
    width = max(counts, default=0)
    mask_BK = torch.arange(width) < torch.tensor(list(counts), dtype=torch.int64)[:, None]
    mask_BK = mask_BK.to(vectors_ME.device)
    negative_BKE = vectors_ME.new_zeros(len(counts), width, vectors_ME.shape[1])
    return negative_BKE.masked_scatter(mask_BK[..., None], vectors_ME), mask_BK


def pad_negative_ids(ids: Sequence[Sequence[int]], device: torch.device | None = None) -> Tensor:
    """Ids of ragged hard negatives as `negative_ids_BK` int64 for `nce_loss`; short rows hold 0, under the mask."""
    width = max(map(len, ids), default=0)
    rows = [[*row, *[0] * (width - len(row))] for row in ids]
    return torch.tensor(rows, dtype=torch.int64, device=device).reshape(len(ids), width)


def check_pairs(query_BE: Tensor, positive_BE: Tensor, temperature: float | Tensor) -> None:
    """ConfigError unless queries and positives are [B, E] alike and the temperature fits them."""
    if query_BE.ndim != 2 or query_BE.shape != positive_BE.shape or query_BE.shape[0] == 0:
        raise ConfigError(
            f"queries {tuple(query_BE.shape)} and positives {tuple(positive_BE.shape)} must both be [B, E] with B > 0"
        )
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 and tuple(temperature.shape) != query_BE.shape[:1]:
            raise ConfigError(f"temperature {tuple(temperature.shape)} must be one value or [B={len(query_BE)}]")
    elif not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature={temperature} must be a positive number; 0.02 is usual")


def check_negatives(
    query_BE: Tensor,
    negative_BKE: Tensor | None,
    mask_BK: Tensor | None,
    ids_BK: Tensor | None,
    positive_ids: Tensor | None,
    options: NCEOptions,
) -> None:
    """ConfigError where negatives, their mask, their ids and the options do not go together."""
    if negative_BKE is None:
        if mask_BK is not None or ids_BK is not None:
            raise ConfigError("negative_mask_BK and negative_ids_BK describe negative_BKE, which is missing")
        if options.needs_negatives:
            raise ConfigError(
                "classification, share_negatives and hardness_alpha on hard negatives need negative_BKE; give the task "
                "hard negatives (an empty [B, 0, E] is fine for a batch that has none) or unset the option"
            )
        return
    if negative_BKE.ndim != 3 or (negative_BKE.shape[0], negative_BKE.shape[2]) != tuple(query_BE.shape):
        shapes = f"{tuple(negative_BKE.shape)} and {tuple(query_BE.shape)}"
        raise ConfigError(f"negatives and queries {shapes} must be [B, K, E] and [B, E]")
    for name, tensor in (("negative_mask_BK", mask_BK), ("negative_ids_BK", ids_BK)):
        if tensor is not None and tensor.shape != negative_BKE.shape[:2]:
            raise ConfigError(f"{name} {tuple(tensor.shape)} must be [B, K] = {tuple(negative_BKE.shape[:2])}")
    if ids_BK is not None and positive_ids is None:
        raise ConfigError("negative_ids_BK are compared with positive_ids, which are missing")
