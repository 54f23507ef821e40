"""Weight averaging on named tensors: what a soup is made by. No architecture, no trainer, one tensor at a time.

An average is taken as `first + sum_i w_i (x_i - first)` in float32 (float64 for float64), so equal ingredients give
their own tensors back bit for bit, whatever the weights. Tensors that are not floating point (counters, indices) come
from the first ingredient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from commonspace.errors import ConfigError, WeightsError

Candidate = TypeVar("Candidate")
Weights = Sequence[float] | Callable[[str], Sequence[float]]  # one set for all tensors, or by a tensor's name


def write_tensors(tensors: Iterable[tuple[str, Tensor]], output: Path) -> None:
    """Write named tensors to a safetensors file, complete or not at all; all of them are held at once."""
    held = {name: tensor.contiguous() for name, tensor in tensors}
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".partial")
    save_file(held, temporary)
    temporary.replace(output)


def average_tensors(
    ingredients: Sequence[Mapping[str, Tensor]],
    weights: Weights | None = None,
    labels: Sequence[str] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, average) over ingredients with the same tensors, in the order of the first.

    An ingredient may be a lazy mapping: each tensor is asked for once. `weights` are ratios, one set for all tensors or
    a function of a tensor's name. `labels` name ingredients in errors.
    """
    count = len(ingredients)
    fixed = None if callable(weights) else shares(weights, count)
    labels = labels or [f"ingredient {number}" for number in range(count)]
    check_names(ingredients, labels)
    for name in ingredients[0]:
        parts = shares(weights(name), count) if callable(weights) else fixed
        yield name, _average_one(name, ingredients, parts, labels)


@dataclass(frozen=True)
class Trial(Generic[Candidate]):
    """One average that was scored, and whether its last member stayed."""

    members: tuple[Candidate, ...]
    score: float
    kept: bool


@dataclass(frozen=True)
class GreedySoup(Generic[Candidate]):
    """The chosen members, best first, the score of their average, and every trial on the way."""

    members: tuple[Candidate, ...]
    score: float
    trials: tuple[Trial[Candidate], ...]


def greedy(candidates: Sequence[Candidate], score: Callable[[tuple[Candidate, ...]], float]) -> GreedySoup[Candidate]:
    """Greedy soup (model soups, 2203.05482, recipe 1): from the best candidate down, keep each that does not hurt.

    `score(members)` is the score, higher is better, of the uniform average of `members`; it is called once for each
    candidate alone and once for each further average. Score on dev, never on held-out data. By construction the result
    scores at least as high as the best candidate. A score that is not a number raises ConfigError.
    """
    if not candidates:
        raise ConfigError("a soup needs at least one candidate")
    alone = [(_number(score((candidate,))), candidate) for candidate in candidates]
    ranked = sorted(alone, key=lambda pair: -pair[0])  # stable: equal scores keep the order given
    best, members = ranked[0][0], (ranked[0][1],)
    trials = [Trial((candidate,), value, number == 0) for number, (value, candidate) in enumerate(ranked)]
    for _, candidate in ranked[1:]:
        attempt = (*members, candidate)
        value = _number(score(attempt))
        trials.append(Trial(attempt, value, value >= best))
        if value >= best:
            members, best = attempt, value
    return GreedySoup(members, best, tuple(trials))


class RunningAverage:
    """Average of a model's weights within one run, whatever their number held once, in float32.

    Args:
        decay: exponential: average <- decay x average + (1 - decay) x weights, with decay no larger than
            (1 + n) / (10 + n) at the n-th update, so that early weights are forgotten. As it is asked at every step
            it stays where the weights are. None: the mean of all that is taken in, on CPU.
    """

    def __init__(self, decay: float | None = None) -> None:
        if decay is not None and not 0 < decay < 1:
            raise ConfigError(f"decay {decay} must lie between 0 and 1, as in 0.999")
        self.decay, self.updates = decay, 0
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor]) -> None:
        """Take in the weights as they are now; they are copied."""
        device = "cpu" if self.decay is None else None
        latest = {name: widened(tensor.detach().to(device or tensor.device)) for name, tensor in tensors.items()}
        if not self._average:
            self._average = {name: tensor.clone() for name, tensor in latest.items()}
        else:
            check_names([self._average, latest], ["the average", "the weights"])
        for name, average in self._average.items():
            average = self._average[name] = average.to(latest[name].device)  # a checkpoint's comes on CPU
            if average.is_floating_point():
                average.lerp_(latest[name], self._share())
            else:  # counters follow the model: an average of integers is none
                average.copy_(latest[name])
        self.updates += 1

    def value(self) -> dict[str, Tensor]:
        """The average now, in float32 or wider: its own tensors, which the next update changes."""
        if not self._average:
            raise ConfigError("nothing has been averaged yet; call update first")
        for name, tensor in self._average.items():
            check_finite(name, tensor, "the average")
        return dict(self._average)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, those that the next update changes, and primitives; loads with `weights_only=True`."""
        return {"decay": self.decay, "updates": self.updates, "average": dict(self._average) or None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average; ConfigError where it was of another decay, or of a kind no longer written."""
        if "average" not in state:
            raise ConfigError("the checkpoint's average is of an earlier form; start anew with resume=never")
        if state["decay"] != self.decay:
            raise ConfigError(f"the saved average has decay={state['decay']}, this one decay={self.decay}")
        held = state["average"] or {}  # None before the first update: a checkpoint of shares loses an empty dict
        self.updates, self._average = state["updates"], {name: tensor.clone() for name, tensor in held.items()}

    def _share(self) -> float:
        """Of the weights that are being taken in."""
        n = self.updates
        return 1 / (n + 1) if self.decay is None else 1 - min(self.decay, (1 + n) / (10 + n))


def _average_one(
    name: str, ingredients: Sequence[Mapping[str, Tensor]], parts: Sequence[float], labels: Sequence[str]
) -> Tensor:
    first = ingredients[0][name]
    if not first.is_floating_point():
        for ingredient, label in zip(ingredients[1:], labels[1:], strict=True):
            check_alike(name, first, ingredient[name], labels[0], label)
        return first.clone()
    origin = widened(first)
    check_finite(name, origin, labels[0])
    delta = torch.zeros_like(origin)
    for ingredient, share, label in zip(ingredients[1:], parts[1:], labels[1:], strict=True):
        other = ingredient[name]
        check_alike(name, first, other, labels[0], label)
        check_finite(name, other, label)
        delta.add_(widened(other).sub(origin), alpha=share)
    # Where nothing differs the sum is skipped: adding 0 would turn -0 into 0.
    return torch.where(delta == 0, first, (origin + delta).to(first.dtype))


def widened(tensor: Tensor) -> Tensor:
    """A floating tensor in float32, or wider where it is; any other as it is."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """Ratios as shares that add up to 1, equal for None; ConfigError where they are not `count` positive numbers."""
    if count == 0:
        raise ConfigError("an average needs at least one ingredient")
    weights = [1.0] * count if weights is None else list(weights)
    if len(weights) != count:
        raise ConfigError(f"{len(weights)} weights for {count} ingredients")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ConfigError(f"weights {weights} must be positive numbers; leave an ingredient out to give it none")
    return [weight / sum(weights) for weight in weights]


def check_names(ingredients: Sequence[Mapping[str, Tensor]], labels: Sequence[str]) -> None:
    """WeightsError names the tensors that one ingredient has and the first has not, or the other way."""
    first = set(ingredients[0])
    for ingredient, label in zip(ingredients[1:], labels[1:], strict=True):
        different = sorted(first ^ set(ingredient))
        if different:
            shown = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
            raise WeightsError(
                f"{label} and {labels[0]} do not hold the same tensors: {shown}; average one architecture"
            )


def check_alike(name: str, first: Tensor, other: Tensor, first_label: str, label: str) -> None:
    """WeightsError names a tensor whose shape or type differs between two ingredients."""
    if (first.shape, first.dtype) != (other.shape, other.dtype):
        here, there = f"{other.dtype} {tuple(other.shape)}", f"{first.dtype} {tuple(first.shape)}"
        raise WeightsError(
            f"{name} is {here} in {label} but {there} in {first_label}; average one architecture and type"
        )


def check_finite(name: str, tensor: Tensor, label: str) -> None:
    """WeightsError names a tensor with values that are not finite."""
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"{name} in {label} holds values that are not finite; that run diverged, leave it out")


def _number(value: float) -> float:
    if math.isnan(value):
        raise ConfigError("a candidate's score is not a number; a soup cannot be chosen by it")
    return float(value)
