"""Which gallery items answer a query: sparse, and decided by labels, never by position.

A query and an item match when they share a label. Labels are made of the concept, or of the pair where a concept is a
container of many things (a page, a module, a mesh family), and always of the normalised text on either side: two
stamps captioned "A flower." answer each other's captions, whoever drew them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from commonspace.content import Content, Text
from commonspace.data.sample import Record

Match = Literal["concept", "pair", "relation"]
_SPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    """NFKC, casefold, whitespace squeezed: the form in which two texts count as the same."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def name_of(content: Content) -> str | None:
    """The normalised text of a content that is nothing but text, else None."""
    if not content.is_text:
        return None
    return normalise(" ".join(part.text for part in content.parts if isinstance(part, Text))) or None


def labels_of(record: Record, query: Content, positive: Content, match: Match) -> frozenset[str]:
    """The labels of one pair, given to both of its sides.

    concept   anything of the same concept answers
    pair      only the record's own partner answers
    relation  the same concept under the same words of the query ("French", "scientific name")
    In all three a text that reads the same answers too.
    """
    if match == "concept":
        own = f"concept:{record.concept}"
    elif match == "pair":
        own = f"pair:{record.source}:{record.key}"
    else:
        words = " ".join(part.text for part in query.parts if isinstance(part, Text))
        own = f"relation:{record.concept}:{normalise(words)}"
    names = (name_of(query), name_of(positive))
    return frozenset({own, *(f"name:{name}" for name in names if name)})


@dataclass(frozen=True)
class Relevance:
    """For each query the sorted rows of its correct gallery items, in compressed rows.

    starts int64 [Q + 1], items int64 [pairs]: query q is answered by items[starts[q]:starts[q + 1]].
    """

    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def from_labels(
        cls,
        query_labels: Sequence[Collection[str]],
        item_labels: Sequence[Collection[str]],
        query_groups: Sequence[str],
        item_groups: Sequence[str],
    ) -> Relevance:
        """Match queries and items that share a label and a group."""
        holders: dict[tuple[str, str], list[int]] = {}
        for row, (labels, group) in enumerate(zip(item_labels, item_groups, strict=True)):
            for label in labels:
                holders.setdefault((group, label), []).append(row)
        found = [
            sorted({row for label in labels for row in holders.get((group, label), ())})
            for labels, group in zip(query_labels, query_groups, strict=True)
        ]
        starts = np.concatenate([[0], np.cumsum([len(rows) for rows in found])]).astype(np.int64)
        return cls(starts, np.array([row for rows in found for row in rows], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, query: int) -> np.ndarray:
        """Rows of the correct items of one query, int64."""
        return self.items[self.starts[query] : self.starts[query + 1]]

    @property
    def counts(self) -> np.ndarray:
        """Correct items of each query, int64 [Q]."""
        return np.diff(self.starts)

    def select(self, queries: np.ndarray) -> Relevance:
        """The same for some of the queries, given as rows."""
        chosen = [self.of(int(query)) for query in queries]
        starts = np.concatenate([[0], np.cumsum([len(rows) for rows in chosen])]).astype(np.int64)
        items = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        return Relevance(starts, items.astype(np.int64))


def one_per_unit(units: Sequence[str], keys: Sequence[str], keep: np.ndarray) -> np.ndarray:
    """Of the queries where `keep` is true, one per unit, as a mask [Q]: the one whose key hashes lowest.

    The hash has nothing to do with order, length or language, and the choice stays when other units come or go.
    """
    best: dict[str, tuple[bytes, int]] = {}
    for row in np.flatnonzero(keep):
        unit = units[row]
        rank = hashlib.blake2b(f"{unit}\0{keys[row]}".encode(), digest_size=8).digest()
        if unit not in best or (rank, int(row)) < best[unit]:
            best[unit] = (rank, int(row))
    chosen = np.zeros(len(units), dtype=bool)
    chosen[[row for _, row in best.values()]] = True
    return chosen
