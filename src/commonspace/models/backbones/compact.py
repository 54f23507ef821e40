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
from commonspace.models.backbones.base import Backbone, Summaries, TokenStates
from commonspace.models.backbones.connector import Connector
from commonspace.processing.pieces import KINDS, MARKS, Piece, Pieces

_MEDIA = ("image", "audio")  # kinds of pieces with an encoder and a connector
AUDIO_POSITIONS = 375  # 30 s at 12.5 tokens a second: one window of the audio encoder

Group = list[Piece]  # pieces of one kind and shape, which are embedded together


@dataclass(frozen=True)
class _Layout:
    """Where the entries of a batch stand: index_BS into the groups' entries one after the other, below 0 at padding.

    An entry is a token; where `whole` media count as one entry each, weight_BS says how many tokens it stands for.
    """

    index_BS: torch.Tensor
    kind_BS: torch.Tensor
    weight_BS: torch.Tensor

    @classmethod
    def of(
        cls, batch: Sequence[Pieces], groups: Sequence[Group], device: torch.device, *, whole: bool = False
    ) -> _Layout:
        """The places of `groups`' pieces, each in the content and order it stands in."""
        first = {}  # by identity; a piece that stands in several places is embedded alike for each
        entries = 0
        for group in groups:
            for piece in group:
                first[id(piece)] = entries
                entries += _entries(piece, whole)
        lengths = [sum(_entries(piece, whole) for piece in pieces.pieces) for pieces in batch]
        index_BS = np.full((len(batch), max(lengths)), -1)
        kind_BS, weight_BS = np.full_like(index_BS, -1), np.zeros(index_BS.shape, np.float32)
        for row, pieces in enumerate(batch):
            start = 0
            for piece in pieces.pieces:
                count = _entries(piece, whole)
                place = slice(start, start + count)
                index_BS[row, place] = np.arange(first[id(piece)], first[id(piece)] + count)
                kind_BS[row, place] = KINDS.index(piece.kind)
                weight_BS[row, place] = piece.tokens / count
                start += count
        return cls(*(torch.from_numpy(array).to(device) for array in (index_BS, kind_BS, weight_BS)))

    def place(self, groups_ND: list[torch.Tensor]) -> torch.Tensor:
        """Vectors of all groups in the contents' own order [B, S, D], zero at padding at the end."""
        return torch.cat(groups_ND)[self.index_BS.clamp(min=0)] * (self.index_BS >= 0).unsqueeze(-1)


def _entries(piece: Piece, whole: bool) -> int:
    return 1 if whole and piece.kind in _MEDIA else piece.tokens


def _groups(batch: Sequence[Pieces]) -> list[Group]:
    """All pieces of a batch by kind and shape."""
    groups: dict[tuple, Group] = defaultdict(list)
    for pieces in batch:
        for piece in pieces.pieces:
            shape = (piece.tokens, *piece.value.shape) if piece.kind in _MEDIA else ()
            groups[piece.kind, piece.is_feature, shape].append(piece)
    return list(groups.values())


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
        connector_hidden: int | None = None,
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
            self.image_connector = Connector(vision.width, self.width, positions=image_tokens, hidden=connector_hidden)
        if audio is not None:
            self.audio_connector = Connector(
                audio.width, self.width, positions=AUDIO_POSITIONS, merge=audio_merge, hidden=connector_hidden
            )
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
        self._check_lengths(batch)
        groups, device = _groups(batch), self.marks.weight.device
        made = [self._embed_group(group) for group in groups]
        layout = _Layout.of(batch, groups, device)
        input_BLD = layout.place([tokens_SD for tokens_SD, _ in made])
        mask_BL = layout.kind_BS >= 0
        full = bool(mask_BL.all())  # no padding: the faster attention path, the same result
        states = self.text(inputs_embeds=input_BLD, attention_mask=None if full else mask_BL.long())
        summaries = self._summaries(batch, groups, [summary_SD for _, summary_SD in made])
        return TokenStates(states.last_hidden_state, layout.kind_BS, summaries)

    def summaries(self, batch: Sequence[Pieces]) -> Summaries:
        """What the contents bring, without the transformer and without media's tokens."""
        groups = _groups(batch)
        made = {n: self._embed_group(group)[1] for n, group in enumerate(groups) if group[0].kind not in _MEDIA}
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
        layout = _Layout.of(batch, groups, self.marks.weight.device, whole=True)
        return Summaries(layout.place(made_ND), layout.kind_BS, layout.weight_BS)

    def _embed_group(self, pieces: Group) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [S, D] of a group's pieces, one after the other, and their summaries: of media one [D] a piece, else
        the tokens themselves.
        """
        kind, device = pieces[0].kind, self.marks.weight.device
        if kind in _MEDIA:
            rows_NRC, connector = self._encoded(pieces)
            return connector(rows_NRC).flatten(0, 1), connector.summary(rows_NRC)
        values = [piece.value.to(device) for piece in pieces]
        words = self.text.embeddings.word_embeddings
        tokens_SD = self.marks(torch.stack(values)) if kind == "mark" else words(torch.cat(values))
        return tokens_SD, tokens_SD

    def _encoded(self, pieces: Group) -> tuple[torch.Tensor, Connector]:
        """A group's encoder rows [N, R, C], from its tower or from features, and the connector that takes them."""
        kind, is_feature, device = pieces[0].kind, pieces[0].is_feature, self.marks.weight.device
        values = [piece.value.to(device) for piece in pieces]
        if is_feature:  # kept in float16; autocast on CPUs refuses to stack that
            values = [value.float() for value in values]
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
        return rows_NRC, connector

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
