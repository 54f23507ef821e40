"""Every preset of `model` trains by `commonspace train` on weights as users have them, and its folder trains on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden
from commonspace.stages.optimiser import freeze, parameter_groups
from commonspace.stages.settings import StageSettings
from commonspace.stages.train import train
from tests.models.pretrained import KIND, built, write_weights
from tests.stages.training import MODEL, settings, write_pairs

RUN = [
    "data=pretrain", "data.tier=made", "data.workers=0", "stage.token_budget=null", "stage.steps=16",
    "data.tasks.image_caption.batch_size=8",
    *(
        f"data.tasks.{name}.rate=0"
        for name in ("summary", "stamp_language", "emoji_language", "crosslingual", "recipe", "code")
    ),
    "stage.temperature=0.1", "stage.learning_rate=3e-3", "stage.freeze=[vision,audio]", "stage.dev_every=0.0",
    "name=first", "logger=csv", *MODEL, "model.image_grid=2",
]  # fmt: skip


def losses(folder: Path) -> list[float]:
    (file,) = folder.rglob("metrics.csv")
    return [float(row["train/loss"]) for row in csv.DictReader(file.open()) if row["train/loss"]]


@pytest.mark.parametrize("family", KIND)
def test_a_preset_trains_and_its_folder_is_the_model(family: str, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data/made")
    weights = write_weights(tmp_path / "weights", family)
    train(settings(tmp_path, *RUN, f"model={KIND[family]}", f"weights={weights}"))
    found = losses(tmp_path / "runs")
    assert len(found) == 16 and sum(found[-3:]) < 0.6 * sum(found[:3]), found
    folder = tmp_path / "models/made/first"
    embedder = Embedder.load(folder)
    assert embedder.backbone.name == KIND[family] and check_golden(embedder, folder) < 1e-5


@pytest.mark.parametrize("family", KIND)
def test_word_tables_take_no_weight_decay_and_the_rate_of_the_bottom(family: str, tmp_path: Path) -> None:
    embedder = built(tmp_path, family)
    stage = StageSettings("finetune", steps=10, learning_rate=1e-4, layer_decay=0.5, weight_decay=0.01)
    groups = parameter_groups(embedder, stage)
    words = embedder.backbone.text.get_input_embeddings().weight
    (group,) = [group for group in groups if any(p is words for p in group["params"])]
    assert group["weight_decay"] == 0
    assert group["lr"] == pytest.approx(1e-4 * 0.5 ** len(embedder.backbone.layers()))
    freeze(embedder, ["words"])
    assert not words.requires_grad and all(p.requires_grad for p in embedder.backbone.layers()[0].parameters())


@pytest.mark.parametrize("family", KIND)
def test_a_norm_above_the_last_layer_takes_its_rate(family: str, tmp_path: Path) -> None:
    embedder = built(tmp_path, family)
    stage = StageSettings("finetune", steps=10, learning_rate=1e-4, layer_decay=0.5)
    rate = {id(p): group["lr"] for group in parameter_groups(embedder, stage) for p in group["params"]}
    own = {id(p) for layer in embedder.backbone.layers() for p in layer.parameters()}
    named = embedder.backbone.text.named_parameters()
    above = [
        p for name, p in named if id(p) not in own and name.split(".")[-2:-1][0] in ("norm", "final_norm", "ln_final")
    ]
    assert above and {rate[id(p)] for p in above} == {1e-4}


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    from tests.models.tiny import tiny_embedder

    tiny_embedder().save(tmp_path / "start")
    write_pairs(tmp_path / "data/made")
    with pytest.raises(ConfigError, match="start has a compact backbone, the config asks for causal_lm"):
        train(settings(tmp_path, *RUN, "model=causal_lm", f"init={tmp_path / 'start'}"))
