"""Rows of native aspects against timm's own features of each image alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.towers.naflex import NaflexConfig, NaflexTower
from tests.models.tower_folders import HALF, NAFLEX, write_timm

SIZES = [(64, 64), (32, 128), (128, 32), (48, 80), (16, 16)]


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]


def own_map(model: torch.nn.Module, pixels_3HW: torch.Tensor) -> torch.Tensor:
    """timm's features of one image in its plain mode, without patches made by us: [C, rows, columns]."""
    features_1LC = model.forward_features((pixels_3HW[None].float() / 255 - 0.5) / 0.5)
    return features_1LC[0, model.num_prefix_tokens :].T.unflatten(1, (-1, pixels_3HW.shape[2] // 16))


@pytest.fixture(params=["learned", "factorized"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[torch.nn.Module, NaflexTower]:
    described = {**NAFLEX, "model_args": {**NAFLEX["model_args"], "pos_embed": request.param}}
    return write_timm(tmp_path, described), NaflexTower.from_weights(tmp_path).eval()


def test_rows_are_timms_own_features_alone_and_beside_others(pair):
    model, tower = pair
    for index, pixels_3HW in enumerate(images()):
        map_Chw = own_map(model, pixels_3HW)
        expected_LC, grid = map_Chw.flatten(1).T, map_Chw.shape[1:]
        torch.testing.assert_close(tower([pixels_3HW], tuple(grid))[0], expected_LC, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(tower(images(), tuple(grid))[index], expected_LC, atol=1e-5, rtol=1e-4)


def test_a_map_is_averaged_down_to_the_grid(pair):
    model, tower = pair
    map_Chw = own_map(model, images()[1])
    assert map_Chw.shape[1:] == (2, 8)
    expected = map_Chw.unflatten(2, (4, 2)).mean((1, 3)).T
    torch.testing.assert_close(tower(images(), (1, 4))[1], expected, atol=1e-5, rtol=1e-4)


def test_only_the_last_blocks_train(tmp_path: Path):
    write_timm(tmp_path, NAFLEX)
    tower = NaflexTower.from_weights(tmp_path).train()
    tower.train_last(1)
    tower(images(), (2, 2)).square().mean().backward()
    trained = {".".join(name.split(".")[:2]) for name, p in tower.trunk.named_parameters() if p.requires_grad}
    assert trained == {"blocks.1", "norm.weight", "norm.bias"} and not tower.frozen
    assert all((p.grad is not None and p.grad.any()) == p.requires_grad for p in tower.trunk.parameters())


def test_a_norm_after_the_pooling_is_no_part_of_the_features(tmp_path: Path):
    described = {**NAFLEX, "architecture": "naflexvit_base_patch16_gap"}
    model = write_timm(tmp_path, described)
    tower = NaflexTower.from_weights(tmp_path).eval()
    assert not [name for name in tower.state_dict() if "fc_norm" in name or "head" in name]
    expected = own_map(model, images()[0]).flatten(1).T
    torch.testing.assert_close(tower(images()[:1], (4, 4))[0], expected, atol=1e-5, rtol=1e-4)


def test_the_fingerprint_moves_with_the_config(tmp_path: Path):
    write_timm(tmp_path, NAFLEX)
    tower, again = (NaflexTower.from_weights(tmp_path) for _ in range(2))
    assert tower.fingerprint == again.fingerprint
    described = json.loads((tmp_path / "config.json").read_text())
    described["pretrained_cfg"]["std"] = [0.4, 0.5, 0.5]
    (tmp_path / "config.json").write_text(json.dumps(described))
    assert NaflexTower.from_weights(tmp_path).fingerprint != tower.fingerprint


def test_what_is_no_naflexvit_is_refused(tmp_path: Path):
    for name in ("test_vit", "no_such_trunk"):
        with pytest.raises(ConfigError, match=name):
            NaflexTower(NaflexConfig(name, {}, HALF, HALF))
    with pytest.raises(ConfigError, match="no NaFlexViT with a linear embedding"):
        NaflexTower(
            NaflexConfig(NAFLEX["architecture"], {**NAFLEX["model_args"], "embed_proj_type": "conv"}, HALF, HALF)
        )
    write_timm(tmp_path, NAFLEX, model_args={**NAFLEX["model_args"], "depth": 3})
    with pytest.raises(WeightsError, match=r"does not fit naflexvit_base_patch16_siglip: lacks \['blocks.2"):
        NaflexTower.from_weights(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config.json: cannot be read"):
        NaflexTower.from_weights(tmp_path)


def test_timm_still_knows_the_names_of_the_presets():
    from commonspace.configuration import compose

    vision = compose("train", ["model=compact_naflex"]).model.vision
    assert timm.is_model(vision.removeprefix("timm/").partition(".")[0])
