"""Every preset of the compact model with other towers trains by `commonspace train`, and its folder trains on."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden
from commonspace.stages.train import train
from tests.models.pretrained import PRESETS, write_preset
from tests.stages.test_train_backbones import RUN, losses
from tests.stages.training import settings, write_pairs


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_and_its_folder_is_the_model(preset: str, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data/made")
    weights = write_preset(tmp_path / "weights", preset)
    run = [*RUN, f"model={preset}", *PRESETS[preset]]
    train(settings(tmp_path, *run, f"weights={weights}"))
    found = losses(tmp_path / "runs")
    assert len(found) == 16 and sum(found[-3:]) < 0.6 * sum(found[:3]), found
    folder = tmp_path / "models/made/first"
    assert check_golden(Embedder.load(folder), folder) < 1e-5
    again = [*run, f"init={folder}", "stage.steps=2", "name=second"]
    towers = ["stage.vision_trainable_stages=1", "stage.audio_trainable=true", "stage.freeze=[words]"]
    train(settings(tmp_path, *again, *towers))
    first, second = (Embedder.load(tmp_path / "models/made" / name).backbone for name in ("first", "second"))
    assert second.vision.weights == first.vision.weights and second.vision.frozen
    assert second.vision.fingerprint != first.vision.fingerprint
    with pytest.raises(ConfigError, match="model.vision=another has no effect with init"):
        train(settings(tmp_path, *again, "model.vision=another", "name=third"))
