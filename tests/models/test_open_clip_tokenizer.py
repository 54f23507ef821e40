"""open_clip's tokenizers in the form that ships in model folders, against its own."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
from open_clip.tokenizer import canonicalize_text
from tokenizers import Tokenizer

from commonspace.errors import WeightsError
from commonspace.models.open_clip_tokenizer import clip_tokenizer, read_tokenizer
from commonspace.processing.text import TextTokenizer
from tests.models.tiny import tiny_tokenizer

TEXTS = [
    "a red fox", "", "  Two   spaces\n\n and\ttabs ", "it's they'll I'M", "12345 apples, 3.14!", "naïve café Straße",
    "ピンクのフラミンゴ。", "Красная лиса", "fox 🦊 snow ❄️", "a<end_of_text>b", "_under_score-dash (x) [y] {z} ~",
    "</w>",
]  # fmt: skip


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return clip_tokenizer()


@pytest.mark.parametrize("text", TEXTS)
def test_clips_ids_are_open_clips_own(clip: Tokenizer, text: str):
    own = open_clip.SimpleTokenizer()
    assert clip.encode(text).ids == [own.sot_token_id, *own.encode(text), own.eot_token_id]


def test_it_serves_as_the_tokenizer_of_a_model(clip: Tokenizer, tmp_path: Path):
    clip.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer.from_folder(tmp_path)
    assert (tokenizer.start, tokenizer.end) == ([49406], [49407])
    assert tokenizer.decode(tokenizer.ids("A red fox, naïve")) == "a red fox , naïve"


def test_siglips_texts_are_canonical(tmp_path: Path):
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    read = read_tokenizer(tmp_path, {"tokenizer_kwargs": {"clean": "canonicalize"}})
    for text in ("A Red_fox,  in the (snow)!", "BLUE-bird"):
        assert read.encode(text).ids == tiny_tokenizer().encode(canonicalize_text(text)).ids
    assert read_tokenizer(tmp_path, {}).encode("Red").ids != read_tokenizer(tmp_path, {}).encode("red").ids


def test_what_has_no_such_form_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match="holds no tokenizer.json; copy that of timm/ViT-B-16-SigLIP"):
        read_tokenizer(tmp_path, {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP"})
    for cfg in ({"tokenizer_mode": "clips"}, {"tokenizer_kwargs": {"strip_sep_token": True}}):
        with pytest.raises(WeightsError, match="are not read here"):
            read_tokenizer(tmp_path, cfg)
    with pytest.raises(WeightsError, match="knows 49408 tokens, its text tower 100"):
        read_tokenizer(tmp_path, {"vocab_size": 100})
