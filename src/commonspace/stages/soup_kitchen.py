"""What every soup needs before it is made: ingredients, a dev suite, a stage that scores, a book of what was scored."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from commonspace.data.features import attach_features
from commonspace.errors import ConfigError
from commonspace.evaluation.suite import build_suite
from commonspace.models.adapters import merge
from commonspace.models.averaging import check_names
from commonspace.models.blend import Blend
from commonspace.models.embedder import Embedder
from commonspace.models.ingredients import WEIGHTS, Ingredient, differing, read_ingredients
from commonspace.models.precision import resolve_precision
from commonspace.models.stored import StoredTensors
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.dev_loss import DevLoss
from commonspace.stages.examples import dev_examples
from commonspace.stages.progress import StepsBar
from commonspace.stages.score_book import ScoreBook
from commonspace.stages.soup_stage import SoupStage
from commonspace.tracking.artifacts import log_lineage
from commonspace.tracking.identity import run_identity
from commonspace.tracking.lineage import Lineage, last, read_lineage, write_model_lineage
from commonspace.tracking.logger import close, log_difference, make_loggers
from commonspace.tracking.media import log_examples
from commonspace.tracking.state import data_state

console = Console()
# One epoch is a handful of dev batches, and nothing of the model is in training mode: both on purpose.
for _message in (".*number of training batches.*", ".*in eval mode at the start of training.*"):
    warnings.filterwarnings("ignore", _message)


@dataclass
class Kitchen:
    """A stage with its ingredients, ready to score blends; made of a composed config of `soup` or `soup barriers`."""

    plain: Mapping[str, Any]
    run: Path
    run_id: str
    ingredients: list[Ingredient]
    stage: SoupStage
    trainer: pl.Trainer
    book: ScoreBook
    lineages: list[Lineage]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Kitchen:
        """Read the ingredients and the dev suite. Raises ConfigError where they do not go together."""
        ingredients = read_ingredients([Path(folder) for folder in plain["ingredients"]], plain["lora"])
        names = differing(ingredients)
        if not names:
            raise ConfigError("ingredients: all hold the same tensors, so any soup of them is each of them")
        pl.seed_everything(plain["seed"], verbose=False)
        embedder = _embedder(ingredients[0], plain["lora"])
        embedder.processor = embedder.processor.renewed("truncate")  # as in training
        if plain["data"]["features"]:
            _check_towers(embedder, names)
            attach_features(embedder, Path(plain["paths"]["cache"]))
        data, own = plain["data"], plain["trainer"]
        tier = Path(plain["paths"]["data"]) / data["tier"]
        suite = build_suite(tier, "dev", data["tasks"], data["limit"])
        dev = DevRetrieval(suite, embedder.processor)
        loss = DevLoss(dev, plain["loss"]["batch_size"], plain["loss"]["temperature"], plain["seed"])
        precision = resolve_precision(own["precision"], "cpu" if own["accelerator"] == "cpu" else None)
        stage = SoupStage(
            embedder, ingredients, names, dev, loss, plain["batch_tokens"], base=_base(plain, ingredients[0]),
            learning_rate=plain["learned"]["learning_rate"] if "learned" in plain else 0.1,
            bf16=precision == "bf16-mixed",
        )  # fmt: skip
        shards = data_state(tier, sorted(path.parent.name for path in tier.glob("*/dev.json")), ("dev",))
        folder = Path(plain["paths"]["runs"]) / data["tier"] / plain["name"]
        identity = run_identity(folder, plain)
        run = folder / identity.run_id
        told = f"{dev.fingerprint} {precision} {plain['loss']} {plain['seed']} {plain['lora']} {plain['base']}"
        loggers = make_loggers(run, plain, identity, data=shards, record=True)
        log_difference(loggers, run)
        trainer = _trainer(plain, run, loggers)
        return cls(
            plain, run, identity.run_id, ingredients, stage, trainer,
            ScoreBook(run / "scores.jsonl", ingredients, told), [read_lineage(one.folder) for one in ingredients],
        )  # fmt: skip

    def score(self, blend: Blend) -> float:
        """Mean dev MRR@10 of a blend; scored once, also over restarts."""
        if self.book.get(blend) is None:
            self.stage.put(blend)
            self.trainer.validate(self.stage, verbose=False)
            self.book.put(blend, dict(self.stage.scores), dict(self.stage.losses))
            shares = [f"{share:.2f} {self.ingredients[member].label}"
                      for share, member in zip(blend.to_json()["shares"], blend.members, strict=True)]  # fmt: skip
            named = "learned by layer" if blend.by_layer else " + ".join(shares)
            console.print(
                f"dev MRR@10 {self.scores(blend)['mean']:.4f}, loss {self.losses(blend)['mean']:.4f}  {named}"
            )
        return self.scores(blend)["mean"]

    def scores(self, blend: Blend) -> dict[str, float]:
        """MRR@10 by task of a blend that was scored."""
        return self._told(blend)[0]

    def losses(self, blend: Blend) -> dict[str, float]:
        """Dev loss by task of a blend that was scored."""
        return self._told(blend)[1]

    def learn(self, options: Mapping[str, Any]) -> Blend:
        """Train shares on the dev loss; the blend they make."""
        shares = self.stage.learn(options["by"] == "layer")
        trainer = pl.Trainer(
            accelerator=self.plain["trainer"]["accelerator"], devices=1, logger=self.trainer.loggers,
            callbacks=[StepsBar()], enable_checkpointing=False, max_steps=options["steps"], max_epochs=-1,
            limit_val_batches=0, default_root_dir=self.run, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(self.stage)
        self.stage.embedder.requires_grad_(False)
        return shares.blend()

    def trace(self, blend: Blend, output: Path, kind: str) -> None:
        """lineage.json of a soup that was saved, and the same as W&B artifacts."""
        members = [self.ingredients[member].folder for member in blend.members]
        parents = [self.lineages[member] for member in blend.members]
        lineage = write_model_lineage(output, parents, run_id=self.run_id, detail={"soup": kind})
        used = [(last(parent), folder) for parent, folder in zip(parents, members, strict=True)]
        log_lineage(self.trainer.loggers, last(lineage), output, used)

    def show(self, blend: Blend) -> None:
        """A table of dev queries that a blend fails and answers, where W&B logs."""
        count = self.plain["logger"]["wandb"]["examples"] if self.plain["logger"]["wandb"] else 0
        if count:
            self.stage.put(blend)
            vectors_NE = self.stage.dev.vectors(
                self.stage.embedder, batch_tokens=self.stage.batch_tokens, bf16=self.stage.bf16
            )
            log_examples(self.trainer.loggers, "dev/examples", dev_examples(self.stage.dev, vectors_NE, count))

    def close(self) -> None:
        """The work is done: the logs end, and the next run scores anew."""
        self.book.close()
        close(self.trainer.loggers)

    def _told(self, blend: Blend) -> tuple[dict[str, float], dict[str, float]]:
        told = self.book.get(blend)
        assert told is not None, "a blend is scored before its scores are asked for"
        return told


def _embedder(first: Ingredient, lora: str) -> Embedder:
    """The first ingredient as a model whose tensors are named as the ingredients': adapters merged, or as factors."""
    embedder = Embedder.load(first.folder)
    if lora == "merge" and first.whole != first.folder:
        merge(embedder)
    return embedder.eval()


def _check_towers(embedder: Embedder, names: list[str]) -> None:
    towers = {id(tower) for tower in embedder.backbone.towers().values()}
    prefixes = tuple(f"{name}." for name, module in embedder.named_modules() if id(module) in towers)
    if trained := [name for name in names if name.startswith(prefixes)]:
        raise ConfigError(
            f"data.features: the ingredients differ in a tower ({trained[0]}), so what the cache holds is no blend's; "
            "set it to false"
        )


def _base(plain: Mapping[str, Any], first: Ingredient) -> StoredTensors | None:
    if plain["base"] is None:
        return None
    base = StoredTensors(Path(plain["base"]) / WEIGHTS)
    check_names([first.tensors, base], [str(first.folder), f"base={plain['base']}"])
    return base


def _trainer(plain: Mapping[str, Any], run: Path, loggers: list) -> pl.Trainer:
    return pl.Trainer(
        accelerator=plain["trainer"]["accelerator"], devices=1, logger=loggers, enable_progress_bar=False,
        enable_checkpointing=False, default_root_dir=run,
    )  # fmt: skip
