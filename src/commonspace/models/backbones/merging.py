"""Fewer tokens for long contents: neighbours enter the transformer as their mean.

A content with more tokens than it may have is taken in runs of m neighbours, m the smallest with which it fits. Runs
never cross from one piece to the next, so that a short caption beside a picture stays a token of its own. Marks,
special tokens and the first and last token of the content stay as they are. A content that fits is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from commonspace.errors import ContentError
from commonspace.processing.pieces import Pieces

_WHOLE = ("mark", "special")


@dataclass(frozen=True)
class Entering:
    """How one content's tokens enter.

    counts  tokens each of its pieces enters with
    runs_L  of each token the entering one it goes into, 0 to N - 1; None where all enter as they are
    """

    counts: tuple[int, ...]
    runs_L: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        """N, all that enter."""
        return sum(self.counts)


def entering(pieces: Pieces, most: int | None) -> Entering:
    """How a content enters with at most `most` tokens; None: all enter.

    Raises ContentError where its pieces alone are more.
    """
    lengths = np.array([piece.tokens for piece in pieces.pieces])
    if most is None or lengths.sum() <= most:
        return Entering(tuple(lengths.tolist()))
    kept = np.array([piece.tokens if piece.kind in _WHOLE else 0 for piece in pieces.pieces])
    ends = np.zeros_like(lengths)
    ends[0] += 1
    ends[-1] += len(lengths) > 1 or lengths[0] > 1
    inner = np.where(kept > 0, 0, np.maximum(lengths - ends, 0))
    alone = lengths - inner
    for run in range(int(lengths.sum() // most), int(inner.max(initial=1)) + 1):
        counts = alone + -(-inner // max(run, 1))
        if counts.sum() <= most:
            return Entering(tuple(counts.tolist()), _runs(inner, alone, run))
    raise ContentError(
        f"a content of {len(lengths)} pieces cannot enter as {most} tokens (merge_beyond), for pieces are not merged "
        "with one another; raise it, or leave some parts out"
    )


def _runs(inner: np.ndarray, alone: np.ndarray, run: int) -> np.ndarray:
    """The entering token of each token: those alone stand before a piece's runs, but for the content's last."""
    steps = []
    for number, (some, single) in enumerate(zip(inner, alone, strict=True)):
        after = 1 if some and number == len(inner) - 1 else 0
        starts = np.zeros(some, dtype=np.int64)
        starts[::run] = 1
        steps += [np.ones(single - after, np.int64), starts, np.ones(after, np.int64)]
    return np.concatenate(steps).cumsum() - 1


def merge(
    tokens_BLD: torch.Tensor, kind_BL: torch.Tensor, plans: Sequence[Entering]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B, N, D] and their kinds [B, N] after merging, padding last; the same where no content is merged."""
    if all(plan.runs_L is None for plan in plans):
        return tokens_BLD, kind_BL
    count = max(plan.tokens for plan in plans)
    runs_BL = np.full(kind_BL.shape, count)  # padding goes into a column that is dropped
    for row, plan in enumerate(plans):
        runs_L = np.arange(plan.tokens) if plan.runs_L is None else plan.runs_L
        runs_BL[row, : len(runs_L)] = runs_L
    runs = torch.from_numpy(runs_BL).to(kind_BL.device)
    shape = (len(plans), count + 1)
    sizes_BN = torch.zeros(shape, device=runs.device).scatter_add_(1, runs, torch.ones_like(runs, dtype=torch.float))
    kinds_BN = torch.full(shape, -1, dtype=kind_BL.dtype, device=runs.device).scatter_(1, runs, kind_BL)
    sums_BND = tokens_BLD.new_zeros(*shape, tokens_BLD.shape[-1])
    sums_BND = sums_BND.scatter_add(1, runs[..., None].expand_as(tokens_BLD), tokens_BLD)
    means_BND = sums_BND / sizes_BN.clamp(min=1)[..., None].to(sums_BND.dtype)
    return means_BND[:, :count], kinds_BN[:, :count]
