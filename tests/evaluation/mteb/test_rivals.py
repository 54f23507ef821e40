"""Whose results a rival's folder has: those of its own files and prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commonspace.evaluation.mteb.rivals import rival_fingerprint
from tests.evaluation.mteb.test_run import evaluated, rival


def test_a_rival_of_other_prompts_or_files_is_another(tmp_path: Path, suite_data: Path, mteb: Any) -> None:
    """Its results are kept by all that decides its vectors, not by the weights alone."""
    folder = rival(tmp_path / "bert")
    for prompt in ("query: ", "find: "):
        evaluated(folder, suite_data, "data.tasks=[summary]", f"rival_prompts={{query: '{prompt}'}}")
    kept = sorted((tmp_path / "runs/mteb/local__bert/results/local__bert").glob("*/heldout-summary-text-to-text.json"))
    assert {path.parent.name for path in kept} == {
        rival_fingerprint(folder, {"query": prompt}) for prompt in ("query: ", "find: ")
    }
    before = rival_fingerprint(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache/mark").write_text("of a download")
    assert rival_fingerprint(folder, {}) == before
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    assert rival_fingerprint(folder) != before
