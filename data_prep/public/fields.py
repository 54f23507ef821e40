"""Paths and templates: how a set's YAML names what it takes from one row of its annotations.

A path is `sentences[].raw` (of every sentence), `segment[0]` (the first; of a text its first character) or `caption`.
A template is text with paths in braces, `{filepath}/{filename}`; several values of one are joined by line ends, and
`{start:0>6}` pads as Python's format does. A path with `?` behind it gives nothing where its field is not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from commonspace.errors import DataError

_SEGMENT = re.compile(r"([^\[\]]+?)(?:\[(\d*)\])?$")
_HOLE = re.compile(r"\{([^{}:]+)(?::([^{}]+))?\}")


def find(row: Mapping[str, Any], path: str) -> list[Any]:
    """Every value at a path.

    Raises:
        DataError: a field is not there; it lists those that are.
    """
    if path.endswith("?"):
        try:
            return find(row, path[:-1])
        except DataError:
            return []
    found: list[Any] = [row]
    for segment in path.split("."):
        match = _SEGMENT.match(segment)
        if match is None:
            raise DataError(f"{path!r} is no path; write name, name[] or name[0], joined by dots")
        name, index = match.groups()
        inner = [_field(value, name, path) for value in found]
        if index is None:
            found = inner
        elif index == "":
            found = [item for value in inner for item in _items(value, path)]
        else:
            found = [_item(value, int(index), path) for value in inner]
    return found


def one(row: Mapping[str, Any], path: str) -> Any:
    """The value at a path without `[]`."""
    return find(row, path)[0]


def fill(template: str, row: Mapping[str, Any]) -> str:
    """A template with its paths filled in; nothing stands for null."""

    def value(hole: re.Match[str]) -> str:
        text = "\n".join(str(item) for item in find(row, hole[1]) if item is not None)
        return format(text, hole[2]) if hole[2] else text

    return _HOLE.sub(value, template)


def texts(row: Mapping[str, Any], what: str) -> list[str]:
    """The texts of a template (one) or of a path (all), blank ones left out."""
    found = [fill(what, row)] if "{" in what else find(row, what)
    return [str(text).replace("\0", "").strip() for text in found if text is not None and str(text).strip("\0 \t\r\n")]


def _field(value: Any, name: str, path: str) -> Any:
    if isinstance(value, Mapping) and name in value:
        return value[name]
    has = (
        ", ".join(map(str, list(value)[:20])) if isinstance(value, Mapping) else f"{type(value).__name__} {value!r:.40}"
    )
    raise DataError(f"there is no field {name!r} (of {path!r}) in it but {has}")


def _items(value: Any, path: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    raise DataError(f"{path!r} takes a list, and there is {value!r:.60}")


def _item(value: Any, index: int, path: str) -> Any:
    if isinstance(value, (list, tuple, str)) and index < len(value):
        return value[index]
    raise DataError(f"{path!r} takes item {index} of a list, and there is {value!r:.60}")
