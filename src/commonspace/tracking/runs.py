"""`commonspace runs`: what ran on this disk, from the logs alone: listed, filtered, compared, drawn."""

from __future__ import annotations

import argparse
import json
import operator
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from commonspace.errors import ConfigError
from commonspace.tracking.draw import Curve, draw
from commonspace.tracking.reader import Run, read_runs

_NO_SETTING = ("run", "arithmetic", "data_fingerprints", "init_fingerprint", "paths", "output", "logger")
_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


def main(arguments: Sequence[str]) -> int:
    """List runs: `commonspace runs [FOLDER] [name=soup stage.temperature<=0.05 ...] [--show KEY ...] [--json]`."""
    options = _parser().parse_intermixed_args(list(arguments))
    if options.lineage:
        return _print_lineage(options.lineage)
    conditions = [word for word in options.words if any(sign in word for sign in _COMPARE)]
    folders = [word for word in options.words if word not in conditions] or ["runs"]
    runs = [run for folder in folders for run in read_runs(folder) if all(matches(run, c) for c in conditions)]
    if options.table:
        rows = table_rows(runs, options.table)
    else:
        rows = differences(runs, options.show) if options.compare else [row(run, options.show) for run in runs]
    if options.json:
        sys.stdout.writelines(json.dumps(each, default=str) + "\n" for each in rows)
    else:
        _print(rows)
        for key in options.draw:
            _print_chart(runs, key)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("commonspace runs", description="List the runs below a folder, no server needed.")
    parser.add_argument(
        "words", nargs="*", help="a folder (default: runs), then conditions such as stage.name=pretrain"
    )
    parser.add_argument("--show", nargs="+", default=["train/loss"], metavar="KEY", help="config keys or last metrics")
    parser.add_argument("--compare", action="store_true", help="a line for each config key in which the runs differ")
    parser.add_argument("--draw", nargs="+", default=[], metavar="KEY", help="metrics as curves over the steps")
    parser.add_argument("--table", metavar="KEY", help="rows of a table that runs logged, such as mixture/schedule")
    parser.add_argument("--lineage", metavar="FOLDER", help="what a model folder or FILE.lineage.json was made of")
    parser.add_argument("--json", action="store_true", help="JSON lines in place of a table")
    return parser


def differences(runs: Sequence[Run], show: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each config key in which runs differ, then one for each key of `show`; a column a run, by name or id.

    What was measured of a run (`run`, `arithmetic`, fingerprints) is no setting and is left out, as are its folders.
    """
    names = [run.name for run in runs]
    columns = [run.name if names.count(run.name) == 1 else run.run_id for run in runs]
    settings = [dict(_flat({k: v for k, v in run.config.items() if k not in _NO_SETTING})) for run in runs]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    rows = []
    for key in keys:
        values = [each.get(key) for each in settings]
        if any(value != values[0] for value in values[1:]):
            rows.append({"key": key, **dict(zip(columns, values, strict=True))})
    return rows + [{"key": k, **{c: lookup(run, k) for c, run in zip(columns, runs, strict=True)}} for k in show]


def table_rows(runs: Sequence[Run], key: str) -> list[dict[str, Any]]:
    """Rows of the W&B table that each run logged under a key, with the run's name; runs without it have none."""
    known = [run for run in runs if f"{key}/path" in run.history]
    return [{"run": run.name, **each} for run in known for each in run.table(key).to_dict("records")]


def curves(runs: Sequence[Run], key: str) -> list[Curve]:
    """A metric of each run over its steps; runs that never logged it have no curve."""
    found = []
    for run in runs:
        if key in run.history:
            known = run.history.dropna(subset=[key])
            steps = known["trainer/global_step"] if "trainer/global_step" in known else known["_step"]
            found.append(Curve(f"{run.name} ({run.run_id})", steps.tolist(), known[key].astype(float).tolist()))
    return found


def _flat(config: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def matches(run: Run, condition: str) -> bool:
    """Whether a run meets "key<sign>value"; the key names a field, a config value or a metric's last value.

    Raises ConfigError where the condition has no sign or compares text by size.
    """
    for sign in _COMPARE:
        key, found, text = condition.partition(sign)
        if found:
            break
    else:
        raise ConfigError(f"{condition!r}: write it as stage.name=pretrain or train/loss<0.5")
    value = lookup(run, key)
    if value is None:
        return False
    if isinstance(value, (list, tuple)) and sign in ("=", "!="):
        return (text in map(str, value)) == (sign == "=")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if sign not in ("=", "!="):
            raise ConfigError(f"{condition!r}: {key} is text ({value!r}) and has no size; use = or !=")
        return _COMPARE[sign](str(value).lower(), text.lower())
    try:
        return _COMPARE[sign](float(value), float(text))
    except ValueError as error:
        raise ConfigError(f"{condition!r}: {key} is a number ({value}), {text!r} is none") from error


def lookup(run: Run, key: str) -> Any:
    """A field of the run (id, name ...), a config value by dotted key, or the last value of a metric."""
    fields = {"id": run.run_id, "name": run.name, "group": run.group, "tags": run.tags, "state": run.state}
    if key in fields:
        return fields[key]
    setting = run.setting(key)
    if setting is not None:
        return setting
    if key in run.history and (known := run.history[key].dropna()).size:
        return known.iloc[-1].item() if hasattr(known.iloc[-1], "item") else known.iloc[-1]
    return run.summary.get(key)


def row(run: Run, show: Sequence[str]) -> dict[str, Any]:
    """One line of the listing."""
    started = datetime.fromtimestamp(run.started, UTC).strftime("%Y-%m-%d %H:%M")
    steps = run.history["trainer/global_step"].max() if "trainer/global_step" in run.history else len(run.history)
    about = {"id": run.run_id, "name": run.name, "group": run.group, "tags": " ".join(run.tags), "state": run.state}
    return {
        **about,
        "started": started,
        "steps": int(steps) if steps == steps else 0,
        **{k: lookup(run, k) for k in show},
    }


def _print_chart(runs: Sequence[Run], key: str) -> None:
    from rich.console import Console

    Console().print(draw(curves(runs, key), key))


def _print_lineage(folder: str) -> int:
    from rich.console import Console

    from commonspace.tracking.lineage import read_lineage, tree

    if not Path(folder).exists():
        raise ConfigError(f"--lineage: {folder} is not there; name a model folder or a FILE.lineage.json")
    Console().print(tree(read_lineage(Path(folder))), soft_wrap=True)
    return 0


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print("no run meets that")
        return
    table = Table()
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for each in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str("" if v is None else v) for v in each.values()))
    Console().print(table)
