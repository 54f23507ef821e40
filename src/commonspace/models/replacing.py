"""Folders that are written whole in the place of an older one: a model, an adapter, an index of vectors.

What stands at such a place is taken away for good, so it must be one of ours. A folder that holds anything else, or
folders of its own, is somebody's work: `output=models/mini` would else cost every model in it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from commonspace.errors import ConfigError, DataError

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


@contextmanager
def replaced_folder(folder: Path, kind: str = "model") -> Iterator[Path]:
    """An empty folder beside `folder` to write to; it takes the place of `folder` when the block ends well.

    A block that fails leaves what stood there. Raises ConfigError where that is none of ours of the kind, see
    `check_replaceable`, and DataError where the disk is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        new = Path(temporary) / folder.name
        new.mkdir()
        try:
            yield new
        except (OSError, SafetensorError) as error:  # safetensors has no error number of its own
            if "No space left" not in str(error) and "quota exceeded" not in str(error):
                raise
            raise DataError(f"{folder}: cannot be written ({error}); free space, or choose another folder") from error
        _replace(new, folder, kind)


def _replace(new: Path, folder: Path, kind: str) -> None:
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
