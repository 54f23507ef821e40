"""Every command of docs/slurm.md is one that `commonspace launch` takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from commonspace.launching.command import main

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "docs/slurm.md").read_text(), flags=re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", LINES)
def test_commands_can_be_launched(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    words = shlex.split(line)
    assert words[:2] == ["commonspace", "launch"]
    assert main([*words[2:], *([] if "--dry-run" in words else ["--dry-run"])]) == 0
