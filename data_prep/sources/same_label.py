"""Labelled rows of other sources as triples: a row, one with its label, and one with another label.

As in Gecko's classification sets (arXiv 2403.20327). Answers are drawn from a few examples of each label, so that equal
labels in a batch are often equal content, which the objective's mask leaves out of the negatives (equation 3).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Source
from data_prep.sources import openmoji, recipes, tuxpaint, wiki, wordnet
from data_prep.split import split_of

_NAME = "same-label"
_EXAMPLES = 8  # of a label that answers are drawn from
_FEWEST = 12  # rows of a label
_MOST = 150  # rows of a label that ask
_NO_LABEL = frozenset({"Uncategorized", "symbols", "", "Tops", "extras-openmoji", "extras-unicode"})


@dataclass(frozen=True)
class Example:
    """A row of another source: its key there, its concept, and what is shown of it."""

    key: str
    concept: str
    content: Content


Labelled = Iterable[tuple[str, Example]]


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`same_topic` records of texts and `same_kind` records of pictures."""
    unread: Counter = Counter()  # what these sources leave out is in their own tables
    found: dict[str, tuple[str, Labelled]] = {
        "wiki": ("same_topic", _labelled(wiki.records(folders, unread), "category", answer=True)),
        "recipes": ("same_topic", _labelled(recipes.records(folders, unread), "category", answer=True)),
        "wordnet": ("same_topic", _labelled(wordnet.records(folders, unread), "category", answer=False)),
        "openmoji": ("same_kind", _labelled(openmoji.records(folders, unread), "group", answer=False)),
        "tuxpaint": ("same_kind", _stamps(folders["tuxpaint-stamps-default"] / "usr/share/tuxpaint/stamps")),
    }
    for source, (task, examples) in found.items():
        yield from triples(source, task, examples, drops)


def _labelled(rows: Iterable[Record], field: str, answer: bool) -> Labelled:
    """(label, example): the longer text of an article, else what asks."""
    for row in rows:
        variant = (row.positives if answer else row.queries)[0]
        yield str(row.extra.get(field, "")), Example(row.key, row.concept, variant.content)


def _stamps(root: Path) -> Labelled:
    for path in sorted(root.rglob("*.txt")):
        name = path.relative_to(root).with_suffix("").as_posix()
        try:
            stamp = tuxpaint.read_stamp(root, name)
        except DataError:
            continue
        yield name.split("/")[0], Example(name, stamp.concept, Content(stamp.picture))


def triples(source: str, task: str, examples: Labelled, drops: Counter) -> Iterator[Record]:
    """Triples of the examples that may train, label by label."""
    labels: dict[str, list[Example]] = defaultdict(list)
    for label, example in examples:
        if label in _NO_LABEL or split_of(example.concept) != "train":
            drops["row without a label, on dev or held out"] += 1
        else:
            labels[label].append(example)
    kept = {label: sorted(found, key=_order) for label, found in labels.items() if len(found) >= _FEWEST}
    drops["row of a label with few rows"] += sum(len(found) for label, found in labels.items() if label not in kept)
    for label, found in kept.items():
        asking = found[_EXAMPLES : _EXAMPLES + _MOST]
        drops["further row of a label"] += len(found) - len(asking) - _EXAMPLES
        for example in asking:
            answer = found[_draw(example.key, _EXAMPLES)]
            others = [name for name in kept if name != label]
            other = others[_draw(f"{example.key}/label", len(others))]
            wrong = kept[other][_draw(f"{example.key}/wrong", _EXAMPLES)]
            yield Record(
                key=record_key(_NAME, source, example.key),
                task=task,
                source=_NAME,
                concept=f"label:{source}/{label}",
                queries=(_variant(example),),
                positives=(_variant(answer),),
                negatives=(wrong.content,),
                extra={
                    "label": label,
                    "other_label": other,
                    "members": sorted({example.concept, answer.concept, wrong.concept}),
                },
            )


def _variant(example: Example) -> Variant:
    return Variant(example.content, "en" if example.content.is_text else None)


def _order(example: Example) -> bytes:
    return hashlib.blake2b(example.key.encode(), digest_size=8).digest()


def _draw(name: str, count: int) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % count


_SOURCES = (wiki.SOURCE, recipes.SOURCE, wordnet.SOURCE, openmoji.SOURCES[0], tuxpaint.SOURCE)

SOURCE = Source(
    name=_NAME,
    packages=tuple({package.name: package for source in _SOURCES for package in source.packages}.values()),
    licence="as the sources: " + "; ".join(dict.fromkeys(source.licence for source in _SOURCES)),
    provenance="labels of wiki, recipes, wordnet, openmoji and tuxpaint",
    tiers=frozenset({"full"}),
    records=records,
)
