from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.errors import DataError
from data_prep.languages import ASKED_LANGUAGES, LANGUAGE_NAMES
from data_prep.sources.tuxpaint import SOURCE, find_sounds, read_captions

_ROOT = "usr/share/tuxpaint/stamps"
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="20" height="30" fill="red"/></svg>'


def _stamp(english: str, **captions: str) -> str:
    return "\n".join([english, *(f"{language}.utf8={text}" for language, text in captions.items())])


@pytest.fixture
def stamps(write, picture, sound, tmp_path: Path) -> Path:
    hibou = sound(pitch=500)
    for name, data in {
        "animals/birds/owl.txt": _stamp(
            "An owl.", fr="Un hibou.", de="An owl.", iu="\u14f1", ru="\u0421\u043e\u0432\u0430."
        ),
        "animals/birds/owl.png": picture((300, 200)),
        "animals/birds/owl.ogg": sound(pitch=300),
        "animals/birds/owl_desc.ogg": sound(pitch=400),
        "animals/birds/OWL_desc_fr.ogg": hibou,
        "animals/birds/owl_desc_ru.ogg.ogg": hibou,  # the wrong file, and a doubled ending
        "animals/birds/owl_desc_es.ogg": sound(pitch=600),  # no Spanish caption
        "animals/birds/owl_desc_de.ogg": sound(0),
        "animals/cartoon/owl-2.txt": _stamp("The owl"),
        "animals/cartoon/owl-2.png": picture(colour="brown"),
        "animals/cartoon/owl_2_desc.ogg": b"OggS broken",
        "symbols/a.txt": _stamp("The letter A.", fr="La lettre A."),
        "symbols/a.svg": _SVG,
        "symbols/a_desc_fr.ogg": sound(pitch=700),
        "seasonal/hanukkah/top.txt": _stamp("A top."),
        "seasonal/hanukkah/top.svg": _SVG,
        "seasonal/hanukkah/top.ogg": sound(pitch=800),
        "town/none.txt": _stamp("Nothing."),
        "town/blank.txt": "\nfr.utf8=Rien",
        "town/blank.png": picture(),
        "town/bomb.txt": _stamp("A bomb."),
        "town/bomb.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 30,
        "town/lost_desc_fr.ogg": sound(pitch=900),
    }.items():
        write(f"{_ROOT}/{name}", data)
    return tmp_path


def test_every_task_of_a_stamp(stamps: Path, read) -> None:
    records, drops = read(SOURCE, root=stamps)
    assert {task: len(found) for task, found in records.items()} == {
        "image_caption": 4,
        "stamp_language": 2,
        "speech": 2,
        "sound": 1,
        "sketch": 1,
    }
    owl = next(record for record in records["image_caption"] if "birds" in record.key)
    assert [(variant.language, variant.content.parts[0].text) for variant in owl.positives] == [
        ("en", "An owl."),
        ("fr", "Un hibou."),
        ("ru", "\u0421\u043e\u0432\u0430."),
    ]
    assert (owl.concept, owl.extra["style"]) == ("owl", "photo")
    asked = {record.extra["language"]: record for record in records["stamp_language"]}
    assert set(asked) == {"fr", "ru"}
    assert asked["fr"].queries[0].content.parts[1].text == "French"
    assert asked["fr"].queries[0].content.parts[0] is owl.queries[0].content.parts[0]
    assert {record.extra["language"]: record.positives[0].content.parts[0].text for record in records["speech"]} == {
        "en": "An owl.",
        "fr": "Un hibou.",
    }
    assert records["sound"][0].queries[0].content.parts[0].source.name == "owl.ogg"
    sketch = records["sketch"][0]
    assert "cartoon" in sketch.queries[0].content.parts[0].name
    assert sketch.concept == "owl"
    assert drops == {
        "caption in a language the backbone never saw": 1,
        "byte-identical speech": 1,
        "speech without text in its language": 2,
        "speech that cannot be read": 1,
        "speech of a letter, coin or sign": 1,
        "sound that is speech": 1,
        "stamp without a readable picture or caption": 3,
        "speech without a stamp": 1,
    }


def test_an_empty_recording_is_dropped(write, picture, sound, read, tmp_path: Path) -> None:
    write(f"{_ROOT}/a/b.txt", _stamp("A bee.", fr="Une abeille."))
    write(f"{_ROOT}/a/b.png", picture())
    write(f"{_ROOT}/a/b_desc_fr.ogg", sound(0))
    records, drops = read(SOURCE, root=tmp_path)
    assert "speech" not in records
    assert sum(count for reason, count in drops.items() if reason.startswith("speech")) == 1


def test_noises_of_faces_and_without_a_stamp_are_kept_and_silence_is_not(write, picture, sound, read, tmp_path) -> None:
    for number, name in enumerate(("symbols/faces/mad", "symbols/math/one", "birds/rhea", "birds/crow", "birds/rook")):
        write(f"{_ROOT}/{name}.txt", _stamp(f"{name.rpartition('/')[2]}!"))
        write(f"{_ROOT}/{name}.png", picture(seed=number))
    crow = sound(pitch=300)
    for name, data in {
        "symbols/faces/mad": sound(pitch=200),
        "symbols/math/one": sound(pitch=250),  # read out
        "symbols/math/1_fr": sound(pitch=260),  # read out, and no stamp
        "birds/rhea": sound(pitch=0),
        "birds/crow": crow,
        "birds/rook": crow + b"a tag",  # the same samples in another file
        "insects/wood_wasp": sound(pitch=350),
    }.items():
        write(f"{_ROOT}/{name}.ogg", data)
    records, drops = read(SOURCE, root=tmp_path)
    found = {record.concept: record.positives[0].content.parts[0].text for record in records["sound"]}
    assert found == {"mad": "mad!", "crow": "crow!", "wood wasp": "wood wasp"}
    assert drops == {
        "sound of a letter, coin or sign": 1,
        "letter or number read out for no stamp": 1,
        "sound that is silent": 1,
        "sound that repeats another one, sample for sample": 1,
    }


def test_captions_need_english_and_keep_the_first_of_a_language(write, tmp_path: Path) -> None:
    path = write("x.txt", "A cat.\nfr.utf8=Un chat.\nfr.utf8=Deux\nbroken line\nde.utf8=...\nsr@latin.utf8=Ma\u010dka")
    assert read_captions(path) == {"en": "A cat.", "fr": "Un chat.", "sr@latin": "Ma\u010dka"}
    with pytest.raises(DataError, match=r"y\.txt"):
        read_captions(write("y.txt", ""))


def test_sounds_are_found_under_other_spellings(write, tmp_path: Path) -> None:
    for name in ("gnu_baby_desc_fr.ogg", "Gnu-baby_desc_pt_BR.wav", "gnu_baby.ogg"):
        write(f"a/{name}", b"")
    assert {language: path.name for language, path in find_sounds(tmp_path)["a/gnu_baby"].items()} == {
        "fr": "gnu_baby_desc_fr.ogg",
        "pt_BR": "Gnu-baby_desc_pt_BR.wav",
        "": "gnu_baby.ogg",
    }


def test_every_language_that_is_asked_for_has_a_name() -> None:
    assert len(ASKED_LANGUAGES) == len(set(ASKED_LANGUAGES)) == 20
    assert set(ASKED_LANGUAGES) <= set(LANGUAGE_NAMES)
