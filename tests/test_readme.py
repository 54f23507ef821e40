"""What the README, CONTRIBUTING and slurm/README.md tell people to type works as written."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commonspace.cli import command_help, overrides_of, split_command
from commonspace.commands import COMMANDS, PLAIN
from commonspace.configuration import compose
from commonspace.multirun import check_multirun, jobs

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "slurm/README.md")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.S)


def commands() -> list[tuple[str, str]]:
    """Every command line of the pages, out of blocks and out of running text."""
    found = []
    for page in PAGES:
        lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
        running = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.S)
        lines += [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", running)]
        found += [(page, line) for line in lines if re.match(r"(commonspace|make|sbatch) (?!COMMAND)", line)]
    return sorted(set(found))


@pytest.mark.parametrize("page, line", [pair for pair in commands() if pair[1].startswith("commonspace")])
def test_commands_compose(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    if words == ["--help"]:
        return
    command, rest = split_command(words)
    assert command in COMMANDS or command in PLAIN, f"{page}: {line}"
    if command in PLAIN:
        return
    if "--help" in rest:
        assert command_help(command)
        return
    check_multirun(COMMANDS[command], overrides_of(command, rest))
    flags = {"-m", "--cfg", "job"}
    for job in jobs(overrides_of(command, [word for word in rest if word not in flags])):
        assert compose(COMMANDS[command].root, job) is not None


def test_each_step_finds_what_those_before_it_left() -> None:
    """From an empty checkout, top to bottom; `data` commands leave the tier's shards."""
    (block,) = (block for block in blocks("README.md", "bash") if "commonspace mine" in block)
    made: set[str] = set()
    for line in block.splitlines():
        command, rest = split_command(shlex.split(line)[1:])
        if command in PLAIN:
            continue
        config = compose(COMMANDS[command].root, overrides_of(command, rest))
        needs = [config.get("init"), config.get("embedder"), *config.get("ingredients", [])]
        needs = [name for name in needs if name and str(name).startswith(config.paths.models)]
        assert set(needs) <= made, f"{line}: nothing before it makes {set(needs) - made}"
        assert config.get("output") not in made, f"{line}: overwrites {config.output}"
        if command in ("train", "soup"):
            made.add(config.output)


def test_an_option_typed_in_the_readme_changes_something() -> None:
    for page, line in commands():
        command, rest = split_command(shlex.split(line)[1:])
        if command != "train" or "-m" in rest or "--help" in rest or len(rest) < 2 or "--cfg" in rest:
            continue
        experiment = [word for word in rest if word.startswith("experiment=")]
        before = compose("train", experiment)
        for word in set(rest) - set(experiment):
            key, _, value = word.partition("=")
            assert str(OmegaConf.select(before, key)) != value, f"{page}: {line}: {key} is {value} already"


def test_archives_are_taken_with_the_weights() -> None:
    lines = [line for _, line in commands() if line.startswith("commonspace data fetch")]
    assert any("--archives" in line for line in lines) and all("weights=true" in line for line in lines)


@pytest.mark.parametrize("page, line", [pair for pair in commands() if pair[1].startswith("make")])
def test_make_has_what_is_named(page: str, line: str) -> None:
    done = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{page}: {line}: {done.stderr}"


@pytest.mark.parametrize("page, line", [pair for pair in commands() if pair[1].startswith("sbatch")])
def test_jobs_compose(page: str, line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if not word.startswith("--")]
    script, rest = ROOT / words[0], words[1:]
    assert script.is_file(), f"{page}: {line}"
    if script.name in ("train.sbatch", "nodes.sbatch"):
        assert compose("train", rest)
    else:
        assert (ROOT / rest[0]).is_file()


def test_there_are_commands_of_every_kind() -> None:
    lines = [line for _, line in commands()]
    assert {"make mini", "make test", "make mini TIER=tiny"} <= set(lines)
    named = {split_command(shlex.split(line)[1:])[0] for line in lines if line.startswith("commonspace")}
    assert set(COMMANDS) - named <= {"recipe", "data report", "data pack", "data unpack"}


def test_python_in_the_readme_names_what_exists() -> None:
    import commonspace

    for block in blocks("README.md", "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "commonspace":
                assert all(hasattr(commonspace, alias.name) for alias in node.names)


def test_the_pairs_of_the_readme_can_be_built(tmp_path: Path) -> None:
    import numpy as np
    import soundfile
    from PIL import Image

    from data_prep.cli import build_own

    (block,) = blocks("README.md", "json")
    for number, name in enumerate(re.findall(r'"([^"]+\.(?:jpg|png))"', block)):
        Image.new("RGB", (32, 32), (40 * number, 90, 20)).save(tmp_path / name)
    soundfile.write(tmp_path / "call.ogg", np.sin(np.arange(16000) / 9), 16000)
    (tmp_path / "pairs.jsonl").write_text(block)
    manifest = build_own(tmp_path / "pairs.jsonl", tmp_path / "data")
    assert sum(manifest["tasks"]["own"].values()) == len(block.strip().splitlines()) == 4
    assert all(json.loads(line) for line in block.strip().splitlines())


@pytest.mark.parametrize("page", [*PAGES, "docs/design.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_no_machine(page: str) -> None:
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home)/", (ROOT / page).read_text())
