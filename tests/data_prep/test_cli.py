from __future__ import annotations

import inspect
import json

import pytest

from commonspace.commands import COMMANDS
from commonspace.errors import ConfigError
from data_prep import cli


def test_every_data_command_finds_its_function():
    names = [
        command.target.split(":")[1] for command in COMMANDS.values() if command.target.startswith("data_prep.cli:")
    ]
    assert {"fetch", "build", "build_own", "report", "pack"} <= set(names)
    for name in names:
        assert inspect.isfunction(getattr(cli, name))


def test_own_pairs_there_and_back(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(json.dumps({"query": f"q{n}", "positive": f"p{n}"}) for n in range(30))
    )
    cli.build_own(str(tmp_path / "pairs.jsonl"), str(tmp_path / "data"))
    output = cli.pack("own", str(tmp_path / "data"), str(tmp_path / "own.tar"))
    back = cli.unpack_packed(str(output), str(tmp_path / "elsewhere"))
    assert (back / "manifest.json").read_bytes() == (tmp_path / "data/own/manifest.json").read_bytes()


@pytest.mark.parametrize("step", ["fetch", "build"])
def test_unknown_tiers_and_sources_are_named(tmp_path, step):
    folders = {"cache": tmp_path} | ({"data": tmp_path} if step == "build" else {})
    with pytest.raises(ConfigError, match="no source belongs to tier 'huge'; tiers are"):
        getattr(cli, step)("huge", **folders)
    with pytest.raises(ConfigError, match="tier tiny has no source foxes; it has"):
        getattr(cli, step)("tiny", only=["foxes"], **folders)
