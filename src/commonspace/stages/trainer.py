"""Lightning's trainer as a stage needs it, and the state that its run goes on from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from commonspace.errors import ConfigError
from commonspace.stages.callbacks import DevScores
from commonspace.stages.checkpoints import Checkpoints, pointed
from commonspace.stages.interruption import Interruption
from commonspace.stages.progress import StepsBar
from commonspace.stages.sharded_strategy import ShardedStrategy


def make_trainer(
    plain: Mapping[str, Any], steps: int, run: Path, callbacks: list[pl.Callback], loggers: list[Logger]
) -> pl.Trainer:
    """Lightning's trainer; precision is handled by the stage, where encoding is, so the loss stays in float32."""
    options, extra = dict(plain["trainer"]), plain["callbacks"]
    options.pop("precision")
    save_shares = options.pop("save_shares", False)
    if options["strategy"] == "fsdp":
        options["strategy"] = ShardedStrategy(save_shares=save_shares)
    every = max(1, math.ceil(extra["checkpoint_every"] * steps))
    interruption = Interruption()
    saves = Checkpoints(
        run / "checkpoints",
        every,
        minutes=extra["checkpoint_minutes"],
        keep=extra["keep"],
        best=any(isinstance(callback, DevScores) and callback.every for callback in callbacks),
        interruption=interruption,
    )
    if extra["learning_rate"]:
        callbacks = [*callbacks, pl.callbacks.LearningRateMonitor("step")]
    if extra["progress"] == "rich" and options["enable_progress_bar"]:
        callbacks = [*callbacks, StepsBar()]
    return pl.Trainer(
        **{**options, "enable_progress_bar": extra["progress"] == "rich" and options["enable_progress_bar"]},
        max_steps=steps,
        callbacks=[*callbacks, interruption, saves],
        logger=loggers,
        default_root_dir=run,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def resumed_from(folder: Path, strategy: str) -> str | None:
    """The checkpoint to go on from, None where there is none; ConfigError for a form that the strategy cannot read."""
    last = pointed(folder)
    if last is not None and last.is_dir() and strategy != "fsdp":
        raise ConfigError(
            f"{last}: was saved in shares, which trainer.strategy={strategy} cannot read; go on with trainer=fsdp, or "
            f"put in its place the file that `commonspace checkpoint {last} -o FILE` makes"
        )
    return None if last is None else str(last)
