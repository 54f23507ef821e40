"""Qwen's multimodal models as backbones: the thinkers of Qwen2.5-Omni and Qwen3-Omni, and Qwen3-VL.

Each is read without its language head (and without a talker), its causal mask removed by the switch that transformers
has for it (see causal_lm.py), or kept where that is asked for. Rotary positions have three axes, time, row and column,
and come from the model's own `get_rope_index`: segment by segment, since a whole content may hold clips with sound
beside clips without, which that takes only one kind of at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from commonspace.models.backbones.causal_lm import bidirectional
from commonspace.models.backbones.native import NativeBackbone, token_ids
from commonspace.models.backbones.native_batch import Patches, Segment, model_inputs
from commonspace.processing.native_layout import NativeLayout
from commonspace.processing.pieces import Pieces

_DEPTHS = {"image": ("vision_config", "depth"), "audio": ("audio_config", "encoder_layers")}


class QwenBackbone(NativeBackbone):
    """What Qwen's models share: patches of two frames, and positions asked of the model segment by segment."""

    tower_modules: ClassVar[dict[str, tuple[str, ...]]] = {"image": ("model.visual",), "audio": ("model.audio_tower",)}
    masks: ClassVar[tuple[str, ...]] = ("full", "causal")

    def __init__(self, model: PreTrainedModel, described: Mapping[str, Any]) -> None:
        super().__init__(model, described)
        vision = model.config.vision_config
        self.patches = Patches(
            vision.patch_size,
            vision.spatial_merge_size,
            vision.temporal_patch_size,
            tuple(described["image_mean"]),
            tuple(described["image_std"]),
        )

    @classmethod
    def prepare(cls, config: PreTrainedConfig, left_out: Collection[str]) -> None:
        bidirectional(config.get_text_config())
        for name in left_out:
            part, depth = _DEPTHS[name]
            setattr(getattr(config, part), depth, 0)

    @abstractmethod
    def positions(self, segment: Segment) -> torch.Tensor:
        """Rotary positions [3, S] of one segment with a medium, from 0, as the model itself counts."""

    def inputs(self, batch: Sequence[Pieces], device: torch.device) -> tuple[dict[str, Any], torch.Tensor]:
        return model_inputs(batch, self.layout, self.patches, self._positions, device)

    def _positions(self, segment: Segment) -> torch.Tensor:
        if segment.is_text:
            return torch.arange(len(segment.ids_S), dtype=torch.float32).expand(3, -1)
        return self.positions(segment).float().cpu()


class OmniBackbone(QwenBackbone):
    """The thinker of Qwen2.5-Omni: 25 tokens a second of sound; a clip and its soundtrack in turns of two seconds."""

    name = "omni"
    pretrained = "Qwen/Qwen2.5-Omni-7B"
    config_class = "Qwen2_5OmniThinkerConfig"
    model_class = "Qwen2_5OmniThinkerModel"
    model_types = ("qwen2_5_omni", "qwen2_5_omni_thinker")
    own_processor: ClassVar[str] = "Qwen2_5OmniProcessor"
    audio_tokens: ClassVar[int] = 25  # a second

    def __init__(self, model: PreTrainedModel, described: Mapping[str, Any]) -> None:
        super().__init__(model, described)
        unread = getattr(model.audio_tower, "audio_bos_eos_token", None)
        if unread is not None:  # a table that transformers reads nowhere: it would wait for a gradient for ever
            unread.requires_grad_(False)

    @classmethod
    def layout_of(cls, described: Mapping[str, Any]) -> NativeLayout:
        config = cls.whole_config(described)
        vision = token_ids(config, "vision_start_token_id"), token_ids(config, "vision_end_token_id")
        audio = token_ids(config, "audio_start_token_id"), token_ids(config, "audio_end_token_id")
        marks = {"image": vision, "video": vision, "audio": audio}
        marks["sounding"] = (vision[0] + audio[0], audio[1] + vision[1])
        return NativeLayout(
            cls.own_processor,
            config.vision_config.patch_size * config.vision_config.spatial_merge_size,
            marks,
            {kind: token_ids(config, f"{kind}_token_id")[0] for kind in ("image", "video", "audio")},
            config.vision_config.temporal_patch_size,
            cls.audio_tokens,
            config.position_id_per_seconds,
            getattr(config, "seconds_per_chunk", 2.0),
        )

    def positions(self, segment: Segment) -> torch.Tensor:
        ids_1S = segment.ids_S[None]
        positions_31S, _ = self.model.get_rope_index(
            ids_1S,
            _grids(segment.images),
            _grids(segment.clips),
            attention_mask=torch.ones_like(ids_1S),
            use_audio_in_video=bool(segment.clips and segment.sounds),
            audio_seqlens=torch.tensor(segment.sounds) if segment.sounds else None,
            second_per_grids=torch.tensor([segment.step_seconds]),
        )
        return positions_31S[:, 0]


class Qwen3OmniBackbone(OmniBackbone):
    """The thinker of Qwen3-Omni: 13 tokens a second of sound; a clip's steps among the sound by their time.

    Experts are not linear layers: low-rank adapters go on attention alone.
    """

    name = "qwen3_omni"
    pretrained = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
    config_class = "Qwen3OmniMoeThinkerConfig"
    model_class = "Qwen3OmniMoeThinkerModel"
    model_types = ("qwen3_omni_moe", "qwen3_omni_moe_thinker")
    linear_maps = r"layers\.\d+\.self_attn\.[qkvo]_proj"
    own_processor = "Qwen3OmniMoeProcessor"
    audio_tokens = 13


class Qwen3VLBackbone(QwenBackbone):
    """Qwen3-VL: images and clips, no sound; each step of a clip after its time as a text."""

    name = "qwen3_vl"
    pretrained = "Qwen/Qwen3-VL-2B-Instruct"
    tower_modules: ClassVar[dict[str, tuple[str, ...]]] = {"image": ("model.visual",)}
    config_class = "Qwen3VLConfig"
    model_class = "Qwen3VLModel"
    model_types = ("qwen3_vl",)

    @classmethod
    def layout_of(cls, described: Mapping[str, Any]) -> NativeLayout:
        config = cls.whole_config(described)
        vision = token_ids(config, "vision_start_token_id"), token_ids(config, "vision_end_token_id")
        return NativeLayout(
            "Qwen3VLProcessor",
            config.vision_config.patch_size * config.vision_config.spatial_merge_size,
            {"image": vision, "video": vision},
            {kind: token_ids(config, f"{kind}_token_id")[0] for kind in ("image", "video")},
            config.vision_config.temporal_patch_size,
            stamped=True,
        )

    def positions(self, segment: Segment) -> torch.Tensor:
        ids_1S = segment.ids_S[None]
        kinds_1S = (ids_1S == self.layout.placeholders["image"]) + 2 * (ids_1S == self.layout.placeholders["video"])
        positions_31S, _ = self.model.get_rope_index(
            ids_1S, kinds_1S.int(), _grids(segment.images), _grids(segment.clips)
        )
        return positions_31S[:, 0]


def _grids(grids: list[tuple[int, int, int]]) -> torch.Tensor | None:
    return torch.tensor(grids) if grids else None
