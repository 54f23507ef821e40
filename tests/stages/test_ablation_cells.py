"""A cell of every family trains: two steps of the tiny tier's mixture on made media, scored on all of its tasks."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from commonspace.configuration import compose, config_folder
from commonspace.content import Audio, Content, Document, Image, Video
from commonspace.data.shards import ShardReader
from commonspace.evaluation.studies.compare import study
from commonspace.evaluation.studies.family import read_cells, read_family
from commonspace.files import write_text
from commonspace.multirun import jobs
from commonspace.stages.train import train
from tests.evaluation.made import record, write
from tests.media import numbered_frames, picture_bytes, sound_bytes, tone, video_bytes
from tests.negatives import write_negatives
from tests.notebooks.running import run
from tests.stages.training import MODEL, TEXTS, blocks, start_model

# pooling begins at pretrained towers, whose weights no made tier has.
FAMILIES = sorted({path.stem for path in (config_folder() / "ablation").glob("*.yaml")} - {"pooling"})
TASKS = ("image_caption", "crosslingual", "speech", "video", "document", "document_part", "figure")
GENERATED = ("keyword", "round_trip", "docstring")
CELL = [
    "experiment=tiny/cell", *MODEL, "model=compact", "data.workers=0", "data.shrink=true",
    "stage.average=none",
]  # fmt: skip


def query(task: str, number: int) -> Content:
    """What a task's record asks with, small."""
    picture = Image(picture_bytes(blocks(number)), name=f"{number}.png")
    return {
        "image_caption": lambda: Content(picture),
        **dict.fromkeys(("crosslingual", *GENERATED), lambda: Content(f"le {TEXTS[number]}")),
        "speech": lambda: Content(Audio(sound_bytes(tone(0.3, hertz=200.0 + 30 * number)))),
        "video": lambda: Content(Video(video_bytes(np.roll(numbered_frames(4), number, axis=1)))),
        "document": lambda: Content(f"page {TEXTS[number]}"),
        "document_part": lambda: Content(Document(f"first {TEXTS[number]}", picture)),
        "figure": lambda: Content(f"figure of {TEXTS[number]}", picture),
    }[task]()


def answer(task: str, number: int) -> Content:
    text = TEXTS[number]
    return Content(Document(f"the {text}", text)) if task.startswith("document") else Content(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the tiny mixture, negatives of one task, and both models that families begin at."""
    folder = tmp_path_factory.mktemp("cells")
    for task in (*TASKS, *GENERATED):
        splits = {"train": range(12)} if task in GENERATED else {"train": range(12), "dev": range(12, 16)}
        for split, numbers in splits.items():
            rows = [record(f"{task}{n}", task, TEXTS[n], query(task, n), ("en", answer(task, n))) for n in numbers]
            write(folder / "data/tiny", task, rows, split)
    reader = ShardReader(folder / "data/tiny/crosslingual", "train")
    lists = {f"crosslingual{n}": [f"crosslingual{(n + step) % 12}" for step in (3, 5, 7, 9)] for n in range(12)}
    scores = {key: [0.5, 0.4, 0.3, 0.2] for key in lists}
    write_negatives(folder / "data/negatives/tiny/crosslingual.parquet", reader, lists, scores)
    for name in ("align", "pretrain"):
        start_model(folder / "models/tiny" / name)
    return folder


def cell(place: Path, *words: str):
    places = [f"paths.{name}={place / name}" for name in ("data", "cache", "runs", "models", "docs")]
    return compose("train", [*places, *CELL, *words])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_cell_trains_and_is_read_back(place: Path, family: str) -> None:
    swept = OmegaConf.load(config_folder() / "ablation" / f"{family}.yaml")["hydra"]["sweeper"]["params"]
    words = jobs([f"{key}={value}" for key, value in OmegaConf.to_container(swept, resolve=False).items()])[-1]
    if family == "matryoshka":  # a weight for each of the made model's three sizes
        words = ["objective.matryoshka_weights=[1,2,4]", "seed=1"]
    if family == "temperature_task":  # it names mini's tasks
        named = OmegaConf.load(config_folder() / "ablation" / f"{family}.yaml")["stage"]["task_temperatures"]
        words += [f"~stage.task_temperatures.{task}" for task in named if task not in TASKS]
    train(cell(place, "logger=csv", f"ablation={family}", *words))
    (one,) = (cell for cell in read_cells(place / "runs/tiny") if family in cell.config["tags"])
    assert {task.split()[0] for task in one.scores} >= {*TASKS} - {"crosslingual"}, "those it leaves out too"
    assert len(one.queries) and not (place / "models/tiny" / one.name).exists()
    found = study(read_family(config_folder() / "ablation" / f"{family}.yaml"), [one])
    assert found is not None and found.found == 1


@pytest.mark.slow
def test_the_temperature_notebook_reads_cells_that_trained(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for temperature, seed in product((0.01, 0.2), (1, 2)):
        words = [f"stage.temperature={temperature}", "stage.learning_rate=3e-3", f"seed={seed}"]
        train(cell(place, f"paths.runs={tmp_path}", "logger.wandb.examples=0", "ablation=temperature", *words))
    found = study(read_family(config_folder() / "ablation/temperature.yaml"), read_cells(tmp_path / "tiny"))
    assert found is not None
    write_text(tmp_path / "results/ablations/temperature.json", json.dumps(found.to_json()))
    shown = run("temperature.ipynb", monkeypatch, results=tmp_path / "results")
    told = {(one.value("stage.temperature"), one.value("seed")): one.scores for one in read_cells(tmp_path / "tiny")}
    table = shown.names["table"].groupby("temperature")["MRR@10"].mean().to_dict()
    means = {heat: np.mean([told[heat, seed]["mean"] for seed in (1, 2)]) for heat in (0.01, 0.2)}
    assert table == pytest.approx(means, abs=1e-5)
    assert [len(titles) for titles in shown.figures] == [1, 2], (
        "cells, and by task with its scale; no base to compare with"
    )
    (by_task,) = shown.tables
    assert set(by_task.index) == {name for name in told[0.2, 1] if name != "mean" and not name.endswith(" gap")}
