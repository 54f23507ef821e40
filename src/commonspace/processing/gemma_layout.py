"""How EmbeddingGemma 2 lays contents out: each frame between marks, a soundtrack second by second among the frames."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from commonspace.processing.native_layout import NativeLayout

_BLOCKS = re.compile(r"(\[v+\]|\(a+\))")  # what `GemmaLayout.runs` has for a frame and for a stretch of sound


@dataclass(frozen=True)
class GemmaLayout(NativeLayout):
    """As `NativeLayout`, of a model whose pictures are patches pooled to tokens.

    patch   pixels a side of a patch; `token_pixels` has those of a token
    sound   how sounds are measured: options of transformers' `Gemma4AudioFeatureExtractor`; None: it does not hear
    """

    patch: int = 16
    sound: Mapping[str, Any] | None = None

    def runs(
        self, seconds: Sequence[float], length: float, frame_tokens: int, mel_frames: int, *, stamped: bool
    ) -> list[tuple[str, Any]]:
        """A clip in the model's own order: ("text", a string), or how many tokens of one block of "video" or "audio".

        `seconds` are those at which frames are shown, `length` those of the whole clip, `mel_frames` 0 where it is
        still. With a soundtrack frames are stamped whether asked for or not.
        """
        import transformers  # loads a class when it is asked for

        # As of NativeLayout.interleaved: the model's own processor writes the order down, in letters.
        asked = object.__new__(transformers.EmbeddingGemma2Processor)
        asked.boi_token, asked.video_token, asked.eoi_token = "[v]"
        asked.boa_token, asked.audio_token, asked.eoa_token = "(a)"
        asked.video_processor = SimpleNamespace(add_timestamps=stamped)
        asked.feature_extractor = SimpleNamespace(**frames_of(self.sound)) if self.sound else None
        shown = SimpleNamespace(timestamps=list(seconds), duration=round(length, 6), fps=1.0)
        clip = {"num_soft_tokens_per_video": [frame_tokens], "num_frames_per_video": [len(seconds)]}
        text = asked.replace_video_token(
            {**clip, "video_metadata": [shown]},
            0,
            {"input_features_mask": [np.ones(mel_frames, bool)]},
            [0],
            videos_kwargs={"add_timestamps": stamped or mel_frames > 0},
            load_audio_from_video=mel_frames > 0,
        )
        return [_run(block) for block in _BLOCKS.split(text) if block]

    def sound_tokens(self, mel_frames: int) -> int:
        """Tokens of so many frames of log-mel."""
        import transformers

        return transformers.EmbeddingGemma2Processor.compute_sscp(mel_frames)


def frames_of(sound: Mapping[str, Any]) -> dict[str, int]:
    """`sampling_rate`, and in samples `frame_length` and `hop_length`, of options of the feature extractor."""
    rate = sound["sampling_rate"]
    lengths = {name: round(rate * sound[f"{name}_ms"] / 1000) for name in ("frame_length", "hop_length")}
    return {"sampling_rate": rate, **lengths}


def _run(block: str) -> tuple[str, Any]:
    kind = {"[": "video", "(": "audio"}.get(block[0], "text")
    return kind, block if kind == "text" else len(block) - 2
