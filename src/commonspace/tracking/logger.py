"""Loggers of a run: W&B, offline unless asked otherwise, and a CSV beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from commonspace.errors import ConfigError
from commonspace.tracking.identity import Identity
from commonspace.tracking.state import code_state, hardware_state, lock_state


def make_loggers(
    folder: str | Path, config: Mapping[str, Any], identity: Identity, *, arithmetic: Mapping[str, Any] | None = None
) -> list[Logger]:
    """Loggers that the `logger` group of a resolved config asks for, writing below the run's folder.

    The run's W&B config is the resolved config, and beside it the state of code, lock and hardware, and `arithmetic`:
    what a step amounts to (global batch, negatives per query, tokens, steps). A restarted run adds a log under the
    same id; `tracking.reader` joins them.
    """
    folder, chosen = Path(folder), config["logger"]
    if not chosen["csv"] and not chosen["wandb"]:
        raise ConfigError(
            "logger: neither csv nor wandb; a run that leaves no trace cannot be compared, use logger=csv"
        )
    facts = {**config, "run": run_facts(identity), "arithmetic": dict(arithmetic or {})}
    loggers: list[Logger] = []
    if chosen["csv"]:
        loggers.append(CSVLogger(save_dir=str(folder), name="csv"))
    if chosen["wandb"]:
        loggers.append(_wandb_logger(folder, chosen["wandb"], config, identity, facts))
    return loggers


def run_facts(identity: Identity) -> dict[str, Any]:
    """What a figure of this run is traced to: id, config hash, job, code, lock, hardware."""
    return {
        "id": identity.run_id,
        "config_hash": identity.config_hash,
        "job": identity.job,
        "code": code_state(),
        "packages": lock_state(),
        "hardware": hardware_state(),
    }


def _wandb_logger(
    folder: Path, options: Mapping[str, Any], config: Mapping[str, Any], identity: Identity, facts: Mapping[str, Any]
) -> WandbLogger:
    import wandb

    if wandb.run is not None:  # of an earlier job of a local multirun; Lightning would go on logging into it
        wandb.finish()
    offline = options["mode"] == "offline"
    return WandbLogger(
        save_dir=str(folder),
        id=identity.run_id,
        name=config.get("name"),
        project=options["project"],
        group=options["group"],
        tags=list(config["tags"]),
        offline=offline,
        config=dict(facts),
        # Offline there is nothing to resume from: a second log with the same id is joined by the reader, or on sync.
        resume=None if offline else "allow",
        settings=wandb.Settings(silent=True, console="off", disable_git=True, x_save_requirements=False),
    )
