"""Whisper as a teacher: how likely its decoder finds a text, given a sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import log_softmax

from commonspace.content import Audio, Content
from commonspace.errors import ContentError
from commonspace.mining.rendering import texts_alone
from commonspace.models.speech_decoder import SpeechDecoder


class Transcriber:
    """Mean log-probability of a text's tokens as the transcript of a sound, whichever side of the pair is the sound.

    `language` ("fr") is for multilingual weights, which need it; English-only ones take none.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", batch: int = 16, language: str | None = None) -> None:
        self.decoder = SpeechDecoder(folder, device=device, language=language)
        self.batch = batch
        self._heard: tuple[int, torch.Tensor] | None = None  # the states of the last sound: its pairs come together

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[tuple[Content, Content]]) -> list[float]:
        """Scores of pairs; ContentError for one that is not a sound and a text."""
        heard = [_sound_and_text(*pair) for pair in pairs]
        found: list[float] = []
        start = 0
        while start < len(heard):
            sound = heard[start][0]
            end = start + 1
            while end < min(len(heard), start + self.batch) and heard[end][0] is sound:
                end += 1
            found += self._score(self._states(sound), [text for _, text in heard[start:end]])
            start = end
        return found

    def _states(self, sound: Audio) -> torch.Tensor:
        key = Content(sound).digest()
        if self._heard is None or self._heard[0] != key:
            self._heard = key, self.decoder.states(sound)
        return self._heard[1]

    def _score(self, states_1TD: torch.Tensor, texts: Sequence[str]) -> list[float]:
        ids = [self.decoder.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        if not all(ids):
            raise ContentError(f"{texts[ids.index([])]!r} has no tokens for this teacher")
        rows = [[*self.decoder.start, *row][: self.decoder.longest] for row in ids]
        longest = max(map(len, rows))
        padded = torch.tensor([[*row, *[self.decoder.start[0]] * (longest - len(row))] for row in rows])
        padded = padded.to(self.decoder.model.device)
        logits_BLV = self.decoder.model(
            encoder_outputs=(states_1TD.expand(len(rows), -1, -1),), decoder_input_ids=padded
        ).logits.float()
        steps_BL = log_softmax(logits_BLV[:, :-1], dim=2).gather(2, padded[:, 1:, None])[:, :, 0]
        begin = len(self.decoder.start) - 1
        return [float(steps_BL[row, begin : len(words) - 1].mean()) for row, words in enumerate(rows)]


def _sound_and_text(query: Content, target: Content) -> tuple[Audio, str]:
    """Whichever side is a lone sound, and the text of the other."""
    for sound, text in ((query, target), (target, query)):
        if len(sound.parts) == 1 and isinstance(sound.parts[0], Audio):
            return sound.parts[0], texts_alone(text)
    raise ContentError("this teacher reads a sound beside a text, and one of a pair must be a lone sound")
