"""docs/reproduce.md: its costs are the planner's, its commands compose, its options are those of the experiments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from commonspace.cli import overrides_of, split_command
from commonspace.commands import COMMANDS
from commonspace.config_values import resolved
from commonspace.configuration import compose, config_folder
from commonspace.planning.command import _short
from commonspace.planning.plan import make_plan

PAGE = (Path(__file__).parents[2] / "docs/reproduce.md").read_text(encoding="utf-8")
COMMAND_LINES = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.S) for line in block.splitlines() if line
]
COMMAND_LINES += re.findall(r"`(commonspace plan [^`]+)`", PAGE.replace("NAME", "lco_text"))
EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment/reproduce").glob("*.yaml"))


def table_row(name: str) -> list[str]:
    (line,) = re.findall(rf"^\| `reproduce/{name}` \|.*$", PAGE, flags=re.M)
    return [cell.strip() for cell in line.strip("|").split("|")]


def values_of(name: str) -> dict:
    config = compose("train", [f"experiment=reproduce/{name}"])
    return resolved(config)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_costs_are_the_planners(name: str) -> None:
    plain = values_of(name)
    plan = make_plan(plain, gpu="h100")
    (hours,), (memory,) = plan["hours"], plan["memory"].values()
    model, totals, steps = plan["model"], plan["totals"], plan["batches"]["steps"]
    assert table_row(name)[2:] == [
        plain["model"]["backbone"].removeprefix("Qwen/"),
        f"{_short(model['trained'])} of {_short(model['parameters'])}",
        f"{steps:,} of {round(totals['rows'] / steps):,}",
        _short(totals["rows"]),
        _short(totals["tokens"]),
        f"{hours['gpus']} x h100",
        f"{hours['gpu hours']:,.1f}",
        f"{memory['total'] / 1e9:.0f}",
    ]
    assert hours["even batches"] and memory["total"] / 1e9 < plan["gpu"]["memory"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_steps_are_its_epochs(name: str) -> None:
    """Rows of the run are the epochs that the experiment says, of the rows that it counts."""
    plain = values_of(name)
    rates = {task: options["rate"] for task, options in plain["data"]["tasks"].items()}
    rows = 2 * 557_850 if name == "lco_text" else 1000 * sum(rates.values())
    batch = sum(options["batch_size"] for options in plain["data"]["tasks"].values()) / len(rates)
    assert plain["stage"]["steps"] == int(rows / batch / plain["stage"]["accumulate"])


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_compose(line: str) -> None:
    words = shlex.split(line)[1:]
    name, rest = ("train", words[1:]) if words[0] == "plan" else split_command(words)
    assert compose(COMMANDS[name].root, overrides_of(name, rest)) is not None


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_page_and_the_experiments_own_lines_say_that_it_was_not_run(name: str) -> None:
    text = (config_folder() / f"experiment/reproduce/{name}.yaml").read_text()
    assert "not yet run at full size" in text.splitlines()[2] and "Not yet run at full size" in PAGE
    assert "Still otherwise here" in " ".join(line.removeprefix("# ") for line in text.splitlines())
    assert "Not known here" not in text and re.search(r"@[0-9a-f]{7}\b", text), "its publishers' code, at a commit"


def test_what_the_options_table_names_is_in_use() -> None:
    plain = {name: values_of(name) for name in EXPERIMENTS}
    for one in plain.values():
        assert (one["model"]["attention"], one["model"]["pooling"], one["model"]["head_init"]) == (
            "causal", "last", "plain",
        )  # fmt: skip
        assert "head" in one["stage"]["freeze"] and one["objective"]["share_negatives"]
        assert one["model"]["after"]
    assert plain["omniembed"]["model"]["query_prefix"] == "Query: "
    assert {name for name, task in plain["omniembed"]["data"]["tasks"].items() if task.get("swap")} == {
        "msr_vtt", "sound",
    }  # fmt: skip
