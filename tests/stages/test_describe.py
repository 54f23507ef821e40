"""What a stage says of itself: arithmetic that is true, lines for what is unusual, a card to follow."""

from __future__ import annotations

import io
from types import SimpleNamespace

from rich.console import Console

from commonspace.stages.describe import (
    batch_arithmetic,
    closing_line,
    expected_memory,
    model_card,
    print_arithmetic,
    shrunk_batches,
)
from tests.models.tiny import tiny_embedder
from tests.stages.test_contrastive import make_stage

SCHEDULE = [
    {"task": "image_caption", "records": 900, "batch_size": 512, "steps": 3, "epochs": 3.0},
    {"task": "speech", "records": 200, "batch_size": 128, "steps": 1, "epochs": 1.0},
    {"task": "rare", "records": 64, "batch_size": 64, "steps": 0, "epochs": 0.0},
]
DATA = SimpleNamespace(schedule=lambda: SCHEDULE, steps=4, tokens_per_batch=lambda: 12345.6)
PLAIN = {
    "name": "mine", "seed": 3, "init": None, "output": "models/tiny/mine",
    "stage": {"name": "finetune", "dev_limit": 24},
    "data": {"tier": "tiny", "tasks": {"image_caption": {"rate": 1.0}, "speech": {"rate": 1.0}}},
    "paths": {"data": "no-such-folder"},
    "model": {"embedding_size": 32, "matryoshka_sizes": [8, 16, 32]},
    "trainer": {"num_nodes": 2, "devices": 4},
}  # fmt: skip


def test_the_arithmetic_spans_the_tasks_that_are_drawn() -> None:
    found = batch_arithmetic(make_stage(tiny_embedder()), DATA, PLAIN)
    assert (found["steps"], found["batch"], found["negatives_per_query"]) == (4, "128..512", "127..511")
    assert found["processes"] == "2 x 4" and found["schedule"] == SCHEDULE


def test_memory_grows_with_what_trains_and_with_the_chunk() -> None:
    def memory(**options) -> int:
        return expected_memory(make_stage(tiny_embedder(), **options))

    assert memory(freeze=("words", "text")) < memory(freeze=()) < memory(freeze=(), cache_tokens=32768)
    stage = make_stage(tiny_embedder(), freeze=(), cache_tokens=1)
    weights = sum(p.numel() * 4 for p in stage.parameters())
    moments = 3 * sum(p.numel() * 4 for p in stage.parameters() if p.requires_grad)
    assert expected_memory(stage) == weights + moments + 2 * 16 * 32 * 4  # two layers of width 32, one token
    again = make_stage(tiny_embedder(), freeze=(), cache_tokens=1, gradient_checkpointing=True)
    assert expected_memory(again) == weights + moments + (2 + 16) * 32 * 4


def test_it_is_printed_in_a_line_and_a_table() -> None:
    text = io.StringIO()
    stage = make_stage(tiny_embedder(), steps=None, token_budget=50_000)
    print_arithmetic({**batch_arithmetic(stage, DATA, PLAIN), "precision": "32-true"}, Console(file=text, width=300))
    said = text.getvalue()
    assert "4 steps of 128..512 pairs, 127..511 wrong targets a query" in said and "32-true" in said
    assert "about 12,346 tokens a batch of 50,000 in all," in said
    assert all(row["task"] in said for row in SCHEDULE)
    assert "warning: never drawn in 4 steps: rare; raise" in said


def test_nothing_is_warned_of_where_every_task_is_drawn() -> None:
    text = io.StringIO()
    data = SimpleNamespace(schedule=lambda: SCHEDULE[:2], steps=4, tokens_per_batch=lambda: 100.0)
    arithmetic = batch_arithmetic(make_stage(tiny_embedder()), data, PLAIN)
    print_arithmetic({**arithmetic, "precision": "32-true"}, Console(file=text, width=300))
    assert "about 100 tokens a batch, graphs" in text.getvalue() and "warning" not in text.getvalue()


def test_small_batches_are_told() -> None:
    (line,) = shrunk_batches(SimpleNamespace(shrunk={"own": (64, 3)}))
    assert line.startswith("task own: 3 records to train on, so batches of 3 where 64 were asked for: 2 wrong targets")
    assert not shrunk_batches(SimpleNamespace(shrunk={}))


def test_the_closing_line_names_what_was_skipped_only_where_something_was() -> None:
    scores = {"mean": 0.5}
    assert closing_line("models/x", scores, "r1", {}) == "models/x: saved; dev MRR@10 0.500, run r1"
    told = closing_line("models/x", scores, "r1", {"speech": 2, "image_caption": 1})
    assert told.endswith("; 3 samples skipped (image_caption 1, speech 2), each named in the log")
    assert "nan" not in closing_line("models/x", {}, "r1", {})


def test_the_card_says_where_the_model_comes_from() -> None:
    card = model_card(PLAIN, "r1", {"speech audio->text": 0.25, "speech audio->text gap": 0.9, "mean": 0.25})
    assert "| speech audio->text | 0.250 |" in card and "gap" not in card
    assert all(word in card for word in ("`finetune`", "`tiny`", "32 numbers", "8, 16, 32", "Run `r1`", "seed 3"))
    assert "the pretrained towers" in card and 'Embedder.load("mine")' in card
