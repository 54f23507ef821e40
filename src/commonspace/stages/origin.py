"""What a training starts from: the rows it draws and the model it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonspace.data.storage import place
from commonspace.tracking.lineage import Lineage, Node, last, read_lineage, shards_node
from commonspace.tracking.state import data_state


@dataclass(frozen=True)
class Origin:
    """What a run starts from, as it was at its start: shards, and the lineage of the model, empty without one."""

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
        """Whether a run that said this of its start began from the same."""
        said = start.get("data_fingerprints"), start.get("init_fingerprint")
        return said == (dict(self.fingerprints), self.init_id)


def origin_of(plain: Mapping[str, Any]) -> Origin:
    """What a run of a resolved config would start from now."""
    drawn = [name for name, task in plain["data"]["tasks"].items() if task["rate"] > 0]
    shards = data_state(place(plain["paths"]["data"]) / plain["data"]["tier"], drawn)
    return Origin(plain["data"]["tier"], shards, read_lineage(Path(plain["init"])) if plain["init"] else {})
