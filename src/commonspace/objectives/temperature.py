"""Temperatures of contrastive losses: fixed or learned, one for all, one a task, or one a modality."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from commonspace.errors import ConfigError


class Temperature(nn.Module):
    """A positive number that divides cosines, held as its logarithm.

    Args:
        initial: value at the start; for a fixed temperature, the value.
        learned: whether it is a parameter (give it no weight decay: that pulls it towards 1).
        tasks: initial values by task. With any, each named task has its own; others share `initial`.
        minimum, maximum: where a learned value may move. It is put back inside before each use, so it cannot leave the
            range and cannot stick at its edge, as it would with the zero gradient of a clamp.
            0.005 and 1 by default; bounds on a fixed one raise.

    Relations: CLIP's logit scale is 1 / temperature, clamped at 100, here minimum = 0.01. RzenEmbed learns one a task.
    """

    def __init__(
        self,
        initial: float = 0.02,
        learned: bool = False,
        tasks: Mapping[str, float] | None = None,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> None:
        super().__init__()
        if not learned and (minimum is not None or maximum is not None):
            raise ConfigError("minimum and maximum bound a learned temperature; this one is fixed, so unset them")
        self.learned = learned
        self.minimum, self.maximum = (0.005, 1.0) if learned else (0.0, math.inf)
        self.minimum = self.minimum if minimum is None else minimum
        self.maximum = self.maximum if maximum is None else maximum
        values = {"": initial, **(tasks or {})}
        for task, value in values.items():
            _check(f"temperature of {task or 'all tasks'}", value, self.minimum, self.maximum)
        self.index = {task: number for number, task in enumerate(values)}
        logarithms = torch.tensor([math.log(value) for value in values.values()])
        if learned:
            self.log_temperature = nn.Parameter(logarithms)
        else:
            self.register_buffer("log_temperature", logarithms, persistent=False)

    def forward(self, task: str = "") -> Tensor:
        """The temperature of `task` [], or of all tasks where it has none of its own."""
        self._project()
        return self.log_temperature[self.index.get(task, 0)].exp()

    def values(self) -> dict[str, float]:
        """Current temperatures by task, "" for all others: what a stage logs."""
        return {task: float(self(task).detach()) for task in self.index}

    @torch.no_grad()
    def _project(self) -> None:
        if self.learned:
            self.log_temperature.clamp_(math.log(self.minimum), math.log(self.maximum))


class ModalityTemperature(Temperature):
    """One temperature a modality; a pair's is the mean of its two sides' (e5-omni, 2601.03666).

    A side with several modalities takes the mean of theirs. `modalities` maps each name to its initial value; others
    share `initial`, or raise ConfigError where there is none.
    Relations: with all values equal, a `Temperature`. e5-omni learned 0.013 (text, image) and 0.022 (audio, video).
    """

    def __init__(
        self,
        modalities: Mapping[str, float],
        learned: bool = False,
        minimum: float | None = None,
        maximum: float | None = None,
        initial: float | None = None,
    ) -> None:
        if not modalities:
            raise ConfigError("modalities needs at least one name with its temperature")
        first = next(iter(modalities.values()))
        super().__init__(first if initial is None else initial, learned, modalities, minimum, maximum)
        self._shared = initial is not None

    def pairs(self, queries: Sequence[Collection[str]], positives: Sequence[Collection[str]]) -> Tensor:
        """Temperature of each pair [B], from the modalities of its two sides."""
        self._project()
        temperatures = self.log_temperature.exp()
        sides = [torch.stack([self._side(temperatures, names) for names in side]) for side in (queries, positives)]
        return (sides[0] + sides[1]) / 2

    def _side(self, temperatures: Tensor, names: Collection[str]) -> Tensor:
        unknown = [] if self._shared else sorted(set(names) - set(self.index))
        if unknown or not names:
            known = ", ".join(name for name in self.index if name)
            missing = ", ".join(unknown) or "(none given)"
            raise ConfigError(f"no temperature for modality {missing}; there is one for {known}")
        return temperatures[[self.index.get(name, 0) for name in sorted(names)]].mean()


def _check(name: str, value: float, minimum: float, maximum: float) -> None:
    if not (math.isfinite(value) and value > 0 and minimum <= value <= maximum):
        raise ConfigError(f"{name} is {value}; it must be positive and within [{minimum}, {maximum}]")
