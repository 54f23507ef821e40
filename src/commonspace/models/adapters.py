"""Low-rank adapters (LoRA) through peft: attached in place, merged in place, stored apart from the base they fit.

The model keeps its class and its forward; chosen linear layers become base layer + B A x (alpha / rank). Stored are
the tensors that were trained (adapters, and layers trained in full beside them) with a hash of all the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from commonspace.errors import ConfigError, WeightsError


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


def attach(model: nn.Module, lora: Lora) -> list[str]:
    """Put adapters on the layers that `lora.target` matches, freeze all but `lora.train`; return the layers' names.

    The output does not change until the first step: B starts at zero. A pattern that matches nothing, or a layer that
    takes no adapter, raises ConfigError.
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
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha or lora.rank, lora_dropout=lora.dropout, target_modules=lora.target
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(f"target {lora.target!r} matches a layer that takes no adapter: {error}") from error
    for parameter in wholly_trained:
        parameter.requires_grad_()
    return adapted_layers(model)


def adapted_layers(model: nn.Module) -> list[str]:
    """Names of the layers that carry adapters."""
    return [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def trainable(model: nn.Module) -> dict[str, int]:
    """Names of the parameters that train, with how many numbers each holds."""
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add each adapter into its base layer and put that layer back: the same function, the base's own tensor names.

    Raises WeightsError if a merged weight is not finite, and ConfigError if there is nothing to merge.
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
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that were trained, by name, on CPU: what an adapter file or an adapter-only checkpoint holds."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def base_hash(model: nn.Module, without: set[str] | None = None) -> str:
    """sha256 of the names, types, shapes and bytes of all stored tensors but adapters and `without`.

    A model has one hash before adapters are attached and after, given the names of what is trained beside them.
    """
    state = hashlib.sha256()
    tensors = {_base_name(name): tensor for name, tensor in model.state_dict().items() if not _is_adapter(name)}
    for name in sorted(set(tensors) - {_base_name(n) for n in without or set()}):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def save_adapter(model: nn.Module, lora: Lora, file: Path) -> None:
    """Write trained tensors, their settings and the hash of the base to a safetensors file, complete or not at all."""
    tensors = adapter_state(model)
    metadata = {"lora": json.dumps(asdict(lora)), "base": base_hash(model, set(tensors))}
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".partial")
    save_file(tensors, temporary, metadata=metadata)
    temporary.replace(file)


def load_adapter(model: nn.Module, file: Path) -> Lora:
    """Attach the adapter in `file` to a bare base model and fill it; WeightsError if it was made for another base."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        lora = Lora(**json.loads(metadata["lora"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file}: is no adapter file ({error!r}); write one with save_adapter") from error
    if base_hash(model, set(tensors)) != metadata.get("base"):
        raise WeightsError(f"{file}: was trained on other base weights than this model's; load the base it names first")
    attach(model, lora)
    if set(tensors) != set(trainable(model)):
        different = sorted(set(tensors) ^ set(trainable(model)))
        raise WeightsError(f"{file}: does not hold the tensors its settings call for: {', '.join(different[:5])}")
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{file}: {error}") from error
    return lora


def _is_adapter(name: str) -> bool:
    return re.search(r"\.lora_[A-Za-z_]+\.", name) is not None


def _base_name(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _some_linear_layers(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
