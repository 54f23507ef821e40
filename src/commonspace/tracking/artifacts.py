"""Shards, models and evaluations as W&B artifacts by reference: a project page's graph, without uploading a byte.

Every thing is named by its kind and name and carries its node of `lineage.json`. Online a run also declares what it
used. W&B takes no such declaration offline, so there what was used is logged too: of equal digest it is the same
version of the same artifact once synced, and the metadata say which was made of which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from commonspace.data.storage import is_remote
from commonspace.tracking.lineage import Node, last, read_lineage
from commonspace.tracking.trained_run import logged_run, reopened, run_folder


def log_lineage(
    loggers: Iterable[Logger], node: Node, place: Path | str, used: Iterable[tuple[Node, Path | str]]
) -> None:
    """Log what a run made, lying at `place`, and what it used, each with its place; no W&B logger, no artifact."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _log(logger.experiment, node, place, used)


def log_evaluation(rows: Path, model: Path, runs: Path, *, mode: str) -> Path | None:
    """Log rows, and the model folder they are of, in the W&B run that trained it; returns where that lies.

    The rows have their lineage beside them. None, and nothing is logged, where no W&B log of that run is below `runs`.
    """
    lineage = read_lineage(rows.with_suffix(".lineage.json"))
    node = last(lineage)
    folder = run_folder(runs, node.run_id)
    known = logged_run(folder, node.run_id)
    if folder is None or known is None:
        return None
    run = reopened(folder, known.run_id, known, mode=mode, project=known.project)
    _log(run, node, rows, [(lineage[key], model) for key in node.made_of])
    run.finish()
    return folder


def _log(run: Any, node: Node, place: Path | str, used: Iterable[tuple[Node, Path | str]]) -> None:
    for before, where in used:
        artifact = reference(before, where)
        run.log_artifact(artifact) if run.offline else run.use_artifact(artifact)
    run.log_artifact(reference(node, place))


def reference(node: Node, place: Path | str) -> Any:
    """An artifact that points to a file or folder of this machine, whose bytes are hashed, or names a URL.

    Of a URL it tells the place and points to nothing: W&B would ask the store for every file, by packages of its own.
    """
    import wandb

    told = {key: value for key, value in asdict(node).items() if key != "detail"} | dict(node.detail or {})
    name = re.sub(r"[^\w.-]", "-", f"{node.kind}-{node.name}")
    told |= {"url": str(place)} if is_remote(str(place)) else {}
    artifact = wandb.Artifact(name, type=node.kind, metadata={k: v for k, v in told.items() if v is not None})
    if not is_remote(str(place)) and Path(place).exists():
        artifact.add_reference(Path(place).resolve().as_uri(), max_objects=100_000)
    return artifact
