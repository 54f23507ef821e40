from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commonspace.cli import main
from commonspace.commands import COMMANDS
from commonspace.configuration import _experiment_root, check_choices, compose, config_folder
from commonspace.errors import ConfigError

ROOT = Path(__file__).parents[1]


def installed(folder: Path, *, configs: bool) -> dict[str, str]:
    """The files of an installed wheel, and the environment that finds them before the checkout."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src/commonspace", folder / "commonspace", ignore=ignore)
    if configs:
        shutil.copytree(ROOT / "configs", folder / "commonspace/configs")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_checkout_uses_its_own_configs() -> None:
    assert config_folder() == ROOT / "configs"


def test_an_installed_package_finds_the_configs_it_brought(tmp_path: Path) -> None:
    environment = installed(tmp_path / "site", configs=True)
    command = [sys.executable, "-m", "commonspace.cli", "train", "experiment=mini/finetune_lora", "--cfg", "job"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "rank: 16" in done.stdout
    where = [sys.executable, "-c", "from commonspace.configuration import config_folder; print(config_folder())"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == tmp_path / "site/commonspace/configs"


MTEB, PAPER = "run `commonspace evaluate mteb suite=", "run `commonspace evaluate paper experiment=paper/"


@pytest.mark.parametrize(
    "root, word, message",
    [
        ("evaluate", "suite=mteb/code", f"`commonspace evaluate` has no group suite; {MTEB}code`"),
        ("evaluate", "suite=code", f"suite=code: `commonspace evaluate` has no group suite; {MTEB}code`"),
        ("evaluate", "suite=mteb/code,mteb/mieb", f"{MTEB}code,mieb`"),
        ("evaluate", "+suite=mieb", f"{MTEB}mieb`"),
        ("train", "suite=mieb", f"{MTEB}mieb`"),
        ("evaluate", "experiment=paper/table1", f"is no experiment of `commonspace evaluate`; {PAPER}table1`"),
        ("evaluate", "experiment=paper/table2", "run `commonspace evaluate mteb experiment=paper/table2`"),
        ("evaluate", "experiment=mini/evaluate,paper/table6", f"paper/table6 is no .*; {PAPER}table6`"),
        ("evaluate_mteb", "experiment=paper/figure3", f"`commonspace evaluate mteb`; {PAPER}figure3`"),
        ("evaluate", "experiment=mini/pretrain", "run `commonspace train experiment=mini/pretrain`"),
    ],
)
def test_what_is_another_commands_is_named_with_it(root: str, word: str, message: str) -> None:
    for ask in (lambda: check_choices(root, ["name=x", word]), lambda: compose(root, ["name=x", word])):
        with pytest.raises(ConfigError, match=message):
            ask()


@pytest.mark.parametrize(
    "root, word",
    [
        ("evaluate_mteb", "suite=code"),
        ("evaluate", "data=x"),  # an option of evaluate, a group of train
        ("evaluate", "experiment=mini/quantised"),
        ("evaluate", "experiment=someones/own"),
        ("evaluate", "suits=code"),
        ("recipe", "recipe=mini"),
        ("train", "experiment=null"),
    ],
)
def test_what_may_be_its_own_is_left_to_hydra(root: str, word: str) -> None:
    check_choices(root, [word])


def test_the_command_line_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "suite=mteb/code", "embedder=x"]) == 1
    assert main(["evaluate", "experiment=paper/table1", "embedder=x"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "evaluate mteb suite=code" in lines[0] and "evaluate paper experiment=" in lines[1]


def test_experiments_and_roots_have_commands_of_their_own() -> None:
    """Else an experiment of another command would pass, and its keys be listed as unknown one by one."""
    folder = config_folder()
    assert {command.root for command in COMMANDS.values()} == {path.stem for path in folder.glob("*.yaml")}
    for file in (folder / "experiment").rglob("*.yaml"):
        assert _experiment_root(file) is not None, file


def test_a_package_without_configs_says_so(tmp_path: Path) -> None:
    environment = installed(tmp_path / "site", configs=False)
    command = [sys.executable, "-m", "commonspace.cli", "train", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "no configs beside" in done.stderr and "reinstall" in done.stderr


@pytest.mark.parametrize("entry", ['configs = "commonspace/configs"', 'packages = ["src/commonspace", "data_prep"]'])
def test_the_wheel_carries_configs_and_data_preparation(entry: str) -> None:
    assert entry in (ROOT / "pyproject.toml").read_text()
