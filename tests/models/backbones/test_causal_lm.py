"""That a decoder made bidirectional is so, layer by layer."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from commonspace.models.backbones.causal_lm import CausalLMBackbone
from tests.models.pretrained import WINDOW, whole_model

CASES = list(product(("qwen3", "gemma3"), ("full_attention", "sliding_attention")))


def one_layer(family: str, layer: str, **changes: object):
    """A decoder of one layer, so that what it sees is seen by that layer alone; and as it came, causal."""
    config = whole_model(family, (layer,), **changes).config.to_diff_dict()
    return CausalLMBackbone.text_of(config).eval(), whole_model(family, (layer,), **changes).model


def reach(text, length: int, *, padding: int = 0) -> list[bool]:
    """Which tokens move the first state of `length` tokens, by itself or beside a longer neighbour."""
    torch.manual_seed(0)
    input_LD = torch.randn(length + padding, text.config.hidden_size)
    mask = None
    if padding:
        mask = torch.ones(2, length + padding, dtype=torch.long)
        mask[0, length:] = 0
    first = []
    for moved in (None, *range(length + padding)):
        changed_LD = input_LD.clone()
        if moved is not None:
            changed_LD[moved] += 1
        batch_BLD = torch.stack([changed_LD, input_LD]) if padding else changed_LD[None]
        with torch.no_grad():
            first.append(text(inputs_embeds=batch_BLD, attention_mask=mask).last_hidden_state[0, 0])
    return [bool((state - first[0]).abs().max() > 1e-6) for state in first[1:]]


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("family, layer", CASES)
def test_a_layer_sees_the_last_token_and_no_padding(family: str, layer: str, padding: int) -> None:
    text, _ = one_layer(family, layer)
    length = WINDOW + 1  # the longest content that a sliding layer sees whole
    assert reach(text, length, padding=padding) == [True] * length + [False] * padding


@pytest.mark.parametrize("family, layer", CASES)
def test_the_decoder_as_it_comes_does_not(family: str, layer: str) -> None:
    _, causal = one_layer(family, layer)
    assert reach(causal, WINDOW + 1) == [True] + [False] * WINDOW


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_a_sliding_layer_keeps_its_window_and_a_full_one_has_none(family: str) -> None:
    sliding, full = (one_layer(family, layer)[0] for layer in ("sliding_attention", "full_attention"))
    assert reach(sliding, WINDOW + 4) == [True] * (WINDOW + 1) + [False] * 3
    assert reach(full, WINDOW + 4) == [True] * (WINDOW + 4)


def test_a_folder_that_is_bidirectional_by_itself_keeps_its_own_window() -> None:
    text, own = one_layer("gemma3", "sliding_attention", use_bidirectional_attention=True)
    assert text.config.sliding_window == own.config.sliding_window == WINDOW // 2 + 1
    assert reach(text, WINDOW + 2) == reach(own, WINDOW + 2) == [True] * (WINDOW // 2 + 1) + [False] * 3


def test_a_decoder_whose_tensors_lie_in_parts_is_read(tmp_path: Path) -> None:
    whole = whole_model("qwen3")
    whole.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    read = CausalLMBackbone.read_text(tmp_path)
    assert torch.equal(read.layers[1].mlp.up_proj.weight, whole.model.layers[1].mlp.up_proj.weight)
    assert read.dtype == torch.float32 and not read.config.is_causal
