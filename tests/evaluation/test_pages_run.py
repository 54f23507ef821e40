"""`commonspace evaluate pages` on a random model: rows, differences, and the report's section of held-out ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.configuration import compose
from commonspace.content import Content, Document, Image
from commonspace.errors import ConfigError
from commonspace.evaluation import pages_run
from commonspace.evaluation.comparison import read_comparisons
from commonspace.evaluation.long_report import blocks
from commonspace.evaluation.results import read_rows
from commonspace.models.embedder import Embedder
from commonspace.models.folder import folder_fingerprint
from commonspace.tracking.lineage import last, read_lineage
from tests.evaluation.made import record, write
from tests.media import picture_bytes
from tests.models.native import built_native
from tests.models.pretrained import built
from tests.models.tiny import WORDS, tiny_embedder


@pytest.mark.parametrize("split", ["dev", "heldout"])
def test_a_folder_is_scored_and_held_out_is_shown(split: str, tmp_path: Path) -> None:
    made_pages(tmp_path / "data/mini", split, seed=0)
    made_pages(tmp_path / "data/mini", "train", seed=1)
    tiny_embedder().save(tmp_path / "model")
    options = [f"embedder={tmp_path / 'model'}", f"paths.data={tmp_path / 'data'}", f"output={tmp_path / 'out'}"]
    pages_run.main(compose("evaluate_pages", [*options, f"data.split={split}", "data.features=false", "bootstrap=50"]))
    rows = read_rows(tmp_path / "out/pages/model.jsonl")
    assert {row.task for row in rows} == {"manual_page", "manual_text", "manual_images"}
    assert {row.split for row in rows} == {split} and {row.queries for row in rows} == {4, 12}
    assert {row.pool for row in rows} == {8}, "four of training beside four of the split"
    assert len(read_comparisons(tmp_path / "out/pages")) == 8
    traced = read_lineage(tmp_path / "out/pages/model.lineage.json")
    assert last(traced).made_of == (folder_fingerprint(tmp_path / "model"),)
    text = "".join(text for _, text, _ in blocks(tmp_path / "out"))
    assert ("model, page->captions: a page is" in text) == (split == "heldout")


def test_positions_that_would_cut_a_page_are_refused() -> None:
    with pytest.raises(ConfigError, match="positions: 'limit' is none of interpolate, restart"):
        compose("evaluate_pages", ["embedder=models/x", "positions=limit"])


@pytest.mark.parametrize(
    "family, message",
    [
        ("qwen3", "positions=restart: a causal_lm cannot take pages of 8192 tokens whole, .* no table of learned"),
        ("blind", "model: has no image tower, and pages hold figures"),
        ("native", "model: a qwen3_vl lays pages out by itself"),
    ],
)
def test_models_that_cannot_be_asked_are_refused_first(
    family: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "native":
        model = built_native(tmp_path / "weights", "qwen3_vl")
    else:
        model = tiny_embedder(towers=("audio",)) if family == "blind" else built(tmp_path / "weights", family)
    model.save(tmp_path / "model")
    for name in ("embed", "embed_pieces"):
        monkeypatch.setattr(Embedder, name, lambda *given, **options: pytest.fail("something was embedded"))
    options = [f"embedder={tmp_path / 'model'}", f"paths.data={tmp_path / 'data'}", "data.features=false"]
    with pytest.raises(ConfigError, match=message):
        pages_run.main(compose("evaluate_pages", options))


def made_pages(root: Path, split: str, seed: int) -> None:
    """Four pages of three figures, and a half of another page: the shard has to be there."""
    rng = np.random.default_rng(seed)
    documents, captions = [], []
    for page in range(4):
        name, parts = f"{split}{page}", ["snow " * 60]
        for number in range(3):
            drawn = Image(picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)))
            words = " ".join([*rng.choice(WORDS, 5), f"{name}{number}"])
            captions.append(record(f"c{page}-{number}", "image_caption", name, Content(drawn), ("en", Content(words))))
            parts += [drawn, f"{words}\n{'fox ' * 20}"]
        documents.append(record(f"d{page}", "document", name, Content("title"), ("en", Content(Document(*parts)))))
    half = Content(Document("x", "y"))
    write(root, "document", documents, split)
    write(root, "document_part", [record("h", "document_part", f"{split}half", half, ("en", half))], split)
    write(root, "image_caption", captions, split)
