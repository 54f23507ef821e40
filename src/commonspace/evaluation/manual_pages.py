"""Manual pages with figures as one content each: does a page find its captions better than its text or its images?

A page is its texts and figures in reading order, put together from the shards: both halves of `document_part` where the
page has them, else `document`. Its captions are those of `image_caption` for figures that stand on it. Two questions,
in three forms of the page (all of it; its text alone; its images alone):

page->captions   the page without any of its captions asks for the set of them, one content
caption->page    one caption asks for its page without that caption; all other pages keep theirs

Queries are of pages with at least `least` captioned figures. Pools hold every page with one, of training too where
asked for: among the few pages of a split the text alone leaves little to find. A caption that several pages have, or
that the rest of its own page repeats, asks nothing and is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from commonspace.content import Content, Document, Image, Text
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.comparison import Compared
from commonspace.evaluation.engine import Embeds, Evaluated, ranks_table
from commonspace.evaluation.intervals import DRAWS, holm, paired_difference
from commonspace.evaluation.ranking import rank_scores
from commonspace.evaluation.relevance import Relevance, normalise
from commonspace.evaluation.results import Scored
from commonspace.evaluation.suite import EvalTask
from commonspace.evaluation.summary import summarise

FOLDER = "pages"  # beside the rows of a tier
FORMS = ("page", "text", "images")
TO_CAPTIONS, TO_PAGE = "page->captions", "caption->page"
_DECIMALS = 7  # as in `ranking`
Parts = tuple[Text | Image, ...]


@dataclass(frozen=True)
class ManualPage:
    """One page: `name` is its concept; captions stand on it in the order of their figures."""

    name: str
    source: str
    parts: Parts
    captions: tuple[str, ...]

    def without(self, captions: Collection[str]) -> Parts:
        """The parts without the lines that are such a caption, or where a text ends its beginning."""
        dropped = {normalise(caption) for caption in captions}
        kept: list[Text | Image] = []
        for part in self.parts:
            if isinstance(part, Text):
                lines = part.text.split("\n")
                lines = [line for line in lines if normalise(line) not in dropped]
                if lines and normalise(lines[-1]) and any(one.startswith(normalise(lines[-1])) for one in dropped):
                    lines = lines[:-1]
                kept += [Text("\n".join(lines))] if "".join(lines).strip() else []
            else:
                kept.append(part)
        return tuple(kept)


def form_of(parts: Parts, form: str) -> Content:
    """A page in one of `FORMS`, as a document."""
    kinds = {"page": (Text, Image), "text": Text, "images": Image}[form]
    return Content(Document(*(part for part in parts if isinstance(part, kinds))))


def read_pages(root: Path, split: str) -> list[ManualPage]:
    """The pages with a captioned figure of a tier's shards, in order of their names."""
    documents = {record.concept: record for record in _records(root, "document", split)}
    parts = {name: _inner(record.positives[0].content) for name, record in documents.items()}
    for record in _records(root, "document_part", split):
        parts[record.concept] = (*_inner(record.queries[0].content), *_inner(record.positives[0].content))
        documents.setdefault(record.concept, record)
    captions: dict[str, dict[int, str]] = {}
    for record in _records(root, "image_caption", split):
        if record.concept in parts:
            text = record.positives[0].content.parts[0]
            captions.setdefault(record.concept, {})[record.queries[0].content.digest()] = getattr(text, "text", "")
    pages = []
    for name in sorted(captions):
        shown = [Content(part).digest() for part in parts[name] if isinstance(part, Image)]
        own = tuple(dict.fromkeys(captions[name][digest] for digest in shown if digest in captions[name]))
        page = ManualPage(name, documents[name].source, parts[name], own)
        if own and any(isinstance(part, Text) for part in page.without(own)):
            pages.append(page)
    return pages


def _records(root: Path, shard: str, split: str) -> Iterator[Record]:
    if not (root / shard / f"{split}.json").exists():
        raise DataError(f"{root / shard}: no {split} split, and pages are made of it; run `commonspace data build`")
    return iter(ShardReader(root / shard, split))


def _inner(content: Content) -> Parts:
    return tuple(inner for part in content.parts if isinstance(part, Document) for inner in part.parts)  # type: ignore[misc]


def evaluate_pages(
    model: Embeds,
    pages: Sequence[ManualPage],
    scored: Scored,
    split: str,
    *,
    others: Sequence[ManualPage] = (),
    least: int = 3,
    draws: int = DRAWS,
) -> tuple[Evaluated, list[Compared]]:
    """Rows and ranks of both questions in all forms, and the page's paired differences from its text and its images.

    `others` are in the pools and ask nothing. Differences are over every query, resampling pages; p values by Holm over
    the four of a metric. Raises DataError where no page has `least` captioned figures.
    """
    asking = [row for row, page in enumerate(pages) if len(page.captions) >= least]
    if not asking:
        raise DataError(f"none of {len(pages)} pages has {least} figures with a caption; nothing to ask")
    embed, pages = _Remembering(model), [*pages, *others]
    tables: dict[tuple[str, str], pd.DataFrame] = {}
    for form in FORMS:
        tables[TO_CAPTIONS, form] = _to_captions(embed, pages, asking, form, scored, split)
        tables[TO_PAGE, form] = _to_page(embed, pages, asking, form, scored, split)
    table = pd.concat(tables.values(), ignore_index=True)
    return Evaluated(summarise(table, scored, draws), table), _compared(tables, scored, draws)


class _Remembering:
    """Vectors by content: a page that stands in both questions is embedded once."""

    def __init__(self, model: Embeds) -> None:
        self.model = model
        self.known: dict[int, np.ndarray] = {}

    def __call__(self, contents: Sequence[Content]) -> torch.Tensor:
        keys = [content.digest() for content in contents]
        missing = {key: content for key, content in zip(keys, contents, strict=True) if key not in self.known}
        if missing:
            self.known.update(zip(missing, self.model.embed(list(missing.values()), progress=True), strict=True))
        return torch.as_tensor(np.stack([self.known[key] for key in keys])).double()


def _to_captions(
    embed: _Remembering, pages: Sequence[ManualPage], asking: Sequence[int], form: str, scored: Scored, split: str
) -> pd.DataFrame:
    sets = [Content("\n".join(page.captions)) for page in pages]
    names = [normalise(" ".join(page.captions)) for page in pages]  # two pages may have the same captions
    queries = [form_of(pages[row].without(pages[row].captions), form) for row in asking]
    asked = [(row, "", names[row]) for row in asking]
    task = _task(TO_CAPTIONS, form, split, pages, asked, queries, sets, names)
    return _ranked(task, embed(queries) @ embed(sets).T, scored)


def _to_page(
    embed: _Remembering, pages: Sequence[ManualPage], asking: Sequence[int], form: str, scored: Scored, split: str
) -> pd.DataFrame:
    pairs = [(row, caption) for row in asking for caption in asked_of(pages, row)]
    if not pairs:
        raise DataError("every caption stands on several pages or in its page's text; none is left to ask for its page")
    queries = [Content(caption) for _, caption in pairs]
    whole = [form_of(page.parts, form) for page in pages]
    query_QE, scores_QG = embed(queries), embed(queries) @ embed(whole).T
    own_QE = embed([form_of(pages[row].without([caption]), form) for row, caption in pairs])
    scores_QG[torch.arange(len(pairs)), torch.tensor([row for row, _ in pairs])] = (query_QE * own_QE).sum(1)
    names = [page.name for page in pages]
    asked = [(row, str(pages[row].captions.index(caption)), names[row]) for row, caption in pairs]
    return _ranked(_task(TO_PAGE, form, split, pages, asked, queries, whole, names), scores_QG, scored)


def asked_of(pages: Sequence[ManualPage], row: int) -> list[str]:
    """The captions of a page that ask for it: those no other page has and the rest of the page does not repeat."""
    held = Counter(normalise(caption) for page in pages for caption in page.captions)
    page = pages[row]
    return [
        caption
        for caption in page.captions
        if held[normalise(caption)] == 1
        and not any(normalise(caption) in normalise(p.text) for p in page.without([caption]) if isinstance(p, Text))
    ]


def _task(
    direction: str,
    form: str,
    split: str,
    pages: Sequence[ManualPage],
    asked: Sequence[tuple[int, str, str]],
    queries: Sequence[Content],
    items: Sequence[Content],
    names: Sequence[str],
) -> EvalTask:
    """The question as any other task; `asked` has of each query the row of its page, its number there, and the name of
    what answers it among `names`, those of the items.
    """
    own = [pages[row] for row, _, _ in asked]
    nowhere = np.zeros(len(asked), np.int64)  # digests are for near-duplicates, which are not looked for here
    return EvalTask(
        name=f"manual_{form}",
        suite=split,
        split=split,
        direction=direction,
        queries=tuple(queries),
        gallery=tuple(items),
        relevance=Relevance.from_labels(
            [{name} for _, _, name in asked], [{name} for name in names], [""] * len(asked), [""] * len(names)
        ),
        keys=tuple(f"{page.name}:{number}" for page, (_, number, _) in zip(own, asked, strict=True)),
        concepts=tuple(page.name for page in own),
        units=tuple(page.name for page in own),
        languages=("en",) * len(asked),
        sources=tuple(page.source for page in own),
        query_groups=("",) * len(asked),
        gallery_groups=("",) * len(names),
        query_digests=nowhere,
        gallery_digests=np.zeros(len(names), np.int64),
        targets=nowhere,
    )


def _ranked(task: EvalTask, scores_QG: torch.Tensor, scored: Scored) -> pd.DataFrame:
    rounded_QG = torch.round(scores_QG, decimals=_DECIMALS)
    ranks = rank_scores(
        lambda queries, items: rounded_QG[queries][:, items], task.relevance, task.query_groups, task.gallery_groups
    )
    return ranks_table(task, ranks, scored, None)


def _compared(tables: dict[tuple[str, str], pd.DataFrame], scored: Scored, draws: int) -> list[Compared]:
    found = []
    for metric in ("MRR@10", "R@1"):
        family = []
        for direction in (TO_CAPTIONS, TO_PAGE):
            whole = tables[direction, "page"]
            for form, words in (("text", "its text alone"), ("images", "its images alone")):
                first, second = (table[metric].to_numpy(np.float64)[None] for table in (whole, tables[direction, form]))
                gap = paired_difference(first, second, whole["concept"].tolist(), draws)
                means = float(first.mean()), float(second.mean())
                family.append(Compared("manual_page", direction, metric, "all", scored.model, words, *means, gap))
        adjusted = holm([one.difference.p for one in family])
        found += [replace(one, p_holm=p) for one, p in zip(family, adjusted, strict=True)]
    return found
