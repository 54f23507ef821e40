from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.content import Document, Image, Text
from commonspace.embed import read_contents
from commonspace.errors import ContentError, DataError


def test_lines_are_contents_with_media_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "contents.jsonl"
    file.write_text('"a red fox"\n\n["a plate", {"image": "p.png"}]\n{"document": ["one", {"image": "q.png"}]}\n')
    first, second, third = read_contents(file)
    assert first.parts == (Text("a red fox"),)
    assert isinstance(second.parts[1], Image) and second.parts[1].source == tmp_path / "p.png"
    assert isinstance(third.parts[0], Document) and third.parts[0].parts[1].source == tmp_path / "q.png"


@pytest.mark.parametrize(
    "text, error, message",
    [
        ('"fine"\n{"image": 3}\n', ContentError, "contents.jsonl, line 2: "),
        ('"fine"\n\n{"image": \n', DataError, "contents.jsonl, line 3: not JSON"),
        ("\n\n", DataError, "contents.jsonl: holds no content"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    file = tmp_path / "contents.jsonl"
    file.write_text(text)
    with pytest.raises(error, match=message):
        list(read_contents(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent.jsonl: cannot be read"):
        list(read_contents(tmp_path / "absent.jsonl"))


def test_vectors_come_in_the_order_of_the_lines(tmp_path: Path) -> None:
    import numpy as np
    from omegaconf import OmegaConf

    from commonspace.content import Content
    from commonspace.embed import main
    from commonspace.models.embedder import Embedder
    from tests.media import picture_bytes
    from tests.models.tiny import tiny_embedder

    tiny_embedder().save(tmp_path / "model")
    (tmp_path / "p.png").write_bytes(picture_bytes(np.full((8, 8, 3), 90, np.uint8)))
    (tmp_path / "in.jsonl").write_text('"a fox"\n[{"image": "p.png"}, "a plate"]\n"a wolf"\n')
    options = {"dim": None, "task": None, "role": None, "batch_tokens": 512}
    config = {
        "embedder": str(tmp_path / "model"),
        "input": str(tmp_path / "in.jsonl"),
        "output": str(tmp_path / "o/v.npy"),
    }
    main(OmegaConf.create({**config, **options}))
    vectors = np.load(tmp_path / "o/v.npy")
    model = Embedder.load(tmp_path / "model")
    assert vectors.dtype == np.float32 and vectors.shape == (3, model.embedding_size)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[2], model.embed([Content("a wolf")])[0], atol=1e-5)
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["v.npy"]
