"""The terms of equation 2's denominator, for a span of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from commonspace.objectives.gather import Group, gather_counts, gather_rows, rank_and_size, require_equal_rows
from commonspace.objectives.nce_options import NCEOptions


@dataclass(frozen=True)
class Rows:
    """This process's rows: unit vectors, their own negatives, and a temperature each."""

    query_BE: Tensor
    positive_BE: Tensor
    negative_BKE: Tensor | None
    negative_mask_BK: Tensor | None
    negative_ids_BK: Tensor | None
    temperature_B1: Tensor

    @classmethod
    def of(cls, query_BE, positive_BE, negative_BKE, mask_BK, ids_BK, temperature) -> Rows:
        query_BE, positive_BE = _unit(query_BE), _unit(positive_BE)
        if negative_BKE is not None:
            negative_BKE = _unit(negative_BKE)
            if mask_BK is None:
                mask_BK = torch.ones(negative_BKE.shape[:2], dtype=torch.bool, device=negative_BKE.device)
        temperature = torch.as_tensor(temperature, dtype=query_BE.dtype, device=query_BE.device)
        temperature_B1 = temperature.reshape(-1, 1).expand(query_BE.shape[0], 1)
        return cls(query_BE, positive_BE, negative_BKE, mask_BK, ids_BK, temperature_B1)


@dataclass(frozen=True)
class Pool:
    """What every row is compared with: the targets of all processes (N = W*B) and, if shared, their M negatives."""

    query_NE: Tensor
    positive_NE: Tensor
    query_ids_N: Tensor | None
    positive_ids_N: Tensor | None
    negative_ME: Tensor | None
    negative_mask_M: Tensor | None
    negative_ids_M: Tensor | None
    offset: int  # index in the pool of this process's first row

    @classmethod
    def of(cls, rows: Rows, query_ids, positive_ids, group: Group | None, options: NCEOptions) -> Pool:
        size = rows.query_BE.shape[0]
        require_equal_rows(size, group, rows.query_BE.device)
        if options.classification:  # only a row's own negatives matter, so nothing has to travel
            group = None
        towers = gather_rows(rows.query_BE, group) if options.same_tower in ("query", "both") else rows.query_BE
        ids = [None if i is None else gather_rows(i.to(rows.query_BE.device), group) for i in (query_ids, positive_ids)]
        shared = _shared_negatives(rows, group) if options.share_negatives else (None, None, None)
        return cls(towers, gather_rows(rows.positive_BE, group), *ids, *shared, offset=rank_and_size(group)[0] * size)


def _shared_negatives(rows: Rows, group: Group | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hard negatives of all processes as rows; lists are widened to the longest K of any process, masked."""
    size, width, dimension = rows.negative_BKE.shape
    widest = max(gather_counts(width, group, rows.query_BE.device))
    missing = widest - width
    mask_M = gather_rows(F.pad(rows.negative_mask_BK.to(torch.uint8), (0, missing)).flatten(), group).bool()
    ids_M = None
    if rows.negative_ids_BK is not None:
        ids_M = gather_rows(F.pad(rows.negative_ids_BK, (0, missing)).flatten(), group)
    vectors_ME = F.pad(rows.negative_BKE, (0, 0, 0, missing)).reshape(size * widest, dimension)
    return gather_rows(vectors_ME, group), mask_M, ids_M


def by_spans(
    compute: Callable[[slice], tuple[Tensor, Tensor]], rows: Rows, chunk_rows: int | None
) -> tuple[Tensor, Tensor]:
    """Losses [B] and figures [B, n] that `compute` gives for spans of `chunk_rows` rows; None: for all rows at once.

    The logits of a span live only while it is computed, forward and, computed again, backward.
    """
    size = rows.query_BE.shape[0]
    if chunk_rows is None:
        return compute(slice(0, size))
    spans = [slice(begin, min(begin + chunk_rows, size)) for begin in range(0, size, chunk_rows)]
    parts = [checkpoint(compute, span, use_reentrant=False, preserve_rng_state=False) for span in spans]
    losses, figures = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(figures)


def span_losses(rows: Rows, pool: Pool, span: slice, options: NCEOptions) -> tuple[Tensor, Tensor]:
    """Losses [C] of the rows in `span`, and their detached figures [C, 4]."""
    positive_C1 = (rows.query_BE[span] * rows.positive_BE[span]).sum(dim=-1, keepdim=True)
    temperature_C1 = rows.temperature_B1[span]
    logits = [positive_C1 / temperature_C1]
    in_batch, hard, masked_C = negatives(rows, pool, span, options)
    weighs_all = options.hardness_on == "all"
    for (similarity_CN, keep_CN), weighted in [(n, weighs_all) for n in in_batch] + [(n, True) for n in hard]:
        logits_CN = similarity_CN / temperature_C1
        if weighted and options.hardness_alpha:
            logits_CN = logits_CN + options.hardness_alpha * similarity_CN.detach()
        if options.mask_margin is not None:
            keep_CN = keep_CN & (similarity_CN <= positive_C1 + options.mask_margin)
        logits.append(logits_CN.masked_fill(~keep_CN, -math.inf))
    logits_CT = torch.cat(logits, dim=1)  # column 0 is the positive: always finite, so no row is empty
    losses_C = logits_CT.logsumexp(dim=1) - logits_CT[:, 0]
    with torch.no_grad():
        first_C = (logits_CT >= logits_CT[:, :1]).sum(dim=1) == 1
        negatives_C = logits_CT.isfinite().sum(dim=1) - 1
        figures = (first_C, positive_C1[:, 0], negatives_C, masked_C)
        figures_C4 = torch.stack([figure.to(losses_C.dtype) for figure in figures], dim=1)
    return losses_C, figures_C4


_Terms = list[tuple[Tensor, Tensor]]  # similarities [C, n], and which of them count [C, n]


def negatives(rows: Rows, pool: Pool, span: slice, options: NCEOptions) -> tuple[_Terms, _Terms, Tensor]:
    """In-batch negatives, hard negatives, and the share of other targets that equation 3 masks [C]."""
    query_CE = rows.query_BE[span]
    in_batch, hard = [], []
    masked_C = torch.zeros(query_CE.shape[0], device=query_CE.device)
    if not options.classification:
        keep_CN = _distinct(pool, span)
        in_batch.append((query_CE @ pool.positive_NE.T, keep_CN))
        if options.same_tower in ("query", "both"):
            in_batch.append((query_CE @ pool.query_NE.T, keep_CN))
        if options.same_tower in ("positive", "both"):
            in_batch.append((rows.positive_BE[span] @ pool.positive_NE.T, keep_CN))
        others = keep_CN.shape[1] - 1
        masked_C = (others - keep_CN.sum(dim=1)) / max(others, 1)
    if pool.negative_ME is not None:
        keep_CM = pool.negative_mask_M[None].expand(query_CE.shape[0], -1)
        hard.append((query_CE @ pool.negative_ME.T, _not_positive(keep_CM, pool.negative_ids_M, pool, span)))
    elif rows.negative_BKE is not None:
        similarity_CK = torch.einsum("ce,cke->ck", query_CE, rows.negative_BKE[span])
        ids_CK = None if rows.negative_ids_BK is None else rows.negative_ids_BK[span]
        hard.append((similarity_CK, _not_positive(rows.negative_mask_BK[span], ids_CK, pool, span)))
    return in_batch, hard, masked_C


def _distinct(pool: Pool, span: slice) -> Tensor:
    """Equation 3: bool [C, N], False where row and column have one query or one target."""
    device = pool.positive_NE.device
    own_C = torch.arange(span.start, span.stop, device=device) + pool.offset
    keep_CN = own_C[:, None] != torch.arange(pool.positive_NE.shape[0], device=device)
    for ids_N in (pool.query_ids_N, pool.positive_ids_N):
        if ids_N is not None:
            keep_CN &= ids_N[own_C][:, None] != ids_N
    return keep_CN


def _not_positive(keep_CK: Tensor, ids: Tensor | None, pool: Pool, span: slice) -> Tensor:
    """`keep_CK` without negatives that are the row's own positive, by id ([K] or [C, K])."""
    if ids is None:
        return keep_CK
    own_C = pool.positive_ids_N[pool.offset + span.start : pool.offset + span.stop]
    return keep_CK & (ids.to(own_C.device) != own_C[:, None])


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
