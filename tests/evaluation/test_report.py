"""The report is made of rows: comparisons are paired, figures are found again, pictures are pictures."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commonspace.errors import DataError
from commonspace.evaluation import plots, report
from commonspace.evaluation.comparison import compare, compare_models, primary, read_comparisons
from commonspace.evaluation.engine import evaluate, over_seeds, save
from commonspace.evaluation.geometry import geometry
from commonspace.evaluation.page import render
from commonspace.evaluation.results import (
    Scored,
    ranks_path,
    read_all,
    read_ranks,
    read_rows,
    rows_path,
    write_geometry,
    write_rows,
)
from commonspace.evaluation.results_index import write_index
from commonspace.evaluation.specs import COMPOSED
from commonspace.evaluation.suite import Suite, build_suite
from commonspace.evaluation.tables import Rows, figure, markdown, ordered, retention_table
from commonspace.tracking.lineage import Node, write_lineage
from tests.evaluation.made import FRUITS, HashModel, make_tier


class Noisy(HashModel):
    """Knows every fruit but for noise: less noise, better model."""

    def __init__(self, noise: float, seed: int = 0) -> None:
        super().__init__(lambda content: str(content.digest()) + str(seed))
        self.noise = noise
        self.names = HashModel(lambda content: next((f for f in FRUITS if f in label(content)), label(content)))

    def embed(self, contents, **options) -> np.ndarray:
        return self.names.embed(contents) + self.noise * super().embed(contents)


def label(content) -> str:
    part = content.parts[0]
    return getattr(part, "text", None) or part.read_bytes().decode("latin1")


@pytest.fixture
def folder(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of the results that a test may change."""
    shutil.copytree(evaluated, tmp_path / "results" / "made")
    return tmp_path / "results" / "made"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of late fusion with three seeds, of a worse model and of a better one."""
    suite, out = build_suite(make_tier(tmp_path_factory.mktemp("tier"))), tmp_path_factory.mktemp("results")
    near = {int(suite.task("image_caption", "image->text").query_digests[3]): "image hash"}
    options = {"near_duplicates": near, "draws": 200}
    images = Suite("heldout", "heldout", tuple(t for t in suite.tasks if t.name.startswith("image")))
    parts = [evaluate(Noisy(2.0, s), images, Scored("late_fusion", "baseline", seed=s), **options) for s in range(3)]
    save(out, parts, over_seeds(parts, 200))
    for name, noise, stage in (("pretrain", 2.5, "pretrain"), ("soup", 0.3, "soup")):
        scored = Scored(name, stage, command=f"commonspace evaluate embedder=models/made/{name}")
        save(out, [evaluate(Noisy(noise), suite, scored, dims=(8, 32), **options)])
    write_geometry(out, "soup", geometry(Noisy(0.3), suite))
    return out


def test_every_figure_is_in_a_row_and_pages_stand_alone(folder: Path) -> None:
    page = report.write(folder).read_text()
    text = (folder / "results.md").read_text()
    rows = Rows.of(read_all(folder))
    cells = rows.headline("MRR@10", "no_near_duplicates")
    assert all(figure(row) in text for cell in cells.values() for row in cell.values())
    assert "![" not in page and page.count("data:image/png;base64,") == text.count("](") >= 5
    assert "http" not in page and "results.md" not in page
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_index_links_each_tier_and_answers_for_the_main_one(folder: Path) -> None:
    docs = folder.parents[1]
    report.write(folder, docs)
    shutil.copytree(folder, folder.parent / "mini")
    report.write(folder.parent / "mini", docs)
    index = (docs / "results.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", index)
    assert set(links) == {
        f"results/{t}{file}" for t in ("mini", "made") for file in ("/results.md", "/report.html", "/")
    }
    assert all((folder.parents[1] / link).exists() for link in links) and "![" not in index
    assert index.count("soup - late_fusion") == 2 and "soup is above late_fusion on image_caption" in index
    assert len(index.splitlines()) < 40


def test_tiers_that_git_ignores_are_not_in_the_index(folder: Path) -> None:
    root = folder.parents[1]
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text("/results/quick/\n")
    report.write(folder, root)
    shutil.copytree(folder, folder.parent / "quick")
    report.write(folder.parent / "quick", root)
    index = (root / "results.md").read_text()
    assert "results/made/results.md" in index and "quick" not in index


def test_the_index_quotes_what_benchmarks_measured(folder: Path) -> None:
    table = "device cpu; cores 2\n\n| pairs | ratio |\n|---|---|\n| 64 | 1.50 |\n"
    (folder.parent / "benchmarks").mkdir()
    (folder.parent / "benchmarks/training.md").write_text(table)
    (folder.parent / "exactness.md").write_text("# Is it exact?\n")
    index = write_index(folder.parent).read_text()
    assert f"### training\n\n{table}" in index and "(results/exactness.md)" in index


def test_the_committed_index_is_of_the_committed_rows(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs"
    for link in re.findall(r"\]\(([^)]+)\)", (docs / "results.md").read_text()):
        assert (docs / link).exists()
    committed = [
        path for path in (docs / "results/mini").iterdir() if path.suffix in (".json", ".jsonl", ".md", ".html")
    ]
    (tmp_path / "results/mini").mkdir(parents=True)
    for path in committed:
        shutil.copy(path, tmp_path / "results/mini")
    for other in (
        "benchmarks",
        "exactness.md",
        "mini/speech",
        "mini/ablations",
        "mini/soups",
        "mini/soup_video",
        "mini/mteb",
        "mini_generated/ablations",
    ):
        if (docs / "results" / other).is_dir():
            shutil.copytree(docs / "results" / other, tmp_path / "results" / other)
        elif (docs / "results" / other).exists():
            shutil.copy(docs / "results" / other, tmp_path / "results")
    assert write_index(tmp_path / "results").read_text() == (docs / "results.md").read_text()


def test_models_of_a_whole_recipe_keep_their_colours_apart() -> None:
    names = ["chance", "bm25", "e5", "late_fusion", "late_fusion_sum", "late_fusion_mlp", "pretrain", "align",
             "finetune_base", "finetune_lora", "finetune_media", "finetune_cold", "specialist_image",
             "specialist_speech", "soup_uniform", "soup"]  # fmt: skip
    palette = plots.colours(names)
    points = np.array([[int(palette[name][i : i + 2], 16) for i in (1, 3, 5)] for name in names])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 999 * np.eye(len(names))
    assert distances.min() > 40


def test_a_second_report_is_the_same_and_needs_no_ranks(folder: Path) -> None:
    report.write(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.suffix != ".parquet"}
    kept = read_comparisons(folder)
    for path in folder.glob("*.parquet"):
        path.unlink()
    report.write(folder)
    assert read_comparisons(folder) == kept and kept
    assert b"| image_caption image->text | " in before["results.md"].split(b"| image hash |")[1], "why queries count"
    for name, data in before.items():
        assert (folder / name).read_bytes() == data, name


def test_rows_of_another_run_are_named(folder: Path) -> None:
    """A fine-tune of an earlier pretrained model beside the soup of a later one."""
    (folder / "speech").mkdir()
    for rows, pretrained in (("pretrain", "new"), ("soup", "new"), ("speech/soup_native", "old")):
        nodes = [Node(pretrained, "model", "pretrain"), Node(f"of-{rows}", "evaluation", rows, (pretrained,))]
        write_lineage(folder / f"{rows}.lineage.json", {node.id: node for node in nodes})
    report.write(folder)
    said = "Rows of `speech/soup_native` come from another run than `soup`: by another pretrain."
    assert (folder / "results.md").read_text().count("come from another run") == 1
    assert said in (folder / "results.md").read_text()


def test_a_difference_of_a_model_that_was_trained_again_is_forgotten(folder: Path) -> None:
    """Its ranks are not here, its name is, and its rows are another run's."""
    report.write(folder)
    assert any("pretrain" in (one.model, one.baseline) for one in read_comparisons(folder))
    ranks_path(folder, "pretrain").unlink()
    report.write(folder)
    assert any("pretrain" in (one.model, one.baseline) for one in read_comparisons(folder)), "the same rows: kept"
    rows = [replace(row, run_id="another") for row in read_rows(rows_path(folder, "pretrain"))]
    write_rows(folder, "pretrain", rows)
    report.write(folder)
    assert not any("pretrain" in (one.model, one.baseline) for one in read_comparisons(folder))


def test_only_its_own_files_are_written_and_taken_away(folder: Path) -> None:
    """A folder of the user's own: pictures that lie there stay, and nothing is written above it."""
    for name in ("holiday.png", "geometry.png", "long.png"):
        (folder / name).write_bytes(b"mine")
    report.write(folder, folder / "docs")
    assert (folder / "holiday.png").read_bytes() == b"mine"
    assert (folder / "geometry.png").read_bytes() != b"mine" and not (folder / "long.png").exists()
    assert not (folder.parents[1] / "results.md").exists() and not (folder.parent / "results.md").exists()


def test_no_rows_no_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result rows"):
        report.write(tmp_path)


def test_a_better_model_is_above_and_pairs_are_pairs(folder: Path) -> None:
    better, worse = primary(folder, "soup"), primary(folder, "pretrain")
    assert [one.task for one in better] == ["image_caption"]
    assert better[0].difference.low > 0 and better[0].p_holm < 0.05
    assert worse[0].difference.value < better[0].difference.value
    ranks = {name: read_ranks(folder, name) for name in ("soup", "late_fusion")}
    result = compare(ranks["soup"], ranks["late_fusion"], "image_caption", "MRR@10", "no_near_duplicates")
    assert result is not None
    first, second, gap = result
    assert gap.value == pytest.approx(first - second)
    rows = [r for r in read_all(folder) if (r.model, r.task, r.metric) == ("soup", "image_caption", "MRR@10")
            and (r.subset, r.suite, r.dim) == ("no_near_duplicates", "heldout", 32)]  # fmt: skip
    assert first == pytest.approx(np.mean([row.value for row in rows]), abs=1e-6) and len(rows) == 2


def test_of_composed_queries_every_relation_counts(folder: Path) -> None:
    ranks = {name: read_ranks(folder, name) for name in ("soup", "late_fusion")}
    several = []
    for table in ranks.values():
        asked = table[table["task"] == "image_caption"]
        again = asked.assign(query=asked["query"] + ":other")
        several.append(pd.concat([asked, again]).assign(task="stamp_language"))
    *_, gap = compare(*several, "stamp_language", "MRR@10", "all")
    *_, once = compare(*several, "stamp_language", "MRR@10", "all", direction="image->text")
    assert gap.queries == sum(len(t) for t in several[:1]) / several[0]["dim"].nunique() > once.queries > gap.units


def test_holm_covers_the_composed_tasks(folder: Path) -> None:
    late = read_ranks(folder, "late_fusion")
    asked = late[late["task"] == "image_caption"]
    for name, table in (("one", asked), ("two", asked.assign(**{"MRR@10": asked["MRR@10"] * 0.9}))):
        both = [table.assign(task=task) for task in ("stamp_language", "emoji_language")]
        pd.concat(both).to_parquet(ranks_path(folder, name))
    found = compare_models(folder, "one", "two", COMPOSED, subset="all")
    assert [one.task for one in found] == ["stamp_language", "emoji_language"]
    assert all(one.p_holm == pytest.approx(min(1, 2 * one.difference.p)) for one in found)


def test_models_scored_on_other_queries_are_not_compared(folder: Path) -> None:
    soup, late = (read_ranks(folder, name) for name in ("soup", "late_fusion"))
    fewer = soup[~soup["query"].str.startswith("c5:")]
    with pytest.raises(DataError, match="different queries"):
        compare(fewer, late, "image_caption", "MRR@10", "all")
    assert compare(soup, late, "speech", "MRR@10", "all") is None


def test_rows_over_seeds_are_means_with_wider_intervals(folder: Path) -> None:
    table = read_ranks(folder, "late_fusion")
    rows = [r for r in read_all(folder) if (r.model, r.metric, r.subset) == ("late_fusion", "MRR@10", "all")
            and (r.task, r.direction, r.suite) == ("image_caption", "image->text", "heldout")]  # fmt: skip
    pooled = next(row for row in rows if row.seed is None)
    singles = [row.value for row in rows if row.seed is not None]
    assert len(singles) == 3 == table["seed"].nunique() and pooled.value == pytest.approx(np.mean(singles), abs=1e-6)
    assert Rows.of(rows).rows == (pooled,)
    assert isinstance(table, pd.DataFrame)


def test_sizes_keep_a_share_of_the_full_size(folder: Path) -> None:
    rows = Rows.of(read_all(folder))
    curve = rows.sizes("image_caption", "image->text", "NDCG@10", "soup")
    assert set(curve) == {8, 32}
    assert f"{curve[8].value / curve[32].value:.1%}" in retention_table(rows, "soup")
    assert retention_table(rows, "nobody") == "One size only.\n"


def test_a_task_at_the_floor_counts_in_no_mean_of_sizes(folder: Path) -> None:
    rows = [row for row in read_all(folder) if row.model == "soup" and row.dim in (8, 32)]
    low = [replace(row, task="food", value={8: 0.09, 32: 0.01}[row.dim]) for row in rows if row.task == "image_caption"]
    with_floor = retention_table(Rows.of([*rows, *low]), "soup")
    assert with_floor.splitlines()[-1] == retention_table(Rows.of(rows), "soup").splitlines()[-1]
    assert "(at the floor, not in the mean)" in with_floor
    assert retention_table(Rows.of(low), "soup").splitlines()[-1].replace(" ", "") == "|mean|||"
    assert plots.sizes(Rows.of(low), "soup") is None


def test_models_stand_in_their_order() -> None:
    assert ordered(["soup", "x", "chance", "soup_uniform", "pretrain"]) == [
        "chance", "pretrain", "x", "soup_uniform", "soup",
    ]  # fmt: skip


def test_markdown_becomes_a_page_with_text_escaped() -> None:
    text = "# A <b>\n\npara `code` **bold**\n\n" + markdown(["a | b", "c"], [["<x>", "1"]]) + "\n- one\n- two"
    page = render(text, {})
    assert "<h1>A &lt;b&gt;</h1>" in page and "<code>code</code> <b>bold</b>" in page
    assert "<th>a | b</th>" in page and "<td>&lt;x&gt;</td>" in page and "<li>two</li>" in page


def test_stages_have_a_panel_a_task_and_specialists_stand_last() -> None:
    mini = read_all(Path(__file__).parents[2] / "docs/results/mini")
    drawn = plots.stages(Rows.of(mini), "MRR@10", "no_near_duplicates")
    shown = [axis for axis in drawn.axes if axis.get_visible()]
    assert len(shown) == len({axis.get_title("left") for axis in shown} - {""}) and len(drawn.axes) % 3 == 0
    assert all(line.has_yerr for axis in shown for line in axis.containers) and all(axis.containers for axis in shown)
    places = [tick.get_text() for tick in shown[-1].get_xticklabels()]
    assert places[:2] == ["align", "pretrain"] and places[-2:] == ["soup", "specialist"]
    (speech,) = [axis for axis in shown if axis.get_title("left") == "speech"]
    apart = speech.containers[1]
    assert {line[0].get_linestyle() for line in speech.containers} == {"None"}  # fine-tunes are no sequence
    ends = {rule.get_xdata()[0] for rule in speech.lines if rule.get_label().startswith("_child")} & {0.5, 1.5}
    assert ends == {0.5, 1.5}  # align and pretrain are a stage each
    (value,) = [
        row.value for row in mini
        if (row.model, row.task, row.direction, row.metric) == ("specialist_speech", "speech", "speech->text", "MRR@10")
        and (row.subset, row.source, row.suite, row.dim) == ("no_near_duplicates", "all", "heldout", 384)
    ]  # fmt: skip
    assert list(apart[0].get_ydata()) == [value] and round(apart[0].get_xdata()[0]) == places.index("specialist")


def test_panels_without_a_task_are_not_shown() -> None:
    mini = read_all(Path(__file__).parents[2] / "docs/results/mini")
    drawn = plots.stages(
        Rows.of(r for r in mini if r.task in ("image_caption", "figure")), "MRR@10", "no_near_duplicates"
    )
    assert [axis.get_title("left") for axis in drawn.axes if axis.get_visible()] == ["figure", "image_caption"]
