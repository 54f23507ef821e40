"""What `commonspace launch --dry-run` says; real submissions are in tests/slurm."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from commonspace.errors import ConfigError
from commonspace.launching.command import main
from commonspace.launching.sweep import read_sweep


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main([*words, "--dry-run"]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = said(capsys, "experiment=mini/pretrain", "hydra.launcher.timeout_min=30")
    words = shlex.split(first)
    assert words[3:5] == ["sbatch", "--parsable"] and words[-1] == "experiment=mini/pretrain"
    assert "COMMONSPACE_COMMAND=train" in words and "--time=30" in words
    assert rest[-1] == "cost: at most 4.0 core-hours, 0.0 GPU-hours, where every job runs to its time limit"
    assert not list(here.iterdir()), "a dry run writes nothing"


def test_another_command(capsys: pytest.CaptureFixture[str]) -> None:
    first = said(capsys, "evaluate", "pages", "experiment=mini/pages")[0]
    assert "COMMONSPACE_COMMAND='evaluate pages'" in first and first.endswith("experiment=mini/pages")


def test_a_sweep_of_values_is_one_array_of_submitit(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "experiment=mini/finetune_base", "seed=1,2,3", "name=s${seed}", "launcher=slurm")
    assert lines[:3] == ["run 0: seed=1", "run 1: seed=2", "run 2: seed=3"]
    assert lines[3].endswith(" -m") and "hydra.launcher.nodes=1" in lines[3]
    assert lines[-2].startswith("3 jobs would be submitted from the code in ")
    assert lines[-1].startswith("cost: at most 96.0 core-hours")


def test_a_family_of_an_ablation_is_as_many_jobs_as_it_has_cells(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "experiment=mini/cell", "ablation=temperature")
    assert lines[-2].startswith("30 jobs") and lines[30].endswith(" -m")
    assert lines[0] == "run 0: stage.temperature=0.01 stage.learning_rate=1.5e-05 seed=1"


def test_a_search_has_as_many_jobs_as_trials(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("launcher=slurm_search", "experiment=mini/finetune_base", "stage.temperature=interval(0.01,0.1)")
    assert said(capsys, *words)[-2].startswith("16 jobs")
    with pytest.raises(ConfigError, match="launcher=slurm_search"):
        main([*words[1:], "--dry-run"])


def test_the_chain_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["hydra.launcher.timeout_min=30", "+hydra.launcher.additional_parameters.mail-type=FAIL"]
    lines = said(capsys, "--chain", "mini", "only=[align,pretrain,mine,finetune_base,finetune_lora,soup]", *options)
    assert all("--time=30" in line and "--mail-type=FAIL" in line for line in lines[:6])
    waits = {}
    for line in lines[:6]:
        words = shlex.split(line)
        name = next(word for word in words if word.startswith("--job-name=")).removeprefix("--job-name=")
        waits[name] = [word.partition("afterok:")[2] for word in words if word.startswith("--dependency=")]
    assert waits["align"] == [] and waits["pretrain"] == ["<align>"] and waits["mine"] == ["<pretrain>"]
    assert waits["finetune_base"] == ["<mine>:<pretrain>"]
    assert waits["soup"] == ["<finetune_base>:<finetune_lora>"]


@pytest.mark.parametrize(
    "lines, message",
    [
        (["experiment=mini/finetune_base", "experiment=mini/finetune_base seed=2"], "runs 1 and 2 would both write"),
        (["experiment=mini/finetune_base", "name=x stage.temprature=1"], "run 2, .*temprature"),
        (["name=x", "name=y trainer=ddp"], "run 2 needs other nodes or processes than run 1"),
        (["name='x"], "run 1, .*quot"),
        (["# nothing", ""], "holds no run"),
    ],
)
def test_a_sweep_file_is_looked_at_whole(here: Path, lines: list[str], message: str) -> None:
    (here / "sweep.txt").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=message):
        main(["--sweep", "sweep.txt", "--dry-run"])
    assert [path.name for path in here.iterdir()] == ["sweep.txt"]


def test_runs_of_a_sweep_file(here: Path) -> None:
    (here / "sweep.txt").write_text("# one\n  name=a\n\nname=b 'tags=[x]'\n")
    assert read_sweep(here / "sweep.txt") == ["name=a", "name=b 'tags=[x]'"]
    with pytest.raises(ConfigError, match="absent.txt: cannot be read"):
        read_sweep(here / "absent.txt")


def test_a_login_node_without_slurm_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="sbatch: not found"):
        main(["experiment=mini/pretrain"])
