from __future__ import annotations

import collections
import shutil
from pathlib import Path

import pytest

from commonspace import doctor


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
