"""Other ways to ask for a documented function than its docstring: shorter, as a question, by its name; made by rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key
from data_prep.source import Source
from data_prep.sources import code, code_libraries

_NAME = "docstring-variants"
_FEWEST_WORDS = 3
_SENTENCE = re.compile(r"(?<=[^.\s]{2}[.!?])\s+(?=[A-Z])")
_TRUTH = re.compile(
    r"(?:returns?|checks?|tests?|determines?) (?:true )?(?:if|whether) (.+?)(?:,? (?:and|or|else)? ?false otherwise)?",
    re.I,
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# What docstrings begin with, as an order or as a statement; other openings make no question.
_VERBS = frozenset(
    """
    add apply build calculate calibrate clip combine compute construct convert copy count create decode decompose define
    delete determine draw encode estimate evaluate execute expand extract factor fill filter find fit format generate
    get give group initialize insert integrate interpolate iterate join list load look make map merge normalize obtain
    parse perform plot predict print process produce project read reduce remove rename replace resample reset reshape
    resize resolve retrieve return reverse rewrite rotate round run sample save scale search select set shift show
    simplify solve sort split store subtract sum swap transform transpose update validate verify visualize wrap write
    yield""".split()
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`docstring` records, for training alone: the ways to ask are variants of one record, its answer the body."""
    unread: Counter = Counter()  # what these sources leave out is in their own tables
    for row in chain(code.records(folders, unread), code_libraries.records(folders, unread)):
        docstring = row.queries[0].content.parts[0].text
        asked = variants(docstring, row.extra["function"], row.extra["package"])
        if not asked:
            drops["docstring that no rule varies"] += 1
            continue
        yield Record(
            key=record_key(_NAME, row.key),
            task="docstring",
            source=_NAME,
            concept=row.concept,
            queries=tuple(Variant(Content(text), "en") for text in asked),
            positives=row.positives,
            extra={**row.extra, "synthetic": "docstring variant", "members": [row.concept]},
        )


def variants(docstring: str, function: str, package: str) -> list[str]:
    """The opening sentence as a question, alone, and the function's name in words; those that say something new."""
    opening = _SENTENCE.split(docstring)[0]
    found = (_question(opening), opening, _name_in_words(function, package))
    return [text for text in dict.fromkeys(found) if text and text != docstring and _long_enough(text)]


def _question(sentence: str) -> str | None:
    """ "Returns the degree of a node." -> "How do I return the degree of a node?" """
    plain = sentence.rstrip(".!: ")
    if truth := _TRUTH.fullmatch(plain):
        return f"How do I check whether {truth[1]}?"
    first, _, rest = plain.partition(" ")
    verb = next((form for form in _stems(first.lower()) if form in _VERBS), None)
    return f"How do I {verb} {rest}?" if verb and rest else None


def _stems(word: str) -> tuple[str, ...]:
    """A verb's plain form where it may be in the third person: "computes", "searches", "applies"."""
    return (word, word.removesuffix("s"), word.removesuffix("es"), f"{word.removesuffix('ies')}y")


def _name_in_words(function: str, package: str) -> str | None:
    """ "Graph.shortest_path" -> "networkx function for shortest path"; None for names of one word and special ones."""
    name = function.split(".")[-1]
    words = [word if word.isupper() else word.lower() for word in _WORD.findall(name)]
    return None if name.startswith("__") or len(words) < 2 else f"{package} function for {' '.join(words)}"


def _long_enough(text: str) -> bool:
    return len(text.split()) >= _FEWEST_WORDS


_SOURCES = (code.SOURCE, code_libraries.SOURCE)

SOURCE = Source(
    name=_NAME,
    packages=tuple({package.name: package for source in _SOURCES for package in source.packages}.values()),
    licence=" and ".join(source.licence for source in _SOURCES),
    provenance="docstrings of the sources code and code-libraries",
    tiers=frozenset({"full"}),
    records=records,
)
