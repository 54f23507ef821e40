"""What a training starts from: its rows, their mined negatives, what teaches it, and the model it begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonspace.data.negatives import list_file
from commonspace.data.storage import place
from commonspace.files import sha256_of
from commonspace.tracking.lineage import Lineage, Node, last, read_lineage, shards_node
from commonspace.tracking.state import data_state

_BESIDE_ROWS = ("negatives", "teacher")  # how the names of such fingerprints end


@dataclass(frozen=True)
class Origin:
    """What a run starts from, as it was at its start.

    fingerprints  of its shards by "task/split", of the lists of hard negatives by "task/negatives", and of a teacher's
                  tables by "task/teacher"
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
        """Whether a run that said this of its start began from the same; of kinds it said nothing of, it may have."""
        said, own = dict(start.get("data_fingerprints") or {}), dict(self.fingerprints)
        for kind in _BESIDE_ROWS:
            if not any(name.endswith(kind) for name in said):
                own = {name: digest for name, digest in own.items() if not name.endswith(kind)}
        return (said, start.get("init_fingerprint")) == (own, self.init_id)


def origin_of(plain: Mapping[str, Any]) -> Origin:
    """What a run of a resolved config would start from now."""
    data = plain["data"]
    drawn = [name for name, task in data["tasks"].items() if task["rate"] > 0]
    rows = data_state(place(plain["paths"]["data"]) / data["tier"], drawn)
    known = rows | _lists(data, drawn) | _tables(plain["stage"]["teacher"], drawn)
    return Origin(data["tier"], known, read_lineage(Path(plain["init"])) if plain["init"] else {})


def _lists(data: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, str]:
    """{"task/negatives": sha256 of its list}, and of the other direction's where that is drawn from."""
    if not data["negatives"]:
        return {}
    folder, kinds = place(data["negatives"]), {"forward": "negatives"}
    if data["reverse_negatives"]:
        kinds["reverse"] = "reverse negatives"
    files = {f"{task}/{kinds[way]}": folder / list_file(task, way) for task in tasks for way in kinds}
    return {name: sha256_of(file) for name, file in files.items() if file.exists()}


def _tables(teacher: str | None, tasks: Sequence[str]) -> dict[str, str]:
    """{"task/teacher": sha256 of its table}, of the tasks that are taught."""
    files = {f"{task}/teacher": Path(teacher) / f"{task}.safetensors" for task in tasks} if teacher else {}
    return {name: sha256_of(file) for name, file in files.items() if file.exists()}
