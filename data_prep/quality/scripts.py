"""The scripts a text is written in, and whether they are those of the language it is said to be in.

Scripts tell Russian from English, not Danish from German: `languages.py` does, where its package is installed.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache

# Least share of a text's letters that are of its language: names, commands and options in Latin are often most of the
# letters of a technical sentence. Below it texts of the full tier were left in English but for a few words, or wholly.
LEAST = 0.2
READ = 2000  # characters of a text that are looked at

# Scripts by the first word of Unicode's names, languages by their codes of two letters, then of three (ISO 639-2 and
# -3). One under several scripts is written in any of them; of one that is not listed nothing is known.
_OF_LANGUAGE = {
    "LATIN": """
        af an az be br bs ca co crh cs cy da de en eo es et eu fi fo fr fy ga gd gl ha hr ht hu id ig is it jv kk ku ky
        la lb lg ln lt lv mg mi ms mt nb nl nn no oc om pl pt qu rm ro rw se sh sk sl sm sn so sq sr st su sv sw tg tk
        tl tr tt ug uz vi wa xh yo zu
        afr aze azj bel bre bos cat cos ces cze cym wel dan deu ger eng epo spa est ekk eus baq fin fao fra fre fry gle
        gla glg hau hrv hat hun ind ibo isl ice ita jav kaz kur kmr kir lat ltz lit lav lvs mlg plt mri mao msa may zsm
        mlt nob nld dut nno nor oci pol por que roh ron rum kin slk slo slv smo sna som sqi alb als hbs srp sot sun swe
        swa swh tgk tuk tgl fil tur tat uig uzb uzn vie wln xho yor zul""",
    "ARABIC": """ar az fa ha kk ks ku ky ms pa ps sd tg ug ur uz
        ara arb arz ary aze azj azb fas per pes prs hau kaz kas kur ckb sdh kir msa may zsm pan pnb pus pbu snd tgk uig
        urd uzb""",
    "CYRILLIC": """az ba be bg bs crh cv kk ku ky mk mn ru sh sr tg tk tt ug uk uz
        aze azj bak bel bul bos chv kaz kur kmr kir mkd mac mon khk rus srp hbs tgk tuk tat uig ukr uzb uzn""",
    "DEVANAGARI": "bho hi ks mai mr ne sa sd hin kas mar nep npi san snd",
    "ARMENIAN": "hy hye arm",
    "BENGALI": "as bn asm ben",
    "ETHIOPIC": "am ti amh tir",
    "GEORGIAN": "ka kat geo",
    "GREEK": "el ell gre grc",
    "GUJARATI": "gu guj",
    "GURMUKHI": "pa pan",
    "HANGUL": "ko kor",
    "HEBREW": "he iw yi heb hbo yid",
    "KANNADA": "kn kan",
    "KHMER": "km khm",
    "LAO": "lo lao",
    "MALAYALAM": "ml mal",
    "MONGOLIAN": "mn mon",
    "MYANMAR": "my mya bur",
    "ORIYA": "or ori ory",
    "SINHALA": "si sin",
    "TAMIL": "ta tam",
    "TELUGU": "te tel",
    "THAI": "th tha",
    "TIBETAN": "bo dz bod tib dzo",
    "CJK": "ja ko yue zh jpn kor zho chi cmn wuu lzh",
    "BOPOMOFO": "zh zho chi cmn",
    "HIRAGANA": "ja jpn",
    "KATAKANA": "ja jpn",
}
_SCRIPTS: dict[str, set[str]] = {}
for _script, _codes in _OF_LANGUAGE.items():
    for _code in _codes.split():
        _SCRIPTS.setdefault(_code, set()).add(_script)
_STATED = {"latn": "LATIN", "cyrl": "CYRILLIC", "arab": "ARABIC", "deva": "DEVANAGARI"}  # as in uz_Cyrl
_STATED |= {name.lower(): name for name in _OF_LANGUAGE}  # as in be@latin


def letters_of(text: str) -> dict[str, int]:
    """How many letters a text has of each script, as {"LATIN": 12, "CYRILLIC": 3}, most first."""
    return dict(Counter(script for script in map(_script_of, text[:READ]) if script).most_common())


def share_in(letters: Mapping[str, int], scripts: Collection[str]) -> float:
    """The share of a text's letters that are of some scripts; 1 where it has no letter."""
    total = sum(letters.values())
    return sum(letters.get(script, 0) for script in scripts) / total if total else 1.0


def fits(language: str | None, letters: Mapping[str, int], least: float = LEAST) -> bool:
    """Whether a text of these letters may be in that language: at least that share of them is of any script that the
    language is written in. What is not known passes: no language, one in no table, a text without letters.
    """
    scripts = scripts_of(language) if language else frozenset()
    return not scripts or share_in(letters, scripts) >= least


@lru_cache(maxsize=4096)
def scripts_of(language: str) -> frozenset[str]:
    """The scripts of a language code, as "ja", "zh_TW", "rus" or "sr@latin", which names a script too; none where it is
    in no table.
    """
    base, *rest = re.split(r"[-_@.]", language.lower())
    known = _SCRIPTS.get(base, set())
    return frozenset(known | {_STATED[part] for part in rest if part in _STATED} if known else ())


def script_names() -> set[str]:
    """Every script that a letter may be counted under."""
    return {script for code in range(sys.maxunicode + 1) if (script := _script_of.__wrapped__(chr(code)))}


@lru_cache(maxsize=65536)
def _script_of(char: str) -> str | None:
    if not char.isalpha():
        return None
    name = unicodedata.name(char, "")
    first = name.partition(" ")[0].partition("-")[0]
    return first or None
