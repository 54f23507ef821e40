"""Every way of making a soup, on small random models whose dev pairs one ingredient knows best."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.blend import slerp_tensors
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden
from commonspace.stages import soup_kitchen
from commonspace.stages.barriers import barrier, barriers
from commonspace.stages.soup import soup
from commonspace.tracking.lineage import last, read_lineage
from tests.models.test_merged import adapter
from tests.models.tiny import contents, tiny_embedder
from tests.stages.training import settings, start_model, write_pairs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dev shards and three ingredients: a model, one a little off and one far off; nothing is written there."""
    root = tmp_path_factory.mktemp("ingredients")
    write_pairs(root / "data/made", train=2, dev=12)
    start_model(root / "near")
    towers = ("backbone.vision.", "backbone.audio.")
    trained = {name for name, _ in tiny_embedder().named_parameters() if not name.startswith(towers)}
    weights = load_file(root / "near/model.safetensors")
    for name, size in (("beside", 0.02), ("far", 2.0)):
        shutil.copytree(root / "near", root / name)
        draw = torch.Generator().manual_seed(len(name))
        moved = {k: v + size * torch.randn(v.shape, generator=draw) if k in trained else v for k, v in weights.items()}
        save_file(moved, root / name / "model.safetensors")
    return root


@pytest.fixture
def config(place: Path, tmp_path: Path):
    """A function that makes a config of some ingredients, all it writes below the test's own folder."""

    def make(names: list[str], *more: str, root: str = "soup"):
        folders = [name if name.startswith("/") else str(place / name) for name in names]
        given = [f"ingredients=[{','.join(folders)}]", "data.tier=made", "data.features=false", "logger=csv"]
        given += [f"paths.{name}={tmp_path / name}" for name in ("runs", "models")]
        return settings(place, *given, "loss.batch_size=8", "trainer.accelerator=cpu", *more, root=root)

    return make


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def recipe_of(folder: Path) -> dict:
    check_golden(Embedder.load(folder), folder)
    return json.loads((folder / "soup.json").read_text())


@pytest.mark.parametrize("by", ["model", "layer"])
def test_learned_shares_lower_the_dev_loss(place: Path, config, tmp_path: Path, by: str) -> None:
    options = [f"learned.by={by}", "learned.steps=9", "learned.learning_rate=0.05"]
    soup(config(["near", "far"], "method=learned", *options, f"uniform_output={tmp_path}/uniform"))
    recipe, mixed = recipe_of(tmp_path / "models/made/soup"), tensors(tmp_path / "models/made/soup")
    uniform = json.loads((tmp_path / "uniform/soup.json").read_text())
    assert recipe["kind"] == "learned" and len(recipe["learned"]["losses"]) == 9
    assert recipe["dev_loss"]["mean"] < uniform["dev_loss"]["mean"]
    rows = list(recipe["by_layer"].values()) if by == "layer" else [[one["share"] for one in recipe["ingredients"]]]
    assert max(abs(row[0] - 0.5) for row in rows) > 0.01 and all(sum(row) == pytest.approx(1) for row in rows)
    share = recipe["by_layer"]["head.weight"][1] if by == "layer" else rows[0][1]
    near, far = (tensors(place / name)["head.weight"] for name in ("near", "far"))
    torch.testing.assert_close(mixed["head.weight"], near.lerp(far, share))


def test_slerp_goes_around_the_base(place: Path, config, tmp_path: Path) -> None:
    soup(config(["beside", "far"], "method=slerp", "weights=[3,1]", f"base={place / 'near'}"))
    recipe, mixed = recipe_of(tmp_path / "models/made/soup"), tensors(tmp_path / "models/made/soup")
    parts = [tensors(place / name) for name in ("beside", "far")]
    for name, tensor in slerp_tensors(parts, [3, 1], ["beside", "far"], tensors(place / "near")):
        torch.testing.assert_close(mixed[name], tensor)
    assert recipe["path"] == "sphere" and [one["share"] for one in recipe["ingredients"]] == [0.75, 0.25]


def test_a_weighted_average_becomes_the_output(place: Path, config, tmp_path: Path) -> None:
    soup(config(["near", "beside"], "method=weighted", "weights=[1,3]"))
    recipe, mixed = recipe_of(tmp_path / "models/made/soup"), tensors(tmp_path / "models/made/soup")
    near, beside = tensors(place / "near"), tensors(place / "beside")
    assert recipe["kind"] == "weighted" and {one["name"] for one in recipe["ingredients"]} == {"near", "beside"}
    assert all(one["dev"] > 0 and len(one["sha256"]) == 64 for one in recipe["ingredients"])
    for name, tensor in mixed.items():
        expected = near[name].lerp(beside[name], 0.75) if tensor.is_floating_point() else near[name]
        torch.testing.assert_close(tensor, expected, msg=name)
    lineage = read_lineage(tmp_path / "models/made/soup")
    assert [lineage[key].name for key in last(lineage).made_of] == ["near", "beside"]


def test_adapters_by_merge_and_by_factors(place: Path, config, tmp_path: Path) -> None:
    names = [str(adapter(place / "near", tmp_path / f"adapter{seed}", seed=seed)) for seed in (3, 4)]
    soup(config(names, "method=uniform", "lora=factors", f"output={tmp_path}/factors"))
    held = [load_file(Path(name) / "adapter.safetensors") for name in names]
    mixed = load_file(tmp_path / "factors/adapter.safetensors")
    for name, tensor in mixed.items():
        torch.testing.assert_close(tensor, (held[0][name] + held[1][name]) / 2, msg=name)
    assert recipe_of(tmp_path / "factors")["lora"] == "factors"

    soup(config(names, "method=uniform", f"output={tmp_path}/merged"))
    merged, factors = Embedder.load(tmp_path / "merged"), Embedder.load(tmp_path / "factors")
    name = next(name for name in held[0] if ".lora_A." in name)
    layer = name.partition(".lora_A.")[0]
    products = [one[f"{layer}.lora_B.default.weight"] @ one[name] * 2 for one in held]  # alpha 4, rank 2
    base = tensors(place / "near")[f"{layer}.weight"]
    torch.testing.assert_close(merged.state_dict()[f"{layer}.weight"], base + (products[0] + products[1]) / 2)
    assert np.abs(merged.embed(contents()) - factors.embed(contents())).max() > 1e-4, "two different models"


def test_a_soup_that_was_killed_scores_on_where_it_stopped(config, tmp_path: Path, monkeypatch) -> None:
    scored: list[int] = []
    vectors = soup_kitchen.DevRetrieval.vectors

    def dies(self, *arguments, **options):
        if len(scored) == 3:
            raise RuntimeError("killed")
        scored.append(1)
        return vectors(self, *arguments, **options)

    monkeypatch.setattr(soup_kitchen.DevRetrieval, "vectors", dies)
    names = ["near", "beside", "far"]
    with pytest.raises(RuntimeError, match="killed"):
        soup(config(names))
    (book,) = (tmp_path / "runs").rglob("scores.jsonl")
    book.write_text(book.read_text()[:-30])  # killed within a line: the third counts as not scored
    scored.clear()
    monkeypatch.setattr(soup_kitchen.DevRetrieval, "vectors", lambda *a, **o: scored.append(1) or vectors(*a, **o))
    soup(config(names))
    trials = recipe_of(tmp_path / "models/made/soup")["trials"]
    assert len(scored) == len(trials) - 2 and not book.exists()


def test_barriers_between_all_pairs(config, tmp_path: Path) -> None:
    highest = barriers(config(["near", "beside", "far"], "points=3", root="soup_barriers"))
    told = json.loads((tmp_path / "runs/made/barriers/barriers.json").read_text())
    names = [(pair["first"], pair["second"]) for pair in told["pairs"]]
    assert names == [("near", "beside"), ("near", "far"), ("beside", "far")]
    assert highest == max(pair["barrier"] for pair in told["pairs"])
    for pair in told["pairs"]:
        start, middle, end = pair["loss"]
        assert pair["barrier"] == pytest.approx(middle - (start + end) / 2)
    assert told["pairs"][0]["loss"][0] == told["pairs"][1]["loss"][0], "an end is the ingredient itself"
    assert (tmp_path / "runs/made/barriers/barriers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "losses, expected", [([1.0, 3.0, 2.0], 1.5), ([1.0, 0.0, 1.0], -1.0), ([0.0, 1.0, 1.0, 3.0], 0.0)]
)
def test_a_barrier_is_how_far_the_loss_rises_above_the_line(losses: list[float], expected: float) -> None:
    places = np.linspace(0, 1, len(losses)).tolist()
    assert barrier(losses, places) == pytest.approx(expected)


def test_what_no_soup_can_be_made_of(place: Path, config, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(place / "near", twin)
    with pytest.raises(ConfigError, match="all hold the same tensors"):
        soup(config(["near", str(twin)]))
    weights = tensors(twin)
    tower = next(name for name in weights if name.startswith("backbone.vision.") and weights[name].is_floating_point())
    save_file(weights | {tower: weights[tower] + 1}, twin / "model.safetensors")
    with pytest.raises(ConfigError, match=r"data\.features: the ingredients differ in a tower \(backbone\.vision\."):
        soup(config(["near", str(twin)], "data.features=true"))
    save_file({"other": torch.ones(1)}, twin / "model.safetensors")
    with pytest.raises(WeightsError, match="base=.*twin and .*near do not hold the same tensors"):
        soup(config(["near", "far"], "method=slerp", f"base={twin}"))
