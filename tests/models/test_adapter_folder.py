"""A folder with an adapter alone: it is the model that was trained, on its own base and no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from commonspace import Embedder
from commonspace.cli import main as cli
from commonspace.errors import ConfigError, WeightsError
from commonspace.models.adapter_folder import check_whole, is_adapter, merge_folder, save_adapter_folder
from commonspace.models.adapters import Lora, adapted_layers, attach, merge, unload
from commonspace.models.folder import check_golden, folder_fingerprint
from tests.models.pretrained import FAMILIES, built
from tests.models.tiny import contents, tiny_embedder

BESIDE = r"head\..*|backbone\.(image_connector|audio_connector|marks)\..*"


def trained_on(base: Path) -> Embedder:
    """The base with adapters, and all that trains moved as training would move it."""
    embedder = Embedder.load(base)
    attach(embedder, Lora(rf"backbone\.text\.{embedder.backbone.linear_maps}", 2, 4.0, 0.1, train=BESIDE))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in embedder.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    return embedder.eval()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model folder and an adapter of it."""
    tiny_embedder().save(tmp_path / "base")
    save_adapter_folder(
        trained_on(tmp_path / "base"), tmp_path / "adapter", tmp_path / "base", "# A card\n", {"seed": 1}
    )
    return tmp_path


@pytest.mark.parametrize("family", FAMILIES)
def test_it_gives_the_vectors_it_was_saved_with_and_the_bases_without_it(family: str, tmp_path: Path) -> None:
    built(tmp_path / "weights", family).save(tmp_path / "base")
    base_NE = Embedder.load(tmp_path / "base").embed(contents())
    trained = trained_on(tmp_path / "base")
    expected_NE = trained.embed(contents())
    assert np.abs(expected_NE - base_NE).max() > 1e-2
    save_adapter_folder(trained, tmp_path / "adapter", tmp_path / "base")
    embedder = Embedder.load(tmp_path / "adapter")
    np.testing.assert_array_equal(embedder.embed(contents()), expected_NE)
    assert check_golden(embedder, tmp_path / "adapter") < 1e-6
    unload(embedder)
    np.testing.assert_array_equal(embedder.embed(contents()), base_NE)
    stored = load_file(tmp_path / "base/model.safetensors")
    assert stored.keys() == embedder.state_dict().keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in embedder.state_dict().items())


def test_it_holds_what_was_trained_and_little_else(place: Path) -> None:
    names = sorted(path.name for path in (place / "adapter").iterdir())
    assert names == ["README.md", "adapter.json", "adapter.safetensors", "golden.json", "training.json"]
    held = load_file(place / "adapter/adapter.safetensors")
    assert all(".lora_" in name or name.startswith(("head", "backbone.marks", "backbone.image_")) or "audio_" in name
               for name in held)  # fmt: skip
    named = json.loads((place / "adapter/adapter.json").read_text())["base"]
    assert (named["name"], named["folder"]) == ("base", "../base") and "model.safetensors" in named["sha256"]
    assert "needs the model `base`" in (place / "adapter/README.md").read_text()


def test_towers_are_left_out_on_request(place: Path) -> None:
    whole, part = Embedder.load(place / "adapter"), Embedder.load(place / "adapter", towers=("text", "image"))
    assert set(part.backbone.towers()) == {"image"} and not hasattr(part.backbone, "audio_connector")
    np.testing.assert_allclose(part.embed(["a red fox"]), whole.embed(["a red fox"]), atol=1e-6)


def test_both_may_move_together(place: Path) -> None:
    (place / "elsewhere").mkdir()
    before = folder_fingerprint(place / "adapter")
    for name in ("base", "adapter"):
        shutil.move(place / name, place / "elsewhere" / name)
    assert len(Embedder.load(place / "elsewhere/adapter").embed(["a fox"])) == 1
    assert folder_fingerprint(place / "elsewhere/adapter") == before


def test_a_base_that_is_gone_or_changed_is_named(place: Path) -> None:
    shutil.move(place / "base", place / "away")
    with pytest.raises(WeightsError, match=r"adapter: is an adapter of base, and .*/base is not there; put that model"):
        Embedder.load(place / "adapter")
    tiny_embedder(seed=1).save(place / "base")
    with pytest.raises(WeightsError, match=r"another base than lies at .*/base, which differs in model.safetensors"):
        Embedder.load(place / "adapter")
    shutil.rmtree(place / "base")
    shutil.copytree(place / "adapter", place / "base")
    with pytest.raises(WeightsError, match="differs in config.json, preprocessing.json, tokenizer.json, model"):
        Embedder.load(place / "adapter")


def test_other_preprocessing_is_another_base(place: Path) -> None:
    numbers = json.loads((place / "base/preprocessing.json").read_text())
    (place / "base/preprocessing.json").write_text(json.dumps(numbers | {"max_images": 3}))
    with pytest.raises(WeightsError, match="differs in preprocessing.json;"):
        Embedder.load(place / "adapter")


def test_it_is_saved_beside_its_own_base_alone(place: Path) -> None:
    tiny_embedder(seed=1).save(place / "other")
    with pytest.raises(WeightsError, match=r"other: is not the model that .*/new was trained on"):
        save_adapter_folder(trained_on(place / "base"), place / "new", place / "other")
    with pytest.raises(ConfigError, match="base: .*/adapter holds an adapter alone"):
        save_adapter_folder(trained_on(place / "base"), place / "new", place / "adapter")
    assert not (place / "new").exists()


def test_adapters_are_no_whole_model(place: Path) -> None:
    with pytest.raises(ConfigError, match="the model has adapters; merge them first"):
        trained_on(place / "base").save(place / "whole")
    with pytest.raises(ConfigError, match=r"init: .*adapter holds an adapter alone; .*: commonspace merge"):
        check_whole(place / "adapter", "init")
    check_whole(place / "base", "init")


def test_the_fingerprint_is_of_both(place: Path) -> None:
    before = folder_fingerprint(place / "adapter")
    assert before != folder_fingerprint(place / "base")
    save_adapter_folder(Embedder.load(place / "adapter"), place / "adapter", place / "base", "# Another card")
    assert folder_fingerprint(place / "adapter") == before
    other = trained_on(place / "base")
    with torch.no_grad():
        other.head.bias += 1
    save_adapter_folder(other, place / "adapter", place / "base")
    assert folder_fingerprint(place / "adapter") != before


def test_the_command_makes_it_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected_NE = Embedder.load(place / "adapter").embed(contents())
    words = ["merge", f"paths.runs={place}/runs", str(place / "adapter"), "-o", str(place / "whole")]
    assert cli(words) == 0
    assert "adapter merged into" in capsys.readouterr().out
    whole = Embedder.load(place / "whole")
    assert not is_adapter(place / "whole") and adapted_layers(whole) == []
    np.testing.assert_allclose(whole.embed(contents()), expected_NE, atol=1e-5)
    assert check_golden(whole, place / "whole") < 1e-6
    assert (place / "whole/README.md").read_text() == "# A card\n"
    assert json.loads((place / "whole/training.json").read_text()) == {"seed": 1}
    in_memory = Embedder.load(place / "adapter")
    merge(in_memory)
    stored = load_file(place / "whole/model.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in in_memory.state_dict().items())


def test_what_cannot_be_merged_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"base: holds no adapter.json"):
        merge_folder(place / "base", place / "whole")
    for output in ("base", "adapter"):
        with pytest.raises(ConfigError, match="output: .* is what the model is made of"):
            merge_folder(place / "adapter", place / output)
