"""The pretrained parts of a model, named by its own config.json, with the licences that are known here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commonspace.models.weights import PRETRAINED

_OPENING = "Pretrained parts: "


def pretrained_parts(config: Mapping[str, Any]) -> dict[str, str]:
    """{name: licence} of the weights that a model folder's config.json names; those that it does not know are left out.

    Of a folder the name is its last part: a card says nothing of the machine.
    """
    towers = (config.get(part) for part in ("vision", "audio"))
    names = [config.get("weights"), *(tower.get("weights") for tower in towers if isinstance(tower, Mapping))]
    return {_shown(name): _licence(_shown(name)) for name in names if name}


def parts_line(parts: Mapping[str, str]) -> str:
    """The parts in a sentence; "" where none is known."""
    return _OPENING + ", ".join(f"{name} ({licence})" for name, licence in parts.items()) + ".\n" if parts else ""


def with_parts(card: str, parts: Mapping[str, str]) -> str:
    """A card that names its parts: as it is where it does so already, or none is known."""
    return card if _OPENING in card or not parts else f"{card.rstrip()}\n\n{parts_line(parts)}"


def _shown(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() or Path(name).is_dir() else name


def _licence(name: str) -> str:
    known = (one.licence for key, one in PRETRAINED.items() if name in (key, one.hub))
    return next(known, f"licence: see {name}")
