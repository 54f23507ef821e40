"""The worked examples run from top to bottom on a tiny model and tier, and end in pictures.

search.ipynb, retrieval.ipynb and recommendation.ipynb share one kernel: starting it is what takes long.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from commonspace.content import Audio, Content, Document, Image, Video
from tests.evaluation.made import record, write
from tests.media import numbered_frames, picture_bytes, sound_bytes, tone, video_bytes
from tests.models.tiny import WORDS, tiny_embedder

FOLDER = Path(__file__).parents[2] / "notebooks"
EXAMPLES = {"search.ipynb": 2, "retrieval.ipynb": 2, "recommendation.ipynb": 2}  # and the pictures that each shows


def drawing(seed: int) -> Image:
    values = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    return Image(picture_bytes(values), name=f"{seed}.png")


def write_tier(root: Path) -> None:
    """Drawings, sounds, clips and texts with captions, and pages of a manual with figures."""
    rows = [
        record(f"i{n}", "image_caption", word, Content(drawing(n)), ("en", Content(f"a {word}")))
        for n, word in enumerate(WORDS)
    ]
    pages = []
    for number in range(4):
        figures = [drawing(100 + 10 * number + one) for one in range(2)]
        texts = [f"page {number} " + " ".join(WORDS[number:]), "the fox runs over the snow " * 30]
        body = Content(Document(texts[0], figures[0], texts[1], figures[1]))
        name = f"manual:page {number}"
        pages.append(record(f"d{number}", "document", name, Content(f"page {number}"), ("en", body)))
        rows += [
            record(
                f"f{number}-{one}", "image_caption", name, Content(figure), ("en", Content(f"figure {one} of {number}"))
            )
            for one, figure in enumerate(figures)
        ]
    write(root, "image_caption", rows, "dev")
    write(root, "document", pages, "dev")
    halves = [
        record(
            "h0",
            "document_part",
            "manual:half",
            Content(Document("before", drawing(200))),
            ("en", Content(Document("after"))),
        )
    ]
    write(root, "document_part", halves, "dev")
    sounds = [
        record(f"s{n}", "sound", f"sound {n}", Content(Audio(sound_bytes(tone(0.2, hertz=200.0 + 90 * n)), f"{n}.wav")),
               ("en", Content(f"a sound of {n}")))
        for n in range(4)
    ]  # fmt: skip
    write(root, "sound", sounds, "dev")
    clip = Video(video_bytes(numbered_frames(4, 32, 32), fps=4), name="clip.mp4")
    write(root, "video", [record("v0", "video", "clip", Content(clip), ("en", Content("a clip")))], "dev")


def joined(names: list[str]) -> nbformat.NotebookNode:
    """Notebooks one after the other, nothing of one known to the next."""
    books = [nbformat.read(FOLDER / name, as_version=4) for name in names]
    whole = books[0].copy()
    whole.cells = []
    for number, book in enumerate(books):
        forget = nbformat.v4.new_code_cell("%reset -f")
        for cell in book.cells:
            cell.id = f"{number}-{cell.id}"
            cell.metadata["book"] = names[number]
        whole.cells += [forget, *book.cells]
    return whole


@pytest.mark.slow
def test_the_examples_end_in_something_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tier(tmp_path / "tier")
    tiny_embedder(pooling="input_and_last").save(tmp_path / "model")
    monkeypatch.setenv("COMMONSPACE_MODEL", str(tmp_path / "model"))
    monkeypatch.setenv("COMMONSPACE_DATA", str(tmp_path / "tier"))
    book = joined(list(EXAMPLES))
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for name, wanted in EXAMPLES.items():
        cells = [cell for cell in book.cells if cell.metadata.get("book") == name and cell.cell_type == "code"]
        assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == wanted, name
        assert any("image/png" in output.get("data", {}) for output in cells[-1].outputs), f"{name} ends in a picture"
    shown = "\n".join(
        str(output.get("data", "")) for cell in book.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "[figure 1]" in shown and "Question: How do I use this" in shown
