"""What a public set is: where it is published, its licence, how its files read, which tables of the paper it serves.

One YAML file a set in `sets/`. Adding a file adds a set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from commonspace.errors import ConfigError, DataError
from data_prep.split import SPLITS

READERS = ("tars", "annotations", "pairs")
_FOLDER = Path(__file__).with_name("sets")
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Hub:
    """Where a set lies on the hub: `files` are the patterns of what is taken, `into` the folder it is put in."""

    repo: str
    revision: str
    files: tuple[str, ...]
    into: str = ""

    def __post_init__(self) -> None:
        if not _REVISION.fullmatch(self.revision):
            raise DataError(f"hub.revision: {self.revision!r} is no commit; pin all 40 digits of one")


@dataclass(frozen=True)
class PublicSet:
    """A published set.

    reader    tars (img2dataset's), annotations (a table beside a folder of media) or pairs (columns, Tevatron, BEIR)
    read      the reader's options
    splits    {published split: train | dev | heldout | hash | null}. hash: by concept, as sources are; null: left out
    download  what to fetch, one line each
    serves    tables of the paper
    layout    what the layout in `read` was compared with
    default   whether its training rows may be part of a default mixture
    bytes     {file: its size} where the publisher says it: another one has changed since
    """

    name: str
    title: str
    task: str
    reader: str
    licence: str
    home: str
    size: str
    download: tuple[str, ...]
    serves: tuple[str, ...]
    layout: str
    splits: Mapping[str, str | None]
    read: Mapping[str, Any]
    default: bool = True
    hub: tuple[Hub, ...] = ()
    bytes: Mapping[str, int] = field(default_factory=dict)

    def side(self, published: str) -> str | None:
        """train, dev, heldout, hash, or None where the rows of a published split are left out."""
        if published not in self.splits:
            raise DataError(f"{self.name}: rows of a split {published!r}; known are {', '.join(self.splits)}")
        return self.splits[published]


def options(owner: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass of a mapping.

    Raises:
        DataError: a key is unknown or one is missing.
    """
    known = {item.name: item for item in fields(owner)}
    if unknown := sorted(set(values) - set(known)):
        raise DataError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(known)}")
    needed = [key for key, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
    if missing := sorted(set(needed) - set(values)):
        raise DataError(f"{where}: {', '.join(missing)} is missing")
    return owner(**values)


@cache
def all_sets() -> dict[str, PublicSet]:
    """Every set by name."""
    return {path.stem: read_set(path) for path in sorted(_FOLDER.glob("*.yaml"))}


def set_of(name: str) -> PublicSet:
    """One set.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in all_sets():
        raise ConfigError(f"set: there is no public set {name!r}; there are {', '.join(all_sets())}")
    return all_sets()[name]


def read_set(path: Path) -> PublicSet:
    """The set that a YAML file describes.

    Raises:
        DataError: it says something unknown, or leaves something out.
    """
    values = OmegaConf.to_container(OmegaConf.load(path))
    where = f"{path.parent.name}/{path.name}"
    if not isinstance(values, dict):
        raise DataError(f"{where}: holds no keys")
    for key in ("download", "serves"):
        values[key] = tuple(map(str, values.get(key, ())))
    hubs = [{**hub, "files": tuple(hub.get("files", ()))} for hub in values.get("hub", ())]
    values["hub"] = tuple(options(Hub, hub, f"{where}: hub") for hub in hubs)
    found: PublicSet = options(PublicSet, values, where)
    if found.name != path.stem:
        raise DataError(f"{where}: its name is {found.name!r}; it must be the file's")
    if found.reader not in READERS:
        raise DataError(f"{where}: reader: {found.reader!r} is none of {', '.join(READERS)}")
    if wrong := [side for side in found.splits.values() if side not in (*SPLITS, "hash", None)]:
        raise DataError(f"{where}: splits: {wrong[0]!r} is none of {', '.join(SPLITS)}, hash, null")
    return found
