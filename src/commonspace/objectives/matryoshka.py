"""Any loss at several sizes of one embedding (Matryoshka representation learning, 2205.13147).

    L_MRL = sum_m w_m L(renormalised first m numbers of each vector)

so that the first m numbers are an embedding of their own. The paper's sizes are 768, 1536 and 3072; its weights are not
given, EmbeddingGemma's are all 1, and so are the defaults here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from commonspace.errors import ConfigError

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
Vectors = Tensor | tuple[Tensor, ...] | None


def matryoshka(loss_fn: Loss, sizes: Sequence[int], weights: Sequence[float] | None = None) -> Loss:
    """`loss_fn` summed over prefixes of its vectors.

    Every positional argument of the returned function that is a tensor [..., E], or a tuple of such, is cut to its
    first m numbers and renormalised, for each m in `sizes`; keyword arguments pass unchanged. The report is that of the
    largest size, with `loss` the weighted sum and one `loss@m` a size, unweighted.

    Relations: with `sizes` = (E,) equal to `loss_fn`. Cutting without renormalising would change losses that do not
    normalise; a cosine is the same either way.
    """
    sizes = tuple(sizes)
    weights = tuple(weights) if weights is not None else (1.0,) * len(sizes)
    _check(sizes, weights)
    largest = max(sizes)

    def loss_over_sizes(*vectors: Vectors, **arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        report: dict[str, Tensor] = {}
        losses: dict[int, Tensor] = {}
        for size in sizes:
            losses[size], figures = loss_fn(*(_cut(v, size) for v in vectors), **arguments)
            if size == largest:
                report = figures
        total = sum(weight * losses[size] for size, weight in zip(sizes, weights, strict=True))
        report = report | {f"loss@{size}": loss.detach() for size, loss in losses.items()}
        return total, report | {"loss": total.detach()}

    return loss_over_sizes


def prefix(vectors: Tensor | None, size: int) -> Tensor | None:
    """The first `size` numbers of each vector [..., E], as unit vectors; None stays None."""
    if vectors is None:
        return None
    if vectors.shape[-1] < size:
        raise ConfigError(f"matryoshka size {size} is larger than the embedding, {vectors.shape[-1]}")
    cut = vectors[..., :size]
    return F.normalize(cut.float() if cut.dtype.itemsize < 4 else cut, dim=-1)


def _cut(vectors: Vectors, size: int) -> Vectors:
    if isinstance(vectors, tuple):
        return tuple(prefix(part, size) for part in vectors)
    return prefix(vectors, size)


def _check(sizes: tuple[int, ...], weights: tuple[float, ...]) -> None:
    if not sizes or len(set(sizes)) < len(sizes) or min(sizes) < 1:
        raise ConfigError(f"matryoshka sizes {list(sizes)} must be different positive numbers, at least one")
    if len(weights) != len(sizes):
        raise ConfigError(f"{len(weights)} matryoshka weights for {len(sizes)} sizes {list(sizes)}")
    if min(weights) <= 0:
        raise ConfigError(f"matryoshka weights {list(weights)} must be positive; leave a size out to weigh it 0")
