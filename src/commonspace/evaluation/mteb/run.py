"""`commonspace evaluate mteb`: a suite of mteb's tasks, or our held-out suite as mteb tasks, by mteb's own code."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from commonspace.config_values import resolved
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.mteb.cache import shared_cache
from commonspace.evaluation.mteb.model import load, modalities_of
from commonspace.evaluation.mteb.rivals import is_ours, load_rival
from commonspace.evaluation.mteb.suites import HELDOUT, Chosen, choose, share_of
from commonspace.evaluation.mteb.summary import check_published, scored, summarise, write_side_by_side, write_summary
from commonspace.evaluation.results import current_commit
from commonspace.evaluation.run import command_line, training_of
from commonspace.evaluation.suite import Suite, build_suite
from commonspace.models.device import best_device
from commonspace.models.weights import PRETRAINED, RIVALS, resolve_weights
from commonspace.prompts import PREFIXES
from commonspace.tracking.lineage import write_evaluation_lineage
from commonspace.tracking.trained_run import logged_run, reopened, run_folder

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask
    from omegaconf import DictConfig

BEST = "best"  # every prefix of our table in turn, and the best of each task apart
console = Console()


def main(config: DictConfig) -> None:
    """Evaluate `config.embedder` on `config.suite`; results that are there are not made again.

    Raises DataError at the end, naming the tasks that failed; those that did not are kept.
    """
    plain = resolved(config)
    _check(plain)
    if plain["embedder"] in PRETRAINED | RIVALS:  # what packages carry, by its name
        plain["embedder"] = str(resolve_weights(plain["embedder"], cache=plain["paths"]["cache"]))
    asked = Asked.of(plain)
    chosen = asked.chosen
    check_published(plain["published"], chosen)
    mine = share_of(chosen.tasks, plain["share"], plain["shares"])
    console.print(f"{len(mine)} of {len(chosen.tasks)} tasks, {len(chosen.left_out)} left out", soft_wrap=True)
    cache = shared_cache(asked.output, {task.metadata.name: task.metadata.revision for task in chosen.tasks})
    failed = _evaluate(asked, mine, cache)
    with cache.alone():  # of two jobs that end together the later one writes what both did
        by_prefix = {name: scored(chosen.tasks, cache, asked.named(name)) for name in asked.prefixes}
        summary = summarise(chosen, by_prefix)
        path = write_summary(asked.output, asked.suite, summary, asked.about(), plain["published"])
        if is_ours(folder := Path(plain["embedder"])):
            write_evaluation_lineage(path, folder, detail={"suite": f"mteb {asked.suite}"})
        write_side_by_side(asked.output.parent, asked.suite)
        page = path.with_suffix(".md").read_text()
    console.print(page, soft_wrap=True, markup=False)
    console.print(f"{path}: {len(next(iter(by_prefix.values())))} tasks", soft_wrap=True)
    _log(asked, plain, by_prefix, mine)
    if failed:
        said = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise DataError(f"{len(failed)} of {len(mine)} tasks failed, the others are kept: {said}")


@dataclass
class Asked:
    """One evaluation: the model, the suite, the prefixes it is asked under, and where its results go."""

    model: Any
    suite: str
    chosen: Chosen
    prefixes: tuple[str, ...]
    output: Path
    run_id: str | None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Asked:
        """What a resolved config asks for."""
        folder, ours = Path(plain["embedder"]), is_ours(Path(plain["embedder"]))
        prefixes = ("type", "none", *PREFIXES) if plain["prefixes"] == BEST else (plain["prefixes"],)
        model = _ours(plain, prefixes[0]) if ours else _rival(plain)
        known = modalities_of(model.embedder) if ours else list(model.mteb_model_meta.modalities)
        chosen = choose(plain["suite"], known, _heldout(plain), plain["tasks"] or ())
        run_id = training_of(folder)["run_id"] if ours else None
        trained = run_folder(Path(plain["paths"]["runs"]), run_id)
        name = model.mteb_model_meta.name.replace("/", "__")
        usual = trained / "mteb" if trained else Path(plain["paths"]["runs"]) / "mteb" / name
        return cls(model, plain["suite"]["name"], chosen, prefixes, Path(plain["output"] or usual), run_id)

    def under(self, prefixes: str) -> Any:
        """The model under one policy; a rival has the one it came with."""
        if hasattr(self.model, "prefixes"):
            self.model.prefixes = prefixes
            self.model.mteb_model_meta = self.named(prefixes)
        return self.model

    def named(self, prefixes: str) -> Any:
        """mteb's metadata under one policy: a policy that is not the type's default is an experiment of its own."""
        meta = self.model.mteb_model_meta
        if not hasattr(self.model, "prefixes"):
            return meta
        others = {key: value for key, value in (meta.experiment_kwargs or {}).items() if key != "prefixes"}
        own = {} if prefixes == "type" else {"prefixes": prefixes}
        return meta.model_copy(update={"experiment_kwargs": {**own, **others} or None})

    def about(self) -> dict[str, Any]:
        """What a reader of the results wants to know of them."""
        meta = self.model.mteb_model_meta
        return {
            "model": meta.name, "revision": meta.revision, "suite": self.suite, "run_id": self.run_id,
            "commit": current_commit(), "mteb": version("mteb"), "command": command_line(),
        }  # fmt: skip


def _check(plain: Mapping[str, Any]) -> None:
    try:
        import mteb  # noqa: F401
    except ImportError as error:
        raise ConfigError("evaluate mteb needs mteb: run make setup, or pip install -e '.[rivals]'") from error


def _ours(plain: Mapping[str, Any], prefixes: str) -> Any:
    folder = Path(plain["embedder"])
    if plain["rival_prompts"]:
        raise ConfigError(f"rival_prompts: {folder} is a model folder of ours and has its own; leave it out")
    return load(
        plain["name"] or folder.name,
        folder=folder,
        cache=Path(plain["paths"]["cache"]) if plain["data"]["features"] else None,
        prefixes=prefixes,
        sides=plain["prefix_policy"],
        dim=plain["dim"],
        batch_tokens=plain["batch_tokens"],
        precision=plain["precision"],
    )


def _rival(plain: Mapping[str, Any]) -> Any:
    """Options of our own models are refused: a rival would pass them over."""
    own = {"prefixes": "type", "prefix_policy": "query", "dim": None, "precision": "32-true", "batch_tokens": 8192}
    if idle := [key for key, value in own.items() if plain[key] != value]:
        raise ConfigError(f"{', '.join(idle)}: of our model folders alone, {plain['embedder']} is none; leave it out")
    model = load_rival(plain["embedder"], plain["rival_prompts"], best_device())
    if plain["name"]:
        model.mteb_model_meta = model.mteb_model_meta.model_copy(update={"name": f"local/{plain['name']}"})
    return model


def _heldout(plain: Mapping[str, Any]) -> Suite | None:
    data = plain["data"]
    if HELDOUT not in plain["suite"]["benchmarks"]:
        own = {"tier": "mini", "split": "heldout", "tasks": None, "limit": None}
        if idle := [f"data.{key}" for key, value in own.items() if data[key] != value]:
            raise ConfigError(
                f"{', '.join(idle)}: of suite=heldout alone, mteb's benchmarks bring their data; leave it out"
            )
        return None
    return build_suite(Path(plain["paths"]["data"]) / data["tier"], data["split"], data["tasks"], data["limit"])


def _evaluate(asked: Asked, tasks: Sequence[AbsTask], cache: Any) -> dict[str, str]:
    """Run what the cache does not have; {task: why} of those that failed."""
    import mteb

    failed: dict[str, str] = {}
    work = list(_work(asked, tasks))
    with Progress(console=console) as bar:
        step = bar.add_task("mteb", total=len(work))
        for prefixes, task in work:
            bar.update(step, description=f"{task.metadata.name} ({prefixes})")
            found = mteb.evaluate(
                asked.under(prefixes),
                task,
                cache=cache,
                raise_error=False,
                show_progress_bar=False,
                co2_tracker=False,
                encode_kwargs={"show_progress_bar": False},
            )
            for error in found.exceptions or ():
                failed[task.metadata.name] = " ".join(error.exception.split())[:300]
            bar.advance(step)
    return failed


def _work(asked: Asked, tasks: Sequence[AbsTask]) -> Iterator[tuple[str, AbsTask]]:
    """Every task under every policy; tasks that take no prefix once."""
    from commonspace.evaluation.mteb.prompts import is_of_text

    for task in tasks:
        for prefixes in asked.prefixes if is_of_text(task.metadata) else asked.prefixes[:1]:
            yield prefixes, task


def _log(
    asked: Asked, plain: Mapping[str, Any], by_prefix: Mapping[str, Mapping[str, float]], mine: Sequence[AbsTask]
) -> None:
    """This job's scores of the headline's policy, into the run that trained the model, else into one of their own.

    They are one step there, under mteb/.
    """
    if plain["wandb"] == "none":
        return
    names = {task.metadata.name for task in mine}
    scores = {name: value for name, value in next(iter(by_prefix.values())).items() if name in names}
    if scores:
        folder = run_folder(Path(plain["paths"]["runs"]), asked.run_id) or asked.output
        run = reopened(
            folder, asked.run_id or f"mteb-{secrets.token_hex(4)}", logged_run(folder, asked.run_id),
            mode=plain["wandb"], project=plain["project"], config={"mteb": asked.about()},
        )  # fmt: skip
        run.log({f"mteb/{name}": value for name, value in scores.items()})
        run.finish()
