"""One pass over all media of some shards through the frozen towers; what an earlier pass kept is not done again."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from commonspace.data.features import FeatureCache, attach_features
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import ContentError, DataError
from commonspace.processing.media import with_grid
from commonspace.processing.processor import Processor

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)
console = Console(stderr=True)
SPLITS = ("train", "dev", "heldout")


@dataclass
class FeatureReport:
    """What a pass did: features computed, those that were there already, and media that could not be read."""

    computed: int = 0
    known: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass
class _Item:
    """One decoded medium on its way to a tower; `error` stands for one that could not be decoded."""

    key: str
    tower: str
    tokens: int
    value: torch.Tensor | None
    error: str = ""
    grid: tuple[int, int] | None = None


class _Media(Dataset):
    """The media of each record, decoded; each key once per process."""

    def __init__(self, reader: ShardReader, processor: Processor, store: FeatureCache, towers: frozenset[str]) -> None:
        self.reader, self.processor, self.store, self.towers = reader, processor, store, towers
        self.seen: set[str] = set()

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, row: int) -> list[_Item]:
        try:
            return list(self._items(self.reader.read(row), self.reader.source(row)))
        except (DataError, ContentError) as error:
            return [_Item("", "", 0, None, f"{self.reader.source(row)}: {error}")]

    def _items(self, record: Record, source: str) -> list[_Item]:
        contents = [variant.content for variant in (*record.queries, *record.positives)] + list(record.negatives)
        requests = {r.key: r for content in contents if not content.is_text for r in self.processor.requests(content)}
        items = []
        for key, request in requests.items():
            if not key or request.tower not in self.towers or key in self.seen:
                continue
            self.seen.add(key)
            if key in self.store:
                items.append(_Item(key, "", 0, None))
                continue
            try:
                value = request.load()
                grid = request.grid(value) if request.tower == "image" else None
                items.append(_Item(key, request.tower, request.tokens, value, grid=grid))
            except ContentError as error:
                items.append(_Item(key, "", 0, None, f"{source}: {error}"))
        return items


def build_features(
    readers: Sequence[ShardReader],
    processor: Processor,
    towers: Mapping[str, nn.Module],
    store: FeatureCache,
    *,
    workers: int = 0,
    batch: int = 32,
    keep_every: int = 1024,
    progress: bool = True,
) -> FeatureReport:
    """Run each medium of `readers` through its tower ("image" or "audio") and keep the rows in `store`.

    processor   must know the towers' fingerprints (`attach_features`): they are part of the keys
    workers     processes that decode; 0: this one does
    batch       images, or seconds of sound, that go through a tower at once
    keep_every  features between two writes: what an interruption costs at most
    Media that cannot be read are named in the report and left out.
    """
    data = ConcatDataset([_Media(reader, processor, store, frozenset(towers)) for reader in readers])
    loader = DataLoader(data, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    run, report, seen = _Pass(towers, batch), FeatureReport(), set()
    for items in track(loader, "features", total=len(data), console=console, disable=not progress):
        for item in items:
            if item.error:
                report.failed.append(item.error)
                log.warning("no feature: %s", item.error)
            elif item.key not in seen:
                seen.add(item.key)
                report.known += not item.tower
                run.add(item)
        if len(run.done) >= keep_every:
            report.computed += store.put(run.take())
    run.finish()
    report.computed += store.put(run.take())
    return report


class _Pass:
    """Gathers media of one shape until there are enough of them to be worth a forward pass."""

    def __init__(self, towers: Mapping[str, nn.Module], batch: int) -> None:
        self.towers, self.batch = towers, batch
        self.waiting: dict[tuple[str, int, tuple[int, ...]], list[_Item]] = defaultdict(list)
        self.done: dict[str, torch.Tensor] = {}

    def add(self, item: _Item) -> None:
        """Take one medium; runs its group when that is full."""
        if not item.tower:
            return
        if item.value is None:  # nothing there for this tower
            self.done[item.key] = torch.zeros(0, self.towers[item.tower].width)
            return
        group = (item.tower, item.tokens, tuple(item.value.shape[1:]))
        self.waiting[group].append(item)
        seconds = item.value.shape[-1] / 100 if item.tower == "audio" else 0
        size = sum(len(i.value) for i in self.waiting[group]) if not seconds else len(self.waiting[group]) * seconds
        if size >= self.batch:
            self._run(group)

    def finish(self) -> None:
        """Run what is left."""
        for group in list(self.waiting):
            self._run(group)

    def take(self) -> dict[str, torch.Tensor]:
        """What is done since the last call."""
        done, self.done = self.done, {}
        return done

    @torch.no_grad()
    def _run(self, group: tuple[str, int, tuple[int, ...]]) -> None:
        name, tokens, _ = group
        items = self.waiting.pop(group)
        tower = self.towers[name].eval()
        device = next(tower.parameters()).device
        if name == "audio":
            rows = tower(torch.stack([item.value for item in items]).to(device)).cpu()
        else:
            counts = [len(item.value) for item in items]
            tower = tower.to(memory_format=torch.channels_last)  # a third faster on CPUs, the same values
            pixels, grid = torch.cat([item.value for item in items]).to(device), items[0].grid
            flat = tower(pixels, grid or tokens).cpu()
            rows = [with_grid(part.flatten(0, 1), grid) for part in flat.split(counts)]
        self.done.update({item.key: value for item, value in zip(items, rows, strict=True)})


def build_tier(config: DictConfig) -> FeatureReport:
    """The pass over a whole tier, by the composed config of `commonspace data features`."""
    from omegaconf import OmegaConf

    from commonspace.models.build import ModelOptions, build_model, preprocessing_of
    from commonspace.models.device import best_device

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)
    model, cache = plain["model"], Path(plain["paths"]["cache"])
    embedder = build_model(
        ModelOptions.of(model),
        preprocessing_of(model),
        weights=plain["weights"],
        cache=cache,
    ).to(best_device())
    embedder.processor.on_limit = model["on_limit"]
    store = attach_features(embedder, cache)
    readers = tier_readers(Path(plain["paths"]["data"]) / plain["data"]["tier"], plain["data"]["tasks"])
    report = build_features(
        readers, embedder.processor, embedder.backbone.towers(), store, workers=plain["data"]["workers"]
    )
    console.print(
        f"{store.folder}: {len(store)} features, {store.bytes / 1e6:.0f} MB; {report.computed} new, "
        f"{report.known} known, {len(report.failed)} media left out"
    )
    return report


def tier_readers(root: Path, tasks: Sequence[str] | None = None) -> list[ShardReader]:
    """Readers of every split of the named tasks, or of all tasks under `root`.

    Raises `DataError` where a task is named that has no shards, or there are none at all.
    """
    names = (
        sorted({path.parent.name for path in root.glob("*/*.json") if path.stem in SPLITS}) if tasks is None else tasks
    )
    found = [ShardReader(root / name, split) for name in names for split in SPLITS if _exists(root / name, split)]
    if missing := sorted(set(names) - {reader.folder.name for reader in found}):
        raise DataError(f"{root}: no shards of {', '.join(missing)}; run `commonspace data build`")
    if not found:
        raise DataError(f"{root}: holds no shards; run `commonspace data build`")
    return found


def _exists(folder: Path, split: str) -> bool:
    return (folder / f"{split}.json").is_file()


def _as_it_is(items: list[_Item]) -> list[_Item]:
    return items
