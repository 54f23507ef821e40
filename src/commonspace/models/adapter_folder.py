"""A model folder that holds an adapter alone, and names the model folder it belongs to.

adapter.safetensors  the tensors that were trained, their settings, a hash of the base's tensors (models/adapters.py)
adapter.json         the base: its name, where it lies as seen from this folder, and the sha256 of its files
golden.json, training.json, README.md    as in any model folder (models/folder.py)
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.adapters import attached, fill_adapter, merge, read_adapter, save_adapter, stored_hash
from commonspace.models.embedder import Embedder
from commonspace.models.folder import (
    ADAPTER,
    ADAPTER_TENSORS,
    deciding_hashes,
    golden_vectors,
    load_model,
    read_json,
    write_json,
)
from commonspace.models.replacing import replaced_folder

FORMAT = 1


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter alone."""
    return (folder / ADAPTER).is_file()


def check_whole(folder: Path, option: str) -> None:
    """ConfigError where `option` names a folder that holds an adapter alone and a whole model is needed."""
    if is_adapter(folder):
        raise ConfigError(
            f"{option}: {folder} holds an adapter alone; make it whole first: commonspace merge {folder} -o FOLDER"
        )


def save_adapter_folder(
    embedder: Embedder,
    folder: Path,
    base: Path,
    card: str = "",
    training: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Write the adapters of `embedder`, and what trained beside them, whole or not at all; an older folder is replaced.

    `base` is the model folder they were attached to, which stays where it is; `recipe` is that of a soup of adapters.
    Raises WeightsError where the base is not, or is no longer, what the embedder started from.
    """
    check_whole(base, "base")
    lora = attached(embedder)
    with replaced_folder(folder) as target:
        save_adapter(embedder, lora, target / ADAPTER_TENSORS)
        _, tensors, expected = read_adapter(target / ADAPTER_TENSORS)
        if stored_hash(base / "model.safetensors", tensors) != expected:
            raise WeightsError(f"{base}: is not the model that {folder} was trained on; put that one back there")
        where = {"name": base.name, "folder": os.path.relpath(base, folder), "sha256": deciding_hashes(base)}
        write_json(target / ADAPTER, {"format": FORMAT, "base": where})
        write_json(target / "golden.json", golden_vectors(embedder))
        for name, told in (("training.json", training), ("soup.json", recipe)):
            if told is not None:
                write_json(target / name, dict(told))
        (target / "README.md").write_text((card or f"# {folder.name}\n") + _note(where))


def load_adapted(folder: Path, towers: Collection[str] | None = None) -> Embedder:
    """The base that an adapter's folder names, adapters attached, in evaluation mode; `towers` as in `load_model`.

    Raises WeightsError where the base is missing or is another model than the adapter was trained on.
    """
    base = base_of(folder)
    embedder = load_model(base, towers)
    lora, tensors, _ = read_adapter(folder / ADAPTER_TENSORS)
    if towers is not None:  # no tower, no connector
        tensors = {name: tensor for name, tensor in tensors.items() if _has_place(embedder, name)}
    fill_adapter(embedder, lora, tensors, folder / ADAPTER_TENSORS)
    return embedder.eval()


def base_of(folder: Path) -> Path:
    """The model folder that an adapter's folder names; WeightsError where it is not there or was changed."""
    found = read_json(folder / ADAPTER)
    if found.get("format") != FORMAT:
        raise WeightsError(f"{folder / ADAPTER}: format {found.get('format')!r} is unknown; save the adapter anew")
    named = found["base"]
    base = Path(os.path.normpath(folder / named["folder"]))
    if not base.is_dir():
        raise WeightsError(
            f"{folder}: is an adapter of {named['name']}, and {base} is not there; put that model there, or say in "
            f"{ADAPTER} where it lies (base.folder, as seen from the adapter)"
        )
    there = {} if is_adapter(base) else deciding_hashes(base)
    if different := [name for name, sha256 in named["sha256"].items() if there.get(name) != sha256]:
        raise WeightsError(
            f"{folder}: belongs to another {named['name']} than lies at {base}, which differs in "
            f"{', '.join(different)}; put the one it was trained on there, or train it again on this one"
        )
    return base


def merge_folder(folder: Path, output: Path) -> None:
    """Write the whole model that an adapter's folder stands for; base and adapter stay as they are.

    Raises ConfigError where `folder` holds no adapter, or `output` is one of the two.
    """
    if not is_adapter(folder):
        raise ConfigError(f"{folder}: holds no {ADAPTER}, so there is nothing to merge")
    base = base_of(folder)
    if output.resolve() in (folder.resolve(), base.resolve()):
        raise ConfigError(f"output: {output} is what the model is made of; name another folder")
    embedder = load_adapted(folder)
    merge(embedder)
    card = (folder / "README.md").read_text() if (folder / "README.md").is_file() else ""
    training = read_json(folder / "training.json") if (folder / "training.json").is_file() else None
    embedder.save(output, card.removesuffix(_note(read_json(folder / ADAPTER)["base"])), training)


def main(folder: Path, output: Path) -> None:
    """`commonspace merge`."""
    merge_folder(folder, output)
    print(f"{output}: saved, {folder} merged into {base_of(folder)}")


def _has_place(embedder: Embedder, name: str) -> bool:
    first, _, rest = name.partition(".")
    return first != "backbone" or getattr(embedder.backbone, rest.partition(".")[0], None) is not None


def _note(base: Mapping[str, Any]) -> str:
    return (
        f"\n## An adapter alone\n\nThis folder needs the model `{base['name']}`, which it expects at "
        f"`{base['folder']}`. `commonspace merge` makes one folder of the two.\n"
    )
