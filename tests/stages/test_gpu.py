"""The same commands on a GPU, held against the CPU. Skipped where there is none; README.md says where it was run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.stages.train import train
from tests.stages.test_train import logged, overrides, values
from tests.stages.training import TEXTS, settings, start_model, write_pairs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data/made")
    start_model(tmp_path / "start")
    return tmp_path


def losses(place: Path, name: str, *more: str) -> list[float]:
    """The losses of a run of eight steps, its model in place/models/made/NAME."""
    train(settings(place, *overrides(place, "logger=csv", f"name={name}", *more)))
    return values(logged(place / "runs/made" / name), "train/loss")


def test_the_loss_curve_is_that_of_the_cpu(place: Path) -> None:
    assert losses(place, "gpu", "trainer.accelerator=gpu") == pytest.approx(losses(place, "cpu"), abs=2e-3)


def test_bf16_learns_as_float32_does(place: Path) -> None:
    exact = losses(place, "exact", "trainer.accelerator=gpu")
    rounded = losses(place, "rounded", "trainer.accelerator=gpu", "trainer.precision=bf16-mixed")
    assert rounded == pytest.approx(exact, rel=0.05)


def test_gradient_caching_changes_nothing(place: Path) -> None:
    whole = losses(place, "whole", "trainer.accelerator=gpu")
    cached = losses(place, "cached", "trainer.accelerator=gpu", "stage.cache_tokens=64")
    assert cached == pytest.approx(whole, abs=2e-3)


def test_one_rank_of_nccl_is_one_process(place: Path) -> None:
    alone = losses(place, "alone", "trainer.accelerator=gpu")
    ranked = losses(place, "ranked", "trainer=ddp", "trainer.devices=1", "trainer.accelerator=gpu")
    assert ranked == pytest.approx(alone, abs=2e-3)


def test_vectors_are_those_of_the_cpu(place: Path) -> None:
    model = Embedder.load(place / "start")
    here = model.embed(TEXTS[:8])
    assert best_device() == "cuda"
    np.testing.assert_allclose(model.to(best_device()).embed(TEXTS[:8]), here, atol=1e-4)
