"""Ingredients of a soup: what goes together, by which names, and what does not, told by folder and key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.adapter_folder import merge_folder
from commonspace.models.ingredients import differing, read_ingredients
from tests.models.test_merged import adapter
from tests.models.tiny import tiny_embedder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A base with two adapters of it."""
    tiny_embedder().save(tmp_path / "base")
    for seed in (3, 4):
        adapter(tmp_path / "base", tmp_path / f"adapter{seed}", seed=seed)
    return tmp_path


def test_what_differs_is_named_and_integers_are_not(place: Path) -> None:
    tensors = load_file(place / "base/model.safetensors")
    counters = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    changed = dict(tensors) | {name: tensors[name] + 1 for name in (*counters, "head.weight")}
    (place / "other").mkdir()
    for file in (place / "base").iterdir():
        (place / "other" / file.name).write_bytes(file.read_bytes())
    save_file(changed, place / "other/model.safetensors")
    found = read_ingredients([place / "base", place / "other"])
    assert counters and differing(found) == ["head.weight"]
    assert [one.label for one in found] == ["base", "other"] and found[0].sha256 != found[1].sha256


def test_adapters_stand_for_what_they_make_or_for_their_factors(place: Path) -> None:
    folders = [place / "adapter3", place / "adapter4"]
    merge_folder(folders[0], place / "whole")
    merged = read_ingredients([*folders, place / "whole"])
    whole = load_file(place / "whole/model.safetensors")
    assert [one.whole.name for one in merged] == ["base", "base", "whole"]
    for name in whole:
        torch.testing.assert_close(merged[0].tensors[name], whole[name])
    factors = read_ingredients(folders, "factors")
    assert set(factors[0].tensors) == set(load_file(folders[0] / "adapter.safetensors"))
    assert any(".lora_A." in name for name in differing(factors))


def test_factors_that_do_not_meet_are_refused(place: Path) -> None:
    adapter(place / "base", place / "wider", rank=3)
    tiny_embedder(seed=9).save(place / "base9")
    adapter(place / "base9", place / "elsewhere")
    for folder, message in (
        ("base", "base is a whole model and has no factors"),
        ("wider", "wider has other settings than .*adapter3"),
        ("elsewhere", "elsewhere adapts .*base9, .*adapter3 another model"),
    ):
        with pytest.raises(ConfigError, match=f"lora=factors: .*{message}"):
            read_ingredients([place / "adapter3", place / folder], "factors")


def test_folders_of_one_name_are_told_apart(place: Path) -> None:
    for number in (1, 2):
        tiny_embedder(seed=number).save(place / str(number) / "model")
    assert [one.label for one in read_ingredients([place / "1/model", place / "2/model"])] == ["1/model", "2/model"]


def test_ingredients_that_do_not_go_together_are_named(place: Path) -> None:
    with pytest.raises(ConfigError, match="1 given"):
        read_ingredients([place / "base"])
    tiny_embedder(pooling="input_and_last").save(place / "other")
    with pytest.raises(ConfigError, match=r"other/config.json differs from .*base's in .*pooling"):
        read_ingredients([place / "base", place / "other"])
    (place / "other/model.safetensors").unlink()
    with pytest.raises(WeightsError, match="other: has no model.safetensors"):
        read_ingredients([place / "base", place / "other"])
