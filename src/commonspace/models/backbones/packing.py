"""Contents end to end in one row, without padding.

On a CPU a token of padding costs as much as any other, and a mask more than none. Contents of one length run through
attention together, and everything else in the transformer is done token by token, whatever content a token is of.

Legend: B contents, L tokens of the longest, T tokens of all, H heads, D numbers of a token or a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from commonspace.models.backbones.windows import windowed_attention

PACKED = "commonspace_packed"  # the attention's name in transformers
Runs = Sequence[tuple[int, int]]  # contents of one length, and that length: one pair after the other


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a padded batch stand in one row, shorter contents first: row_T and column_T of [B, L]."""

    row_T: torch.Tensor
    column_T: torch.Tensor
    runs: Runs

    @classmethod
    def of(cls, mask_BL: torch.Tensor) -> Packing:
        """Of a batch whose mask is True at tokens."""
        length_B, order_B = mask_BL.sum(1).sort(stable=True)
        place_T, column_T = mask_BL[order_B].nonzero(as_tuple=True)
        lengths, counts = length_B.unique_consecutive(return_counts=True)
        return cls(order_B[place_T], column_T, list(zip(counts.tolist(), lengths.tolist(), strict=True)))

    def pack(self, padded_BLX: torch.Tensor) -> torch.Tensor:
        """[1, T, ...] of [B, L, ...]."""
        return padded_BLX[self.row_T, self.column_T][None]

    def unpack(self, packed_1TD: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """[B, L, D] of [1, T, D] for a mask's `shape` [B, L], zero at padding."""
        padded_BLD = packed_1TD.new_zeros(*shape, packed_1TD.shape[-1])
        return padded_BLD.index_put((self.row_T, self.column_T), packed_1TD[0])


def packed_attention(
    module: torch.nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    runs: Runs | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """`windowed_attention`, as transformers asks for it; with `runs` of the contents in one packed row [1, H, T, D]."""
    if runs is None:
        return windowed_attention(module, query_BHLD, key_BHLD, value_BHLD, attention_mask, **options)
    tokens = [count * length for count, length in runs]
    parts = (given[0].split(tokens, dim=1) for given in (query_BHLD, key_BHLD, value_BHLD))
    attended = []
    for run, *given_HTD in zip(runs, *parts, strict=True):
        query, key, value = (part_HTD.unflatten(1, run).transpose(0, 1) for part_HTD in given_HTD)
        attended.append(windowed_attention(module, query, key, value, None, **options)[0].flatten(0, 1))
    return torch.cat(attended)[None], None


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
