"""The first losses of the tiny recipe's pretraining, kept in a file: what a change does to training shows here first.

A change that is meant to move them, of the model, the loss, the optimiser or the data, writes them anew, in the same
commit, which says why:

    WRITE_GOLDEN=1 .venv/bin/pytest tests/stages/test_golden_curve.py
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from commonspace.stages.train import train
from tests.stages.training import settings

GOLDEN = Path(__file__).parents[1] / "golden/tiny_pretrain.json"
EARLY = 5  # steps
# From the towers themselves, so that no other stage comes into it; batches that two cores train in seconds.
OVERRIDES = (
    "experiment=tiny/pretrain init=null stage.token_budget=null stage.steps=8 stage.dev_limit=4 seed=1 "
    "data.tasks.image_caption.batch_size=16 data.tasks.crosslingual.batch_size=8 data.features=false data.workers=0 "
    "trainer.precision=32-true trainer.accelerator=cpu logger=csv callbacks.progress=none"
).split()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of one thread are the same on every machine; those of several depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def curve(folder: Path, data: Path, cache: Path) -> list[dict[str, object]]:
    """Task and loss of each step."""
    train(settings(folder, *OVERRIDES, f"paths.data={data}", f"paths.cache={cache}"))
    (file,) = folder.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(file.open()) if row["train/loss"]]
    prefix = "train/gradient_norm/"
    tasks = [next(key.removeprefix(prefix) for key in row if key.startswith(prefix) and row[key]) for row in rows]
    losses = [round(float(row["train/loss"]), 4) for row in rows]
    return [{"task": task, "loss": loss} for task, loss in zip(tasks, losses, strict=True)]


@pytest.mark.slow
def test_the_tiny_recipe_trains_as_it_did(
    tmp_path: Path, weights_folder: Path, tiny_data: Path, one_thread: None
) -> None:
    """Early losses are held closely, later ones drift apart by rounding and are held loosely.

    One thread and two were seen to differ by a hundred-thousandth in the first four losses and by a third of a percent
    in the seventh. Off by a tenth, the rate of the new parts moves the second loss by two percent; layer_decay 0.8 for
    0.9 the fourth by 0.4; clipping at twice the norm the seventh by 1.5.
    """
    found = curve(tmp_path, tiny_data.parent, weights_folder.parent)
    if os.environ.get("WRITE_GOLDEN"):
        lines = ",\n  ".join(json.dumps(step) for step in found)
        GOLDEN.write_text(f'{{\n "overrides": {json.dumps(" ".join(OVERRIDES))},\n "steps": [\n  {lines}\n ]\n}}\n')
    golden = json.loads(GOLDEN.read_text())
    assert golden["overrides"] == " ".join(OVERRIDES), "another run; write the curve anew"
    assert [step["task"] for step in found] == [step["task"] for step in golden["steps"]]
    losses, expected = ([step["loss"] for step in steps] for steps in (found, golden["steps"]))
    message = f"losses {losses} where {expected} were; see the top of this file"
    assert losses[:EARLY] == pytest.approx(expected[:EARLY], rel=1e-3, abs=0.01), message
    assert losses[EARLY:] == pytest.approx(expected[EARLY:], rel=0.01, abs=0.01), message
