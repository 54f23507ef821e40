"""`commonspace evaluate long`: retrieval quality and cost against parts and tokens, by what long contents meet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track

from commonspace.config_values import resolved
from commonspace.content import Image, Text
from commonspace.data.features import attach_features
from commonspace.errors import ConfigError
from commonspace.evaluation import report
from commonspace.evaluation.engine import ranks_table
from commonspace.evaluation.intervals import DRAWS, paired_difference
from commonspace.evaluation.long_inputs import (
    LongContent,
    Size,
    TitledPage,
    check_reads_pages,
    long_content,
    read_titled,
)
from commonspace.evaluation.long_rows import LongRow, write_long
from commonspace.evaluation.ranking import rank_relevant
from commonspace.evaluation.relevance import Relevance, name_of
from commonspace.evaluation.results import Scored
from commonspace.evaluation.run import scored_folder
from commonspace.evaluation.suite import EvalTask
from commonspace.evaluation.summary import summarise
from commonspace.models.backbones.merging import entering
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.models.precision import InPrecision
from commonspace.tracking.lineage import write_evaluation_lineage

if TYPE_CHECKING:
    from omegaconf import DictConfig

SOURCES = ("gimp", "gnome")
PROMPT = "search result"  # as titles ask for documents in the held-out suite
METRICS = ("R@1", "MRR@10")
console = Console()


@dataclass(frozen=True)
class Method:
    """What contents beyond the backbone's positions meet; "limit" without merging cuts them to those positions."""

    name: str
    positions: str = "limit"
    merge_beyond: int | None = None
    window: int | None = None
    global_every: int | None = None

    def apply(self, model: Embedder, longest: int, images: int, own_limit: int) -> None:
        """Set the model to it, for contents of up to `longest` tokens and `images` images."""
        most = own_limit if (self.positions, self.merge_beyond) == ("limit", None) else longest
        numbers = {"max_tokens": most, "max_text_tokens": most, "max_images": images}
        positions = None if self.positions == "limit" else longest
        model.set_lengths(self.positions, positions, self.merge_beyond, self.window, self.global_every, **numbers)


@dataclass(frozen=True)
class Taken:
    """Contents of one length, taken by one method: vectors [N, E], and of each its entered tokens and seconds."""

    vector_NE: torch.Tensor
    entered: list[int]
    seconds: list[float]


def main(config: DictConfig) -> None:
    """Evaluate the folder `config.embedder`; on held-out the tier's report is made anew."""
    plain = resolved(config)
    folder, data, output = Path(plain["embedder"]), plain["data"], Path(plain["output"])
    methods = methods_of(plain["methods"], plain["reference"])
    model = Embedder.load(folder).to(best_device())
    check_reads_pages(model, folder)
    model.processor = model.processor.renewed("truncate")
    if data["features"]:
        attach_features(model, Path(plain["paths"]["cache"]))
    root = Path(plain["paths"]["data"]) / data["tier"]
    pages = read_titled(root, data["split"], SOURCES, plain["pages"])
    others = read_titled(root, "train", SOURCES)
    rows = list(
        evaluate_long(
            InPrecision(model, plain["precision"]), pages, others, scored_folder(folder, plain["name"]), data["split"],
            methods=methods, reference=plain["reference"], lengths={name: plain[name] for name in ("parts", "tokens")},
            draws=plain["bootstrap"],
        )
    )  # fmt: skip
    path = write_long(output, rows[0].row.model, rows)
    write_evaluation_lineage(path, folder, detail={"split": data["split"], "suite": "long"})
    console.print(f"{path}: {len(rows)} rows", soft_wrap=True)
    if data["split"] == "heldout" and report.models(output):
        report.write(output, Path(plain["paths"]["docs"]))


def methods_of(options: Mapping[str, Mapping[str, Any]], reference: str) -> list[Method]:
    """The methods of a config; ConfigError for an unknown option and for a reference that is none of them."""
    if reference not in options:
        raise ConfigError(f"reference={reference!r} is none of the methods {', '.join(options)}")
    for name, given in options.items():
        known = [field.name for field in fields(Method) if field.name != "name"]
        if unknown := set(given) - set(known):
            raise ConfigError(f"methods.{name}: {', '.join(sorted(unknown))} is no option; use {', '.join(known)}")
    return [Method(name, **given) for name, given in options.items()]


def check_methods(model: Embedder, methods: Sequence[Method], longest: int, own_limit: int) -> None:
    """ConfigError names a method that the model's backbone cannot run; all are tried, and nothing is embedded."""
    for method in methods:
        try:
            method.apply(model, longest, 1, own_limit)
        except ConfigError as error:
            raise ConfigError(
                f"methods.{method.name}: a {model.backbone.name} cannot run it; leave it out by ~methods.{method.name} "
                f"({error})"
            ) from error


def evaluate_long(
    model: InPrecision,
    pages: Sequence[TitledPage],
    others: Sequence[TitledPage],
    scored: Scored,
    split: str,
    *,
    methods: Sequence[Method],
    reference: str,
    lengths: Mapping[str, Sequence[int]],
    draws: int = DRAWS,
) -> Iterator[LongRow]:
    """Rows of every length by every method. `lengths` has numbers of "parts" and of "tokens"."""
    embedder = model.model
    size, own_limit = size_of(embedder), embedder.processor.preprocessing.max_tokens
    longest = max(embedder.backbone.max_tokens + 1, *lengths["tokens"], *(_ROOM * most for most in lengths["parts"]))
    check_methods(embedder, methods, longest, own_limit)
    query_QE = torch.as_tensor(model.embed([page.title for page in pages], task=PROMPT, role="query"))
    for axis in ("parts", "tokens"):
        for asked in lengths[axis]:
            made = [long_content(page, others, size, **{axis: asked}) for page in pages]
            images = max(sum(isinstance(p, Image) for d in one.content.parts for p in d.parts) for one in made)
            tables: dict[str, tuple[Method, Taken, pd.DataFrame]] = {}
            for method in methods:
                method.apply(embedder, longest, max(images, 1), own_limit)
                taken = take(model, made, f"{asked} {axis}, {method.name}")
                tables[method.name] = method, taken, _table(pages, made, query_QE, taken.vector_NE, scored, split)
            yield from _rows(tables, made, axis, asked, reference, scored, draws)


_ROOM = 300  # tokens that a part of a page may have: pages are cut to about 250 when shards are built


def size_of(embedder: Embedder) -> Size:
    """Tokens of a part in a document, its marks included."""
    processor = embedder.processor
    image = processor.preprocessing.document_grid**2 + 2
    return lambda part: len(processor.tokenizer.ids(part.text)) if isinstance(part, Text) else image


def take(model: InPrecision, made: Sequence[LongContent], words: str) -> Taken:
    """Every content alone, timed from its files to its vector; the first one once before, untimed."""
    embedder, vectors, entered, seconds = model.model, [], [], []
    for number, one in enumerate(chain(made[:1], track(made, description=words))):
        started = time.perf_counter()
        pieces = embedder.processor(one.content)
        with torch.autocast(embedder.device.type, torch.bfloat16, enabled=model.bf16):
            vector_1E = embedder.embed_pieces([pieces])
        if number:
            seconds.append(time.perf_counter() - started)
            vectors.append(vector_1E)
            entered.append(entering(pieces, embedder.backbone.merge_beyond).tokens)
    return Taken(torch.cat(vectors), entered, seconds)


def _table(
    pages: Sequence[TitledPage],
    made: Sequence[LongContent],
    query_QE: torch.Tensor,
    item_GE: torch.Tensor,
    scored: Scored,
    split: str,
) -> pd.DataFrame:
    names = [{name_of(page.title) or page.key} for page in pages]  # a title that two pages have asks for either
    nowhere, one = np.zeros(len(pages), np.int64), ("",) * len(pages)
    task = EvalTask(
        name="long",
        suite=split,
        split=split,
        direction="title->pages",
        queries=tuple(page.title for page in pages),
        gallery=tuple(item.content for item in made),
        relevance=Relevance.from_labels(names, names, one, one),
        keys=tuple(page.key for page in pages),
        concepts=tuple(page.concept for page in pages),
        units=tuple(page.concept for page in pages),
        languages=("en",) * len(pages),
        sources=tuple(page.source for page in pages),
        query_groups=one,
        gallery_groups=one,
        query_digests=nowhere,
        gallery_digests=nowhere,
        targets=nowhere,
        prompt=PROMPT,
    )
    return ranks_table(task, rank_relevant(query_QE, item_GE, task.relevance), scored, item_GE.shape[1])


def _rows(
    tables: Mapping[str, tuple[Method, Taken, pd.DataFrame]],
    made: Sequence[LongContent],
    axis: str,
    asked: int,
    reference: str,
    scored: Scored,
    draws: int,
) -> Iterator[LongRow]:
    base = tables[reference][2]
    for name, (method, taken, table) in tables.items():
        for row in summarise(table, scored, draws):
            if row.metric not in METRICS or row.source != "all":
                continue
            first, second = (one[row.metric].to_numpy(np.float64)[None] for one in (table, base))
            gap = paired_difference(first, second, table["concept"].tolist(), draws)
            yield LongRow(
                row, name, method.positions, method.merge_beyond, method.window, method.global_every, axis, asked,
                parts=float(np.mean([one.parts for one in made])), tokens=float(np.mean([one.tokens for one in made])),
                entered=float(np.mean(taken.entered)), seconds=float(np.median(taken.seconds)),
                reference=reference, difference=(gap.value, gap.low, gap.high),
            )  # fmt: skip
