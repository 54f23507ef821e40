"""What the rows of a task are like: some of its own where its shards lie on this disk, else a typical row's sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from commonspace.content import Audio, Content, Image, Video
from commonspace.data.encoding import Processing
from commonspace.data.shards import ShardReader
from commonspace.data.storage import is_remote
from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.processing.pieces import Pieces

PUBLIC = Path(__file__).with_name("public.yaml")
_RATE = 16_000
MODALITIES = ("text", "image", "audio", "video")


@dataclass(frozen=True)
class Rows:
    """A few rows of a task, processed: what a batch of it is made of.

    contents  queries, positives and hard negatives of all of them, one after the other; `count` rows in all
    bytes     of a row in a shard, media included
    records   rows that there are to train on
    negatives hard negatives of a row
    source    where that is known from
    """

    contents: tuple[Pieces, ...]
    count: int
    bytes: float
    records: int
    negatives: float
    source: str

    @property
    def tokens(self) -> float:
        """Tokens of a row: query, positive and negatives."""
        return sum(pieces.tokens for pieces in self.contents) / self.count

    @property
    def tokens_by_modality(self) -> dict[str, float]:
        """Tokens of a row by modality: `Pieces.tokens_by_modality`, in the order text, image, audio, video."""
        counted = [pieces.tokens_by_modality for pieces in self.contents]
        sums = {kind: sum(one.get(kind, 0) for one in counted) / self.count for kind in MODALITIES}
        return {kind: tokens for kind, tokens in sums.items() if tokens}

    @property
    def modalities(self) -> str:
        """What its contents are made of, as "image+text"."""
        return "+".join(sorted({kind for pieces in self.contents for kind in pieces.modalities}))


def rows_of(plain: Mapping[str, Any], task: str, embedder: Embedder, probes: int = 16) -> Rows:
    """Rows of a task as the config's run would take them; ConfigError where nothing tells what they are like."""
    data, most = plain["data"], plain["data"]["negative_count"]
    mined, swapped = bool(data["negatives"]), data["tasks"][task].get("swap", False)
    folder = Path(plain["paths"]["data"]) / data["tier"] / task
    process = embedder.processor.renewed(plain["model"]["on_limit"])  # as training cuts what is too long
    if not is_remote(plain["paths"]["data"]) and (folder / "train.json").is_file():
        return _measured(ShardReader(folder, "train"), process, most * (not swapped), mined, probes, data["limit"])
    public = OmegaConf.to_container(OmegaConf.load(PUBLIC))
    if task not in public:
        raise ConfigError(f"task {task}: no shards in {folder}, and {PUBLIC.name} does not say what its rows are like")
    row = public[task]
    negatives = most if mined else min(most, row.get("negatives", 0)) * (not swapped)
    sides = [_content(row["query"]), *[_content(row["positive"])] * (1 + negatives)]
    made = tuple(process(content) for content in sides)
    return Rows(made, 1, row["bytes"], min(row["records"], data["limit"] or row["records"]), negatives, row["sets"])


def _measured(reader: ShardReader, process: Processing, most: int, mined: bool, probes: int, limit: int | None) -> Rows:
    """Evenly spaced rows of a split, with their hard negatives; a mined one counts as the row's own positive."""
    chosen = np.linspace(0, reader.count - 1, min(probes, reader.count)).astype(int)
    records = [reader.read(int(row)) for row in chosen]
    sides = [(record.queries[0].content, record.positives[0].content) for record in records]
    queries = [process(query) for query, _ in sides]
    positives = [process(positive) for _, positive in sides]
    wrong = [content for record in records for content in record.negatives[:most]]
    lacking = [most - len(record.negatives[:most]) if mined else 0 for record in records]
    given = [process(content) for content in wrong]
    given += [pieces for pieces, count in zip(positives, lacking, strict=True) for _ in range(count)]
    size = sum(shard["bytes"] for shard in reader.shards) / reader.count
    count = min(reader.count, limit or reader.count)
    contents = (*queries, *positives, *given)
    return Rows(contents, len(records), size, count, len(given) / len(records), str(reader.folder))


def _content(parts: Sequence[Mapping[str, Any]]) -> Content:
    """Blank media and words of the sizes that `public.yaml` gives."""
    return Content(*(_part(*next(iter(described.items()))) for described in parts))


def _part(kind: str, size: Any) -> Any:
    if kind == "text":
        return " ".join(["a"] * size)
    if kind == "image":
        return Image(np.zeros((size[1], size[0], 3), np.uint8))
    if kind == "audio":
        return Audio(np.zeros(round(size * _RATE), np.float32), rate=_RATE)
    if kind == "video":
        width, height = size["pixels"]
        return Video(np.zeros((round(2 * size["seconds"]), height, width, 3), np.uint8), fps=2.0)
    raise ConfigError(f"{PUBLIC.name}: {kind!r} is no part of a row; use text, image, audio or video")
