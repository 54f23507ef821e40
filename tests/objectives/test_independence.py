"""Losses and caching serve any trainer: importing them brings no trainer along."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import commonspace.objectives

FORBIDDEN = ("pytorch_lightning", "lightning", "hydra", "omegaconf", "wandb", "transformers", "peft", "webdataset")


OBJECTIVES = [f"commonspace.objectives.{m.name}" for m in pkgutil.iter_modules(commonspace.objectives.__path__)]
MIXTURE = [f"commonspace.data.{name}" for name in ("batch", "encoding", "loader", "mixture", "negatives", "shards")]


@pytest.mark.parametrize("modules", [OBJECTIVES, MIXTURE], ids=["objectives and caching", "mixture"])
def test_importing_them_loads_no_trainer_and_no_config_library(modules):
    assert {"commonspace.objectives.gradcache", "commonspace.data.mixture"} & set(modules)
    program = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
