"""Models of the real classes, small, but deep and wide enough that their layers outweigh what stands around them."""

from __future__ import annotations

import torch
import transformers

from commonspace import Embedder
from commonspace.configuration import compose
from commonspace.models.backbones.causal_lm import CausalLMBackbone, bidirectional
from commonspace.models.backbones.compact import CompactBackbone
from commonspace.planning.architecture import shaped
from commonspace.processing.processor import Processor
from tests.models.tiny import tiny_embedder, tiny_tokenizer

_TEXT = {
    "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64, "pad_token_id": 1, "max_position_embeddings": 2048,
}  # fmt: skip
_EYES = {"depth": 6, "hidden_size": 96, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 64}
_EARS = {"encoder_layers": 6, "encoder_attention_heads": 4, "encoder_ffn_dim": 256, "d_model": 64, "output_dim": 64}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
CONFIGS = {
    "omni": {
        "text_config": {**_TEXT, "rope_parameters": _ROPE},
        "vision_config": {**_EYES, "fullatt_block_indexes": [1, 5]},
        "audio_config": _EARS,
        "vision_start_token_id": 50, "vision_end_token_id": 51, "audio_start_token_id": 52, "audio_end_token_id": 53,
        "image_token_index": 54, "video_token_index": 55, "audio_token_index": 56,
    },
    "embedding_gemma2_whole": {
        "text_config": {
            **_TEXT, "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 64, "embedding_dim": 96,
            "sliding_window": 16, "bos_token_id": 0, "eos_token_id": 2,
            "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2,
        },
        "vision_config": {
            "model_type": "gemma4_vision", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 6,
            "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 24, "position_embedding_size": 512,
        },
        "audio_config": {
            "model_type": "gemma4_audio", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
            "output_proj_dims": 96,
        },
        "boi_token_id": 50, "eoi_token_id": 51, "boa_token_id": 52, "eoa_token_index": 53,
        "image_token_id": 54, "video_token_id": 55, "audio_token_id": 56,
    },
}  # fmt: skip


def small_model(family: str) -> Embedder:
    """A model to train a step of; compact, qwen3 and gemma3 are transformers alone."""
    torch.manual_seed(0)
    if family in CONFIGS:
        options = {"embedding_size": 32, "matryoshka_sizes": [8, 32], "image_max_tokens": 70}
        model = {**compose("train", [f"model={family}", "data.features=false"]).model, **options}
        return shaped(model, CONFIGS[family], "cpu")
    if family == "compact":
        backbone = CompactBackbone(
            transformers.BertModel(
                transformers.BertConfig(**_TEXT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
                add_pooling_layer=False,
            )
        )
    elif family == "qwen3":
        config = transformers.Qwen3Config(**_TEXT, head_dim=16)
        backbone = CausalLMBackbone(transformers.Qwen3Model(bidirectional(config)))
    else:
        config = transformers.Gemma3TextConfig(**_TEXT, head_dim=16, query_pre_attn_scalar=16)
        backbone = CausalLMBackbone(transformers.Gemma3TextModel(bidirectional(config)))
    preprocessing = tiny_embedder().processor.preprocessing
    return Embedder(backbone, Processor(preprocessing, tiny_tokenizer()), embedding_size=32, matryoshka_sizes=(8, 32))
