"""Which rows of training are left out, and for which reason: each rule sees what those before it kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from data_prep.quality.nearness import earliest_image, earliest_sound, earliest_text
from data_prep.quality.scripts import fits, share_in

SIDES = ("query", "positive")
_TEXT_PLACES = 64
_HALF = 0.5  # of a text's letters, at least, are in the scripts that are wanted


@dataclass(frozen=True)
class Limits:
    """What a row must keep to; None: anything passes.

    characters       [least, most] of each side's text, where it has one
    least_side       pixels of a picture
    aspect           of a picture, longer side by shorter, at most
    seconds          [least, most] of a sound
    scripts          names of scripts, of which half of a text's letters are
    language_script  a share of a text's letters is in the scripts of the language its row states
    language         (probability, letters): no text of so many letters is, so probably, in another language than stated
    agreement        {task: least cosine of its two sides}, by the model that scored them
    """

    characters: tuple[int, int] | None = None
    least_side: int | None = None
    aspect: float | None = None
    seconds: tuple[float, float] | None = None
    scripts: tuple[str, ...] | None = None
    language_script: bool = True
    language: tuple[float, int] | None = None
    agreement: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Nearness:
    """When two things count as one; None: the rule is not applied.

    image  bits by which perceptual hashes differ at most
    text   estimated share of shingles, at least
    sound  share of agreeing bits of fingerprints, at least
    """

    image: int | None = 6
    text: float | None = 0.8
    sound: float | None = 0.9


def unfit(table: pa.Table, task: str, limits: Limits, scores: np.ndarray | None) -> np.ndarray:
    """The reason why each row is unfit, "" where it is fit; str objects [N]. With `limits.language` the table has the
    columns of `languages.py` too.
    """
    reasons = np.full(len(table), "", object)

    def mark(bad: np.ndarray, why: str) -> None:
        reasons[bad & (reasons == "")] = why

    for side in SIDES:
        mark(_valid(table, f"{side}_broken"), "a medium cannot be read")
        if limits.characters is not None:
            count, has = _numbers(table, f"{side}_characters"), _valid(table, f"{side}_text")
            mark(has & (count < limits.characters[0]), f"text below {limits.characters[0]} characters")
            mark(has & (count > limits.characters[1]), f"text over {limits.characters[1]} characters")
        if limits.least_side is not None:
            mark(_numbers(table, f"{side}_least_side") < limits.least_side, f"picture below {limits.least_side} pixels")
        if limits.aspect is not None:
            mark(_numbers(table, f"{side}_aspect") > limits.aspect, f"picture longer than {limits.aspect} to 1")
        if limits.seconds is not None:
            seconds = _numbers(table, f"{side}_seconds")
            mark(seconds < limits.seconds[0], f"sound below {limits.seconds[0]} s")
            mark(seconds > limits.seconds[1], f"sound over {limits.seconds[1]} s")
        if limits.scripts is not None:
            shares = [share_in(letters, limits.scripts) for letters in _letters(table, side)]
            mark(np.array(shares) < _HALF, "other script")
        if limits.language_script and side == "positive":
            pairs = zip(table.column("language").to_pylist(), _letters(table, side), strict=True)
            mark(np.array([not fits(*pair) for pair in pairs], bool), "text not in a script of its language")
        if limits.language is not None:
            least, letters = limits.language
            heard = (_numbers(table, f"{side}_share") >= least) & (_numbers(table, f"{side}_letters") >= letters)
            mark(heard, "text in another language than stated")
    if scores is not None and task in limits.agreement:
        mark(scores < limits.agreement[task], f"sides agree below {limits.agreement[task]}")
    return reasons


def exact(table: pa.Table) -> np.ndarray:
    """int64 [N, 2]: digests of both sides."""
    return np.stack([table.column(f"{side}_id").to_numpy() for side in SIDES], axis=1)


def repeated(pairs_N2: np.ndarray) -> np.ndarray:
    """bool [N]: whether a pair came before."""
    pairs = np.ascontiguousarray(pairs_N2).view([("query", np.int64), ("positive", np.int64)]).ravel()
    _, first = np.unique(pairs, return_index=True)
    again = np.ones(len(pairs), bool)
    again[first] = False
    return again


def same(table: pa.Table, nearness: Nearness) -> np.ndarray:
    """int64 [N, 2]: for each side a number that near sides share. One of several parts is near where all of them are.

    Documents of several parts and clips are compared by their bytes, short texts as they read.
    """
    return np.stack([_same_side(table, side, nearness) for side in SIDES], axis=1)


def _same_side(table: pa.Table, side: str, nearness: Nearness) -> np.ndarray:
    count = len(table)
    whole = _first(table.column(f"{side}_id").to_numpy())
    pieces = []
    kinds = table.column(f"{side}_kind").to_pylist()
    by_parts = np.array([not ("video" in kind or "document" in kind) for kind in kinds], bool)
    image, sound, text = (_valid(table, f"{side}_{name}") for name in ("image", "sound", "text"))
    by_parts |= image & ~text  # a page that is one picture
    for has, of in ((image, _images), (sound, _sounds), (text, _texts)):
        number = np.full(count, -1, np.int64)
        if has.any():
            number[has] = of(table.filter(pa.array(has)), side, nearness)
        pieces.append(number)
    grouped = np.unique(np.stack(pieces, axis=1), axis=0, return_inverse=True)[1].ravel()
    return np.where(by_parts & (image | sound | text), grouped, count + whole)


def _images(table: pa.Table, side: str, nearness: Nearness) -> np.ndarray:
    if nearness.image is None:
        return _first(table.column(f"{side}_id").to_numpy())
    return earliest_image(table.column(f"{side}_image").to_numpy(), nearness.image)


def _sounds(table: pa.Table, side: str, nearness: Nearness) -> np.ndarray:
    if nearness.sound is None:
        return _first(table.column(f"{side}_id").to_numpy())
    return earliest_sound(prints_of(table.column(f"{side}_sound")), nearness.sound)


def _texts(table: pa.Table, side: str, nearness: Nearness) -> np.ndarray:
    number = _first(table.column(f"{side}_text").to_numpy())
    long = _valid(table, f"{side}_words")
    if nearness.text is not None and long.any():
        rows = np.flatnonzero(long)
        number[rows] = rows[
            earliest_text(words_of(table.column(f"{side}_words").filter(pa.array(long))), nearness.text)
        ]
    return number


def words_of(column: pa.ChunkedArray) -> np.ndarray:
    """MinHash signatures, uint32 [N, 64]; no null."""
    return np.frombuffer(b"".join(column.to_pylist()), np.uint32).reshape(-1, _TEXT_PLACES)


def prints_of(column: pa.ChunkedArray) -> list[np.ndarray]:
    """Audio fingerprints, int8 [T, 16] each; no null."""
    return [np.frombuffer(data, np.int8).reshape(-1, 16).copy() for data in column.to_pylist()]


def _first(values: np.ndarray) -> np.ndarray:
    """int64 [N]: where each value first came."""
    _, first, back = np.unique(values, return_index=True, return_inverse=True)
    return first[back].astype(np.int64)


def _valid(table: pa.Table, column: str) -> np.ndarray:
    return table.column(column).is_valid().to_numpy()


def _letters(table: pa.Table, side: str) -> list[dict[str, int]]:
    """Letters by script of each row, none where it has no text."""
    return [dict(pairs or ()) for pairs in table.column(f"{side}_scripts").to_pylist()]


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    """float64 [N], NaN for null: it is neither below nor above anything."""
    return table.column(column).cast(pa.float64()).to_numpy(zero_copy_only=False)


def tally(reasons: Sequence[str]) -> dict[str, int]:
    """{reason: rows}, most first; fit rows are not counted."""
    names, counts = np.unique([reason for reason in reasons if reason], return_counts=True)
    return {str(name): int(count) for count, name in sorted(zip(counts, names, strict=True), reverse=True)}
