from __future__ import annotations

import io
import json
from collections import Counter

import pytest
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.languages import ASKED_LANGUAGES, LANGUAGE_NAMES
from data_prep.sources.openmoji import LANGUAGES, SOURCES
from data_prep.split import split_of

SOURCE, ASKED = SOURCES

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72"><circle cx="36" cy="36" r="28" fill="red"/></svg>'


def emoji(code: str, annotation: str, **fields) -> dict:
    plain = {"emoji": chr(int(code.split("-")[0], 16)), "hexcode": code, "group": "animals", "annotation": annotation}
    return plain | {"tags": "", "openmoji_tags": "", "skintone": ""} | fields


@pytest.fixture
def package(tmp_path, write):
    def make(*emojis: dict, names: dict[str, dict[str, str]] | None = None):
        write("package/data/openmoji.json", json.dumps(emojis))
        for item in emojis:
            write(f"package/color/svg/{item['hexcode']}.svg", item.get("svg", SVG))
        for language in LANGUAGES:
            table = {
                character: {"default": ["k"], "tts": [name]}
                for character, name in (names or {}).get(language, {}).items()
            }
            write(
                f"package/annotations/{language}/annotations.json", json.dumps({"annotations": {"annotations": table}})
            )
        return tmp_path

    return make


def test_a_drawing_with_its_names(package, read):
    fox = emoji("1F98A", "fox", tags="fox, animal", openmoji_tags="animal, Wild")
    root = package(fox, names={"fr": {"🦊": "renard"}, "de": {"🦊": "Fuchsgesicht"}})
    records, _ = read(SOURCE, root=root)
    [record] = records["image_caption"]
    assert [(v.language, v.content.parts[0].text) for v in record.positives] == [
        ("en", "fox"), ("en", "fox: animal, Wild"), ("de", "Fuchsgesicht"), ("fr", "renard"),
    ]  # fmt: skip
    picture = PILImage.open(io.BytesIO(record.queries[0].content.parts[0].source)).convert("RGB")
    width, height = picture.size
    assert width == height and 200 < width <= 288
    assert min(picture.getpixel((1, 1))) > 250  # transparent is white
    red, green, _ = picture.getpixel((width // 2, height // 2))
    assert red > 200 and green < 60


def test_at_least_twenty_languages():
    assert len(set(LANGUAGES)) == len(LANGUAGES) >= 20


def test_variants_of_a_person_are_dropped_or_share_a_concept(package, read):
    root = package(
        emoji("1F9D1", "farmer"),
        emoji("1F468", "man farmer"),
        emoji("1F469", "woman farmer: dark skin tone", skintone="5"),
        emoji("1F3FB", "light skin tone", group="component"),
    )
    records, drops = read(SOURCE, root=root)
    assert [record.concept for record in records["image_caption"]] == ["farmer", "farmer"]
    assert drops == {"skin tone variant": 1, "part of other emoji": 1}


def test_names_are_found_without_the_variation_selector(package, read):
    plane = emoji("2708", "airplane", emoji="✈️")
    records, _ = read(SOURCE, root=package(plane, names={"fr": {"✈": "avion"}}))
    assert records["image_caption"][0].positives[-1].content.parts[0].text == "avion"


def test_extras_are_named_like_files(package, read):
    records, _ = read(SOURCE, root=package(emoji("E001", "spouting-orca", group="extras-openmoji")))
    assert records["image_caption"][0].positives[0].content.parts[0].text == "spouting orca"


def test_a_drawing_that_cannot_be_rendered_is_counted(package, read):
    records, drops = read(SOURCE, root=package(emoji("1F98A", "fox", svg="<svg")))
    assert not records and drops == {"drawing cannot be rendered": 1}


def test_a_broken_package_is_named(package, read, write):
    root = package(emoji("1F98A", "fox"))
    write("package/annotations/fr/annotations.json", "{")
    with pytest.raises(DataError, match=r"annotations.fr.annotations\.json"):
        read(SOURCE, root=root)


def every_name(*titles: str) -> tuple[list[dict], dict[str, dict[str, str]]]:
    """Emojis of these titles, and a name of each in every language."""
    emojis = [emoji(f"{0x1F400 + number:X}", title) for number, title in enumerate(titles)]
    return emojis, {code: {item["emoji"]: f"{item['annotation']} {code}" for item in emojis} for code in LANGUAGES}


def test_a_drawing_is_asked_for_its_name_in_a_language(package, read):
    emojis, names = every_name("fox")
    root = package(*emojis, names=names)
    captioned = read(SOURCE, root=root)[0]["image_caption"][0]
    records, _ = read(ASKED, root=root)
    assert list(records) == ["emoji_language"] and len(records["emoji_language"]) == 6
    for record in records["emoji_language"]:
        language = record.extra["language"]
        drawing, words = record.queries[0].content.parts
        assert drawing.source == captioned.queries[0].content.parts[0].source
        assert words.text == LANGUAGE_NAMES[language]
        assert (record.concept, record.source) == ("fox", "openmoji-languages")
        assert [(v.language, v.content.parts[0].text) for v in record.positives] == [(language, f"fox {language}")]


def test_held_out_concepts_are_asked_in_more_languages_and_all_come_up(package, read):
    emojis, names = every_name(*(f"thing {number}" for number in range(60)))
    asked = read(ASKED, root=package(*emojis, names=names))[0]["emoji_language"]
    counts = Counter(record.concept for record in asked)
    assert {count for name, count in counts.items() if split_of(name) == "heldout"} == {10}
    assert {count for name, count in counts.items() if split_of(name) != "heldout"} == {6}
    languages = Counter(record.extra["language"] for record in asked)
    assert set(languages) == set(ASKED_LANGUAGES) and max(languages.values()) < 3 * min(languages.values())


def test_a_name_that_is_the_english_one_is_not_asked_for(package, read):
    root = package(emoji("1F916", "robot"), names={"de": {"🤖": "Robot"}, "fr": {"🤖": "visage de robot"}, "no": {}})
    asked = read(ASKED, root=root)[0]["emoji_language"]
    assert [record.extra["language"] for record in asked] == ["fr"]


def test_only_the_mini_tier_asks_for_languages():
    assert SOURCE.tiers == {"tiny", "mini"} and ASKED.tiers == {"mini"}
    assert set(ASKED_LANGUAGES) <= set(LANGUAGES)
