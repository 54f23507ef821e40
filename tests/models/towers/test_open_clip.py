"""Rows against open_clip's own path: what its pooling makes of them is what it gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.towers.open_clip import OpenClipTower
from tests.models.tower_folders import OPEN_CLIP, write_open_clip

MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))


def vision(**changes: object) -> dict:
    return {**OPEN_CLIP, "vision_cfg": {**OPEN_CLIP["vision_cfg"], **changes}}


RESNET = {**OPEN_CLIP, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}}
TIMM_VIT = {
    **OPEN_CLIP,
    "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit2", "timm_pool": "avg", "timm_proj": "linear"},
}
TIMM_CNN = {
    **OPEN_CLIP,
    "vision_cfg": {"image_size": 64, "timm_model_name": "test_efficientnet", "timm_pool": "", "timm_proj": "none"},
}


def pixels(size: int = 64, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images.float() / 255 - MEAN) / STD


@pytest.mark.parametrize("custom", [False, True])
def test_the_mean_row_is_what_average_pooling_gives(tmp_path: Path, custom: bool):
    model = write_open_clip(tmp_path, vision(pool_type="avg"), custom=custom)
    tower, images = OpenClipTower.from_weights(tmp_path).eval(), pixels()
    rows = tower(images, 16)
    assert rows.shape == (3, 16, 32) == (3, 16, tower.width)
    expected = model.encode_image(normalised(images))
    torch.testing.assert_close(rows.mean(1) @ model.visual.proj, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tower(images[:1], 16), rows[:1], atol=1e-5, rtol=1e-4)


def test_rows_are_the_tokens_that_open_clip_gives_beside_its_vector(tmp_path: Path):
    model = write_open_clip(tmp_path, vision(output_tokens=True))
    _, tokens = model.visual(normalised(pixels()))
    torch.testing.assert_close(OpenClipTower.from_weights(tmp_path).eval()(pixels(), 16), tokens, atol=1e-4, rtol=1e-4)


def test_a_norm_of_what_is_pooled_is_none_of_the_rows(tmp_path: Path):
    model = write_open_clip(tmp_path, vision(final_ln_after_pool=True, pool_type="avg"))
    rows = OpenClipTower.from_weights(tmp_path).eval()(pixels(), 16)
    expected = model.encode_image(normalised(pixels()))
    torch.testing.assert_close(model.visual.ln_post(rows.mean(1)) @ model.visual.proj, expected, atol=1e-4, rtol=1e-4)


def test_rows_of_an_attention_pooled_tower_are_what_the_pooling_reads(tmp_path: Path):
    model = write_open_clip(tmp_path, vision(attentional_pool=True, attn_pooler_heads=2, attn_pooler_queries=3))
    tower = OpenClipTower.from_weights(tmp_path).eval()
    seen = []
    model.visual.attn_pool.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model.encode_image(normalised(pixels()))
    torch.testing.assert_close(tower(pixels(), 16), seen[0][:, 1:], atol=1e-4, rtol=1e-4)
    assert not [name for name in tower.state_dict() if "attn_pool" in name or "ln_post" in name]


def test_a_resnets_rows_are_what_its_attention_pooling_reads(tmp_path: Path):
    model = write_open_clip(tmp_path, RESNET)
    tower = OpenClipTower.from_weights(tmp_path).eval()
    rows = tower(pixels(), 4)
    map_NChw = rows.transpose(1, 2).unflatten(2, (2, 2))
    expected = model.encode_image(normalised(pixels()))
    torch.testing.assert_close(model.visual.attnpool(map_NChw), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("described, size, tokens", [(TIMM_VIT, 160, 100), (TIMM_CNN, 64, 4)])
def test_a_timm_trunk_gives_its_own_features(tmp_path: Path, described: dict, size: int, tokens: int):
    model = write_open_clip(tmp_path, described)
    tower = OpenClipTower.from_weights(tmp_path).eval()
    trunk = model.visual.trunk
    features = trunk.forward_features(normalised(pixels(size)))
    if features.ndim == 4:
        features = features.flatten(2).transpose(1, 2)
    else:
        features = features[:, trunk.num_prefix_tokens :]
    torch.testing.assert_close(tower(pixels(size), tokens), features, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("described, size", [(OPEN_CLIP, 64), (RESNET, 64), (TIMM_VIT, 160)])
def test_only_the_last_blocks_train(tmp_path: Path, described: dict, size: int):
    write_open_clip(tmp_path, described)
    tower = OpenClipTower.from_weights(tmp_path).train()
    tower.train_last(1)
    before = {name: value.clone() for name, value in tower.trunk.named_buffers()}
    tower(pixels(size), 4).square().mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in tower.trunk.named_buffers())
    assert 0 < sum(p.requires_grad for p in tower.trunk.parameters()) < len(list(tower.trunk.parameters()))
    assert all((p.grad is not None and p.grad.any()) == p.requires_grad for p in tower.trunk.parameters())
    with pytest.raises(ConfigError, match="trainable_stages=99"):
        tower.train_last(99)


def test_a_tower_named_by_its_architecture_has_random_weights_of_the_right_sizes():
    import open_clip

    config = open_clip.get_model_config("ViT-S-32-alt")
    from commonspace.models.towers.open_clip import OpenClipVisionConfig

    made = OpenClipVisionConfig(
        config["embed_dim"], {**config["vision_cfg"], "layers": 1}, False, (0.5,) * 3, (0.5,) * 3
    )
    tower = OpenClipTower(made).eval()
    assert tower(pixels(224, 1), 49).shape == (1, 49, config["vision_cfg"]["width"])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path):
    import json

    write_open_clip(tmp_path)
    config = tmp_path / "open_clip_config.json"
    told = json.loads(config.read_text())
    cases = [
        ({"layers": 3}, "does not fit open_clip_config.json at transformer.resblocks.2"),
        ({"width": 48}, "does not fit open_clip_config.json"),
        ({"colour": 1}, "open_clip cannot make this tower .*colour"),
        ({"layers": 1}, "does not fit open_clip_config.json at transformer.resblocks.1"),
    ]
    for changes, message in cases:
        cfg = {**told["model_cfg"]["vision_cfg"], **changes}
        config.write_text(json.dumps({**told, "model_cfg": {**told["model_cfg"], "vision_cfg": cfg}}))
        with pytest.raises(WeightsError, match=message):
            OpenClipTower.from_weights(tmp_path)
    config.write_text(json.dumps({"model_cfg": {}}))
    with pytest.raises(WeightsError, match="open_clip_config.json: lacks 'embed_dim'"):
        OpenClipTower.from_weights(tmp_path)
