"""How some ingredients become one model: at which shares, in a straight line or along a sphere."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from commonspace.errors import ConfigError
from commonspace.models.averaging import average_tensors, check_alike, check_finite, check_names, shares, widened

_LAYER = re.compile(r"\.(?:layers?|blocks)\.\d+\.")


@dataclass(frozen=True)
class Blend:
    """Which ingredients, by number, and how they are joined.

    ratios    one a member; None: equal
    by_layer  ratios of the layers that have their own (see `layer_of`), as learned coefficients may
    path      straight: their average; sphere: slerp of two, around `base` where there is one
    """

    members: tuple[int, ...]
    ratios: tuple[float, ...] | None = None
    by_layer: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    path: str = "straight"

    def tensors(
        self,
        ingredients: Sequence[Mapping[str, Tensor]],
        labels: Sequence[str],
        base: Mapping[str, Tensor] | None = None,
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of the result, out of the members' tensors, in their order; one tensor at a time.

        Raises ConfigError for impossible ratios, WeightsError for ingredients that do not go together.
        """
        if self.path == "sphere":
            return slerp_tensors(ingredients, self.ratios, labels, base)
        if not self.by_layer:
            return average_tensors(ingredients, self.ratios, labels)
        equal = (1.0,) * len(self.members)
        return average_tensors(
            ingredients, lambda name: self.by_layer.get(layer_of(name), self.ratios or equal), labels
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: shares add up to 1."""
        told: dict[str, Any] = {"shares": shares(self.ratios, len(self.members)), "path": self.path}
        if self.by_layer:
            told["by_layer"] = {name: shares(ratios, len(self.members)) for name, ratios in self.by_layer.items()}
        return told


def layer_of(name: str) -> str:
    """The layer a tensor belongs to: up to the number of its block, else its module's first two names."""
    found = _LAYER.search(name)
    return name[: found.end() - 1] if found else ".".join(name.split(".")[:2])


def slerp_tensors(
    ingredients: Sequence[Mapping[str, Tensor]],
    ratios: Sequence[float] | None,
    labels: Sequence[str],
    base: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Spherical interpolation of two ingredients, tensor by tensor (Shoemake 1985; around a base as in 2406.16768).

        out = base + sin((1-t) w) / sin(w) u + sin(t w) / sin(w) v
        u = first - base, v = second - base, cos w = <u, v> / (|u| |v|)

    `ratios` [1 - t, t]; without a base u and v are the tensors themselves. A straight line shortens what two runs moved
    in different directions, the sphere does not. Where an angle is none (equal directions, or a tensor that did not
    move) the line is taken. Computed in float64; integers are the first's. Opposite directions raise ConfigError: there
    is no one way between them.
    """
    if len(ingredients) != 2:
        raise ConfigError(f"path=sphere joins two ingredients, {len(ingredients)} are given; take path=straight")
    share = shares(ratios, 2)[1]
    check_names(ingredients, labels)
    if base is not None:
        check_names([ingredients[0], base], [labels[0], "base"])
    for name in ingredients[0]:
        first, second = (one[name] for one in ingredients)
        check_alike(name, first, second, labels[0], labels[1])
        origin = None if base is None else base[name]
        if origin is not None:
            check_alike(name, first, origin, labels[0], "base")
        for tensor, label in ((first, labels[0]), (second, labels[1])):
            if tensor.is_floating_point():
                check_finite(name, widened(tensor), label)
        yield name, _slerp(name, first, second, share, origin)


def _slerp(name: str, first: Tensor, second: Tensor, share: float, base: Tensor | None) -> Tensor:
    if not first.is_floating_point() or torch.equal(first, second):
        return first.clone()
    origin = torch.zeros((), dtype=torch.float64) if base is None else base.double()
    one, other = first.double() - origin, second.double() - origin
    lengths = float(one.norm() * other.norm())
    angle = math.acos(max(-1.0, min(1.0, float((one * other).sum()) / lengths))) if lengths else 0.0
    if math.pi - angle < 1e-6:
        raise ConfigError(f"path=sphere: {name} of the two lies in opposite directions; take path=straight")
    if angle < 1e-6:
        mixed = one.lerp(other, share)
    else:
        mixed = (math.sin((1 - share) * angle) * one + math.sin(share * angle) * other) / math.sin(angle)
    return (origin + mixed).to(first.dtype)
