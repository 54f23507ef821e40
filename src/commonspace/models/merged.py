"""An adapter and its base read as the whole model that they are, without making it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from commonspace.errors import WeightsError
from commonspace.models.adapters import Lora, read_adapter


class MergedTensors(Mapping[str, Tensor]):
    """A base and its adapter as the whole model that they are: W + B A (alpha / rank), under the base's names.

    The adapter is held, the base is read as `StoredTensors`. Raises WeightsError where the adapter names a layer that
    the base does not have, or is of a kind that is no product of two matrices.
    """

    def __init__(self, base: Mapping[str, Tensor], adapter: Path) -> None:
        self.base = base
        self._lora, tensors, _ = read_adapter(adapter)
        self._beside = {n.replace(".base_layer.", "."): t for n, t in tensors.items() if ".lora_" not in n}
        self._factors = _factors(self._lora, {n: t for n, t in tensors.items() if ".lora_" in n}, adapter)
        if unknown := sorted({*self._beside, *self._factors} - set(base)):
            raise WeightsError(f"{adapter}: adapts {', '.join(unknown[:5])}, which its base does not have")

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._beside[name] if name in self._beside else self.base[name]
        if name not in self._factors:
            return tensor
        down, up = self._factors[name]
        scale = (self._lora.alpha or self._lora.rank) / self._lora.rank
        return tensor + (up @ down * scale).to(tensor.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)


def _factors(lora: Lora, tensors: Mapping[str, Tensor], adapter: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """{name of the adapted weight: (A [rank, in], B [out, rank])}."""
    found = {}
    for name, down in tensors.items():
        layer, mark, _ = name.partition(".lora_A.")
        if not mark:
            if ".lora_B." not in name:
                raise WeightsError(f"{adapter}: {name} is no factor of a linear layer; use `commonspace merge` first")
            continue
        found[f"{layer}.weight"] = (down, tensors[name.replace(".lora_A.", ".lora_B.")])
    return found
