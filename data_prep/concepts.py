"""Concepts that turn out to be one: two names of the same picture, sound or clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from data_prep.split import is_fixed


class ConceptMerger:
    """Joins the concepts of rows that share a medium, byte for byte.

    Texts join nothing: "Click Next." stands on many pages, and would make one concept of a whole manual.
    """

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._first: dict[int, str] = {}

    def add(self, concept: str, media_ids: Iterable[int]) -> None:
        """Note one row: its concept, and the digests of its sides that hold media."""
        for number in media_ids:
            other = self._first.setdefault(number, concept)
            if other != concept:
                self._join(self._root(other), self._root(concept))

    def canonical(self, concept: str) -> str:
        """The name that stands for all of a joined group: a mesh family where there is one, else the shortest."""
        return self._root(concept)

    def groups(self) -> list[list[str]]:
        """The joined groups, largest first."""
        found: dict[str, list[str]] = defaultdict(list)
        for concept in self._parents:
            found[self._root(concept)].append(concept)
        return sorted((sorted({root, *names}) for root, names in found.items()), key=lambda names: (-len(names), names))

    def _root(self, concept: str) -> str:
        while (parent := self._parents.get(concept, concept)) != concept:
            self._parents[concept] = self._parents.get(parent, parent)
            concept = parent
        return concept

    def _join(self, one: str, other: str) -> None:
        # the name does not depend on the order of rows: the best of a group is the best of its two halves
        best, worse = sorted((one, other), key=lambda name: (not is_fixed(name), len(name), name))
        if best != worse:
            self._parents[worse] = best
