"""The baseline learns what it can: pairs in feature space, several seeds, and, as an MLP, what a sum cannot answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from commonspace.content import Content, Text
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.late_fusion import (
    LateFusion,
    TrainingRows,
    kinds_of,
    record_batches,
    symmetric_loss,
    train_heads,
    training_rows,
)
from commonspace.evaluation.late_fusion_grid import COMPOSED_GRID, GRID, Settings
from commonspace.objectives.nce import bidirectional_nce
from tests.evaluation.made import MadeFeatures, captions, clip, picture, voice

FAST = Settings(hidden=64, embedding_size=32, steps=200, batch_size=64, dropout=0.0, decay=0.9, learning_rate=3e-3)


def linear_rows(count: int = 400, seed: int = 0) -> TrainingRows:
    """Images and texts that are two noisy views of the same 8 numbers."""
    rng = np.random.default_rng(seed)
    views = np.random.default_rng(99)
    hidden = rng.normal(size=(count, 8))
    image = hidden @ views.normal(size=(8, 40)) + 0.1 * rng.normal(size=(count, 40))
    text = hidden @ views.normal(size=(8, 24)) + 0.1 * rng.normal(size=(count, 24))
    ids = np.arange(count)
    return TrainingRows({"image": image.astype(np.float32)}, {"text": text.astype(np.float32)}, ids, ids + count, ids)


def composed_rows(count: int = 600, seed: int = 0) -> TrainingRows:
    """The answer is a product of both parts' signs: no sum of two vectors has it."""
    rng, views = np.random.default_rng(seed), np.random.default_rng(98)
    image, word = (rng.integers(0, 2, size=(count, 6)) * 2 - 1 for _ in range(2))
    answer = np.hstack([image * word, rng.normal(size=(count, 1)) * 0.01]).astype(np.float32)
    features = {
        "image": (image @ views.normal(size=(6, 20))).astype(np.float32),
        "text": (word @ views.normal(size=(6, 20))).astype(np.float32),
    }
    ids = np.arange(count)
    target = (answer @ views.normal(size=(7, 20))).astype(np.float32)
    labels = np.unique(image * word, axis=0, return_inverse=True)[1]
    return TrainingRows(features, {"text": target}, ids, labels.astype(np.int64), ids)  # type: ignore[arg-type]


def recall(rows: TrainingRows, settings: Settings, test: TrainingRows, fusion: str) -> float:
    heads = train_heads(rows, settings, 0, fusion)  # type: ignore[arg-type]
    with torch.no_grad():
        query = heads({kind: torch.from_numpy(values) for kind, values in test.query.items()}, is_query=True)
        items = heads({kind: torch.from_numpy(values) for kind, values in test.positive.items()}, is_query=False)
    best = (query @ items.T).argmax(1).numpy()
    return float((test.positive_ids[best] == test.positive_ids).mean())


def test_it_learns_pairs_and_is_the_same_for_the_same_seed() -> None:
    rows, test = linear_rows(), linear_rows(100, seed=1)
    assert recall(rows, FAST, test, "single") > 0.8
    first, again, other = (train_heads(rows, Settings(steps=4, hidden=16), seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_the_mlp_answers_what_the_sum_cannot() -> None:
    rows, test = composed_rows(), composed_rows(200, seed=1)
    assert recall(rows, FAST, test, "mlp") > recall(rows, FAST, test, "sum") + 0.2


def test_a_fusion_that_does_not_fit_the_queries_is_refused() -> None:
    with pytest.raises(ConfigError, match="fusion=sum"):
        train_heads(linear_rows(), FAST, 0, "sum")
    with pytest.raises(ConfigError, match="fusion=single"):
        train_heads(composed_rows(), FAST, 0, "single")


def test_languages_take_turns_and_each_record_comes_once_an_epoch() -> None:
    records = np.repeat(np.arange(10), 3)
    settings = Settings(steps=60, batch_size=4, canonical=0.5)
    batches = list(record_batches(records, settings, torch.Generator().manual_seed(0)))
    assert {len(batch) for batch in batches} == {4} and len(batches) == 30 * 2
    for epoch in range(30):
        drawn = records[torch.cat(batches[2 * epoch : 2 * epoch + 2]).numpy()]
        assert len(set(drawn.tolist())) == 8
    assert len({int(row) for batch in batches for row in batch}) == 30


@pytest.mark.parametrize("canonical", [0.0, 0.75, 1.0])
def test_a_records_first_row_is_drawn_at_its_probability(canonical: float) -> None:
    records = np.repeat(np.arange(50), 3)
    settings = Settings(steps=40, batch_size=50, canonical=canonical)
    drawn = torch.cat(list(record_batches(records, settings, torch.Generator().manual_seed(0))))
    share = (drawn % 3 == 0).float().mean().item()
    assert share == pytest.approx(canonical, abs=3 * (canonical * (1 - canonical) / 2000) ** 0.5)


def test_rows_hold_the_canonical_text_and_others_by_turns() -> None:
    rows = training_rows(MadeFeatures(), captions(), variants=2)  # type: ignore[arg-type]
    assert set(rows.query) == {"image"} and set(rows.positive) == {"text"}
    assert np.bincount(rows.records).tolist() == [2] * 26 + [1]
    with pytest.raises(DataError, match="no training rows"):
        training_rows(MadeFeatures(), [])  # type: ignore[arg-type]


def test_it_embeds_whatever_its_families_ask() -> None:
    features = MadeFeatures()
    model = LateFusion(train_heads(training_rows(features, captions()), FAST, 0), features)  # type: ignore[arg-type]
    contents = [Content("fruit a"), Content(picture("fruit a")), Content("fruit b")]
    vectors = model.embed(contents)
    assert vectors.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.embed(contents[::-1])[::-1], vectors)
    with pytest.raises(ConfigError, match="no prefixes"):
        model.embed(contents, task="search result", role="query")


def test_bf16_learns_what_float32_learns() -> None:
    rows, settings = linear_rows(), Settings(steps=20, hidden=64, embedding_size=32)
    exact, quick = (train_heads(rows, settings, 0, precision=one) for one in ("32-true", "bf16-mixed"))
    assert {tensor.dtype for tensor in quick.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        vectors = [heads({"image": torch.from_numpy(rows.query["image"])}) for heads in (exact, quick)]
    assert (vectors[0] * vectors[1]).sum(1).mean() > 0.99


def test_the_loss_is_that_of_the_model_both_ways() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(2, 12, 8, generator=generator, requires_grad=True)
    query, positive = nn.functional.normalize(raw, dim=-1)
    ids = torch.arange(12) // 2, torch.arange(12) // 5 + 20
    found = symmetric_loss(query, positive, 0.1, *ids)
    expected, _ = bidirectional_nce(query, positive, temperature=0.1, query_ids=ids[0], positive_ids=ids[1])
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(loss, raw, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*grads)


def test_kinds_of_contents() -> None:
    assert kinds_of(Content(picture("x"), Text("French"))) == ("image", "text")
    assert kinds_of(Content(voice("x"))) == ("audio",) and kinds_of(Content(clip("x"))) == ("video",)


def test_the_grid_starts_with_the_defaults_and_repeats_nothing() -> None:
    assert GRID[0] == Settings() and len(set(GRID)) == len(GRID)
    assert len(set(COMPOSED_GRID)) == len(COMPOSED_GRID) == len(GRID)
    assert {settings.canonical for settings in COMPOSED_GRID} == {Settings().canonical}, "one variant a record"


def test_no_try_differs_by_a_decay_that_its_steps_do_not_reach() -> None:
    """The average's decay is held under (1 + n) / (10 + n) at the n-th update."""
    for settings in {*GRID, *COMPOSED_GRID}:
        assert settings.decay == Settings().decay or settings.decay < settings.steps / (9 + settings.steps)
