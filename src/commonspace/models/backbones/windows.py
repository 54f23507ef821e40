"""Sliding windows: most layers see so many tokens on either side, every n-th one all of them.

A layer's attention looks at its own `window`. It takes tokens in blocks as wide as the window, each against itself and
the blocks beside it, so that scores grow with a content's length and not with its square. A content of at most
window + 1 tokens is seen whole by every layer.

Legend: B contents, H heads, L tokens, D numbers of a head, N blocks of W tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward


def set_windows(attentions: Iterable[nn.Module], window: int | None, global_every: int | None) -> None:
    """Tell each layer's attention, first to last, its window: None where it sees all, as every `global_every`-th."""
    for number, attention in enumerate(attentions, start=1):
        attention.window = window if window is not None and number % global_every else None


def windowed_attention(
    module: nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attended values [B, L, H, D], as transformers asks; `attention_mask` [B, 1, L or 1, L] is False at padding."""
    window, length = getattr(module, "window", None), query_BHLD.shape[2]
    if window is None or length <= window + 1:
        return sdpa_attention_forward(
            module, query_BHLD, key_BHLD, value_BHLD, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    batch, blocks, short = len(query_BHLD), -(-length // window), -length % window
    query = pad(query_BHLD, (0, 0, 0, short)).unflatten(2, (blocks, window)).transpose(1, 2).flatten(0, 1)
    key, value = (_with_neighbours(one, window, short) for one in (key_BHLD, value_BHLD))
    seen = _seen(attention_mask, batch, length, window, query.device)
    made = scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=dropout, scale=scaling)
    return made.transpose(1, 2).reshape(batch, blocks * window, *made.shape[1::2])[:, :length], None


def _with_neighbours(given_BHLD: torch.Tensor, window: int, short: int) -> torch.Tensor:
    """Each block between those beside it [B * N, H, 3 W, D]; zeros beyond the ends."""
    blocks_BHNDW = pad(given_BHLD, (0, 0, window, window + short)).unfold(2, 3 * window, window)
    return blocks_BHNDW.permute(0, 2, 1, 4, 3).flatten(0, 1)


def _seen(
    attention_mask: torch.Tensor | None, batch: int, length: int, window: int, device: torch.device
) -> torch.Tensor:
    """Which of a block and those beside it each of its tokens sees [B * N, 1, W, 3 W].

    Each sees itself, also at padding: a row that sees nothing would be no number.
    """
    if attention_mask is None:
        real_BL = torch.ones(batch, length, dtype=torch.bool, device=device)
    else:
        real_BL = attention_mask[:, 0, 0].expand(batch, -1)
    real_BNW = pad(real_BL, (window, window + -length % window)).unfold(1, 3 * window, window)
    gap_WW = torch.arange(3 * window, device=device) - window - torch.arange(window, device=device)[:, None]
    seen_BNWW = (real_BNW[:, :, None] & (gap_WW.abs() <= window)) | (gap_WW == 0)
    return seen_BNWW.flatten(0, 1)[:, None]
