"""What a run was, kept in its folder beside its logs, in files that need no reader.

config.yaml    the resolved config
starts.jsonl   a line for each start, restarts too: time, job, code, packages, hardware, batches, fingerprints of the
               data and of the model it began from
DIGEST.diff    what the checkout had beyond its commit, where it had anything: named by the first digits of its hash
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from commonspace.tracking.identity import Identity, rank
from commonspace.tracking.state import code_difference, code_state, hardware_state, lock_state


def run_facts(identity: Identity) -> dict[str, Any]:
    """What a figure of this run is traced to: id, config hash, job, code, lock, hardware."""
    return {
        "id": identity.run_id,
        "config_hash": identity.config_hash,
        "job": identity.job,
        "code": code_state(),
        "packages": lock_state(),
        "hardware": hardware_state(),
    }


def record_start(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write down one start of a run; only the first process of several does. A later start adds to the file."""
    from omegaconf import OmegaConf

    if rank() != 0:
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    difference = code_difference()
    told = {"time": time.time(), "host": os.uname().nodename, "process": os.getpid(), **facts}
    if difference:
        name = f"{told['run']['code']['diff_sha256'][:12]}.diff"
        _write(folder / name, difference + "\n")
        told["diff_file"] = name
    with (folder / "starts.jsonl").open("a") as stream:
        stream.write(json.dumps(told, default=str) + "\n")


def starts(folder: Path) -> list[dict[str, Any]]:
    """What a run said of each of its starts, in their order. A line that was cut short is passed over."""
    file, told = folder / "starts.jsonl", []
    for line in file.read_text().splitlines() if file.exists() else []:
        with suppress(ValueError):
            told.append(json.loads(line))
    return told


def last_start(folder: Path) -> dict[str, Any]:
    """What a run said of its last start; empty where it never did."""
    return next(reversed(starts(folder)), {})


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(file)
