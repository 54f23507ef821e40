"""What a source is: the packages it comes in, its licence, and how its records are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from commonspace.data.sample import Record

Client = Literal["apt", "pip", "npm"]
Role = Literal["train", "zero_shot", "weights"]
# A tier with all that others have, whose rows keep the side that they have there.
INCLUDED_TIERS = {"full": ("mini", "tiny"), "mini_astronomy": ("mini",)}
Reader = Callable[[Mapping[str, Path], Counter], Iterator[Record]]


@dataclass(frozen=True)
class Package:
    """One file to fetch, pinned by version, size and hash.

    `filename` is the name that the client gives the file, epoch escapes (`1%3a`) included.
    """

    client: Client
    name: str
    version: str
    filename: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Source:
    """Where rows come from and under which licence.

    `records(folders, drops)` gets {package name: folder it was unpacked to} and yields records lazily, media as paths
    inside those folders or as bytes where they were rendered. A row that is left out is counted by its reason:
    `drops["no caption"] += 1`; duplicates and splits are the business of `data_prep.build`. Records may come in any
    order, but the same packages must give the same records in the same order.

    A row that is made of others (of their texts, or of pictures of several concepts) names those concepts in
    `extra["members"]`: it is for training alone, and left out where one of them does not train. What a rule or a model
    wrote says so in `extra["synthetic"]`, and is for training alone as well.

    A `zero_shot` source, and the `zero_shot_tasks` of another, go to held-out only. A `weights` source has no records.
    """

    name: str
    packages: tuple[Package, ...]
    licence: str
    provenance: str
    tiers: frozenset[str]
    role: Role = "train"
    records: Reader | None = None
    zero_shot_tasks: frozenset[str] = field(default_factory=frozenset)

    def held_out(self, task: str) -> bool:
        """Whether rows of this task from this source may never be trained or tuned on."""
        return self.role == "zero_shot" or task in self.zero_shot_tasks

    @property
    def in_smaller_tier(self) -> bool:
        """Whether a tier that another one includes has this source."""
        return any(tier in self.tiers for tiers in INCLUDED_TIERS.values() for tier in tiers)
