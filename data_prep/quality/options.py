"""Options of `commonspace data mix` as they are typed, to those of its rules; what cannot be is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commonspace.errors import ConfigError
from data_prep.quality.languages import load_identifier
from data_prep.quality.likeness import Likeness
from data_prep.quality.rules import Limits, Nearness


def nearness_of(near: Mapping[str, Any]) -> Nearness:
    """Raises ConfigError for a threshold out of its range."""
    for name, low, high in (("image", 0, 32), ("text", 0, 1), ("sound", 0, 1)):
        value = near[name]
        if value is not None and not (isinstance(value, (int, float)) and low <= value <= high):
            raise ConfigError(f"near.{name}: {value!r} is no number from {low} to {high}; null leaves the rule out")
    return Nearness(**near)


def likeness_of(likeness: Mapping[str, Any]) -> Likeness | None:
    """Raises ConfigError for a model without a threshold, a threshold without a model, or one out of its range."""
    model, least = likeness["model"], likeness["least"]
    if model is None and least is not None:
        raise ConfigError("likeness.least: has no effect without likeness.model")
    if model is None:
        return None
    if not (isinstance(least, (int, float)) and 0 < least <= 1):
        raise ConfigError(f"likeness.least: {least!r} is no cosine above 0 and up to 1; likeness.model needs one")
    return Likeness(Path(model), float(least))


def limits_of(limits: Mapping[str, Any], agreement: Mapping[str, Any], data: Path, tiers: Sequence[str]) -> Limits:
    """Raises ConfigError for a range that is none, and for agreement that nothing scores or that no task has, and where
    languages are to be identified and nothing is installed that does.
    """
    ranges = {}
    for name in ("characters", "seconds"):
        value = limits[name]
        if value is not None and not (isinstance(value, list) and len(value) == 2 and 0 <= value[0] <= value[1]):
            raise ConfigError(f"limits.{name}: {value!r} is no [least, most]")
        ranges[name] = None if value is None else tuple(value)
    language = limits["language"]
    if language is not None:
        pair = isinstance(language, list) and len(language) == 2
        if not (pair and 0 < language[0] <= 1 and isinstance(language[1], int) and language[1] >= 1):
            raise ConfigError(
                f"limits.language: {language!r} is no [probability, letters], as [0.9, 40]; null: not asked"
            )
        load_identifier()
        language = (float(language[0]), language[1])
    scripts = None if limits["scripts"] is None else tuple(limits["scripts"])
    least, tasks, model = agreement["least"], agreement["tasks"], agreement["model"]
    if model is None and (least is not None or tasks is not None):
        raise ConfigError("agreement: least and tasks need a model that scores; give agreement.model")
    if tasks is not None and least is None:
        raise ConfigError("agreement.tasks: has no effect without agreement.least")
    known = sorted({path.parent.name for tier in tiers for path in (data / tier).glob("*/train.json")})
    if unknown := sorted(set(tasks or ()) - set(known)):
        raise ConfigError(f"agreement.tasks: no tier has {', '.join(unknown)}; they have {', '.join(known)}")
    wanted = {} if least is None else dict.fromkeys(tasks or known, float(least))
    rest = {name: limits[name] for name in ("least_side", "aspect", "language_script")}
    return Limits(**ranges, scripts=scripts, language=language, agreement=wanted, **rest)
