"""Where a model comes from: shards -> align -> pretrain -> fine-tune -> soup -> evaluation, in each folder's own file.

`lineage.json` holds the whole graph up to its folder, so a folder that is carried elsewhere still tells it. A node's id
is a hash of what it is: of a model the bytes that decide its vectors, of shards their indexes (which hold the hashes of
the shards), of an evaluation its rows. So equal things made twice are one node, and a changed one is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonspace.errors import DataError
from commonspace.models.folder import folder_fingerprint, write_json

if TYPE_CHECKING:
    from rich.tree import Tree

FILE = "lineage.json"


@dataclass(frozen=True)
class Node:
    """One thing that was made.

    kind     shards | model | evaluation
    made_of  ids of what it was made of
    run_id   of the run that made it, None where nobody knows
    detail   what tells it apart: the stage, rows by task, the kind of a soup
    """

    id: str
    kind: str
    name: str
    made_of: tuple[str, ...] = ()
    run_id: str | None = None
    detail: Mapping[str, Any] | None = None


Lineage = dict[str, Node]  # by id; a node comes after what it was made of


def shards_node(tier: str, indexes: Mapping[str, str]) -> Node:
    """The shards that a stage read: {"task/split": sha256 of its index}, as `state.data_state` tells them; of a
    training its lists of hard negatives too, by "task/negatives"."""
    digest = hashlib.sha256(json.dumps(dict(sorted(indexes.items()))).encode()).hexdigest()[:32]
    return Node(digest, "shards", tier, detail={"indexes": dict(sorted(indexes.items()))})


def extended(parents: Sequence[Lineage], node: Node) -> Lineage:
    """One graph of several, with a node that was made of them."""
    known: Lineage = {}
    for parent in parents:
        known |= {key: value for key, value in parent.items() if key not in known}
    if missing := [key for key in node.made_of if key not in known]:
        raise DataError(f"{node.name}: was made of {missing[0]}, which none of its parents tells of")
    return {**known, node.id: node}


def write_model_lineage(
    folder: Path,
    parents: Sequence[Lineage],
    shards: Node | None = None,
    *,
    run_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Lineage:
    """Write lineage.json of a model folder made of other models and, where it was trained, of shards.

    `parents` are read (`read_lineage`) when the work begins: what lies in their folders when it ends may be another.
    """
    before, made_of = list(parents), [last(lineage).id for lineage in parents]
    if shards is not None:
        before.append({shards.id: shards})
        made_of.append(shards.id)
    node = Node(folder_fingerprint(folder), "model", folder.name, tuple(made_of), run_id, detail)
    lineage = extended(before, node)
    write_lineage(folder / FILE, lineage)
    return lineage


def write_evaluation_lineage(rows: Path, model: Path, *, detail: Mapping[str, Any] | None = None) -> Lineage:
    """Write `<rows>.lineage.json` beside the rows of an evaluated model folder."""
    before = read_lineage(model)
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()[:32]
    node = Node(digest, "evaluation", rows.stem, (last(before).id,), last(before).run_id, detail)
    lineage = extended([before], node)
    write_lineage(rows.with_suffix(".lineage.json"), lineage)
    return lineage


def write_lineage(file: Path, lineage: Lineage) -> None:
    """Whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    write_json(partial, [asdict(node) for node in lineage.values()])
    partial.replace(file)


def read_lineage(folder: Path) -> Lineage:
    """The graph of a model folder, its own node last; one node alone where it was made before there was a lineage.

    Raises DataError where the file is damaged, or tells of another model than lies beside it.
    """
    file = folder if folder.is_file() else folder / FILE
    if not file.is_file():
        return {(found := folder_fingerprint(folder)): Node(found, "model", folder.name)}
    try:
        nodes = [Node(**{**told, "made_of": tuple(told["made_of"])}) for told in json.loads(file.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file}: tells no lineage ({error}); delete it, and the origin counts as unknown") from error
    lineage = {node.id: node for node in nodes}
    if not lineage:
        raise DataError(f"{file}: is empty; delete it, and the origin counts as unknown")
    if folder.is_dir() and last(lineage).id != folder_fingerprint(folder):
        raise DataError(
            f"{file}: tells of another model than lies beside it, which was changed since; put that one back, or "
            "delete the file"
        )
    return lineage


def last(lineage: Lineage) -> Node:
    """What the lineage is of."""
    return next(reversed(lineage.values()))


def tree(lineage: Lineage) -> Tree:
    """The graph for the terminal: what it is of, below it what that was made of."""
    from rich.tree import Tree

    def grow(branch: Tree, key: str, seen: set[str]) -> None:
        node = lineage[key]
        again = key in seen
        leaf = branch.add(_line(node) + (" (see above)" if again and node.made_of else ""))
        for before in () if again else node.made_of:
            grow(leaf, before, seen)
        seen.add(key)

    root = Tree("lineage", hide_root=True)
    grow(root, last(lineage).id, set())
    return root


def _line(node: Node) -> str:
    told = dict(node.detail or {})
    shown = f"{len(told['indexes'])} indexes" if "indexes" in told else " ".join(str(value) for value in told.values())
    run = f"  run {node.run_id}" if node.run_id else ""
    return f"{node.kind} {node.name}  {shown}{run}  {node.id[:12]}"
