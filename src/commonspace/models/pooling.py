"""From the tokens of a content to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from commonspace.errors import ConfigError

POOLINGS = ("mean", "last", "input_and_last")


def pool(kind: str, hidden_BLD: Tensor, mask_BL: Tensor, input_BLD: Tensor | None = None) -> Tensor:
    """One vector a row [B, P], P = `pooled_width(kind, D)`, in float32 or wider, by one of `POOLINGS`.

    Args:
        hidden_BLD: the backbone's output; what stands at padding is never read, whatever it is.
        mask_BL: True at tokens. Each row has at least one: a row without gives NaN, not a vector that looks right.
        input_BLD: what went into the backbone; for "input_and_last" only.
    """
    if kind == "mean":
        return mean_pool(hidden_BLD, mask_BL)
    if kind == "last":
        return last_pool(hidden_BLD, mask_BL)
    if kind == "input_and_last":
        if input_BLD is None:
            raise ConfigError("pooling input_and_last needs what went into the backbone beside what came out")
        return input_and_last_pool(input_BLD, hidden_BLD, mask_BL)
    raise ConfigError(f"pooling {kind} is unknown; choose one of {', '.join(POOLINGS)}")


def pooled_width(kind: str, width: int) -> int:
    """Length of a pooled vector where the backbone is `width` wide."""
    return 2 * width if kind == "input_and_last" else width


def mean_pool(hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean over all tokens of a row, task prefix and marks included: P = 1/L sum_l T_l (the paper, section 3.1)."""
    mask_BL = mask_BL.bool()
    wide_BLD = hidden_BLD.to(torch.promote_types(hidden_BLD.dtype, torch.float32))
    # Filled rather than multiplied by the mask: 0 x NaN at a padding position would spoil the row.
    total_BD = wide_BLD.masked_fill(~mask_BL[..., None], 0).sum(dim=1)
    return total_BD / mask_BL.sum(dim=1, keepdim=True)


def last_pool(hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The last token of a row, where padding may lie on either side. A departure from the paper."""
    mask_BL = mask_BL.bool()
    positions_L = torch.arange(mask_BL.shape[1], device=mask_BL.device)
    last_B = torch.where(mask_BL, positions_L, -1).amax(dim=1)
    rows_B = torch.arange(mask_BL.shape[0], device=mask_BL.device)
    vectors_BD = hidden_BLD[rows_B, last_B].to(torch.promote_types(hidden_BLD.dtype, torch.float32))
    return vectors_BD.masked_fill((last_B < 0)[:, None], torch.nan)


def input_and_last_pool(input_BLD: Tensor, hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Means over a row's tokens as they enter the backbone and as they leave it, side by side [B, 2 D].

    Tokens that enter count at a root mean square of one each, whatever the size of word embeddings. A departure from
    the paper, which pools the output only. The head stays one linear map. It gives connectors a way to the embedding
    that does not lead through the backbone, and keeps what the layers wash out.
    """
    wide_BLD = input_BLD.to(torch.promote_types(input_BLD.dtype, torch.float32))
    unit_BLD = nn.functional.rms_norm(wide_BLD, wide_BLD.shape[-1:], eps=1e-8)
    return torch.cat([mean_pool(unit_BLD, mask_BL), mean_pool(hidden_BLD, mask_BL)], dim=1)
