from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commonspace.configuration import config_folder

ROOT = Path(__file__).parents[1]


def installed(folder: Path, *, configs: bool) -> dict[str, str]:
    """The files of an installed wheel, and the environment that finds them before the checkout."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src/commonspace", folder / "commonspace", ignore=ignore)
    if configs:
        shutil.copytree(ROOT / "configs", folder / "commonspace/configs")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_checkout_uses_its_own_configs() -> None:
    assert config_folder() == ROOT / "configs"


def test_an_installed_package_finds_the_configs_it_brought(tmp_path: Path) -> None:
    environment = installed(tmp_path / "site", configs=True)
    command = [sys.executable, "-m", "commonspace.cli", "train", "experiment=mini/finetune_lora", "--cfg", "job"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "rank: 16" in done.stdout
    where = [sys.executable, "-c", "from commonspace.configuration import config_folder; print(config_folder())"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == tmp_path / "site/commonspace/configs"


def test_a_package_without_configs_says_so(tmp_path: Path) -> None:
    environment = installed(tmp_path / "site", configs=False)
    command = [sys.executable, "-m", "commonspace.cli", "train", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "no configs beside" in done.stderr and "reinstall" in done.stderr


@pytest.mark.parametrize("entry", ['configs = "commonspace/configs"', 'packages = ["src/commonspace", "data_prep"]'])
def test_the_wheel_carries_configs_and_data_preparation(entry: str) -> None:
    assert entry in (ROOT / "pyproject.toml").read_text()
