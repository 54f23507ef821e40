"""A tiny model of every part, saved, and its export for sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonspace import Embedder
from commonspace.evaluation.results import Row, write_rows
from commonspace.export.card import Results
from commonspace.export.run import export
from tests.models.tiny import tiny_embedder

CARD = "# fox\n\nTrained on foxes.\n\n## Trained on\n\n| source | licence |\n| :-- | --: |\n| foxes | CC0 |\n"


def row(**changes: object) -> Row:
    """A headline row of the model "fox", as evaluation writes it."""
    values = {
        "suite": "heldout", "task": "speech", "direction": "speech->text", "split": "heldout",
        "subset": "no_near_duplicates", "language": "en", "source": "all", "metric": "MRR@10", "value": 0.4321,
        "ci95": (0.4, 0.5), "queries": 40, "pool": 80.0, "dim": 32, "precision": "float32", "prefix_policy": "query",
        "model": "fox", "stage": "soup", "seed": None, "run_id": "r", "commit": "abc",
        "command": "commonspace evaluate embedder=models/fox", **changes,
    }  # fmt: skip
    return Row(**values)


@pytest.fixture(scope="session")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; its head is not the identity, its text layer is in use."""
    folder = tmp_path_factory.mktemp("fox") / "fox"
    tiny_embedder(pooling="input_and_last", text_hidden=8).save(folder, CARD, {"stage": "finetune"})
    return folder


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of that model: two headlines, and some that are none."""
    rows = [row(), row(task="code", direction="text->code", value=0.25), row(dim=8, value=0.9), row(metric="R@1")]
    return write_rows(tmp_path_factory.mktemp("results"), "fox", rows)


@pytest.fixture(scope="session")
def exported(fox: Path, results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for sentence-transformers."""
    output = tmp_path_factory.mktemp("exported") / "fox"
    export(Embedder.load(fox), fox, output, "sentence-transformers", Results.read(results))
    return output


@pytest.fixture(autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code out of folders is copied there before it runs, not into the user's home."""
    place = str(tmp_path_factory.mktemp("modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", place)
