"""`commonspace mine`: hard negatives of every training task of a tier, ranked by a model, judged by teachers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from commonspace.config_values import resolved
from commonspace.data.features import attach_features
from commonspace.data.negatives import list_file
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.specs import SPECS
from commonspace.mining.candidates import EXACT, Pool, Search
from commonspace.mining.mine import MakeTeachers, mine, write_mined
from commonspace.mining.options import DEFAULTS, MiningOptions, TeacherOptions, teachers_of
from commonspace.mining.parts import claimed, job_folder, make_parts, write_whole
from commonspace.mining.report import write_index, write_report
from commonspace.mining.teachers import FileTeacher, TableTeacher, Teacher, VectorTeacher, pair_teacher
from commonspace.mining.vectors import Model, Side, embed_side
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.models.folder import folder_fingerprint
from commonspace.models.precision import InPrecision, resolve_precision

if TYPE_CHECKING:
    from omegaconf import DictConfig

console = Console(stderr=True)


def mine_run(
    embedder: str | Path,
    root: str | Path,
    output: str | Path,
    work: str | Path,
    *,
    options: MiningOptions = DEFAULTS,
    tasks: Sequence[str] | None = None,
    directions: Sequence[str] = ("forward",),
    teachers: Sequence[TeacherOptions] = (),
    cache: str | Path | None = None,
    search: Search = EXACT,
    chunk: int = 256,
    batch_tokens: int = 8192,
    precision: str = "32-true",
    prefixes: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Mine the train split of each task under `root` with the model folder `embedder`; returns the report's numbers.

    They are those of the tasks that this process wrote; of several that share the work one writes a task.

    output  gets <task>.parquet for the loader, and report/ to read
    work    keeps what was made on the way: vectors of every model, candidates, teachers' scores
    tasks   names; None: every task that has a train split
    precision  the model ranks in, see `resolve_precision`
    prefixes   text-only queries take their task's prefix, which a fine-tuned model knows and a pretrained one does not
    cache   where features of frozen towers are kept; None decodes every medium
    seed    of `selection=random`, and of the examples that the report prints
    Raises `DataError` where a named task has no train split or there is none at all.
    """
    readers = train_readers(Path(root), tasks)
    output, work = Path(output), Path(work)
    device = own_device()
    agreed = _agreed_precision(work, precision, readers[0], device)
    models = Models(cache, agreed, batch_tokens, device)
    numbers = {}
    for reader in readers:
        for direction in directions:
            mined = mine(
                models.of(Path(embedder)), reader, options, work,
                direction=direction, match=match_of(reader.task), search=search,
                prompt=prompt_of(reader.task) if prefixes else None,
                teachers=_judges(teachers, models, work, chunk, progress), chunk=chunk, seed=seed, progress=progress,
            )  # fmt: skip
            details = {
                "model": str(embedder), "match": match_of(reader.task), "prefixes": prefixes, "precision": agreed,
                "search": "approximate" if search.graph_rows else "exact", **asdict(options),
            }  # fmt: skip
            name = list_file(reader.task, direction).removesuffix(".parquet")
            with claimed(job_folder(work, "written", output=str(output.absolute()), name=name), 0) as free:
                if not free:
                    continue  # another process writes the same
                write_mined(output, reader, mined)
                numbers[name] = write_report(output / "report", reader, mined, details, seed=seed)
                write_index(output / "report")
            if progress:
                console.print(f"{name}: {len(mined.rows)} hard negatives for {len(mined.asked)} queries")
    return numbers


class Models:
    """Model folders of ours as mining takes them, each loaded once and only where vectors are missing."""

    def __init__(self, features: str | Path | None, precision: str, batch_tokens: int, device: str) -> None:
        self.features, self.precision, self.batch_tokens, self.device = features, precision, batch_tokens, device
        self._loaded: dict[Path, InPrecision] = {}
        self._fingerprints: dict[Path, str] = {}

    def of(self, folder: Path) -> Model:
        """A folder, not loaded yet. Raises WeightsError where it is none."""
        if folder not in self._fingerprints:
            media = "decoded" if self.features is None else "from the cache"  # which holds float16
            self._fingerprints[folder] = f"{folder_fingerprint(folder)} {self.precision} {media}"
        return Model(str(folder), self._fingerprints[folder], lambda: self._load(folder), self.batch_tokens)

    def _load(self, folder: Path) -> InPrecision:
        if folder not in self._loaded:
            model = Embedder.load(folder).to(self.device)
            # as training meets long contents, and as the features were kept
            model.processor = model.processor.renewed("truncate")
            if self.features is not None:
                attach_features(model, Path(self.features))
            self._loaded[folder] = InPrecision(model, self.precision)
        return self._loaded[folder]


def _judges(
    entries: Sequence[TeacherOptions], models: Models, work: Path, chunk: int, progress: bool
) -> MakeTeachers | None:
    """Makes the teachers of a config for a task and a direction."""
    if not entries:
        return None

    def make(reader: ShardReader, pool: Pool, sides: tuple[Side, Side]) -> list[Teacher]:
        direction = "forward" if sides[0] == "query" else "reverse"
        return [one(entry, reader, pool, sides, direction) for entry in entries]

    def one(
        entry: TeacherOptions, reader: ShardReader, pool: Pool, sides: tuple[Side, Side], direction: str
    ) -> Teacher:
        given = entry.given
        if entry.kind == "embedder":
            prompt = prompt_of(reader.task) if given["prefixes"] else None
            model = models.of(Path(given["model"]))
            both = [
                embed_side(model, reader, side, work, prompt=told, chunk=chunk, progress=progress)
                for side, told in zip(sides, (prompt, None), strict=True)
            ]
            return VectorTeacher(entry.name, *both)
        if entry.kind == "vectors":
            ids = (pool.identities.query_ids, pool.identities.target_ids)
            return TableTeacher(entry.name, Path(given["folder"]), reader.task, *ids)
        if entry.kind == "scores":
            path = Path(str(given["file"]).replace("{task}", reader.task).replace("{direction}", direction))
            return FileTeacher(entry.name, path, reader)
        return pair_teacher(entry, reader, sides, models.device)

    return make


def own_device() -> str:
    """`best_device`, and of several processes of a launcher on one machine each its own GPU."""
    if best_device() != "cuda":
        return "cpu"
    place = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
    return f"cuda:{place % torch.cuda.device_count()}"


def _agreed_precision(work: Path, asked: str, reader: ShardReader, device: str) -> str:
    """`asked`; for "auto" what the first process found for this task's shards: vectors of two do not mix."""
    if asked != "auto":
        return resolve_precision(asked)
    path = job_folder(work, "precision", shards=reader.fingerprint, device=device.split(":")[0]) / "found"
    make_parts([path], lambda _: write_whole(path, lambda new: new.write_text(resolve_precision("auto"))))
    return path.read_text()


def train_readers(root: Path, tasks: Sequence[str] | None) -> list[ShardReader]:
    """Readers of the train splits of `tasks`, or of all there are."""
    names = sorted(path.parent.name for path in root.glob("*/train.json")) if tasks is None else tasks
    if not names:
        raise DataError(f"{root}: holds no train split; run `commonspace data build`")
    return [ShardReader(root / name, "train") for name in names]


def match_of(task: str) -> str:
    """What counts as correct in a task: as evaluation has it, by concept where evaluation does not know the task."""
    return next((spec.match for spec in SPECS if spec.shard == task), "concept")


def prompt_of(task: str) -> str | None:
    """The prefix of a task's text-only queries, as in evaluation; None where it has none or is not known there."""
    return next((spec.prompt for spec in SPECS if spec.shard == task and spec.prompt), None)


def main(config: DictConfig) -> None:
    """`mine_run` by the composed config of the command."""
    plain = resolved(config)
    options = MiningOptions.of(plain)
    graph_rows = plain["graph_rows"] if plain["search"] == "approximate" else None
    names = ("directions", "chunk", "batch_tokens", "precision", "prefixes", "seed")
    mine_run(
        plain["embedder"],
        Path(plain["paths"]["data"]) / plain["data"]["tier"],
        plain["output"],
        plain["work"],
        options=options,
        tasks=plain["data"]["tasks"],
        teachers=teachers_of(plain["teachers"], options),
        cache=plain["paths"]["cache"] if plain["data"]["features"] else None,
        search=Search(graph_rows, plain["expansion"], plain["memory"], own_device()),
        **{name: plain[name] for name in names},
    )
