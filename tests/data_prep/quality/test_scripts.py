"""Scripts of texts, and which languages they may be in: by the share of letters, whatever form the code has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from data_prep.quality.rules import Limits
from data_prep.quality.scripts import fits, letters_of, script_names, scripts_of, share_in
from tests.data_prep.quality.test_mix import Tiers, numbers, photo

ENGLISH = "The pathname does not start with a slash, so that the lookup begins in the working directory."
TECHNICAL = [  # as in manual pages; of each more letters are Latin than of any other script
    ("ja", "shared huge page: メモリの共有されたページをダンプする。"),  # of which half are Japanese, in three scripts
    ("ja", "Bit 6 (Linux 2.6.28 以降) 共有されたヒュージページ (shared huge page) をダンプする。"),
    ("ja", "rtm_newtfilter, rtm_deltfilter, rtm_gettfilter トラフィックフィルターの情報を追加・削除・取得する。"),
    ("ru", "nt_arm_vfp регистры vfp/neon в arm"),
    ("ko", "아래는 filename.xml 파일 예제입니다:"),
]


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path)


@pytest.mark.parametrize("language, text", TECHNICAL)
def test_technical_texts_with_latin_names_are_in_their_language(language: str, text: str) -> None:
    letters = letters_of(text)
    assert next(iter(letters)) == "LATIN" and fits(language, letters)
    assert not fits(language, letters_of(ENGLISH)) and not fits("en", letters_of("Нет такого файла или каталога"))


def test_letters_are_counted_by_script() -> None:
    assert letters_of("赤い fox, キツネ 42!") == {"LATIN": 3, "KATAKANA": 3, "CJK": 1, "HIRAGANA": 1}
    assert letters_of("42!") == {} and fits("th", letters_of("42!")) and fits(None, {"THAI": 3})
    assert share_in({"LATIN": 3, "CJK": 1, "HIRAGANA": 4}, ("CJK", "HIRAGANA")) == 5 / 8
    few, enough = {"LATIN": 81, "CJK": 10, "HIRAGANA": 9}, {"LATIN": 80, "CJK": 10, "HIRAGANA": 10}
    assert not fits("ja", few) and fits("ja", enough)


@pytest.mark.parametrize(
    "code, script, fit",
    [
        ("rus", "CYRILLIC", True),
        ("rus", "LATIN", False),
        ("eng", "CYRILLIC", False),
        ("yue", "CJK", True),
        ("zh_Hans", "CJK", True),
        ("zho_Hans", "CJK", True),
        ("cmn", "LATIN", False),
        ("jpn", "KATAKANA", True),
        ("mai", "DEVANAGARI", True),
        ("uz", "CYRILLIC", True),
        ("uz", "LATIN", True),
        ("uz", "GREEK", False),
        ("sr@latin", "LATIN", True),
        ("be@latin", "LATIN", True),
        ("ru_Latn", "LATIN", True),
        ("pt-BR", "LATIN", True),
        ("pt-BR", "CYRILLIC", False),
        ("kk", "ARABIC", True),
        ("nqo", "NKO", True),
        ("nqo", "LATIN", True),
        ("x-unknown", "THAI", True),
    ],
)
def test_codes_of_every_form(code: str, script: str, fit: bool) -> None:
    assert fits(code, {script: 20}) == fit


def test_codes_of_three_letters_are_those_of_unicodes_tables() -> None:
    """What CLDR calls one language under two codes has the scripts of both here, its likely one among them."""
    core = pytest.importorskip("babel.core")
    aliases, likely = core.get_global("language_aliases"), core.get_global("likely_subtags")
    words = {"Latn": "LATIN", "Cyrl": "CYRILLIC", "Arab": "ARABIC", "Deva": "DEVANAGARI", "Hebr": "HEBREW"}
    checked: Counter[str] = Counter()
    for code, short in aliases.items():
        if len(code) == 3 and scripts_of(code) and len(short) == 2:
            named = scripts_of(short)
            assert scripts_of(code) <= named, code
            script = likely.get(short, "__").split("_")[1]
            assert words.get(script, script) in named or script not in words, code
            checked[script] += 1
    assert checked["Latn"] > 50 and sum(checked.values()) > 120


def test_rows_in_the_script_of_their_language_stay(tiers: Tiers) -> None:
    for number, (language, text) in enumerate([*TECHNICAL, ("ja", ENGLISH)]):
        tiers.tier("one", "train", f"task{number}", [(photo(number), text), (photo(50 + number), "42")], language)
    assert tiers.mix("one")["dropped"] == {"text not in a script of its language": 1}
    assert numbers(tiers.keys("task5")) == ["one-1"]
    wanted = Limits(scripts=("HIRAGANA", "KATAKANA", "CJK"), language_script=False)
    assert tiers.mix("one", limits=wanted)["dropped"] == {"other script": 5}  # half of the letters
    assert numbers(tiers.keys("task0")) == ["one-0", "one-1"]


def test_scripts_that_letters_have_are_known_by_name() -> None:
    assert {"LATIN", "CYRILLIC", "HIRAGANA", "CJK", "NKO", "THAI"} <= script_names() and "CYRILIC" not in script_names()
