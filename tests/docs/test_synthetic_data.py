"""What docs/synthetic_data.md tells people to type composes, and what it says of templates is what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from commonspace.cli import overrides_of, split_command
from commonspace.commands import COMMANDS
from commonspace.configuration import compose
from data_prep.synthesis.template import FOLDER

PAGE = (Path(__file__).parents[2] / "docs/synthetic_data.md").read_text()
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.S)
    for line in block.replace("\\\n", "").splitlines()
]
LINES += list(re.findall(r"`(commonspace data build [^`]+)`", PAGE))


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("commonspace")])
def test_commands_compose(line: str) -> None:
    name, rest = split_command(shlex.split(line)[1:])
    assert compose(COMMANDS[name].root, overrides_of(name, rest)) is not None


def test_the_table_has_the_templates() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.M)) == {path.stem for path in FOLDER.glob("*.yaml")}
