"""Every benchmark in its quick form, on small random parts: it runs to its end and its rows are whole.

Measurements that take a process of their own are taken in this one.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import run
from benchmarks.measure import parser

FOLDERS = {
    "embed": ("weights",),
    "training": ("weights", "data", "cache"),
    "profile_step": ("weights",),
    "caching": ("weights",),
    "loader": ("weights", "data", "cache"),
    "losses": (),
    "processes": ("weights",),
    "checkpoints": ("weights", "data"),
    "mining": ("work",),
}
ROWS = {
    "embed": {"items": {"texts, 2 to 20 words", "4 texts, 1 image, 1 sound"}},
    "training": {"peer": {"sentence-transformers", "open_clip"}, "pairs": {"texts: title, opening", "image, caption"}},
    "profile_step": {
        "pairs": {"image_caption", "summary"},
        "part": {"image tower, forward", "transformer, forward", "backward", "clipping and optimiser", "the step"},
    },
    "caching": {"pairs": {8, 16}},
    "loader": {"workers": {0, 1}, "modality": {"text", "image"}},
    "losses": {"pairs": {8, 16}, "kernel": {"both ways, chunks", "both ways, open_clip"}},
    "processes": {"setup": {"1 process, 1 thread", "2 processes, 1 thread each"}},
    "checkpoints": {"what": {"save a checkpoint", "start from a checkpoint", "position 5000"}},
    "mining": {"what": {"exact, read block by block", "search all graphs"}, "records": {3000}},
}


def numbers(value: object) -> list[float]:
    """All numbers inside a JSON value."""
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers(item)]
    return [float(value)] if isinstance(value, (int, float)) else []


def quick(script: ModuleType, name: str, folders: dict[str, Path], rows: Path) -> list[dict]:
    given = [word for folder in FOLDERS[name] for word in (f"--{folder}", str(folders[folder]))]
    defaults = dict.fromkeys(FOLDERS[name], "")
    script.main(parser(script.__doc__, **defaults).parse_args([*given, "--quick", "--json", str(rows)]))
    return [json.loads(line) for line in rows.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FOLDERS))
def test_quick_form(
    name: str, small_weights: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = importlib.import_module(f"benchmarks.{name}")
    if hasattr(script, "measured"):
        monkeypatch.setattr(script, "alone", lambda _, **call: script.measured(**call))
    folders = {"weights": small_weights, "data": small_data, "cache": tmp_path, "work": tmp_path / "mining"}
    rows = quick(script, name, folders, tmp_path / "rows.jsonl")
    for key, values in ROWS[name].items():
        assert values <= {row[key] for row in rows}
    for row in rows:
        assert row["machine"]["cores"] >= 1
        assert all(map(math.isfinite, numbers(row))), row
        assert all(n > 0 for key in row if "seconds" in key or "rate" in key for n in numbers(row[key])), row


def test_all_benchmarks_are_known_to_the_one_that_runs_them() -> None:
    assert set(run.MINUTES) == set(FOLDERS)
    folder = Path(run.__file__).parent
    assert all((folder / f"{name}.py").is_file() for name in FOLDERS)


def test_one_that_fails_is_told_and_the_rest_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "__file__", str(tmp_path / "run.py"))
    (tmp_path / "losses.py").write_text("print('a table')")
    (tmp_path / "embed.py").write_text("raise SystemExit('broken')")
    monkeypatch.setattr(sys, "argv", ["run.py", str(tmp_path / "found"), "--quick", "--only", "embed", "losses"])
    assert run.main() == 1
    assert "embed: 0.0 minutes, FAILED" in capfd.readouterr().out
    assert (tmp_path / "found" / "losses.md").read_text() == "a table\n"
