"""Whisper as a teacher: how likely its decoder finds a text, given a sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn.functional import log_softmax, pad
from transformers import WhisperConfig, WhisperForConditionalGeneration

from commonspace.content import Audio, Content
from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.mining.rendering import texts_alone
from commonspace.models.backbones.pretrained import model_type, read_config, read_model
from commonspace.models.folder import read_json
from commonspace.processing.audio import log_mel, read_audio
from commonspace.processing.preprocessing import Preprocessing

_SECONDS = 30.0  # that Whisper hears; what comes after is cut


class Transcriber:
    """Mean log-probability of a text's tokens as the transcript of a sound, whichever side of the pair is the sound.

    `language` ("fr") is for multilingual weights, which need it; English-only ones take none.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", batch: int = 16, language: str | None = None) -> None:
        if (kind := model_type(folder)) != "whisper":
            raise ConfigError(f"{folder}: kind=transcriber takes Whisper's weights, these are of {kind}")
        config = read_config(WhisperConfig, folder)
        self.model = read_model(WhisperForConditionalGeneration, folder, config).to(device).eval()
        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise WeightsError(f"{folder}/tokenizer.json: cannot be read ({error}); copy the folder again") from error
        self.batch = batch
        self.numbers = Preprocessing(audio_mels=config.num_mel_bins, max_audio_seconds=_SECONDS)
        self.longest = config.max_target_positions
        self.start = [config.decoder_start_token_id, *self._marks(folder, language)]
        self._heard: tuple[int, torch.Tensor] | None = None  # the states of the last sound: its pairs come together

    def _marks(self, folder: Path, language: str | None) -> list[int]:
        """What stands before a transcript after its beginning."""
        words = [*([f"<|{language}|>", "<|transcribe|>"] if language else []), "<|notimestamps|>"]
        ids = [self.tokenizer.token_to_id(word) for word in words]
        if None in ids:
            raise ConfigError(f"{folder}: its tokenizer has no {words[ids.index(None)]}; choose another language")
        multilingual = self._multilingual(folder)
        if language is None and multilingual:
            raise ConfigError(f"{folder}: multilingual weights need to know a language, as in language: fr")
        if language is not None and not multilingual:
            raise ConfigError(f"{folder}: weights of English alone take no language; leave {language} out")
        return ids

    def _multilingual(self, folder: Path) -> bool:
        """What the folder says of itself; the vocabulary tells where it says nothing, but English-only ones may name
        languages too.
        """
        path = folder / "generation_config.json"
        stated = read_json(path).get("is_multilingual") if path.exists() else None
        return self.tokenizer.token_to_id("<|en|>") is not None if stated is None else bool(stated)

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
        """The encoder's states [1, T, D] of a sound's first thirty seconds."""
        key = Content(sound).digest()
        if self._heard is None or self._heard[0] != key:
            whole = int(_SECONDS * self.numbers.audio_rate)
            measure = lambda samples, numbers: log_mel(pad(samples, (0, whole - len(samples))), numbers)  # noqa: E731
            mel_MT, _ = read_audio(sound, self.numbers, cut=True, measure=measure)
            states = self.model.model.encoder(mel_MT[None].to(self.model.device)).last_hidden_state
            self._heard = key, states
        return self._heard[1]

    def _score(self, states_1TD: torch.Tensor, texts: Sequence[str]) -> list[float]:
        ids = [self.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        if not all(ids):
            raise ContentError(f"{texts[ids.index([])]!r} has no tokens for this teacher")
        rows = [[*self.start, *row][: self.longest] for row in ids]
        longest = max(map(len, rows))
        padded = torch.tensor([[*row, *[self.start[0]] * (longest - len(row))] for row in rows])
        padded = padded.to(self.model.device)
        logits_BLV = self.model(
            encoder_outputs=(states_1TD.expand(len(rows), -1, -1),), decoder_input_ids=padded
        ).logits.float()
        steps_BL = log_softmax(logits_BLV[:, :-1], dim=2).gather(2, padded[:, 1:, None])[:, :, 0]
        begin = len(self.start) - 1
        return [float(steps_BL[row, begin : len(words) - 1].mean()) for row, words in enumerate(rows)]


def _sound_and_text(query: Content, target: Content) -> tuple[Audio, str]:
    """Whichever side is a lone sound, and the text of the other."""
    for sound, text in ((query, target), (target, query)):
        if len(sound.parts) == 1 and isinstance(sound.parts[0], Audio):
            return sound.parts[0], texts_alone(text)
    raise ContentError("this teacher reads a sound beside a text, and one of a pair must be a lone sound")
