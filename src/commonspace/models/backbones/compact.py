"""The compact native backbone: an e5-style encoder that also reads image and audio tokens.

Legend: B contents, L tokens, D width, N media of one kind, R encoder rows, C encoder width, S all tokens of a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import BertModel

from commonspace.errors import ConfigError, ContentError
from commonspace.models.backbones.base import Backbone, TokenStates
from commonspace.models.backbones.connector import Connector
from commonspace.processing.pieces import KINDS, MARKS, Piece, Pieces

AUDIO_POSITIONS = 375  # 30 s at 12.5 tokens a second: one window of the audio encoder


@dataclass(frozen=True)
class _Layout:
    """Where the tokens of a batch stand: index_BL into the groups' tokens one after the other, below 0 at padding."""

    groups: list[list[Piece]]
    index_BL: torch.Tensor
    kind_BL: torch.Tensor

    def place(self, groups_SD: list[torch.Tensor]) -> torch.Tensor:
        """Token vectors of all groups in the contents' own order [B, L, D], zero at padding at the end."""
        return torch.cat(groups_SD)[self.index_BL.clamp(min=0)] * (self.index_BL >= 0).unsqueeze(-1)


class CompactBackbone(Backbone):
    """BERT-style encoder + connectors from a vision and an audio tower, all through `inputs_embeds`.

    Text alone runs exactly as in the pretrained encoder. Each medium's tokens stand between learned marks in their
    place in the content; the encoder's own position and type embeddings are added to every token alike.
    """

    def __init__(
        self,
        text: BertModel,
        vision: nn.Module | None = None,
        audio: nn.Module | None = None,
        *,
        image_tokens: int = 9,
        audio_merge: int = 2,
    ) -> None:
        super().__init__()
        self.width = text.config.hidden_size
        self.max_tokens = text.config.max_position_embeddings
        self.text = text
        self.vision = vision
        self.audio = audio
        self.marks = nn.Embedding(len(MARKS), self.width)
        words_VD = text.embeddings.word_embeddings.weight.detach()
        nn.init.normal_(self.marks.weight, std=words_VD.std().item() if words_VD.device.type != "meta" else 0.02)
        if vision is not None:
            self.image_connector = Connector(vision.width, self.width, positions=image_tokens)
        if audio is not None:
            self.audio_connector = Connector(audio.width, self.width, positions=AUDIO_POSITIONS, merge=audio_merge)
        for connector in self.connectors():
            connector.match_scale(words_VD)

    def connectors(self) -> list[Connector]:
        """The connectors this backbone has, image before audio."""
        return [module for module in self.children() if isinstance(module, Connector)]

    def towers(self) -> dict[str, nn.Module]:
        found = {"image": self.vision, "audio": self.audio}
        return {name: tower for name, tower in found.items() if tower is not None}

    def layers(self) -> list[nn.Module]:
        return list(self.text.encoder.layer)

    def forward(self, batch: Sequence[Pieces]) -> TokenStates:
        layout = self._layout(batch)
        made = [self._embed_group(group) for group in layout.groups]
        input_BLD = layout.place([tokens_SD for tokens_SD, _ in made])
        mask_BL = layout.kind_BL >= 0
        full = bool(mask_BL.all())  # no padding: the faster attention path, the same result
        states = self.text(inputs_embeds=input_BLD, attention_mask=None if full else mask_BL.long())
        summary_BLD = layout.place([summary_SD for _, summary_SD in made])
        return TokenStates(states.last_hidden_state, summary_BLD, layout.kind_BL)

    def summaries(self, batch: Sequence[Pieces]) -> tuple[torch.Tensor, torch.Tensor]:
        """`summary_BLD` and `kind_BL` of `TokenStates`, without the transformer and without media's tokens."""
        layout = self._layout(batch)
        summary_BLD = layout.place([self._embed_group(group, tokens=False)[1] for group in layout.groups])
        return summary_BLD, layout.kind_BL

    def _layout(self, batch: Sequence[Pieces]) -> _Layout:
        """Pieces by kind and shape, which are embedded together, and the place of each token in the batch."""
        self._check_lengths(batch)
        groups: dict[tuple, list[tuple[int, int, Piece]]] = defaultdict(list)
        lengths = []
        for row, pieces in enumerate(batch):
            start = 0
            for piece in pieces.pieces:
                shape = tuple(piece.value.shape) if piece.kind in ("image", "audio") else ()
                groups[piece.kind, piece.is_feature, piece.tokens if shape else 0, shape].append((row, start, piece))
                start += piece.tokens
            lengths.append(start)
        index_BL = np.full((len(batch), max(lengths)), -1)
        kinds, count = [], 0
        for (kind, *_), members in groups.items():
            for row, start, piece in members:
                index_BL[row, start : start + piece.tokens] = np.arange(count, count + piece.tokens)
                count += piece.tokens
            kinds.append(np.full(count - sum(map(len, kinds)), KINDS.index(kind)))
        kind_BL = np.where(index_BL >= 0, np.concatenate(kinds)[index_BL], -1)
        device = self.marks.weight.device
        return _Layout(
            [[piece for _, _, piece in members] for members in groups.values()],
            torch.from_numpy(index_BL).to(device),
            torch.from_numpy(kind_BL).to(device),
        )

    def _embed_group(self, pieces: list[Piece], tokens: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [S, D] of pieces of one kind and shape, one after the other, and what pooling reads before the
        transformer, which is the same but for media. Without `tokens` media get their summaries only.
        """
        kind, is_feature, device = pieces[0].kind, pieces[0].is_feature, self.marks.weight.device
        values = [piece.value.to(device) for piece in pieces]
        if is_feature:  # kept in float16; autocast on CPUs refuses to stack that
            values = [value.float() for value in values]
        if kind in ("text", "special"):
            tokens_SD = self.text.embeddings.word_embeddings(torch.cat(values))
            return tokens_SD, tokens_SD
        if kind == "mark":
            tokens_SD = self.marks(torch.stack(values))
            return tokens_SD, tokens_SD
        tower = self._tower(kind)
        if kind == "image":
            rows_NRC = torch.stack(values) if is_feature else tower(torch.stack(values), pieces[0].tokens)
            connector = self.image_connector
        else:
            rows_NRC, connector = self._audio_rows(pieces, values, is_feature), self.audio_connector
        count = -(-rows_NRC.shape[1] // connector.merge)
        if count != pieces[0].tokens:
            raise ConfigError(
                f"{kind} pieces promise {pieces[0].tokens} tokens each and the connector makes {count}: "
                "preprocessing, features and model disagree on grid or frame rate"
            )
        summary_SD = connector.summary(rows_NRC).repeat_interleave(count, dim=0)
        return (connector(rows_NRC).flatten(0, 1) if tokens else summary_SD), summary_SD

    def _tower(self, kind: str) -> nn.Module:
        tower = self.vision if kind == "image" else self.audio
        if tower is None:
            raise ContentError(
                f"this model was loaded without its {kind} tower; load it with towers including {kind!r}"
            )
        return tower

    def _audio_rows(self, pieces: list[Piece], values: list[torch.Tensor], is_feature: bool) -> torch.Tensor:
        """Encoder rows [N, R, C]. Pieces that are stretches of one sound share its mel frames, encoded once."""
        if is_feature:
            return torch.stack(values)
        sounds = {id(piece.value): value for piece, value in zip(pieces, values, strict=True)}
        encoded_NRC = dict(zip(sounds, self.audio(torch.stack(list(sounds.values()))), strict=True))
        return torch.stack([encoded_NRC[id(piece.value)][slice(*(piece.rows or (None, None)))] for piece in pieces])

    def _check_lengths(self, batch: Sequence[Pieces]) -> None:
        longest = max(pieces.tokens for pieces in batch)
        if longest > self.max_tokens:
            raise ContentError(
                f"a content has {longest} tokens, the backbone has {self.max_tokens} positions; "
                "shorten it or let the processor truncate (on_limit='truncate')"
            )
