"""Loggers of a run: W&B, offline unless asked otherwise, and a CSV beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from commonspace.errors import ConfigError
from commonspace.tracking.identity import Identity
from commonspace.tracking.record import last_start, record_start, run_facts


def make_loggers(
    folder: str | Path,
    config: Mapping[str, Any],
    identity: Identity,
    *,
    arithmetic: Mapping[str, Any] | None = None,
    data: Mapping[str, str] | None = None,
    init: str | None = None,
    record: bool = False,
) -> list[Logger]:
    """Loggers that the `logger` group of a resolved config asks for, writing below the run's folder.

    The run's W&B config is the resolved config, and beside it the state of code, lock and hardware, `arithmetic`: what
    a step amounts to (global batch, negatives per query, tokens, steps), `data`: fingerprints of shards and of lists of
    negatives, and `init`: that of the model it begins from. `record` writes all that to the run's folder too
    (`tracking.record`). A restarted run adds a log under the same id; `tracking.reader` joins them. W&B's job type is
    the stage, its group the family or sweep that the run is part of.
    """
    folder, chosen = Path(folder), config["logger"]
    if not chosen["csv"] and not chosen["wandb"]:
        raise ConfigError(
            "logger: neither csv nor wandb; a run that leaves no trace cannot be compared, use logger=csv"
        )
    told = {
        "run": run_facts(identity),
        "arithmetic": dict(arithmetic or {}),
        "data_fingerprints": dict(data or {}),
        "init_fingerprint": init,
    }
    facts = {**config, **told}
    if record:
        record_start(folder, config, told)
    loggers: list[Logger] = []
    if chosen["csv"]:
        loggers.append(CSVLogger(save_dir=str(folder), name="csv"))
    if chosen["wandb"]:
        loggers.append(_wandb_logger(folder, chosen["wandb"], config, identity, facts))
    return loggers


def log_difference(loggers: Iterable[Logger], folder: Path) -> None:
    """Give W&B what the checkout had beyond its commit, where `record` left that in the run's folder."""
    name = last_start(folder).get("diff_file")
    for logger in loggers:
        if name and isinstance(logger, WandbLogger):
            logger.experiment.save(str(folder / name), base_path=str(folder), policy="now")


def log_table(loggers: Iterable[Logger], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log rows of equal keys as a W&B table; without its logger nothing is logged."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
            logger.experiment.log({name: table})


def close(loggers: Iterable[Logger], status: int = 0) -> None:
    """End the logs. W&B's run must end with the stage: a sweep's next job, in the same process, would log into it.

    With a status that is not 0 the run was interrupted and its process is about to leave, so W&B's service ends with
    it: only then is a log on disk to its last record.
    """
    for logger in loggers:
        logger.finalize("failed" if status else "success")
        if isinstance(logger, WandbLogger):
            if status:
                logger.experiment.mark_preempting()
            logger.experiment.finish(exit_code=status)
            if status:
                import wandb

                wandb.teardown()


def _wandb_id(identity: Identity) -> str:
    """The run's own id; under `wandb agent` the one that the agent waits for."""
    return os.environ.get("WANDB_RUN_ID") or identity.run_id if "WANDB_SWEEP_ID" in os.environ else identity.run_id


def _job_type(config: Mapping[str, Any]) -> str | None:
    """The stage of a training run; of one over ingredients whether it is a soup or what lies between them."""
    if "stage" in config:
        return config["stage"]["name"]
    return ("soup" if "method" in config else "barriers") if "ingredients" in config else config.get("name")


def _wandb_logger(
    folder: Path, options: Mapping[str, Any], config: Mapping[str, Any], identity: Identity, facts: Mapping[str, Any]
) -> WandbLogger:
    import wandb

    if wandb.run is not None:  # of an earlier job of a local multirun; Lightning would go on logging into it
        wandb.finish()
    offline = options["mode"] == "offline"
    return WandbLogger(
        save_dir=str(folder),
        id=_wandb_id(identity),
        job_type=_job_type(config),
        name=config.get("name"),
        project=options["project"],
        group=options["group"],
        tags=list(config["tags"]),
        offline=offline,
        config=dict(facts),
        # Offline too: a second log of the same id then says that it goes on, and a later `wandb sync` adds it.
        resume="allow",
        settings=wandb.Settings(
            mode=options["mode"], silent=True, console="off", disable_git=True, x_save_requirements=False
        ),
    )
