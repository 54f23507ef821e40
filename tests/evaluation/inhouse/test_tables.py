"""`commonspace evaluate tables` on made rows: what stands in a cell, what is missing, and which command makes it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from commonspace.cli import overrides_of, split_command
from commonspace.commands import COMMANDS
from commonspace.configuration import compose
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation import baselines
from commonspace.evaluation.comparison import Compared
from commonspace.evaluation.engine import Evaluated, save
from commonspace.evaluation.inhouse import run
from commonspace.evaluation.inhouse.cells import Cells
from commonspace.evaluation.inhouse.layout import read_tables
from commonspace.evaluation.inhouse.page import page
from commonspace.evaluation.intervals import Difference
from commonspace.evaluation.metrics import METRICS
from commonspace.evaluation.places import models_of
from commonspace.evaluation.results import Row, Scored
from commonspace.evaluation.results_index import PAPER_TABLES
from commonspace.evaluation.specs import SPECS
from commonspace.evaluation.speech.forms import FORMS, column
from commonspace.evaluation.summary import summarise
from commonspace.evaluation.tables import comparison_table

MODELS = {
    "base": {"made": ["train experiment=mini/base", "evaluate embedder=models/mini/base"]},
    "soup": {"made": ["soup experiment=mini/soup", "evaluate embedder=models/mini/soup"]},
    "bm25": {"made": ["evaluate embedder=bm25"], "answers": ["code"]},
}
TABLE = {
    "name": "Table 1",
    "about": "Of two tasks.",
    "rows": ["code text->code NDCG@10", "speech speech->text MRR@10", "fish image->text R@5"],
    "models": ["bm25", "base", "soup"],
    "pairs": [["soup", "base"]],
}
ROW = Row("heldout", "code", "text->code", "heldout", "no_near_duplicates", "all", "all", "NDCG@10", 0.5, (0.4, 0.6),
          60, 300.0, 384, "float32", "query", "soup", "soup", None, None, None, None)  # fmt: skip


def shown(*rows: Row, **changes: Any) -> Cells:
    (table,) = read_tables(MODELS, [{**TABLE, **changes}], "mini")
    return Cells(table, rows, "no_near_duplicates")


def test_a_cell_is_the_headline_row_at_full_size_without_near_duplicates() -> None:
    others = [
        replace(ROW, value=0.1, dim=96),
        replace(ROW, value=0.2, subset="all"),
        replace(ROW, value=0.3, suite="heldout_every_query"),
        replace(ROW, value=0.35, metric="R@1"),
        replace(ROW, value=0.36, precision="int8"),
        replace(ROW, value=0.37, source="numpy"),
    ]
    cells = shown(*others, ROW, replace(ROW, model="bm25", dim=None, value=0.4))
    assert {name: row.value for name, row in cells.line(cells.table.lines[0]).items()} == {"bm25": 0.4, "soup": 0.5}


def test_a_task_without_that_subset_is_shown_over_all_queries() -> None:
    speech = replace(ROW, task="speech", direction="speech->text", metric="MRR@10", subset="all")
    cells = shown(speech, ROW, replace(ROW, subset="all", model="base"))
    code, spoken, _ = cells.table.lines
    assert set(cells.line(spoken)) == {"soup"}
    assert set(cells.line(code)) == {"soup"}, "rows of other queries do not stand beside one another"


def test_what_is_missing_is_named_with_its_command() -> None:
    speech = replace(ROW, task="speech", direction="speech->text", metric="MRR@10")
    cells = shown(ROW, speech, replace(ROW, model="bm25", dim=None))
    assert {model: [line.task for line in lines] for model, lines in cells.lacking().items()} == {
        "base": ["code", "speech"]
    }
    assert cells.commands("base") == tuple(MODELS["base"]["made"]), "it was never trained here"
    assert cells.commands("soup") == ("evaluate embedder=models/mini/soup",)
    assert [line.task for line in cells.nowhere()] == ["fish"]


def test_rows_of_several_commits_are_told_apart() -> None:
    of_one = [replace(ROW, model=model, commit="a" * 40) for model in ("base", "soup")]
    assert "several commits" not in page("mini", "x", [(shown(*of_one), [])])
    told = page("mini", "x", [(shown(of_one[0], replace(ROW, commit=None)), [])])
    assert f"Evaluated at several commits, so differences may be the code's: {'a' * 12}: base; no commit: soup." in told


def test_what_is_told_apart_is_counted_by_pair_and_once() -> None:
    gaps = {"code": (0.2, 0.01), "speech": (-0.1, 0.04), "fish": (0.3, 0.06)}
    found = [
        Compared(
            task, "both", "R@1", "all", "soup", "base", 0.5, 0.5, Difference(gap, 0.0, 0.0, p, 0.0, 9, 9), p_holm=p
        )
        for task, (gap, p) in gaps.items()
    ]
    told = page("mini", "x", [(shown(ROW), found), (shown(ROW), found[:1])])
    assert "| soup | base | 3 | 1 | 1 | code both R@1 | speech both R@1 |" in told
    assert "Which is better" not in page("mini", "x", [(shown(ROW), [])])


def test_a_folder_that_nothing_was_evaluated_into_is_named_with_its_commands() -> None:
    told = page("mini", "x", [(shown(folder="speech"), [])])
    assert "No rows lie in speech/ yet; made by `commonspace soup experiment=mini/soup`, `commonspace evaluate" in told
    assert "a tier's sources decide" not in told
    assert "No rows lie in" not in page("mini", "x", [(shown(ROW, folder="speech"), [])])


def test_means_are_of_models_with_every_line() -> None:
    speech = replace(ROW, task="speech", direction="speech->text", metric="MRR@10", value=0.9)
    cells = shown(ROW, speech, replace(ROW, model="base"))
    by_name = {column.name: cells.mean(column) for column in cells.table.columns}
    assert by_name == {"bm25": None, "base": None, "soup": pytest.approx(0.7)}


def test_seeds_are_told_where_their_mean_stands() -> None:
    seeds = [replace(ROW, seed=seed, value=0.5 + seed / 100) for seed in (1, 2)]
    other = replace(ROW, model="base", seed=1)
    found = shown(ROW, *seeds, other).seeds()
    assert {model: {line.task: sorted(rows) for line, rows in lines.items()} for model, lines in found.items()} == {
        "soup": {"code": [1, 2]}
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rows": ["code NDCG@10"]}, "'code NDCG@10' is no row"),
        ({"rows": ["code text->code F1"]}, "TASK DIRECTION METRIC, of R@1"),
        ({"models": ["gpt"]}, "Table 1: gpt is none of `models`"),
        ({"pairs": [["soup", "gpt"]]}, "gpt is none of `models`"),
        ({"colour": "red"}, "Table 1: needs name, about, rows and models"),
    ],
)
def test_tables_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_tables(MODELS, [{**TABLE, **changes}], "mini")


def test_a_column_needs_its_commands() -> None:
    with pytest.raises(ConfigError, match=r"models\.x: takes `made`"):
        read_tables({"x": {"answers": ["code"]}}, [], "mini")


def ranked(model: str, seed: int) -> Evaluated:
    """Forty made queries of code, clustered in twenty concepts."""
    rng = np.random.default_rng(seed)
    gain = rng.random(40)
    columns = dict.fromkeys(METRICS, gain)
    table = pd.DataFrame({
        "task": "code", "suite": "heldout", "split": "heldout", "direction": "text->code", "grouped": False,
        "query": [f"q{n}" for n in range(40)], "digest": range(40), "concept": [f"c{n // 2}" for n in range(40)],
        "unit": [f"u{n}" for n in range(40)], "language": "en", "source": "numpy", "pool": 40, "correct": 1,
        "dim": pd.array([384] * 40, "Int64"), "seed": pd.array([pd.NA] * 40, "Int64"), "near_duplicate": "",
        "rank": 1, **columns,
    })  # fmt: skip
    return Evaluated(summarise(table, Scored(model, "soup"), draws=50), table)


def test_the_command_writes_a_page_a_plot_and_differences_that_outlive_the_ranks(tmp_path: Path) -> None:
    out = tmp_path / "mini"
    for seed, name in enumerate(("pretrain", "finetune_base")):
        save(out, [ranked(name, seed)])
    config = compose("evaluate_tables", [f"output={out}"])
    run.main(config)
    first = (out / PAPER_TABLES).read_text()
    assert "| code text->code | NDCG@10 | 40 | 40 |" in first
    assert "- soup: every row; made by `commonspace soup experiment=mini/soup`, `commonspace evaluate" in first
    assert "| finetune_base - pretrain | code (text->code) | NDCG@10 |" in first
    assert (out / "figure3.png").stat().st_size > 1000
    for path in out.glob("*.ranks.parquet"):
        path.unlink()
    run.main(config)
    assert (out / PAPER_TABLES).read_text() == first


def test_rows_of_a_folder_beside_join_with_differences_kept_there(tmp_path: Path) -> None:
    places = {"code": tmp_path, "fish": tmp_path / "sea"}
    for task, place in places.items():
        for seed, name in enumerate(("soup", "base")):
            one = ranked(name, seed)
            rows = [replace(row, task=task, direction="text->code") for row in one.rows]
            save(place, [Evaluated(rows, one.ranks.assign(task=task))])
    (table,) = read_tables(
        MODELS, [{**TABLE, "rows": [f"{task} text->code NDCG@10" for task in places], "beside": ["sea"]}], "mini"
    )
    cells = Cells(table, run.rows_of(tmp_path, table), "no_near_duplicates")
    assert {line.task: set(cells.line(line)) for line in cells.lines()} == {key: {"soup", "base"} for key in places}
    first = run.differences(tmp_path, cells)
    assert [one.task for one in first] == ["code", "fish"]
    for place in places.values():
        for path in place.glob("*.ranks.parquet"):
            path.unlink()
    assert comparison_table(run.differences(tmp_path, cells)) == comparison_table(first)


def test_without_rows_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result rows; run `commonspace evaluate` first"):
        run.main(compose("evaluate_tables", [f"output={tmp_path}"]))


PLAIN = compose("evaluate_tables")


def test_rows_are_questions_of_the_suite() -> None:
    asked = {(spec.name, spec.direction) for spec in SPECS}
    for table in PLAIN.tables:
        if not table.get("folder"):
            assert {tuple(row.split()[:2]) for row in table.rows} <= asked, table.name


def test_baselines_answer_what_their_code_asks_them() -> None:
    families: dict[str, set[str]] = {"bm25": set(baselines.TEXT_TASKS), "e5": set(baselines.TEXT_TASKS)}
    for family in baselines.FAMILIES:
        families.setdefault(baselines.MODEL_OF_FUSION[family.fusion], set()).update(family.answers)
    assert {name: set(PLAIN.models[name].answers) for name in families} == families


MADE = [
    (tier, name) for tier in ("mini", "full") for name, one in PLAIN.models.items() if tier in one.get("tiers", [tier])
]


@pytest.mark.parametrize(("tier", "name"), MADE)
def test_commands_that_make_a_column_compose(tier: str, name: str) -> None:
    made = compose("evaluate_tables", [f"data.tier={tier}"]).models[name].made
    for line in made:
        command, rest = split_command(shlex.split(line))
        assert compose(COMMANDS[command].root, overrides_of(command, rest))
    command, rest = split_command(shlex.split(made[-1]))
    assert command in ("evaluate", "evaluate speech"), "what makes rows comes last"
    config = compose(COMMANDS[command].root, rest)
    found = set(models_of(config.embedder, config.name))
    if command == "evaluate speech":
        found = {column(model, form) for model in (*found, "e5") for form in FORMS}
    assert found >= {name}


def test_the_recipes_of_the_tables_train_every_column() -> None:
    trained = []
    for recipe in ("mini_tables", "mini_iterated", "mini_negatives", "full"):
        config = compose("recipe", [f"recipe={recipe}"])
        steps = config.recipe.steps.values()
        trained += [set(shlex.split(step.run.replace(config.paths.models, "models"))) for step in steps]
    for name, model in compose("evaluate_tables", ["data.tier=mini"]).models.items():
        for line in model.made if "mini" in model.get("tiers", ["mini"]) else []:
            if line.split()[0] in ("train", "rival", "soup"):
                assert set(shlex.split(line)) in trained, name


def test_a_tier_has_the_tables_and_models_that_name_it_or_none() -> None:
    models = {**MODELS, "base": {**MODELS["base"], "tiers": ["full"]}}
    tables = [TABLE, {**TABLE, "name": "of full", "tiers": ["full"]}]
    (mini,), full = (read_tables(models, tables, tier) for tier in ("mini", "full"))
    assert [table.name for table in full] == [TABLE["name"], "of full"]
    assert [one.name for one in full[0].columns] == TABLE["models"] and full[0].pairs == (("soup", "base"),)
    assert [one.name for one in mini.columns] == ["bm25", "soup"] and mini.pairs == ()
