"""The notebooks of studies, on tiny data, made runs and the committed rows: they find what was put there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commonspace.data.rates import MEDIA
from commonspace.data.shards import ShardReader
from commonspace.evaluation.comparison import Compared, write_comparisons
from commonspace.evaluation.intervals import Difference
from commonspace.evaluation.results import write_ranks, write_rows
from commonspace.evaluation.studies.compare import FOLDER as KEPT
from commonspace.evaluation.studies.compare import Level, Study
from tests.negatives import write_negatives
from tests.notebooks.running import FOLDER, run
from tests.notebooks.test_read_runs import row
from tests.stages.training import start_model, write_pairs

RESULTS = FOLDER.parent / "docs/results/mini"


def level(label: str, scores: dict[str, float], mean: float, gap: float | None = None, **kept: object) -> Level:
    """A level of two cells; with `gap` it is that far from the reference, told apart where that is more than 0.1."""
    found = None if gap is None else Difference(gap, gap - 0.1, gap + 0.1, 0.01, 0.15, 80, 40)
    told = {"values": {}, "shares": dict.fromkeys(MEDIA, 0.2), **kept}
    p = None if gap is None else 0.01 if abs(gap) > 0.1 else 0.5
    return Level(label, {f"{label}{seed}": mean + seed / 100 for seed in (-1, 1)}, ("c",), scores, pairs=2,
                 difference=found, p_holm=p, **told)  # fmt: skip


def keep(folder: Path, family: str, levels: list[Level], reference: str | None) -> None:
    """As `commonspace evaluate ablations` keeps a family."""
    study = Study(family, "about", 2, 2 * len(levels), 2 * len(levels), tuple(levels), reference)
    (folder / KEPT).mkdir(parents=True, exist_ok=True)
    (folder / KEPT / f"{family}.json").write_text(json.dumps(study.to_json()))


def test_temperature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [
        level(
            f"temperature {temperature}, learning rate {rate}", {"speech": mean, "image_caption": 1 - mean}, mean, gap,
            values={"stage.temperature": temperature, "stage.learning_rate": rate},
        )
        for temperature, mean, gap in ((0.01, 0.4, -0.2), (0.05, 0.6, None), (0.2, 0.55, -0.05))
        for rate in (1e-5, 3e-5)
    ]  # fmt: skip
    levels.append(level("cell", {"speech": 0.5, "image_caption": 0.5}, 0.5))  # of the base alone
    keep(tmp_path, "temperature", levels, levels[3].label)
    shown = run("temperature.ipynb", monkeypatch, results=tmp_path)
    apart = f"MRR@10 on dev, less that at {levels[3].label}"
    assert [titles[0] for titles in shown.figures] == ["temperature", apart, "temperature"]
    assert len(shown.names["table"]) == 12, "two learning rates of three temperatures, two cells each"
    compared, by_task = shown.tables
    assert compared["p, Holm"].to_dict() == {one.label: one.p_holm for one in levels if one.difference}
    assert by_task.idxmax(axis=1).to_dict() == {"speech": 0.05, "image_caption": 0.01}


def test_the_notebook_of_temperatures_says_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, by_task = run("temperature.ipynb", monkeypatch, results=RESULTS).tables
    section = (RESULTS / "ablations.md").read_text().split("## temperature")[1].split("## ")[0]
    told = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "| temperature" in line
    ]
    page = {label: (p, shown) for label, _, _, shown, p, _ in told if p}
    assert len(page) == len(compared) == 9
    for label, one in compared.iterrows():
        shown = f"{one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
        assert page[label] == (f"{one['p, Holm']:.3f}", shown)
    assert list(by_task) == [0.01, 0.02, 0.05, 0.1, 0.2]


def test_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Scores that are a quadratic in the share of images; and cells without a medium, whose tasks suffer."""
    for family, reference in (("leave_one_out", "cell"), ("leave_one_out_rest", "without nothing")):
        left_out = [level(f"without {name}", {"speech": 0.1 if name == "audio" else 0.6}, 0.5, 0.05)
                    for name in ("audio", "image")]  # fmt: skip
        keep(tmp_path, family, [level(reference, {"speech": 0.5}, 0.5), *left_out], reference)
    mixtures = []
    for draw in range(1, 13):
        shares = np.random.default_rng(draw).dirichlet(np.ones(len(MEDIA)))
        image = shares[list(MEDIA).index("image")]
        told = dict(zip(MEDIA, shares.tolist(), strict=True))
        mixtures.append(level(f"dirichlet {draw}", {"speech": 0.5}, 0.4 + image * (1 - image), 0.0, shares=told))
    keep(tmp_path, "mixture", [level("cell", {"speech": 0.5}, 0.5), *mixtures], "cell")
    shown = run("mixture.ipynb", monkeypatch, results=tmp_path)
    assert [titles[0] for titles in shown.figures] == [
        "fixed total: the rest sees more", "the rest as long as before", "share of video", "mixtures left out",
    ]  # fmt: skip
    surface = shown.names["surface"]
    assert surface.explains and surface.media == tuple(MEDIA) and surface.mixtures == 12
    assert shown.names["above"].loc["speech"].to_dict() == pytest.approx({"without audio": -0.4, "without image": 0.1})
    assert [len(table) for table in shown.tables] == [2, 2], "the reference is compared with nothing"
    assert "error on mixtures not seen" in capsys.readouterr().out


def test_the_notebook_of_mixtures_says_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    surface = run("mixture.ipynb", monkeypatch, results=RESULTS).names["surface"]
    section = (RESULTS / "ablations.md").read_text().split("## mixture")[1].split("## ")[0]
    assert f"is {surface.error:.4f} off; the mean of the others is {surface.error_of_mean:.4f} off" in section


@pytest.mark.parametrize("name", ["temperature.ipynb", "mixture.ipynb"])
def test_where_no_cells_are_kept_a_notebook_says_which_command_keeps_some(name: str, tmp_path, monkeypatch, capsys):
    assert run(name, monkeypatch, results=tmp_path / "absent").figures == []
    assert "run `commonspace evaluate ablations` where their runs are" in capsys.readouterr().out


def test_soup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models/soup").mkdir(parents=True)
    members = [{"name": f"finetune_{name}", "share": share} for name, share in (("base", 0.25), ("lora", 0.75))]
    trials = [
        {"members": ["finetune_base"], "score": 0.5, "kept": False},
        {"members": ["finetune_lora"], "score": 0.6, "kept": True},
        {"members": ["finetune_lora", "finetune_base"], "score": 0.7, "kept": True},
    ]
    recipe = {
        "kind": "greedy",
        "ingredients": members,
        "dev": {"mean": 0.7},
        "dev_loss": {"mean": 1.0},
        "trials": trials,
    }
    learned = {**recipe, "kind": "learned", "learned": {"losses": [3.0, 2.0, 1.0]}}
    (tmp_path / "models/soup/soup.json").write_text(json.dumps(recipe))
    (tmp_path / "models/learned").mkdir()
    (tmp_path / "models/learned/soup.json").write_text(json.dumps(learned))
    pair = {"first": "finetune_base", "second": "finetune_lora", "places": [0.0, 0.5, 1.0], "loss": [2.0, 1.0, 2.0]}
    told = {"ingredients": members, "pairs": [{**pair, "score": [0.5, 0.7, 0.6], "barrier": -1.0}]}
    (tmp_path / "barriers.json").write_text(json.dumps(told))
    shown = run(
        "soup.ipynb", monkeypatch, models=tmp_path / "models", barriers=tmp_path / "barriers.json", results=RESULTS
    )
    assert shown.figures[0] == ["soup: green stayed, pink did not"] and shown.figures[1] == ["step"]
    assert shown.names["best"] == "finetune_lora", "the best ingredient is the one that dev says"
    (compared,) = (titles[0] for titles in shown.figures[2:])
    assert compared.startswith("soup - finetune_lora"), "the other soup has no rows"
    shares = next(table for table in shown.tables if isinstance(table, pd.DataFrame) and "dev loss" in table)
    assert shares.set_index("soup").loc["soup", "finetune_lora"] == 0.75
    (barriers,) = [table for table in shown.tables if not isinstance(table, pd.DataFrame)]
    assert barriers.axes[0].get_title().startswith("dev loss above the line")


def test_barriers_that_are_kept_beside_the_results_are_drawn(tmp_path: Path, monkeypatch) -> None:
    pair = {"first": "a", "second": "b", "places": [0.0, 0.5, 1.0], "loss": [2.0, 1.0, 2.0], "score": [0.5, 0.7, 0.6]}
    told = {"ingredients": [{"name": "a"}, {"name": "b"}], "pairs": [{**pair, "barrier": -1.0}]}
    write_soup(tmp_path)
    (tmp_path / "results/barriers.json").write_text(json.dumps(told))
    shown = run("soup.ipynb", monkeypatch, models=tmp_path / "models", results=tmp_path / "results")
    (barriers,) = [table for table in shown.tables if not isinstance(table, pd.DataFrame)]
    assert barriers.axes[0].get_title().startswith("dev loss above the line")


def test_the_soups_of_a_sweep_are_read_from_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone, without models and ranks: the recipe, the barriers and the pairs that lie beside the rows."""
    shown = run("soup.ipynb", monkeypatch, models=tmp_path / "none", results=RESULTS / "soups")
    (table,) = [one for one in shown.tables if isinstance(one, pd.DataFrame) and "p, Holm" in one]
    assert len(table) >= 20 and table["low"].notna().all() and (table["p, Holm"] > 0.05).all()
    assert shown.names["best"] == "soup_cell_0.2_s1"
    assert [one for one in shown.tables if not isinstance(one, pd.DataFrame)], "the barriers are drawn"


def write_soup(folder: Path) -> None:
    """A greedy soup of two, another that stayed with the better of them, and the rows of all three."""
    both = [{"name": name, "share": 0.5, "dev": dev} for name, dev in (("warm", 0.6), ("base", 0.5))]
    for name, members in (("soup", both), ("alone", both[:1])):
        (folder / "models" / name).mkdir(parents=True)
        recipe = {"kind": "uniform", "ingredients": members, "dev": {"mean": 0.7}}
        (folder / "models" / name / "soup.json").write_text(json.dumps(recipe))
    asked = [("image_caption", "text->image"), ("image_caption", "image->text"), ("speech", "speech->text")]
    for model, value in (("soup", 0.5), ("warm", 0.4), ("base", 0.3), ("alone", 0.4)):
        some = [row(model, value, task=task, direction=way, run_id=f"id-{model}") for task, way in asked]
        write_rows(folder / "results", model, some)


def write_seen(folder: Path, model: str, seed: int) -> pd.DataFrame:
    """Ranks of eight concepts asked in both tasks."""
    draw, asked = np.random.default_rng(seed), []
    for task, way in (("image_caption", "text->image"), ("image_caption", "image->text"), ("speech", "speech->text")):
        asked += [{"task": task, "direction": way, "query": f"{way}{n}", "concept": f"c{n}"} for n in range(8)]
    table = pd.DataFrame(asked).assign(grouped=False, dim=384, near_duplicate="", seed=None)
    table = table.assign(unit=table["concept"], **{"MRR@10": draw.random(len(table))})
    write_ranks(folder, model, table)
    return table


def test_soup_against_best_in_pairs_as_kept_and_from_ranks(tmp_path: Path, monkeypatch, capsys) -> None:
    write_soup(tmp_path)
    results, gap = tmp_path / "results", Difference(0.12, 0.05, 0.15, 0.01, 0.04, 80, 40)
    write_comparisons(
        results,
        [
            Compared(task, "both", "MRR@10", "no_near_duplicates", "soup", "warm", 0.5, 0.4, gap, 0.02, made)
            for task, made in (("image_caption", ("id-soup", "id-warm")), ("speech", ("id-soup", "id-older")))
        ],
    )
    places = {"models": tmp_path / "models", "barriers": tmp_path / "none", "results": results}
    table = run("soup.ipynb", monkeypatch, **places).tables[-1]
    assert table.loc["image_caption"].tolist() == [0.12, 0.05, 0.15, 0.02]
    assert table.loc["speech speech->text", "difference"] == pytest.approx(0.1), "what is kept is of an older model"
    assert table.loc["speech speech->text", ["low", "high"]].isna().all() and len(table) == 2
    assert "alone is warm alone" in capsys.readouterr().out
    first, second = write_seen(results, "soup", 1), write_seen(results, "warm", 2)
    gaps = (first["MRR@10"] - second["MRR@10"]).groupby([first["task"], first["direction"]]).mean()
    shown = run("soup.ipynb", monkeypatch, **places)
    assert shown.figures == [["soup - warm, paired"]]
    assert shown.tables[-1]["difference"].to_dict() == pytest.approx(gaps.groupby("task").mean().round(3).to_dict())
    assert (shown.tables[-1]["low"] < shown.tables[-1]["high"]).all()


def test_explorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path / "data", train=2, dev=6)
    start_model(tmp_path / "model")
    shown = run(
        "explorer.ipynb", monkeypatch, model=tmp_path / "model", data=tmp_path / "data", tasks="image_caption,absent"
    )
    (titles,) = shown.figures
    assert "first axis" in titles[0] and len(shown.names["pictured"]) == 6
    neighbours = shown.tables[-1]
    assert set(neighbours["medium"]) == {"image", "text"} and neighbours["1."].str.contains("image: |text: ").all()
    gaps = next(
        table for table in shown.tables if isinstance(table, pd.DataFrame) and list(table.columns) == list(table.index)
    )
    assert gaps.loc["image", "image"] == 0 and gaps.loc["image", "text"] == gaps.loc["text", "image"] > 0


def test_hard_negatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path / "data", train=8, dev=2)
    shards = ShardReader(tmp_path / "data/summary", "train")
    keys = [str(key) for key in shards.column("key")]
    lists = {key: [keys[(place + 1) % 8], keys[0 if place else 2]] for place, key in enumerate(keys)}
    lists[keys[3]] = [keys[3]]  # its own answer as a wrong one
    write_negatives(
        tmp_path / "negatives/summary.parquet", shards, lists, {key: [0.9, 0.5][: len(v)] for key, v in lists.items()}
    )
    other_way = {keys[0]: [keys[1]]}
    write_negatives(tmp_path / "negatives/summary.reverse.parquet", shards, other_way, {keys[0]: [0.7]})
    shown = run("hard_negatives.ipynb", monkeypatch, negatives=tmp_path / "negatives", data=tmp_path / "data")
    assert shown.figures == [["summary"], ["summary.reverse"]]
    counts, suspects, worst = shown.tables[-3:]
    asked = shards.read(0).queries[0].content.parts[0].text
    assert worst[worst["task"] == "summary.reverse"]["own answer"].tolist() == [asked[:60]]
    worst = worst[worst["task"] == "summary"]
    assert counts.loc["summary", "same concept"] == 1 and counts.loc["summary", "negatives looked at"] == 15
    assert suspects.iloc[0]["own answer"] == suspects.iloc[0]["negative"] and len(worst) == 8
    hubs = next(table for table in shown.tables if isinstance(table, pd.DataFrame) and "most" in table)
    assert hubs.iloc[0]["most"] == 7, "second of all but itself and the fourth, first of the last"


def test_errors_on_the_committed_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("errors.ipynb", monkeypatch, results=RESULTS, evaluated="soup")
    titles = [titles[0] for titles in shown.figures]
    assert {"image_caption_languages text->image", "speech_languages speech->text", "crosslingual en->xx"} <= set(
        titles
    )
    assert shown.names["by_source"] and all(row.source != "all" for row in shown.names["by_source"])
    behind = shown.tables[0]
    assert len(behind) and (behind["soup"] <= behind["late_fusion"]).all(), "rounded to what is shown"
