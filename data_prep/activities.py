"""One activity of GCompris: its files inside a Qt resource, and its pictures as content."""

from __future__ import annotations

import re
from pathlib import Path

from commonspace.content import Image
from data_prep.pictures import encode_picture, open_picture
from data_prep.qt_resource import QtResource
from data_prep.svg import render_svg

_FOLDER = "gcompris/src/activities"


class Activity:
    """The files of one activity, by their path inside it; `folder` is where its resource keeps it."""

    def __init__(self, root: Path, name: str, folder: str | None = None) -> None:
        self.name = name
        self._resource = QtResource(root / f"{name}.rcc")
        self._prefix = f"{folder or _FOLDER}/{name}/"

    def files(self, pattern: str) -> list[str]:
        """Paths that match the pattern, sorted."""
        paths = (name.removeprefix(self._prefix) for name in self._resource.names())
        return sorted(path for path in paths if re.fullmatch(pattern, path))

    def read(self, path: str) -> bytes:
        """A file by its path in the activity, or by its qrc: address."""
        return self._resource.read(self._prefix + path.removeprefix("qrc:/").removeprefix(self._prefix))

    def text(self, path: str) -> str:
        return self.read(path).decode("utf-8", "replace")

    def image(self, path: str) -> Image:
        """A picture as WebP."""
        name, data = f"gcompris/{self.name}/{Path(path).name}", self.read(path)
        if path.endswith(".svg"):
            return Image(render_svg(data, name), name=name)
        return Image(encode_picture(open_picture(data, name)), name=name)
