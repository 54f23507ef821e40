"""What a training starts from: the rows it draws, their mined negatives, and the model it begins with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonspace.data.negatives import list_file
from commonspace.data.storage import place
from commonspace.tracking.lineage import Lineage, Node, last, read_lineage, shards_node
from commonspace.tracking.state import data_state


@dataclass(frozen=True)
class Origin:
    """What a run starts from, as it was at its start.

    fingerprints  of its shards by "task/split", and of the lists of hard negatives by "task/negatives"
    init          the lineage of the model, empty without one
    """

    tier: str
    fingerprints: Mapping[str, str]
    init: Lineage

    @property
    def shards(self) -> Node:
        """The rows, as lineage has them."""
        return shards_node(self.tier, self.fingerprints)

    @property
    def init_id(self) -> str | None:
        """The fingerprint of the model's folder."""
        return last(self.init).id if self.init else None

    def is_of(self, start: Mapping[str, Any]) -> bool:
        """Whether a run that said this of its start began from the same; one that said nothing of lists may have."""
        said, own = dict(start.get("data_fingerprints") or {}), dict(self.fingerprints)
        if not any(map(is_list, said)):
            own = {name: digest for name, digest in own.items() if not is_list(name)}
        return (said, start.get("init_fingerprint")) == (own, self.init_id)


def is_list(name: str) -> bool:
    """Whether a fingerprint is of a list of hard negatives."""
    return name.endswith("negatives")


def origin_of(plain: Mapping[str, Any]) -> Origin:
    """What a run of a resolved config would start from now."""
    data = plain["data"]
    drawn = [name for name, task in data["tasks"].items() if task["rate"] > 0]
    known = data_state(place(plain["paths"]["data"]) / data["tier"], drawn) | _lists(data, drawn)
    return Origin(data["tier"], known, read_lineage(Path(plain["init"])) if plain["init"] else {})


def _lists(data: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, str]:
    """{"task/negatives": sha256 of its list}, and of the other direction's where that is drawn from."""
    if not data["negatives"]:
        return {}
    folder, kinds = place(data["negatives"]), {"forward": "negatives"}
    if data["reverse_negatives"]:
        kinds["reverse"] = "reverse negatives"
    files = {f"{task}/{kinds[way]}": folder / list_file(task, way) for task in tasks for way in kinds}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.exists()}
