"""Where the pieces of a batch stand: grouped to be embedded together, then put back in their contents' order.

Legend: B contents, S entries, N entries of one group, D width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from commonspace.processing.pieces import KINDS, Piece, Pieces

MEDIA = ("image", "audio")  # kinds of pieces with an encoder and a connector

Group = list[Piece]  # pieces of one kind and shape (or grid), which are embedded together


@dataclass(frozen=True)
class Layout:
    """Where the entries of a batch stand: index_BS into the groups' entries one after the other, below 0 at padding.

    An entry is a token; where `whole` media count as one entry each, weight_BS says how many tokens it stands for.
    """

    index_BS: torch.Tensor
    kind_BS: torch.Tensor
    weight_BS: torch.Tensor

    @classmethod
    def of(
        cls, batch: Sequence[Pieces], groups: Sequence[Group], device: torch.device, *, whole: bool = False
    ) -> Layout:
        """The places of `groups`' pieces, each in the content and order it stands in."""
        first = {}  # by identity; a piece that stands in several places is embedded alike for each
        entries = 0
        for group in groups:
            for piece in group:
                first[id(piece)] = entries
                entries += _entries(piece, whole)
        lengths = [sum(_entries(piece, whole) for piece in pieces.pieces) for pieces in batch]
        index_BS = np.full((len(batch), max(lengths)), -1)
        kind_BS, weight_BS = np.full_like(index_BS, -1), np.zeros(index_BS.shape, np.float32)
        for row, pieces in enumerate(batch):
            start = 0
            for piece in pieces.pieces:
                count = _entries(piece, whole)
                place = slice(start, start + count)
                index_BS[row, place] = np.arange(first[id(piece)], first[id(piece)] + count)
                kind_BS[row, place] = KINDS.index(piece.kind)
                weight_BS[row, place] = piece.tokens / count
                start += count
        return cls(*(torch.from_numpy(array).to(device) for array in (index_BS, kind_BS, weight_BS)))

    def place(self, groups_ND: list[torch.Tensor]) -> torch.Tensor:
        """Vectors of all groups in the contents' own order [B, S, D], zero at padding at the end."""
        return torch.cat(groups_ND)[self.index_BS.clamp(min=0)] * (self.index_BS >= 0).unsqueeze(-1)


def _entries(piece: Piece, whole: bool) -> int:
    return 1 if whole and piece.kind in MEDIA else piece.tokens


def groups_of(batch: Sequence[Pieces]) -> list[Group]:
    """All pieces of a batch by kind and shape; images that keep their aspect by the grid of their tokens."""
    groups: dict[tuple, Group] = defaultdict(list)
    for pieces in batch:
        for piece in pieces.pieces:
            shape = (piece.tokens, *(piece.grid or piece.value.shape)) if piece.kind in MEDIA else ()
            # Of the stretches of one sound, the last may have a row less for as many tokens.
            rows = piece.rows[1] - piece.rows[0] if piece.rows else None
            groups[piece.kind, piece.is_feature, shape, rows].append(piece)
    return list(groups.values())
