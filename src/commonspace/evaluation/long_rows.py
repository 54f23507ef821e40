"""Rows of long inputs on disk: a result row each, and beside it how long contents were taken and what that took."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from commonspace.errors import DataError
from commonspace.evaluation.results import Row, rows_path
from commonspace.evaluation.tables import figure, markdown
from commonspace.files import write_text

FOLDER = "long"  # beside the rows of a tier


@dataclass(frozen=True)
class LongRow:
    """One figure of one method at one length.

    row              as of any evaluation
    method           name in the config of `evaluate long`; what it is: positions, merge_beyond, window, global_every
    axis, asked      "parts" or "tokens", and how many were asked for
    parts, tokens    of the contents, mean, before any limit
    entered          tokens that entered the transformer, mean: after a limit's cut, or after merging
    seconds          of one content alone, from its files to its vector, median
    reference        method that `difference` [value, low, high] is taken against, in pairs over the same queries
    """

    row: Row
    method: str
    positions: str
    merge_beyond: int | None
    window: int | None
    global_every: int | None
    axis: str
    asked: int
    parts: float
    tokens: float
    entered: float
    seconds: float
    reference: str
    difference: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """One flat mapping of plain values, floats rounded."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "row"}
        flat = {**asdict(self.row), **own}
        for name in ("value", "pool", "parts", "tokens", "entered", "seconds"):
            flat[name] = round(flat[name], 6 if name == "value" else 4)
        flat["ci95"] = [round(end, 6) for end in self.row.ci95] if self.row.ci95 is not None else None
        flat["difference"] = [round(value, 6) for value in self.difference]
        return flat

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LongRow:
        """Inverse of `to_json`."""
        names = [field.name for field in fields(Row)]
        row = {name: value[name] for name in names}
        row["ci95"] = tuple(row["ci95"]) if row["ci95"] is not None else None
        own = {name: entry for name, entry in value.items() if name not in names}
        return cls(Row(**row), **{**own, "difference": tuple(own["difference"])})


def write_long(folder: Path, model: str, rows: Iterable[LongRow]) -> Path:
    """Replace a model's rows in `<folder>/long`."""
    lines = [json.dumps(row.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows]
    path = rows_path(folder / FOLDER, model)
    write_text(path, "".join(lines))
    return path


def read_long(folder: Path) -> list[LongRow]:
    """Rows of every model in `<folder>/long`; none where it was never evaluated."""
    rows = []
    for path in sorted((folder / FOLDER).glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                rows.append(LongRow.from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}:{number}: no row of long inputs ({error!r}); evaluate the model again"
                ) from error
    return rows


def long_table(rows: Sequence[LongRow], metric: str = "MRR@10") -> str:
    """Methods by length, parts before tokens; "" without a row."""
    lines = []
    chosen = [row for row in rows if row.row.metric == metric]
    for row in sorted(chosen, key=lambda one: (one.row.model, one.axis, one.asked)):
        value, low, high = row.difference
        gap = "" if row.method == row.reference else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
        length = f"{row.asked} {row.axis}"
        counts = [f"{row.parts:.1f}", f"{row.tokens:.0f}", f"{row.entered:.0f}", f"{row.seconds:.2f}"]
        asked = [str(row.row.queries), f"{row.row.pool:.0f}"]
        lines.append([row.row.model, length, row.method, *counts, *asked, figure(row.row), gap])
    if not lines:
        return ""
    against = chosen[0].reference
    header = ["model", "asked for", "method", "parts", "tokens", "entered", "seconds", "queries", "pool", metric]
    return markdown([*header, f"from {against}"], lines)
