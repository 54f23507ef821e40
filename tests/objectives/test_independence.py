"""Losses and caching serve any trainer: importing them brings no trainer along."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import commonspace.objectives

FORBIDDEN = ("pytorch_lightning", "lightning", "hydra", "omegaconf", "wandb", "transformers", "peft", "webdataset")


def test_importing_every_objective_loads_no_trainer_and_no_config_library():
    modules = [f"commonspace.objectives.{m.name}" for m in pkgutil.iter_modules(commonspace.objectives.__path__)]
    assert "commonspace.objectives.gradcache" in modules
    program = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
