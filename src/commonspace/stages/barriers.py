"""`commonspace soup barriers`: dev loss and scores on the way from each ingredient to each other.

The barrier of a pair is how far the loss on the way rises above the straight line between its two ends (Frankle et al.,
1912.05671): where there is none, an average of the two is no worse than the worse of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from commonspace.config_values import resolved
from commonspace.evaluation import plots
from commonspace.evaluation.barrier_plot import barrier_figure
from commonspace.models.blend import Blend
from commonspace.models.folder import write_json
from commonspace.stages.soup_kitchen import Kitchen

console = Console()


def barriers(config: DictConfig) -> float:
    """Score every pair of ingredients at `points` places from one to the other; writes barriers.json and barriers.png.

    Returns the highest barrier. A run that was killed goes on where it stopped.
    """
    plain = resolved(config)
    kitchen = Kitchen.of(plain)
    places = np.linspace(0, 1, plain["points"]).tolist()
    ways = [(pair, share) for pair in combinations(range(len(kitchen.ingredients)), 2) for share in places]
    for pair, share in track(ways, description="between ingredients"):
        kitchen.score(_between(pair, share, plain["path"]))
    pairs = [_told(kitchen, pair, places) for pair in combinations(range(len(kitchen.ingredients)), 2)]
    told = {
        "ingredients": [{"name": one.label, "sha256": one.sha256, "run_id": one.run_id} for one in kitchen.ingredients],
        "path": plain["path"],
        "base": plain["base"],
        "loss": plain["loss"],
        "pairs": pairs,
        "run_id": kitchen.run_id,
    }
    output = Path(plain["output"])
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "barriers.json", told)
    (output / "barriers.png").write_bytes(plots.png(barrier_figure(told)))
    kitchen.close()
    highest = max(pair["barrier"] for pair in pairs)
    console.print(f"{output / 'barriers.png'}: saved; the highest barrier of {len(pairs)} pairs is {highest:+.4f}")
    return highest


def barrier(losses: list[float], places: list[float]) -> float:
    """Most that losses at `places` in [0, 1] lie above the line from the first to the last; below 0 where all dip."""
    chord = [(1 - place) * losses[0] + place * losses[-1] for place in places]
    return max(loss - line for loss, line in list(zip(losses, chord, strict=True))[1:-1])


def _between(pair: tuple[int, int], share: float, path: str) -> Blend:
    if share in (0.0, 1.0):
        return Blend((pair[int(share)],))
    return Blend(pair, (1 - share, share), path=path)


def _told(kitchen: Kitchen, pair: tuple[int, int], places: list[float]) -> Mapping[str, Any]:
    blends = [_between(pair, share, kitchen.plain["path"]) for share in places]
    losses = [kitchen.losses(blend) for blend in blends]
    return {
        "first": kitchen.ingredients[pair[0]].label,
        "second": kitchen.ingredients[pair[1]].label,
        "places": places,
        "loss": [loss["mean"] for loss in losses],
        "score": [kitchen.scores(blend)["mean"] for blend in blends],
        "barrier": barrier([loss["mean"] for loss in losses], places),
        "by_task": {task: barrier([loss[task] for loss in losses], places) for task in losses[0] if task != "mean"},
    }
