"""Precision is what was asked for, or what is measured to be faster; never float16."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonspace import Content, Embedder
from commonspace.errors import ConfigError
from commonspace.models import precision
from commonspace.models.precision import InPrecision, resolve_precision, step_seconds
from tests.models.pretrained import FAMILIES, built
from tests.models.tiny import picture, sound, tiny_embedder


@pytest.mark.parametrize("asked", ["32-true", "bf16-mixed"])
def test_what_is_asked_for_is_not_measured(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "step_seconds", lambda device: pytest.fail("measured"))
    assert resolve_precision(asked) == asked


@pytest.mark.parametrize("asked", ["16-mixed", "bf16-true", "64-true", ""])
def test_what_would_overflow_or_is_unknown_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match="precision: .* is none of auto, 32-true, bf16-mixed") as refused:
        resolve_precision(asked)
    assert ("65504" in str(refused.value)) is (asked == "16-mixed"), "float16 is refused with its reason"


@pytest.mark.parametrize("family", FAMILIES)
def test_no_backbone_runs_in_float16(family: str, tmp_path: Path) -> None:
    """By its own weights, and by an autocast around it; bfloat16 does both."""
    model, texts = built(tmp_path, family), ["a red fox", Content("snow", picture(), sound())]
    float32_NE = model.embed(texts)
    with torch.autocast("cpu", torch.float16), pytest.raises(ConfigError, match="float16 here: float16 ends at 65504"):
        model.embed(texts)
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(model.embed(texts) - float32_NE).max() < 5e-2
    with pytest.raises(ConfigError, match="float16 ends at 65504"):
        copy.deepcopy(model).half().embed(texts)
    assert abs(model.bfloat16().embed(texts) - float32_NE).max() < 0.2


def test_float16_weights_on_disk_are_read_as_float32(tmp_path: Path) -> None:
    model = tiny_embedder()
    model.save(tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    stored = load_file(file)
    save_file({name: t.half() if t.is_floating_point() else t for name, t in stored.items()}, file, {"format": "pt"})
    loaded = Embedder.load(tmp_path / "model")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert abs(loaded.embed(["a fox"]) - model.embed(["a fox"])).max() < 1e-2


@pytest.mark.parametrize("bf16, expected", [(0.5, "bf16-mixed"), (0.95, "32-true"), (1.0, "32-true"), (3.0, "32-true")])
def test_auto_takes_bf16_only_where_it_is_clearly_faster(
    bf16: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "step_seconds", lambda device: {"32-true": 1.0, "bf16-mixed": bf16})
    assert resolve_precision("auto", "cpu") == expected


def test_it_is_measured_once_a_device() -> None:
    step_seconds.cache_clear()
    seconds = step_seconds("cpu")
    assert set(seconds) == {"32-true", "bf16-mixed"} and all(value > 0 for value in seconds.values())
    assert step_seconds("cpu") is seconds


def test_a_model_embeds_in_bf16_where_asked_and_else_as_it_does() -> None:
    model, texts = tiny_embedder(), ["a red fox", "snow"]
    assert (InPrecision(model, "32-true").embed(texts) == model.embed(texts)).all()
    rounded = InPrecision(model, "bf16-mixed").embed(texts, dim=8)
    assert rounded.dtype == "float32" and 1e-7 < abs(rounded - model.embed(texts, dim=8)).max() < 2e-2
