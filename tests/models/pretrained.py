"""Pretrained weights as users have them, small and random: folders in the Hugging Face layout, read by our own code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors
from transformers import (
    EmbeddingGemma2Config,
    EmbeddingGemma2Model,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    WhisperConfig,
    WhisperModel,
)

from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.build import ModelOptions, build_model
from commonspace.models.embedder import Embedder
from commonspace.models.towers.vision import VisionConfig, VisionTower
from commonspace.processing.preprocessing import Preprocessing
from tests.models.tiny import tiny_embedder, tiny_tokenizer
from tests.models.tower_folders import MEL_VIT, NAFLEX, write_open_clip, write_timm

WINDOW = 4  # of sliding layers: shorter than most contents
FAMILIES = ("compact", "qwen3", "gemma3", "embedding_gemma2", "open_clip_text")
KIND = {
    "qwen3": "causal_lm", "gemma3": "causal_lm", "embedding_gemma2": "embedding_gemma2",
    "open_clip_text": "open_clip_text",
}  # fmt: skip
_SIZES = {
    "vocab_size": tiny_tokenizer().get_vocab_size(), "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.2,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
_AROUND = {  # <s>, </s>
    "qwen3": (False, False), "gemma3": (True, False), "embedding_gemma2": (True, True), "open_clip_text": (True, True),
}  # fmt: skip


def whole_model(family: str, layers: tuple[str, ...] = (), **changes: object) -> PreTrainedModel:
    """The class that a hub folder holds; `layers` are types of layer ("full_attention", "sliding_attention")."""
    torch.manual_seed(1)
    sizes = {**_SIZES, **changes}
    if family == "qwen3":
        layers = layers or ("full_attention", "full_attention")
        window = {"use_sliding_window": True, "sliding_window": WINDOW}
        config = Qwen3Config(**sizes, **window, layer_types=list(layers), num_hidden_layers=len(layers))
        return Qwen3ForCausalLM(config).eval()
    layers = layers or ("sliding_attention", "full_attention", "sliding_attention", "full_attention")
    sizes |= {"sliding_window": WINDOW, "layer_types": list(layers), "num_hidden_layers": len(layers)}
    if family == "gemma3":
        return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, query_pre_attn_scalar=16)).eval()
    text = {**sizes, "global_head_dim": 32, "hidden_size_per_layer_input": 16, "embedding_dim": 48}
    vision = {
        "model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "patch_size": 8, "pooling_kernel_size": 2,
        "position_embedding_size": 16,
    }  # fmt: skip
    audio = {
        "model_type": "gemma4_audio", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "output_proj_dims": 16,
    }  # fmt: skip
    config = EmbeddingGemma2Config(text_config=text, vision_config=vision, audio_config=audio)
    return EmbeddingGemma2Model(config).eval()


def write_text_folder(folder: Path, family: str, **changes: object) -> Path:
    """config.json, model.safetensors and tokenizer.json of a transformer; special tokens stand as in its family."""
    if family == "open_clip_text":
        write_open_clip(folder)
    else:
        whole_model(family, **changes).save_pretrained(folder)
    family_tokenizer(family).save(str(folder / "tokenizer.json"))
    return folder


def family_tokenizer(family: str) -> Tokenizer:
    """Whole words between the special tokens that a family's tokenizer puts."""
    tokenizer = tiny_tokenizer()
    start, end = _AROUND[family]
    if start:
        single = "<s> $A </s>" if end else "<s> $A"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("<s>", 0), ("</s>", 2)][: 1 + end]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def write_weights(root: Path, family: str, **changes: object) -> Path:
    """A weights folder: the family's transformer and two towers, each under the name its preset gives it."""
    write_text_folder(root / BACKBONES[KIND[family]].pretrained, family, **changes)
    return write_packaged_towers(root)


def write_packaged_towers(root: Path) -> Path:
    """The towers of the compact model, small and random, under their names."""
    vision = VisionTower(VisionConfig("test_efficientnet", (0.5,) * 3, (0.5,) * 3))
    folder = root / "efficientnet-lite0"
    folder.mkdir(parents=True)
    save_file(vision.trunk.state_dict(), folder / "model.safetensors")
    cfg = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps({"architecture": "test_efficientnet", "pretrained_cfg": cfg}))
    whisper = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, num_mel_bins=80,
        decoder_layers=1, decoder_attention_heads=2, vocab_size=8, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0, suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    folder = root / "whisper-tiny.en"
    folder.mkdir()
    whisper.save_pretrained(folder)
    tensors = {
        f"model.{name}": tensor for name, tensor in WhisperModel(whisper).encoder.state_dict(prefix="encoder.").items()
    }
    save_file(tensors, folder / "model.safetensors")
    return root


def built(root: Path, family: str, **changes: object) -> Embedder:
    """The embedder that `build_model` makes of such a folder; `compact` is the tiny one of every other test."""
    if family == "compact":
        return tiny_embedder()
    kind = KIND[family]
    options = {
        "name": kind, "backbone": BACKBONES[kind].pretrained, "image_grid": 2, "embedding_size": 32,
        "matryoshka_sizes": (8, 16, 32), "connector_hidden": 64, **changes,
    }  # fmt: skip
    preprocessing = Preprocessing(
        image_size=64, image_grid=2, document_grid=2, frame_grid=1, max_tokens=128, max_text_tokens=64
    )
    torch.manual_seed(0)
    return build_model(ModelOptions(**options), preprocessing, weights=str(write_weights(root, family)))


# What a preset of the compact model has beside the sizes of `tiny_embedder`.
PRESETS = {
    "compact_naflex": (),
    "compact_open_clip": (),
    "compact_audio_vit": ("model.audio_mels=32",),
}


def write_preset(root: Path, preset: str) -> Path:
    """A weights folder for a preset of the compact model: the encoder and its towers, each under its name."""
    from commonspace.configuration import compose

    model = compose("train", [f"model={preset}"]).model
    text = write_packaged_towers(root) / model.backbone
    tiny_embedder().backbone.text.save_pretrained(text)
    tiny_tokenizer().save(str(text / "tokenizer.json"))
    if preset == "compact_naflex":
        write_timm(root / model.vision, NAFLEX)
    elif preset == "compact_open_clip":
        write_open_clip(root / model.vision)
    else:
        write_timm(root / model.audio, MEL_VIT, channels=1)
    return root
