"""A content to pieces: the layout of tokens that the backbone sees, within the limits.

    <s> text ... [begin_image] grid [end_image] ... [begin_video] frame sound frame sound ... [end_video] ... </s>

A content of text alone is exactly what the tokenizer gives for it, task prefix included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from tokenizers import Tokenizer

from commonspace.content import Audio, Content, Document, Image, Part, Text, Video
from commonspace.errors import ConfigError, ContentError
from commonspace.processing.document import document_parts, images
from commonspace.processing.media import FeatureRequest, FeatureStore, MediaReader, collected_notes, note
from commonspace.processing.pieces import MARKS, Piece, Pieces
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.text import TextTokenizer
from commonspace.prompts import prefix

OnLimit = Literal["error", "truncate"]


@dataclass(frozen=True)
class _Group:
    """Pieces between a begin and an end mark; `kind` names the marks."""

    kind: str
    inner: tuple[Piece | _Group, ...]

    @property
    def tokens(self) -> int:
        return 2 + sum(node.tokens for node in self.inner)


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

    def __call__(self, content: Content, task: str | None = None, role: str | None = None) -> Pieces:
        """The pieces of a content; `task` and `role` choose the prefix of a content of text alone.

        Raises ContentError that names the part which cannot be read or the limit that is passed, or where no token is
        left, ConfigError for an unknown task.
        """
        start = prefix(task, role, self.preprocessing.prefixes)
        with collected_notes() as notes:
            content = self._limit_images(content)
            nodes = self._nodes(content, start if content.is_text else "")
            pieces = self._limit_tokens(nodes)
        if not pieces and not self._specials:
            raise ContentError("a content has no tokens, and its tokenizer puts none around; leave the empty text out")
        return Pieces(self._between_specials(pieces), truncated=tuple(notes))

    def requests(self, content: Content) -> Iterator[FeatureRequest]:
        """What frozen towers must give for a content, to be kept in a feature store under each request's key."""
        content = self._limit_images(content)
        for part in content.parts:
            inner = document_parts(part) if isinstance(part, Document) else [part]
            grid = self.preprocessing.document_grid if isinstance(part, Document) else self.preprocessing.image_grid
            for medium in inner:
                if not isinstance(medium, Text):
                    yield from self._media.requests(medium, grid)

    def _nodes(self, content: Content, start: str) -> list[Piece | _Group]:
        nodes: list[Piece | _Group] = []
        for part in content.parts:
            if isinstance(part, Text):
                part, start = Text(start + part.text), ""
            nodes.extend(self._part(part))
        return nodes

    def _part(self, part: Part) -> list[Piece | _Group]:
        if isinstance(part, Text):
            return self._text(part.text)
        if isinstance(part, Image):
            return [self._image(part, self.preprocessing.image_grid)]
        if isinstance(part, Audio):
            return [_Group("audio", (self._media.audio(part),))]
        if isinstance(part, Video):
            return [self._video(part)]
        inner: list[Piece | _Group] = []
        for child in document_parts(part):
            if isinstance(child, Text):
                inner.extend(self._text(child.text))
            else:
                inner.append(self._image(child, self.preprocessing.document_grid))
        return [_Group("document", tuple(inner))]

    def _image(self, part: Image, grid: int) -> _Group:
        return _Group("image", (self._media.image(part, grid),))

    def _video(self, part: Video) -> _Group:
        frames = self._media.frames(part)
        sounds = self._media.soundtrack(part, len(frames))
        pairs = (piece for pair in zip(frames, sounds, strict=True) for piece in pair)
        return _Group("video", tuple(piece for piece in pairs if piece is not None))

    def _text(self, text: str) -> list[Piece]:
        ids = self.tokenizer.ids(text)
        limit = self.preprocessing.max_text_tokens
        if len(ids) + self._specials > limit:
            if self.on_limit == "error":
                raise ContentError(
                    f"text {text[:40]!r}: has {len(ids) + self._specials} tokens, at most {limit} are taken "
                    "(max_text_tokens); shorten it or use on_limit=truncate"
                )
            note(f"text {text[:40]!r}: cut from {len(ids) + self._specials} to {limit} tokens")
            ids = ids[: limit - self._specials]
        return [_text_piece(ids)] if ids else []

    @property
    def _specials(self) -> int:
        return len(self.tokenizer.start) + len(self.tokenizer.end)

    def _limit_images(self, content: Content) -> Content:
        """The content with at most `max_images` images; an error, or its first ones and a note."""
        limit, count = self.preprocessing.max_images, sum(1 for _ in images(content))
        if count <= limit:
            return content
        if self.on_limit == "error":
            raise ContentError(
                f"a content has {count} images, at most {limit} are taken (max_images); "
                "leave some out or use on_limit=truncate"
            )
        kept = {id(image) for image, _ in zip(images(content), range(limit))}  # noqa: B905 (the shorter decides)
        parts: list[Part] = []
        for part in content.parts:
            if isinstance(part, Document):
                parts.append(Document(*(p for p in part.parts if isinstance(p, Text) or id(p) in kept)))
            elif not isinstance(part, Image) or id(part) in kept:
                parts.append(part)
        note(f"the first {limit} of {count} images kept")
        return Content(*parts)

    def _limit_tokens(self, nodes: list[Piece | _Group]) -> list[Piece]:
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

    def _fit(self, nodes: tuple[Piece | _Group, ...] | list[Piece | _Group], room: int) -> list[Piece | _Group]:
        """The beginning of `nodes` that fits in `room` tokens; texts, sounds, videos and documents are cut inside."""
        kept: list[Piece | _Group] = []
        for node in nodes:
            if node.tokens > room:
                rest = self._cut(node, room)
                return [*kept, rest] if rest is not None else kept
            kept.append(node)
            room -= node.tokens
        return kept

    def _cut(self, node: Piece | _Group, room: int) -> Piece | _Group | None:
        if isinstance(node, _Group):
            inner = self._fit(node.inner, room - 2)
            return replace(node, inner=tuple(inner)) if inner else None
        if room < 1 or node.kind in ("image", "mark"):
            return None
        if node.kind == "audio":
            return self._media.cut_audio(node, 0, room)
        return _text_piece(node.value[:room])

    def _between_specials(self, pieces: list[Piece]) -> tuple[Piece, ...]:
        """The tokenizer's own start and end tokens around a content, in the text piece there where there is one."""
        start, end = self.tokenizer.start, self.tokenizer.end
        if not pieces:
            return (_text_piece([*start, *end]),)
        if pieces[0].kind == "text":
            pieces = [_text_piece([*start, *pieces[0].value.tolist()]), *pieces[1:]]
        elif start:
            pieces = [_text_piece(start, "special"), *pieces]
        if pieces[-1].kind == "text":
            pieces = [*pieces[:-1], _text_piece([*pieces[-1].value.tolist(), *end])]
        elif end:
            pieces = [*pieces, _text_piece(end, "special")]
        return tuple(pieces)


def _text_piece(ids: list[int] | torch.Tensor, kind: Literal["text", "special"] = "text") -> Piece:
    value = torch.as_tensor(ids, dtype=torch.int64)
    return Piece(kind, value, len(value))


def _mark(name: str) -> Piece:
    return Piece("mark", torch.tensor(MARKS.index(name)), 1)


def _flat(nodes: list[Piece | _Group] | tuple[Piece | _Group, ...]) -> Iterator[Piece]:
    for node in nodes:
        if isinstance(node, _Group):
            yield _mark(f"begin_{node.kind}")
            yield from _flat(node.inner)
            yield _mark(f"end_{node.kind}")
        else:
            yield node
