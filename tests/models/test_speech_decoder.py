"""Whisper's decoder on a sound: the likeliest token at every step, by a plain loop."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from commonspace.models.speech_decoder import SpeechDecoder
from tests.mining.test_pair_models import whisper
from tests.models.tiny import sound


def test_a_transcript_is_the_likeliest_token_at_every_step(tmp_path: Path) -> None:
    decoder = SpeechDecoder(whisper(tmp_path / "english"))
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "english").eval()
    heard = set()
    for part in (sound(0.5, 300.0), sound(1.2, 700.0), sound(2.0, 2500.0)):
        features = WhisperFeatureExtractor()(part.source, sampling_rate=16000, return_tensors="pt").input_features
        ids = [0, 2]
        while len(ids) < 24 and (len(ids) == 2 or ids[-1] != 0):
            with torch.no_grad():
                logits = model(input_features=features, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
            ids.append(int(logits.argmax()))
        expected = decoder.tokenizer.decode([token for token in ids[2:] if token]).strip()
        found = decoder.transcribe(part)
        assert expected.startswith(found) and len(found.split()) >= 15, "where none ends it, its own limit does"
        heard.add(found)
    assert len(heard) > 1
