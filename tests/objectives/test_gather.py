"""One, two and four processes on one global batch reach the same weights; a factor or a detached row would show."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("distributed_cases.py")
_spec = importlib.util.spec_from_file_location("distributed_cases", SCRIPT)
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, torch.Tensor]]:
    return {name: cases.train(loss, "reference") for name, loss in cases.LOSSES.items()}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict]:
    return run(2, tmp_path_factory.mktemp("two"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), cases.runs(2))
def test_two_processes_equal_one(name, mode, reference, two_processes):
    clipped = mode.endswith("step")
    expected = cases.train(cases.LOSSES[name], "clipped_reference") if clipped else reference[name]
    assert_same_weights(two_processes, f"{name}/{mode}", expected)
    assert not clipped or any(not torch.equal(expected[key], reference[name][key]) for key in expected)


@pytest.mark.slow
def test_four_processes_equal_one(reference, tmp_path):
    results = run(4, tmp_path)
    for name, mode in cases.runs(4):
        assert_same_weights(results, f"{name}/{mode}", reference[name])


@pytest.mark.slow
def test_labels_point_at_positives_when_hard_negatives_are_gathered(two_processes):
    """All wrong targets are orthogonal: equation 2 has 7 of the batch and 8 hard negatives beside the positive."""
    wrong = cases.BATCH - 1 + sum(cases.COUNTS)
    for result in two_processes:
        facts = result["facts"]
        assert facts["accuracy"] == 1 and facts["negatives"] == wrong
        assert float(facts["loss"]) == pytest.approx(math.log(1 + wrong * math.exp(-1 / 0.5)), abs=1e-12)


@pytest.mark.slow
def test_what_nobody_uses_keeps_no_gradient_and_shares_of_any_size_come_together(two_processes):
    for result in two_processes:
        facts = result["facts"]
        assert facts["has_gradient"].tolist() == [True, True, False]
        assert facts["bias_gradients"].tolist() == [[0.5, 0.5], [0.5, 0.5]], "a mean, not a sum"
        assert facts["any"].tolist() == [True, False]
        drawn = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
        assert torch.equal(facts["shares"], drawn), "the second process holds none"


@pytest.mark.parametrize("name", cases.LOSSES)
def test_every_tower_and_the_temperature_moved(name, reference):
    """Guards the comparison: weights that never change would agree for any gradient."""
    torch.manual_seed(0)
    start = cases.Model().double().state_dict()
    still = {key for key, tensor in reference[name].items() if torch.equal(tensor, start[key])}
    assert still == ({"temperature.log_temperature"} if name == "spread" else set())


def run(world: int, folder: Path) -> list[dict]:
    """Weights of every process, each a real process over gloo."""
    commands = [[sys.executable, str(SCRIPT), str(rank), str(world), str(folder)] for rank in range(world)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        for process in processes:
            errors = process.communicate(timeout=120)[1]
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def assert_same_weights(results: list[dict], key: str, expected: dict[str, torch.Tensor]) -> None:
    for weights in results:
        for name, tensor in expected.items():
            error = (weights[key][name] - tensor).abs().max()
            assert error < 1e-6, f"{key}: {name} differs by {error}"
