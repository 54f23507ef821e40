"""Options of `commonspace data mix` as they are typed, to those of its rules; what cannot be is refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commonspace.errors import ConfigError
from data_prep.quality.languages import load_identifier
from data_prep.quality.likeness import Likeness
from data_prep.quality.rules import Limits, Nearness
from data_prep.quality.scripts import script_names


def nearness_of(near: Mapping[str, Any]) -> Nearness:
    """Raises ConfigError for a threshold out of its range."""
    check_number("near.image", near["image"], 0, 32, whole=True)
    check_number("near.text", near["text"], 0, 1)
    check_number("near.sound", near["sound"], 0, 1)
    return Nearness(**near)


def likeness_of(likeness: Mapping[str, Any]) -> Likeness | None:
    """Raises ConfigError for a model without a threshold, a threshold without a model, or one out of its range."""
    model, least = likeness["model"], likeness["least"]
    if model is None and least is not None:
        raise ConfigError("likeness.least: has no effect without likeness.model")
    if model is None:
        return None
    if not (_is_number(least) and 0 < least <= 1):
        raise ConfigError(f"likeness.least: {least!r} is no cosine above 0 and up to 1; likeness.model needs one")
    return Likeness(Path(model), float(least))


def limits_of(limits: Mapping[str, Any], agreement: Mapping[str, Any], data: Path, tiers: Sequence[str]) -> Limits:
    """Raises ConfigError for a range that is none, a script that no letter has, agreement that nothing scores or that
    no task has, and where languages are to be identified and nothing is installed that does.
    """
    check_number("limits.least_side", limits["least_side"], 1, math.inf)
    check_number("limits.aspect", limits["aspect"], 1, math.inf)
    if not isinstance(limits["language_script"], bool):
        raise ConfigError(f"limits.language_script: {limits['language_script']!r} is neither true nor false")
    return Limits(
        characters=_range("characters", limits["characters"]),
        seconds=_range("seconds", limits["seconds"]),
        scripts=_scripts(limits["scripts"]),
        language=_language(limits["language"]),
        agreement=_agreement(agreement, data, tiers),
        **{name: limits[name] for name in ("least_side", "aspect", "language_script")},
    )


def check_number(name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
    """Raises ConfigError for what is neither null nor a number from `low` to `high`."""
    if value is None or (_is_number(value) and low <= value <= high and (isinstance(value, int) or not whole)):
        return
    places = f"from {low} to {high}" if high < math.inf else f"of {low} or more"
    raise ConfigError(f"{name}: {value!r} is no {'whole ' * whole}number {places}; null leaves the rule out")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _range(name: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and 0 <= value[0] <= value[1]):
        raise ConfigError(f"limits.{name}: {value!r} is no [least, most]")
    return tuple(value)


def _scripts(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and value):
        raise ConfigError(f"limits.scripts: {value!r} is no list of scripts, as [LATIN, CYRILLIC]; null takes any")
    known = script_names()
    for name in value:
        if name not in known:
            like = difflib.get_close_matches(str(name).upper(), known) or ["LATIN", "CYRILLIC", "CJK"]
            raise ConfigError(f"limits.scripts: no letter is of {name!r}; scripts are named as {', '.join(like)}")
    return tuple(value)


def _language(value: Any) -> tuple[float, int] | None:
    if value is None:
        return None
    pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    if not (pair and 0 < value[0] <= 1 and isinstance(value[1], int) and value[1] >= 1):
        raise ConfigError(f"limits.language: {value!r} is no [probability, letters], as [0.9, 40]; null: not asked")
    load_identifier()
    return float(value[0]), value[1]


def _agreement(agreement: Mapping[str, Any], data: Path, tiers: Sequence[str]) -> dict[str, float]:
    least, tasks = agreement["least"], agreement["tasks"]
    if agreement["model"] is None and (least is not None or tasks is not None):
        raise ConfigError("agreement: least and tasks need a model that scores; give agreement.model")
    if tasks is not None and least is None:
        raise ConfigError("agreement.tasks: has no effect without agreement.least")
    check_number("agreement.least", least, -1, 1)
    known = sorted({path.parent.name for tier in tiers for path in (data / tier).glob("*/train.json")})
    if unknown := sorted(set(tasks or ()) - set(known)):
        raise ConfigError(f"agreement.tasks: no tier has {', '.join(unknown)}; they have {', '.join(known)}")
    return {} if least is None else dict.fromkeys(tasks or known, float(least))
