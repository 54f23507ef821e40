"""Tensors on disk as mappings: each is read when it is asked for, and nothing of the others stays in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from commonspace.errors import WeightsError


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file by name.

    The file is opened for every tensor: pages of one that stays open stay mapped, and many ingredients read whole would
    fill the memory with them. Raises WeightsError naming a file that cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with safe_open(file, framework="pt") as opened:
                self._names = dict.fromkeys(opened.keys())
        except (OSError, SafetensorError) as error:
            raise WeightsError(
                f"{file}: cannot be read as safetensors ({error}); was it written to the end?"
            ) from error

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with safe_open(self.file, framework="pt") as opened:
            return opened.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class SomeTensors(Mapping[str, Tensor]):
    """A mapping's tensors of some names, in the order of the names."""

    def __init__(self, whole: Mapping[str, Tensor], names: Collection[str]) -> None:
        self._whole, self._names = whole, dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
