"""`commonspace runs`: what ran on this disk, from the logs alone."""

from __future__ import annotations

import argparse
import json
import operator
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from commonspace.errors import ConfigError
from commonspace.tracking.reader import Run, read_runs

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
    parser = argparse.ArgumentParser("commonspace runs", description="List the runs below a folder, no server needed.")
    parser.add_argument(
        "words", nargs="*", help="a folder (default: runs), then conditions such as stage.name=pretrain"
    )
    parser.add_argument("--show", nargs="+", default=["train/loss"], metavar="KEY", help="config keys or last metrics")
    parser.add_argument("--json", action="store_true", help="one JSON line per run")
    options = parser.parse_intermixed_args(list(arguments))
    conditions = [word for word in options.words if any(sign in word for sign in _COMPARE)]
    folders = [word for word in options.words if word not in conditions] or ["runs"]
    runs = [run for folder in folders for run in read_runs(folder) if all(matches(run, c) for c in conditions)]
    rows = [row(run, options.show) for run in runs]
    if options.json:
        sys.stdout.writelines(json.dumps(each, default=str) + "\n" for each in rows)
    else:
        _print(rows)
    return 0


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
