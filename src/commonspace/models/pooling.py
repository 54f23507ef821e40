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


def summary_pool(vector_BSD: Tensor, kind_BS: Tensor, weight_BS: Tensor) -> Tensor:
    """What contents bring to the backbone, one vector a row [B, D]; the arguments are those of `Summaries`.

    Every entry counts at a root mean square of one, whatever the size of word embeddings. Within a kind of token (text,
    image, audio) entries count by weight; the kinds count alike, so that one word beside a picture is heard.
    """
    wide_BSD = vector_BSD.to(torch.promote_types(vector_BSD.dtype, torch.float32)).masked_fill(
        kind_BS[..., None] < 0, 0
    )
    unit_BSD = nn.functional.rms_norm(wide_BSD, wide_BSD.shape[-1:], eps=1e-8)
    kinds_K = torch.tensor([KINDS.index(kind) for kind in ("text", "image", "audio")], device=kind_BS.device)
    weight_BSK = (kind_BS[..., None] == kinds_K) * weight_BS[..., None].to(unit_BSD.dtype)
    total_BK = weight_BSK.sum(1)
    share_BSK = weight_BSK / total_BK.clamp(min=1)[:, None] / (total_BK > 0).sum(-1)[:, None, None]
    return (share_BSK.sum(-1, keepdim=True) * unit_BSD).sum(1)


def input_and_last_pool(
    entered_BD: Tensor, hidden_BLD: Tensor, kind_BL: Tensor, *, gate: Tensor | float, centre_D: Tensor
) -> Tensor:
    """What a row brings to the backbone (`summary_pool`) and the mean of what leaves it, side by side [B, 2 D].

    Of what leaves, text counts whole and the rest by `gate`, about `centre_D`: c + g (h - c). For text alone both
    halves are plain means.

    A departure from the paper, which pools the output only. The head stays one linear map. It gives connectors a way
    to the embedding that does not lead through the backbone, and keeps what the layers wash out.
    """
    weight_BL1 = torch.where(kind_BL == KINDS.index("text"), 1.0, gate)[..., None]
    gated_BLD = centre_D + weight_BL1 * (hidden_BLD - centre_D)
    return torch.cat([entered_BD, mean_pool(gated_BLD, kind_BL >= 0)], dim=1)
