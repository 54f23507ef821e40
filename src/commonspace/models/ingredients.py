"""Model folders as ingredients of a soup: whole models, or adapters, merged with their base or as bare factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from commonspace.errors import ConfigError, WeightsError
from commonspace.files import sha256_of
from commonspace.models.adapter_folder import base_of, is_adapter
from commonspace.models.adapters import Lora, read_adapter
from commonspace.models.averaging import check_alike, check_names
from commonspace.models.folder import ADAPTER_TENSORS, read_json
from commonspace.models.merged import MergedTensors
from commonspace.models.stored import StoredTensors

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Ingredient:
    """One model of a soup.

    label   its folder's name; with the parent's where two folders are called alike
    folder  as it was named; `whole` is the model folder that has its config: the base, for an adapter
    tensors by name, each read when it is asked for
    sha256  of the file with its own tensors
    """

    label: str
    folder: Path
    whole: Path
    tensors: Mapping[str, Tensor]
    sha256: str

    @property
    def run_id(self) -> str | None:
        """The run that trained it, as its training.json says."""
        told = self.folder / "training.json"
        return read_json(told).get("run_id") if told.is_file() else None


def read_ingredients(folders: Sequence[Path], lora: str = "merge") -> list[Ingredient]:
    """Ingredients of one architecture and one preprocessing.

    lora  merge: an adapter stands for the whole model that it makes of its base; factors: all are adapters of one base
          and equal settings, and their A and B are the tensors (a mean of products is no product of means)
    Raises ConfigError or WeightsError naming the folder that does not go with the others.
    """
    if len(folders) < 2:
        raise ConfigError(f"ingredients: {len(folders)} given; a soup takes at least two model folders")
    whole = [_whole(folder) for folder in folders]
    if lora == "factors":
        _check_factors(folders, whole)
    for name in ("config.json", "preprocessing.json"):
        _check_same(name, whole)
    names = [folder.name for folder in folders]
    labels = names if len(set(names)) == len(names) else ["/".join(folder.parts[-2:]) for folder in folders]
    return [
        Ingredient(label, folder, home, _tensors(folder, home, lora), sha256_of(_own(folder)))
        for label, folder, home in zip(labels, folders, whole, strict=True)
    ]


def differing(ingredients: Sequence[Ingredient]) -> list[str]:
    """Names of the tensors in which the ingredients differ; what is equal in all of them need not be averaged.

    One tensor of two ingredients is held at a time. Raises WeightsError naming what does not fit.
    """
    labels = [str(one.folder) for one in ingredients]
    check_names([one.tensors for one in ingredients], labels)
    found = []
    for name in ingredients[0].tensors:
        first, different = ingredients[0].tensors[name], False
        for one, label in zip(ingredients[1:], labels[1:], strict=True):
            other = one.tensors[name]
            check_alike(name, first, other, labels[0], label)
            different = different or not torch.equal(first, other)
        # Of integers the first's are kept, so they are never moved.
        if different and first.is_floating_point():
            found.append(name)
    return found


def _whole(folder: Path) -> Path:
    home = base_of(folder) if is_adapter(folder) else folder
    if not (home / WEIGHTS).is_file():
        raise WeightsError(f"{home}: has no {WEIGHTS}; train it first")
    return home


def _own(folder: Path) -> Path:
    return folder / (ADAPTER_TENSORS if is_adapter(folder) else WEIGHTS)


def _tensors(folder: Path, home: Path, lora: str) -> Mapping[str, Tensor]:
    if lora == "factors" or not is_adapter(folder):
        return StoredTensors(_own(folder))
    return MergedTensors(StoredTensors(home / WEIGHTS), _own(folder))


def _check_factors(folders: Sequence[Path], whole: Sequence[Path]) -> None:
    settings = []
    for folder in folders:
        if not is_adapter(folder):
            raise ConfigError(f"lora=factors: {folder} is a whole model and has no factors; take lora=merge")
        lora, _, base = read_adapter(folder / ADAPTER_TENSORS)
        settings.append((lora, base))
    for folder, home, (lora, base) in zip(folders[1:], whole[1:], settings[1:], strict=True):
        if base != settings[0][1]:
            raise ConfigError(f"lora=factors: {folder} adapts {home}, {folders[0]} another model; take lora=merge")
        if _shape(lora) != _shape(settings[0][0]):
            raise ConfigError(
                f"lora=factors: {folder} has other settings than {folders[0]} ({lora} and {settings[0][0]}), so their "
                "factors do not meet; take lora=merge"
            )


def _shape(lora: Lora) -> tuple:
    """What two adapters must share for their factors to be the same places; dropout is of training alone."""
    return (lora.target, lora.rank, lora.alpha, lora.train)


def _check_same(name: str, folders: Sequence[Path]) -> None:
    first = read_json(folders[0] / name)
    for folder in folders[1:]:
        other = read_json(folder / name)
        if other != first:
            keys = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
            raise ConfigError(
                f"{folder}/{name} differs from {folders[0]}'s in {', '.join(keys)}: no average of the two"
            )
