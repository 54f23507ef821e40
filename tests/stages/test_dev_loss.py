"""The dev loss: its batches hold no false wrong target, its value is cross-entropy, its gradient that of its value."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from commonspace import Content
from commonspace.errors import DataError
from commonspace.evaluation.suite import build_suite
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.dev_loss import DevLoss
from tests.evaluation.made import record, write
from tests.models.tiny import WORDS, tiny_embedder


def dev_of(root: Path, concepts: list[str]) -> DevRetrieval:
    rows = [
        record(f"s{i}", "summary", concept, Content(f"query {WORDS[i]}"), ("en", Content(f"text {WORDS[i]}")))
        for i, concept in enumerate(concepts)
    ]
    write(root, "summary", rows, "dev")
    return DevRetrieval(build_suite(root, "dev"), tiny_embedder().processor)


def test_batches_are_full_and_no_other_rows_positive_answers_a_query(tmp_path: Path) -> None:
    dev = dev_of(tmp_path, ["one", "one", "two", "two", "three", "four", "five", "six"])
    (task,) = dev.tasks
    loss = DevLoss(dev, 3, 0.05)
    query_Q, item_G = dev.sides(task)
    assert len(loss.batches) == 2 and loss.batches == DevLoss(dev, 3, 0.05).batches
    for batch in loss.batches:
        assert len(batch.query_B) == 3
        for place, query in enumerate(batch.query_B):
            right = {item_G[item] for item in task.relevance.of(query_Q.index(query))}
            assert {i for i, item in enumerate(batch.positive_B) if item in right} == {place}


def test_the_value_is_cross_entropy_and_the_gradient_is_its_own(tmp_path: Path) -> None:
    dev = dev_of(tmp_path, list("abcdef"))
    embedder, loss = tiny_embedder(), DevLoss(dev, 4, 0.1)
    (batch,) = loss.batches
    vectors_NE = dev.vectors(embedder)
    logits_BB = vectors_NE[list(batch.query_B)] @ vectors_NE[list(batch.positive_B)].T / 0.1
    expected = torch.nn.functional.cross_entropy(logits_BB, torch.arange(4))
    told = loss.of_vectors(vectors_NE)
    assert told["mean"] == told["summary text->text"] == pytest.approx(float(expected), rel=1e-5)
    embedder.requires_grad_(False)
    bias = embedder.head.bias.requires_grad_()
    assert loss.backward(embedder, 7, batch_tokens=20) == pytest.approx(float(expected), rel=1e-5)
    gradient, step = bias.grad.clone(), 1e-2
    with torch.no_grad():
        numeric = []
        for sign in (1, -1):
            bias[3] += sign * step
            numeric.append(loss.of_vectors(dev.vectors(embedder))["mean"])
            bias[3] -= sign * step
    assert float(gradient[3]) == pytest.approx((numeric[0] - numeric[1]) / (2 * step), rel=2e-2, abs=1e-4)


def test_nothing_to_tell_apart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two dev pairs"):
        DevLoss(dev_of(tmp_path, ["one", "one"]), 4, 0.1)
