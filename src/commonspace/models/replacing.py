"""Folders that are written whole in the place of an older one: a model, an adapter, an index of vectors.

What stands at such a place is taken away for good, so it must be one of ours. A folder that holds anything else, or
folders of its own, is somebody's work: `output=models/mini` would else cost every model in it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from commonspace.errors import ConfigError

# Of each kind the files that say so, and keys that they have.
_MARKERS = {
    "model": {"config.json": {"format", "backbone"}, "adapter.json": {"format", "base"}},  # whole, or an adapter alone
    "index": {"about.json": {"vectors", "dim"}},
    "export": {"export.json": {"export", "folders"}},
    "rival": {"training.json": {"rival", "folders"}},
}


def check_replaceable(folder: Path, kind: str = "model", option: str = "output") -> None:
    """ConfigError where `option` names a folder that is neither empty nor one of ours of that kind (of `_MARKERS`)."""
    if not folder.exists():
        return
    inside = list(folder.iterdir()) if folder.is_dir() else None
    if inside is None:
        problem = "is a file"
    elif folders := sorted({path.name for path in inside if path.is_dir()} - _own_folders(folder, kind)):
        problem = f"holds the folder {folders[0]}" + (f" and {len(folders) - 1} more" if folders[1:] else "")
    elif inside and not any(_marked(folder / name, keys) for name, keys in _MARKERS[kind].items()):
        problem = f"holds files and is no {kind} of ours"
    else:
        return
    raise ConfigError(
        f"{option}: {folder} {problem}, and would be replaced whole; name another folder, or take it away yourself"
    )


def replace_folder(new: Path, folder: Path, kind: str = "model") -> None:
    """Put `new` in the place of `folder`, which may exist; at no moment is a half-written folder there.

    Raises ConfigError where that is none of ours of the kind, see `check_replaceable`.
    """
    check_replaceable(folder, kind)
    if folder.exists():
        old = new.with_name(new.name + ".old")
        os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old)
    else:
        os.replace(new, folder)


def _own_folders(folder: Path, kind: str) -> set[str]:
    """Folders inside that an export or a rival says are part of it; models and indices have none."""
    for name, keys in _MARKERS[kind].items():
        if "folders" in keys and _marked(folder / name, keys):
            return set(json.loads((folder / name).read_text(encoding="utf-8"))["folders"])
    return set()


def _marked(path: Path, keys: set[str]) -> bool:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and keys <= set(told)
