"""A user's own pairs, by the commands of the README: build, train, evaluate, embed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commonspace.cli import main
from commonspace.evaluation.results import read_rows
from tests.media import picture_bytes, sound_bytes, tone
from tests.stages.training import MODEL, TEXTS, blocks, start_model

ROWS = 48


def write_rows(folder: Path, count: int = ROWS) -> Path:
    """Pictures and sounds with texts, and PAIRS.jsonl beside them."""
    rows = []
    for number in range(count):
        name = f"{number}.wav" if number % 3 == 0 else f"{number}.png"
        sound = number % 3 == 0
        data = sound_bytes(tone(0.3, hertz=200 + 20 * number)) if sound else picture_bytes(blocks(number))
        (folder / name).write_bytes(data)
        rows.append({"query": {"audio" if sound else "image": name}, "positive": TEXTS[number]})
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def places(folder: Path) -> list[str]:
    return [f"paths.{name}={folder / name}" for name in ("data", "cache", "runs", "models", "docs")]


def trained(folder: Path, *more: str) -> int:
    start = start_model(folder / "start", pooling="input_and_last")
    short = ["stage.token_budget=null", "stage.steps=2", "data.workers=0", "logger=csv"]
    return main(["train", "experiment=own/finetune", f"init={start}", *MODEL, *short, *places(folder), *more])


@pytest.mark.slow
def test_own_pairs_are_built_trained_on_scored_and_embedded(
    tmp_path: Path, weights_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/weights").symlink_to(weights_folder)  # near-duplicates are looked for by the untrained tower
    pairs = write_rows(tmp_path)
    assert main(["data", "build", "own", str(pairs), *places(tmp_path)]) == 0
    assert trained(tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "task own: " in said and "where 64 were asked for" in said, "forty rows are fewer than a batch"
    model = tmp_path / "models/own/finetune"

    scored = ["data.tier=own", "data.features=false", "bootstrap=20"]
    assert main(["evaluate", f"embedder={model}", *scored, *places(tmp_path)]) == 0
    rows = read_rows(tmp_path / "runs/own/evaluation/finetune.jsonl")
    assert {(row.task, row.direction) for row in rows} == {("own", "query->positive"), ("own", "positive->query")}

    contents = tmp_path / "contents.jsonl"
    contents.write_text('"a red fox"\n{"image": "1.png"}\n[{"audio": "0.wav"}, "barks"]\n')
    output = tmp_path / "vectors.npy"
    assert main(["embed", f"embedder={model}", f"input={contents}", f"output={output}", *places(tmp_path)]) == 0
    np.testing.assert_allclose(np.linalg.norm(np.load(output), axis=1), 1, atol=1e-5)


def test_too_few_pairs_are_told_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One pair has no wrong target."""
    assert main(["data", "build", "own", str(write_rows(tmp_path, 1)), *places(tmp_path)]) == 0
    with pytest.raises(SystemExit):
        trained(tmp_path)
    assert "1 record to train on, and a batch needs a wrong target" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_what_a_model_wrote_is_trained_on(tmp_path: Path) -> None:
    from tests.data_prep.synthesis.stand_in import stand_in, text_of

    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(json.dumps({"query": f"ask {text}", "positive": text}) for text in TEXTS[:ROWS]))

    def answer(body: dict) -> str:
        return json.dumps({"queries": [f"find {text_of(body).splitlines()[1]}"]})

    with stand_in(answer) as server:
        endpoint = ["generator.model=m", f"generator.base_url={server.base_url}"]
        assert main(["data", "synthesise", "query", str(pairs), *endpoint, *places(tmp_path)]) == 0
    made = tmp_path / "data/synthetic/query/pairs.jsonl"
    assert main(["data", "build", "own", str(made), *places(tmp_path)]) == 0
    assert trained(tmp_path) == 0
    assert (tmp_path / "models/own/finetune/model.safetensors").is_file()
