"""What both interfaces ask for: contents in, unit vectors and counted tokens out, within limits."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from commonspace.content import Audio, Content, Document, Image, Part, Pdf, Text, Video
from commonspace.errors import CommonspaceError, ConfigError
from commonspace.models.embedder import Embedder, truncate
from commonspace.models.precision import InPrecision
from commonspace.processing.pieces import Pieces
from commonspace.serving.http.batching import Batcher
from commonspace.serving.http.errors import Busy, NotFound, Refused

_KINDS: Mapping[str, type[Image | Audio | Video]] = {"image": Image, "audio": Audio, "video": Video}


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and what may wait.

    body_bytes    of a request; media_bytes of one medium, decoded from base64
    contents      of a request
    waiting       contents of all requests that are being answered
    connections   requests that are open
    """

    body_bytes: int = 32 * 2**20
    media_bytes: int = 20 * 2**20
    contents: int = 256
    waiting: int = 2048
    connections: int = 64


@dataclass(frozen=True)
class Asked:
    """One content of a request, with the task and role that choose its prefix, and where in the request it stands."""

    content: Content
    task: str | None = None
    role: str | None = None
    where: str = ""


@dataclass(frozen=True)
class Answer:
    """Unit rows float32 [N, dim] and how many tokens each content had."""

    vectors_ND: np.ndarray
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Fields:
    """What an interface calls its list of contents and the size of its vectors."""

    contents: str
    dim: str


class Service:
    """A model under its names, answering through a `Batcher`."""

    def __init__(
        self,
        model: Embedder,
        names: Sequence[str],
        limits: Limits = Limits(),
        *,
        batch_tokens: int = 8192,
        wait_seconds: float = 0.005,
        precision: str = "32-true",
    ) -> None:
        self.model, self.names, self.limits = model, tuple(names), limits
        self._cast = InPrecision(model, precision)
        self._batch_tokens = batch_tokens
        self.batcher = Batcher(self._embed, batch_tokens=batch_tokens, wait_seconds=wait_seconds)
        self.parser = asyncio.Semaphore(1)  # bodies are parsed one at a time: JSON is many times its size in memory
        self._readers = asyncio.Semaphore(os.cpu_count() or 1)  # media are decoded in so many threads
        self._inside = 0  # contents of requests that are being answered

    def check_name(self, name: str) -> None:
        """NotFound for a model that is not served; "models/NAME" is NAME."""
        if name.removeprefix("models/") not in self.names:
            raise NotFound(f"there is no model {name!r:.120}; served is {', '.join(self.names)}", "model")

    async def answer(self, asked: Sequence[Asked], dim: int | None, fields: Fields) -> Answer:
        """Vectors of contents; Refused where one cannot be read, passes a limit, or `dim` is outside the model's.

        Busy where too many are being answered already.
        """
        if not asked:
            raise Refused("holds no content", fields.contents)
        try:
            self.model.check_dim(dim)
        except ConfigError as error:
            raise Refused(f"{error}", fields.dim) from error
        if self._inside + len(asked) > self.limits.waiting:
            raise Busy(f"{self._inside} contents are being answered and {self.limits.waiting} may; ask again later")
        self._inside += len(asked)
        try:
            async with self._readers:
                read = await asyncio.to_thread(lambda: [self._pieces(one) for one in asked])
            rows_NE = await self.batcher.vectors(read)
        finally:
            self._inside -= len(asked)
        if dim is not None:
            rows_NE = truncate(torch.from_numpy(rows_NE), dim).numpy()
        return Answer(rows_NE, tuple(pieces.tokens for pieces in read))

    def _pieces(self, asked: Asked) -> Pieces:
        try:
            pieces = self.model.processor(asked.content, task=asked.task, role=asked.role)
        except CommonspaceError as error:
            raise Refused(str(error), asked.where) from error
        missing = {piece.kind for piece in pieces.pieces} & set(_KINDS) - set(self.model.backbone.towers())
        if missing:
            raise Refused(f"this model has no {' and no '.join(sorted(missing))} tower", asked.where)
        return pieces

    def _embed(self, batch: Sequence[Pieces]) -> np.ndarray:
        return self._cast.embed_pieces(batch, batch_tokens=self._batch_tokens).numpy()


def medium(mime_type: str, data: bytes, where: str) -> Part:
    """A part of bytes, its kind by their MIME type; Refused for one that is none of ours, and for an empty text."""
    family = mime_type.partition("/")[0].strip().lower()
    plain = mime_type.partition(";")[0].strip().lower()
    if plain == "application/pdf":
        return Document(Pdf(data, name=where))
    if plain == "text/plain":
        return Text(_plain(data, where))
    if family not in _KINDS:
        raise Refused(f"{mime_type!r:.80} is none of image/*, audio/*, video/*, application/pdf and text/plain", where)
    return _KINDS[family](data, name=where)


def _plain(data: bytes, where: str) -> str:
    if not data:
        raise Refused("is an empty text; leave it out", where)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"is no UTF-8 text ({error})", where) from error


def decoded(encoded: str, most: int, where: str) -> bytes:
    """The bytes of base64, plain or URL-safe; Refused where it is neither, or holds more than `most` bytes."""
    if len(encoded) * 3 // 4 > most + 2:
        raise Refused(f"a medium has some {len(encoded) * 3 // 4} bytes, at most {most} are taken", where)
    padded = encoded.translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(f"is no base64 ({error})", where) from error
