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

QWEN = ("omni", "qwen3_omni", "qwen3_vl")
GEMMA = "embedding_gemma2_whole"
GEMMA3 = "gemma3"
CHAT = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")  # of omni's tokenizer
CAUSAL = (*QWEN, GEMMA3)  # as they come
NATIVE = (*CAUSAL, GEMMA)
HEARING = ("omni", "qwen3_omni", GEMMA)
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
    GEMMA: ("<|image>", "<image|>", "<|audio>", "<audio|>", "<|image|>", "<|video|>", "<|audio|>"),
}  # fmt: skip
_TOKENS["qwen3_vl"] = _TOKENS["qwen3_omni"]
_TOKENS[GEMMA3] = ("<start_of_image>", "<end_of_image>", "", "", "<image_soft_token>", "", "")
_TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.2, "pad_token_id": 1, "max_position_embeddings": 2048,
}  # fmt: skip
_EYES = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
_EARS = {
    "num_mel_bins": 128, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16,
    "output_dim": 32,
}  # fmt: skip
PATCH, POOLED, MELS = 4, 2, 16  # of the tiny EmbeddingGemma 2
SQUARE = 32  # of the tiny Gemma 3


def tokens_of(family: str) -> dict[str, str]:
    """{"image": "<|IMAGE|>", ...}: a family's special tokens by what they are."""
    return {name: token for name, token in zip(_NAMES, _TOKENS[family], strict=True) if token}


def native_tokenizer(family: str) -> Tokenizer:
    """Whole words and the family's special tokens; around a text of Gemmas <s> and </s>, of Gemma 3 <s> alone."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(list(tokens_of(family).values()))
    if family == "omni":
        tokenizer.add_special_tokens(list(CHAT))
    if family == GEMMA:
        tokenizer.add_tokens([f"0{number}" for number in range(10)])
    elif family == GEMMA3:
        tokenizer.add_tokens(["\n\n"])
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def whole_native(family: str) -> PreTrainedModel:
    """The class that a hub folder holds, its language head included."""
    torch.manual_seed(1)
    ids = {name: native_tokenizer(family).token_to_id(token) for name, token in tokens_of(family).items()}
    size = native_tokenizer(family).get_vocab_size()
    if family == GEMMA:
        return _whole_gemma(ids, size)
    if family == GEMMA3:
        return _whole_gemma3(ids, size)
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


def _whole_gemma(ids: dict[str, int], size: int) -> PreTrainedModel:
    text = {
        **_TEXT, "vocab_size": size, "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 16,
        "embedding_dim": 48, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"],
        "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    eyes = {
        "model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2,
        "patch_size": PATCH, "pooling_kernel_size": POOLED, "position_embedding_size": 256, "use_clipped_linears": True,
    }  # fmt: skip
    ears = {
        "model_type": "gemma4_audio", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "output_proj_dims": 24, "subsampling_conv_channels": [MELS, 4], "initializer_range": 0.2,
    }  # fmt: skip
    marks = {"boi_token_id": "vision_start", "eoi_token_id": "vision_end", "boa_token_id": "audio_start",
             "eoa_token_index": "audio_end"}  # fmt: skip
    config = transformers.EmbeddingGemma2Config(
        text_config=text, vision_config=eyes, audio_config=ears,
        **{option: ids[name] for option, name in marks.items()},
        **{f"{name}_token_id": ids[name] for name in ("image", "video", "audio")},
    )  # fmt: skip
    return transformers.EmbeddingGemma2Model(config).eval()


def _whole_gemma3(ids: dict[str, int], size: int) -> PreTrainedModel:
    text = {
        **_TEXT, "vocab_size": size, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"], "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    eyes = {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SQUARE, "patch_size": 8, "vision_use_head": False,
    }  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text, vision_config=eyes, mm_tokens_per_image=4, boi_token_index=ids["vision_start"],
        eoi_token_index=ids["vision_end"], image_token_index=ids["image"],
    )  # fmt: skip
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zero as it is made
    return model


def gemma3_processor() -> transformers.Gemma3Processor:
    """Gemma 3's own processor around the tiny tokenizer."""
    tokens = tokens_of(GEMMA3)
    names = {
        "boi_token": tokens["vision_start"], "eoi_token": tokens["vision_end"], "image_token": tokens["image"],
    }  # fmt: skip
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=native_tokenizer(GEMMA3), extra_special_tokens=names, pad_token="<pad>", unk_token="<unk>",
        bos_token="<s>",
    )  # fmt: skip
    images = transformers.Gemma3ImageProcessor(size={"height": SQUARE, "width": SQUARE})
    return transformers.Gemma3Processor(image_processor=images, tokenizer=tokenizer, image_seq_length=4)


def gemma_processor(**numbers: Any) -> transformers.EmbeddingGemma2Processor:
    """EmbeddingGemma 2's own processor around the tiny tokenizer; its least budget of tokens unless told otherwise."""
    tokens = tokens_of(GEMMA)
    names = {
        "boi_token": tokens["vision_start"], "eoi_token": tokens["vision_end"], "image_token": tokens["image"],
        "boa_token": tokens["audio_start"], "eoa_token": tokens["audio_end"], "audio_token": tokens["audio"],
    }  # fmt: skip
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=native_tokenizer(GEMMA), extra_special_tokens=names, pad_token="<pad>", unk_token="<unk>",
        bos_token="<s>", eos_token="</s>",
    )  # fmt: skip
    look = {"patch_size": PATCH, "pooling_kernel_size": POOLED, "max_soft_tokens": 70, **numbers}
    return transformers.EmbeddingGemma2Processor(
        feature_extractor=transformers.Gemma4AudioFeatureExtractor(feature_size=MELS),
        image_processor=transformers.Gemma4ImageProcessor(**look), tokenizer=tokenizer,
        video_processor=transformers.EmbeddingGemma2VideoProcessor(**look),
    )  # fmt: skip


def image_processor(family: str, **options: Any) -> transformers.Qwen2VLImageProcessor:
    """As a hub folder has it: Qwen3 normalises otherwise than Qwen2.5 does."""
    own = {} if family == "omni" else {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return transformers.Qwen2VLImageProcessor(**own, **options)


def write_native(root: Path, family: str) -> Path:
    """A weights folder that holds the family's model under the name its preset gives it."""
    folder = root / BACKBONES[family].pretrained
    whole_native(family).save_pretrained(folder)
    processor = {GEMMA: gemma_processor, GEMMA3: gemma3_processor}.get(family, lambda: image_processor(family))()
    processor.save_pretrained(folder)
    native_tokenizer(family).save(str(folder / "tokenizer.json"))
    return root


def small_numbers(family: str = "omni", **changes: Any) -> NativePreprocessing:
    """Pictures of a few tokens."""
    sizes = {"image_max_tokens": 9, "frame_min_tokens": 4, "frame_max_tokens": 4, "video_max_frames": 8}
    kind = BACKBONES[family].preprocessing
    sizes = {name: size for name, size in sizes.items() if name not in kind.unused}
    return kind(**{**sizes, "max_tokens": 512, "max_text_tokens": 64, **changes})


def built_native(root: Path, family: str, numbers: dict[str, Any] | None = None, **changes: Any) -> Embedder:
    """The embedder that `build_model` makes of such a folder; `numbers` are of its preprocessing."""
    options = {
        "name": family, "backbone": BACKBONES[family].pretrained, "vision": "own",
        "audio": "own" if family in HEARING else None, "embedding_size": 32, "matryoshka_sizes": (8, 16, 32), **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    preprocessing, weights = small_numbers(family, **(numbers or {})), str(write_native(root, family))
    return build_model(ModelOptions(**options), preprocessing, weights=weights)
