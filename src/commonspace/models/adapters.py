"""Low-rank adapters (LoRA) through peft: attached, merged or taken off in place, stored apart from the base they fit.

The model keeps its class and its forward; chosen linear layers become base layer + B A x (alpha / rank). Stored are
the tensors that were trained (adapters, and layers trained in full beside them) with a hash of all the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from commonspace.errors import ConfigError, WeightsError
from commonspace.files import replaced


@dataclass(frozen=True)
class Lora:
    """What to adapt and how.

    target   regular expression that the whole dotted name of a layer matches, as in r"backbone\\..*\\.(query|value)".
    rank     of the update; alpha scales it by alpha / rank (alpha = rank if not given).
    dropout  on the adapter's input.
    train    regular expression of parameter names that stay fully trainable beside the adapters; empty: none.
    """

    target: str
    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    train: str = ""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank {self.rank} of an adapter must be at least 1")
        if self.alpha is not None and self.alpha <= 0:
            raise ConfigError(f"alpha {self.alpha} scales the adapter; it must be positive")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout} must lie in [0, 1)")
        for name, pattern in (("target", self.target), ("train", self.train)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{name} {pattern!r} is no regular expression: {error}") from error


@dataclass(frozen=True)
class _Before:
    """What a model was before adapters: what trained in it, and the values of what trains in full beside them."""

    lora: Lora
    trained: tuple[str, ...]
    values: Mapping[str, Tensor]


def attach(model: nn.Module, lora: Lora) -> list[str]:
    """Put adapters on the layers that `lora.target` matches, freeze all but `lora.train`; return the layers' names.

    The output does not change until the first step: B starts at zero. What trains in full beside the adapters is kept
    as it was, for `unload`. A pattern that matches nothing, or a layer that takes no adapter, raises ConfigError.
    """
    if adapted_layers(model):
        raise ConfigError("the model has adapters already; merge them before attaching others")
    targets = [name for name, _ in model.named_modules() if re.fullmatch(lora.target, name)]
    if not targets:
        raise ConfigError(f"target {lora.target!r} matches no layer; linear layers are {_some_linear_layers(model)}")
    whole = [name for name, p in model.named_parameters() if lora.train and re.fullmatch(lora.train, name)]
    if lora.train and not whole:
        raise ConfigError(f"train {lora.train!r} matches no parameter")
    wholly_trained = [model.get_parameter(name) for name in whole]
    trained = tuple(trainable(model))
    values = {name: model.get_parameter(name).detach().clone() for name in whole}
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha or lora.rank, lora_dropout=lora.dropout, target_modules=lora.target
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(f"target {lora.target!r} matches a layer that takes no adapter: {error}") from error
    for parameter in wholly_trained:
        parameter.requires_grad_()
    model.before_adapters = _Before(lora, trained, values)
    return adapted_layers(model)


def attached(model: nn.Module) -> Lora:
    """The settings of a model's adapters; ConfigError where it has none."""
    before = getattr(model, "before_adapters", None)
    if before is None:
        raise ConfigError("the model has no adapters; attach or load some first")
    return before.lora


def adapted_layers(model: nn.Module) -> list[str]:
    """Names of the layers that carry adapters."""
    return [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def trainable(model: nn.Module) -> dict[str, int]:
    """Names of the parameters that train, with how many numbers each holds."""
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add each adapter into its base layer and put that layer back: the same function, the base's own tensor names.

    What trained before adapters were attached trains again. Raises WeightsError if a merged weight is not finite, and
    ConfigError if there is nothing to merge.
    """
    names = adapted_layers(model)
    if not names:
        raise ConfigError("there are no adapters to merge")
    for name in names:
        layer = model.get_submodule(name)
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise WeightsError(f"the adapter of {name} cannot be merged: {error}") from error
        _put_back(model, name)
    _release(model)


@torch.no_grad()
def unload(model: nn.Module) -> None:
    """Take the adapters off, and give what was trained in full beside them its old values: the base, bit for bit.

    Raises ConfigError if there is nothing to take off.
    """
    before: _Before | None = getattr(model, "before_adapters", None)
    if before is None:
        raise ConfigError("there are no adapters to take off")
    for name in adapted_layers(model):
        _put_back(model, name)
    for name, tensor in before.values.items():
        model.get_parameter(name).copy_(tensor)
    _release(model)


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters, and what their settings train in full beside them, by name, on CPU: what an adapter file holds.

    A stage may freeze some of the latter; they are held all the same. ConfigError where there are no adapters.
    """
    attached(model)
    beside = model.before_adapters.values
    names = [name for name, _ in model.named_parameters() if _is_adapter(name) or _base_name(name) in beside]
    return {name: model.get_parameter(name).detach().cpu().contiguous() for name in names}


def base_hash(model: nn.Module, without: Collection[str] = ()) -> str:
    """sha256 of the names, types, shapes and bytes of all stored tensors but adapters and `without`.

    A model has one hash before adapters are attached and after, given the names of what is trained beside them.
    """
    tensors = model.state_dict()
    return _tensors_hash(tensors, tensors.__getitem__, without)


def stored_hash(file: Path, without: Collection[str] = ()) -> str:
    """`base_hash` of the model whose tensors a safetensors file holds, one of them in memory at a time."""
    try:
        with safe_open(file, framework="pt") as opened:
            return _tensors_hash(opened.keys(), opened.get_tensor, without)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file}: cannot be read as safetensors ({error}); was it written to the end?") from error


def save_adapter(model: nn.Module, lora: Lora, file: Path) -> None:
    """Write trained tensors, their settings and the hash of the base to a safetensors file, complete or not at all."""
    tensors = adapter_state(model)
    # One entry: safetensors writes several in any order, and equal adapters shall be equal files.
    metadata = {"adapter": json.dumps({"lora": asdict(lora), "base": base_hash(model, set(tensors))})}
    with replaced(file) as partial:
        save_file(tensors, partial, metadata=metadata)


def read_adapter(file: Path) -> tuple[Lora, dict[str, Tensor], str]:
    """Settings, trained tensors by name, and the hash of the base (see `base_hash`); WeightsError for another file."""
    try:
        with safe_open(file, framework="pt") as opened:
            described = json.loads((opened.metadata() or {})["adapter"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        lora, base = Lora(**described["lora"]), described["base"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file}: is no adapter file ({error!r}); write one with save_adapter") from error
    return lora, tensors, base


def fill_adapter(model: nn.Module, lora: Lora, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Attach an adapter to a bare base that is known to be its own; WeightsError names `file` where it does not fit."""
    attach(model, lora)
    if set(tensors) != set(trainable(model)):
        different = sorted(set(tensors) ^ set(trainable(model)))
        raise WeightsError(f"{file}: does not hold the tensors its settings call for: {', '.join(different[:5])}")
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{file}: {error}") from error


def _put_back(model: nn.Module, name: str) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, model.get_submodule(name).get_base_layer())


def _release(model: nn.Module) -> None:
    """Forget that there were adapters: what trained before them trains again."""
    for name in model.before_adapters.trained:
        model.get_parameter(name).requires_grad_()
    for mark in ("before_adapters", "peft_config"):
        if hasattr(model, mark):
            delattr(model, mark)


def _tensors_hash(names: Iterable[str], tensor_of: Callable[[str], Tensor], without: Collection[str]) -> str:
    state = hashlib.sha256()
    plain = {_base_name(name): name for name in names if not _is_adapter(name)}
    for name in sorted(set(plain) - {_base_name(name) for name in without}):
        tensor = tensor_of(plain[name]).detach().cpu().contiguous()
        state.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def _is_adapter(name: str) -> bool:
    return re.search(r"\.lora_[A-Za-z_]+\.", name) is not None


def _base_name(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _some_linear_layers(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
