"""Fine-tuning by adapters: saved merged or alone, with layers that keep their activations or compute them again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from commonspace import Embedder
from commonspace.errors import ConfigError
from commonspace.models.folder import check_golden
from commonspace.stages.train import train
from tests.models.tiny import contents
from tests.stages.test_train import RUN
from tests.stages.training import MODEL, settings, start_model, write_pairs

ALONE = ["model.lora.rank=2", "model.lora.dropout=0.1", "stage.steps=4", "stage.dev_every=0.0", "logger=csv"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data/made")
    start_model(tmp_path / "start")
    return tmp_path


def fit(place: Path, name: str, *more: str) -> Path:
    train(settings(place, *RUN, *MODEL, *ALONE, f"init={place / 'start'}", f"name={name}", *more))
    return place / "models/made" / name


def test_an_adapter_alone_is_the_merged_model_and_checkpoints_change_nothing(place: Path) -> None:
    fast = ["stage.learning_rate=1e-2", "stage.cache_tokens=60"]
    merged = Embedder.load(fit(place, "merged", *fast))
    folder = fit(place, "alone", *fast, "model.lora.save=adapter")
    again = fit(place, "again", *fast, "model.lora.save=adapter", "stage.gradient_checkpointing=true")
    alone = Embedder.load(folder)
    expected_NE = merged.embed(contents())
    np.testing.assert_allclose(alone.embed(contents()), expected_NE, atol=1e-5)
    assert np.abs(Embedder.load(place / "start").embed(contents()) - expected_NE).max() > 1e-3
    check_golden(alone, folder)
    trained, recomputed = (load_file(found / "adapter.safetensors") for found in (folder, again))
    assert trained.keys() == recomputed.keys()
    for name, tensor in trained.items():
        torch.testing.assert_close(recomputed[name], tensor, msg=name)
    assert not (folder / "model.safetensors").exists()
    assert json.loads((folder / "training.json").read_text())["stage"] == "pretrain"
    assert json.loads((folder / "adapter.json").read_text())["base"]["folder"] == "../../../start"

    with pytest.raises(ConfigError, match=r"init: .*alone holds an adapter alone"):
        fit(place, "next", f"init={folder}")
