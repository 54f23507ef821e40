from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from commonspace.cli import main, overrides_of, split_command
from commonspace.commands import COMMANDS, PLAIN


def run(*words: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "commonspace.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)


def test_help_names_every_command_in_under_a_second() -> None:
    def processor_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    for words in (["train", "--help", "stage", "data"], ["--help"]):
        before = processor_seconds()  # of its own time: the tests' machine may be busy with other things
        done = run(*words)
        assert processor_seconds() - before < 1.0
        assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in [*COMMANDS, *PLAIN])


def test_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys; from commonspace.cli import main; main(['--help']); main(['train', '--help']);"
        "main(['train', '--help', 'stage']);"
        "print([m for m in ('torch', 'hydra', 'pandas', 'pytorch_lightning', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: commonspace {name}") and "paths:" in text


@pytest.mark.parametrize(
    "words, shown, hidden",
    [
        (
            ["stage"],
            ["stage=pretrain", "warmup: 0.1                 # share of the steps"],
            ["stage=finetune", "groups:"],
        ),
        (["stage=finetune"], ["stage=pretrain", "warmup: 0.1 ", "stage=finetune", "token_budget: 450_000"], ["nce"]),
        (["data"], ["data=base", "skip_budget: 16 ", "data=pretrain"], ["data=finetune"]),
        (["trainer=cpu", "objective"], ["trainer=default", "trainer=cpu", "objective=nce", "same_tower: none"], []),
        (["experiment"], ["choices of experiment: ", ", mini/align, "], ["----"]),
        (["experiment=mini/align"], ["----", "commonspace train experiment=mini/align"], ["mini/pretrain\n"]),
    ],
)
def test_help_shows_the_options_of_a_group(
    words: list[str], shown: list[str], hidden: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--help", *words]) == 0
    text = capsys.readouterr().out
    assert all(line in text for line in shown) and not any(line in text for line in hidden)
    assert [text.index(line) for line in shown] == sorted(text.index(line) for line in shown)


@pytest.mark.parametrize(
    "word, message", [("seed=2", "train has no group 'seed'; it has paths, model"), ("stage=x", "stage has no 'x'; it")]
)
def test_help_of_no_group(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help", word]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("choice", ["stage", "data", "trainer=fsdp", "callbacks"])  # those with most options
def test_every_option_of_a_group_is_in_its_help(choice: str, capsys: pytest.CaptureFixture[str]) -> None:
    from commonspace.configuration import schema

    assert main(["train", "--help", choice]) == 0
    text = capsys.readouterr().out
    assert not [key for key in schema("train")[choice.partition("=")[0]] if f"{key}:" not in text]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_target_exists(name: str) -> None:
    """The named function is in the named module: read, not imported, so that this stays quick."""
    import ast
    import importlib.util

    module, function = COMMANDS[name].target.split(":")
    found = importlib.util.find_spec(module)
    assert found and found.origin, module
    tree = ast.parse(Path(found.origin).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert function in defined


GIVEN = {
    "embedder": "models/x",
    "checkpoint": "last.ckpt",
    "pairs": "p.jsonl",
    "output": "o.tar",
    "archive": "o.tar",
    "set": "coco",
    "tiers": "[mini,coco]",
}


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.calls])
def test_calls_fit_their_target(name: str) -> None:
    import inspect

    from commonspace.cli import _load
    from commonspace.configuration import compose, schema

    command = COMMANDS[name]
    more = {
        "data fetch": ["weights=true", "archives=a", "data.only=[openmoji]"],
        "data synthesise": ["template=query", "input=p.jsonl", "generator.model=m"],
    }
    extra = more.get(name, [])
    needed = [f"{key}={value}" for key, value in GIVEN.items() if schema(command.root).get(key) == ["???"]]
    calls = command.calls(compose(command.root, [*needed, *extra]))
    for arguments in calls:
        inspect.signature(_load(command.target)).bind(**arguments)
    assert len(calls) == (2 if name == "data fetch" else 1)


def test_the_longest_command_wins() -> None:
    assert split_command(["data", "build", "own", "p.jsonl"]) == ("data build own", ["p.jsonl"])
    assert split_command(["data", "build", "data.tier=tiny"]) == ("data build", ["data.tier=tiny"])
    assert split_command(["train", "seed=2"]) == ("train", ["seed=2"])


def test_bare_words_and_archives_become_overrides() -> None:
    assert overrides_of("data build own", ["it's pairs.jsonl"]) == [r"pairs='it\'s pairs.jsonl'"]
    assert overrides_of("recipe", ["tiny", "again=[soup]"]) == ["recipe=tiny", "again=[soup]"]
    assert overrides_of("data fetch", ["--archives", "/a b", "weights=true"]) == ["archives='/a b'", "weights=true"]
    assert overrides_of("train", ["-m", "seed=1,2"]) == ["-m", "seed=1,2"]


def test_words_left_over_fill_a_list_and_flags_are_options() -> None:
    words = ["models/x", "it's.png", "dim=64", "b c.md", "-o", "v.npy"]
    expected = ["embedder='models/x'", "dim=64", "output='v.npy'", r"files=['it\'s.png','b c.md']"]
    assert overrides_of("embed", words) == expected
    assert overrides_of("embed", ["embedder=models/x", "--jsonl", "in.jsonl"]) == [
        "embedder=models/x",
        "input='in.jsonl'",
    ]


def test_a_prefixs_task_is_no_group_of_configs() -> None:
    from commonspace.configuration import compose

    words = overrides_of("search", ["models/x", "index", "task=search result", "role=document"])
    assert words[2:] == ["prefix.task=search result", "prefix.role=document"]
    config = compose("search", [*words, "queries=[a fox]"])
    assert dict(config.prefix) == {"task": "search result", "role": "document"}
    assert overrides_of("evaluate", ["task=x"]) == ["task=x"], "where there is no such option hydra says so"


def test_what_follows_a_flag_of_hydra_is_no_word_of_the_command() -> None:
    words = ["models/x", "a.png", "-o", "v.npy", "--cfg", "job"]
    assert overrides_of("embed", words)[-3:] == ["--cfg", "job", "files=['a.png']"]
    assert overrides_of("data build own", ["--cfg", "job", "p.jsonl"]) == ["--cfg", "job", "pairs='p.jsonl'"]


@pytest.mark.parametrize("words", [["nonsense"], ["data"], ["data", "nonsense"]])
def test_a_command_that_does_not_exist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert words[-1] in capsys.readouterr().err


def test_a_wrong_option_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("train", "stage.temperature=0", "+stage.foo=1", cwd=tmp_path)
    assert done.returncode == 1
    assert "stage.foo: unknown option" in done.stderr and "Traceback" not in done.stderr
    done = run("train", "stage.foo=1", cwd=tmp_path)
    assert done.returncode != 0 and "stage.foo" in done.stderr


def test_archives_without_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "--archives"]) == 1
    assert "--archives: needs a folder" in capsys.readouterr().err


def test_the_config_of_a_job_prints(tmp_path: Path) -> None:
    done = run("train", "experiment=mini/finetune_cold", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0 and "temperature: 0.05" in done.stdout


def test_hydra_gets_overrides_and_multirun_runs_each(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"query": "a red fox", "positive": "un renard roux"}\n' * 1)
    command = ["data", "build", "own", "own.jsonl", f"paths.data={tmp_path}/data", f"paths.runs={tmp_path}/runs"]
    done = run(*command, "name=first,second", "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "data/first/manifest.json").is_file() and (tmp_path / "data/second/manifest.json").is_file()


def test_an_error_of_the_work_is_one_line(tmp_path: Path) -> None:
    done = run("data", "build", "own", "absent.jsonl", cwd=tmp_path, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 1
    assert "absent.jsonl" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("flag", [["--cfg", "job"], ["-c", "job"], ["--cfg=job"]])
def test_the_config_of_several_jobs_is_refused_in_one_line(flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "seed=1,2", "name=base_${seed}", *flag]) == 1
    assert "--cfg prints the config of one job" in capsys.readouterr().err


def test_a_sweep_whose_jobs_overwrite_one_another_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "experiment=mini/finetune_base", "seed=1,2"]) == 1
    assert "models/mini/finetune_base" in capsys.readouterr().err
