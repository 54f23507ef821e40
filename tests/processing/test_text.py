from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from commonspace.errors import ContentError, WeightsError
from commonspace.processing.text import TextTokenizer


def test_specials_stand_around_exactly_what_the_tokenizer_gives(words: TextTokenizer):
    for text in ("w4 w5", "w9", ""):
        assert [*words.start, *words.ids(text), *words.end] == words.tokenizer.encode(text).ids
    assert (words.start, words.end) == ([0], [2])


def test_a_tokenizer_without_an_end_token():
    tokenizer = Tokenizer(models.WordLevel({"<bos>": 0, "a": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    wrapped = TextTokenizer(tokenizer)
    assert (wrapped.start, wrapped.end) == ([0], [])


def test_truncation_and_padding_of_a_tokenizer_file_are_switched_off(words: TextTokenizer):
    words.tokenizer.enable_truncation(3)
    words.tokenizer.enable_padding(length=8)
    assert len(TextTokenizer(words.tokenizer).ids("w4 w5 w6 w7 w8")) == 5


def test_half_a_surrogate_pair_is_named(words: TextTokenizer):
    with pytest.raises(ContentError, match="surrogate pair at character 3"):
        words.ids("w4 \ud800")


def test_a_folder_without_tokenizer(tmp_path: Path):
    with pytest.raises(WeightsError, match="holds no tokenizer.json"):
        TextTokenizer.from_folder(tmp_path)
