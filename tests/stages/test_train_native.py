"""A whole multimodal transformer trains by `commonspace train` on weights as users have them; its folder trains on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from commonspace.errors import ConfigError
from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden
from commonspace.stages.optimiser import freeze, parameter_groups
from commonspace.stages.settings import StageSettings
from commonspace.stages.start import starting_model
from commonspace.stages.train import train
from tests.models.native import NATIVE, built_native, write_native
from tests.stages.test_train_backbones import RUN, losses
from tests.stages.training import settings, write_pairs

_OTHERS = ("image_size", "image_grid", "document_grid", "frame_grid", "connector_hidden")  # of the model group
OWN = [
    *(word for word in RUN if not word.startswith(("stage.freeze=", *(f"model.{name}=" for name in _OTHERS)))),
    "model.image_max_tokens=4", "model.frame_min_tokens=4", "model.frame_max_tokens=4", "stage.freeze=[]",
]  # fmt: skip


@pytest.mark.parametrize("family", NATIVE)
def test_a_preset_trains_and_its_folder_is_the_model(family: str, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data/made")
    weights = write_native(tmp_path / "weights", family)
    unused = BACKBONES[family].preprocessing.unused
    words = [word for word in OWN if not word.startswith(tuple(f"model.{name}=" for name in unused))]
    train(settings(tmp_path, *words, f"model={family}", f"weights={weights}"))
    found = losses(tmp_path / "runs")
    assert len(found) == 16 and sum(found[-3:]) < 0.7 * sum(found[:3]), found
    folder = tmp_path / "models/made/first"
    first = Embedder.load(folder)
    assert first.backbone.name == family and check_golden(first, folder) < 1e-5


def test_a_folder_trains_on_with_adapters(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data/made")
    first_run = settings(tmp_path, *OWN, "model=omni", f"weights={write_native(tmp_path / 'weights', 'omni')}")
    first, folder = starting_model(OmegaConf.to_container(first_run, resolve=True)), tmp_path / "start"
    first.save(folder)
    short = [word for word in OWN if word != "stage.steps=16"]
    train(settings(tmp_path, *short, "stage.steps=2", "model=omni", f"init={folder}", "model.lora.rank=2"))
    second, before = Embedder.load(tmp_path / "models/made/first").state_dict(), first.state_dict()
    moved = {name for name, tensor in second.items() if not torch.equal(tensor, before[name])}
    assert any("language_model.layers.0.self_attn.q_proj" in name for name in moved), moved
    assert not any(".visual." in name or "embed_tokens" in name for name in moved), moved


def test_layers_words_and_towers_have_rates_of_their_own(tmp_path: Path) -> None:
    embedder = built_native(tmp_path, "omni")
    stage = StageSettings(
        "finetune", steps=10, learning_rate=1e-4, layer_decay=0.5, weight_decay=0.01, tower_learning_rate=1e-6
    )
    rate = {id(p): group["lr"] for group in parameter_groups(embedder, stage) for p in group["params"]}
    text, towers = embedder.backbone.text, embedder.backbone.towers()
    assert rate[id(text.layers[1].mlp.up_proj.weight)] == pytest.approx(1e-4)
    assert rate[id(text.layers[0].mlp.up_proj.weight)] == pytest.approx(5e-5)
    assert rate[id(text.get_input_embeddings().weight)] == pytest.approx(2.5e-5)
    for tower in towers.values():
        assert {rate[id(p)] for p in tower.parameters() if p.requires_grad} == {1e-6}
    freeze(embedder, ["vision", "words"])
    assert not any(p.requires_grad for p in towers["image"].parameters())
    assert not text.get_input_embeddings().weight.requires_grad and text.layers[0].mlp.up_proj.weight.requires_grad


def test_features_of_its_own_towers_are_refused(tmp_path: Path) -> None:
    from commonspace.data.features import attach_features

    with pytest.raises(ConfigError, match="no frozen tower .* set data.features=false"):
        attach_features(built_native(tmp_path, "qwen3_vl"), tmp_path)
