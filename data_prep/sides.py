"""Which side each concept of a tier lies on, so that a larger tier leaves the held-out rows of a smaller one held out.

A picture that a source of the larger tier alone brings may join two concepts of the smaller one, or give one of them
another name. The side of such a group is that of its concepts in the smaller tier: the strictest, where they differ.
"""

from __future__ import annotations

from collections.abc import Iterable

from data_prep.concepts import ConceptMerger
from data_prep.split import Split, split_of

_STRICTNESS: dict[Split, int] = {"train": 0, "dev": 1, "heldout": 2}


class Sides:
    """Joins the concepts of any medium that recurs: one file stays on one side, whatever it is called."""

    def __init__(self) -> None:
        self._all = ConceptMerger()
        self._inner = ConceptMerger()
        self._inner_concepts: set[str] = set()
        self._settled: dict[str, Split] | None = None

    def add(self, concept: str, media_ids: Iterable[int], inner: bool) -> None:
        """Note one row; `inner` where a smaller tier has its source too."""
        media_ids = list(media_ids)
        self._settled = None
        self._all.add(concept, media_ids)
        if inner:
            self._inner.add(concept, media_ids)
            self._inner_concepts.add(concept)

    def of(self, concept: str) -> Split:
        """The side of a concept, once all rows are noted."""
        if self._settled is None:
            self._settled = self._settle()
        group = self._all.canonical(concept)
        return self._settled.get(group) or split_of(group)

    def groups(self) -> list[list[str]]:
        """The joined groups, largest first."""
        return self._all.groups()

    def _settle(self) -> dict[str, Split]:
        found: dict[str, Split] = {}
        for concept in self._inner_concepts:
            group, side = self._all.canonical(concept), split_of(self._inner.canonical(concept))
            found[group] = max(side, found.get(group, side), key=_STRICTNESS.__getitem__)
        return found
