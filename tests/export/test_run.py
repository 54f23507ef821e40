"""`commonspace export` end to end: forms, cards, what is replaced and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from commonspace import Embedder
from commonspace.cli import main as cli
from commonspace.errors import DataError
from commonspace.export.card import Results, write_card
from commonspace.models.folder import check_golden
from tests.export.conftest import row


def test_the_hugging_face_layout(fox: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert cli(["export", "--to", "huggingface", str(fox), str(output), f"results={results}"]) == 0
    names = {path.name for path in output.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "preprocessing.json", "golden.json"} <= names
    assert not {path.suffix for path in output.rglob("*")} - {".safetensors", ".json", ".md"}
    assert json.loads((output / "training.json").read_text()) == {"stage": "finetune"}
    assert check_golden(Embedder.load(output), output) < 1e-6
    assert "Embedder.load" in capsys.readouterr().out


def test_the_card_is_one_that_the_hub_reads(exported: Path) -> None:
    card = ModelCard.load(exported / "README.md")
    assert card.data.library_name == "sentence-transformers" and card.data.license == "other"
    assert {(one.dataset_name, one.metric_value) for one in card.data.eval_results} == {
        ("code text->code", 0.25), ("speech speech->text", 0.4321),
    }  # fmt: skip
    for heading in ("# fox", "## Trained on", "## Results", "## Limits", "## How to use it"):
        assert card.text.count(f"\n{heading}\n") + card.text.startswith(f"{heading}\n") == 1, heading
    assert "| speech speech->text | 40 | 80 | 0.432 [.40, .50] |" in card.text
    assert "0.900" not in card.text and "| foxes | CC0 |" in card.text
    assert "`commonspace evaluate embedder=models/fox` at commit abc" in card.text
    assert "at most 128 tokens, one text 64" in card.text and "trust_remote_code=True" in card.text


def test_front_matter_is_written_once(fox: Path) -> None:
    embedder = Embedder.load(fox)
    once = write_card(embedder, "fox", "# fox\n\nText.\n", Results())
    assert write_card(embedder, "fox", once.partition("## Results")[0], Results()) == once
    assert "None were given" in once


def test_an_export_is_replaced_and_nothing_else_is(
    fox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["export", "--to", "sentence-transformers", str(fox), str(output)]
    assert cli(command) == 0
    (output / "modules.json").write_text("[]")
    assert cli(command) == 0 and len(json.loads((output / "modules.json").read_text())) == 1
    (output / "mine").mkdir()
    with pytest.raises(SystemExit):
        cli(command)
    assert "holds the folder mine" in capsys.readouterr().err
    shutil.rmtree(output)
    output.mkdir()
    (output / "letter.txt").write_text("dear")
    with pytest.raises(SystemExit):
        cli(command)
    assert "is no export of ours" in capsys.readouterr().err and (output / "letter.txt").is_file()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--to", "onnx"], "to: 'onnx' is none of sentence-transformers, huggingface"),
        ([], "to: needs a value"),
        (["--to", "huggingface", "results=none.jsonl"], "none.jsonl is not there"),
    ],
)
def test_wrong_options_are_refused(
    words: list[str], message: str, fox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli(["export", str(fox), str(tmp_path / "out"), *words])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_model_itself_is_not_replaced(fox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in fox.iterdir())
    with pytest.raises(SystemExit):
        cli(["export", "--to", "huggingface", str(fox), str(fox)])
    assert "output" in capsys.readouterr().err and sorted(path.name for path in fox.iterdir()) == before


def test_a_model_that_gives_other_vectors_is_not_exported(
    fox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(fox, changed)
    golden = json.loads((changed / "golden.json").read_text())
    golden[0]["vector"] = np.roll(golden[0]["vector"], 1).tolist()
    (changed / "golden.json").write_text(json.dumps(golden))
    with pytest.raises(SystemExit):
        cli(["export", "--to", "huggingface", str(changed), str(tmp_path / "out")])
    assert "golden input" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_rows_of_several_models_make_no_card(tmp_path: Path) -> None:
    from dataclasses import asdict

    path = tmp_path / "both.jsonl"
    path.write_text("".join(json.dumps(asdict(row(model=name))) + "\n" for name in ("fox", "hen")))
    with pytest.raises(DataError, match="rows of \\['fox', 'hen'\\]"):
        Results.read(path)


def test_results_of_another_run_make_no_card(
    fox: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soup = tmp_path / "soup"
    shutil.copytree(fox, soup)
    for run, status in (("other", 1), ("r", 0)):
        (soup / "soup.json").write_text(json.dumps({"run_id": run}))
        words = ["export", "--to", "huggingface", str(soup), str(tmp_path / "out"), f"results={results}"]
        if status:
            with pytest.raises(SystemExit):
                cli(words)
            assert "fox.jsonl is of run r, the model of other" in capsys.readouterr().err
        else:
            assert cli(words) == 0 and json.loads((tmp_path / "out/soup.json").read_text()) == {"run_id": "r"}
