"""Training rows that hold something an evaluation asks, by its bytes, by its looks or sound, or by its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.quality.nearness import earliest_text, near_image, near_sound, near_text
from data_prep.quality.rules import SIDES, Nearness, exact, prints_of, words_of

LEAST_CHARACTERS = 40  # of a text that by itself tells an item: "A flower." stands in many sets and gives none away
# Concepts of which a part tells none: an icon in documents, the question that a whole task asks beside media.
SHARED = 5
RULES = ("same pair", "same medium", "near picture", "near sound", "same text", "near text", "near vector")
_SHOWN = 20


@dataclass(frozen=True)
class Leaks:
    """reason of each training row, "" where it holds nothing of the evaluation; str objects [N]."""

    reasons: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """{rule: rows}, in the order of the rules."""
        return {rule: int((self.reasons == rule).sum()) for rule in RULES}

    @property
    def found(self) -> bool:
        return bool((self.reasons != "").any())


def find_leaks(train: pa.Table, held: pa.Table, nearness: Nearness, least: int = LEAST_CHARACTERS) -> Leaks:
    """What training rows share with evaluation rows.

    A row counts where any part of any of its variants or negatives is near to any part of any variant of them; texts
    where they have at least `least` characters, shorter ones where the whole pair is the same. What the evaluation has
    as a part alone (a medium in documents of several parts, a text beside others), and that in rows of `SHARED`
    concepts, tells no item; of a text the concepts of training rows that have it so count too.
    """
    reasons = np.full(len(train), "", object)

    def mark(rows: np.ndarray, why: str) -> None:
        found = np.zeros(len(train), bool)
        found[rows] = True
        reasons[found & (reasons == "")] = why

    asked = {tuple(pair) for pair in exact(held).tolist()}
    asked |= {pair[::-1] for pair in asked}
    mark(np.array([tuple(pair) in asked for pair in exact(train).tolist()], bool), "same pair")
    mine, theirs = _things(train, held)
    mark(_same(_media(mine.items), _media(theirs.items)), "same medium")
    image, sound, text = nearness.image, nearness.sound, nearness.text
    if image is not None:
        near = _near(mine, theirs, "image", lambda one, two: near_image(_uint(one), _uint(two), image))
        mark(near, "near picture")
    if sound is not None:
        near = _near(mine, theirs, "sound", lambda one, two: near_sound(prints_of(one), prints_of(two), sound))
        mark(near, "near sound")
    mark(_same(_long(mine.items, least), _long(theirs.items, least), shared_in_training=True), "same text")
    if text is not None:
        mark(_near_words(_long(mine.signals, least), _long(theirs.signals, least), text), "near text")
    return Leaks(reasons)


def told(leaks: Leaks, train: pa.Table, what: str) -> str:
    """The leaks of one split counted, and some of them by key; "" where there are none."""
    if not leaks.found:
        return ""
    counts = ", ".join(f"{rule} {count}" for rule, count in leaks.counts.items() if count)
    keys = np.array(train.column("key").to_pylist(), object)
    shown = [f"  {key} ({why})" for key, why in zip(keys, leaks.reasons, strict=True) if why][:_SHOWN]
    many = int((leaks.reasons != "").sum())
    return "\n".join([f"{what}: {many} training rows hold what the evaluation asks ({counts})", *shown])


@dataclass(frozen=True)
class _Things:
    """What rows hold, one line a thing: the columns of `contained.py`, those of the first variants as further ones, and
    row, concept (a number) and whole.
    """

    items: pa.Table
    signals: pa.Table


def _things(*tables: pa.Table) -> list[_Things]:
    """Of each table; equal concepts have equal numbers in all of them."""
    names = pa.chunked_array([part for table in tables for part in table.column("concept").chunks], pa.string())
    numbers = names.combine_chunks().dictionary_encode().indices.to_numpy()
    ends = np.cumsum([len(table) for table in tables])
    return [
        _Things(_with_concepts(_listed(table, "items"), concepts), _with_concepts(_signals(table), concepts))
        for table, concepts in zip(tables, np.split(numbers, ends[:-1]), strict=True)
    ]


def _with_concepts(things: pa.Table, concepts: np.ndarray) -> pa.Table:
    return things.append_column("concept", pa.array(concepts[things.column("row").to_numpy()]))


def _signals(table: pa.Table) -> pa.Table:
    names, rows = ["kind", "characters", "image", "sound", "words"], pa.array(np.arange(len(table)))
    sides = [pa.table([*(table.column(f"{side}_{name}") for name in names), rows], [*names, "row"]) for side in SIDES]
    found = pa.concat_tables([*sides, _listed(table, "further").select([*names, "row"])])
    whole = np.array(["+" not in kind for kind in found.column("kind").to_pylist()], bool)
    return found.append_column("whole", pa.array(whole))


def _listed(table: pa.Table, name: str) -> pa.Table:
    """The structs of a list column, one a line, with their row."""
    tables, start = [], 0
    for chunk in table.column(name).chunks:
        rows = start + np.repeat(np.arange(len(chunk)), chunk.value_lengths().to_numpy())
        found = pa.Table.from_struct_array(chunk.flatten())
        tables.append(found.append_column("row", pa.array(rows, pa.int64())))
        start += len(chunk)
    empty = pa.schema([*table.schema.field(name).type.value_type, pa.field("row", pa.int64())]).empty_table()
    return pa.concat_tables([empty, *tables])


def _media(items: pa.Table) -> pa.Table:
    return items.filter(pc.field("characters").is_null())


def _long(things: pa.Table, least: int) -> pa.Table:
    """Those of texts of at least so many characters."""
    return things.filter(pc.field("characters") >= least)


def _same(mine: pa.Table, theirs: pa.Table, shared_in_training: bool = False) -> np.ndarray:
    """Rows that hold an item of theirs; with `shared_in_training` concepts of training count for what is shared."""
    ids, asked = mine.column("id").to_numpy(), theirs.column("id").to_numpy()
    more = mine.filter(pa.array(~_whole(mine) & np.isin(ids, asked))) if shared_in_training else mine.slice(0, 0)
    both = pa.concat_tables([theirs, more])
    shared = _shared(both.column("id").to_numpy(), both)[: len(asked)]
    return mine.column("row").to_numpy()[np.isin(ids, asked[~shared])]


Near = Callable[[pa.ChunkedArray, pa.ChunkedArray], np.ndarray]


def _near(mine: _Things, theirs: _Things, name: str, near: Near) -> np.ndarray:
    """Rows of which a signal is near to any of theirs."""
    one, other = (things.signals.filter(things.signals.column(name).is_valid()) for things in (mine, theirs))
    if not len(one) or not len(other):
        return np.zeros(0, np.int64)
    return one.column("row").to_numpy()[near(one.column(name), other.column(name))]


def _near_words(mine: pa.Table, theirs: pa.Table, least: float) -> np.ndarray:
    """Rows of which a text is near to any of theirs, but for what is asked beside media in many rows, near alike."""
    mine, theirs = (things.filter(things.column("words").is_valid()) for things in (mine, theirs))
    if not len(mine) or not len(theirs):
        return np.zeros(0, np.int64)
    beside = np.flatnonzero(~_whole(theirs))
    both = pa.concat_tables([theirs.take(pa.array(beside)), mine.filter(pa.array(~_whole(mine)))])
    keep = np.ones(len(theirs), bool)
    if len(beside):
        shared = _shared(earliest_text(words_of(both.column("words")), least), both)
        keep[beside[shared[: len(beside)]]] = False
    asked = words_of(theirs.filter(pa.array(keep)).column("words"))
    return mine.column("row").to_numpy()[near_text(words_of(mine.column("words")), asked, least)]


def _shared(values_N: np.ndarray, things: pa.Table) -> np.ndarray:
    """bool [N]: whether a thing's value is never whole and stands in rows of `SHARED` concepts or more."""
    _, code = np.unique(values_N, return_inverse=True)
    pairs = np.unique(np.stack([code, things.column("concept").to_numpy()], axis=1), axis=0)
    concepts = np.bincount(pairs[:, 0], minlength=len(code))
    alone = np.bincount(code, weights=_whole(things), minlength=len(code))
    return (concepts[code] >= SHARED) & (alone[code] == 0)


def _whole(things: pa.Table) -> np.ndarray:
    return things.column("whole").to_numpy().astype(bool)


def _uint(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.uint64)


def together(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """One table of several, in their order."""
    return pa.concat_tables(tables) if tables else schema.empty_table()
