"""Media parts to pieces, out of a store of features where it has them, else decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch
from PIL import Image as pil

from commonspace.content import Audio, Image, Video
from commonspace.errors import ConfigError
from commonspace.processing.audio import read_audio
from commonspace.processing.image import drawn_size, fit_patches, fit_square, pixel_grid, read_image
from commonspace.processing.keys import What, feature_key
from commonspace.processing.pdf import Page, draw_page
from commonspace.processing.pieces import Piece
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.video import frame_seconds, read_frames, read_soundtrack

# Each thread has its own: one model may read contents in several at once.
_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


@contextmanager
def collected_notes() -> Iterator[list[str]]:
    """The list that this thread's notes go to (see `note`) while the context lasts."""
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note(text: str) -> None:
    """Say what was cut to keep a limit, to whoever collects notes in this thread."""
    notes = _NOTES.get()
    if notes is not None:
        notes.append(text)


class FeatureStore(Protocol):
    """Outputs of frozen towers by `feature_key`, each [rows, width]."""

    def get(self, key: str) -> torch.Tensor | None:
        """The rows kept under a key, or None."""


@dataclass(frozen=True)
class FeatureRequest:
    """One output of a frozen tower that a medium needs.

    `load` decodes: uint8 [n, 3, S, S] for the "image" tower (n = 1, or a video's frames; `tokens` rows each, kept one
    after the other), float32 [M, T] for the "audio" tower, or None for a video without sound, of which nothing is kept.
    Where images keep their aspect, `grid` says of what `load` gave [n, 3, H, W] in which grid its at most `tokens` rows
    stand; a last row that says the same is kept after them (`with_grid`), since whoever reads them decodes nothing.
    """

    key: str
    tower: Literal["image", "audio"]
    tokens: int
    load: Callable[[], torch.Tensor | None]
    grid: Callable[[torch.Tensor], tuple[int, int] | None] = lambda pixels: None


def with_grid(rows_RC: torch.Tensor, grid: tuple[int, int] | None) -> torch.Tensor:
    """Rows as they are kept: of a native aspect with one more that begins with the grid's two numbers."""
    if grid is None:
        return rows_RC
    last_1C = torch.nn.functional.pad(torch.tensor([grid], dtype=rows_RC.dtype), (0, rows_RC.shape[1] - 2))
    return torch.cat([rows_RC, last_1C])


def without_grid(kept_RC: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Inverse of `with_grid` for a native aspect."""
    rows, columns = (int(number) for number in kept_RC[-1, :2])
    return kept_RC[:-1], (rows, columns)


class MediaReader:
    """Decodes media under one preprocessing; what it cuts it says by `note`. Nothing in it changes after it is made."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        features: FeatureStore | None,
        fingerprints: Mapping[str, str],
        *,
        cut: bool,
    ) -> None:
        if features is not None and not fingerprints:
            raise ConfigError("a feature store needs the fingerprints of the towers that filled it")
        self.preprocessing = preprocessing
        self.features = features
        self.fingerprints = dict(fingerprints)
        self.cut = cut

    def image(self, part: Image | Page, grid: int) -> Piece:
        """One image, or page of a PDF, as grid x grid tokens, or at most as many in its own aspect."""
        return self._image_pieces(self._image_request(part, grid))[0]

    def frames(self, part: Video) -> list[Piece]:
        """The frames of a clip, one piece each."""
        return self._image_pieces(self._frames_request(part))

    def seconds(self, part: Video) -> list[float]:
        """When each of the frames of a clip is shown; read off its time stamps, without decoding it."""
        return frame_seconds(part, self.preprocessing, cut=self.cut)

    def audio(self, part: Audio) -> Piece:
        """A sound as one piece."""
        return self._sound_piece(self._audio_request(part))

    def soundtrack(self, part: Video, shares: int) -> list[Piece | None]:
        """A clip's sound in `shares` consecutive pieces of near equal length; None where there is none."""
        whole = self._sound_piece(self._soundtrack_request(part)) if part.sound else None
        if whole is None:
            return [None] * shares
        edges = [round(index * whole.tokens / shares) for index in range(shares + 1)]
        return [self.cut_audio(whole, *edges[index : index + 2]) for index in range(shares)]

    def cut_audio(self, piece: Piece, first: int, last: int) -> Piece | None:
        """The tokens [first, last) of an audio piece; None if that is nothing."""
        if first >= last:
            return None
        start, end = piece.rows or (0, self._rows(piece.value, piece.is_feature))
        merge = self.preprocessing.audio_merge
        rows = (start + first * merge, min(start + last * merge, end))
        if piece.is_feature:
            return Piece("audio", piece.value[rows[0] : rows[1]], last - first, is_feature=True)
        return Piece("audio", piece.value, last - first, rows=rows)

    def requests(self, part: Image | Page | Audio | Video, grid: int) -> Iterator[FeatureRequest]:
        """What towers must give for one medium; `grid` is that of an image."""
        if isinstance(part, (Image, Page)):
            yield self._image_request(part, grid)
        elif isinstance(part, Audio):
            yield self._audio_request(part)
        else:
            yield self._frames_request(part)
            if part.sound:
                yield self._soundtrack_request(part)

    def _image_pieces(self, request: FeatureRequest) -> list[Piece]:
        """One piece an image, or a frame: of pixels, or of as many rows kept one after the other."""
        kept, grid = self._stored(request), None
        is_feature = kept is not None
        values = kept if kept is not None else request.load()
        if not is_feature:
            grid = request.grid(values)
        elif self.preprocessing.image_patch:
            values, grid = without_grid(values)
        tokens = request.tokens if grid is None else grid[0] * grid[1]
        each = values.split(tokens) if is_feature else values
        return [Piece("image", value, tokens, is_feature=is_feature, grid=grid) for value in each]

    def _grid(self, grid: int) -> Callable[[torch.Tensor], tuple[int, int] | None]:
        return lambda pixels: pixel_grid(pixels, grid * grid, self.preprocessing)

    def _image_request(self, part: Image | Page, grid: int) -> FeatureRequest:
        size, most = self.preprocessing.image_size, self.preprocessing.image_max_pixels
        patch = self.preprocessing.image_patch
        fit = partial(fit_patches, size=size, patch=patch) if patch else partial(fit_square, size=size)
        drawn = drawn_size(size, patch)

        def load() -> torch.Tensor:
            return (
                fit(draw_page(part, drawn, most)) if isinstance(part, Page) else read_image(part, drawn, most, fit)
            )[None]

        if isinstance(part, Page):
            key = self._key_of(part.data, "page", "image", grid, part.index)
        else:
            key = self._key(part, "image", "image", grid)
        return FeatureRequest(key, "image", grid * grid, load, self._grid(grid))

    def _frames_request(self, part: Video) -> FeatureRequest:
        grid = self.preprocessing.frame_grid
        key = self._key(part, "frames", "image", grid, part.fps, self.cut)

        def load() -> torch.Tensor:
            return _noted(*read_frames(part, self.preprocessing, cut=self.cut))

        return FeatureRequest(key, "image", grid * grid, load, self._grid(grid))

    def _audio_request(self, part: Audio) -> FeatureRequest:
        key = self._key(part, "audio", "audio", part.rate, self.cut, part.label.lower().endswith(".gsm"))

        def load() -> torch.Tensor:
            return _noted(*read_audio(part, self.preprocessing, cut=self.cut))

        return FeatureRequest(key, "audio", 0, load)

    def _soundtrack_request(self, part: Video) -> FeatureRequest:
        key = self._key(part, "soundtrack", "audio")
        return FeatureRequest(key, "audio", 0, lambda: read_soundtrack(part, self.preprocessing))

    def _key(self, part: Image | Audio | Video, what: What, tower: str, *options: object) -> str:
        """The feature key, or "" where no tower's fingerprint is known and so nothing can be kept."""
        if tower not in self.fingerprints:
            return ""
        if isinstance(part.source, pil.Image):
            palette = part.source.getpalette() if part.source.mode == "P" else None
            options = (*options, part.source.mode, palette)
        return self._key_of(part.read_bytes(), what, tower, *options)

    def _key_of(self, data: bytes, what: What, tower: str, *options: object) -> str:
        if tower not in self.fingerprints:
            return ""
        return feature_key(data, what, self.preprocessing, self.fingerprints[tower], *options)

    def _stored(self, request: FeatureRequest) -> torch.Tensor | None:
        return self.features.get(request.key) if self.features is not None and request.key else None

    def _sound_piece(self, request: FeatureRequest) -> Piece | None:
        value = self._stored(request)
        is_feature = value is not None
        if not is_feature:
            value = request.load()
        if value is None or (is_feature and not len(value)):
            return None
        rows = self._rows(value, is_feature)
        return Piece("audio", value, -(-rows // self.preprocessing.audio_merge), is_feature=is_feature)

    def _rows(self, value: torch.Tensor, is_feature: bool) -> int:
        """Rows that the audio tower gives, or gave, for a sound; its last patch may reach beyond the sound's end."""
        return value.shape[0] if is_feature else -(-value.shape[1] // self.preprocessing.audio_frames_per_row)


def _noted(value: torch.Tensor, text: str) -> torch.Tensor:
    if text:
        note(text)
    return value
