"""Rows of mel patches against timm's own features, at the trunk's own length and at others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from commonspace.errors import ConfigError, ContentError
from commonspace.models.towers.mel_vit import MelVitConfig, MelVitTower
from tests.models.tower_folders import MEL_VIT, write_timm

WINDOW, BINS = 96, 32
ACROSS = {**MEL_VIT, "model_args": {**MEL_VIT["model_args"], "img_size": [BINS, WINDOW]}}
PLAIN = {**MEL_VIT, "model_args": {**MEL_VIT["model_args"], "class_token": False, "global_pool": "avg"}}
APART = {**MEL_VIT, "model_args": {**MEL_VIT["model_args"], "no_embed_class": True, "reg_tokens": 2, "pre_norm": True}}


def mel(frames: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, BINS, frames, generator=torch.Generator().manual_seed(2))


def own_rows(model: torch.nn.Module, picture: torch.Tensor, *, time_first: bool) -> torch.Tensor:
    """timm's features of mel frames [N, M, T], the patches of a moment averaged one by one."""
    picture = (picture.transpose(1, 2) if time_first else picture).unsqueeze(1)
    tokens = model.forward_features((picture - 0.5) / 0.5)[:, model.num_prefix_tokens :]
    bands, columns = BINS // 16, tokens.shape[1] * 16 // BINS
    places = [
        [column * bands + band if time_first else band * columns + column for band in range(bands)]
        for column in range(columns)
    ]
    return torch.stack([tokens[:, place].mean(1) for place in places], dim=1)


@pytest.mark.parametrize(
    "described",
    [MEL_VIT, ACROSS, PLAIN, APART],
    ids=["time down", "time across", "norm after pooling", "registers without positions"],
)
def test_at_its_own_length_rows_are_timms_own_features(tmp_path: Path, described: dict):
    model = write_timm(tmp_path, described, channels=1)
    tower = MelVitTower.from_weights(tmp_path).eval()
    assert (tower.window, tower.bins, tower.patch, tower.width) == (WINDOW, BINS, 16, 32)
    expected = own_rows(model, mel(WINDOW), time_first=described is not ACROSS)
    torch.testing.assert_close(tower(mel(WINDOW)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("described", [MEL_VIT, ACROSS], ids=["time down", "time across"])
def test_a_short_sound_is_a_trunk_of_its_own_length(tmp_path: Path, described: dict):
    """Against timm's model built for that length, its positions the first ones of the long table."""
    time_first = described is MEL_VIT
    long = write_timm(tmp_path, described, channels=1)
    size = [48, BINS] if time_first else [BINS, 48]
    short = timm.create_model(described["architecture"], **{**described["model_args"], "img_size": size}).eval()
    state = long.state_dict()
    table = state["pos_embed"]
    grid = table[:, 1:].unflatten(1, (6, 2) if time_first else (2, 6))
    state["pos_embed"] = torch.cat([table[:, :1], (grid[:, :3] if time_first else grid[:, :, :3]).flatten(1, 2)], 1)
    short.load_state_dict(state)
    tower = MelVitTower.from_weights(tmp_path).eval()
    torch.testing.assert_close(tower(mel(48)), own_rows(short, mel(48), time_first=time_first), atol=1e-5, rtol=1e-4)


@pytest.fixture
def tower(tmp_path: Path) -> MelVitTower:
    write_timm(tmp_path, MEL_VIT, channels=1)
    return MelVitTower.from_weights(tmp_path).eval()


def test_long_sounds_go_window_by_window(tower: MelVitTower):
    frames = mel(2 * WINDOW + 32)
    rows = torch.cat([tower(part) for part in frames.split(WINDOW, dim=-1)], dim=1)
    torch.testing.assert_close(tower(frames), rows)


def test_the_last_patch_reaches_into_each_sounds_own_silence(tower: MelVitTower):
    frames = mel(100)
    assert tower(frames).shape == (2, 7, 32)  # ceil(100 / 16)
    silence = frames.amin((1, 2), keepdim=True).expand(-1, BINS, 12)
    torch.testing.assert_close(tower(frames), tower(torch.cat([frames, silence], dim=-1)))
    torch.testing.assert_close(tower(frames)[:1], tower(frames[:1]), atol=1e-5, rtol=1e-4)


def test_frozen_unless_asked(tmp_path: Path):
    write_timm(tmp_path, MEL_VIT, channels=1)
    tower = MelVitTower.from_weights(tmp_path).train()
    assert tower.frozen and not tower.trunk.training
    tower.train_whole()
    tower.train()
    tower(mel(48)).square().mean().backward()
    assert not tower.frozen and tower.trunk.training
    assert all(p.grad is not None and p.grad.any() for p in tower.trunk.parameters())


def test_what_cannot_work_is_refused(tmp_path: Path, tower: MelVitTower):
    with pytest.raises(ContentError, match="0 mel frames"):
        tower(mel(0))
    for name, arguments, message in (
        ("test_efficientnet", {}, "test_efficientnet"),
        ("no_such_trunk", {}, "cannot make a 'no_such_trunk'"),
        ("vit_tiny_patch16_224", {**MEL_VIT["model_args"], "img_size": [90, 32]}, "no whole patches"),
        ("vit_tiny_patch16_224", {**MEL_VIT["model_args"], "pos_embed": "none"}, "table of positions"),
    ):
        with pytest.raises(ConfigError, match=message):
            MelVitTower(MelVitConfig(name, arguments, 0.5, 0.5))
    described = json.loads((tmp_path / "config.json").read_text())
    described["pretrained_cfg"]["mean"] = [0.4, 0.5, 0.6]
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match="are of colours, not of mels"):
        MelVitTower.from_weights(tmp_path)
