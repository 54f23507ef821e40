"""What is evaluated, found in training by a model's vectors where bytes, hashes and words differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.errors import DataError
from data_prep.quality import likeness
from data_prep.quality.likeness import Likeness, near_vector
from data_prep.quality.rules import Nearness
from tests.data_prep.quality.test_mix import Tiers, numbers, photo, sentence
from tests.models.tiny import tiny_embedder

APART = "a red fox in the snow runs over the blue bird before the fox barks after"


@pytest.fixture
def broken(tmp_path: Path) -> Tiers:
    """Row 0 reads like a held-out question to the tiny model alone, to which all its words are unknown ones."""
    tiers = Tiers(tmp_path)
    tiers.tier("ours", "heldout", "question", [(sentence(1), "w1")])
    tiers.tier("theirs", "train", "question", [(sentence(2), "w2"), (APART, "w1 w3")])
    tiny_embedder().save(tmp_path / "model")
    return tiers


def like(tiers: Tiers, least: float = 0.999) -> Likeness:
    return Likeness(tiers.data.parent / "model", least)


def test_a_split_broken_on_purpose_is_found_by_vectors_alone(broken: Tiers) -> None:
    assert broken.mix("theirs", against=("ours",))["dropped"] == {}  # the other rules miss it
    report = broken.mix("theirs", against=("ours",), likeness=like(broken))
    assert report["dropped"] == report["sources"]["theirs"]["dropped"] == {"evaluated: near vector": 1}
    assert [(one["source"], one["key"]) for one in report["leaks"]] == [("theirs", "theirs-question-train-0")]
    assert numbers(broken.keys("question")) == ["theirs-1"]
    assert "cosine at least 0.999" in (broken.data / "mix/README.md").read_text()
    with pytest.raises(DataError, match="1 training rows hold .*near vector 1"):
        broken.mix("theirs", against=("ours",), likeness=like(broken), leaks="refuse")


@pytest.mark.parametrize("constant", [False, True], ids=["tiny model", "all vectors equal"])
def test_a_side_is_compared_with_sides_of_its_kind(
    broken: Tiers, monkeypatch: pytest.MonkeyPatch, constant: bool
) -> None:
    """Also a model to which all is one thing finds the picture alone: texts that are evaluated are short here."""
    if constant:
        one = np.eye(1, 8, dtype=np.float32)
        monkeypatch.setattr(likeness.Vectors, "_embed", lambda self, contents: one.repeat(len(contents), axis=0))
    broken.tier("looks", "dev", "image_caption", [(photo(1), "w4")])
    broken.tier("seen", "train", "image_caption", [(photo(1, quality=95), "w5"), (sentence(3), "w7")])
    options = {"against": ("looks",), "nearness": Nearness(None, None, None)}
    assert broken.mix("seen", **options)["dropped"] == {}
    report = broken.mix("seen", **options, likeness=like(broken, 0.99))
    assert report["dropped"] == {"evaluated: near vector": 1}
    assert numbers(broken.keys("image_caption")) == ["seen-1"]


def test_a_side_that_cannot_be_embedded_is_not_compared(broken: Tiers) -> None:
    broken.tier("looks", "dev", "image_caption", [(b"GIF89a broken", "w4"), (photo(1), "w4")])
    rows = [(b"GIF89a also broken", "w5"), (photo(1, quality=95), "w6"), (sentence(3), "w7")]
    broken.tier("seen", "train", "image_caption", rows)
    options = {"against": ("looks",), "nearness": Nearness(None, None, None)}
    report = broken.mix("seen", **options, likeness=like(broken, 0.99))
    assert report["dropped"] == {"a medium cannot be read": 1, "evaluated: near vector": 1}
    unseen = {"image_caption": 1}
    assert report["not_scored"] == {"likeness of training": unseen, "likeness of what is evaluated": unseen}
    card = (broken.data / "mix/README.md").read_text()
    assert "## Not scored" in card and "| likeness of what is evaluated | image_caption | 1 |" in card


def test_long_sides_are_searched_and_searched_for(broken: Tiers) -> None:
    """By their beginnings, as training meets them: the model takes 128 tokens and refused what is longer."""
    words, others = ([f"{letter}{number}" for number in range(400)] for letter in "kv")
    broken.tier("long", "heldout", "code", [(" ".join(words), "w8")])
    broken.tier("seen", "train", "code", [(" ".join(others), "w9"), (APART, "w1 w3")])
    report = broken.mix("seen", against=("long",), likeness=like(broken))
    assert report["dropped"] == {"evaluated: near vector": 1} and report["not_scored"] == {
        "likeness of training": {},
        "likeness of what is evaluated": {},
    }


def test_no_model_loads_when_off_and_vectors_are_kept(broken: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    real, loads = likeness.load, []
    monkeypatch.setattr(likeness, "load", lambda model: loads.append(model) or real(model))
    broken.mix("theirs", against=("ours",))
    assert not loads
    for least in (0.999, 0.9999):
        broken.mix("theirs", against=("ours",), likeness=like(broken, least))
    assert len(loads) == 1


def test_blocks_give_what_one_matrix_gives() -> None:
    random = np.random.default_rng(0)
    one, other = (random.normal(size=(count, 8)).astype(np.float32) for count in (23, 17))
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other))
    whole = (one @ other.T >= 0.7).any(axis=1)
    assert 0 < whole.sum() < len(whole)
    for block in (1, 5, 64):
        np.testing.assert_array_equal(near_vector(one, other, 0.7, block), whole)
    assert not near_vector(one, other[:0], 0.7).any()
