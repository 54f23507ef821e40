"""The paper's tables on small data sets in their published layouts: pools, figures, pages, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pandas as pd
import pytest

from commonspace.configuration import compose
from commonspace.content import Audio, Image, Text, Video
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.paper import run
from commonspace.evaluation.paper.layouts import LAYOUTS
from commonspace.evaluation.paper.models import load_model
from commonspace.evaluation.paper.pools import Captioned
from commonspace.evaluation.paper.rows import read_table
from commonspace.models.embedder import Embedder
from tests.evaluation.paper.conftest import pool, table_of
from tests.media import picture_bytes

TABLES = ("table1", "table3", "table4", "table6", "figure3")


@pytest.mark.parametrize(
    "table, row, queries, items, right, kinds",
    [
        ("table1", "I->I GUIEC", 2, 6, 2, ((Image,), (Image,))),
        ("table1", "I->I ImageNet", 6, 6, 2, ((Image,), (Image,))),
        ("table1", "T->I MSCOCO", 15, 3, 1, ((Text,), (Image,))),
        ("table1", "I->T MSCOCO", 3, 15, 5, ((Image,), (Text,))),
        ("table1", "I->T Flickr30k", 3, 15, 5, ((Image,), (Text,))),
        ("table1", "T->I DOCCI", 3, 3, 1, ((Text,), (Image,))),
        ("table1", "I->T TextCaps", 3, 6, 2, ((Image,), (Text,))),
        ("table1", "T->V VATEX", 6, 3, 1, ((Text,), (Video,))),
        ("table1", "T->V MSR-VTT", 3, 3, 1, ((Text,), (Video,))),
        ("table1", "T->V YouCook2", 2, 2, 1, ((Text,), (Video,))),
        ("table1", "I+T->T EncyclopedicVQA", 4, 5, 1, ((Image, Text), (Text,))),
        ("table1", "Doc ESG reports", 2, 4, 2, ((Text,), (Image,))),
        ("table3", "native in_language", 6, 8, 1, ((Audio,), (Text,))),
        ("table3", "ASR cascade cross_language", 3, 4, 1, ((Text,), (Text,))),
        ("table3", "true transcript all", 9, 12, 1, ((Text,), (Text,))),
        ("table4", "ArtCap", 4, 20, 5, ((Image,), (Text,))),
        ("table4", "Recipe1M ingredients", 4, 4, 1, ((Image,), (Text,))),
    ],
)
def test_pools_are_those_of_the_published_files(
    table: str, row: str, queries: int, items: int, right: int, kinds: tuple, root: Path
) -> None:
    asked = pool(root, table, row)
    assert (len(asked.queries), len(asked.items), len(asked.right[0])) == (queries, items, right)
    sides = (asked.queries, asked.items)
    assert tuple(tuple(map(type, side[0].parts)) for side in sides) == kinds
    assert all(0 <= item < items for some in asked.right for item in some) and asked.absent == 0


def test_pictures_and_texts_of_the_hubs_parquet_files(tmp_path: Path) -> None:
    """A picture that stands in two rows is one, with the texts of both; of a list of pictures the first is taken."""
    shown = [picture_bytes(np.full((8, 8, 3), shade, dtype=np.uint8)) for shade in (10, 90)]
    rows = {"figure": [[{"bytes": shown[n], "path": None}] for n in (0, 1, 0)], "caption": ["a", ["b", "c"], "d"]}
    rows["caption"] = [one if isinstance(one, list) else [one] for one in rows["caption"]]
    (tmp_path / "data").mkdir()
    pd.DataFrame(rows).to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
    found = LAYOUTS["parquet_captions"](tmp_path, image="figure", text="caption")
    assert [list(texts) for texts in found.texts] == [["a", "d"], ["b", "c"]]
    assert [content.parts[0].source for content in found.media] == shown
    with pytest.raises(DataError, match="has no column picture; it has figure, caption"):
        LAYOUTS["parquet_captions"](tmp_path, image="picture", text="caption")
    with pytest.raises(DataError, match="column caption holds no picture's bytes"):
        LAYOUTS["parquet_captions"](tmp_path, image="caption", text="figure")


def test_right_answers_are_those_of_the_medium(root: Path) -> None:
    captions = json.loads((root / "coco/dataset_coco.json").read_text())["images"]
    asked = pool(root, "table1", "I->T MSCOCO")
    for row, image in enumerate(captions[:3]):
        said = [asked.items[item].parts[0].text for item in asked.right[row]]
        assert said == [one["raw"] for one in image["sentences"]]
        assert asked.queries[row].parts[0].source.name == image["filename"]
    spoken = pool(root, "table3", "native all")
    for content, some, group in zip(spoken.queries, spoken.right, spoken.groups[0], strict=True):
        assert content.parts[0].source.stem.startswith(group.replace("/", "-"))
        assert spoken.groups[1][some[0]] == group


def test_answers_of_a_list_and_of_several_annotators_are_right_alike(root: Path) -> None:
    asked = pool(root, "table1", "I+T->T EncyclopedicVQA")
    assert [one.parts[0].text for one in asked.items] == ["fox", "red fox", "snow", "bird", "tree"]
    assert asked.right == [[0], [1, 0], [2, 3], [2, 1, 3, 4]]
    assert asked.units[2] == "2686843" and asked.queries[2].parts[0].source.parent.name == "inaturalist"


def test_pages_have_the_grades_of_their_judgements(root: Path) -> None:
    asked = pool(root, "table1", "Doc ESG reports")
    assert (asked.right, asked.gains) == ([[0, 1], [2]], [[1.0, 2.0], [1.0]])


@pytest.mark.parametrize("name", TABLES)
def test_tables_run_on_the_published_layouts(name: str, root: Path, folder: Path, tmp_path: Path) -> None:
    options = [
        f"experiment=paper/{name}",
        f"embedder={folder}",
        f"root={root}",
        f"paths.runs={tmp_path}",
        "bootstrap=20",
    ]
    config = compose("evaluate_paper", options)
    run.main(config)
    table = table_of(name)
    found = json.loads((tmp_path / "paper" / name / "tiny.json").read_text())
    assert list(found["rows"]) == [row.row for row in table.rows], "every row has its figure"
    text = (tmp_path / "paper" / name / "README.md").read_text()
    assert "| **tiny** |" in text and all(f"{model} (paper)" in text for model in table.models)
    for row in table.rows:
        assert all(f"{value:.1f}" in text for value in row.published.values())
        if row.mean:
            parts = [found["rows"][one]["value"] for one in row.mean]
            assert found["rows"][row.row]["value"] == pytest.approx(np.mean(parts))


def test_figures_are_kept_and_other_options_measure_again(
    root: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*more: str) -> int:
        calls: list[int] = []
        embed = Embedder.embed
        with monkeypatch.context() as patch:
            patch.setattr(
                Embedder,
                "embed",
                lambda self, given, **options: calls.append(len(given)) or embed(self, given, **options),
            )
            options = ["experiment=paper/table6", f"embedder={folder}", f"root={root}", f"paths.runs={tmp_path}"]
            run.main(compose("evaluate_paper", [*options, "bootstrap=20", *more]))
        return sum(calls)

    assert measured("only=[MSR-VTT]") == 6
    assert measured() == 4 + 9, "YouCook2 and VATEX; MSR-VTT is there"
    assert measured() == 0
    with pytest.raises(ConfigError, match="only: MSRVTT is no measured row of table6"):
        measured("only=[MSRVTT]")
    assert measured("video.max_frames=8") == 19
    assert measured("video.max_frames=8", "rows.0.metric=R@1") == 6, "of one row the question is another"
    assert measured("video.max_frames=8", "rows.0.metric=R@1", "bootstrap=30") == 19


def test_a_figure_of_other_data_is_not_this_ones(
    root: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips that come later, another clip under a name, other captions, and a folder whose last name is the same."""
    copytree(root / "msrvtt", tmp_path / "a/msrvtt")
    copytree(root / "msrvtt", tmp_path / "b/msrvtt")
    clips = sorted((tmp_path / "a/msrvtt/videos").iterdir())
    gone = clips[0].rename(tmp_path / "gone.mp4")

    def measured(place: str) -> tuple[int, int]:
        options = ["experiment=paper/table6", f"embedder={folder}", f"root={root}", f"paths.runs={tmp_path}"]
        more = ["only=[MSR-VTT]", "absent=skip", "bootstrap=20", f"folders={{msrvtt: {tmp_path / place}}}"]
        run.main(compose("evaluate_paper", [*options, *more]))
        found = json.loads((tmp_path / "paper/table6/tiny.json").read_text())["rows"]["MSR-VTT"]
        return found["queries"], found["absent"]

    calls: list[int] = []
    embed = Embedder.embed
    monkeypatch.setattr(Embedder, "embed", lambda self, given, **o: calls.append(len(given)) or embed(self, given, **o))
    assert measured("a/msrvtt") == (2, 1)
    gone.rename(clips[0])
    assert measured("a/msrvtt") == (3, 0), "the clip that was absent is there"
    count = len(calls)
    assert measured("b/msrvtt") == (3, 0) and len(calls) == count, "the same files, elsewhere"
    clips[1].write_bytes(clips[2].read_bytes())
    assert measured("a/msrvtt") == (3, 0) and len(calls) > count, "another clip under its name"
    count = len(calls)
    table = tmp_path / "a/msrvtt/MSRVTT_JSFUSION_test.csv"
    pd.read_csv(table).assign(sentence="snow").to_csv(table, index=False)
    measured("a/msrvtt")
    assert len(calls) > count, "other captions"


def test_frames_are_those_of_the_table(folder: Path) -> None:
    model = load_model(
        str(folder), "cpu", precision="32-true", video={"video_fps": 1.0, "video_max_frames": 32}, cache=None
    )
    assert model.model.processor.preprocessing.video_max_frames == 32
    assert model.model.processor.on_limit == "truncate"


def test_published_means_are_means_of_published_rows() -> None:
    """Table 1's own means and its overall figure follow from its rows, so no digit was lost on the way here."""
    table = table_of("table1")
    published = {row.row: row.published for row in table.rows}
    checked = 0
    for row in table.rows:
        for model, value in row.published.items() if row.mean else ():
            parts = [published[one].get(model) for one in row.mean]
            if all(part is not None for part in parts):
                assert value == pytest.approx(np.mean(parts), abs=0.12), (row.row, model)
                checked += 1
    assert checked >= 14


def test_absent_media_are_an_error_or_counted(root: Path, tmp_path: Path) -> None:
    copytree(root / "vatex", tmp_path / "vatex")
    file = "vatex_public_test_english_v1.1.json"
    gone = sorted((tmp_path / "vatex/videos").iterdir())[0]
    gone.unlink()
    with pytest.raises(DataError, match=f"{gone.name}: the data set names it and it is not there"):
        LAYOUTS["vatex"](tmp_path / "vatex", file)
    left = LAYOUTS["vatex"](tmp_path / "vatex", file, absent="skip")
    assert (len(left.media), left.absent) == (2, 1)
    with pytest.raises(DataError, match="dataset_coco.json: cannot be read .*docs/paper_tables.md has the layout"):
        LAYOUTS["karpathy"](tmp_path, "dataset_coco.json")


@pytest.mark.parametrize(
    "sets, rows, message",
    [
        ([], [], "rows: the table has none"),
        (
            [{"name": "a", "layout": "coco", "folder": "a"}],
            [{"row": "x", "set": "a"}],
            "layout 'coco' is none of karpathy",
        ),
        ([{"name": "a", "layout": "docci"}], [{"row": "x"}], "sets.0.: missing 1 required .*'folder'"),
        ([], [{"row": "x", "sett": "a"}], "rows.0.: sett is unknown; known are row, set"),
        ([], [{"row": "x"}], "x: needs a set, or the rows it is the mean of"),
        ([], [{"row": "x", "mean": ["y"]}], "x: mean of y, which no row before it is"),
    ],
)
def test_tables_that_say_nothing_are_refused(sets: list, rows: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_table("t", sets, rows)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"direction": "image->text", "metric": "P@1"}, "metric: 'P@1' is none of R@K"),
        ({"metric": "R@1"}, "a direction goes with captions"),
        (
            {"set": "coco", "direction": "image->text", "metric": "R@1"},
            "the layout karpathy needs file among its options",
        ),
        (
            {"direction": "image->text", "metric": "R@1", "options": {"splitt": "x"}},
            "splitt is no option of the layout docci",
        ),
    ],
)
def test_rows_that_cannot_be_asked_are_refused(row: dict, message: str) -> None:
    sets = [
        {"name": name, "layout": layout, "folder": name} for name, layout in (("docci", "docci"), ("coco", "karpathy"))
    ]
    with pytest.raises(ConfigError, match=message):
        read_table("t", sets, [{"row": "x", "set": "docci", **row}])
    with pytest.raises(ConfigError, match="direction: 'text->audio' is neither image->text nor text->image"):
        Captioned("image", [], []).asked("text->audio")
