"""The report adds up, shows what was mined, and reads as a page."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.evaluation.plots import png
from commonspace.mining.contact_sheet import Example, contact_sheet
from commonspace.mining.mine import mine
from commonspace.mining.options import MiningOptions
from commonspace.mining.plots import scores
from commonspace.mining.report import MEANING, describe, report_numbers, write_index, write_report
from commonspace.mining.rules import RULES
from tests.media import picture_bytes
from tests.mining.made import model, plain_pairs, write
from tests.mining.test_teachers import Fixed
from tests.models.tiny import clip, picture, sound


def mined_pairs(tmp_path: Path, margin: float | None = None, **given):
    reader = write(tmp_path, plain_pairs(30))
    options = MiningOptions(count=3, skip=1, depth=9, margin=margin)
    return reader, mine(model(), reader, options, tmp_path / "work", **given)


def test_the_numbers_add_up(tmp_path: Path) -> None:
    _, mined = mined_pairs(tmp_path, margin=0.95, chunk=7)
    numbers = report_numbers(mined, {"model": "made"})
    assert numbers["kept"] == len(mined.rows) == sum(numbers["negative_scores"])
    assert sum(numbers["positive_scores"]) == numbers["queries"] == 30
    assert sum(int(length) * count for length, count in numbers["list_lengths"].items()) == numbers["kept"]
    histograms = {name: sum(counts) for name, counts in numbers["neighbour_scores"].items()}
    assert histograms["left"] == numbers["candidates"] > 0 < numbers["dropped"]["margin"]
    assert {rule: histograms[rule] for rule in RULES} == numbers["dropped"]
    # Every neighbour in the window was taken by one rule or left: nine ranks a query, and what is known to be correct.
    assert sum(histograms.values()) - histograms["beyond"] == 30 * 9 + histograms["self"]
    assert histograms["above_window"] == 30 and numbers["ranks"]["lowest"] >= 2


def test_the_page_has_plots_and_twenty_examples(tmp_path: Path) -> None:
    judge = Fixed("judge", np.random.default_rng(0).random((30, 30)))
    reader, mined = mined_pairs(tmp_path, teachers=lambda *_: [judge])
    numbers = write_report(tmp_path / "report", reader, mined, {"model": "made"}, seed=1)
    assert numbers == json.loads((tmp_path / "report" / "any.json").read_text())
    text = (tmp_path / "report" / "any.md").read_text()
    assert text.count("- query: q") == 20 and all(f"| {rule} |" in text for rule in RULES)
    page = (tmp_path / "report" / "any.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "negative" in page
    for name in ("scores", "rules", "teachers"):
        drawn = np.asarray(pil.open(tmp_path / "report" / f"any.{name}.png").convert("RGB"))
        assert drawn.shape[1] > 800 and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20  # something is drawn
    assert not (tmp_path / "report" / "any.examples.png").exists()  # texts need no sheet
    key = text.split("### ")[1].split(" ")[0]
    row = reader.row_of(key)
    assert f"- positive {mined.positives[row]:.3f} [{judge.matrix[row, row]:.3f}]: t{row}|" in text
    assert png(scores(mined)) == (tmp_path / "report" / "any.scores.png").read_bytes()  # equal plots are equal files


def test_the_index_has_a_line_a_task(tmp_path: Path) -> None:
    found = {}
    for direction, name in (("forward", "any"), ("reverse", "any.reverse")):
        _, mined = mined_pairs(tmp_path, direction=direction)
        found[name] = report_numbers(mined, {})
        (tmp_path / f"{name}.json").write_text(json.dumps(found[name]))
    (tmp_path / "older.json").write_text('{"queries": 7, "kept": 3}\n')  # as an earlier version wrote it
    write_index(tmp_path)
    index = (tmp_path / "index.md").read_text()
    assert "older" not in index
    assert all(f"| {name} | 30 | {numbers['kept']} |" in index for name, numbers in found.items())
    assert "<td>any.reverse</td>" in (tmp_path / "index.html").read_text()


def test_every_rule_is_explained() -> None:
    assert set(MEANING) == set(RULES)


def test_nothing_kept_is_reported_too(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(4))
    mined = mine(model(), reader, MiningOptions(margin=None, max_score=-0.999), tmp_path / "work")
    numbers = write_report(tmp_path / "report", reader, mined, {})
    assert numbers["kept"] == 0 and numbers["list_lengths"] == {"0": 4}
    assert numbers == report_numbers(mined, {}) and "## 0 examples" in (tmp_path / "report" / "any.md").read_text()


def test_pictures_are_shown(tmp_path: Path) -> None:
    def record(n: int) -> Record:
        pixels = np.zeros((20, 20, 3), dtype=np.uint8) + np.array([250, 10 * n, 0], dtype=np.uint8)
        query = Content(f"q{n}|{n + 1} 1", Image(picture_bytes(pixels), name=f"{n}.png"))
        return Record(f"r{n}", "any", "made", f"c{n}", (Variant(query),), (Variant(Content(f"t{n}|{n + 2} 1"), "en"),))

    reader = write(tmp_path, [record(n) for n in range(6)])
    mined = mine(model(), reader, MiningOptions(count=2, margin=None), tmp_path / "work")
    write_report(tmp_path / "report", reader, mined, {})
    sheet = np.asarray(pil.open(tmp_path / "report" / "any.examples.png").convert("RGB")).astype(int)
    red = (sheet[..., 0] > 230) & (sheet[..., 1] < 70) & (sheet[..., 2] < 20)
    assert red[:, :150].sum() > 500 and red[:, 150:].sum() == 0  # queries' pictures stand in the first column


def test_a_sheet_shows_every_modality_and_what_cannot_be_read() -> None:
    broken = Content(Image(b"\x89PNG broken", name="broken.png"))
    wrong = [Content(sound()), Content(clip(1)), Content("a red fox"), broken]
    one = Example(
        "key", "concept", Content(picture(1)), Content("fox"), wrong, ["c"] * 4, [0.9, 0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]
    )
    sheet = contact_sheet([one])
    assert sheet is not None
    drawn = np.asarray(pil.open(io.BytesIO(sheet)).convert("RGB"))
    assert drawn.shape == (162, 900, 3)
    inside = [drawn[8:140, 150 * column + 8 : 150 * column + 140].reshape(-1, 3) for column in range(6)]
    colours = [len(np.unique(cell, axis=0)) for cell in inside]
    assert colours[0] > 50 and colours[2] > 20 and colours[3] > 50  # picture, spectrum, frames
    assert all(count > 1 for count in colours)  # letters
    assert one.told(2) == "0.200"
    texts = Example("key", "c", Content("a"), Content("b"), [Content("c")], ["c"], [0.9, 0.1], [1])
    assert contact_sheet([texts]) is None and contact_sheet([]) is None


@pytest.mark.parametrize(("length", "expected"), [(40, "a b [image x.png] end"), (10, "a b [im...")])
def test_contents_on_one_line(length: int, expected: str) -> None:
    assert describe(Content("a\n b", Image(b"1", name="x.png"), "end"), length) == expected
