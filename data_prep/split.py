"""Which side of the data a row lies on. The concept decides, so one name is on one side over all tasks and sources."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal

from commonspace.errors import DataError

Split = Literal["train", "dev", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "dev", "heldout")

# Sprites of one mesh family move alike whatever their skin, so whole families are left out (docs/data.md).
_FIXED: dict[str, Split] = {"flare:wyvern": "heldout", "flare:grave": "heldout", "flare:zombie": "dev"}
_ARTICLES = frozenset({"a", "an", "the"})
_PERSON = frozenset(
    {"man", "men", "woman", "women", "boy", "girl", "person", "people", "adult", "child", "male", "female"}
)
_SKIN_TONE = re.compile(r"\b(light|medium-light|medium|medium-dark|dark) skin tone\b", re.IGNORECASE)


def concept(title: str) -> str:
    """The normalised English title: NFKC, casefold, no articles, no punctuation, single spaces.

    "The Red-Fox." and "red fox" are one concept. A title of nothing but articles or signs keeps them ("A", "+").

    Raises:
        DataError: the title is blank.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).casefold())
    folded = " ".join(folded.split())
    if not folded:
        raise DataError("a row has a blank title, so it has no concept; drop it in its source")
    bare = re.sub(r"['\u2018\u2019\u02bc]", "", folded)
    # Marks are kept beside letters: without its vowel signs a word of Hindi or Bengali is another word.
    signs = "".join(char if char.isalnum() or unicodedata.category(char)[0] == "M" else " " for char in bare)
    words = signs.split()
    return " ".join(word for word in words if word not in _ARTICLES) or " ".join(words) or folded


def emoji_concept(annotation: str) -> str:
    """The concept of an emoji: its name without skin tone, gender and person words; "person" where none is left.

    Variants of one base draw the same thing: "woman farmer: dark skin tone" is "farmer".
    """
    words = concept(_SKIN_TONE.sub(" ", annotation).strip(" :,") or annotation).split()
    return " ".join(word for word in words if word not in _PERSON) or "person"


def is_fixed(name: str) -> bool:
    """Whether a concept's side is set by hand rather than by its hash."""
    return name in _FIXED


def split_of(name: str) -> Split:
    """The side of a concept: blake2b modulo 100, 0-9 held-out, 10-14 dev, the rest train; fixed for mesh families."""
    if name in _FIXED:
        return _FIXED[name]
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % 100
    return "heldout" if number < 10 else "dev" if number < 15 else "train"
