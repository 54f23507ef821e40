"""The compact native backbone: an e5-style encoder that also reads image and audio tokens.

Legend: B contents, L tokens, D width, N media of one kind, R encoder rows, C encoder width, S all tokens of a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import BertModel

from commonspace.errors import ConfigError, ContentError
from commonspace.models.backbones.base import Backbone, TokenStates
from commonspace.models.backbones.connector import Connector
from commonspace.processing.pieces import KINDS, MARKS, Piece, Pieces

AUDIO_POSITIONS = 375  # 30 s at 12.5 tokens a second: one window of the audio encoder


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
        input_BLD, kind_BL = self.assemble(batch)
        mask_BL = kind_BL >= 0
        full = bool(mask_BL.all())  # no padding: the faster attention path, the same result
        states = self.text(inputs_embeds=input_BLD, attention_mask=None if full else mask_BL.long())
        return TokenStates(states.last_hidden_state, input_BLD, kind_BL)

    def assemble(self, batch: Sequence[Pieces]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token embeddings [B, L, D] in the contents' own order, zero-padded at the end, and their kinds [B, L].

        All tokens of a kind are embedded together into one pool [S, D]; one gather then puts each in its place.
        """
        self._check_lengths(batch)
        groups: dict[tuple, list[tuple[int, int, Piece]]] = defaultdict(list)
        places = []  # per content, where its pieces start in it
        for row, pieces in enumerate(batch):
            start = 0
            for piece in pieces.pieces:
                shape = tuple(piece.value.shape) if piece.kind in ("image", "audio") else ()
                groups[piece.kind, piece.is_feature, piece.tokens if shape else 0, shape].append((row, start, piece))
                start += piece.tokens
            places.append(start)
        pool, kinds, rows, columns = [], [], [], []
        for (kind, is_feature, _, _), members in groups.items():
            pool.append(self._embed_group(kind, is_feature, [piece for _, _, piece in members]))
            kinds.append(torch.full((len(pool[-1]),), KINDS.index(kind)))
            for row, start, piece in members:
                rows.append(np.full(piece.tokens, row))
                columns.append(np.arange(start, start + piece.tokens))
        pool_SD = torch.cat(pool)
        index_BL = np.full((len(batch), max(places)), -1)
        index_BL[np.concatenate(rows), np.concatenate(columns)] = np.arange(len(pool_SD))
        index_BL = torch.from_numpy(index_BL).to(pool_SD.device)
        kind_BL = torch.where(index_BL >= 0, torch.cat(kinds).to(pool_SD.device)[index_BL.clamp(min=0)], -1)
        input_BLD = pool_SD[index_BL.clamp(min=0)] * (kind_BL >= 0).unsqueeze(-1)
        return input_BLD, kind_BL

    def _embed_group(self, kind: str, is_feature: bool, pieces: list[Piece]) -> torch.Tensor:
        """Tokens of pieces of one kind and shape, one after the other: [sum of their tokens, D]."""
        device = self.marks.weight.device
        values = [piece.value.to(device) for piece in pieces]
        if is_feature:  # kept in float16; autocast on CPUs refuses to stack that
            values = [value.float() for value in values]
        if kind in ("text", "special"):
            return self.text.embeddings.word_embeddings(torch.cat(values))
        if kind == "mark":
            return self.marks(torch.stack(values))
        tower = self._tower(kind)
        if kind == "image":
            rows_NRC = torch.stack(values) if is_feature else tower(torch.stack(values), pieces[0].tokens)
            tokens_NTD = self.image_connector(rows_NRC)
        else:
            tokens_NTD = self.audio_connector(self._audio_rows(pieces, values, is_feature))
        if tokens_NTD.shape[1] != pieces[0].tokens:
            raise ConfigError(
                f"{kind} pieces promise {pieces[0].tokens} tokens each and the connector gave {tokens_NTD.shape[1]}: "
                "preprocessing, features and model disagree on grid or frame rate"
            )
        return tokens_NTD.flatten(0, 1)

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
