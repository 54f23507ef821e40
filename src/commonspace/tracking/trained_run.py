"""The run that trained a model, found again by its id: where it lies, and its W&B run, to which evaluations add."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commonspace.tracking.reader import Run, read_runs

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


def logged_run(folder: Path | None, run_id: str | None) -> Run | None:
    """What W&B's logs below a folder tell of a run; None where there is no folder, or no such log in it."""
    runs = read_runs(folder) if folder else []
    return next((run for run in runs if run.run_id == run_id), None)


def reopened(
    folder: Path, run_id: str, known: Run | None, *, mode: str, project: str, config: Mapping[str, Any] | None = None
) -> Any:
    """The W&B run `run_id` below `folder`, open for more; one of `project` where it is not `known` (`logged_run`).

    Offline this is a second log of the same run, which `wandb sync` and `tracking.reader` join; the run keeps its name,
    group, tags and project.
    """
    about = {"name": known.name, "group": known.group or None, "tags": list(known.tags)} if known else {}
    return opened(folder, run_id, mode=mode, project=known.project if known else project, config=config, **about)


def opened(
    folder: Path, run_id: str, *, mode: str, project: str, config: Mapping[str, Any] | None = None, **about: Any
) -> Any:
    """A W&B run below `folder`, new or gone on with; `about` are its name, group, tags, job type."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        dir=str(folder),
        id=run_id,
        project=project,
        mode="offline" if mode == "offline" else "online",
        resume="allow",
        config=dict(config or {}),
        settings=wandb.Settings(silent=True, console="off", disable_git=True, x_save_requirements=False),
        **about,
    )
