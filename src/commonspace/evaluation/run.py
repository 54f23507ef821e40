"""`commonspace evaluate`: a model folder or a baseline, scored on a tier, its rows written, the report made anew."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commonspace.config_values import resolved
from commonspace.content import Content
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError
from commonspace.evaluation import baselines, report
from commonspace.evaluation.engine import Embeds, Evaluated, evaluate, over_seeds, save
from commonspace.evaluation.geometry import geometry
from commonspace.evaluation.late_fusion_grid import GRID
from commonspace.evaluation.places import check_tasks_kept, models_of
from commonspace.evaluation.results import Row, Scored, current_commit, write_geometry
from commonspace.evaluation.rivals import answerable, is_rival, load_rival
from commonspace.evaluation.shares import InShares, process_group, same_precision
from commonspace.evaluation.soups import keep_recipe
from commonspace.evaluation.suite import Suite, build_suite
from commonspace.evaluation.surroundings import Surroundings, console
from commonspace.evaluation.teachers import TASKS, write_teacher
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.models.folder import read_json
from commonspace.models.precision import InPrecision
from commonspace.models.weights import RIVALS, resolve_weights
from commonspace.objectives.gather import Group, rank_and_size
from commonspace.tracking.lineage import write_evaluation_lineage

if TYPE_CHECKING:
    from omegaconf import DictConfig

BASELINES = ("chance", "bm25", "e5", "late_fusion")


def main(config: DictConfig) -> None:
    """Evaluate what `config.embedder` names: a baseline, "baselines" for all of them, or a model's folder."""
    plain = resolved(config)
    place = Surroundings(
        data=Path(plain["paths"]["data"]) / plain["data"]["tier"],
        cache=Path(plain["paths"]["cache"]),
        output=Path(plain["output"]),
        split=plain["data"]["split"],
        tasks=plain["data"]["tasks"],
        features=plain["data"]["features"],
        weights=plain["weights"],
        draws=plain["bootstrap"],
        limit=plain["data"]["limit"],
        model=plain["model"],
    )
    group = process_group()
    first = rank_and_size(group)[0] == 0
    folder, rows = _folder(plain), None
    shown = {name: plain[name] for name in ("name", "dims", "rescored")} | {"quantised": plain["quantised"] or ()}
    if plain["rival_prompts"] and not is_rival(folder):
        raise ConfigError(f"rival_prompts: {plain['embedder']} is no model of sentence-transformers; leave it out")
    if place.tasks is not None:
        check_tasks_kept(place.output, models_of(plain["embedder"], plain["name"]), place.tasks)
    if plain["embedder"] in (*BASELINES, "baselines"):
        if not first:
            return  # a baseline is not shared out
        names = BASELINES if plain["embedder"] == "baselines" else (plain["embedder"],)
        for name in names:
            evaluate_baseline(
                place, name, seed=plain["seed"], seeds=plain["seeds"], tries=plain["tries"],
                tuned=plain["tuned"],
                teachers=Path(plain["teachers"]) if plain["teachers"] else None,
            )  # fmt: skip
    elif is_rival(folder):
        if not first:
            return  # nor is a model of another library
        idle = {"prefix_policy": "query", "batch_tokens": 8192, "precision": "32-true", "wandb": "offline"}
        if passed := [key for key, value in idle.items() if plain[key] != value]:
            raise ConfigError(f"{', '.join(passed)}: of our model folders alone, {folder} is none; leave it out")
        evaluate_rival(place, folder, prompts=plain["rival_prompts"], **shown)
    else:
        rows = evaluate_folder(
            place,
            folder,
            prefix_policy=plain["prefix_policy"],
            batch_tokens=plain["batch_tokens"],
            precision=plain["precision"],
            group=group,
            **shown,
        )
    if place.split == "heldout" and first:
        written = report.write(place.output, Path(plain["paths"]["docs"]))
        console.print(f"{written}: report of {len(report.models(place.output))} models", soft_wrap=True)
    if rows is not None and plain["wandb"] != "none":
        _log(rows, folder, Path(plain["paths"]["runs"]), plain["wandb"])


def _log(rows: Path, model: Path, runs: Path, mode: str) -> None:
    from commonspace.tracking.artifacts import log_evaluation  # brings Lightning along

    run = log_evaluation(rows, model, runs, mode=mode)
    told = f"an artifact of the W&B run in {run}" if run else f"no W&B artifact, no log of its model's run is in {runs}"
    console.print(f"{rows}: {told}", soft_wrap=True)


def evaluate_folder(
    place: Surroundings,
    folder: Path,
    *,
    name: str | None = None,
    dims: Sequence[int] | None = None,
    prefix_policy: str = "query",
    batch_tokens: int = 8192,
    precision: str = "32-true",
    quantised: Sequence[str] = (),
    rescored: int = 40,
    group: Group | None = None,
) -> Path | None:
    """Score a model folder at its Matryoshka sizes; returns the path of its rows.

    The processes of a `group` embed a share each; the first alone looks for near-duplicates and writes.
    """
    first = rank_and_size(group)[0] == 0
    model = place.prepare(Embedder.load(folder).to(best_device()))
    scored = scored_folder(folder, name, prefix_policy)
    exact = InPrecision(model, same_precision(precision, model.device, group))
    embedded = _Batched(exact if group is None else InShares(exact, group), batch_tokens)
    done = evaluate(
        embedded, place.suite, scored, dims=dims or model.matryoshka_sizes,
        near_duplicates=place.near_duplicates if first else None, draws=place.draws, quantised=quantised,
        rescored=rescored, progress=first,
    )  # fmt: skip
    shape = geometry(embedded, place.suite)
    if not first:
        return None
    write_geometry(place.output, scored.model, shape)
    rows = _saved(place, [done])
    write_evaluation_lineage(rows, folder, detail={"split": place.split, "suite": place.suite.name})
    keep_recipe(folder, rows)
    return rows


def _folder(plain: Mapping[str, Any]) -> Path:
    """The folder of a model: as given, or of a packaged rival by its name."""
    name = plain["embedder"]
    return resolve_weights(name, plain["weights"], plain["paths"]["cache"]) if name in RIVALS else Path(name)


def evaluate_rival(
    place: Surroundings,
    folder: Path,
    *,
    name: str | None = None,
    prompts: Mapping[str, str] | None = None,
    dims: Sequence[int] | None = None,
    quantised: Sequence[str] = (),
    rescored: int = 40,
) -> Path:
    """Score another library's model on the tasks that it reads, at full size or `dims`; returns the path of its rows.

    `prompts` stand before texts by role ("query", "document"), in place of those that the folder names.
    """
    rival = load_rival(folder, prompts)
    suite, left_out = answerable(place.suite, rival)
    if left_out:
        console.print(f"{folder.name} reads {rival.kinds}; left out: {', '.join(left_out)}", soft_wrap=True)
    scored = replace(scored_folder(folder, name, "task" if rival.prompted else "none"), stage="rival")
    done = evaluate(
        rival, suite, scored, dims=dims, near_duplicates=place.near_duplicates, draws=place.draws,
        quantised=quantised, rescored=rescored, progress=True,
    )  # fmt: skip
    return _saved(place, [done])


def scored_folder(folder: Path, name: str | None = None, prefix_policy: str = "query") -> Scored:
    """Who a model folder is in its rows, and the command that makes them."""
    return Scored(
        model=name or folder.name, prefix_policy=prefix_policy, commit=current_commit(), command=command_line(),
        **training_of(folder),
    )  # fmt: skip


class _Batched:
    """An embedder with its batch size, remembering vectors: geometry asks again for what evaluation embedded."""

    def __init__(self, model: Embeds, batch_tokens: int) -> None:
        self.model, self.batch_tokens = model, batch_tokens
        self.known: dict[tuple[str | None, str | None, int], np.ndarray] = {}

    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        keys = [(task, role, content.digest()) for content in contents]
        missing = {key: content for key, content in zip(keys, contents, strict=True) if key not in self.known}
        vectors = self.model.embed(
            list(missing.values()), task=task, role=role, batch_tokens=self.batch_tokens, progress=progress
        )
        self.known.update(zip(missing, vectors, strict=True))
        return np.stack([self.known[key] for key in keys])


def training_of(folder: Path) -> dict[str, Any]:
    """Stage, seed and run id of a model folder, from its training.json or soup.json."""
    if (folder / "soup.json").is_file():
        return {"stage": "soup", "seed": None, "run_id": read_json(folder / "soup.json").get("run_id")}
    if (folder / "training.json").is_file():
        training = read_json(folder / "training.json")
        return {key: training.get(key) for key in ("stage", "seed", "run_id")}
    return {"stage": "model", "seed": None, "run_id": None}


def evaluate_baseline(
    place: Surroundings,
    name: str,
    *,
    seed: int = 1,
    seeds: int = 5,
    tries: int = len(GRID),
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
    teachers: Path | None = None,
) -> None:
    """Score one baseline. Late fusion is tuned on dev, then trained `seeds` times from `seed` on.

    `tuned` has settings by family that an earlier tuning found, taken as they are; the others are tuned. `teachers`
    is a folder for its tables of training contents (`teachers.py`); None writes none.
    """
    score: dict[str, Callable[[], None]] = {
        "chance": lambda: _write(place, [baselines.chance(place.suite, place.near_duplicates)]),
        "bm25": lambda: _write(place, [baselines.bm25(place.suite, place.near_duplicates, place.draws)]),
        "e5": lambda: _write(
            place, [baselines.raw_text(place.suite, place.frozen, place.near_duplicates, place.draws, progress=True)]
        ),
        "late_fusion": lambda: _late_fusion(place, range(seed, seed + seeds), tries, tuned, teachers),
    }
    score[name]()


def _late_fusion(
    place: Surroundings,
    seeds: Sequence[int],
    tries: int,
    tuned: Mapping[str, Mapping[str, Any]] | None,
    teachers: Path | None,
) -> None:
    log = place.output / "tries" / "late_fusion.jsonl"
    known = baselines.tuned_settings(tuned or {})
    if tuned is None:
        log.unlink(missing_ok=True)
    found: dict[str, list[Evaluated]] = {}
    pooled: dict[str, list[Row]] = {}
    for family in baselines.FAMILIES:
        trains = [shard for shard in family.trains if (place.data / shard / "train.json").exists()]
        present = [task.name for task in place.suite.tasks if task.name in family.answers]
        if not trains or not present:
            console.print(f"late fusion: no rows for {family.name} ({family.fusion})")
            continue
        console.print(f"late fusion: {family.name} ({family.fusion})")
        records = [record for shard in trains for record in ShardReader(place.data / shard, "train")]
        done = baselines.late_fusion(
            family, records, place.fusion_features, _dev(place, trains), place.suite, tries=tries, seeds=seeds,
            settings=known.get(family.label),
            near_duplicates=place.near_duplicates, log=log, draws=place.draws, progress=True,
            precision=place.late_fusion_precision,
        )  # fmt: skip
        name = baselines.MODEL_OF_FUSION[family.fusion]
        found.setdefault(name, []).extend(done.scored)
        pooled.setdefault(name, []).extend(over_seeds(done.scored, place.draws))
        if teachers and family.name in TASKS:
            path = teachers / f"{TASKS[family.name]}.safetensors"
            console.print(f"{path}: {write_teacher(path, done.models, records)} contents", soft_wrap=True)
    for name, parts in found.items():
        _write(place, parts, pooled[name])


def _dev(place: Surroundings, shards: Sequence[str]) -> Suite:
    present = [shard for shard in shards if (place.data / shard / "dev.json").exists()]
    return build_suite(place.data, "dev", present, place.limit) if present else Suite("dev", "dev", ())


def _write(place: Surroundings, parts: Sequence[Evaluated], pooled: Sequence[Row] = ()) -> None:
    """Save a baseline's parts under the command that made them; nothing where the tier has none of its tasks."""
    command = command_line()
    marked = [
        Evaluated([replace(row, command=command) for row in part.rows], part.ranks) for part in parts if part.rows
    ]
    if marked:
        _saved(place, marked, [replace(row, command=command) for row in pooled])


def _saved(place: Surroundings, parts: Sequence[Evaluated], pooled: Sequence[Row] = ()) -> Path:
    path = save(place.output, parts, pooled)
    rows = len(pooled) + sum(len(part.rows) for part in parts)
    console.print(f"{path}: {rows} rows", soft_wrap=True)
    return path


def command_line() -> str:
    """The command line as it was typed, without the folders of this machine."""
    return shlex.join(["commonspace", *(word for word in sys.argv[1:] if not word.startswith("paths."))])
