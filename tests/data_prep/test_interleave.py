from __future__ import annotations

import pytest

from commonspace.content import Document, Image, Text
from data_prep.interleave import MAX_FIGURES, TEXT_TOKENS, as_document, halves, token_estimate, within_budget
from data_prep.mallard import Block

FIGURES = {f"{number}.png": Image(b"%d" % number) for number in range(9)}


def text(words: str) -> Block:
    return Block(words, "heading")


def figure(number: int, caption: str = "") -> Block:
    return Block(caption, "heading", f"{number}.png")


def test_paragraphs_join_and_figures_keep_their_captions():
    document = as_document([text("one"), text("two"), figure(1, "below it"), figure(2), text("three")], FIGURES)
    assert isinstance(document, Document)
    parts = [part.text if isinstance(part, Text) else part.source for part in document.parts]
    assert parts == ["one\ntwo", b"1", "below it", b"2", "three"]
    assert as_document([], FIGURES) is None


def test_texts_stop_at_the_budget_and_at_a_word():
    kept = within_budget([text("short"), text("word " * 2000), text("never")], FIGURES)
    assert kept[0].text == "short" and len(kept) == 2
    assert kept[1].text.endswith("word")
    total = sum(token_estimate(block.text) for block in kept)
    assert 0.9 * TEXT_TOKENS < total <= TEXT_TOKENS


@pytest.mark.parametrize("words", ["字" * 4000, "x" * 4000])
def test_a_text_without_spaces_is_cut_as_well(words):
    [block] = within_budget([text(words)], FIGURES)
    assert words.startswith(block.text) and 0 < token_estimate(block.text) <= TEXT_TOKENS


def test_only_so_many_figures_and_none_that_is_missing():
    blocks = [Block("lost", "heading", "missing.png"), *(figure(number) for number in range(9)), text("end")]
    kept = within_budget(blocks, FIGURES)
    assert [block.figure for block in kept] == [f"{number}.png" for number in range(MAX_FIGURES)] + [None]


def test_halves_weigh_alike_and_lose_nothing():
    blocks = [text("a " * 40), text("b " * 10), text("c " * 10), text("d " * 10), text("e " * 10)]
    first, second = halves(blocks)
    assert first == blocks[:1] and second == blocks[1:]
    assert halves(blocks[:1]) is None and halves([]) is None


def test_a_figure_weighs_as_much_as_a_sentence():
    blocks = [figure(1), figure(2), text("word " * 20), text("word " * 20)]
    assert halves(blocks) == (blocks[:2], blocks[2:])
