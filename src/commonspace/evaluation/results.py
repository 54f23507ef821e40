"""Result rows on disk: one JSON line per figure, and beside them the ranks per query by which models are compared.

`docs/results/<tier>/<model>.jsonl` holds rows; `<model>.ranks.parquet` beside it (ignored by git) holds one line per
query, size and seed. Both are replaced whole, never appended to: a second evaluation cannot leave rows of the first.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from commonspace.errors import DataError
from commonspace.files import replaced, write_text
from commonspace.tracking.state import snapshot_state

FLOAT = "float32"  # of the vectors that headlines, tables and comparisons are of


@dataclass(frozen=True)
class Scored:
    """What was evaluated, and how: the part of a row that is the same for all figures of one evaluation.

    model          name of the file and of the table column, "soup_greedy"
    stage          pretrain, finetune, soup, baseline ...
    seed           of its training; None where nothing is random
    precision      of the embeddings, "float32"; of rows beside those, a form of `quantised.FORMS`
    prefix_policy  which contents of text alone take their task's prefix: "none", "query", or both sides ("task")
    run_id         of the tracked run that trained it
    commit         of the code that evaluated
    command        that makes these rows again
    """

    model: str
    stage: str
    seed: int | None = None
    precision: str = FLOAT
    prefix_policy: str = "none"
    run_id: str | None = None
    commit: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class Row:
    """One figure with everything needed to read it and to make it again.

    suite     heldout | dev: one query a concept, as headlines use. <suite>_every_query: all of them
    subset    all | no_near_duplicates
    language  of the queries kept; "all" where several are mixed
    source    of the queries kept; "all"
    ci95      low and high, or None where nothing is sampled (chance)
    pool      gallery items a query is ranked against (mean over queries where pools differ)
    dim       Matryoshka size; None for scores that are no embeddings (BM25, chance)
    """

    suite: str
    task: str
    direction: str
    split: str
    subset: str
    language: str
    source: str
    metric: str
    value: float
    ci95: tuple[float, float] | None
    queries: int
    pool: float
    dim: int | None
    precision: str
    prefix_policy: str
    model: str
    stage: str
    seed: int | None
    run_id: str | None
    commit: str | None
    command: str | None


def rows_path(folder: Path, model: str) -> Path:
    """Where a model's rows lie."""
    return folder / f"{model}.jsonl"


def ranks_path(folder: Path, model: str) -> Path:
    """Where a model's ranks per query lie."""
    return folder / f"{model}.ranks.parquet"


def write_rows(folder: Path, model: str, rows: Iterable[Row]) -> Path:
    """Replace a model's rows. Floats are rounded to 6 digits, so that equal results are equal files."""
    lines = []
    for row in rows:
        if row.model != model:
            raise DataError(f"a row of model {row.model!r} cannot go to the file of {model!r}")
        value = asdict(row)
        value["value"] = round(row.value, 6)
        value["pool"] = round(row.pool, 2)
        value["ci95"] = [round(end, 6) for end in row.ci95] if row.ci95 is not None else None
        lines.append(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    path = rows_path(folder, model)
    write_text(path, "".join(line + "\n" for line in lines))
    return path


def read_rows(path: Path) -> list[Row]:
    """Rows of one file; DataError names the line that is no row."""
    names = {field.name for field in fields(Row)}
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            value = json.loads(line)
            if set(value) != names:
                raise ValueError(f"fields differ: {sorted(set(value) ^ names)}")
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a result row ({error}); evaluate the model again") from error
        value["ci95"] = tuple(value["ci95"]) if value["ci95"] is not None else None
        rows.append(Row(**value))
    return rows


def read_all(folder: Path) -> list[Row]:
    """Rows of every model evaluated in a tier, models in order of name."""
    return [row for path in sorted(folder.glob("*.jsonl")) for row in read_rows(path)]


def write_ranks(folder: Path, model: str, table: pd.DataFrame) -> Path:
    """Replace a model's ranks per query."""
    path = ranks_path(folder, model)
    with replaced(path) as partial:
        table.to_parquet(partial, index=False)
    return path


def read_ranks(folder: Path, model: str) -> pd.DataFrame:
    """A model's ranks per query; DataError where it was never evaluated on this machine."""
    path = ranks_path(folder, model)
    if not path.exists():
        raise DataError(f"{path}: no ranks of {model!r}; they are not in git: evaluate the model again")
    return pd.read_parquet(path)


def write_geometry(folder: Path, model: str, figures: Mapping[str, Mapping[str, float]]) -> Path:
    """Replace a model's figures of geometry, {measure: {modality, pair or task: value}}."""
    path = folder / f"{model}.geometry.json"
    rounded = {measure: {name: round(value, 5) for name, value in some.items()} for measure, some in figures.items()}
    write_text(path, json.dumps(rounded, indent=1, ensure_ascii=False) + "\n")
    return path


def read_geometry(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of every model that has some, {model: {measure: {name: value}}}."""
    paths = sorted(folder.glob("*.geometry.json"))
    return {path.name.removesuffix(".geometry.json"): json.loads(path.read_text()) for path in paths}


# What decides a figure; not the results and notes that a recipe's own run changes.
DECIDES = tuple(f":(top){name}" for name in ("src", "configs", "data_prep", "pyproject.toml", "requirements.lock"))


def current_commit(folder: Path | None = None) -> str | None:
    """Short commit of the working tree, with "+" where what decides a figure has changes; None outside git."""
    where = folder or Path(__file__).parent
    if folder is None and (taken := snapshot_state(Path(__file__).resolve().parents[3])) is not None:
        return taken["short"]
    try:
        sha = _git(where, "rev-parse", "--short=12", "HEAD").strip()
        changed = _git(where, "status", "--porcelain", "--untracked-files=no", "--", *DECIDES).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return sha + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(folder), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
