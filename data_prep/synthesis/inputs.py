"""The rows that a model is asked about: training rows of a tier, or of a file of one's own pairs."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PILImage

from commonspace.content import Audio, Content, Image, Text
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError
from data_prep.own import own_rows
from data_prep.sides import Sides
from data_prep.staging import medium_ids

_SENT = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}  # as endpoints take them


@dataclass(frozen=True)
class Input:
    """A row to ask about: what rows made of it say of it, and its sides by what they are: text, image, audio."""

    key: str
    concept: str
    language: str | None
    label: str
    sides: Mapping[str, Content]

    @property
    def text(self) -> str:
        return plain_text(self.sides["text"]) if "text" in self.sides else ""


@dataclass(frozen=True)
class Selection:
    """Which rows: `needs` is the template's, `side` the one whose text is taken where both are texts, `label` the field
    that says a row's label (`concept`, or what a tier's rows have in `extra`).
    """

    needs: tuple[str, ...]
    side: str = "positive"
    label: str | None = None
    tasks: Sequence[str] | None = None
    limit: int | None = None


class Inputs:
    """Rows that may be asked about, in an order that their keys decide, read when their turn comes.

    Dev and held-out rows and synthetic ones are not among them.

    Raises:
        ConfigError: there is no such file or tier, it has none of the tasks, or no training row.
    """

    def __init__(self, source: str, data: Path, selection: Selection) -> None:
        self.selection = selection
        self._records: dict[str, Record] = {}
        self._places: list[tuple[bytes, ShardReader | None, int, str]] = []
        if source.endswith(".jsonl"):
            if selection.tasks is not None:
                raise ConfigError(f"tasks: {source} has no tasks; leave them out")
            self._read_own(Path(source))
        else:
            self._read_tier(data / source)
        self._places.sort(key=lambda place: place[0])
        if not self._places:
            raise ConfigError(f"input: {source} has no training row; dev and held-out rows are never asked about")

    def __len__(self) -> int:
        """How many rows are asked about at most; those that lack what the template needs do not count to a limit."""
        return min(len(self._places), self.selection.limit or len(self._places))

    def __iter__(self) -> Iterator[Input]:
        given = 0
        for _, reader, row, key in self._places:
            if self.selection.limit is not None and given >= self.selection.limit:
                return
            found = self._input(key, self._records[key] if reader is None else reader.read(row))
            if found is not None:
                given += 1
                yield found

    def _read_own(self, path: Path) -> None:
        rows, sides = own_rows(path, "own"), Sides()
        for row in rows:
            if "synthetic" not in row.extra:
                contents = (row.queries[0].content, row.positives[0].content)
                sides.add(row.concept, medium_ids(contents), inner=False)  # as `data build own` does
        self._records = {
            row.key: row for row in rows if "synthetic" not in row.extra and sides.of(row.concept) == "train"
        }
        self._places = [(_order(key), None, 0, key) for key in self._records]

    def _read_tier(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(
                f"input: {folder} is no built tier; give its name, or a file of pairs that ends in .jsonl"
            )
        here = sorted(path.parent.name for path in folder.glob("*/train.json"))
        wanted = here if self.selection.tasks is None else list(self.selection.tasks)
        if missing := sorted(set(wanted) - set(here)):
            raise ConfigError(f"tasks: {folder} has no training rows of {', '.join(missing)}; it has {', '.join(here)}")
        for task in wanted:
            reader = ShardReader(folder / task, "train")
            keys = reader.column("key")
            self._places += [(_order(f"{task}/{key}"), reader, row, f"{task}/{key}") for row, key in enumerate(keys)]

    def _input(self, key: str, record: Record) -> Input | None:
        if record.extra.get("synthetic") or record.extra.get("members"):
            return None
        variants = [record.positives[0], record.queries[0]]
        if self.selection.side == "query":
            variants.reverse()
        sides: dict[str, Content] = {}
        language = None
        for variant in variants:
            kind = _kind(variant.content)
            if kind and kind not in sides:
                sides[kind] = variant.content
                language = variant.language if kind == "text" else language
        if not set(self.selection.needs) <= sides.keys():
            return None
        wanted = {kind: sides[kind] for kind in self.selection.needs}
        label = self._label(record)
        return None if label is None else Input(key, record.concept, language, label, wanted)

    def _label(self, record: Record) -> str | None:
        """A row's label; empty where none is asked for, None where it has none."""
        if self.selection.label is None:
            return ""
        value = record.concept if self.selection.label == "concept" else record.extra.get(self.selection.label)
        return str(value) if value not in (None, "") else None


def _order(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=8).digest()


def _kind(content: Content) -> str | None:
    if content.is_text:
        return "text"
    kinds = {Image: "image", Audio: "audio"}
    return kinds.get(type(content.parts[0])) if len(content.parts) == 1 else None


def plain_text(content: Content) -> str:
    """The texts of a content, a line each."""
    return "\n".join(part.text for part in content.parts if isinstance(part, Text))


def data_url(image: Image, side: int) -> str:
    """A picture as endpoints take it: as it is, or where its longer side has more pixels than `side` or its format is
    another, scaled down and as PNG.

    Raises:
        ContentError, OSError, PIL.Image.DecompressionBombError: it cannot be read.
    """
    data = image.read_bytes()
    with PILImage.open(io.BytesIO(data)) as picture:
        kind = _SENT.get(picture.format or "")
        if kind is None or max(picture.size) > side:
            picture.thumbnail((side, side))
            buffer = io.BytesIO()
            picture.convert("RGBA" if picture.has_transparency_data else "RGB").save(buffer, "PNG")
            data, kind = buffer.getvalue(), "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
