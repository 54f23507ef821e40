"""Pools without a data set: what is right, how it is scored, and what two of them have to share to be the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.content import Content, Image
from commonspace.errors import DataError
from commonspace.evaluation.paper.pools import Captioned, Pool, score


@pytest.mark.parametrize("lonely", [0, 1])
def test_a_query_without_a_right_item_is_named(lonely: int) -> None:
    right = [[0], [1]]
    right[lonely] = []
    asked = Pool([Content("x")] * 2, [Content("x")] * 2, right, ["a", "b"])
    with pytest.raises(DataError, match=f"query {lonely} has no right item in its pool"):
        score(asked, torch.eye(2), torch.eye(2), "R@1", draws=10)


def test_scores_are_a_plain_count() -> None:
    """Every metric against loops over a similarity matrix; groups count alike, and a query is no answer to itself."""
    rng = np.random.default_rng(0)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(12, 8))), dim=-1)
    labels = [n % 4 for n in range(12)]
    right = [[m for m in range(12) if labels[m] == labels[n] and m != n] for n in range(12)]
    one = Pool([Content("x")] * 12, [Content("x")] * 12, right, [str(n) for n in range(12)], itself=range(12))
    order = []
    for n in range(12):
        scores = {m: float(vectors[n] @ vectors[m]) for m in range(12) if m != n}
        order.append(sorted(scores, key=scores.get, reverse=True))
    hits = [[m in right[n] for m in order[n]] for n in range(12)]
    wanted = {
        "R@1": np.mean([some[0] for some in hits]),
        "R@5": np.mean([any(some[:5]) for some in hits]),
        "MRR@10": np.mean([1 / (some.index(True) + 1) if True in some[:10] else 0 for some in hits]),
        "NDCG@10": np.mean([sum(h / np.log2(k + 2) for k, h in enumerate(some[:10])) for some in hits])
        / sum(1 / np.log2(k + 2) for k in range(2)),
    }
    for metric, value in wanted.items():
        found = score(one, vectors, vectors, metric, draws=50)
        assert found.value == pytest.approx(value) and found.ci95[0] <= value <= found.ci95[1] and found.pool == 11
    groups = ["a"] * 2 + ["b"] * 4
    two = Pool([Content("x")] * 6, [Content("x")] * 6, [[n] for n in range(6)], list("abcdef"), (groups, groups))
    items = vectors[:6].clone()
    items[:2] = items[[1, 0]]  # both of the first group miss, all of the second hit
    assert score(two, vectors[:6], items, "R@1", draws=20).value == pytest.approx(0.5)


def test_gains_are_those_of_the_judges() -> None:
    """NDCG of graded judgements is trec_eval's; the other metrics take any page of a grade above 0."""
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="mteb brings it")
    rng = np.random.default_rng(1)
    queries, items = (
        torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, 6))), dim=-1) for n in (20, 40)
    )
    right = [[int(item) for item in rng.choice(40, rng.integers(1, 14), replace=False)] for _ in range(20)]
    gains = [[float(grade) for grade in rng.integers(1, 4, len(some))] for some in right]
    asked = Pool([Content("x")] * 20, [Content("x")] * 40, right, list(map(str, range(20))), gains=gains)
    judged = {
        str(query): {str(item): int(grade) for item, grade in zip(some, grades, strict=True)}
        for query, (some, grades) in enumerate(zip(right, gains, strict=True))
    }
    ranked = {str(q): {str(n): float(s) for n, s in enumerate(scores)} for q, scores in enumerate(queries @ items.T)}
    found = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.1,10"}).evaluate(ranked).values()
    for k in (1, 10):
        theirs = np.mean([one[f"ndcg_cut_{k}"] for one in found])
        assert score(asked, queries, items, f"NDCG@{k}", draws=10).value == pytest.approx(theirs)
    plain = replace(asked, gains=None)
    assert score(plain, queries, items, "NDCG@10", 10).value != pytest.approx(theirs)
    assert score(plain, queries, items, "R@1", 10) == score(asked, queries, items, "R@1", 10)
    tied = Pool([Content("x")], [Content("x")] * 2, [[0, 1]], ["a"], gains=[[2.0, 1.0]])
    assert score(tied, torch.eye(2)[:1], torch.eye(2)[[0, 0]], "NDCG@1", 10).value == 0.5, "ties go against the model"


def test_a_caption_of_two_images_is_right_for_both() -> None:
    """A model that tells every text from every other has them all right, in both directions."""
    said = [["a red fox", "snow", "snow"], ["a red fox"], ["a bird"]]
    known = Captioned("image", [Content(text) for text in ("i0", "i1", "i2")], said)
    texts, images = known.asked("image->text"), known.asked("text->image")
    assert [one.parts[0].text for one in texts.items] == ["a red fox", "snow", "a bird"]
    assert (texts.right, images.right) == ([[0, 1], [0], [2]], [[0, 1], [0], [0], [0, 1], [2]])
    pictures = torch.nn.functional.normalize(torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 1]]), dim=-1)
    assert score(texts, pictures, torch.eye(3), "R@1", 10).value == 1
    assert score(images, torch.eye(3)[[0, 1, 1, 0, 2]], pictures, "R@1", 10).value == 1


def test_a_pools_digest_is_of_all_that_makes_its_figure(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    one = Pool([Content("x")], [Content(Image(tmp_path / "a.png")), Content(Image(b"b"))], [[0]], ["u"])
    assert one.digest() == replace(one).digest()
    others = [
        replace(one, queries=[Content("y")]), replace(one, items=[one.items[0], Content(Image(b"c"))]),
        replace(one, right=[[1]]), replace(one, right=[[0, 1]], gains=[[1.0, 2.0]]), replace(one, absent=1),
        replace(one, right=[[0, 1]], gains=[[2.0, 1.0]]), replace(one, itself=[0]), replace(one, units=["v"]),
        replace(one, groups=(["a"], ["a", "a"])),
    ]  # fmt: skip
    assert len({one.digest(), *(other.digest() for other in others)}) == 1 + len(others)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a.png: cannot be read \(No such file"):
        one.digest()
