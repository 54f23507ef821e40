"""`commonspace mine`: hard negatives of every training task of a tier, ranked by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from commonspace.data.features import attach_features
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.specs import SPECS
from commonspace.mining.mine import mine, write_mined
from commonspace.mining.report import write_report
from commonspace.mining.rules import MiningOptions
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.models.precision import InPrecision

if TYPE_CHECKING:
    from omegaconf import DictConfig

console = Console(stderr=True)


def mine_run(
    embedder: str | Path,
    root: str | Path,
    output: str | Path,
    *,
    tasks: Sequence[str] | None = None,
    cache: str | Path | None = None,
    count: int = 4,
    skip: int = 0,
    depth: int = 100,
    margin: float | None = 0.95,
    batch_tokens: int = 8192,
    precision: str = "32-true",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Mine the train split of each task under `root` with the model folder `embedder`; returns the report's numbers.

    output  gets <task>.parquet for the loader, and report/<task>.json and .md to read
    tasks   names; None: every task that has a train split
    precision  the model ranks in, see `resolve_precision`
    cache   where features of frozen towers are kept; None decodes every medium
    seed    of the examples that the report prints
    Raises `DataError` where a named task has no train split or there is none at all.
    """
    options = MiningOptions(count, skip, depth, margin)
    readers = train_readers(Path(root), tasks)
    model = Embedder.load(embedder).to(best_device())
    # as training meets long contents, and as the features were kept
    model.processor = model.processor.renewed("truncate")
    if cache is not None:
        attach_features(model, Path(cache))
    ranking = InPrecision(model, precision)
    numbers = {}
    for reader in readers:
        mined = mine(
            ranking, reader, options, match=match_of(reader.task), batch_tokens=batch_tokens, progress=progress
        )
        write_mined(Path(output), reader, mined)
        details = {"model": str(embedder), "match": match_of(reader.task), **asdict(options)}
        numbers[reader.task] = write_report(Path(output) / "report", reader, mined, details, seed=seed)
        if progress:
            kept, queries = numbers[reader.task]["kept"], numbers[reader.task]["queries"]
            console.print(f"{reader.task}: {kept} hard negatives for {queries} queries")
    return numbers


def train_readers(root: Path, tasks: Sequence[str] | None) -> list[ShardReader]:
    """Readers of the train splits of `tasks`, or of all there are."""
    names = sorted(path.parent.name for path in root.glob("*/train.json")) if tasks is None else tasks
    if not names:
        raise DataError(f"{root}: holds no train split; run `commonspace data build`")
    return [ShardReader(root / name, "train") for name in names]


def match_of(task: str) -> str:
    """What counts as correct in a task: as evaluation has it, by concept where evaluation does not know the task."""
    return next((spec.match for spec in SPECS if spec.shard == task), "concept")


def main(config: DictConfig) -> None:
    """`mine_run` by the composed config of the command."""
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    plain: dict[str, Any] = OmegaConf.to_container(own, resolve=True)
    names = ("count", "skip", "depth", "margin", "batch_tokens", "precision", "seed")
    mine_run(
        plain["embedder"],
        Path(plain["paths"]["data"]) / plain["data"]["tier"],
        plain["output"],
        tasks=plain["data"]["tasks"],
        cache=plain["paths"]["cache"] if plain["data"]["features"] else None,
        **{name: plain[name] for name in names},
    )
