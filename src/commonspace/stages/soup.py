"""Stage 3: average the weights of fine-tuned models, all of them and greedily on dev (paper, section 3.3).

*The* soup is the greedy one. By construction it scores at least as well on dev as its best ingredient; what that is
worth on held-out data is for the evaluation to say. `weights` are ratios of the ingredients, kept in every average that
is tried; without them all count alike.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from safetensors import safe_open
from torch.utils.data import DataLoader

from commonspace.data.features import attach_features
from commonspace.errors import ConfigError, WeightsError
from commonspace.evaluation.suite import build_suite
from commonspace.models.adapter_folder import check_whole
from commonspace.models.averaging import GreedySoup, average_files, greedy
from commonspace.models.embedder import Embedder
from commonspace.models.folder import golden_vectors, read_json, replace_folder, write_json
from commonspace.models.precision import resolve_precision
from commonspace.stages.callbacks import close
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.sources import Source, card_sources, merged, sources_section
from commonspace.tracking.identity import run_identity
from commonspace.tracking.logger import make_loggers

console = Console()
WEIGHTS = "model.safetensors"


class SoupStage(pl.LightningModule):
    """Scores averages of ingredients by dev retrieval; trains nothing.

    Candidates are tuples of ingredient numbers; `trainer.validate(stage)` scores the one that was put in last, and logs
    it as a step of its own: dev/<task>, and soup/<ingredient> 1 for those in it. Averages stream over the ingredients'
    files, so memory holds one model and one tensor however many ingredients there are.
    """

    def __init__(
        self,
        embedder: Embedder,
        ingredients: Sequence[Path],
        dev: DevRetrieval,
        batch_tokens: int,
        weights: Sequence[float] | None = None,
        *,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.bf16 = bf16
        self.embedder = embedder
        self.ingredients = [Path(folder) for folder in ingredients]
        self.dev = dev
        self.batch_tokens = batch_tokens
        self.weights = weights
        self.scores: dict[str, float] = {}
        self.members: frozenset[int] = frozenset()
        self.scored = 0

    def put(self, members: Sequence[int], scratch: Path) -> None:
        """Load the average of some ingredients, at their ratios, into the embedder."""
        self.members = frozenset(members)
        files = [self.ingredients[member] / WEIGHTS for member in members]
        average_files(files, scratch, _of(self.weights, members))
        with safe_open(scratch, framework="pt") as opened:
            self.embedder.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118

    def validation_step(self, batch: Any, index: int) -> None:
        """One pass over dev; the whole suite is one batch, because a pool is ranked as a whole."""
        self.scores = self.dev.scores(self.embedder, batch_tokens=self.batch_tokens, bf16=self.bf16)
        values = {f"dev/{name}": value for name, value in self.scores.items()}
        values |= {f"soup/{folder.name}": float(n in self.members) for n, folder in enumerate(self.ingredients)}
        # Lightning takes a value called step for the step; without training every candidate would be step 0.
        self.log_dict({**values, "step": float(self.scored)}, batch_size=1)
        self.scored += 1

    def val_dataloader(self) -> DataLoader:
        return DataLoader([0])

    def configure_optimizers(self) -> None:
        """Nothing trains."""


def soup(config: DictConfig) -> float:
    """Make the soup of all `ingredients` and the greedy one, save both, return the greedy one's mean dev MRR@10."""
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]), resolve=True)
    folders = [Path(folder) for folder in plain["ingredients"]]
    check_ingredients(folders)
    pl.seed_everything(plain["seed"])
    embedder = Embedder.load(folders[0])
    embedder.processor = embedder.processor.renewed("truncate")  # as in training
    if plain["data"]["features"]:
        attach_features(embedder, Path(plain["paths"]["cache"]))
    suite = build_suite(
        Path(plain["paths"]["data"]) / plain["data"]["tier"], "dev", plain["data"]["tasks"], plain["data"]["limit"]
    )
    weights = plain["weights"]
    own = plain["trainer"]
    precision = resolve_precision(own["precision"], "cpu" if own["accelerator"] == "cpu" else None)
    stage = SoupStage(
        embedder, folders, DevRetrieval(suite, embedder.processor), plain["batch_tokens"], weights,
        bf16=precision == "bf16-mixed",
    )  # fmt: skip

    run = Path(plain["paths"]["runs"]) / plain["data"]["tier"] / plain["name"]
    identity = run_identity(run, plain)
    loggers = make_loggers(run / identity.run_id, plain, identity)
    trainer = pl.Trainer(
        accelerator=plain["trainer"]["accelerator"], devices=1, logger=loggers, enable_progress_bar=False,
        enable_checkpointing=False, default_root_dir=run,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="soup-") as scratch:
        by_task: dict[tuple[int, ...], dict[str, float]] = {}

        def score(members: tuple[int, ...]) -> float:
            if members not in by_task:
                stage.put(members, Path(scratch) / WEIGHTS)
                trainer.validate(stage, verbose=False)
                by_task[members] = dict(stage.scores)
                console.print(f"dev MRR@10 {stage.scores['mean']:.4f}  {' + '.join(folders[m].name for m in members)}")
            return by_task[members]["mean"]

        everyone = tuple(range(len(folders)))
        chosen = greedy(everyone, score)
        score(everyone)
        whole = "weighted" if weights else "uniform"
        for members, output, kind in ((everyone, "uniform_output", whole), (chosen.members, "output", "greedy")):
            stage.put(members, Path(scratch) / WEIGHTS)
            recipe = soup_recipe(
                kind, [folders[m] for m in members], by_task[members], chosen, folders, identity.run_id,
                _of(weights, members),
            )  # fmt: skip
            sources = merged([card_sources(folders[m]) for m in members])
            save_soup(stage.embedder, Path(scratch) / WEIGHTS, folders[0], Path(plain[output]), recipe, sources)
            console.print(f"{plain[output]}: saved the {kind} soup of {', '.join(folders[m].name for m in members)}")
    close(loggers)
    return chosen.score


def check_ingredients(folders: Sequence[Path]) -> None:
    """All ingredients are whole model folders of one architecture and one preprocessing; otherwise ConfigError."""
    if len(folders) < 2:
        raise ConfigError(f"ingredients: {len(folders)} given; a soup takes at least two model folders")
    for folder in folders:
        check_whole(folder, "ingredients")
    for name in ("config.json", "preprocessing.json"):
        first = read_json(folders[0] / name)
        for folder in folders[1:]:
            other = read_json(folder / name)
            if other != first:
                keys = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
                raise ConfigError(
                    f"{folder}/{name} differs from {folders[0]}'s in {', '.join(keys)}: no average of the two"
                )
    for folder in folders:
        if not (folder / WEIGHTS).is_file():
            raise WeightsError(f"{folder}: has no {WEIGHTS}; train it first")


def soup_recipe(
    kind: str,
    members: Sequence[Path],
    scores: Mapping[str, float],
    chosen: GreedySoup[int],
    folders: Sequence[Path],
    run_id: str,
    weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """soup.json: ingredients with their hashes, dev scores of the result, and every trial of the greedy search."""
    trials = [{**asdict(t), "members": [folders[m].name for m in t.members]} for t in chosen.trials]
    return {
        "kind": kind,
        "weights": "equal" if weights is None else list(weights),
        "ingredients": [{"name": f.name, "sha256": _sha256(f / WEIGHTS)} for f in members],
        "dev": dict(scores),
        "trials": trials,
        "run_id": run_id,
    }


def save_soup(
    embedder: Embedder,
    weights: Path,
    like: Path,
    output: Path,
    recipe: Mapping[str, Any],
    sources: Mapping[str, Source],
) -> None:
    """A model folder like the ingredients', with the averaged weights, new golden vectors and the soup's recipe."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        target = Path(temporary) / output.name
        shutil.copytree(
            like, target, ignore=shutil.ignore_patterns(WEIGHTS, "README.md", "golden.json", "training.json")
        )
        shutil.copyfile(weights, target / WEIGHTS)
        write_json(target / "golden.json", golden_vectors(embedder.eval()))
        write_json(target / "soup.json", recipe)
        (target / "README.md").write_text(soup_card(output.name, recipe, sources))
        replace_folder(target, output)


def soup_card(name: str, recipe: Mapping[str, Any], sources: Mapping[str, Source]) -> str:
    """README.md of a soup: what is in it, and all that its ingredients were trained on."""
    names = ", ".join(entry["name"] for entry in recipe["ingredients"])
    weights = "equal weights" if recipe["weights"] == "equal" else f"weights {recipe['weights']}"
    return f"""# {name}

The {recipe["kind"]} soup ({weights}) of {names}; dev MRR@10 {recipe["dev"]["mean"]:.3f}.
`soup.json` has every trial and the hashes of the ingredients; run `{recipe["run_id"]}`.

{sources_section(sources)}"""


def _of(weights: Sequence[float] | None, members: Sequence[int]) -> list[float] | None:
    return None if weights is None else [weights[member] for member in members]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
