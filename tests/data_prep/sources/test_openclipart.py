from __future__ import annotations

from pathlib import Path

from data_prep.sources.openclipart import SOURCE, describe, file_name, tidy

_ROOT = "usr/share/openclipart/svg"
_NAMES = 'xmlns:rdf="urn:rdf" xmlns:cc="urn:cc" xmlns:dc="urn:dc"'


def _svg(title: str, keywords: tuple[str, ...] = (), colour: str = "red", head: str = "") -> str:
    words = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return (
        f'{head}<svg xmlns="http://www.w3.org/2000/svg" {_NAMES} width="40" height="40"><metadata><rdf:RDF><cc:Work>'
        f"<dc:title>{title}</dc:title><dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject><dc:creator><cc:Agent>"
        f"<dc:title>Someone</dc:title></cc:Agent></dc:creator></cc:Work></rdf:RDF></metadata>"
        f'<rect x="5" y="5" width="20" height="20" fill="{colour}"/></svg>'
    )


def test_drawings_become_captions_and_the_rest_is_counted(write, read, tmp_path: Path) -> None:
    drawings = {
        "food/pop_can.svg": _svg("Pop &amp; Can", ("food", "", "hash", "pop_can", "beverage", "pop &amp; can")),
        "food/again.svg": _svg("Pop &amp; Can", ("food", "", "hash", "pop_can", "beverage", "pop &amp; can")),
        "shapes/stars/s1.svg": _svg("gramastar", colour="blue"),
        "special/gradients/g.svg": _svg("Soft"),
        "computer/icons/flat-theme/applications/kwin.svg": _svg("Window"),
        "recreation/games/cards/white/white_h_9.svg": _svg("card"),
        "computer/icons/70a022.svg": _svg(""),
        "people/empty.svg": _svg("Nobody", colour="white"),
        "people/evil.svg": _svg("Evil", head='<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>'),
        **{
            f"set/thing_{name}_01.svg": _svg("A Collection", colour=name)
            for name in ("red", "tan", "blue", "pink", "gray")
        },
    }
    for name, text in drawings.items():
        write(f"{_ROOT}/{name}", text)
    (tmp_path / _ROOT / "food/link.svg").symlink_to(tmp_path / _ROOT / "food/pop_can.svg")
    records, drops = read(SOURCE, root=tmp_path)
    named = {record.concept: record for record in records["image_caption"]}
    assert set(named) == {"pop can", "thing red", "thing tan", "thing blue", "thing pink", "thing gray"}
    can = named["pop can"]
    assert [variant.content.parts[0].text for variant in can.positives] == ["Pop & Can (food, beverage)", "Pop & Can"]
    assert can.extra["category"] == "food"
    assert can.queries[0].content.parts[0].source[8:12] == b"WEBP"
    assert drops == {
        "byte-identical drawing": 1,
        "generated star": 1,
        "gradient": 1,
        "icon of a program or file type": 1,
        "playing card named by a code": 1,
        "name without words": 1,
        "drawing that cannot be rendered": 2,
    }


def test_names_lose_numbers_signatures_and_credits() -> None:
    assert tidy(file_name("clock_architetto_francesc_01")) == "clock"
    assert tidy(file_name("two_way-ahead.02")) == "two way ahead"
    assert tidy("Elefante 01") == "Elefante"
    assert describe(_svg("Clipart by Nicu B - bee").encode())[0] == "bee"
    assert describe(_svg("B &amp;amp; W").encode())[0] == "B & W"
    assert describe(b"<svg/>") == ("", [])
