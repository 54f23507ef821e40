from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from commonspace.errors import WeightsError
from commonspace.models.readers import ctranslate2


def _name(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _variable(name: str, value: np.ndarray) -> bytes:
    kind = {"<f4": 0, "|i1": 1, "<i2": 2, "<i4": 3, "<f2": 4}[value.dtype.str]
    head = struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
    return _name(name) + head + struct.pack("<BI", kind, value.nbytes) + value.tobytes()


def _file(variables: dict[str, np.ndarray], spec: str = "WhisperSpec") -> bytes:
    blocks = b"".join(_variable(name, value) for name, value in variables.items())
    return struct.pack("<I", 6) + _name(spec) + struct.pack("<II", 3, len(variables)) + blocks


@pytest.fixture
def model() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=51864, d_model=8, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=12, decoder_ffn_dim=10, num_mel_bins=4, max_source_positions=6,
        max_target_positions=5,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def _variables(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """The model as CTranslate2 lays it out: fused projections, no key bias, the embedding shared with the output."""
    state = {name: tensor.detach().numpy() for name, tensor in model.model.state_dict().items()}
    made = {"encoder/num_heads": np.array(2, np.int16), "decoder/num_heads": np.array(2, np.int16)}

    def norm(target: str, source: str) -> None:
        made[f"{target}/gamma"], made[f"{target}/beta"] = state[f"{source}.weight"], state[f"{source}.bias"]

    def linear(target: str, *sources: str) -> None:
        weights = [state[f"{source}.weight"] for source in sources]
        biases = [state.get(f"{source}.bias", np.zeros(len(weights[0]), np.float32)) for source in sources]
        made[f"{target}/weight"], made[f"{target}/bias"] = np.concatenate(weights), np.concatenate(biases)

    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            made[f"encoder/{conv}/{kind}"] = state[f"encoder.{conv}.{kind}"]
    for side, layers in (("encoder", 1), ("decoder", 2)):
        made[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(layers):
            to, of = f"{side}/layer_{i}", f"{side}.layers.{i}"
            linear(f"{to}/self_attention/linear_0", *(f"{of}.self_attn.{p}_proj" for p in "qkv"))
            linear(f"{to}/self_attention/linear_1", f"{of}.self_attn.out_proj")
            norm(f"{to}/self_attention/layer_norm", f"{of}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{to}/attention/linear_0", f"{of}.encoder_attn.q_proj")
                linear(f"{to}/attention/linear_1", *(f"{of}.encoder_attn.{p}_proj" for p in "kv"))
                linear(f"{to}/attention/linear_2", f"{of}.encoder_attn.out_proj")
                norm(f"{to}/attention/layer_norm", f"{of}.encoder_attn_layer_norm")
            linear(f"{to}/ffn/linear_0", f"{of}.fc1")
            linear(f"{to}/ffn/linear_1", f"{of}.fc2")
            norm(f"{to}/ffn/layer_norm", f"{of}.final_layer_norm")
    made["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"]
    return made


def test_a_written_model_reads_back(model: WhisperForConditionalGeneration):
    tensors, config = ctranslate2.read(_file(_variables(model)), "model.bin")
    other = WhisperForConditionalGeneration(config).eval()
    outcome = other.load_state_dict(tensors, strict=False)
    assert outcome.missing_keys == ["proj_out.weight"] and not outcome.unexpected_keys  # tied to the embedding
    mel, ids = torch.randn(2, 4, 12), torch.tensor([[50257, 3, 4], [50257, 5, 6]])
    with torch.no_grad():
        torch.testing.assert_close(other(mel, decoder_input_ids=ids).logits, model(mel, decoder_input_ids=ids).logits)


def test_a_key_bias_is_refused(model: WhisperForConditionalGeneration):
    variables = _variables(model)
    variables["encoder/layer_0/self_attention/linear_0/bias"][8:16] = 1
    with pytest.raises(WeightsError, match="encoder/layer_0/self_attention/linear_0: the key has a bias"):
        ctranslate2.read(_file(variables), "model.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file(spec="TransformerSpec"), "is no CTranslate2 file of a Whisper model"),
        (lambda file: b"", "is no CTranslate2 file"),
        (lambda file: file()[:-100], "ends at byte"),
        (lambda file: file(without="encoder/conv2/bias"), "lacks the variable 'encoder/conv2/bias'"),
        (lambda file: file(without="encoder/num_heads"), "lacks the variable 'encoder/num_heads'"),
    ],
)
def test_another_file_is_refused_by_name(model: WhisperForConditionalGeneration, change, message: str):
    def file(spec: str = "WhisperSpec", without: str = "") -> bytes:
        return _file({name: value for name, value in _variables(model).items() if name != without}, spec)

    with pytest.raises(WeightsError, match=f"^model.bin: {message}"):
        ctranslate2.read(change(file), "model.bin")
