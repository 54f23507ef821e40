"""A content to pieces: the layout of tokens that the backbone sees, within the limits.

    <s> text ... [begin_image] grid [end_image] ... [begin_video] frame sound frame sound ... [end_video] ... </s>

With `video_timestamps` a text such as 00:03 stands before each frame. A page of a PDF is an image of its document, with
its text layer before or after it where the content asks for that.

A content of text alone is exactly what the tokenizer gives for it, task prefix included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from tokenizers import Tokenizer

from commonspace.content import Audio, Content, Image, Text, Video
from commonspace.errors import ConfigError, ContentError
from commonspace.processing.document import Opened, Sheet, Sheets, open_documents
from commonspace.processing.media import FeatureRequest, FeatureStore, MediaReader, collected_notes, note
from commonspace.processing.pdf import Page, page_text
from commonspace.processing.pieces import MARKS, Piece, Pieces
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.text import TextTokenizer
from commonspace.processing.video import timestamp
from commonspace.prompts import prefix

OnLimit = Literal["error", "truncate"]


@dataclass(frozen=True)
class Group:
    """Pieces between a begin and an end mark; `kind` names the marks. Without a kind: no marks, and never cut apart."""

    kind: str
    inner: tuple[Piece | Group, ...]

    @property
    def tokens(self) -> int:
        """Of all inside, and of the marks."""
        return 2 * bool(self.kind) + sum(node.tokens for node in self.inner)


class Processor:
    """Turns contents into pieces.

    features      a store of frozen towers' outputs, asked before a medium is decoded; `fingerprints` are those of the
                  towers, by "image" and "audio"
    on_limit      "error" refuses a content beyond a limit, "truncate" keeps its beginning and says so in
                  `Pieces.truncated`
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        tokenizer: TextTokenizer | Tokenizer,
        features: FeatureStore | None = None,
        on_limit: OnLimit = "error",
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        if on_limit not in ("error", "truncate"):
            raise ConfigError(f"on_limit={on_limit!r}: use 'error' or 'truncate'")
        self.preprocessing = preprocessing
        self.tokenizer = tokenizer if isinstance(tokenizer, TextTokenizer) else TextTokenizer(tokenizer)
        self.on_limit = on_limit
        self._media = MediaReader(preprocessing, features, fingerprints or {}, cut=on_limit == "truncate")

    def with_numbers(self, **numbers: float) -> Processor:
        """The same, some fields of its preprocessing changed, as `max_tokens=8192`."""
        preprocessing = replace(self.preprocessing, **numbers)
        media = self._media
        return Processor(preprocessing, self.tokenizer, media.features, self.on_limit, media.fingerprints)

    def __call__(self, content: Content, task: str | None = None, role: str | None = None) -> Pieces:
        """The pieces of a content; `task` and `role` choose the prefix of a content of text alone.

        Raises ContentError that names the part which cannot be read or the limit that is passed, or where no token is
        left, ConfigError for an unknown task.
        """
        start = prefix(task, role, self.preprocessing.prefixes)
        with collected_notes() as notes:
            parts = self._open(content)
            nodes = self._nodes(parts, start if content.is_text else "")
            pieces = self._limit_tokens(nodes)
        if not pieces and not self._specials:
            raise ContentError("a content has no tokens, and its tokenizer puts none around; leave the empty text out")
        return Pieces(self._between_specials(pieces), truncated=tuple(notes))

    def renewed(self, on_limit: OnLimit) -> Processor:
        """The same layout and numbers, without features, under a rule of its own at limits."""
        return Processor(self.preprocessing, self.tokenizer, on_limit=on_limit)

    def requests(self, content: Content) -> Iterator[FeatureRequest]:
        """What frozen towers must give for a content, to be kept in a feature store under each request's key."""
        for part in self._open(content):
            is_document = isinstance(part, Sheets)
            grid = self.preprocessing.document_grid if is_document else self.preprocessing.image_grid
            for medium in part.inner if is_document else [part]:
                if not isinstance(medium, Text):
                    yield from self._media.requests(medium, grid)

    def _open(self, content: Content) -> list[Opened]:
        parts, notes = open_documents(content, self.preprocessing, cut=self.on_limit == "truncate")
        for text in notes:
            note(text)
        return parts

    def _nodes(self, parts: list[Opened], start: str) -> list[Piece | Group]:
        nodes: list[Piece | Group] = []
        for part in parts:
            if isinstance(part, Text):
                part, start = Text(start + part.text), ""
            nodes.extend(self._part(part))
        return nodes

    def _part(self, part: Opened) -> list[Piece | Group]:
        if isinstance(part, Text):
            return self._text(part.text)
        if isinstance(part, Image):
            return [self._image(part, self.preprocessing.image_grid)]
        if isinstance(part, Audio):
            return [Group("audio", (self._media.audio(part),))]
        if isinstance(part, Video):
            return [self._video(part)]
        return [Group("document", tuple(node for sheet in part.inner for node in self._sheet(sheet)))]

    def _sheet(self, sheet: Sheet) -> list[Piece | Group]:
        if isinstance(sheet, Text):
            return self._text(sheet.text)
        image: list[Piece | Group] = [self._image(sheet, self.preprocessing.document_grid)]
        layer = page_text(sheet) if isinstance(sheet, Page) and sheet.pdf.text else ""
        if not layer:
            return image
        words = self._text(layer, f"{sheet.label}: ")
        return [*words, *image] if sheet.pdf.text == "before" else [*image, *words]

    def _image(self, part: Image | Page, grid: int) -> Group:
        return Group("image", (self._media.image(part, grid),))

    def _video(self, part: Video) -> Group:
        frames: list[Piece | Group] = [*self._media.frames(part)]
        sounds = self._media.soundtrack(part, len(frames))
        if self.preprocessing.video_timestamps:
            times = self._media.seconds(part)
            stamps = [text_piece(self.tokenizer.ids(timestamp(seconds))) for seconds in times]
            frames = [Group("", pair) for pair in zip(stamps, frames, strict=True)]
        pairs = (node for pair in zip(frames, sounds, strict=True) for node in pair)
        return Group("video", tuple(node for node in pairs if node is not None))

    def _text(self, text: str, label: str = "") -> list[Piece]:
        """The ids of a text; `label` names a page whose text layer it is."""
        ids = self.tokenizer.ids(text)
        limit, count = self.preprocessing.max_text_tokens, len(ids) + self._specials
        if count > limit:
            shown = f"{label}text {text[:40]!r}"
            if self.on_limit == "error":
                raise ContentError(
                    f"{shown}: has {count} tokens, at most {limit} are taken (max_text_tokens); "
                    "shorten it or use on_limit=truncate"
                )
            note(f"{shown}: cut from {count} to {limit} tokens")
            ids = ids[: limit - self._specials]
        return [text_piece(ids)] if ids else []

    @property
    def _specials(self) -> int:
        return len(self.tokenizer.start) + len(self.tokenizer.end)

    def _limit_tokens(self, nodes: list[Piece | Group]) -> list[Piece]:
        limit = self.preprocessing.max_tokens
        count = sum(node.tokens for node in nodes) + self._specials
        if count <= limit:
            return list(_flat(nodes))
        if self.on_limit == "error":
            raise ContentError(
                f"a content has {count} tokens, at most {limit} are taken (max_tokens); "
                "shorten it or use on_limit=truncate"
            )
        kept = list(_flat(self._fit(nodes, limit - self._specials)))
        left = sum(piece.tokens for piece in kept) + self._specials
        note(f"cut from {count} to {left} tokens")
        return kept

    def _fit(self, nodes: tuple[Piece | Group, ...] | list[Piece | Group], room: int) -> list[Piece | Group]:
        """The beginning of `nodes` that fits in `room` tokens; texts, sounds, videos and documents are cut inside."""
        kept: list[Piece | Group] = []
        for node in nodes:
            if node.tokens > room:
                rest = self._cut(node, room)
                return [*kept, rest] if rest is not None else kept
            kept.append(node)
            room -= node.tokens
        return kept

    def _cut(self, node: Piece | Group, room: int) -> Piece | Group | None:
        if isinstance(node, Group):
            inner = self._fit(node.inner, room - 2) if node.kind else []
            return replace(node, inner=tuple(inner)) if inner else None
        if room < 1 or node.kind in ("image", "mark"):
            return None
        if node.kind == "audio":
            return self._media.cut_audio(node, 0, room)
        return text_piece(node.value[:room])

    def _between_specials(self, pieces: list[Piece]) -> tuple[Piece, ...]:
        """The tokenizer's own start and end tokens around a content, in the text piece there where there is one."""
        start, end = self.tokenizer.start, self.tokenizer.end
        if not pieces:
            return (text_piece([*start, *end]),)
        if pieces[0].kind == "text":
            pieces = [text_piece([*start, *pieces[0].value.tolist()]), *pieces[1:]]
        elif start:
            pieces = [text_piece(start, "special"), *pieces]
        if pieces[-1].kind == "text":
            pieces = [*pieces[:-1], text_piece([*pieces[-1].value.tolist(), *end])]
        elif end:
            pieces = [*pieces, text_piece(end, "special")]
        return tuple(pieces)


def text_piece(ids: list[int] | torch.Tensor, kind: Literal["text", "special"] = "text") -> Piece:
    """A piece of token ids."""
    value = torch.as_tensor(ids, dtype=torch.int64)
    return Piece(kind, value, len(value))


def _mark(name: str) -> Piece:
    return Piece("mark", torch.tensor(MARKS.index(name)), 1)


def _flat(nodes: list[Piece | Group] | tuple[Piece | Group, ...]) -> Iterator[Piece]:
    for node in nodes:
        if isinstance(node, Group):
            yield from [_mark(f"begin_{node.kind}")] if node.kind else []
            yield from _flat(node.inner)
            yield from [_mark(f"end_{node.kind}")] if node.kind else []
        else:
            yield node
