"""Precision is what was asked for, or what is measured to be faster; never float16."""

from __future__ import annotations

import pytest

from commonspace.errors import ConfigError
from commonspace.models import precision
from commonspace.models.precision import InPrecision, resolve_precision, step_seconds
from tests.models.tiny import tiny_embedder


@pytest.mark.parametrize("asked", ["32-true", "bf16-mixed"])
def test_what_is_asked_for_is_not_measured(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "step_seconds", lambda device: pytest.fail("measured"))
    assert resolve_precision(asked) == asked


@pytest.mark.parametrize("asked", ["16-mixed", "bf16-true", "64-true", ""])
def test_what_would_overflow_or_is_unknown_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match="trainer.precision=.*use auto, 32-true or bf16-mixed"):
        resolve_precision(asked)


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
