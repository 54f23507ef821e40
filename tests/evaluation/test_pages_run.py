"""`commonspace evaluate pages` on a random model: rows, differences, and the report's section of held-out ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.configuration import compose
from commonspace.content import Content, Document, Image
from commonspace.evaluation import pages_run
from commonspace.evaluation.comparison import read_comparisons
from commonspace.evaluation.long_report import blocks
from commonspace.evaluation.results import read_rows
from tests.evaluation.made import record, write
from tests.media import picture_bytes
from tests.models.tiny import WORDS, tiny_embedder


@pytest.mark.parametrize("split", ["dev", "heldout"])
def test_a_folder_is_scored_and_held_out_is_shown(split: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents, captions = [], []
    for page in range(4):
        parts: list[str | Image] = ["snow " * 60]
        for number in range(3):
            drawn = Image(picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)))
            words = " ".join(rng.choice(WORDS, 4))
            captions.append(
                record(f"c{page}-{number}", "image_caption", f"p{page}", Content(drawn), ("en", Content(words)))
            )
            parts += [drawn, f"{words}\n{'fox ' * 20}"]
        documents.append(
            record(f"d{page}", "document", f"p{page}", Content("title"), ("en", Content(Document(*parts))))
        )
    root = tmp_path / "data/mini"
    write(root, "document", documents, split)
    write(root, "document_part", documents_as_parts(), split)
    write(root, "image_caption", captions, split)
    tiny_embedder().save(tmp_path / "model")
    options = [f"embedder={tmp_path / 'model'}", f"paths.data={tmp_path / 'data'}", f"output={tmp_path / 'out'}"]
    pages_run.main(compose("evaluate_pages", [*options, f"data.split={split}", "data.features=false", "bootstrap=50"]))
    rows = read_rows(tmp_path / "out/pages/model.jsonl")
    assert {row.task for row in rows} == {"manual_page", "manual_text", "manual_images"}
    assert {row.split for row in rows} == {split} and {row.queries for row in rows} >= {4}
    assert len(read_comparisons(tmp_path / "out/pages")) == 8
    text = "".join(text for _, text, _ in blocks(tmp_path / "out"))
    assert ("model, page->captions: a page is" in text) == (split == "heldout")


def documents_as_parts() -> list:
    """A half of another page: the shard has to be there."""
    half = Content(Document("x", "y"))
    return [record("h", "document_part", "other", half, ("en", half))]
