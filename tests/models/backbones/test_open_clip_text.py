"""CLIP's transformer attending both ways; what must hold of every backbone is in test_kinds.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from commonspace.errors import WeightsError
from commonspace.models.backbones.open_clip_text import OpenClipTextBackbone
from tests.models.tower_folders import OPEN_CLIP, write_open_clip

BOTH_WAYS = {**OPEN_CLIP, "text_cfg": {**OPEN_CLIP["text_cfg"], "no_causal_mask": True, "pool_type": "last"}}
MOVE_D = torch.linspace(-1, 1, 32)  # no constant: a norm would take that out
CUSTOM = {**OPEN_CLIP, "text_cfg": {**OPEN_CLIP["text_cfg"], "qk_norm": True}}


@pytest.mark.parametrize("custom", [False, True])
def test_a_tower_trained_both_ways_gives_its_own_states(tmp_path: Path, custom: bool):
    clip = write_open_clip(tmp_path, BOTH_WAYS, custom=custom)
    own = clip.text if custom else clip
    text = OpenClipTextBackbone.read_text(tmp_path).eval()
    ids_BL = torch.randint(0, 20, (2, 128), generator=torch.Generator().manual_seed(0))
    states = text(inputs_embeds=text.get_input_embeddings()(ids_BL)).last_hidden_state
    projected = states[:, -1] @ own.text_projection
    torch.testing.assert_close(projected, clip.encode_text(ids_BL), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("described", [OPEN_CLIP, CUSTOM], ids=["default blocks", "custom blocks"])
@pytest.mark.parametrize("padding", [0, 3])
def test_every_token_sees_the_last_and_none_sees_padding(tmp_path: Path, described: dict, padding: int):
    write_open_clip(tmp_path, described)
    text, length = OpenClipTextBackbone.read_text(tmp_path).eval(), 5
    input_1LD = torch.randn(1, length + padding, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * length + [0] * padding]) if padding else None
    with torch.no_grad():
        first = text(input_1LD, mask).last_hidden_state[0, :length]
        for place in range(length + padding):
            moved_1LD = input_1LD.clone()
            moved_1LD[0, place] += MOVE_D
            change = (text(moved_1LD, mask).last_hidden_state[0, :length] - first).abs().amax(-1)
            assert bool((change > 1e-6).all()) == bool((change > 1e-6).any()) == (place < length)


def test_the_tower_as_it_comes_is_causal(tmp_path: Path):
    clip = write_open_clip(tmp_path)
    input_1LD = torch.randn(1, 128, 32, generator=torch.Generator().manual_seed(0))
    moved_1LD = input_1LD.clone()
    moved_1LD[0, -1] += MOVE_D
    with torch.no_grad():
        one, other = (clip.transformer(states, attn_mask=clip.attn_mask) for states in (input_1LD, moved_1LD))
    assert torch.equal(one[0, 0], other[0, 0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hf_model_name": "roberta-base"}, "is roberta-base of transformers; take"),
        ({"embed_cls": True}, "class token"),
    ],
)
def test_other_text_towers_are_refused(tmp_path: Path, changes: dict, message: str):
    write_open_clip(tmp_path)
    told = json.loads((tmp_path / "open_clip_config.json").read_text())
    told["model_cfg"]["text_cfg"] |= changes
    (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
    with pytest.raises(WeightsError, match=message):
        OpenClipTextBackbone.read_text(tmp_path)
