"""Which run a call goes on with, where several processes ask at once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from commonspace.errors import DataError
from commonspace.stages import rerun
from commonspace.tracking.identity import run_identity

PLAIN = {"save": True, "resume": "auto", "seed": 1}


@pytest.fixture
def began_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a run in `tmp_path` that began from what is no longer there."""
    run_id = run_identity(tmp_path, PLAIN).run_id
    (tmp_path / run_id).mkdir()
    (tmp_path / run_id / "starts.jsonl").write_text(json.dumps({"init_fingerprint": "other"}) + "\n")
    monkeypatch.setattr(rerun, "origin_of", lambda plain: SimpleNamespace(is_of=lambda start: False))
    return run_id


def test_the_first_process_puts_the_run_aside_and_says_so(began_otherwise: str, tmp_path: Path) -> None:
    said: list[str] = []
    made = rerun.identity_of(tmp_path, PLAIN, said.append)
    assert made.run_id != began_otherwise and began_otherwise in said[0] and "a new run starts" in said[0]
    assert rerun.identity_of(tmp_path, PLAIN, said.append) == run_identity(tmp_path, PLAIN), "it has not begun yet"
    assert len(said) == 1


def test_the_others_wait_for_it(began_otherwise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    (file,) = tmp_path.glob("identity-*.json")
    first = threading.Timer(0.5, lambda: file.replace(file.with_suffix(".1.old")))
    first.start()
    assert rerun.identity_of(tmp_path, PLAIN, str).run_id != began_otherwise
    assert not first.is_alive()


def test_nobody_takes_the_old_run_where_it_cannot_be_put_aside(
    began_otherwise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(rerun, "_PATIENCE", 0.3)
    with pytest.raises(DataError, match=f"{began_otherwise}: cannot be put aside; .*resume=never"):
        rerun.identity_of(tmp_path, PLAIN, str)
