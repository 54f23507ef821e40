"""The one interface between a backbone and the rest: contents in, token states out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from commonspace.processing.pieces import Pieces


class Summaries(NamedTuple):
    """What contents bring to the transformer, before it: S entries a content, padding comes last.

    vector_BSD  a text's token embeddings, and for a medium the one vector its connector makes of its mean row
    kind_BS     index into `processing.pieces.KINDS`, below 0 at padding
    weight_BS   the tokens an entry stands for: one, or as many as the medium has
    """

    vector_BSD: torch.Tensor
    kind_BS: torch.Tensor
    weight_BS: torch.Tensor


class TokenStates(NamedTuple):
    """What pooling sees of a batch: states after the transformer, and what came before it.

    kind_BL  index into `processing.pieces.KINDS`, below 0 at padding
    """

    last_BLD: torch.Tensor
    kind_BL: torch.Tensor
    summaries: Summaries

    @property
    def mask_BL(self) -> torch.Tensor:
        """True at tokens."""
        return self.kind_BL >= 0


class Backbone(nn.Module, ABC):
    """One bidirectional tower over the tokens of every modality.

    A backbone owns its token layout: how pieces become embeddings and which marks stand around them.

    width        of a token state; `input_width` is that of what enters, as in `Summaries`
    max_tokens   of one content
    """

    width: int
    input_width: int
    max_tokens: int

    @abstractmethod
    def forward(self, batch: Sequence[Pieces]) -> TokenStates:
        """Token states [B, L, D] of a batch; L is the longest content's token count, padding comes last."""

    @abstractmethod
    def towers(self) -> dict[str, nn.Module]:
        """Frozen or trained encoders by modality ("image", "audio"); what feature caching and dropping act on."""

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """Transformer layers from input to output: what layer-wise learning rates and freezing act on."""
