"""From the tokens of a content to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from commonspace.errors import ConfigError
from commonspace.processing.pieces import KINDS

POOLINGS = ("mean", "last", "input_and_last")


def pool(kind: str, hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """One vector a row [B, D] of the backbone's output, in float32 or wider: "mean" or "last".

    Args:
        hidden_BLD: the backbone's output; what stands at padding is never read, whatever it is.
        mask_BL: True at tokens. Each row has at least one: a row without gives NaN, not a vector that looks right.
    """
    if kind == "mean":
        return mean_pool(hidden_BLD, mask_BL)
    if kind == "last":
        return last_pool(hidden_BLD, mask_BL)
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


def input_and_last_pool(
    summary_BLD: Tensor,
    hidden_BLD: Tensor,
    kind_BL: Tensor,
    *,
    gate: Tensor | float = 1.0,
    centre_D: Tensor | None = None,
) -> Tensor:
    """What a row brings to the backbone and what leaves it, side by side [B, 2 D].

    Before the backbone a text is its token embeddings and a medium its connector's summary (`TokenStates`). Both count
    at a root mean square of one, whatever the size of word embeddings, and the kinds of token (text, image, audio)
    count alike, so that one word beside a picture is heard. Of what leaves, text counts whole and the rest by `gate`,
    about `centre_D`: c + g (h - c). For text alone both halves are plain means.

    A departure from the paper, which pools the output only. The head stays one linear map. It gives connectors a way
    to the embedding that does not lead through the backbone, and keeps what the layers wash out.
    """
    mask_BL = kind_BL >= 0
    wide_BLD = summary_BLD.to(torch.promote_types(summary_BLD.dtype, torch.float32)).masked_fill(~mask_BL[..., None], 0)
    unit_BLD = nn.functional.rms_norm(wide_BLD, wide_BLD.shape[-1:], eps=1e-8)
    kinds_K = torch.tensor([KINDS.index(kind) for kind in ("text", "image", "audio")], device=kind_BL.device)
    of_kind_BLK = (kind_BL[..., None] == kinds_K).to(unit_BLD.dtype)
    counts_BK = of_kind_BLK.sum(1)
    share_BL = (of_kind_BLK / counts_BK.clamp(min=1)[:, None]).sum(-1) / (counts_BK > 0).sum(-1, keepdim=True)
    entered_BD = (unit_BLD * share_BL[..., None]).sum(1)
    if centre_D is not None:
        weight_BL1 = torch.where(kind_BL == KINDS.index("text"), 1.0, gate)[..., None]
        hidden_BLD = centre_D + weight_BL1 * (hidden_BLD - centre_D)
    return torch.cat([entered_BD, mean_pool(hidden_BLD, mask_BL)], dim=1)
