"""Whole multimodal transformers as users have them, small and random: folders in the Hugging Face layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, processors
from transformers import PreTrainedModel

from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.build import ModelOptions, build_model
from commonspace.models.embedder import Embedder
from commonspace.processing.native_preprocessing import NativePreprocessing
from tests.models.tiny import tiny_tokenizer

NATIVE = ("omni", "qwen3_omni", "qwen3_vl")
HEARING = ("omni", "qwen3_omni")
# By family: what the tokenizer calls its tokens, in the order of `_NAMES`.
_NAMES = ("vision_start", "vision_end", "audio_start", "audio_end", "image", "video", "audio")
_TOKENS = {
    "omni": (
        "<|vision_bos|>", "<|vision_eos|>", "<|audio_bos|>", "<|audio_eos|>", "<|IMAGE|>", "<|VIDEO|>", "<|AUDIO|>",
    ),
    "qwen3_omni": (
        "<|vision_start|>", "<|vision_end|>", "<|audio_start|>", "<|audio_end|>", "<|image_pad|>", "<|video_pad|>",
        "<|audio_pad|>",
    ),
}  # fmt: skip
_TOKENS["qwen3_vl"] = _TOKENS["qwen3_omni"]
_TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.2, "pad_token_id": 1, "max_position_embeddings": 2048,
}  # fmt: skip
_EYES = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
_EARS = {
    "num_mel_bins": 128, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16,
    "output_dim": 32,
}  # fmt: skip


def tokens_of(family: str) -> dict[str, str]:
    """{"image": "<|IMAGE|>", ...}: a family's special tokens by what they are."""
    return dict(zip(_NAMES, _TOKENS[family], strict=True))


def native_tokenizer(family: str) -> Tokenizer:
    """Whole words and the family's special tokens; none stand around a text."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(list(tokens_of(family).values()))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def whole_native(family: str) -> PreTrainedModel:
    """The class that a hub folder holds, its language head included."""
    torch.manual_seed(1)
    ids = {name: native_tokenizer(family).token_to_id(token) for name, token in tokens_of(family).items()}
    size = native_tokenizer(family).get_vocab_size()
    marks = {f"{name}_token_id": ids[name] for name in ("vision_start", "vision_end")}
    sounds = {f"{name}_token_id": ids[name] for name in ("audio_start", "audio_end")}
    if family == "omni":
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
        config = transformers.Qwen2_5OmniThinkerConfig(
            text_config={**_TEXT, "vocab_size": size, "rope_parameters": rope, "tie_word_embeddings": False},
            vision_config={**_EYES, "fullatt_block_indexes": [1], "window_size": 56},
            audio_config=_EARS,
            **{f"{name}_token_index": ids[name] for name in ("image", "video", "audio")}, **marks, **sounds,
        )  # fmt: skip
        return transformers.Qwen2_5OmniThinkerForConditionalGeneration(config).eval()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    eyes = {**_EYES, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    text = {**_TEXT, "vocab_size": size, "rope_parameters": rope}
    if family == "qwen3_vl":
        seen = {f"{name}_token_id": ids[name] for name in ("image", "video")}
        config = transformers.Qwen3VLConfig(
            text_config={**text, "head_dim": 16}, vision_config=eyes, **marks, **seen
        )  # fmt: skip
        return transformers.Qwen3VLForConditionalGeneration(config).eval()
    experts = {"num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = transformers.Qwen3OmniMoeThinkerConfig(
        text_config={**text, **experts}, vision_config=eyes, audio_config={**_EARS, "downsample_hidden_size": 4},
        position_id_per_seconds=13, **{f"{name}_token_id": ids[name] for name in ("image", "video", "audio")},
        **marks, **sounds,
    )  # fmt: skip
    return transformers.Qwen3OmniMoeThinkerForConditionalGeneration(config).eval()


def image_processor(family: str, **options: Any) -> transformers.Qwen2VLImageProcessor:
    """As a hub folder has it: Qwen3 normalises otherwise than Qwen2.5 does."""
    own = {} if family == "omni" else {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return transformers.Qwen2VLImageProcessor(**own, **options)


def write_native(root: Path, family: str) -> Path:
    """A weights folder that holds the family's model under the name its preset gives it."""
    folder = root / BACKBONES[family].pretrained
    whole_native(family).save_pretrained(folder)
    native_tokenizer(family).save(str(folder / "tokenizer.json"))
    image_processor(family).save_pretrained(folder)
    return root


def small_numbers(**changes: Any) -> NativePreprocessing:
    """Pictures of a few tokens."""
    sizes = {"image_max_tokens": 9, "frame_min_tokens": 4, "frame_max_tokens": 4, "video_max_frames": 8}
    return NativePreprocessing(**{**sizes, "max_tokens": 512, "max_text_tokens": 64, **changes})


def built_native(root: Path, family: str, **changes: Any) -> Embedder:
    """The embedder that `build_model` makes of such a folder."""
    options = {
        "name": family, "backbone": BACKBONES[family].pretrained, "vision": "own",
        "audio": "own" if family in HEARING else None, "embedding_size": 32, "matryoshka_sizes": (8, 16, 32), **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    return build_model(ModelOptions(**options), small_numbers(), weights=str(write_native(root, family)))
