from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from commonspace.errors import DataError
from data_prep import report
from data_prep.build import build_tier
from data_prep.report import write_report


@pytest.fixture
def page(tmp_path, source_of, row, png):
    def write(tier: str = "tiny"):
        rows = [row(f"a{n}", png(f"rgb({n},{n},90)"), f"thing | {n} <b>", f"thing {n}") for n in range(30)]
        one = source_of("one", [*rows, replace(rows[0], key="again")], licence="CC-BY-SA-4.0")
        hidden = [row(f"b{n}", png(f"rgb(9,{n},9)"), f"dish {n}", f"dish {n}", "food", "two") for n in range(4)]
        two = source_of("two", hidden, licence="AGPL-3.0", role="zero_shot")
        build_tier(tier, [one, two], tmp_path / "cache", tmp_path / "data", workers=1)
        return write_report(tier, tmp_path / "data" / tier, tmp_path / "docs", tmp_path / "cache")

    return write


def test_every_source_has_its_rows_licence_examples_and_drops(page):
    text = page().read_text()
    assert "| [one](#one) | CC-BY-SA-4.0 | train |" in text
    assert "| [two](#two) | AGPL-3.0 | zero-shot | 0 | 0 | 4 |" in text
    assert "Rows by modality: image -> text 30." in text
    assert "Texts and sounds by language (1): en 30." in text
    assert re.search(r"\| image_caption \| \[image\] \| thing \\\| \d+ &lt;b> \|", text)  # a cell stays one cell
    assert "| exact duplicate of an earlier row | 1 |" in text
    assert "{" not in text.split("## Licences")[1]  # every blank was filled in
    assert "| CC-BY-SA | one |" in text and "| GPL, AGPL | two |" in text and "data.only=[]" in text


def test_pictures_of_training_sources_only(page, tmp_path):
    text = page().read_text()
    assert "](results/data/tiny-one.png)" in text
    assert [path.name for path in (tmp_path / "docs/results/data").iterdir()] == ["tiny-one.png"]


def test_the_main_tier_has_the_plain_name(page):
    assert page("mini").name == "data.md" and page("tiny").name == "data-tiny.md"
    assert "](public_sets.md)" in page("mini").read_text() and "public_sets" not in page("tiny").read_text()


def test_the_same_tier_gives_the_same_page(page):
    assert page().read_bytes() == page().read_bytes()


def test_a_tier_that_was_not_built_is_named(tmp_path):
    with pytest.raises(DataError, match=r"commonspace data build data\.tier=tiny"):
        write_report("tiny", tmp_path / "data/tiny", tmp_path / "docs", tmp_path / "cache")


def test_a_tier_of_an_older_build_is_named(page, tmp_path):
    page()
    path = tmp_path / "data/tiny/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["task_kinds"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"older version; run `commonspace data build data\.tier=tiny`"):
        write_report("tiny", tmp_path / "data/tiny", tmp_path / "docs", tmp_path / "cache")
    path.write_text(json.dumps({**manifest, "mixed_of": {"one": "abc"}}))
    with pytest.raises(DataError, match=r"is a mixture, README\.md there is its card"):
        write_report("tiny", tmp_path / "data/tiny", tmp_path / "docs", tmp_path / "cache")


def test_modalities_and_languages_have_their_tables(page):
    text = page().read_text()
    assert "| image -> text | 34 | image_caption 30, food 4 |" in text
    assert "| image_caption | 1 | en 30 |" in text and "left out\n" not in text


def test_recorded_and_synthetic_speech_are_told_apart(tmp_path, source_of, row, monkeypatch):
    counts = {"said": 12, "espeak": 7}
    sources = [
        source_of(
            name,
            [row(f"{name}{n}", f"{name} q{n}", f"{name} p{n}", f"{name} {n}", "speech", name) for n in range(count)],
        )
        for name, count in counts.items()
    ]
    monkeypatch.setattr(report, "all_sources", lambda: {source.name: source for source in sources})
    for tier, taken, told in (("tiny", sources, True), ("mini", sources[:1], False)):
        build_tier(tier, taken, tmp_path / "cache", tmp_path / "data", workers=1)
        text = write_report(tier, tmp_path / "data" / tier, tmp_path / "docs", tmp_path / "cache").read_text()
        assert ("Speech: 12 recorded and 7 synthetic (eSpeak NG" in text) is told


def test_what_a_smaller_tier_shows_is_not_shown_again(tmp_path, source_of, row, monkeypatch):
    rows = [row(f"a{n}", f"q{n}", f"p{n}", f"thing {n}", source="inner") for n in range(9)]
    inner = source_of("inner", rows, tiers=frozenset({"mini"}))
    outer = [row(f"b{n}", f"x{n}", f"y{n}", f"other {n}", source="outer") for n in range(9)]
    small = [row(f"c{n}", f"v{n}", f"w{n}", f"third {n}", source="small") for n in range(9)]
    sources = [inner, source_of("outer", outer, tiers=frozenset({"full"}))]
    sources += [source_of("small", small, tiers=frozenset({"tiny", "full"}))]  # the tiny tier has no page in docs
    monkeypatch.setattr(report, "all_sources", lambda: {source.name: source for source in sources})
    build_tier("full", sources, tmp_path / "cache", tmp_path / "data", workers=1)
    text = write_report("full", tmp_path / "data/full", tmp_path / "docs", tmp_path / "cache").read_text()
    assert "| [inner](data.md#inner) |" in text and "| [outer](#outer) |" in text
    assert "## Looked at and left out" in text
    assert "| [small](#small) |" in text and "## small" in text
    assert "## outer" in text and "## inner" not in text and "is shown [there](data.md): inner." in text
