"""The script a text is written in, and whether it is that of the language it is said to be in.

Scripts tell Russian from English, not Danish from German: `languages.py` does, where its package is installed.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

# Scripts by the first word of Unicode's names. A language that is not listed is taken to be written in Latin.
_OF_LANGUAGE = {
    "ARABIC": "ar fa ur ps sd ug ku ckb",
    "ARMENIAN": "hy",
    "BENGALI": "bn as",
    "CYRILLIC": "ru uk bg be mk sr kk ky mn tg tt",
    "DEVANAGARI": "hi mr ne sa",
    "ETHIOPIC": "am ti",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he yi",
    "KANNADA": "kn",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "TIBETAN": "bo dz",
    "CJK": "zh ja ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
}
_ALSO_LATIN = frozenset("sr kk ky tg tt ku ug uz az".split())  # written in two scripts
_SCRIPTS: dict[str, set[str]] = {}
for _script, _codes in _OF_LANGUAGE.items():
    for _code in _codes.split():
        _SCRIPTS.setdefault(_code, set()).add(_script)


def script_of(text: str) -> str | None:
    """The script of most letters, as "LATIN" or "CYRILLIC"; None where there is no letter."""
    found = Counter(script for script in map(_script_of, text[:2000]) if script)
    return found.most_common(1)[0][0] if found else None


def fits(language: str | None, script: str | None) -> bool:
    """Whether a text of that script may be in that language; what is not known passes."""
    if language is None or script is None:
        return True
    base = language.replace("-", "_").partition("_")[0].lower()
    known = _SCRIPTS.get(base, {"LATIN"})
    return script in known or (script == "LATIN" and base in _ALSO_LATIN)


@lru_cache(maxsize=65536)
def _script_of(char: str) -> str | None:
    if not char.isalpha():
        return None
    name = unicodedata.name(char, "")
    first = name.partition(" ")[0].partition("-")[0]
    return first or None
