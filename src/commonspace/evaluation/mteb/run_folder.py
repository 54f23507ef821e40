"""Where the run that trained a model lies, and its W&B run, to which scores are added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DEPTHS = ("*", "*/*", "*/*/*")  # RUNS/NAME, RUNS/TIER/NAME, RUNS/sweeps/DATE/NUMBER


def run_folder(runs: Path, run_id: str | None) -> Path | None:
    """The folder below `runs` whose run has that id; None where there is none, or no id."""
    for depth in _DEPTHS if run_id else ():
        for path in sorted(runs.glob(f"{depth}/identity-*.json")):
            try:
                known = json.loads(path.read_text()).get("run_id")
            except (ValueError, AttributeError):
                continue  # damaged: training says so, and it is not this run's
            if known == run_id:
                return path.parent
    return None


def log_scores(
    folder: Path, run_id: str, scores: Mapping[str, float], about: Mapping[str, Any], *, mode: str, project: str
) -> None:
    """Add scores to the W&B run `run_id` below `folder`, as one step of their own under mteb/.

    Offline this is a second log of the same run, which `wandb sync` and `tracking.reader` join; the run keeps its name,
    group, tags and project.
    """
    import wandb

    from commonspace.tracking.reader import find_logs, read_runs

    known = next((run for run in read_runs(folder) if run.run_id == run_id), None) if find_logs(folder) else None
    run = wandb.init(
        dir=str(folder),
        id=run_id,
        project=known.project if known else project,
        name=known.name if known else None,
        group=known.group or None if known else None,
        tags=list(known.tags) if known else None,
        mode="offline" if mode == "offline" else "online",
        resume=None if mode == "offline" else "allow",
        config={"mteb": dict(about)},
        settings=wandb.Settings(silent=True, console="off", disable_git=True, x_save_requirements=False),
    )
    run.log({f"mteb/{name}": value for name, value in scores.items()})
    run.finish()
