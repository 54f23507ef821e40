"""Blocks of a page to contents: documents of texts and figures within a budget, and their halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from commonspace.content import Document, Image, Text
from data_prep.mallard import Block

MAX_FIGURES = 4
TEXT_TOKENS = 250
_BYTES_PER_TOKEN = 3.6  # UTF-8 bytes of a sentencepiece token, about
_SHORTEST_CUT = 12  # tokens: less than that of a paragraph is not worth a part


def token_estimate(text: str) -> int:
    """About how many tokens a text has."""
    return max(1, round(len(text.encode()) / _BYTES_PER_TOKEN))


def within_budget(blocks: Sequence[Block], figures: Mapping[str, Image]) -> list[Block]:
    """The blocks from the top that fit `TEXT_TOKENS` and `MAX_FIGURES`; the last text is cut at a word.

    Figures that `figures` lacks are left out, their captions too.
    """
    kept: list[Block] = []
    tokens = images = 0
    for block in blocks:
        if block.figure is not None and (block.figure not in figures or images == MAX_FIGURES):
            continue
        room = TEXT_TOKENS - tokens
        text = _cut(block.text, room)
        if block.text and not text:
            break
        kept.append(Block(text, block.heading, block.figure, block.alone))
        tokens += token_estimate(text) if text else 0
        images += block.figure is not None
        if text != block.text:
            break
    return kept


def as_document(blocks: Sequence[Block], figures: Mapping[str, Image]) -> Document | None:
    """Paragraphs in a row as one text, each figure followed by its caption; None where nothing is left."""
    parts: list[Text | Image] = []
    for is_figure, run in groupby(blocks, key=lambda block: block.figure is not None):
        if not is_figure:
            parts.append(Text("\n".join(block.text for block in run)))
            continue
        for block in run:
            parts.append(figures[block.figure])
            if block.text:
                parts.append(Text(block.text))
    return Document(*parts) if parts else None


def halves(blocks: Sequence[Block]) -> tuple[list[Block], list[Block]] | None:
    """The blocks cut where both sides weigh most alike, a figure as much as 30 tokens; None for fewer than two."""
    weights = [token_estimate(block.text) + (30 if block.figure else 0) for block in blocks]
    cuts = range(1, len(blocks))
    if not cuts:
        return None
    best = min(cuts, key=lambda cut: abs(sum(weights[:cut]) - sum(weights[cut:])))
    return list(blocks[:best]), list(blocks[best:])


def _cut(text: str, tokens: int) -> str:
    """The words from the start that fit, or "" where almost nothing would."""
    if not text or token_estimate(text) <= tokens:
        return text
    if tokens < _SHORTEST_CUT:
        return ""
    kept = text.encode()[: int(tokens * _BYTES_PER_TOKEN)].decode("utf-8", "ignore")
    return kept.rsplit(" ", 1)[0] if " " in kept else kept
