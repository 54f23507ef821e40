"""Training rows that hold something an evaluation asks, by its bytes, by its looks or sound, or by its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_prep.quality.nearness import near_image, near_sound, near_text
from data_prep.quality.rules import SIDES, Nearness, exact, prints_of, words_of

LEAST_CHARACTERS = 40  # of a text that by itself tells an item: "A flower." stands in many sets and gives none away
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

    A row counts where either side of it is near to either side of any of them; texts where they have at least `least`
    characters, shorter ones where the whole pair is the same.
    """
    reasons = np.full(len(train), "", object)

    def mark(rows: np.ndarray, why: str) -> None:
        reasons[rows & (reasons == "")] = why

    asked = {tuple(pair) for pair in exact(held).tolist()}
    asked |= {pair[::-1] for pair in asked}
    mark(np.array([tuple(pair) in asked for pair in exact(train).tolist()], bool), "same pair")
    media = np.concatenate([_media(held, side) for side in SIDES])
    for side in SIDES:
        mark(np.isin(train.column(f"{side}_id").to_numpy(), media) & _has_media(train, side), "same medium")
    image, sound, text = nearness.image, nearness.sound, nearness.text
    if image is not None:
        mark(_near(train, held, "image", lambda one, two: near_image(_uint(one), _uint(two), image)), "near picture")
    if sound is not None:
        near = _near(train, held, "sound", lambda one, two: near_sound(prints_of(one), prints_of(two), sound))
        mark(near, "near sound")
    mark(_near(train, held, "text", lambda one, two: np.isin(one.to_numpy(), two.to_numpy()), least), "same text")
    if text is not None:
        near = _near(train, held, "words", lambda one, two: near_text(words_of(one), words_of(two), text), least)
        mark(near, "near text")
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


Near = Callable[[pa.ChunkedArray, pa.ChunkedArray], np.ndarray]


def _near(train: pa.Table, held: pa.Table, name: str, near: Near, least: int = 0) -> np.ndarray:
    """bool [N]: rows of which a side's signal is near to any of either side of the others."""
    theirs = pa.chunked_array(
        [_signals(held, side, name, least)[0] for side in SIDES], held.schema.field(f"query_{name}").type
    )
    found = np.zeros(len(train), bool)
    for side in SIDES:
        mine, rows = _signals(train, side, name, least)
        if len(mine) and len(theirs):
            found[rows[near(pa.chunked_array([mine]), theirs)]] = True
    return found


def _signals(table: pa.Table, side: str, name: str, least: int) -> tuple[pa.Array, np.ndarray]:
    """The signals that a side has, and in which rows; of texts those of at least so many characters."""
    column = table.column(f"{side}_{name}").combine_chunks()
    keep = column.is_valid().to_numpy(zero_copy_only=False)
    if least:
        keep = keep & (table.column(f"{side}_characters").to_numpy() >= least)
    return column.filter(pa.array(keep)), np.flatnonzero(keep)


def _uint(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.uint64)


def _has_media(table: pa.Table, side: str) -> np.ndarray:
    return np.array([kind != "text" for kind in table.column(f"{side}_kind").to_pylist()], bool)


def _media(table: pa.Table, side: str) -> np.ndarray:
    return table.column(f"{side}_id").to_numpy()[_has_media(table, side)]


def together(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """One table of several, in their order."""
    return pa.concat_tables(tables) if tables else schema.empty_table()
