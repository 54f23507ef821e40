"""The kinds of tower: which one a weights folder holds, and which one a model folder names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commonspace.errors import WeightsError
from commonspace.models.open_clip_weights import CONFIG
from commonspace.models.towers.audio import AudioTower
from commonspace.models.towers.mel_vit import MelVitTower
from commonspace.models.towers.naflex import NaflexTower
from commonspace.models.towers.trunk import TrunkTower
from commonspace.models.towers.vision import VisionTower
from commonspace.processing.preprocessing import Preprocessing

VISION = ("timm", "naflex", "open_clip")
AUDIO = ("whisper", "mel_vit")


def tower_class(kind: str) -> type[Any]:
    """The class of a kind of `VISION` or `AUDIO`; open_clip is imported when it is asked for."""
    if kind == "open_clip":
        from commonspace.models.towers.open_clip import OpenClipTower

        return OpenClipTower
    return {known.kind: known for known in (VisionTower, NaflexTower, AudioTower, MelVitTower)}[kind]


def vision_tower(folder: Path, name: str) -> TrunkTower:
    """The image tower of a weights folder: in open_clip's layout, or in timm's, a NaFlexViT or any other trunk.

    `name` is what the weights were asked for by. A folder in both layouts is read as open_clip's.
    """
    kind = "open_clip" if (folder / CONFIG).is_file() else "timm"
    if kind == "timm":
        described = _config(folder)
        arguments = described.get("model_args") or {}
        if str(described.get("architecture")).startswith("naflexvit") or arguments.get("use_naflex"):
            kind = "naflex"
    tower = tower_class(kind).from_weights(folder)
    tower.weights = name
    return tower


def audio_tower(folder: Path, name: str) -> AudioTower | MelVitTower:
    """The audio tower of a weights folder: Whisper's encoder in transformers' layout, or a ViT on mels in timm's."""
    kind = "mel_vit" if "architecture" in _config(folder) else "whisper"
    tower = tower_class(kind).from_weights(folder)
    tower.weights = name
    return tower


def describe_tower(tower: TrunkTower | AudioTower | MelVitTower | None) -> dict[str, Any] | None:
    """A tower as config.json of a model folder has it: its class, the name of its weights, and its config."""
    if tower is None:
        return None
    return {"class": tower.kind, "weights": tower.weights, "config": tower.describe()}


def described_vision(value: Mapping[str, Any]) -> TrunkTower:
    """Inverse of `describe_tower` for an image tower, its weights not yet read."""
    return _described(value, VISION)


def described_audio(value: Mapping[str, Any]) -> AudioTower | MelVitTower:
    """Inverse of `describe_tower` for an audio tower, its weights not yet read."""
    return _described(value, AUDIO)


def check_towers(towers: Iterable[Any], preprocessing: Preprocessing) -> None:
    """ConfigError where preprocessing gives media in a form that one of the towers does not take."""
    for tower in towers:
        tower.check(preprocessing)


def _described(value: Mapping[str, Any], kinds: Sequence[str]) -> Any:
    if "class" not in value:  # format 3: of the first kind, its config alone
        value = {"class": kinds[0], "weights": None, "config": value}
    if value["class"] not in kinds:
        raise WeightsError(f"config.json: a tower of class {value['class']!r} is none of {', '.join(kinds)}")
    tower = tower_class(value["class"]).from_config(value["config"])
    tower.weights = value["weights"]
    return tower


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}/config.json: cannot be read ({error}); copy the folder again") from error
