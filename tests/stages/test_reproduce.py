"""Recipes of others end to end: their experiments train tiny models of the same classes, and these are evaluated."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image as pil

from commonspace.config_values import resolved
from commonspace.content import Audio, Content, Document, Image, Video
from commonspace.evaluation import run
from commonspace.models.adapters import adapted_layers
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden, read_json
from commonspace.processing.native_media import BudgetFit
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.video import read_frames
from commonspace.stages.start import starting_model
from commonspace.stages.train import train
from tests.evaluation.made import record, write
from tests.media import numbered_frames, picture_bytes, sound_bytes, tone, video_bytes
from tests.models.native import write_native
from tests.stages.training import TEXTS, blocks, settings

ROWS = 24
# What is smaller than in the experiment: nothing that a recipe is about.
SMALL = (
    "model.embedding_size=32 model.matryoshka_sizes=[32] model.max_tokens=1024 model.image_min_tokens=4 "
    "model.image_max_tokens=4 model.frame_min_tokens=4 model.frame_max_tokens=4 model.lora.rank=8 stage.steps=24 "
    "stage.learning_rate=3e-3 stage.cache_tokens=256 stage.dev_every=0.0 data.workers=0 trainer.accelerator=cpu "
    "trainer.devices=1 trainer.num_nodes=1 trainer.strategy=auto trainer.precision=32-true callbacks.progress=none "
    "logger=csv"
).split()


def rows(task: str, sides: Sequence[tuple[Content, Content]], wrong: int = 0) -> list:
    """Records of pairs, each with so many hard negatives: answers of others with a word before them."""
    made = [record(f"{task}{n}", task, f"{task} {n}", query, ("en", answer)) for n, (query, answer) in enumerate(sides)]
    others = [[Content(f"before {TEXTS[(n + way + 1) % ROWS]}") for way in range(wrong)] for n in range(len(made))]
    return [replace(one, negatives=tuple(negatives)) for one, negatives in zip(made, others, strict=True)]


def write_tier(root: Path, *tasks: str) -> None:
    """Training rows of the named tasks, and pictures and sounds with names to be evaluated on."""
    texts = [Content(text) for text in TEXTS[:ROWS]]
    asked = [Content(f"query {text}") for text in TEXTS[:ROWS]]
    pictures = [Image(picture_bytes(blocks(n)), name=f"{n}.png") for n in range(ROWS)]
    sounds = [Content(Audio(sound_bytes(tone(1.0, hertz=150 + 90 * n)), name=f"{n}.wav")) for n in range(ROWS)]
    clips = [
        Content(Video(video_bytes(numbered_frames(4 + n % 3, 56, 56), fps=4), name=f"{n}.mp4")) for n in range(ROWS)
    ]
    pages = [Content(Document(picture)) for picture in pictures]
    sides = {
        "entailment": (asked, texts, 1), "question": (asked, texts, 4), "page": (asked, pages, 0),
        "document_question": (texts, pages, 0), "msr_vtt": (clips, texts, 0), "sound": (sounds, texts, 0),
    }  # fmt: skip
    for task in tasks:
        queries, answers, wrong = sides[task]
        write(root, task, rows(task, list(zip(queries, answers, strict=True)), wrong), "train")
    named = {"image_caption": [Content(picture) for picture in pictures], "sound": sounds}
    for split in ("dev", "heldout"):
        for task, media in named.items():
            write(root, task, rows(task, list(zip(media, texts, strict=True))[:8]), split)


def losses(folder: Path) -> list[float]:
    (file,) = folder.rglob("metrics.csv")
    return [float(row["train/loss"]) for row in csv.DictReader(file.open()) if row["train/loss"]]


def trained(folder: Path, name: str, *words: str) -> tuple[Embedder, Embedder, dict]:
    """The model before and after its experiment, and the config that ran."""
    weights = write_native(folder / "weights", "omni")
    given = weights / "Qwen/Qwen2.5-Omni-7B"
    if not (wanted := weights / str(settings(folder, f"experiment=reproduce/{name}").model.backbone)).exists():
        given.rename(wanted)
    config = settings(folder, f"experiment=reproduce/{name}", *SMALL, f"weights={weights}", *words)
    plain = resolved(config)
    before = starting_model({**plain, "model": {**plain["model"], "lora": {**plain["model"]["lora"], "rank": 0}}})
    train(config)
    output = Path(plain["output"])
    after = Embedder.load(output)
    assert check_golden(after, output) < 1e-5 and not adapted_layers(after)  # merged
    return before, after, plain


def moved(before: Embedder, after: Embedder) -> set[str]:
    first = before.state_dict()
    return {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, first[name])}


def evaluated(folder: Path, plain: dict) -> dict[str, float]:
    """MRR@10 of the model's folder by task and direction, as `commonspace evaluate` writes it."""
    words = [
        f"embedder={plain['output']}",
        f"data.tier={plain['data']['tier']}",
        "data.split=dev",
        "data.features=false",
    ]
    config = settings(folder, *words, "bootstrap=10", root="evaluate")
    run.main(config)
    (file,) = [path for path in Path(str(config.output)).rglob("*.jsonl") if path.stem.startswith(plain["name"])]
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return {f"{row['task']} {row['direction']}": row["value"] for row in found if row["metric"] == "MRR@10"}


def check_recipe(before: Embedder, after: Embedder, output: Path) -> None:
    """What both recipes share: a causal mask, the last token, no head, adapters on the transformer alone."""
    config = read_json(output / "config.json")
    assert (config["attention"], config["pooling"]) == ("causal", "last")
    names = moved(before, after)
    assert names and all(".language_model.layers." in name for name in names), names
    linear = {name.rsplit(".", 2)[-2] for name in names}
    assert linear == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert torch.equal(after.head.weight, torch.eye(32)) and not after.pooled_mean_P.any()


def test_texts_alone_move_the_other_media_too(tmp_path: Path) -> None:
    write_tier(tmp_path / "data/nli", "entailment")
    before, after, plain = trained(tmp_path, "lco_text", "data.tasks.entailment.batch_size=8")
    found = losses(tmp_path / "runs")
    assert len(found) == 24 and sum(found[-8:]) < 0.7 * sum(found[:8]), found
    check_recipe(before, after, Path(plain["output"]))
    content = Content(Image(picture_bytes(blocks(1))))
    assert (before.embed([content]) @ after.embed([content]).T).item() < 0.999
    ids = [piece.value.tolist() for piece in after.processor(content).pieces]
    end = after.processor.tokenizer.tokenizer.token_to_id("<|im_end|>")
    assert len(ids) == 5 and ids[0].count(end) == ids[-1].count(end) == 1  # turns, mark, picture, mark, question
    scores = evaluated(tmp_path, plain)
    assert {"image_caption image->text", "sound text->sound"} <= set(scores)
    assert all(0 < value <= 1 for value in scores.values())


def test_questions_find_passages_pages_clips_and_sounds(tmp_path: Path) -> None:
    tasks = ("question", "page", "document_question", "msr_vtt", "sound")
    write_tier(tmp_path / "data/omniembed", *tasks)
    small = [f"data.tasks.{name}={{batch_size: 4, rate: 1.0}}" for name in tasks]
    before, after, plain = trained(tmp_path, "omniembed", *small)
    found = losses(tmp_path / "runs")
    assert len(found) == 24 * 2 and sum(found[-16:]) < 0.7 * sum(found[:16]), found  # two batches a step
    check_recipe(before, after, Path(plain["output"]))
    assert plain["data"]["tasks"]["sound"]["swap"] and plain["data"]["tasks"]["msr_vtt"]["swap"]
    ids = after.processor(Content("a fox"), task="search result", role="query").pieces
    words = after.processor.tokenizer
    assert ids[1].value.tolist() == words.ids("Query: a fox")
    start, end, last = (words.tokenizer.token_to_id(f"<|{name}|>") for name in ("im_start", "im_end", "endoftext"))
    assert ids[0].value.tolist().count(start) == 2 and ids[0].value[0] == start  # the system's turn, the user's
    assert ids[-1].value.tolist() == [end, *words.ids("\n"), last]
    scores = evaluated(tmp_path, plain)
    assert {"image_caption text->image", "sound text->sound", "sound sound->text"} <= set(scores)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("lco_text", {
            "stage.temperature": 0.03, "stage.schedule": "linear", "stage.learning_rate": 4e-4, "model.lora.rank": 64,
            "model.lora.alpha": 128, "model.lora.dropout": 0.05,
        }),
        ("omniembed", {
            "stage.temperature": 0.02, "stage.schedule": "linear", "stage.learning_rate": 1e-4, "model.lora.rank": 16,
            "model.lora.alpha": 64, "model.lora.dropout": 0.1, "stage.warmup": 0.005, "model.image_max_tokens": 784,
            "model.frame_max_tokens": 100, "model.video_max_frames": 24, "model.video_min_frames": 24,
        }),
    ],
)  # fmt: skip
def test_numbers_are_those_of_their_publishers_code(name: str, expected: dict[str, object]) -> None:
    config = settings(Path("x"), f"experiment=reproduce/{name}")
    assert {key: OmegaConf.select(config, key) for key in expected} == expected
    turns = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"  # Qwen2.5-Omni's template
    ends = {
        "lco_text": "\nSummarize the above text in one word:<|im_end|>\n<|im_start|>assistant\n",
        "omniembed": "<|im_end|>\n<|endoftext|>",
    }
    assert (config.model.before, config.model.after) == (turns, ends[name])
    if name == "lco_text":
        assert math.ceil(config.stage.warmup * config.stage.steps) == 100


def test_pictures_and_clips_have_the_tokens_of_omniembeds(tmp_path: Path) -> None:
    """784 x 784 pixels are 28 x 28 tokens; 24 frames of 280 x 280 are 12 steps of 100."""
    config = settings(tmp_path, "experiment=reproduce/omniembed")
    numbers = NativePreprocessing.of(resolved(config)["model"])
    for height, width in ((600, 600), (1600, 900), (120, 200)):
        fit = BudgetFit(28, numbers.image_min_tokens, numbers.image_max_tokens)
        pixels = fit(pil.fromarray(np.zeros((height, width, 3), np.uint8)))
        assert abs(pixels.shape[1] * pixels.shape[2] / 28**2 / 784 - 1) < 0.06
    frames = read_frames(Video(numbered_frames(60, 90, 90), fps=4), numbers, cut=False)[0]
    assert len(frames) == 24
    frame = BudgetFit(28, numbers.frame_min_tokens, numbers.frame_max_tokens)(pil.new("RGB", (320, 320)))
    assert frame.shape == (3, 280, 280)


@pytest.mark.parametrize("name, batch", [("lco_text", 1056), ("omniembed", 256)])
def test_a_step_has_the_published_number_of_rows(name: str, batch: int) -> None:
    config = settings(Path("x"), f"experiment=reproduce/{name}")
    sizes = {task.batch_size * config.stage.accumulate for task in config.data.tasks.values()}
    assert sizes == {batch}
