"""WordNet: what a word means -> the words that mean it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.split import concept

_NAME = "wordnet"
_FILES = {"noun": "data.noun", "verb": "data.verb", "adjective": "data.adj", "adverb": "data.adv"}
_MIN_WORDS = 4  # of a gloss
_MAX_LEMMAS = 4
_MOST = 30_000  # of some 117,000: drawn by hash
# Lexicographer files of nouns (lexnames(5WN)).
CATEGORIES = dict(
    enumerate(
        """Tops act animal artifact attribute body cognition communication event feeling food group location motive
        object person phenomenon plant possession process quantity relation shape state substance time""".split(),
        start=3,
    )
)


@dataclass(frozen=True)
class Sense:
    """A set of synonyms: its place, its words, what they mean, and for nouns the field they belong to."""

    place: str
    lemmas: tuple[str, ...]
    gloss: str
    category: str


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`definition` records; the concept is the first word."""
    senses = [sense for sense in read_senses(folders["wordnet-base"]) if _usable(sense, drops)]
    senses.sort(key=lambda sense: hashlib.blake2b(sense.place.encode(), digest_size=8).digest())
    drops[f"beyond {_MOST:,} definitions"] += max(0, len(senses) - _MOST)
    for sense in senses[:_MOST]:
        yield Record(
            key=record_key(_NAME, sense.place),
            task="definition",
            source=_NAME,
            concept=concept(sense.lemmas[0]),
            queries=(Variant(Content(sense.gloss), "en"),),
            positives=(Variant(Content(", ".join(sense.lemmas[:_MAX_LEMMAS])), "en"),),
            extra={"category": sense.category},
        )


def read_senses(folder: Path) -> Iterator[Sense]:
    """All sets of synonyms (wndb(5WN)).

    Raises:
        DataError: a file is missing or not of that form.
    """
    for kind, file in _FILES.items():
        path = folder / "usr/share/wordnet" / file
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            for line in lines:
                if line and not line.startswith(" "):
                    yield _sense(line, kind)
        except (OSError, ValueError, IndexError) as error:
            raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete {folder} and build again") from error


def _sense(line: str, kind: str) -> Sense:
    """offset file-number type count-in-hex word id word id ... | gloss; "example"."""
    fields, _, gloss = line.partition("|")
    offset, file, _, count, *rest = fields.split()
    words = [rest[2 * number].partition("(")[0].replace("_", " ") for number in range(int(count, 16))]
    meaning = gloss.split('; "')[0].strip().rstrip(";")
    return Sense(f"{kind}/{offset}", tuple(words), meaning, CATEGORIES.get(int(file), kind) if kind == "noun" else kind)


def _usable(sense: Sense, drops: Counter) -> bool:
    words = {word.casefold() for word in sense.gloss.replace(",", " ").replace(";", " ").split()}
    if len(words) < _MIN_WORDS:
        drops["definition of a few words"] += 1
    elif any(lemma.casefold() in words for lemma in sense.lemmas):
        drops["definition that names the word"] += 1
    else:
        return True
    return False


SOURCE = Source(
    name=_NAME,
    packages=(
        Package(
            client="apt",
            name="wordnet-base",
            version="1:3.0-37",
            filename="wordnet-base_1%3a3.0-37_all.deb",
            sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
            bytes=6467132,
        ),
    ),
    licence="WordNet 3.0 licence (permissive, with notice; BSD-like)",
    provenance="WordNet 3.0 of Princeton University, as packed by Debian",
    tiers=frozenset({"full"}),
    records=records,
)
