"""Whole plans: the flagship's, and one of shards that lie here, against arithmetic done another way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from commonspace import Content, Embedder
from commonspace.config_values import resolved
from commonspace.configuration import compose
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, ContentError
from commonspace.planning.command import main
from commonspace.planning.memory import memory_is_shown
from commonspace.planning.plan import machines, make_plan
from commonspace.planning.samples import PUBLIC, rows_of
from tests.evaluation.made import record, write
from tests.models.native import built_native
from tests.models.tiny import tiny_embedder
from tests.stages.training import MODEL, settings, start_model, write_pairs

OTHERS = ("stamp_language", "emoji_language", "crosslingual", "recipe", "code")
FLAGSHIP = ["gemma_pretrain", "gemma_finetune", "omni_pretrain", "omni_finetune"]


def values_of(*words: str) -> dict:
    config = compose("train", words)
    return resolved(config)


@pytest.fixture(scope="module", params=FLAGSHIP)
def flagship(request: pytest.FixtureRequest) -> tuple[str, dict]:
    return request.param, make_plan(values_of(f"experiment=flagship/{request.param}"), gpu="h100", gpus=[8, 256])


def test_the_flagship_has_the_size_it_says(flagship: tuple[str, dict]) -> None:
    name, plan = flagship
    low, high = (8e9, 9.5e9) if name.startswith("omni") else (0.25e9, 0.8e9)
    assert low < plan["model"]["parameters"] < high, plan["model"]


def test_text_costs_six_flops_a_weight_and_token(flagship: tuple[str, dict]) -> None:
    """The rule of thumb, on a task of text alone whose contents are short: attention adds little."""
    name, plan = flagship
    row = plan["samples"]["code"]
    weights = row["forward"]["text"] / row["tokens"] / 2
    spent = plan["samples"]["code"]["training"]["text"] / row["tokens"] / weights
    chunked = plan["batches"]["tasks"]["code"]["chunks"] > 1
    assert spent == pytest.approx(6 + 2 * chunked + 2 * name.startswith("omni"), rel=0.01)
    assert row["modalities"] == "text" and row["forward"]["vision"] == 0
    image = plan["samples"]["image_caption"]
    assert image["forward"]["vision"] > 0 and image["tokens"] > 60


def test_modalities_share_out_a_row(flagship: tuple[str, dict]) -> None:
    """Their FLOPs are the row's, and their tokens the row's but for marks, start and end."""
    _, plan = flagship
    for name, row in plan["samples"].items():
        parts = row["by modality"]
        assert "+".join(sorted(parts)) == row["modalities"], name
        assert sum(part["forward"] for part in parts.values()) == pytest.approx(sum(row["forward"].values())), name
        assert 0.8 * row["tokens"] < sum(part["tokens"] for part in parts.values()) <= row["tokens"], name
    pair = plan["samples"]["image_caption"]["by modality"]
    assert pair["image"]["forward"] > plan["samples"]["image_caption"]["forward"]["vision"]
    assert pair["text"]["tokens"] < pair["image"]["tokens"]
    if "video" in plan["samples"]:
        assert set(plan["samples"]["video"]["by modality"]) == {"text", "audio", "video"}


def test_more_gpus_take_less_time_and_no_fewer_hours(flagship: tuple[str, dict]) -> None:
    name, plan = flagship
    assert [row["gpus"] for row in plan["hours"]] == [8, 64, 256]
    few, own, many = plan["hours"]
    assert few["gpu hours"] == pytest.approx(many["gpu hours"])
    assert few["days"] == pytest.approx(32 * many["days"])
    assert few["rows a second and GPU"] == pytest.approx(many["rows a second and GPU"])
    assert own["even batches"]
    memory = plan["memory"]
    assert memory[64]["total"] / 1e9 < machines("h100")["memory"], memory[64]
    if name.startswith("omni"):  # sharded
        assert memory[8]["weights"] == pytest.approx(32 * memory[256]["weights"])
    else:
        assert memory[8]["weights"] == memory[256]["weights"]


@pytest.mark.parametrize(
    "experiment", ["public/finetune", "public/in_domain_video", *(f"flagship/{name}" for name in FLAGSHIP)]
)
def test_every_task_of_the_public_mixture_has_a_typical_row(experiment: str) -> None:
    """So that a plan needs no shards on this disk."""
    known = OmegaConf.load(PUBLIC)
    for name, task in values_of(f"experiment={experiment}")["data"]["tasks"].items():
        assert task["rate"] == 0 or {"sets", "records", "bytes", "query", "positive"} <= known[name].keys(), name


def test_pretraining_takes_billions_of_tokens_in_large_batches() -> None:
    plan = make_plan(values_of("experiment=flagship/gemma_pretrain"), gpu="h100")
    assert plan["totals"]["tokens"] == pytest.approx(20e9, rel=0.01)
    assert plan["batches"]["tasks"]["summary"]["a device"] == 128
    assert plan["batches"]["tasks"]["summary"]["wrong targets"] == 8191
    hours = plan["totals"]["flops"] / (989e12 * 0.35) / 3600
    assert plan["hours"][0]["gpu hours"] == pytest.approx(hours)


def test_rows_that_lie_here_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path / "data/made")
    start_model(tmp_path / "start")
    words = [
        *MODEL, "data=pretrain", "data.tier=made", "stage.token_budget=null", "stage.steps=10",
        f"init={tmp_path / 'start'}", "data.features=true", "data.tasks.image_caption={batch_size: 8, rate: 1.0}",
        "data.tasks.summary={batch_size: 16, rate: 3.0}",
        *(f"data.tasks.{name}.rate=0" for name in OTHERS),
    ]  # fmt: skip
    config = settings(tmp_path, *words)
    plain = resolved(config)
    plan = make_plan(plain, gpu="rtx4090", gpus=[2])
    assert plan["samples"]["summary"]["records"] == 48 and plan["batches"]["steps"] == 10
    assert plan["totals"]["rows"] == pytest.approx(10 * (0.25 * 8 + 0.75 * 16))
    tar = next((tmp_path / "data/made/image_caption").glob("train-*.tar"))
    assert plan["samples"]["image_caption"]["bytes"] == pytest.approx(tar.stat().st_size / 48)
    paths = [f"paths.{name}={tmp_path / name}" for name in ("data", "cache", "runs", "models")]
    assert main([*paths, *words, "--gpus", "2", "--gpu", "a100"]) == 0
    said = capsys.readouterr().out
    assert plan["model"]["memory shown"] and "is a guess" not in said
    assert "on a100" in said and "summary" in said and "10 steps" in said


def test_rows_that_are_too_long_are_cut_as_in_training(tmp_path: Path) -> None:
    rows = [record(str(n), "made", str(n), Content("a " * 100), ("en", Content("a red fox"))) for n in range(3)]
    write(tmp_path / "tier", "made", rows, "train")
    data = {"tier": "tier", "negatives": None, "negative_count": 1, "limit": None, "tasks": {"made": {}}}
    plain = {"paths": {"data": str(tmp_path)}, "data": data, "model": {"on_limit": "truncate"}}
    assert rows_of(plain, "made", tiny_embedder()).tokens < 100
    with pytest.raises(ContentError, match="64"):
        rows_of({**plain, "model": {"on_limit": "error"}}, "made", tiny_embedder())


@pytest.mark.parametrize(
    "words, message",
    [
        (["experiment=mini/align"], "alignment trains connectors"),
        (["experiment=flagship/gemma_pretrain", "model.backbone=somebody/unknown"], "its sizes are unknown"),
        (["experiment=flagship/gemma_pretrain", "trainer.devices=7"], "cannot be split over 56 processes"),
        (["experiment=flagship/omni_pretrain", "trainer.devices=auto"], "a plan needs their number"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_said(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(values_of(*words), gpu="h100")


def test_memory_that_no_test_holds_is_called_a_guess(tmp_path: Path) -> None:
    assert not memory_is_shown(built_native(tmp_path, "qwen3_omni"), cached=False)


def test_unknown_gpus_are_refused() -> None:
    with pytest.raises(ConfigError, match="--gpu tpu: unknown; gpus.yaml has a100"):
        machines("tpu")


def test_a_plan_makes_no_weights() -> None:
    from commonspace.planning.architecture import sketch

    embedder, _ = sketch(values_of("experiment=flagship/omni_pretrain"))
    assert {p.device for p in embedder.parameters()} == {torch.device("meta")}


def test_hard_negatives_that_rows_bring_are_counted(tmp_path: Path) -> None:
    """Of shards and of typical rows alike: as many as a sample takes, and those of all rows where they are shared."""
    write_pairs(tmp_path / "data/made")
    start_model(tmp_path / "start")
    reader = ShardReader(tmp_path / "data/made/summary", "train")
    wrong = [Content(word) for word in ("red", "blue", "snow")]
    rows = [replace(record, task="entailment", negatives=tuple(wrong)) for record in reader]
    write(tmp_path / "data/made", "entailment", rows, "train")
    words = [
        *MODEL,
        "stage=finetune",
        "data=lco_text",
        "data.tier=made",
        "data.features=true",
        f"init={tmp_path / 'start'}",
    ]
    words += ["stage.token_budget=null", "stage.steps=10", "objective.matryoshka=false", "objective.reverse=false"]
    words += ["data.tasks.entailment.batch_size=8"]

    def planned(*more: str) -> tuple[float, float]:
        config = settings(tmp_path, *words, *more)
        plain = resolved(config)
        plan = make_plan(plain, gpu="h100")
        return plan["samples"]["entailment"]["tokens"], plan["batches"]["tasks"]["entailment"]["wrong targets"]

    embedder = Embedder.load(tmp_path / "start")
    each = [embedder.processor(content).tokens for content in wrong]
    bare, none = planned("data.negative_count=0")
    assert none == 7
    assert planned("data.negative_count=2") == (pytest.approx(bare + each[0] + each[1]), 7 + 2)
    assert planned("data.negative_count=8") == (pytest.approx(bare + sum(each)), 7 + 3)
    assert planned("data.negative_count=2", "objective.share_negatives=true")[1] == 7 + 2 * 8
    assert planned("data.negative_count=2", "+data.tasks.entailment.swap=true") == (pytest.approx(bare), 7)
    typical = [planned(f"data.negative_count={count}", "data.tier=elsewhere") for count in (0, 1, 5)]
    assert [wrong for _, wrong in typical] == [7, 8, 8]  # public.yaml gives a row one
    assert typical[1][0] == typical[2][0] > typical[0][0]
