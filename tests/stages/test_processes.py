"""One, two and four processes on the same global batches end with the same weights, replicated or sharded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commonspace.stages.sharded_strategy import to_whole
from tests.stages import ranks
from tests.stages.processes import PARTED, STEPS, TAIL, Case, model, train

pytestmark = pytest.mark.slow
# What one process, without any strategy, is asked for; all others are held to it.
ALONE = {
    "mixed": Case(settings={"average": "ema", "average_decay": 0.5, "learn_temperature": True}, looks=True),
    "parted": Case(PARTED, looks=True),
    "frozen text": Case(PARTED, settings={**TAIL, "freeze": ("text",)}, pooling="input_and_last"),
}
FEW = 40  # tokens: several passes a step, on some processes more than on others
CASES = {
    "mixed": replace(ALONE["mixed"]),
    "mixed, sharded": replace(ALONE["mixed"], strategy="fsdp"),
    "parted, cached": replace(ALONE["parted"], cache_tokens=FEW),
    "parted, cached, sharded": replace(ALONE["parted"], cache_tokens=FEW, strategy="fsdp"),
    "frozen text, recomputed, cached, sharded": replace(
        ALONE["frozen text"], cache_tokens=FEW, strategy="fsdp",
        settings={**ALONE["frozen text"].settings, "gradient_checkpointing": True},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {name: train(replace(case, save=str(folder / "alone" / name))) for name, case in ALONE.items()}


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, dict[str, torch.Tensor]]]:
    """What two processes make of all cases; beside them, runs that go on from checkpoints of those before."""
    mixed, sharded = CASES["mixed"], CASES["mixed, sharded"]
    first, whole, shares = (folder / name for name in ("replicated", "whole", "shares"))
    cases = {
        **CASES,
        "mixed": replace(mixed, save=str(first)),
        "mixed, again": replace(mixed, start=1, resume=str(first / "step=1.ckpt")),
        "mixed, sharded": replace(sharded, save=str(whole)),
        "as shares": replace(
            sharded, start=1, stop=2, resume=str(whole / "step=1.ckpt"), save=str(shares), save_shares=True
        ),
        "mixed, sharded, again": replace(sharded, start=2, resume=str(shares / "step=2.ckpt")),
    }
    return ranks.run(train, cases, 2, folder / "two")


@pytest.fixture(scope="module")
def four(folder: Path, two: list[dict]) -> list[dict[str, dict[str, torch.Tensor]]]:
    """What four processes make of two cases, and of the shares that two wrote."""
    cases = {name: CASES[name] for name in ("mixed", "parted, cached, sharded")}
    cases["mixed, sharded"] = replace(CASES["mixed, sharded"], start=2, resume=str(folder / "shares/step=2.ckpt"))
    return ranks.run(train, cases, 4, folder / "four")


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], within: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        error = float((found[name].double() - tensor.double()).abs().max())
        assert error <= within, f"{name} differs by {error}"


def still(weights: dict[str, torch.Tensor], parts: tuple[str, ...]) -> set[str]:
    """The parts of which nothing has moved."""
    start = model().state_dict()
    moved = [name for name, tensor in start.items() if not torch.equal(weights[name], tensor)]
    return {part for part in parts if not any(name.startswith(part) for name in moved)}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_does(case: str, alone: dict, two: list[dict]) -> None:
    for weights in two:
        assert_same(weights[case], alone[case.partition(",")[0]])


@pytest.mark.parametrize("case", ["mixed", "parted, cached, sharded", "mixed, sharded"])
def test_four_processes_end_where_one_does(case: str, alone: dict, four: list[dict]) -> None:
    for weights in four:
        assert_same(weights[case], alone[case.partition(",")[0]])


def test_every_tower_that_is_needed_has_moved_and_no_other(alone: dict) -> None:
    """Guards the comparison: weights that never change would agree whatever the gradients."""
    towers = ("backbone.vision.trunk", "backbone.audio.encoder")
    others = ("backbone.image_connector", "backbone.audio_connector", "backbone.marks", "text_layer", "head")
    words = "backbone.text.embeddings.word_embeddings"
    assert still(alone["mixed"], (*towers, *others, words, "backbone.text.encoder")) == set()
    assert still(alone["parted"], (*towers, *others, words)) == {"backbone.audio.encoder", "backbone.audio_connector"}


@pytest.mark.parametrize("case", ["mixed", "mixed, sharded"])
def test_two_processes_that_stopped_go_on_bit_for_bit(case: str, two: list[dict]) -> None:
    """The sharded run went on twice: from a whole file, writing shares, and from those."""
    for weights in two:
        again = weights[f"{case}, again"]
        assert again.keys() == weights[case].keys()
        assert [name for name, tensor in weights[case].items() if not torch.equal(again[name], tensor)] == []


def test_a_sharded_run_saves_what_one_process_saves(two: list[dict], alone: dict, folder: Path) -> None:
    """State dict, optimiser and average alike, name for name: as a file at once, or as shares made into one."""
    one = torch.load(folder / "alone/mixed/step=2.ckpt", weights_only=True)
    made = to_whole(folder / "shares/step=2.ckpt", folder / "made.ckpt")
    for file in (folder / "whole/step=2.ckpt", made):
        found = torch.load(file, weights_only=True)
        assert_same(found["state_dict"], one["state_dict"])
        (mine,), (theirs,) = found["optimizer_states"], one["optimizer_states"]
        assert [g["params"] for g in mine["param_groups"]] == [g["params"] for g in theirs["param_groups"]]
        assert mine["state"].keys() == theirs["state"].keys()
        for number, state in theirs["state"].items():
            assert_same(mine["state"][number], state)
        averages = [next(v for k, v in c["callbacks"].items() if "WeightAverage" in k) for c in (found, one)]
        assert averages[0]["updates"] == averages[1]["updates"] == 2
        assert averages[0]["average"] and len(averages[0]["average"]) == len(averages[1]["average"])
        assert_same(*(average["average"] for average in averages))
        assert found["global_step"] == one["global_step"] == 2
    assert (folder / "shares/last.ckpt/.metadata").is_file() and not list(folder.rglob("*.partial"))


def test_one_process_goes_on_from_what_a_sharded_run_saved(two: list[dict], alone: dict, folder: Path) -> None:
    file = to_whole(folder / "shares/step=2.ckpt", folder / "for one.ckpt")
    assert_same(train(replace(ALONE["mixed"], start=2, resume=str(file))), alone["mixed"])
    assert STEPS > 2
