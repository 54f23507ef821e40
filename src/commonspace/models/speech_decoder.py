"""Whisper whole, of a folder in the Hugging Face layout: what its encoder hears, and what its decoder writes of it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn.functional import pad
from transformers import WhisperConfig, WhisperForConditionalGeneration

from commonspace.content import Audio
from commonspace.errors import ConfigError, WeightsError
from commonspace.models.backbones.pretrained import model_type, quiet, read_config, read_model
from commonspace.models.folder import read_json
from commonspace.processing.audio import log_mel, read_audio
from commonspace.processing.preprocessing import Preprocessing

_SECONDS = 30.0  # that Whisper hears; what comes after is cut


class SpeechDecoder:
    """`language` ("fr") is for multilingual weights, which need it; English-only ones take none."""

    def __init__(self, folder: Path, *, device: str = "cpu", language: str | None = None) -> None:
        if (kind := model_type(folder)) != "whisper":
            raise ConfigError(f"{folder}: what transcribes takes Whisper's weights, these are of {kind}")
        config = read_config(WhisperConfig, folder)
        self.model = read_model(WhisperForConditionalGeneration, folder, config).to(device).eval()
        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise WeightsError(f"{folder}/tokenizer.json: cannot be read ({error}); copy the folder again") from error
        self.numbers = Preprocessing(audio_mels=config.num_mel_bins, max_audio_seconds=_SECONDS)
        self.longest = config.max_target_positions
        self.start = [config.decoder_start_token_id, *self._marks(folder, language)]

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
    def states(self, sound: Audio) -> torch.Tensor:
        """The encoder's states [1, T, D] of a sound's first thirty seconds."""
        return self.model.model.encoder(self._mel(sound)).last_hidden_state

    @torch.inference_mode()
    def transcribe(self, sound: Audio) -> str:
        """What is said in a sound's first thirty seconds, by the likeliest token at every step; "" for nothing."""
        start = torch.tensor([self.start], device=self.model.device)
        with quiet():  # of settings that Whisper's own generation sets
            ids = self.model.generate(self._mel(sound), decoder_input_ids=start, do_sample=False, num_beams=1)
        return self.tokenizer.decode(ids[0].tolist()).strip()

    def _mel(self, sound: Audio) -> torch.Tensor:
        """Log-mel frames [1, M, T] of thirty seconds, silence after the sound's end."""
        whole = int(_SECONDS * self.numbers.audio_rate)
        measure = lambda samples, numbers: log_mel(pad(samples, (0, whole - len(samples))), numbers)  # noqa: E731
        mel_MT, _ = read_audio(sound, self.numbers, cut=True, measure=measure)
        return mel_MT[None].to(self.model.device)
