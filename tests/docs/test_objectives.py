"""docs/objectives.md: its loop trains and resumes exactly without Lightning or hydra, its options are options."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from commonspace.configuration import compose, config_folder
from tests.stages.training import start_model, write_pairs

PAGE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
(LOOP,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
NO_TRAINER = """
loaded = [name for name in ("pytorch_lightning", "lightning", "hydra", "omegaconf") if name in sys.modules]
assert not loaded, loaded
"""


def run(folder: Path, output: str, loop: str = LOOP) -> list[str]:
    """Lines that the loop prints; its files lie in `folder / output`."""
    (folder / output).mkdir(exist_ok=True)
    places = [str(folder / name) for name in ("start", "data", output)]
    command = [sys.executable, "-c", loop + NO_TRAINER, *places]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_the_loop_is_short():
    code = [line for line in LOOP.splitlines() if line.strip()]
    assert len(code) <= 40 and max(map(len, code)) <= 120


@pytest.mark.slow
def test_the_loop_trains_resumes_exactly_and_knows_no_trainer(tmp_path):
    write_pairs(tmp_path / "data")
    start_model(tmp_path / "start")
    lines = run(tmp_path, "whole")
    assert [line.split()[0] for line in lines] == [str(step) for step in range(20)]
    losses = [float(re.search(r"loss ([\d.]+)", line).group(1)) for line in lines]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4]), "it must learn"
    assert {line.split()[1] for line in lines} == {"image_caption", "summary"}
    chunks = [int(re.search(r"(\d+) chunks", line).group(1)) for line in lines]
    assert max(chunks) > 1, "caching must be in effect"

    stops = LOOP.replace(
        "for batch in loader:\n", "for batch in loader:\n    if batch.step == 7:\n        sys.exit()\n"
    )
    assert stops != LOOP
    first = run(tmp_path, "resumed", stops)
    assert first == lines[:7]
    assert run(tmp_path, "resumed") == lines[7:]
    whole, resumed = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_options_and_presets_are_what_the_configs_have():
    configs = [compose("train"), compose("train", ["objective=sigmoid"])]
    names = set(re.findall(r"`((?:objective|stage)\.\w+)", PAGE))
    assert len(names) > 7
    for name in names:
        group, key = name.split(".")
        assert any(key in OmegaConf.select(config, group) for config in configs), name
    presets = {path.stem for path in (config_folder() / "objective").glob("*.yaml")}
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert all(any(f"`{preset}`" in row or f"objective={preset}`" in row for row in rows) for preset in presets)
