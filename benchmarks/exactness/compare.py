"""How far two sets of gradients, or of weights, are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = 1e-6  # largest relative error that counts as equal, in float64


@dataclass(frozen=True)
class Distance:
    """ratio of norms, cosine, and the largest relative error of any tensor with the tensor's name."""

    ratio: float
    cosine: float
    error: float
    worst: str

    @property
    def exact(self) -> bool:
        return self.error < EXACT


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Distance:
    """Of `found` from `expected`, tensor by tensor and laid end to end; names must agree."""
    if found.keys() != expected.keys():
        raise ValueError(f"one side alone has {', '.join(sorted(found.keys() ^ expected.keys()))}")
    one, other = (torch.cat([values[name].flatten() for name in expected]) for values in (found, expected))
    if not other.norm() > 0:
        raise ValueError("the expected values are all zero: the comparison would say nothing")
    smallest = 1e-12 * float(other.norm())
    errors = {
        name: float((found[name] - tensor).norm()) / max(float(tensor.norm()), smallest)
        for name, tensor in expected.items()
    }
    worst = max(errors, key=errors.__getitem__)
    cosine = float(torch.nn.functional.cosine_similarity(one, other, dim=0))
    return Distance(float(one.norm() / other.norm()), cosine, errors[worst], worst)
