"""The one interface between a backbone and the rest: contents in, token states out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import nn

from commonspace.errors import ConfigError, ContentError
from commonspace.processing.pieces import Pieces
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.text import TextTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    summaries: Summaries | None

    @property
    def mask_BL(self) -> torch.Tensor:
        """True at tokens."""
        return self.kind_BL >= 0


class Backbone(nn.Module, ABC):
    """One bidirectional tower over the tokens of every modality.

    A backbone owns its token layout: how pieces become embeddings and which marks stand around them.

    width        of a token state; `input_width` is that of what enters, as in `Summaries`
    max_tokens   of one content

    name           of the kind: `model.name` in configs, `backbone` in a model folder's config.json
    pretrained     name of the weights it is built from unless a config names others
    linear_maps    regular expression of the names inside `text` that low-rank adapters go on
    text_name      regular expression of the name of `text` itself inside the backbone
    tower_modules  by modality the modules that serve it alone, which a model loaded without it does not have
    own_towers     whether the towers are the pretrained model's own: they come with its weights, none may be chosen
    has_summaries  whether `TokenStates.summaries` is there, which pooling=input_and_last reads
    preprocessing  the class of the numbers that its processor takes
    frozen_layers  how many of `layers` no gradient passes, from the first on; a stage sets it (stages/optimiser.py)
    masks          what tokens may see: all, "full", and where it may stay as it was pretrained "causal"
    """

    name: ClassVar[str]
    pretrained: ClassVar[str]
    linear_maps: ClassVar[str]
    text_name: ClassVar[str] = "text"
    tower_modules: ClassVar[dict[str, tuple[str, ...]]]
    own_towers: ClassVar[bool] = False
    has_summaries: ClassVar[bool] = True
    preprocessing: ClassVar[type[Preprocessing]] = Preprocessing
    masks: ClassVar[tuple[str, ...]] = ("full",)
    frozen_layers: int = 0

    text: PreTrainedModel
    width: int
    input_width: int
    max_tokens: int

    @classmethod
    def read_tokenizer(cls, folder: Path) -> TextTokenizer:
        """The tokenizer of the folder that the transformer's weights are read from."""
        return TextTokenizer.from_folder(folder)

    @abstractmethod
    def forward(self, batch: Sequence[Pieces]) -> TokenStates:
        """Token states [B, L, D] of a batch; L is the longest content's token count, padding comes last."""

    @abstractmethod
    def towers(self) -> dict[str, nn.Module]:
        """Frozen or trained encoders by modality ("image", "audio"); what feature caching and dropping act on."""

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """Transformer layers from input to output: what layer-wise learning rates and freezing act on."""

    def set_dropout(self, share: float) -> None:
        """Dropout inside the transformer while it trains: of every place its own class has; adapters keep their own."""
        for name, module in self.text.named_modules():
            if isinstance(module, nn.Dropout):
                if ".lora_dropout." not in name:
                    module.p = share
            elif isinstance(getattr(module, "attention_dropout", None), (int, float)):
                module.attention_dropout = share

    def set_lengths(
        self,
        positions: str = "limit",
        max_positions: int | None = None,
        merge_beyond: int | None = None,
        window: int | None = None,
        global_every: int | None = None,
    ) -> None:
        """What contents beyond the transformer's own positions meet; ConfigError of a kind that only has its limit."""
        if (positions, max_positions, merge_beyond, window, global_every) != ("limit", None, None, None, None):
            raise ConfigError(
                f"model.positions, max_positions, merge_beyond, window and global_every: {self.name} takes "
                f"{self.max_tokens} tokens by positions of its own; leave them out"
            )

    def check_lengths(self, lengths: Sequence[int]) -> None:
        """ContentError for a content of more tokens than the transformer has positions."""
        longest = max(lengths)
        if longest > self.max_tokens:
            raise ContentError(
                f"a content has {longest} tokens, the backbone has {self.max_tokens} positions; "
                "shorten it or let the processor truncate (on_limit='truncate')"
            )
