"""The numbers of a backbone with towers and a layout of its own: budgets of tokens in place of square grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from commonspace.errors import ConfigError
from commonspace.processing.preprocessing import Preprocessing
from commonspace.prompts import PREFIXES


@dataclass(frozen=True)
class NativePreprocessing(Preprocessing):
    """As `Preprocessing`, but a picture keeps its aspect and takes as many tokens as it is large, within a budget.

    image_min_tokens, image_max_tokens   of an image, a page or an image in a document; beyond them it is scaled
    frame_min_tokens, frame_max_tokens   of one step of a clip: Qwen's models make one step of two frames
    before, after                        what stands around every content and is never cut: a turn of the model's chat,
                                         a last token to read; names such as <|im_start|> are its tokens
    unused                               numbers that have no effect here, and stand in no preprocessing.json: of other
                                         backbones' squares and connectors
    """

    unused: ClassVar[tuple[str, ...]] = (
        "image_size", "image_grid", "document_grid", "frame_grid", "audio_merge", "video_timestamps",
    )  # fmt: skip

    audio_mels: int = 128
    video_max_frames: int = 32
    max_tokens: int = 8192
    max_text_tokens: int = 8192
    image_min_tokens: int = 4
    image_max_tokens: int = 1280
    frame_min_tokens: int = 64
    frame_max_tokens: int = 256
    before: str = ""
    after: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in ("image", "frame"):
            if getattr(self, f"{kind}_min_tokens") > getattr(self, f"{kind}_max_tokens"):
                raise ConfigError(f"preprocessing.{kind}_min_tokens is above {kind}_max_tokens")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> NativePreprocessing:
        """As `Preprocessing.of`; a `query_prefix` among the options stands in for the queries' prefix of every task."""
        found: Any = super().of(options)
        if (start := options.get("query_prefix")) is None:
            return found
        return replace(found, prefixes={task: {"query": start, "document": ""} for task in PREFIXES})

    def to_json(self) -> dict[str, Any]:
        """The fields that have an effect here, as JSON values."""
        return {name: value for name, value in super().to_json().items() if name not in self.unused}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NativePreprocessing:
        """Inverse of `to_json`; raises ConfigError where a field is missing or unknown."""
        if strange := sorted(set(value) & set(cls.unused)):
            raise ConfigError(f"preprocessing.json: unknown {strange}; write it with this version")
        unused = {item.name: item.default for item in fields(cls) if item.name in cls.unused}
        read: Any = super().from_json({**value, **unused})
        return read
