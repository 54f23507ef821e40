from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.adapters import (
    Lora,
    adapted_layers,
    adapter_state,
    attach,
    base_hash,
    fill_adapter,
    merge,
    read_adapter,
    save_adapter,
    stored_hash,
    trainable,
    unload,
)

LORA = Lora(r"backbone\.\d+\.(query|value)", rank=3, alpha=6, train=r"head\..*")


def build() -> nn.ModuleDict:
    torch.manual_seed(0)
    layers = [nn.ModuleDict({name: nn.Linear(8, 8) for name in ("query", "key", "value")}) for _ in range(2)]
    return nn.ModuleDict({"backbone": nn.ModuleList(layers), "norm": nn.LayerNorm(8), "head": nn.Linear(8, 4)})


def run(model: nn.ModuleDict, inputs: torch.Tensor) -> torch.Tensor:
    for layer in model["backbone"]:
        inputs = inputs + layer["value"](torch.tanh(layer["query"](inputs) * layer["key"](inputs)))
    return model["head"](model["norm"](inputs))


def fill(model: nn.ModuleDict, file: Path) -> None:
    lora, tensors, _ = read_adapter(file)
    fill_adapter(model, lora, tensors, file)


def train(model: nn.ModuleDict, steps: int = 3) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        run(model, torch.randn(5, 8)).square().sum().backward()
        optimizer.step()


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(1))


def test_attaching_changes_nothing_but_what_trains(inputs):
    model = build()
    before = run(model, inputs)
    names = attach(model, LORA)
    assert names == [f"backbone.{i}.{kind}" for i in range(2) for kind in ("query", "value")] == adapted_layers(model)
    assert torch.equal(run(model, inputs), before)
    counts = trainable(model)
    assert {name.split(".lora")[0] for name in counts if "lora" in name} == set(names)
    assert {name for name in counts if "lora" not in name} == {"head.weight", "head.bias"}
    assert sum(counts.values()) == 4 * 2 * 3 * 8 + 8 * 4 + 4


def test_every_trainable_tensor_gets_a_gradient_and_the_base_stays(inputs):
    model = build()
    base = copy.deepcopy(model.state_dict())
    attach(model, LORA)
    train(model, steps=2)
    run(model, inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in model.parameters() if p.requires_grad)
    for name, tensor in model.state_dict().items():
        plain = name.replace(".base_layer.", ".")
        if plain in base and not plain.startswith("head"):
            assert torch.equal(tensor, base[plain]), name


def test_merged_is_the_same_function_under_the_bases_names(inputs):
    model = build()
    names = set(model.state_dict())
    attach(model, LORA)
    train(model)
    adapted = run(model, inputs)
    weight = model.get_submodule("backbone.0.query")
    update = weight.lora_B["default"].weight @ weight.lora_A["default"].weight * (6 / 3)
    expected = (weight.get_base_layer().weight + update).detach().clone()
    merge(model)
    torch.testing.assert_close(run(model, inputs), adapted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.get_submodule("backbone.0.query").weight, expected)
    assert set(model.state_dict()) == names and adapted_layers(model) == []
    assert attach(model, LORA)  # a merged model is a base like any other
    with pytest.raises(ConfigError, match="adapters already"):
        attach(model, LORA)


def test_an_adapter_file_rebuilds_the_model_and_knows_its_base(inputs, tmp_path):
    model = build()
    attach(model, LORA)
    train(model)
    save_adapter(model, LORA, tmp_path / "adapter.safetensors")
    assert set(load_file(tmp_path / "adapter.safetensors")) == set(adapter_state(model))
    lora, tensors, base = read_adapter(tmp_path / "adapter.safetensors")
    fresh = build()
    assert lora == LORA and base == base_hash(fresh, tensors)
    fill_adapter(fresh, lora, tensors, tmp_path / "adapter.safetensors")
    assert torch.equal(run(fresh, inputs), run(model, inputs))
    other = build()
    with torch.no_grad():
        other["norm"].weight[0] += 1e-3
    assert base != base_hash(other, tensors)


def test_unloaded_is_the_base_bit_for_bit(inputs):
    """Adapters, and the head trained in full beside them; what trained before trains again."""
    model = build()
    model["norm"].requires_grad_(False)
    before, trained = copy.deepcopy(model.state_dict()), trainable(model)
    attach(model, LORA)
    train(model)
    assert not torch.equal(model["head"].weight, before["head.weight"])
    unload(model)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert trainable(model) == trained and adapted_layers(model) == []
    assert attach(model, LORA)


def test_merging_lets_train_what_trained_before():
    model = build()
    model["norm"].requires_grad_(False)
    trained = trainable(model)
    attach(model, LORA)
    merge(model)
    assert trainable(model) == trained


def test_what_a_stage_froze_beside_adapters_is_held_too(tmp_path):
    model = build()
    attach(model, LORA)
    train(model)
    model["head"].bias.requires_grad_(False)
    save_adapter(model, LORA, tmp_path / "adapter.safetensors")
    fresh = build()
    fill(fresh, tmp_path / "adapter.safetensors")
    assert torch.equal(fresh["head"].bias, model["head"].bias)


def test_a_files_hash_is_that_of_its_model(tmp_path):
    model = build()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    beside = {"head.weight"}
    assert stored_hash(tmp_path / "model.safetensors", beside) == base_hash(model, beside) != base_hash(model)
    (tmp_path / "model.safetensors").write_text("cut")
    with pytest.raises(WeightsError, match="model.safetensors: cannot be read"):
        stored_hash(tmp_path / "model.safetensors")


def test_the_hash_of_a_base_does_not_depend_on_adapters():
    model = build()
    before = base_hash(model)
    beside = base_hash(model, {"head.weight", "head.bias"})
    attach(model, LORA)
    train(model)
    assert base_hash(model) != before  # the head was trained in full
    assert base_hash(model, {"head.weight", "head.bias"}) == beside != before


@pytest.mark.parametrize("make", ["text", "foreign", "missing"])
def test_a_file_that_is_no_adapter_is_named(tmp_path, make):
    file = tmp_path / "adapter.safetensors"
    if make == "text":
        file.write_text("no tensors")
    elif make == "foreign":
        save_file({"a": torch.ones(1)}, file)
    with pytest.raises(WeightsError, match=r"adapter.safetensors: is no adapter file"):
        read_adapter(file)


def test_a_file_with_other_tensors_than_its_settings_is_refused(tmp_path):
    model = build()
    attach(model, LORA)
    file = tmp_path / "adapter.safetensors"
    save_adapter(model, Lora(LORA.target, rank=2, train=LORA.train), file)
    with pytest.raises(WeightsError, match="size mismatch"):
        fill(build(), file)
    save_adapter(model, Lora(r"backbone\.\d+\.query", rank=3, train=LORA.train), file)
    with pytest.raises(WeightsError, match="does not hold the tensors"):
        fill(build(), file)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"target": "decoder.*"}, "matches no layer; linear layers are backbone.0.query"),
        ({"target": "norm"}, "takes no adapter"),
        ({"target": "head", "train": "tail.*"}, "matches no parameter"),
        ({"target": "head", "rank": 0}, "rank 0"),
        ({"target": "head", "alpha": 0.0}, "must be positive"),
        ({"target": "head", "dropout": 1.0}, "dropout 1.0"),
        ({"target": "(head"}, "no regular expression"),
    ],
)
def test_what_cannot_be_adapted_is_refused(lora, message):
    with pytest.raises(ConfigError, match=message):
        attach(build(), Lora(**lora))


@pytest.mark.parametrize("act", [merge, unload, adapter_state])
def test_a_model_without_adapters_is_refused(act):
    with pytest.raises(ConfigError, match="no adapters"):
        act(build())
