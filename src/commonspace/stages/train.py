"""`commonspace train`: one stage from its config to a model folder; a killed run goes on at the very next batch."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from rich.console import Console

from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.suite import build_suite
from commonspace.models.adapter_folder import save_adapter_folder
from commonspace.models.adapters import adapted_layers, merge
from commonspace.models.build import standardise
from commonspace.models.embedder import Embedder
from commonspace.models.precision import resolve_precision
from commonspace.objectives.nce_options import NCEOptions
from commonspace.stages.align import AlignStage
from commonspace.stages.callbacks import DevScores, WeightAverage, checkpoints, close, progress_bar
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.describe import batch_arithmetic, closing_line, model_card, print_arithmetic, shrunk_batches
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.finetune import FinetuneStage
from commonspace.stages.objective import Objective
from commonspace.stages.pretrain import PretrainStage
from commonspace.stages.settings import StageSettings
from commonspace.stages.start import starting_model
from commonspace.tracking.identity import run_identity
from commonspace.tracking.logger import make_loggers

STAGES: dict[str, type[ContrastiveStage]] = {
    "align": AlignStage,
    "pretrain": PretrainStage,
    "finetune": FinetuneStage,
}
console = Console()
# Each says nothing a user of this command could act on: checkpoints are taken after the step on purpose.
for _message in (
    ".*pre-optimization state.*",
    ".*srun. command is available.*",
    ".*isinstance.treespec.*",
    ".*module.s. in eval mode.*",
):
    warnings.filterwarnings("ignore", _message)


def train(config: DictConfig) -> float:
    """Train one stage and save its model folder; returns the mean dev MRR@10, which a sweeper can maximise."""
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]), resolve=True)
    plain["data"]["tasks"] = chosen_tasks(plain["data"])
    settings = StageSettings.from_config(plain["stage"])
    STAGES[settings.name].check_tasks(settings.name, task_modalities(plain["data"]["tasks"]))
    folder = Path(plain["paths"]["runs"]) / plain["data"]["tier"] / plain["name"]
    identity = run_identity(folder, plain, fresh=plain["resume"] == "never")
    pl.seed_everything(plain["seed"], workers=False)

    embedder = starting_model(plain)
    datamodule = make_datamodule(plain, embedder, settings)
    datamodule.setup()
    precision = resolve_precision(
        plain["trainer"]["precision"], "cpu" if plain["trainer"]["accelerator"] == "cpu" else None
    )
    stage = STAGES[settings.name](
        embedder, settings, make_objective(plain), datamodule.steps, bf16=precision.startswith("bf16")
    )
    if plain["init"] is None and plain["model"]["head_init"] == "identity":
        standardise(embedder, some_texts(datamodule))
    arithmetic = {**batch_arithmetic(stage, datamodule, plain), "precision": precision}
    print_arithmetic(arithmetic, console)
    for line in shrunk_batches(datamodule):
        console.print(line)

    dev = dev_retrieval(plain, embedder)
    average = WeightAverage(settings, datamodule.steps) if settings.average != "none" else None
    run = folder / identity.run_id
    callbacks: list[pl.Callback] = [average] if average else []
    if dev and settings.dev_every:
        callbacks.append(DevScores(dev, max(1, math.ceil(settings.dev_every * datamodule.steps))))
    loggers = make_loggers(run, plain, identity, arithmetic=arithmetic)
    trainer = make_trainer(plain, datamodule.steps, run, callbacks, loggers)
    embedder.train()
    last = run / "checkpoints" / "last.ckpt"
    trainer.fit(stage, datamodule=datamodule, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    return finish(stage, average, dev, plain, identity.run_id, trainer, datamodule.skipped)


def finish(
    stage: ContrastiveStage,
    average: WeightAverage | None,
    dev: DevRetrieval | None,
    plain: Mapping[str, Any],
    run_id: str,
    trainer: pl.Trainer,
    skipped: Mapping[str, int],
) -> float:
    """Average, merge adapters unless they are to be saved alone, score on dev, save; only the first process writes."""
    if trainer.interrupted:
        raise KeyboardInterrupt
    if average is not None:
        average.apply(stage)
    alone = plain["model"]["lora"]["rank"] and plain["model"]["lora"]["save"] == "adapter"
    if adapted_layers(stage.embedder) and not alone:
        merge(stage.embedder)
    stage.embedder.eval()
    scores = dev.scores(stage.embedder, bf16=stage.bf16) if dev else {}
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            for kind in ("dev", "final"):  # the last point of the curve, and a name of its own for tables of runs
                logger.log_metrics({f"{kind}/{name}": value for name, value in scores.items()}, step=stage.steps)
        close(trainer.loggers)
        training = {
            "stage": plain["stage"]["name"],
            "seed": plain["seed"],
            "run_id": run_id,
            "init": plain["init"],
            "dev": scores,
        }
        card = model_card(plain, run_id, scores)
        if alone:
            save_adapter_folder(stage.embedder, Path(plain["output"]), Path(plain["init"]), card, training)
        else:
            stage.embedder.save(plain["output"], card=card, training=training)
        console.print(closing_line(plain["output"], scores, run_id, skipped))
    return scores.get("mean", float("nan"))


def chosen_tasks(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tasks of a `data` group; with `first_only` the first that is drawn keeps its rate and all others get 0."""
    drawn = [name for name, task in data["tasks"].items() if task["rate"] > 0]
    kept = drawn[:1] if data["first_only"] else drawn
    return {name: {**task, "rate": task["rate"] if name in kept else 0.0} for name, task in data["tasks"].items()}


def task_modalities(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """{task: modalities of both sides} for the tasks that are drawn, read off "image+text -> text"."""
    drawn = {name: task for name, task in tasks.items() if task["rate"] > 0}
    return {name: set(re.split(r"\s*(?:->|\+)\s*", task["direction"])) - {"any"} for name, task in drawn.items()}


def make_datamodule(plain: Mapping[str, Any], embedder: Embedder, settings: StageSettings) -> CommonspaceDataModule:
    """The datamodule of a composed config, around the model's own processor as the stage takes it."""
    data = plain["data"]
    return CommonspaceDataModule(
        Path(plain["paths"]["data"]) / data["tier"],
        data["tasks"],
        STAGES[settings.name].processing(embedder.processor),
        seed=plain["seed"],
        steps=settings.steps,
        token_budget=settings.token_budget,
        workers=data["workers"],
        bucket=data["bucket"],
        prefix_dropout=data["prefix_dropout"],
        canonical=data["canonical"],
        negatives=data["negatives"],
        negative_count=data["negative_count"],
        skip_budget=data["skip_budget"],
        memory=data["memory"],
        limit=data["limit"],
        shrink=data["shrink"],
    )


def make_objective(plain: Mapping[str, Any]) -> Objective:
    """The objective of a composed config."""
    options = {k: v for k, v in plain["objective"].items() if k not in ("name", "matryoshka", "reverse")}
    tasks = plain["data"]["tasks"]
    return Objective(
        plain["model"]["matryoshka_sizes"] if plain["objective"]["matryoshka"] else None,
        [name for name, task in tasks.items() if task["reverse"] and task["rate"] > 0]
        if plain["objective"]["reverse"]
        else [],
        NCEOptions.from_config(options),
    )


def some_texts(datamodule: CommonspaceDataModule, count: int = 256) -> list[str]:
    """Training texts, evenly from all tasks, for the head's centre."""
    texts: list[str] = []
    for data in datamodule.data.values():
        reader: ShardReader = data.reader
        for row in range(0, data.length, max(1, data.length * len(datamodule.data) // count)):
            texts += [v.content.parts[0].text for v in reader.read(row).positives[:1] if v.content.is_text]
    if not texts:
        raise ConfigError("head_init=identity centres on training texts, and no task has any; use head_init=random")
    return texts


def dev_retrieval(plain: Mapping[str, Any], embedder: Embedder) -> DevRetrieval | None:
    """Dev retrieval over the tasks in training that have a dev split; None where none has."""
    root = Path(plain["paths"]["data"]) / plain["data"]["tier"]
    names = [n for n, t in plain["data"]["tasks"].items() if t["rate"] > 0 and (root / n / "dev.json").is_file()]
    if not names:
        return None
    try:
        return DevRetrieval(build_suite(root, "dev", names, limit=plain["stage"]["dev_limit"]), embedder.processor)
    except DataError as error:
        console.print(f"no dev retrieval: {error}")
        return None


def make_trainer(
    plain: Mapping[str, Any], steps: int, run: Path, callbacks: list[pl.Callback], loggers: list[Logger]
) -> pl.Trainer:
    """Lightning's trainer; precision is handled by the stage, where encoding is, so the loss stays in float32."""
    options, extra = dict(plain["trainer"]), plain["callbacks"]
    options.pop("precision")
    every = max(1, math.ceil(extra["checkpoint_every"] * steps))
    if extra["learning_rate"]:
        callbacks = [*callbacks, pl.callbacks.LearningRateMonitor("step")]
    if extra["progress"] == "rich" and options["enable_progress_bar"]:
        callbacks = [*callbacks, progress_bar()]
    return pl.Trainer(
        **{**options, "enable_progress_bar": extra["progress"] == "rich" and options["enable_progress_bar"]},
        max_steps=steps,
        callbacks=[*callbacks, checkpoints(run / "checkpoints", every, extra["keep"])],
        logger=loggers,
        default_root_dir=run,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
