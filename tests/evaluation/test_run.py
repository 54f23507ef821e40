"""`commonspace evaluate` on a small random model: rows, geometry, the report, and whose rows they are."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commonspace.configuration import compose
from commonspace.content import Audio, Content, Image
from commonspace.errors import ContentError, DataError
from commonspace.evaluation import near_duplicates, report, surroundings
from commonspace.evaluation.results import read_geometry, read_ranks, read_rows
from commonspace.evaluation.run import evaluate_baseline, evaluate_folder, main, training_of
from commonspace.evaluation.surroundings import Surroundings
from commonspace.tracking.lineage import write_model_lineage
from commonspace.tracking.reader import find_logs
from commonspace.tracking.trained_run import reopened
from tests.evaluation.made import record, write
from tests.media import picture_bytes, sound_bytes, tone
from tests.models.tiny import tiny_embedder
from tests.tracking.conftest import until_written
from tests.tracking.test_record import artifacts

WORDS = ["red fox", "blue bird", "snow", "a fox in the snow", "bird runs", "the fox barks", "before", "after"]


@pytest.fixture
def place(tmp_path: Path) -> Surroundings:
    """Images and sounds with captions, some of them of training."""
    rng = np.random.default_rng(0)
    for split, shift in (("train", 0), ("heldout", 5)):
        images, sounds = [], []
        for number, words in enumerate(WORDS[shift:] + WORDS[:shift]):
            data = picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
            images.append(record(f"i{number}", "image_caption", words, Content(Image(data)), ("en", Content(words))))
            wave = sound_bytes(tone(0.4, hertz=200 + 90 * number + shift))
            sounds.append(record(f"s{number}", "speech", words, Content(Audio(wave)), ("en", Content(words))))
        write(tmp_path / "data", "image_caption", images[: 8 - shift // 5], split)
        write(tmp_path / "data", "speech", sounds, split)
    return Surroundings(tmp_path / "data", tmp_path / "cache", tmp_path / "results" / "made", features=False, draws=50)


def test_a_folder_is_scored_at_its_sizes(place: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    object.__setattr__(place, "near_duplicates", {})
    monkeypatch.setattr(sys, "argv", ["prog", "evaluate", "embedder=x y", "paths.data=somewhere"])
    folder = tmp_path / "models" / "random"
    tiny_embedder().save(folder)
    (folder / "training.json").write_text(json.dumps({"stage": "pretrain", "seed": 3, "run_id": "r1", "dev": 0.1}))
    rows = read_rows(evaluate_folder(place, folder, name="mine"))
    assert {row.task for row in rows} == {"image_caption", "speech"} and {row.dim for row in rows} == {8, 16, 32}
    one = rows[0]
    assert (one.model, one.stage, one.seed, one.run_id, one.prefix_policy) == ("mine", "pretrain", 3, "r1", "query")
    assert one.command == "commonspace evaluate 'embedder=x y'", "no folders of this machine in a committed file"
    assert set(read_ranks(place.output, "mine")["seed"]) == {3}
    assert "image | text" in read_geometry(place.output)["mine"]["modality_gap"]
    assert report.write(place.output).exists() and report.models(place.output) == ["mine"]
    assert "Quantised" not in (place.output / "results.md").read_text()


@pytest.mark.parametrize("options", [[], ["wandb=none"]])
def test_rows_are_an_artifact_of_the_run_that_trained_the_model(
    place: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr(Surroundings, "near_duplicates", {})
    tiny_embedder().save(tmp_path / "model")
    write_model_lineage(tmp_path / "model", [], run_id="r1")
    trained = tmp_path / "runs/data/first"
    (trained / "r1").mkdir(parents=True)
    (trained / "identity-0.json").write_text(json.dumps({"run_id": "r1"}))
    reopened(trained / "r1", "r1", None, mode="offline", project="ours").finish()
    folders = [f"paths.{name}={tmp_path / name}" for name in ("runs", "cache", "docs")]
    given = [f"embedder={tmp_path / 'model'}", "data.tier=data", f"paths.data={tmp_path}", *folders]
    main(compose("evaluate", [*given, "data.features=false", "bootstrap=10", "name=mine", *options]))
    until_written(trained)
    logged = [artifacts(log) for log in find_logs(trained / "wandb")] if (trained / "wandb").exists() else []
    assert [set(found) for found in logged] == ([] if options else [{"model-model", "evaluation-mine"}])


def test_quantised_rows_stand_in_a_table_of_their_own(place: Surroundings, tmp_path: Path) -> None:
    object.__setattr__(place, "near_duplicates", {})
    tiny_embedder().save(tmp_path / "models" / "m")
    evaluate_folder(place, tmp_path / "models" / "m")
    report.write(place.output)
    before = (place.output / "results.md").read_text()
    rows = read_rows(evaluate_folder(place, tmp_path / "models" / "m", quantised=("int8", "binary_int8"), rescored=3))
    assert {row.precision for row in rows} == {"float32", "int8", "binary_int8@3"}
    report.write(place.output)
    after = (place.output / "results.md").read_text()
    start, end = after.index("## Quantised vectors"), after.index("## ", after.index("## Quantised vectors") + 3)
    assert after[:start] + after[end:] == before, "no other table has changed"
    assert "| model | task | queries | pool | float32 | binary_int8@3 | int8 |" in after[start:end]
    assert after[start:end].count("| m | mean |") == 1


def test_a_second_evaluation_replaces_the_first_and_is_equal(place: Surroundings, tmp_path: Path) -> None:
    object.__setattr__(place, "near_duplicates", {})
    tiny_embedder().save(tmp_path / "models" / "m")
    first = evaluate_folder(place, tmp_path / "models" / "m").read_bytes()
    assert evaluate_folder(place, tmp_path / "models" / "m").read_bytes() == first


def test_chance_needs_no_weights(place: Surroundings) -> None:
    object.__setattr__(place, "near_duplicates", {})
    evaluate_baseline(place, "chance")
    rows = read_rows(place.output / "chance.jsonl")
    assert next(r.value for r in rows if (r.task, r.metric) == ("speech", "R@1")) == pytest.approx(1 / 8)
    evaluate_baseline(place, "bm25")
    assert not (place.output / "bm25.jsonl").exists(), "this tier has no text task"


def test_whose_model_a_folder_is(tmp_path: Path) -> None:
    assert training_of(tmp_path) == {"stage": "model", "seed": None, "run_id": None}
    (tmp_path / "soup.json").write_text('{"run_id": "r2", "kind": "greedy"}')
    assert training_of(tmp_path) == {"stage": "soup", "seed": None, "run_id": "r2"}


def test_no_shards_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="commonspace data build"):
        _ = Surroundings(tmp_path, tmp_path, tmp_path).suite


def test_a_file_that_cannot_be_read_ends_the_evaluation_with_its_name(place: Surroundings, tmp_path: Path) -> None:
    """Training skips and counts bad samples; a figure over fewer queries than it names would be another figure."""
    object.__setattr__(place, "near_duplicates", {})
    whole = picture_bytes(np.random.default_rng(9).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    bad = record("cut", "image_caption", "owl", Content(Image(whole[: len(whole) // 2])), ("en", Content("an owl")))
    good = record("i1", "image_caption", "fox", Content(Image(whole)), ("en", Content("a fox")))
    write(place.data, "image_caption", [good, bad])
    tiny_embedder().save(tmp_path / "models" / "m")
    with pytest.raises(ContentError, match=r"heldout-00000\.tar:cut\.0\.png"):
        evaluate_folder(place, tmp_path / "models" / "m")
    assert not list(place.output.glob("*.jsonl"))


def test_near_duplicates_are_of_the_frozen_model_in_use(place: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []
    monkeypatch.setattr(near_duplicates, "mark", lambda root, **options: asked.append(options) or {})
    for model in ({}, {"vision": "another", "image_size": 64}, {"vision": None}):
        assert replace(place, model=model).near_duplicates == {}
    names = [options["features_name"] for options in asked]
    assert len(set(names)) == 3 and names[1] == "another at 64 pixels from package"
    assert [options["image_vectors"] is None for options in asked] == [False, False, True]


def test_frozen_parts_run_where_models_do(place: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "build_model", lambda *options, **places: tiny_embedder())
    monkeypatch.setattr(surroundings, "best_device", lambda: "meta")
    assert place.frozen.embedder.device.type == "meta"
