"""`commonspace soup` on small random models: what is averaged, at which ratios, and what the cards say of the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commonspace import Content
from commonspace.configuration import compose
from commonspace.errors import ConfigError
from commonspace.stages.soup import soup
from commonspace.stages.sources import Source, card_sources, sources_section
from tests.evaluation.made import record, write
from tests.models.tiny import WORDS, tiny_embedder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Dev rows of one task and two ingredients, each with a card of its own."""
    rows = [
        record(f"s{i}", "summary", f"{word} concept", Content(f"query {word}"), ("en", Content(f"text {word}")))
        for i, word in enumerate(WORDS[:6])
    ]
    write(tmp_path / "data/mini", "summary", rows, "dev")
    for seed, source in ((1, "openmoji"), (2, "gnome")):
        card = sources_section({source: Source("CC-BY-SA-4.0", 2000 * seed, "a | b")})
        tiny_embedder(seed=seed).save(tmp_path / f"models/{seed}", card=card)
    return tmp_path


def made(place: Path, *overrides: str) -> None:
    paths = [f"paths.{name}={place}/{name}" for name in ("data", "runs", "models", "cache")]
    given = [f"ingredients=[{place}/models/1,{place}/models/2]", "data.features=false", "logger=csv"]
    given += [f"uniform_output={place}/models/mini/soup_uniform"]
    soup(compose("soup", [*paths, *given, *overrides]))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_weights_are_ratios_of_the_ingredients(place: Path) -> None:
    made(place, "weights=[3,1]")
    whole, first, second = (tensors(place / "models" / name) for name in ("mini/soup_uniform", "1", "2"))
    for name, tensor in whole.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name])
    recipe = json.loads((place / "models/mini/soup_uniform/soup.json").read_text())
    assert (recipe["kind"], recipe["weights"]) == ("weighted", [3, 1])
    assert "The weighted soup (weights [3, 1]) of 1, 2" in (place / "models/mini/soup_uniform/README.md").read_text()


def test_without_weights_all_count_alike_and_the_card_has_every_source(place: Path) -> None:
    made(place)
    whole, first, second = (tensors(place / "models" / name) for name in ("mini/soup_uniform", "1", "2"))
    torch.testing.assert_close(whole["head.weight"], (first["head.weight"] + second["head.weight"]) / 2)
    assert json.loads((place / "models/mini/soup_uniform/soup.json").read_text())["weights"] == "equal"
    assert card_sources(place / "models/mini/soup_uniform") == {
        "gnome": Source("CC-BY-SA-4.0", 4000, "a | b"),
        "openmoji": Source("CC-BY-SA-4.0", 2000, "a | b"),
    }


@pytest.mark.parametrize(
    "weights, message",
    [("[1]", "no list of 2 numbers"), ("3", "no list of 2"), ("[1,0]", "must be positive"), ("[1,x]", "positive")],
)
def test_weights_that_make_no_average(weights: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"weights: .*{message}"):
        compose("soup", ["ingredients=[a,b]", f"weights={weights}"])
