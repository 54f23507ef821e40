from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.averaging import RunningAverage, average_tensors, greedy, write_tensors
from commonspace.models.stored import StoredTensors

WEIGHTS = [[1, 1, 1], [2, 1, 7], [0.1, 0.1, 0.7]]


def ingredient(seed: int, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "layer.weight": torch.randn(5, 7, generator=generator),
        "layer.bias": torch.randn(7, generator=generator).bfloat16(),
        "wide": torch.randn(3, generator=generator, dtype=torch.float64),
        "steps": torch.tensor(seed),
        "zero": torch.tensor([-0.0, 0.0]),
    }
    return tensors | changes


def average_files(files: list[Path], output: Path, weights: list[float] | None = None) -> None:
    """From files to a file, as a soup is made."""
    write_tensors(average_tensors([StoredTensors(file) for file in files], weights, [str(f) for f in files]), output)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for seed, path in enumerate(paths):
        save_file(ingredient(seed), path)
    return paths


@pytest.mark.parametrize("weights", WEIGHTS)
def test_equals_the_weighted_mean_in_float64(files, tmp_path, weights):
    average_files(files, tmp_path / "soup.safetensors", weights)
    soup = load_file(tmp_path / "soup.safetensors")
    for name, tolerance in (("layer.weight", 1e-6), ("layer.bias", 1e-2), ("wide", 1e-14)):
        wide = torch.stack([ingredient(seed)[name].double() for seed in range(3)])
        shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
        expected = torch.tensordot(shares, wide, dims=1)
        assert soup[name].dtype == ingredient(0)[name].dtype
        torch.testing.assert_close(soup[name].double(), expected, rtol=tolerance, atol=tolerance)
    assert soup["steps"] == 0  # integers come from the first
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "0.safetensors",
        "1.safetensors",
        "2.safetensors",
        "soup.safetensors",
    ]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_soup_of_equals_is_the_same_model_bit_for_bit(weights):
    model = ingredient(4)
    for name, tensor in average_tensors([model, dict(model), dict(model)], weights):
        assert bits(tensor) == bits(model[name]), name


def test_order_does_not_matter_and_the_mean_lies_between():
    models = [ingredient(seed) for seed in range(3)]
    soups = [dict(average_tensors(order))["layer.weight"] for order in itertools.permutations(models)]
    for soup in soups[1:]:
        torch.testing.assert_close(soup, soups[0], rtol=0, atol=1e-6)
    stack = torch.stack([model["layer.weight"] for model in models])
    assert (soups[0] <= stack.amax(0) + 1e-6).all() and (soups[0] >= stack.amin(0) - 1e-6).all()


def test_ingredients_are_not_changed_nor_shared():
    first, second = ingredient(0), ingredient(1)
    soup = dict(average_tensors([first, second]))
    for tensor in soup.values():
        tensor.zero_()
    assert all(torch.equal(first[name], tensor) for name, tensor in ingredient(0).items())


def test_one_tensor_of_one_ingredient_at_a_time():
    asked: list[str] = []

    class Lazy(dict):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

    stream = average_tensors([Lazy(ingredient(0)), Lazy(ingredient(1))])
    next(stream)
    assert asked == ["layer.weight", "layer.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": torch.ones(1)}, "do not hold the same tensors: extra"),
        ({"layer.weight": torch.ones(5, 8)}, r"layer.weight is torch.float32 \(5, 8\) in"),
        ({"layer.weight": torch.ones(5, 7).half()}, "layer.weight is torch.float16"),
        ({"steps": torch.tensor([1, 2])}, "steps is torch.int64"),
        ({"wide": torch.tensor([1.0, float("nan"), 0.0], dtype=torch.float64)}, "wide in .* not finite"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(files, tmp_path, change, message):
    save_file(ingredient(1, **change), files[1])
    with pytest.raises(WeightsError, match=message) as caught:
        average_files(files, tmp_path / "soup.safetensors")
    assert "1.safetensors" in str(caught.value)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_truncated_file_is_named(files, tmp_path):
    files[1].write_bytes(files[1].read_bytes()[:-20])
    with pytest.raises(WeightsError, match="1.safetensors: cannot be read"):
        average_files(files, tmp_path / "soup.safetensors")


@pytest.mark.parametrize("weights", [[1, 1], [1, 0, 1], [1, -1, 1], [1, float("nan"), 1]])
def test_impossible_weights_are_refused(files, tmp_path, weights):
    with pytest.raises(ConfigError, match="weights"):
        average_files(files, tmp_path / "soup.safetensors", weights)


def test_greedy_keeps_what_does_not_hurt():
    """Score of a soup: how near the mean of its numbers is to 10."""
    calls = []

    def score(members: tuple[float, ...]) -> float:
        calls.append(members)
        return -abs(sum(members) / len(members) - 10)

    soup = greedy([3.0, 9.0, 11.5, 40.0, 9.5], score)
    assert soup.members == (9.5, 11.5)
    by_hand = [(9.5,), (9.5, 9.0), (9.5, 11.5), (9.5, 11.5, 3.0), (9.5, 11.5, 40.0)]
    assert [trial.members for trial in soup.trials if len(trial.members) > 1] == by_hand[1:]
    assert soup.score == pytest.approx(-0.5) and calls == [(3.0,), (9.0,), (11.5,), (40.0,), (9.5,), *by_hand[1:]]


def test_greedy_is_never_below_the_best_single():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        table = {}

        def score(members, table=table):
            return table.setdefault(members, torch.rand((), generator=generator).item())

        soup = greedy(list("abcd"), score)
        assert soup.score >= max(table[(name,)] for name in "abcd") and table[soup.members] == soup.score
        assert sum(trial.kept for trial in soup.trials) == len(soup.members)


def test_greedy_refuses_nothing_and_not_a_number():
    with pytest.raises(ConfigError, match="at least one"):
        greedy([], lambda members: 1.0)
    with pytest.raises(ConfigError, match="not a number"):
        greedy(["a"], lambda members: float("nan"))


def test_exponential_average_follows_its_recurrence():
    running, expected = RunningAverage(decay=0.9), None
    for step in range(30):
        value = torch.tensor([float(step**2)])
        running.update({"w": value, "n": torch.tensor(step)})
        if expected is None:
            expected = value
        else:
            decay = min(0.9, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(running.value()["w"], expected)
    assert running.value()["n"] == 29


def test_without_decay_it_is_the_mean_of_all_and_holds_one_copy():
    running, taken = RunningAverage(), [torch.randn(64) for _ in range(7)]
    weight = torch.zeros(64, dtype=torch.bfloat16)
    for value in taken:
        weight.copy_(value)  # updated in place, as by an optimizer: what was taken in must be a copy
        running.update({"w": weight})
    expected = torch.stack([value.bfloat16().double() for value in taken]).mean(0)
    assert running.value()["w"].dtype == torch.float32
    torch.testing.assert_close(running.value()["w"].double(), expected, rtol=1e-5, atol=1e-6)
    assert sum(tensor.numel() for tensor in running.state_dict()["average"].values()) == 64


def test_equal_weights_are_their_own_average_to_the_bit():
    for running in (RunningAverage(), RunningAverage(0.9)):
        weight = torch.randn(64)
        for _ in range(5):
            running.update({"w": weight})
        assert torch.equal(running.value()["w"], weight)


def test_weights_that_are_not_finite_are_not_averaged_away():
    running = RunningAverage()
    for value in (1.0, float("nan"), 1.0):
        running.update({"w": torch.tensor([value])})
    with pytest.raises(WeightsError, match="w in the average holds values that are not finite"):
        running.value()


@pytest.mark.parametrize("arguments", [{"decay": 0.99}, {}])
def test_a_running_average_resumes_from_a_safe_checkpoint(tmp_path, arguments):
    whole, first = RunningAverage(**arguments), RunningAverage(**arguments)
    for seed in range(6):
        whole.update(ingredient(seed))
        if seed < 3:
            first.update(ingredient(seed))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = RunningAverage(**arguments)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for seed in range(3, 6):
        second.update(ingredient(seed))
    assert all(torch.equal(second.value()[name], tensor) for name, tensor in whole.value().items())
    with pytest.raises(ConfigError, match="the saved average has"):
        RunningAverage(decay=0.5).load_state_dict(first.state_dict())
    with pytest.raises(ConfigError, match="of an earlier form; start anew"):
        second.load_state_dict({"decay": None, "last": 8, "updates": 3, "held": [ingredient(0)]})


def test_before_the_first_update_a_state_is_none_and_loads():
    fresh, resumed = RunningAverage(), RunningAverage()
    assert fresh.state_dict()["average"] is None
    resumed.load_state_dict(fresh.state_dict())
    resumed.update({"w": torch.ones(3)})
    assert resumed.value()["w"].tolist() == [1, 1, 1]


def test_a_state_that_is_loaded_is_copied():
    first, second = RunningAverage(), RunningAverage()
    first.update({"w": torch.zeros(3)})
    second.load_state_dict(first.state_dict())
    second.update({"w": torch.ones(3)})
    assert first.value()["w"].tolist() == [0, 0, 0] and second.value()["w"].tolist() == [0.5, 0.5, 0.5]


def test_a_decay_that_keeps_everything_is_refused():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        RunningAverage(decay=1.0)


def test_nothing_averaged_yet_is_refused():
    with pytest.raises(ConfigError, match="call update first"):
        RunningAverage().value()
