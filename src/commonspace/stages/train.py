"""`commonspace train`: one stage from its config to a model folder; a killed run goes on at the very next batch."""

from __future__ import annotations

import math
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from rich.console import Console

from commonspace.config_values import resolved
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.data.rates import mixed
from commonspace.data.shards import ShardReader
from commonspace.data.staging import stage_shards
from commonspace.data.storage import place
from commonspace.errors import ConfigError
from commonspace.evaluation.kept_scores import write_scores
from commonspace.models.adapter_folder import save_adapter_folder
from commonspace.models.adapters import adapted_layers, merge
from commonspace.models.build import standardise
from commonspace.models.embedder import Embedder
from commonspace.models.precision import resolve_precision
from commonspace.stages.align import AlignStage
from commonspace.stages.callbacks import DevScores, SameSteps, WeightAverage
from commonspace.stages.checkpoints import BEST, Checkpoints, pointed
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.describe import batch_arithmetic, closing_line, model_card, print_arithmetic, shrunk_batches
from commonspace.stages.dev import DevRetrieval, dev_retrieval
from commonspace.stages.examples import dev_examples
from commonspace.stages.finetune import FinetuneStage
from commonspace.stages.objective import Objective
from commonspace.stages.origin import Origin, origin_of
from commonspace.stages.pretrain import PretrainStage
from commonspace.stages.rerun import ended_before, identity_of, keeps_checkpoints
from commonspace.stages.settings import StageSettings
from commonspace.stages.sharding import gathered
from commonspace.stages.start import starting_model
from commonspace.stages.trainer import make_trainer, resumed_from
from commonspace.tracking.artifacts import log_lineage
from commonspace.tracking.identity import Identity, held
from commonspace.tracking.lineage import last, write_model_lineage
from commonspace.tracking.logger import close, log_difference, log_table, make_loggers
from commonspace.tracking.media import log_examples

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
    """Train one stage and save its model folder; returns the mean dev MRR@10, which a sweeper can maximise.

    With `save` false no model is kept, with `callbacks.keep` 0 no checkpoint once the run has ended. Scores are, and a
    run of such that has them is not trained again, as long as the rows and the model that it began from are what they
    were, and its own model, where one was saved, still stands.
    """
    plain = resolved(config)
    plain["data"], plain["stage"] = mixed(plain["data"], plain["stage"])
    plain["data"]["tasks"] = chosen_tasks(plain["data"])
    settings = StageSettings.from_config(plain["stage"])
    STAGES[settings.name].check_tasks(settings.name, task_modalities(plain["data"]["tasks"]))
    folder = Path(plain["paths"]["runs"]) / plain["data"]["tier"] / plain["name"]
    identity = identity_of(folder, plain, console.print)
    with held(folder / identity.run_id):
        return _train(plain, settings, identity, folder / identity.run_id)


def _train(plain: dict[str, Any], settings: StageSettings, identity: Identity, run: Path) -> float:
    if (mean := ended_before(plain, run, console.print)) is not None:
        return mean
    if plain["paths"]["local"] is not None:
        plain["paths"]["data"] = str(staged_data(plain))
    pl.seed_everything(plain["seed"], workers=False)

    embedder = starting_model(plain)
    datamodule = make_datamodule(plain, embedder, settings)
    datamodule.setup()
    precision = resolve_precision(
        plain["trainer"]["precision"], "cpu" if plain["trainer"]["accelerator"] == "cpu" else None
    )
    steps = optimiser_steps(datamodule.steps, settings)
    stage = STAGES[settings.name](embedder, settings, make_objective(plain), steps, bf16=precision.startswith("bf16"))
    if plain["init"] is None and plain["model"]["head_init"] == "identity":
        standardise(embedder, some_texts(datamodule))
    arithmetic = {**batch_arithmetic(stage, datamodule, plain), "precision": precision}
    print_arithmetic(arithmetic, console)
    for line in shrunk_batches(datamodule):
        console.print(line)

    dev = dev_retrieval(plain, embedder)
    if dev is None and settings.keep_best:
        raise ConfigError("stage.keep_best: no task that is drawn has dev pairs to choose by; set it to false")
    if dev is None and not plain["save"]:
        raise ConfigError("save=false keeps dev scores alone, and no task that is drawn has dev pairs; set it to true")
    average = WeightAverage(settings, steps) if settings.average != "none" else None
    callbacks: list[pl.Callback] = [SameSteps(), *([average] if average else [])]
    if dev and (settings.dev_every or settings.dev_first):
        callbacks.append(DevScores(dev, math.ceil(settings.dev_every * steps), settings.dev_first))
    origin = origin_of(plain)
    loggers = make_loggers(
        run, plain, identity, arithmetic=arithmetic, data=origin.fingerprints, init=origin.init_id, record=True
    )
    log_difference(loggers, run)
    trainer = make_trainer(plain, steps, run, callbacks, loggers)
    embedder.train()
    state = resumed_from(run / "checkpoints", plain["trainer"]["strategy"])
    trainer.fit(stage, datamodule=datamodule, ckpt_path=state, weights_only=True)
    return finish(stage, average, dev, plain, run, trainer, datamodule.skipped, origin, arithmetic["schedule"])


def staged_data(plain: Mapping[str, Any]) -> Path:
    """The folder with the shards that a composed config draws from, on this node's own disk."""
    paths, data = plain["paths"], plain["data"]
    drawn = [name for name, task in data["tasks"].items() if task["rate"] > 0]
    return stage_shards(Path(paths["data"]), data["tier"], drawn, Path(paths["local"]))


def finish(
    stage: ContrastiveStage,
    average: WeightAverage | None,
    dev: DevRetrieval | None,
    plain: Mapping[str, Any],
    run: Path,
    trainer: pl.Trainer,
    skipped: Mapping[str, int],
    origin: Origin,
    schedule: Sequence[Mapping[str, Any]],
) -> float:
    """Average, merge adapters unless they are to be saved alone, score on dev, save; only the first process writes.

    Where no model is to be saved, or none of its checkpoints kept, they go.
    """
    if trainer.interrupted:
        raise KeyboardInterrupt
    if average is not None:
        average.apply(stage)
    embedder = gathered(stage.embedder, starting_model(plain)) if stage.sharded else stage.embedder
    if dev and stage.settings.keep_best:
        take_best(stage, dev, trainer.checkpoint_callback)
    alone = plain["model"]["lora"]["rank"] and plain["model"]["lora"]["save"] == "adapter"
    if adapted_layers(embedder) and not alone:
        merge(embedder)
    embedder.eval()
    vectors_NE = dev.vectors(embedder, bf16=stage.bf16, group=stage.group) if dev else None
    scores = dev.scores_of(vectors_NE) if dev else {}
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            for kind in ("dev", "final"):  # the last point of the curve, and a name of its own for tables of runs
                logger.log_metrics(dev.logged(scores, kind) if dev else {}, step=stage.steps)
        log_table(trainer.loggers, "mixture/schedule", schedule)  # last: before the steps a restart would lose some
        if plain["save"]:
            save_model(embedder, plain, run.name, scores, alone=alone)
            trace(plain, run.name, origin, trainer.loggers)
        if dev and plain["logger"]["wandb"]:
            examples = dev_examples(dev, vectors_NE, plain["logger"]["wandb"]["examples"])
            log_examples(trainer.loggers, "dev/examples", examples)
        close(trainer.loggers)
        if dev:
            write_scores(run, scores, dev.queries_of(vectors_NE))
        if not keeps_checkpoints(plain):
            shutil.rmtree(run / "checkpoints")
        console.print(closing_line(plain["output"] if plain["save"] else str(run), scores, run.name, skipped))
    return scores.get("mean", float("nan"))


def save_model(
    embedder: Embedder, plain: Mapping[str, Any], run_id: str, scores: Mapping[str, float], *, alone: bool
) -> None:
    """Write the model folder, or with `alone` the adapter's."""
    training = {
        "stage": plain["stage"]["name"],
        "seed": plain["seed"],
        "run_id": run_id,
        "init": plain["init"],
        "dev": dict(scores),
    }
    card = model_card(plain, run_id, scores)
    if alone:
        save_adapter_folder(embedder, Path(plain["output"]), Path(plain["init"]), card, training)
    else:
        embedder.save(plain["output"], card=card, training=training)


def trace(plain: Mapping[str, Any], run_id: str, origin: Origin, loggers: list[Logger]) -> None:
    """lineage.json of the model that was saved, and the same as W&B artifacts."""
    output, detail = Path(plain["output"]), {"stage": plain["stage"]["name"]}
    before = [origin.init] if origin.init else []
    lineage = write_model_lineage(output, before, origin.shards, run_id=run_id, detail=detail)
    used = [(origin.shards, str(place(plain["paths"]["data"]) / plain["data"]["tier"] / "manifest.json"))]
    used += [(last(origin.init), plain["init"])] if origin.init else []
    log_lineage(loggers, last(lineage), output, used)


def take_best(stage: ContrastiveStage, dev: DevRetrieval, checkpoints: Checkpoints) -> None:
    """Put the weights that scored best within the run back into the stage, unless the last ones score as well."""
    best = pointed(checkpoints.folder, BEST)
    if best is None or dev.scores(stage.embedder, bf16=stage.bf16, group=stage.group)["mean"] >= checkpoints.best_score:
        return
    stage.load_state_dict(torch.load(best, map_location=stage.device, weights_only=True)["state_dict"])
    console.print(f"dev was best after step {checkpoints.best_step}: {best} is what is saved")


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
        place(plain["paths"]["data"]) / data["tier"],
        data["tasks"],
        STAGES[settings.name].processing(embedder.processor),
        seed=plain["seed"],
        steps=None if settings.steps is None else settings.steps * settings.accumulate,
        token_budget=settings.token_budget,
        workers=data["workers"],
        bucket=data["bucket"],
        prefix_dropout=data["prefix_dropout"],
        soundtrack=data["soundtrack"],
        canonical=data["canonical"],
        negatives=data["negatives"],
        negative_count=data["negative_count"],
        reverse_negatives=data["reverse_negatives"],
        spread_concepts=data["spread_concepts"],
        skip_budget=data["skip_budget"],
        memory=data["memory"],
        stall_seconds=data["stall_seconds"],
        limit=data["limit"],
        shrink=data["shrink"],
        temperature=data["temperature"],
        sub_batches=data["sub_batches"],
    )


def make_objective(plain: Mapping[str, Any]) -> Objective:
    """The objective of a composed config."""
    drawn = [name for name, task in plain["data"]["tasks"].items() if task["reverse"] and task["rate"] > 0]
    return Objective.of(plain["objective"], plain["model"]["matryoshka_sizes"], drawn)


def optimiser_steps(batches: int, settings: StageSettings) -> int:
    """Steps of `accumulate` batches each that a run's batches make; ConfigError where they make none."""
    if batches < settings.accumulate:
        raise ConfigError(
            f"stage.accumulate: a step takes {settings.accumulate} batches, and stage.token_budget buys {batches}; "
            "raise the budget or lower it"
        )
    return batches // settings.accumulate


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
