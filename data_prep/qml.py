"""The little of QML that GCompris uses for its boards: flat objects of texts, numbers and resource names."""

from __future__ import annotations

import re

_OBJECT = re.compile(r"\{([^{}]*)\}")
_STRING = r"\"((?:[^\"\\\n]|\\.)*)\""
_NUMBER = r"-?\d+(?:\.\d+)?"
# A value may be wrapped in calls: qsTr("..."), ApplicationInfo.getAudioFilePath("...").
_FIELD = re.compile(rf"\"(\w+)\"\s*:\s*(?:[\w.]+\(\s*)*(?:{_STRING}|({_NUMBER}))")
_PROPERTY = re.compile(rf"property\s+\w+\s+(\w+)\s*:\s*(?:[\w.]+\(\s*)*{_STRING}")
_ESCAPE = re.compile(r"\\(.)")


def qml_objects(text: str) -> list[dict[str, str]]:
    """The innermost objects of a board, in order, each as field -> text; numbers stay text."""
    return [
        {key: _ESCAPE.sub(r"\1", string) or number for key, string, number in _FIELD.findall(body)}
        for body in _OBJECT.findall(text)
    ]


def qml_properties(text: str) -> dict[str, str]:
    """The string properties of a board, `instruction` for one."""
    return {name: _ESCAPE.sub(r"\1", value) for name, value in _PROPERTY.findall(text)}
