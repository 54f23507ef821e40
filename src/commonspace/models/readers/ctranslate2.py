"""whisper-tiny.en out of a CTranslate2 `model.bin`, under the names of `transformers.WhisperForConditionalGeneration`.

Layout (little-endian): uint32 version, spec name, uint32 revision, uint32 count; then per variable its name, rank,
dimensions, type id, byte count and values; then aliases. A name is a uint16 length and zero-ended bytes.
CTranslate2 fuses the projections of query, key and value; here they part again. The key has no bias in Whisper.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from transformers import GenerationConfig, WhisperConfig

from commonspace.errors import WeightsError
from commonspace.models.readers.binary import Cursor

_DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_END, _START, _PROMPT_END = 50256, 50257, 50362  # <|endoftext|>, <|startoftranscript|>, <|notimestamps|>


def read(data: bytes, name: str) -> tuple[dict[str, torch.Tensor], WhisperConfig]:
    """Float32 tensors of encoder and decoder, and the config; raises WeightsError for any other file."""
    variables = _read_variables(Cursor(data, name))
    config = _config(variables, name)
    tensors: dict[str, torch.Tensor] = {}
    try:
        _encoder_stem(variables, tensors)
        for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
            for layer in range(layers):
                _layer(variables, tensors, side, layer)
            _norm(variables, tensors, f"{side}/layer_norm", f"model.{side}.layer_norm")
            positions = _tensor(variables, f"{side}/position_encodings/encodings")
            tensors[f"model.{side}.embed_positions.weight"] = positions
        tensors["model.decoder.embed_tokens.weight"] = _tensor(variables, "decoder/embeddings/weight")
    except KeyError as missing:
        raise WeightsError(f"{name}: lacks the variable {missing}; use the pinned package version") from missing
    return tensors, config


def generation_config(package: Mapping) -> GenerationConfig:
    """How to transcribe with the model, from the `config.json` beside `model.bin`."""
    return GenerationConfig(
        decoder_start_token_id=_START,
        bos_token_id=_START,
        eos_token_id=_END,
        pad_token_id=_END,
        forced_decoder_ids=[[1, _PROMPT_END]],
        no_timestamps_token_id=_PROMPT_END,
        suppress_tokens=package["suppress_ids"],
        begin_suppress_tokens=package["suppress_ids_begin"],
        alignment_heads=package["alignment_heads"],
        is_multilingual=False,
        max_length=448,
    )


def _read_variables(cursor: Cursor) -> dict[str, np.ndarray]:
    spec = ""
    if len(cursor.data) > 6:
        cursor.number("I")  # version of the format
        spec = _read_name(cursor)
    if spec != "WhisperSpec":
        raise WeightsError(f"{cursor.name}: is no CTranslate2 file of a Whisper model; fetch the package again")
    cursor.number("I")  # revision of the spec
    variables = {}
    for _ in range(cursor.number("I")):
        name = _read_name(cursor)
        shape = cursor.numbers(f"{cursor.number('B')}I")
        kind, size = cursor.numbers("BI")
        if kind not in _DTYPES:
            raise WeightsError(f"{cursor.name}: {name} has the unknown type {kind}; use the pinned package version")
        variables[name] = np.frombuffer(cursor.take(size), _DTYPES[kind]).reshape(shape)
    return variables


def _read_name(cursor: Cursor) -> str:
    return bytes(cursor.take(cursor.number("H"))).rstrip(b"\0").decode("utf-8", "replace")


def _config(variables: Mapping[str, np.ndarray], name: str) -> WhisperConfig:
    def layers(side: str) -> int:
        return len({key.split("/")[1] for key in variables if key.startswith(f"{side}/layer_") and "/ffn/" in key})

    try:
        words, width = variables["decoder/embeddings/weight"].shape
        return WhisperConfig(
            vocab_size=words,
            d_model=width,
            num_mel_bins=variables["encoder/conv1/weight"].shape[1],
            encoder_layers=layers("encoder"),
            decoder_layers=layers("decoder"),
            encoder_attention_heads=int(variables["encoder/num_heads"]),
            decoder_attention_heads=int(variables["decoder/num_heads"]),
            encoder_ffn_dim=variables["encoder/layer_0/ffn/linear_0/bias"].shape[0],
            decoder_ffn_dim=variables["decoder/layer_0/ffn/linear_0/bias"].shape[0],
            max_source_positions=variables["encoder/position_encodings/encodings"].shape[0],
            max_target_positions=variables["decoder/position_encodings/encodings"].shape[0],
            decoder_start_token_id=_START,
            bos_token_id=_END,
            eos_token_id=_END,
            pad_token_id=_END,
            architectures=["WhisperForConditionalGeneration"],
        )
    except KeyError as missing:
        raise WeightsError(f"{name}: lacks the variable {missing}; use the pinned package version") from missing


def _tensor(variables: Mapping[str, np.ndarray], key: str) -> torch.Tensor:
    return torch.from_numpy(variables[key].astype(np.float32))


def _encoder_stem(variables: Mapping[str, np.ndarray], tensors: dict[str, torch.Tensor]) -> None:
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            tensors[f"model.encoder.{conv}.{kind}"] = _tensor(variables, f"encoder/{conv}/{kind}")


def _layer(variables: Mapping[str, np.ndarray], tensors: dict[str, torch.Tensor], side: str, layer: int) -> None:
    source, target = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
    attention = f"{source}/self_attention"
    _projections(variables, tensors, f"{attention}/linear_0", f"{target}.self_attn", ("q_proj", "k_proj", "v_proj"))
    _linear(variables, tensors, f"{attention}/linear_1", f"{target}.self_attn.out_proj")
    _norm(variables, tensors, f"{attention}/layer_norm", f"{target}.self_attn_layer_norm")
    if side == "decoder":
        attention = f"{source}/attention"
        _linear(variables, tensors, f"{attention}/linear_0", f"{target}.encoder_attn.q_proj")
        _projections(variables, tensors, f"{attention}/linear_1", f"{target}.encoder_attn", ("k_proj", "v_proj"))
        _linear(variables, tensors, f"{attention}/linear_2", f"{target}.encoder_attn.out_proj")
        _norm(variables, tensors, f"{attention}/layer_norm", f"{target}.encoder_attn_layer_norm")
    for index in (0, 1):
        _linear(variables, tensors, f"{source}/ffn/linear_{index}", f"{target}.fc{index + 1}")
    _norm(variables, tensors, f"{source}/ffn/layer_norm", f"{target}.final_layer_norm")


def _projections(
    variables: Mapping[str, np.ndarray], tensors: dict[str, torch.Tensor], source: str, target: str, names: tuple
) -> None:
    weights = _tensor(variables, f"{source}/weight").chunk(len(names))
    biases = _tensor(variables, f"{source}/bias").chunk(len(names))
    for name, weight, bias in zip(names, weights, biases, strict=True):
        tensors[f"{target}.{name}.weight"] = weight.clone()
        if name != "k_proj":
            tensors[f"{target}.{name}.bias"] = bias.clone()
        elif bias.any():
            raise WeightsError(f"{source}: the key has a bias, Whisper has none; use the pinned package version")


def _linear(variables: Mapping[str, np.ndarray], tensors: dict[str, torch.Tensor], source: str, target: str) -> None:
    for kind in ("weight", "bias"):
        tensors[f"{target}.{kind}"] = _tensor(variables, f"{source}/{kind}")


def _norm(variables: Mapping[str, np.ndarray], tensors: dict[str, torch.Tensor], source: str, target: str) -> None:
    for kind, letter in (("weight", "gamma"), ("bias", "beta")):
        tensors[f"{target}.{kind}"] = _tensor(variables, f"{source}/{letter}")
