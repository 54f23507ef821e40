"""A transformer fed by `inputs_embeds`: what all our backbones share, from pieces to token states.

Legend: B contents, L tokens, D width, N media of one kind, R encoder rows, C encoder width, S all tokens of a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel

from commonspace.errors import ConfigError, ContentError
from commonspace.models.backbones.base import Backbone, Summaries, TokenStates
from commonspace.models.backbones.connector import Connector
from commonspace.models.backbones.layout import MEDIA, Group, Layout, groups_of
from commonspace.models.backbones.merging import Entering, entering, merge
from commonspace.processing.pieces import MARKS, Pieces

AUDIO_POSITIONS = 375  # 30 s at 12.5 tokens a second: one window of the audio encoder


class InputsEmbedsBackbone(Backbone):
    """A pretrained transformer `text` + connectors from a vision and an audio tower, all through `inputs_embeds`.

    Text alone runs exactly as in the pretrained transformer. Each medium's tokens stand between learned marks in their
    place in the content; whatever the transformer does about positions it does to every token alike. A kind of backbone
    says how `text` is read and made, where its layers are, and which of their linear maps take adapters.

    `set_lengths` says what contents beyond the transformer's own positions meet.
    """

    tower_modules: ClassVar[dict[str, tuple[str, ...]]] = {
        "image": ("vision", "image_connector"),
        "audio": ("audio", "audio_connector"),
    }

    def __init__(
        self,
        text: PreTrainedModel,
        vision: nn.Module | None = None,
        audio: nn.Module | None = None,
        *,
        image_tokens: int = 9,
        audio_merge: int = 2,
        connector_hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.width = self.output_width(text)
        self.input_width = text.config.hidden_size
        self.max_tokens = text.config.max_position_embeddings
        self.positions = "limit"
        self.merge_beyond: int | None = None
        self.window: int | None = None
        self.global_every: int | None = None
        self.text = text
        self.vision = vision
        self.audio = audio
        width = self.input_width
        self.marks = nn.Embedding(len(MARKS), width)
        words = text.get_input_embeddings()
        words_VD, scale = words.weight.detach(), getattr(words, "scalar_embed_scale", 1.0)  # Gemma's root of the width
        std = words_VD.std().item() if words_VD.device.type != "meta" else 0.02
        nn.init.normal_(self.marks.weight, std=scale * std)
        if vision is not None:
            self.image_connector = Connector(vision.width, width, positions=image_tokens, hidden=connector_hidden)
        if audio is not None:
            self.audio_connector = Connector(
                audio.width, width, positions=AUDIO_POSITIONS, merge=audio_merge, hidden=connector_hidden
            )
        for connector in self.connectors():
            connector.match_scale(words_VD, scale)

    @classmethod
    @abstractmethod
    def read_text(cls, folder: Path) -> PreTrainedModel:
        """The pretrained transformer of a folder in the Hugging Face layout, float32; WeightsError where it is none."""

    @classmethod
    @abstractmethod
    def text_of(cls, config: Mapping[str, Any]) -> PreTrainedModel:
        """The transformer that a model folder's config.json describes, its weights not yet read."""

    @staticmethod
    def output_width(text: PreTrainedModel) -> int:
        """Numbers of one token state."""
        return text.config.hidden_size

    def set_lengths(
        self,
        positions: str = "limit",
        max_positions: int | None = None,
        merge_beyond: int | None = None,
        window: int | None = None,
        global_every: int | None = None,
    ) -> None:
        """What long contents meet.

        positions      how those beyond the table of learned positions get theirs (`backbones.positions`), up to
                       `max_positions`; a kind without a table knows "limit" alone
        merge_beyond   tokens beyond which neighbours enter as their mean (`backbones.merging`); None: never
        window         tokens on either side that layers see, but for every `global_every`-th, which sees all
                       (`backbones.windows`); both None: all layers see all. Of kinds whose layers have no own windows
        Raises ConfigError for what has no effect or is out of range.
        """
        self._set_positions(positions, max_positions)
        if merge_beyond is not None and not 16 <= merge_beyond <= self.max_tokens:
            raise ConfigError(f"model.merge_beyond={merge_beyond}: this backbone takes 16 to {self.max_tokens} tokens")
        self._set_window(window, global_every)
        self.merge_beyond, self.window, self.global_every = merge_beyond, window, global_every

    def _set_window(self, window: int | None, global_every: int | None) -> None:
        if (window, global_every) != (None, None):
            raise ConfigError(f"model.window={window}, global_every={global_every}: {self.name} takes none; use null")

    def _set_positions(self, positions: str, max_positions: int | None) -> None:
        if positions != "limit" or max_positions is not None:
            raise ConfigError(
                f"model.positions={positions!r}, max_positions={max_positions}: {self.name} has no table of learned "
                f"positions, it takes {self.max_tokens} tokens; leave them at limit and null"
            )

    def connectors(self) -> list[Connector]:
        """The connectors this backbone has, image before audio."""
        return [module for module in self.children() if isinstance(module, Connector)]

    def towers(self) -> dict[str, nn.Module]:
        found = {"image": self.vision, "audio": self.audio}
        return {name: tower for name, tower in found.items() if tower is not None}

    def layers(self) -> list[nn.Module]:
        return list(self.text.layers)

    def forward(self, batch: Sequence[Pieces]) -> TokenStates:
        plans = [entering(pieces, self.merge_beyond) for pieces in batch]
        self.check_lengths([plan.tokens for plan in plans])
        groups, device = groups_of(batch), self.marks.weight.device
        made = [self._embed_group(group) for group in groups]
        layout = Layout.of(batch, groups, device)
        input_BLD, kind_BL = merge(layout.place([tokens_SD for tokens_SD, _ in made]), layout.kind_BS, plans)
        last_BLD = self._transformed(input_BLD, kind_BL >= 0, self._places(batch, plans, device))
        summaries = self._summaries(batch, groups, [summary_SD for _, summary_SD in made])
        return TokenStates(last_BLD, kind_BL, summaries)

    def _transformed(
        self, input_BLD: torch.Tensor, mask_BL: torch.Tensor, places: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """States [B, L, D] that leave the transformer; what stands at padding is never read."""
        full = bool(mask_BL.all())  # no padding: the faster attention path, the same result
        mask = None if full else mask_BL.long()
        return self.text(inputs_embeds=input_BLD, attention_mask=mask, **places).last_hidden_state

    def _places(
        self, batch: Sequence[Pieces], plans: Sequence[Entering], device: torch.device
    ) -> dict[str, torch.Tensor]:
        """What the transformer is told of positions; nothing where it counts them itself."""
        return {}

    def summaries(self, batch: Sequence[Pieces]) -> Summaries:
        """What the contents bring, without the transformer and without media's tokens.

        Of features the mean row [1, C] will do in place of all.
        """
        groups = groups_of(batch)
        made = {n: self._embed_group(group)[1] for n, group in enumerate(groups) if group[0].kind not in MEDIA}
        means: dict[Connector, dict[int, torch.Tensor]] = defaultdict(dict)
        for n, group in enumerate(groups):
            if n not in made:
                rows_NRC, connector = self._encoded(group)
                means[connector][n] = rows_NRC.float().mean(dim=1, keepdim=True)
        for connector, means_N1C in means.items():  # sounds of many lengths are many small groups: all at once
            summary_ND = connector.summary(torch.cat(list(means_N1C.values())))
            made.update(zip(means_N1C, summary_ND.split([len(mean) for mean in means_N1C.values()]), strict=True))
        return self._summaries(batch, groups, [made[n] for n in range(len(groups))])

    def _summaries(self, batch: Sequence[Pieces], groups: list[Group], made_ND: list[torch.Tensor]) -> Summaries:
        layout = Layout.of(batch, groups, self.marks.weight.device, whole=True)
        return Summaries(layout.place(made_ND), layout.kind_BS, layout.weight_BS)

    def _embed_group(self, pieces: Group) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [S, D] of a group's pieces, one after the other, and their summaries: of media one [D] a piece, else
        the tokens themselves.
        """
        kind, device = pieces[0].kind, self.marks.weight.device
        if kind in MEDIA:
            rows_NRC, connector = self._encoded(pieces)
            count = -(-rows_NRC.shape[1] // connector.merge)
            if count != pieces[0].tokens:
                raise ConfigError(
                    f"{kind} pieces promise {pieces[0].tokens} tokens each and the connector makes {count}: "
                    "preprocessing, features and model disagree on grid or frame rate"
                )
            return connector(rows_NRC, pieces[0].grid).flatten(0, 1), connector.summary(rows_NRC)
        values = [piece.value.to(device) for piece in pieces]
        words = self.text.get_input_embeddings()
        tokens_SD = self.marks(torch.stack(values)) if kind == "mark" else words(torch.cat(values))
        return tokens_SD, tokens_SD

    def _encoded(self, pieces: Group) -> tuple[torch.Tensor, Connector]:
        """A group's encoder rows [N, R, C], from its tower or from features, and the connector that takes them."""
        kind, is_feature, device = pieces[0].kind, pieces[0].is_feature, self.marks.weight.device
        values = [piece.value.to(device) for piece in pieces]
        if is_feature:  # kept in float16; autocast on CPUs refuses to stack that
            values = [value.float() for value in values]
        tower, grid = self._tower(kind), pieces[0].grid
        if kind == "image":
            media = values if grid and not is_feature else torch.stack(values)  # of one grid, but maybe of many sizes
            rows_NRC = media if is_feature else tower(media, grid or pieces[0].tokens)
            connector = self.image_connector
        else:
            rows_NRC, connector = self._audio_rows(pieces, values, is_feature), self.audio_connector
        return rows_NRC, connector

    def _tower(self, kind: str) -> nn.Module:
        tower = self.vision if kind == "image" else self.audio
        if tower is None:
            raise ContentError(
                f"this model was loaded without its {kind} tower; load it with towers including {kind!r}"
            )
        return tower

    def _audio_rows(self, pieces: Group, values: list[torch.Tensor], is_feature: bool) -> torch.Tensor:
        """Encoder rows [N, R, C]. Pieces that are stretches of one sound share its mel frames, encoded once."""
        if is_feature:
            return torch.stack(values)
        sounds = {id(piece.value): value for piece, value in zip(pieces, values, strict=True)}
        encoded_NRC = dict(zip(sounds, self.audio(torch.stack(list(sounds.values()))), strict=True))
        return torch.stack([encoded_NRC[id(piece.value)][slice(*(piece.rows or (None, None)))] for piece in pieces])
