from __future__ import annotations

import collections
import shutil
from pathlib import Path

import pytest

from commonspace import doctor
from commonspace.cli import main
from tests.models.tiny import tiny_embedder


def test_every_finding_has_a_value_and_says_what_to_do(tmp_path: Path) -> None:
    found = {finding.what: finding for finding in doctor.examine(tmp_path)}
    assert {"packages", "processor", "matmul", "media", "apt-get", "npm", "git", "sbatch", "disk"} <= set(found)
    assert "torch " in found["packages"].found and not found["packages"].advice
    assert "GFLOP/s" in found["matmul"].found
    assert "libvips" in found["media"].found and not found["media"].advice


def test_too_little_disk_fails_and_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**9, 10**9))
    monkeypatch.setattr(doctor, "matmul_speed", lambda: doctor.Finding("matmul", "left out"))
    assert doctor.main(["--folder", str(tmp_path / "not/yet/there")]) == 1
    assert "! disk" in capsys.readouterr().out
    assert "paths.*" in doctor.disk(tmp_path).advice


def test_a_missing_program_names_the_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = {finding.what: finding for finding in doctor.programs()}
    assert "archives=FOLDER" in found["npm"].advice and "archives=FOLDER" in found["apt-get"].advice


def test_a_missing_package_names_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    assert "no-such-package; run `make setup`" in doctor.packages().advice


def test_a_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CODECS", {"decode": ("no_such_codec",), "encode": ()})
    assert "no_such_codec (decode)" in doctor.media().advice


def test_a_model_folder_gives_the_vectors_it_was_saved_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_embedder().save(tmp_path / "first")
    tiny_embedder(towers=()).save(tmp_path / "second")
    assert main(["doctor", str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    text = capsys.readouterr().out
    assert "gives its 5 golden vectors" in text and "gives its 2 golden vectors" in text and "GFLOP/s" not in text


def test_a_model_folder_that_changed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_embedder().save(tmp_path / "model")
    tiny_embedder(seed=1).save(tmp_path / "other")
    shutil.copy(tmp_path / "other/model.safetensors", tmp_path / "model/model.safetensors")
    assert main(["doctor", str(tmp_path / "model")]) == 1
    assert f"{tmp_path}/model: golden input 'english'" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "absent")]) == 1
    assert "absent/config.json" in capsys.readouterr().err
