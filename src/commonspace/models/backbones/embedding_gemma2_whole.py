"""EmbeddingGemma 2 whole: its own vision and audio towers, marks and layout.

transformers' `EmbeddingGemma2Model` is bidirectional as it comes: full layers, and sliding ones with a window on either
side. Its states are projected to the embedding's width token by token, so their mean is the model's own vector.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers  # loads a class when it is asked for
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedConfig, PreTrainedModel

from commonspace.errors import WeightsError
from commonspace.models.backbones.embedding_gemma2 import EmbeddingGemma2Backbone
from commonspace.models.backbones.native import NativeBackbone, read_numbers_of, token_ids
from commonspace.models.backbones.native_batch import first_media, token_inputs
from commonspace.processing.gemma_layout import GemmaLayout
from commonspace.processing.gemma_preprocessing import GemmaPreprocessing
from commonspace.processing.gemma_processor import GemmaProcessor
from commonspace.processing.pieces import Pieces

_SOUND = (
    "feature_size", "sampling_rate", "padding_value", "min_frequency", "max_frequency", "preemphasis",
    "preemphasis_htk_flavor", "fft_overdrive", "input_scale_factor",
)  # fmt: skip


class EmbeddingGemma2WholeBackbone(NativeBackbone):
    """`width` is that of the embedding (768), `input_width` that of the transformer (512)."""

    name = "embedding_gemma2_whole"
    pretrained = EmbeddingGemma2Backbone.pretrained
    linear_maps = EmbeddingGemma2Backbone.linear_maps
    tower_modules: ClassVar[dict[str, tuple[str, ...]]] = {
        "image": ("model.vision_tower", "model.embed_vision"),
        "audio": ("model.audio_tower", "model.embed_audio"),
    }
    preprocessing = GemmaPreprocessing
    processor = GemmaProcessor
    attention = None  # the audio tower has one of its own
    numbers = (*NativeBackbone.numbers, "sound")
    config_class = "EmbeddingGemma2Config"
    model_class = "EmbeddingGemma2Model"
    model_types = ("embedding_gemma2",)

    def __init__(self, model: PreTrainedModel, described: Mapping[str, Any]) -> None:
        super().__init__(model, described)
        self.width = model.config.get_text_config().embedding_dim

    @classmethod
    def of_weights(cls, folder: Path, towers: Collection[str], mask: str = "full") -> NativeBackbone:
        backbone = super().of_weights(folder, towers, mask)
        for lost in sorted(set(towers) - set(backbone.towers())):
            raise WeightsError(f"{folder}: its config.json has no {lost} tower; leave that out by null")
        return backbone

    @classmethod
    def read_numbers(cls, folder: Path, towers: Collection[str]) -> dict[str, Any]:
        """Beside normalisation how sounds are measured; None without an audio tower."""
        numbers, sound = super().read_numbers(folder, towers), None
        if "audio" in towers:
            sound = sound_options(read_numbers_of(transformers.AutoFeatureExtractor, folder, "sounds"))
        return {**numbers, "sound": sound}

    @classmethod
    def prepare(cls, config: PreTrainedConfig, left_out: Collection[str]) -> None:
        for name in left_out:
            setattr(config, {"image": "vision_config", "audio": "audio_config"}[name], None)

    @classmethod
    def layout_of(cls, described: Mapping[str, Any]) -> GemmaLayout:
        config, sound = cls.whole_config(described), described["sound"]
        vision = config.vision_config
        if vision is None:
            raise WeightsError("config.json of an embedding_gemma2: has no vision_config; use model=embedding_gemma2")
        seen = token_ids(config, "boi_token_id"), token_ids(config, "eoi_token_id")
        heard = token_ids(config, "boa_token_id"), token_ids(config, "eoa_token_index")
        return GemmaLayout(
            "EmbeddingGemma2Processor",
            vision.patch_size * vision.pooling_kernel_size,
            {"image": seen, "video": seen, "audio": heard},
            {kind: token_ids(config, f"{kind}_token_id")[0] for kind in ("image", "video", "audio")},
            frames_per_step=1,
            audio_tokens=25 if sound else 0,
            patch=vision.patch_size,
            sound=sound,
        )

    def inputs(self, batch: Sequence[Pieces], device: torch.device) -> tuple[dict[str, Any], torch.Tensor]:
        inputs, kind_BL = token_inputs(batch, self.layout, device)
        pixels = [piece.value.to(device) for piece in first_media(batch, "image")]
        for axes, values, places in (
            (3, "pixel_values", "image_position_ids"),
            (4, "pixel_values_videos", "video_position_ids"),
        ):
            if found := [one.reshape(one.shape[-3:]) for one in pixels if one.ndim == axes]:
                inputs[values], inputs[places] = self._patches(found)
                if axes == 4:
                    inputs["num_frames_per_video"] = torch.ones(len(found), dtype=torch.int64)
        if mels := [piece.value.T.to(device) for piece in first_media(batch, "audio")]:
            lengths = torch.tensor([len(mel_TM) for mel_TM in mels], device=device)
            inputs["input_features"] = pad_sequence(mels, batch_first=True)
            inputs["input_features_mask"] = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        return inputs, kind_BL

    def _patches(self, pictures: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [N, P, C] of uint8 pixels [3, H, W], and each one's column and row [N, P, 2]: -1 at padding."""
        from transformers.models.gemma4.image_processing_gemma4 import convert_image_to_patches

        size = self.layout.patch
        mean, std = (
            255 * torch.tensor(self.described[name], device=pictures[0].device).view(3, 1, 1)
            for name in ("image_mean", "image_std")
        )
        patches = [convert_image_to_patches((one.float() - mean) / std, size) for one in pictures]
        grids = [(one.shape[1] // size, one.shape[2] // size) for one in pictures]
        places = [torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(-1) for rows, columns in grids]
        place_NP2 = pad_sequence(places, batch_first=True, padding_value=-1).to(pictures[0].device)
        return pad_sequence(patches, batch_first=True), place_NP2


def sound_options(extractor: transformers.FeatureExtractionMixin) -> dict[str, Any]:
    """What makes the same feature extractor again, as JSON values; noise added on purpose (dither) is left out."""
    try:
        options = {name: getattr(extractor, name) for name in _SOUND}
        options |= {
            f"{name}_ms": 1000 * getattr(extractor, name) / extractor.sampling_rate
            for name in ("frame_length", "hop_length")
        }
        options["mel_floor"] = float(extractor.mel_floor)
        for name in ("per_bin_mean", "per_bin_stddev"):
            value = getattr(extractor, name)
            options[name] = None if value is None else [float(one) for one in value.ravel()]
    except AttributeError as error:
        raise WeightsError(
            f"the feature extractor of an embedding_gemma2 is no Gemma4AudioFeatureExtractor: {error}"
        ) from error
    return options
