"""From gradients to a step: the one place where they are averaged, clipped and applied, under any trainer or none.

step = GradientStep(optimiser, model.parameters(), clip_norm=1.0)
for batch in batches:
    loss, report = cached_backward(...)          # or loss.backward()
    norm = step()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol

from torch import Tensor, nn

from commonspace.errors import ConfigError
from commonspace.objectives.gather import Group, average_gradients


class Optimiser(Protocol):
    """What a step needs of an optimiser: torch's own have it, and Lightning's wrappers of them."""

    def step(self) -> object: ...

    def zero_grad(self, set_to_none: bool = True) -> object: ...


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float, group: Group | None = None) -> Tensor:
    """Scale whole gradients, the same on every process of `group`, to a norm of at most `largest`; the norm before."""
    having = [parameter for parameter in parameters if parameter.grad is not None]
    return nn.utils.clip_grad_norm_(having, largest, error_if_nonfinite=True)


class GradientStep:
    """To be called once after the backward passes of each batch; every `batches`-th call takes a step.

    clip_norm  largest norm of the step's gradient, over all parameters together; None: not clipped
    batches    whose gradients the step takes the mean of (accumulation)
    group      processes whose gradients it takes the mean of, once a step, whatever towers their batches used
    average, clip  how (parameters, group) are averaged, and (parameters, largest norm, group) clipped, giving the norm
               before; for parameters in shares, which a backward pass has reduced already

    In this order: the mean over batches, the mean over processes, the norm, the clip, the update; each once. Mixed
    precision has no part in it: forward passes run under autocast, gradients of float32 weights are float32, and
    bfloat16 needs no scale (float16 is refused by this project).

    Relations: with one batch, one process and no clip, `optimiser.step(); optimiser.zero_grad()`. k batches give the
    gradient of the mean of their losses, not of one large contrastive batch: that is `cached_backward`'s.
    """

    def __init__(
        self,
        optimiser: Optimiser,
        parameters: Iterable[nn.Parameter],
        *,
        clip_norm: float | None = None,
        batches: int = 1,
        group: Group | None = None,
        average: Callable[[list[nn.Parameter], Group | None], None] = average_gradients,
        clip: Callable[[list[nn.Parameter], float, Group | None], Tensor] = clip_gradients,
    ) -> None:
        if batches < 1 or (clip_norm is not None and not clip_norm > 0):
            raise ConfigError(f"batches={batches} must be at least 1 and clip_norm={clip_norm} above 0, or None")
        self.optimiser, self.clip_norm, self.batches, self.group = optimiser, clip_norm, batches, group
        self.average, self.clip = average, clip
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.pending = 0  # batches whose gradients wait for the step

    def __call__(self) -> Tensor | None:
        """The norm before clipping where a step was taken, else None; RuntimeError where a gradient is not finite."""
        self.pending += 1
        if self.pending < self.batches:
            return None
        if self.batches > 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= self.batches
        self.average(self.parameters, self.group)
        norm = self.clip(self.parameters, math.inf if self.clip_norm is None else self.clip_norm, self.group)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.pending = 0
        return norm.detach()
