"""Beyond a table of learned positions: what the tokens of a content that has more of them than the table has rows get.

limit        nothing: such a content is refused
interpolate  its positions lie evenly over the table, the first at the first row, the last at the last; between two rows
             the two are mixed by nearness
restart      positions start again at each part: at every text, image, sound and video, also of those inside a document
             (a page of a PDF is an image; a text layer beside it is a text). A video's frames, sound and timestamps are
             one part. A part with more tokens than the table has rows starts again after its last row.

A content that fits the table has positions 0, 1, 2 ... under all three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from commonspace.processing.pieces import MARKS, Pieces

POSITIONS = ("limit", "interpolate", "restart")
_BEGINS = {MARKS.index(f"begin_{kind}") for kind in ("image", "audio", "video")}
_BEGIN_VIDEO, _END_VIDEO = MARKS.index("begin_video"), MARKS.index("end_video")


class PositionTable(nn.Embedding):
    """A table of learned positions that also answers for places between its rows."""

    @classmethod
    def of(cls, table: nn.Embedding) -> PositionTable:
        """The same table, its weight shared."""
        made = cls(*table.weight.shape, _weight=table.weight.detach())
        made.weight = table.weight
        return made

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """Vectors [..., D] at places [...]: of an integer its row, of a float its two neighbours mixed by nearness."""
        if not places.is_floating_point():
            return super().forward(places)
        low = places.long()
        high = (low + 1).clamp(max=self.num_embeddings - 1)
        share = (places - low).unsqueeze(-1).to(self.weight.dtype)
        return torch.lerp(super().forward(low), super().forward(high), share)


def stretched(count: int, rows: int) -> np.ndarray:
    """Places [count] of a content's tokens, evenly over a table of `rows`: 0 to rows - 1."""
    return np.linspace(0, rows - 1, count) if count > rows else np.arange(count)


def restarted(pieces: Pieces, counts: Sequence[int], rows: int) -> np.ndarray:
    """Places [sum of counts] that start again at each part; `counts` says how many tokens each piece enters with."""
    if sum(counts) <= rows:
        return np.arange(sum(counts))
    places, since, in_video = [], 0, False
    for piece, count in zip(pieces.pieces, counts, strict=True):
        mark = int(piece.value) if piece.kind == "mark" else None
        if not in_video and (piece.kind == "text" or mark in _BEGINS):
            since = 0
        in_video = mark == _BEGIN_VIDEO or (in_video and mark != _END_VIDEO)
        places.append(np.arange(since, since + count) % rows)
        since += count
    return np.concatenate(places)
