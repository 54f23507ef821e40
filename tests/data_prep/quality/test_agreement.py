"""How well both sides of a row agree: scores kept while the model is the same, also those of long rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.content import Audio, Content
from commonspace.errors import ConfigError, ContentError
from data_prep.quality import agreement
from data_prep.quality.rules import Limits
from data_prep.quality.vectors import embedded, load
from tests.data_prep.quality.test_mix import Tiers, photo
from tests.media import noise, sound_bytes
from tests.models.tiny import tiny_embedder


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    """With a training row that no limit of these tests leaves out."""
    tiny_embedder().save(tmp_path / "model")
    tiers = Tiers(tmp_path)
    tiers.tier("one", "train", "other", [("snow 0.0", "snow 0.0")])
    return tiers


class Angles:
    """A model to which a text is the angle that it ends with."""

    embedding_size = 2
    batches = 0

    def processor(self, content: Content) -> float:
        text = content.parts[0].text
        if "bad" in text:
            raise ContentError("cannot be read")
        return float(text.split()[-1])

    def embed_pieces(self, angles: list[float], batch_tokens: int) -> torch.Tensor:
        Angles.batches += 1
        return torch.tensor([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=torch.float32)


def test_what_the_model_finds_unlike_is_left_out(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiers.data.parent / "model"
    monkeypatch.setattr(agreement, "load", lambda model: Angles())
    rows = [(f"query {n} 0.0", f"answer {n} {angle}") for n, angle in enumerate((0.1, 1.0, 1.5))]
    tiers.tier("one", "train", "question", [*rows, ("bad", "answer 3 0.0")])
    report = tiers.mix("one", model=model)
    assert report["dropped"] == {} and report["agreement"]["question"]["0.5"] == pytest.approx(np.cos(1.0), abs=1e-3)
    assert report["not_scored"] == {"agreement": {"question": 1}}
    batches = Angles.batches
    assert batches == 4  # of each task's sides; a side that cannot be read costs the others no batch of their own
    limits = Limits(agreement={"question": 0.5})
    assert tiers.mix("one", model=model, limits=limits)["dropped"] == {"sides agree below 0.5": 1}
    assert Angles.batches == batches  # scores are kept
    with pytest.raises(ConfigError, match="agreement.model: .*config.json: cannot be read"):
        tiers.mix("one", model=tiers.data)


def test_long_rows_are_scored_by_their_beginning(tiers: Tiers) -> None:
    """They passed every threshold before, as a model that refuses what is too long gave them no score."""
    model = tiers.data.parent / "model"
    long = "fox in the snow runs over the blue bird before the fox barks " * 30
    tiers.tier("one", "train", "question", [(long, photo(1)), ("fox", photo(2)), (b"GIF89a broken", "fox")])
    report = tiers.mix("one", model=model, limits=Limits(agreement={"question": 0.9999}))
    assert report["dropped"] == {"a medium cannot be read": 1, "sides agree below 0.9999": 2} and not report["leaks"]
    assert report["not_scored"] == {"agreement": {"question": 1}}
    assert "| agreement | question | 1 |" in (tiers.data / "mix/README.md").read_text()
    (path,) = tiers.cache.glob("quality/agreement-*/*.npy")
    embedder = load(model)
    sides = embedder.embed([Content(long), tiers.content(photo(1))])
    assert np.load(path)[0] == pytest.approx(float(sides[0] @ sides[1]), abs=1e-5)


def test_sides_of_a_kind_that_the_model_does_not_take_have_no_vector() -> None:
    """Among others that have theirs, as without them."""
    deaf = tiny_embedder(towers=("image",)).eval()
    sound = Content(Audio(sound_bytes(noise(0.5))))
    contents = [Content("fox"), sound, Tiers.content(photo(1)), Tiers.content(b"GIF89a broken"), sound, Content("snow")]
    vectors = embedded(deaf, contents, 1000)
    rows = [0, 2, 5]
    assert np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist() == rows
    np.testing.assert_allclose(vectors[rows], deaf.embed([contents[row] for row in rows]), atol=1e-5)


@pytest.mark.parametrize("file", ["model.safetensors", "preprocessing.json"])
def test_scores_of_another_model_are_not_taken(tiers: Tiers, file: str) -> None:
    """Also where the weights are equal: what turns a file into tensors decides a vector too."""
    model = tiers.data.parent / "model"
    tiers.tier("one", "train", "image_caption", [(photo(1), "fox"), (photo(2), "a bird in the snow")])
    before = tiers.mix("one", model=model)["agreement"]["image_caption"]
    if file == "model.safetensors":
        tiny_embedder(seed=1).save(model)
    else:
        numbers = json.loads((model / file).read_text())
        (model / file).write_text(json.dumps(numbers | {"max_text_tokens": 3}))
    assert tiers.mix("one", model=model)["agreement"]["image_caption"] != before
