"""The compact native backbone: an e5-style encoder that also reads image and audio tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel

from commonspace.errors import ConfigError
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.merging import Entering
from commonspace.models.backbones.packing import PACKED, Packing
from commonspace.models.backbones.positions import POSITIONS, PositionTable, restarted, stretched
from commonspace.models.backbones.windows import set_windows
from commonspace.processing.pieces import Pieces


class CompactBackbone(InputsEmbedsBackbone):
    """A BERT-style encoder, bidirectional as it comes; its position and type embeddings go to every token alike.

    Positions are a learned table, 512 rows in e5; `set_lengths` lets contents be longer than it.
    """

    name = "compact"
    pretrained = "multilingual-e5-small"
    linear_maps = (
        r"encoder\.layer\.\d+\."
        r"(attention\.self\.(query|key|value)|attention\.output\.dense|(intermediate|output)\.dense)"
    )

    def __init__(self, text: BertModel, *parts: nn.Module | None, **sizes: int | None) -> None:
        super().__init__(text, *parts, **sizes)
        text.config._attn_implementation = PACKED

    @classmethod
    def read_text(cls, folder: Path) -> BertModel:
        return BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)

    @classmethod
    def text_of(cls, config: Mapping[str, Any]) -> BertModel:
        return BertModel(BertConfig(**config), add_pooling_layer=False)

    def layers(self) -> list[nn.Module]:
        return list(self.text.encoder.layer)

    def _set_positions(self, positions: str, max_positions: int | None) -> None:
        if positions not in POSITIONS:
            raise ConfigError(f"model.positions={positions!r}: choose one of {', '.join(POSITIONS)}")
        if positions == "limit" and max_positions is not None:
            raise ConfigError(f"model.max_positions={max_positions} has no effect with positions=limit; leave it null")
        if positions != "limit" and (max_positions is None or max_positions <= self._rows):
            raise ConfigError(
                f"model.positions={positions}: needs model.max_positions above the {self._rows} rows of the table, "
                f"not {max_positions}"
            )
        embeddings = self.text.embeddings
        if not isinstance(embeddings.position_embeddings, PositionTable):
            embeddings.position_embeddings = PositionTable.of(embeddings.position_embeddings)
        self.positions, self.max_tokens = positions, max_positions or self._rows

    def _set_window(self, window: int | None, global_every: int | None) -> None:
        layers = self.layers()
        if (window is None) != (global_every is None):
            raise ConfigError(f"model.window={window}, global_every={global_every}: give both, or null for both")
        if window is not None and window < 16:
            raise ConfigError(f"model.window={window}: use 16 tokens on either side, or more")
        if global_every is not None and not 2 <= global_every <= len(layers):
            raise ConfigError(f"model.global_every={global_every}: one layer in 2 to {len(layers)} sees all")
        set_windows((layer.attention.self for layer in layers), window, global_every)

    @property
    def _rows(self) -> int:
        return self.text.config.max_position_embeddings

    def _places(
        self, batch: Sequence[Pieces], plans: Sequence[Entering], device: torch.device
    ) -> dict[str, torch.Tensor]:
        """Positions [B, L] and types of a batch with a content beyond the table, else nothing: BERT counts itself."""
        longest = max(plan.tokens for plan in plans)
        if longest <= self._rows:
            return {}
        stretch = self.positions == "interpolate"
        place_BL = np.zeros((len(batch), longest), np.float32 if stretch else np.int64)
        for row, (pieces, plan) in enumerate(zip(batch, plans, strict=True)):
            own = stretched(plan.tokens, self._rows) if stretch else restarted(pieces, plan.counts, self._rows)
            place_BL[row, : plan.tokens] = own
        types_BL = torch.zeros(place_BL.shape, dtype=torch.int64, device=device)  # its own are as long as the table
        return {"position_ids": torch.from_numpy(place_BL).to(device), "token_type_ids": types_BL}

    def _transformed(
        self, input_BLD: torch.Tensor, mask_BL: torch.Tensor, places: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """On a CPU contents of several lengths are packed; a GPU is quicker with one padded batch."""
        if input_BLD.device.type != "cpu" or mask_BL.all() or self.text.config._attn_implementation != PACKED:
            return super()._transformed(input_BLD, mask_BL, places)
        packing = Packing.of(mask_BL)
        counted_BL = torch.arange(mask_BL.shape[1]).expand_as(mask_BL)
        position_1T = packing.pack(places.get("position_ids", counted_BL))
        states = self.text(
            inputs_embeds=packing.pack(input_BLD),
            position_ids=position_1T,
            token_type_ids=torch.zeros(position_1T.shape, dtype=torch.int64),
            runs=packing.runs,
        )
        return packing.unpack(states.last_hidden_state, mask_BL.shape)
