"""Options of the objective and of temperatures that have nothing to act on: rules of `contradictions`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from commonspace.model_contradictions import look_up

Config = dict[str, Any]
_BRINGING = {"own", "question", "entailment"}  # tasks of which a set may bring hard negatives of its own


def objective_fit(config: Config) -> Iterable[str]:
    """What an objective asks for that model, data or stage of the config do not give."""
    objective = config.get("objective")
    if not isinstance(objective, dict):
        return
    yield from _sizes(config, objective)
    spread = objective.get("spread")
    if isinstance(spread, (int, float)) and not 0 <= spread < float("inf"):
        yield f"objective.spread: {spread} must be a weight of at least 0"
    if objective.get("classification") and objective.get("reverse"):
        yield "objective.reverse: classification has none, its wrong labels belong to the query; set it to false"
    drawn = _drawn(config)
    if drawn and (why := _without_negatives(config, drawn)):
        for option in _on_negatives(objective):
            yield f"objective.{option}: there are no hard negatives to act on ({why})"
    chunk, largest = objective.get("chunk_rows"), max((task["batch_size"] for task in drawn.values()), default=None)
    if isinstance(chunk, int) and largest is not None and chunk >= largest:
        yield f"objective.chunk_rows: {chunk} chunks no batch, the largest has {largest} pairs; lower it or set null"


def _sizes(config: Config, objective: Config) -> Iterable[str]:
    weights, sizes = objective.get("matryoshka_weights"), look_up(config, "model.matryoshka_sizes")
    if weights is None or not isinstance(sizes, list):
        return
    if not objective.get("matryoshka"):
        yield "objective.matryoshka_weights: has no effect with objective.matryoshka=false"
    elif not isinstance(weights, list) or len(weights) != len(sizes):
        yield f"objective.matryoshka_weights: {weights} is no list of {len(sizes)} numbers, one a size of {sizes}"
    elif not all(isinstance(weight, (int, float)) and 0 < weight < float("inf") for weight in weights):
        yield f"objective.matryoshka_weights: {weights} must be positive; take a size out to give it none"


def _on_negatives(objective: Config) -> list[str]:
    """The options in use that act on explicit hard negatives alone."""
    used = [option for option in ("share_negatives", "classification") if objective.get(option)]
    weighs_hard = objective.get("hardness_on") == "hard" and objective.get("hardness_alpha")
    return [*used, "hardness_alpha"] if weighs_hard else used


def _without_negatives(config: Config, drawn: Config) -> str:
    """Why no batch of the run has hard negatives; empty where some may."""
    stage, data = config["stage"]["name"], config["data"]
    if stage != "finetune":
        return f"stage={stage} takes none"
    if data["negative_count"] == 0:
        return "data.negative_count=0"
    return "data.negatives=null" if data["negatives"] is None and not _BRINGING & set(drawn) else ""


def pairs_temperatures(config: Config) -> Iterable[str]:
    """Temperatures of modalities that no side of a task brings."""
    given, drawn = look_up(config, "stage.modality_temperatures"), _drawn(config)
    if not given or not drawn:
        return
    met = {name for task in drawn.values() for name in re.split(r"\s*(?:->|\+)\s*", task["direction"])}
    if "any" in met:
        return
    met = {name for side in met for name in {"code": ("text",), "document": ("text", "image")}.get(side, (side,))}
    met |= {"audio"} if "video" in met else set()  # a clip may have a soundtrack
    for name in sorted(set(given) - met):
        yield f"stage.modality_temperatures.{name}: no task that is drawn has {name} on a side; take it out"


def _drawn(config: Config) -> Config:
    """The tasks of a training config that are drawn; empty where it has no stage, or tasks that are not whole."""
    tasks = look_up(config, "data.tasks")
    if not isinstance(tasks, dict) or not isinstance(config.get("stage"), dict):
        return {}
    if not all(isinstance(task, dict) and "name" in task for task in tasks.values()):
        return {}
    return {name: task for name, task in tasks.items() if task["rate"] > 0}
