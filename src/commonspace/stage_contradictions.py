"""Options of soups and of mixtures by medium that change nothing: rules of `contradictions`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from commonspace.data.rates import mixed
from commonspace.errors import ConfigError

Config = dict[str, Any]
# As configs/soup.yaml has them; a test holds the two together.
UNLEARNED = {"by": "model", "steps": 40, "learning_rate": 0.1}


def mixtures(config: Config) -> Iterable[str]:
    """Options that change rates by medium, and what they would change nothing of."""
    data = config.get("data")
    if not isinstance(data, dict) or "without" not in data or "stage" not in config:
        return
    if data["dirichlet"] is None and data["concentration"] != 1.0:
        yield "data.concentration: has no effect without data.dirichlet; leave it at 1.0"
    for key in ("without", "dirichlet"):
        if data[key] not in (None, []) and data["first_only"]:
            yield f"data.{key}: data.first_only trains on one task alone; set one of the two back"
    if data["dirichlet"] is not None and data["temperature"] is not None:
        yield "data.dirichlet: data.temperature draws by records and takes no rates; set one of the two to null"
    tasks = data["tasks"]
    if not isinstance(tasks, dict) or not all(isinstance(task, dict) and "name" in task for task in tasks.values()):
        return
    try:
        told, _ = mixed(data, {"steps": None, "token_budget": None})
    except (ConfigError, ValueError, TypeError) as error:
        yield str(error)
        return
    directions = [task["direction"] for task in told["tasks"].values() if task["rate"] > 0]
    if not data["soundtrack"] and not any("video" in one or "any" in one for one in directions):
        yield "data.soundtrack: no task that is drawn has clips; set it to true"


def as_drawn(config: Config) -> Config:
    """The config with the rates that its tasks are drawn at, so that other rules see what is left out."""
    data = config.get("data")
    if not isinstance(data, dict) or not (data.get("without") or data.get("dirichlet") is not None):
        return config
    if "stage" not in config or not all(isinstance(task, dict) for task in data["tasks"].values()):
        return config
    return {**config, "data": mixed(data, {"steps": None, "token_budget": None})[0]}


def soups(config: Config) -> Iterable[str]:
    """What a soup, or the way between its ingredients, would not read."""
    ingredients = config.get("ingredients")
    if ingredients is None:
        return
    if len(ingredients) < 2:
        yield f"ingredients: {len(ingredients)} given; a soup takes at least two model folders"
    if len(set(ingredients)) != len(ingredients):
        yield "ingredients: a folder is named twice"
    way = config.get("path") or config.get("method")
    if config.get("base") is not None and way not in ("sphere", "slerp"):
        yield f"base: is what path=sphere and method=slerp go around, and this is {way}; set it to null"
    if config.get("base") is not None and config.get("lora") == "factors":
        yield "base: a whole model has no factors (lora=factors); set it to null"
    if "method" in config:
        yield from _soup_method(config, len(ingredients))


def _soup_method(config: Config, count: int) -> Iterable[str]:
    """What one method of souping reads and another does not."""
    method, weights = config["method"], config.get("weights")
    if method == "slerp" and count != 2:
        yield f"method: slerp joins two ingredients, {count} are given; take another method"
    if method in ("uniform", "weighted") and config.get("uniform_output") is not None:
        yield f"uniform_output: {method} averages all ingredients into output already; set it to null"
    if method != "learned" and config.get("learned") != UNLEARNED:
        yield f"learned: has no effect on method={method}; leave it out"
    if method == "weighted" and weights is None:
        yield "weights: method=weighted needs them, as in [2, 1]; or take method=uniform"
    if weights is None:
        return
    if method == "uniform":
        yield "weights: method=uniform has none; take method=weighted"
    elif method == "learned" and config.get("uniform_output") is None:
        yield "weights: method=learned finds its own; set it to null"
    if not isinstance(weights, list) or len(weights) != count:
        yield f"weights: {weights} is no list of {count} numbers, one an ingredient"
    elif not all(isinstance(weight, (int, float)) and 0 < weight < float("inf") for weight in weights):
        yield f"weights: {weights} must be positive numbers; leave an ingredient out to give it none"
