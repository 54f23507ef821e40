"""What is there of the media files that annotations name: looked at before anything is built."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commonspace.errors import ConfigError, DataError

MISSING = 0.05  # share of a set's media without which it is still built


@dataclass(frozen=True)
class Media:
    """Of the files that some rows name: how many, how many of them are missing or empty, and which one is the first.

    state  hash of the names, sizes and dates of those that are there
    """

    named: int = 0
    missing: int = 0
    first: str = ""
    state: str = ""


def look_at(folder: Path, media: Iterable[Sequence[str]]) -> Media:
    """What is there of `media`, each by the names it may have; as when one is read, the first that is there counts.

    Nothing is opened and no list is held: one call to the system for each name.
    """
    state, named, missing, first = hashlib.sha256(), 0, 0, ""
    for names in media:
        if any(name.startswith("/") or ".." in name.split("/") for name in names):
            continue  # refused with its row when that is read
        named += 1
        found = next((f"{name}\0{about}" for name in names if (about := _about(f"{folder}/{name}")) is not None), "")
        if not found or found.endswith("\0"):
            missing, first = missing + 1, first or names[0]
        state.update(f"{found}\n".encode(errors="surrogatepass"))
    return Media(named, missing, first, state.hexdigest())


def check_missing(title: str, folder: Path, found: Sequence[Media], most: float) -> None:
    """Refuse a set of whose media more than a share of `most` is not there.

    Raises:
        ConfigError: `most` is no share.
        DataError: too many are missing.
    """
    if not (isinstance(most, (int, float)) and 0 <= most <= 1):
        raise ConfigError(f"missing: {most} is no share of the media files; say 0 (none may be missing) to 1 (all)")
    named, missing = sum(one.named for one in found), sum(one.missing for one in found)
    if missing > most * named:
        first = next(one.first for one in found if one.missing)
        raise DataError(
            f"{folder}: {missing} of the {named} media files that {title} names are missing or empty, as {first}. "
            f"Finish the download, or say missing={math.ceil(100 * missing / named) / 100:g} to build without them"
        )


def _about(path: str) -> str | None:
    """Size and date of a file, "" of an empty one; None where there is no such file."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):  # or a name that no file can have
        return None
    if not stat.S_ISREG(about.st_mode):
        return None
    return f"{about.st_size}:{about.st_mtime_ns}" if about.st_size else ""
