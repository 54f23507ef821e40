"""Runs read back from disk without a server: the transaction log that W&B writes, as pandas.

The log is LevelDB's framing: a file header of 7 bytes, then blocks of 32 KiB with records of
[crc32 | length | type] + payload; type says whether a record is whole or the first, middle or last part of one.
A payload is a protobuf `Record`. A log that is still being written, or whose process was killed, ends in the middle of
a record: everything before it counts.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from commonspace.errors import DataError

log = logging.getLogger(__name__)
_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class EmptyLogError(DataError):
    """A log that was cut before it says whose it is."""


@dataclass(frozen=True)
class Run:
    """One run. `history` has a row per logged step, its columns are the metrics' names; `_step`, `_timestamp` first.

    state is "finished", "interrupted" (a signal ended it after it was saved), "failed" (it ended with another exit
    status) or "open" (no end on disk: running or killed).
    """

    run_id: str
    name: str
    project: str
    group: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: pd.DataFrame
    started: float
    state: str
    logs: tuple[Path, ...] = field(default=())

    def setting(self, key: str, default: Any = None) -> Any:
        """A config value by dotted key, as in `run.setting("stage.temperature")`."""
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def table(self, key: str) -> pd.DataFrame:
        """The last W&B table that was logged under a key, pictures and sounds as W&B's records of their files.

        Raises DataError where the run logged none, or its file is not beside the log.
        """
        kind, path = (self.history.get(f"{key}/{name}", pd.Series(dtype=object)).dropna() for name in ("_type", "path"))
        if not len(path) or kind.iloc[-1] != "table-file":
            raise DataError(f"{self.name} ({self.run_id}): logged no table {key}")
        files = [log.parent / "files" / path.iloc[-1] for log in self.logs]
        for file in files:
            if file.is_file():
                stored = json.loads(file.read_text())
                return pd.DataFrame(stored["data"], columns=stored["columns"])
        raise DataError(f"{files[-1]}: is not there, so table {key} cannot be read; copy it from where the run logged")


def find_logs(folder: str | Path) -> list[Path]:
    """Every W&B log below a folder, oldest first (folder names carry the start time)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; runs lie where paths.runs says, `runs` unless changed")
    return sorted(
        folder.glob("**/*run-*/run-*.wandb"), key=lambda path: (path.parent.name.split("run-")[-1], str(path))
    )


def read_runs(folder: str | Path) -> list[Run]:
    """Every run below a folder, oldest first; the logs of a restarted run are one run."""
    joined: dict[str, Run] = {}
    for path in find_logs(folder):
        try:
            run = read_log(path)
        except EmptyLogError as error:  # killed in its first seconds; the other runs can be read all the same
            log.warning("left out: %s", error)
            continue
        joined[run.run_id] = _join(joined[run.run_id], run) if run.run_id in joined else run
    return sorted(joined.values(), key=lambda run: (run.started, run.run_id))


def read_log(path: str | Path) -> Run:
    """One log file.

    Raises DataError naming the file where it is no W&B log or holds no run.
    """
    from wandb.proto import wandb_internal_pb2

    path = Path(path)
    about: Any = None
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    state = "open"
    for payload in log_records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            about = record.run
            _update(config, record.run.config.update)
        elif kind == "config":
            _update(config, record.config.update)
        elif kind == "history":
            history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
            _update(summary, record.history.item)  # of a run that has not ended; its own comes with its end
        elif kind == "summary":
            _update(summary, record.summary.update)
        elif kind == "preempting":
            state = "interrupted"
        elif kind == "exit" and state != "interrupted":
            state = "finished" if record.exit.exit_code == 0 else "failed"
    if about is None:
        raise EmptyLogError(f"{path}: holds no run; it was cut before its first record, or is still being started")
    config.pop("_wandb", None)
    return Run(
        run_id=about.run_id,
        name=about.display_name or about.run_id,
        project=about.project,
        group=about.run_group,
        tags=tuple(about.tags),
        config=config,
        summary=summary,
        history=_frame(history),
        started=about.start_time.seconds + about.start_time.nanos / 1e9,
        state=state,
        logs=(path,),
    )


def log_records(path: Path) -> Iterator[bytes]:
    """Payloads of a log in order; stops in silence at a cut end, raises DataError at damage before it."""
    data = path.read_bytes()
    if data[:4] != b":W&B":
        raise DataError(f"{path}: no W&B log; expected a run-ID.wandb file")
    position, parts = 7, b""
    while position + _HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:  # too small for a header: the writer padded it
            position += left
            continue
        checksum, length, kind = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size
        payload, position = data[start : start + length], start + length
        if kind == 0 or len(payload) < length:
            return
        if zlib.crc32(payload, zlib.crc32(bytes([kind]))) != checksum:
            if position >= len(data):
                return
            raise DataError(f"{path}: damaged at byte {start}; copy the log again from where it was written")
        parts = payload if kind in (_WHOLE, _FIRST) else parts + payload
        if kind in (_WHOLE, _LAST):
            yield parts


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _update(values: dict[str, Any], items: Iterable[Any]) -> None:
    for item in items:
        node, names = values, list(item.nested_key) or [item.key]
        for name in names[:-1]:
            node = node.setdefault(name, {})
        node[names[-1]] = json.loads(item.value_json)


def _frame(history: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(history)
    first = [name for name in ("_step", "_timestamp", "_runtime") if name in frame]
    return frame[first + sorted(name for name in frame if name not in first)]


def _join(earlier: Run, later: Run) -> Run:
    """A restart repeats the steps after its checkpoint: what the later log says of them counts."""
    step = "trainer/global_step"
    history = earlier.history
    if step in history and step in later.history and len(later.history):
        history = history[history[step] < later.history[step].min()]
    joined = pd.concat([frame for frame in (history, later.history) if len(frame)] or [history], ignore_index=True)
    return replace(
        later,
        config={**earlier.config, **later.config},
        summary={**earlier.summary, **later.summary},
        history=joined,
        started=earlier.started,
        logs=earlier.logs + later.logs,
    )
