"""Rates of a mixture by medium: one left out, or all drawn anew, as studies of mixtures take them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from commonspace.errors import ConfigError

MEDIA = ("video", "document", "audio", "image", "text")  # a task counts to the first of these on either side


def medium_of(direction: str) -> str:
    """The medium that a task is about, read off "image+text -> text"; text where both sides are text or code."""
    found = set(re.split(r"\s*(?:->|\+)\s*", direction))
    if "any" in found:
        raise ConfigError(f"direction {direction!r} names no medium, so nothing can be chosen by it")
    return next((medium for medium in MEDIA if medium in found), "text")


def shares(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Share of the batches that each medium has by the tasks' rates, in the order of `MEDIA`; absent ones have none."""
    rates: dict[str, float] = {}
    for task in tasks.values():
        if task["rate"] > 0:
            medium = medium_of(task["direction"])
            rates[medium] = rates.get(medium, 0.0) + float(task["rate"])
    total = sum(rates.values())
    return {medium: rates[medium] / total for medium in MEDIA if medium in rates}


def without(tasks: Mapping[str, Mapping[str, Any]], media: Collection[str]) -> dict[str, dict[str, Any]]:
    """The tasks with the rates of some media at 0; ConfigError where nothing is left, or a medium is not there."""
    there = shares(tasks)
    if absent := sorted(set(media) - set(there)):
        raise ConfigError(
            f"data.without: {absent[0]} is no medium of a task that is drawn; those are {', '.join(there)}"
        )
    if set(there) <= set(media):
        raise ConfigError("data.without: leaves no task to train on")
    return {
        name: {**task, "rate": 0.0 if task["rate"] > 0 and medium_of(task["direction"]) in media else task["rate"]}
        for name, task in tasks.items()
    }


def dirichlet(tasks: Mapping[str, Mapping[str, Any]], draw: int, concentration: float) -> dict[str, dict[str, Any]]:
    """The tasks with the shares of their media drawn from a flat Dirichlet; within a medium rates keep their ratios.

    The mixtures of EmbeddingGemma (2509.20354, section 2.3) are drawn so, by task. The sum of the rates stays. `draw`
    numbers the samples: the same number gives the same mixture for the same media.
    """
    now = shares(tasks)
    if len(now) < 2:
        raise ConfigError("data.dirichlet: the tasks that are drawn are of one medium; there is nothing to mix")
    drawn = dict(zip(now, np.random.default_rng(draw).dirichlet([concentration] * len(now)), strict=True))
    scale = {medium: float(drawn[medium] / now[medium]) for medium in now}
    return {
        name: {**task, "rate": task["rate"] * scale[medium_of(task["direction"])] if task["rate"] > 0 else task["rate"]}
        for name, task in tasks.items()
    }


def mixed(data: Mapping[str, Any], stage: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `data` and `stage` groups with `data.without` and `data.dirichlet` taken into their rates and steps.

    With `data.without_rest` the run is shorter by the share of batches left out, so the rest sees what it saw before.
    """
    data, stage = dict(data), dict(stage)
    if data["without"]:
        left_out = sum(share for medium, share in shares(data["tasks"]).items() if medium in data["without"])
        data["tasks"] = without(data["tasks"], data["without"])
        if data["without_rest"]:
            for key in ("steps", "token_budget"):
                stage[key] = None if stage[key] is None else max(1, round(stage[key] * (1 - left_out)))
    if data["dirichlet"] is not None:
        data["tasks"] = dirichlet(data["tasks"], data["dirichlet"], data["concentration"])
    return data, stage
