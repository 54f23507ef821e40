"""How a pretrained multimodal transformer lays contents out, and the order its soundtracks and frames come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from types import SimpleNamespace

Marks = tuple[tuple[int, ...], tuple[int, ...]]  # token ids before and after a medium

# Seconds are counted in steps of 1/2048, so that they stay exact in float32: transformers places the frames of a clip
# by them once in float64 (for the order of tokens) and once in float32 (for their positions), and the two must agree.
TICKS = 2048


@dataclass(frozen=True)
class NativeLayout:
    """What a model's own processor in transformers knows about tokens.

    processor            its name in transformers
    token_pixels         pixels a side of one token of a picture
    marks                by "image", "video", "audio" and "sounding" (a video with its soundtrack)
    placeholders         by "image", "video", "audio": the id that stands where a medium's tokens go
    frames_per_step      frames that share their tokens
    audio_tokens         of one second of sound; 0: the model does not hear
    positions_per_second, seconds_per_chunk   what its interleaving of a soundtrack goes by
    stamped              whether each step of a clip stands between marks of its own, its time before it as a text
    square               pixels a side where every picture is a square of one size
    """

    processor: str
    token_pixels: int
    marks: Mapping[str, Marks]
    placeholders: Mapping[str, int]
    frames_per_step: int = 2
    audio_tokens: int = 0
    positions_per_second: int = 25
    seconds_per_chunk: float = 2.0
    stamped: bool = False
    square: int = 0

    def interleaved(
        self, steps: int, step_tokens: int, step_seconds: float, sound_tokens: int
    ) -> list[tuple[str, int]]:
        """A clip's tokens and its soundtrack's in the model's own order: [("video" | "audio", how many), ...]."""
        import transformers  # loads a class when it is asked for

        # The order comes from the model's own processor, asked without the tokenizer that making one would need: its
        # placeholders are single letters here, so that the text it gives can be counted.
        own = getattr(transformers, self.processor)
        asked = object.__new__(own)
        asked.video_processor = SimpleNamespace(merge_size=1)
        asked.video_token, asked.audio_token, asked.audio_bos_token, asked.audio_eos_token = "v", "a", "", ""
        text = asked.replace_video_with_audio_token(
            {"video_grid_thw": [(steps, 1, step_tokens)], "video_second_per_grid": [step_seconds]},
            0,
            {"num_audio_tokens": [sound_tokens]},
            0,
            position_id_per_seconds=self.positions_per_second,
            seconds_per_chunk=self.seconds_per_chunk,
        )
        return [({"v": "video", "a": "audio"}[letter], len(list(run))) for letter, run in groupby(text)]
