"""The dual tower of open_clip: its loss, what trains, its folder, and its row in our suite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from commonspace.configuration import compose
from commonspace.content import Content
from commonspace.data.shards import ShardReader
from commonspace.errors import ContentError, WeightsError
from commonspace.evaluation.dual_tower import DualTower
from commonspace.evaluation.results import read_rows
from commonspace.evaluation.run import evaluate_rival
from commonspace.evaluation.surroundings import Surroundings
from commonspace.rivals.clip import (
    ByLength,
    Loader,
    Log,
    lock,
    optimiser_of,
    pairs_of,
    pooled_texts,
    reduced,
    train_clip,
    train_once,
    unlock_text,
)
from commonspace.rivals.tries import Given
from tests.models.tiny import picture, sound


def options(**changes: Any) -> dict[str, Any]:
    """Those of the config, small."""
    told = OmegaConf.to_container(compose("rival", ["rival=clip"]).rival, resolve=True)
    small = {
        "image_size": 32,
        "embedding_size": 16,
        "batch_size": 8,
        "locked_steps": 3,
        "text_batch_size": 4,
        "text_tokens": 8,
        "text_steps": 2,
    }
    return {**told, **small, "learning_rates": [1e-3, 1e-2], "precision": "32-true", **changes}


@pytest.fixture
def tower(weights: Path) -> DualTower:
    """New projections over the pretrained parts."""
    torch.manual_seed(0)
    places = weights / "efficientnet-lite0", weights / "multilingual-e5-small"
    return DualTower.from_weights(*places, size=32, max_pixels=10_000, embedding_size=16)


def test_one_step_is_the_plain_formula(tower: DualTower) -> None:
    """Symmetric cross entropy of scaled cosines, and AdamW's first step along the sign of the gradient."""
    rows_NC, texts_ND = torch.randn(6, tower.model.visual.trunk.num_features), torch.randn(6, 32)
    lock(tower)
    with reduced(tower.model, text=True):
        image_NE, text_NE = tower.model.visual(rows_NC), tower.model.text(texts_ND)
        cosines_NN = torch.nn.functional.normalize(image_NE, dim=1) @ torch.nn.functional.normalize(text_NE, dim=1).T
        logits_NN, own_N = cosines_NN / 0.07, torch.arange(6)
        wanted = (
            torch.nn.functional.cross_entropy(logits_NN, own_N) + torch.nn.functional.cross_entropy(logits_NN.T, own_N)
        ) / 2
        log, before = Log(), tower.model.logit_scale.item()
        loader = Loader([own_N], lambda batch: (rows_NC[batch], texts_ND[batch]), "one")
        train_once(tower.model, loader, 0.1, 0.2, 0.0, "fp32", log)
    assert log.lines[0]["train/loss"] == pytest.approx(wanted.item(), rel=1e-5)
    assert before == pytest.approx(math.log(1 / 0.07)) and abs(
        tower.model.logit_scale.item() - before
    ) == pytest.approx(0.1, rel=1e-3)


def test_gains_biases_and_the_scale_do_not_decay(tower: DualTower) -> None:
    lock(tower)
    unlock_text(tower)
    plain, matrices = optimiser_of(tower.model, 1e-3, 0.2).param_groups
    assert (plain["weight_decay"], matrices["weight_decay"], plain["betas"]) == (0.0, 0.2, (0.9, 0.98))
    assert any(weight is tower.model.logit_scale for weight in plain["params"])
    assert all(weight.ndim < 2 for weight in plain["params"]) and all(weight.ndim == 2 for weight in matrices["params"])
    words = tower.model.text.transformer.get_input_embeddings().weight
    assert not any(weight is words for weight in matrices["params"]), (
        "as in our own stages, word embeddings stand still"
    )


def test_what_is_locked_is_taken_once_and_is_the_same(tower: DualTower, tier: Path) -> None:
    """The trunk's rows and the transformer's pooled texts, projected, are what the whole towers give."""
    records = list(ShardReader(tier / "image_caption", "train"))
    pairs, model = pairs_of(tower, records), tower.model
    assert len(pairs.captions) == 2 * len(records)
    known = pooled_texts(tower, pairs.captions)
    with torch.no_grad():
        texts_NE = torch.nn.functional.normalize(
            model.text.proj(torch.stack([known[one] for one in pairs.captions])), dim=1
        )
        pixels = tower._pixels(records[0].queries[0].content.parts[0])[None]
        image_1E = model.encode_image(pixels, normalize=True)
    embedded = tower.embed([Content(one) for one in pairs.captions] + [records[0].queries[0].content])
    np.testing.assert_allclose(embedded[:-1], texts_NE, atol=1e-5)
    np.testing.assert_allclose(embedded[-1:], image_1E, atol=1e-5)


def test_texts_of_like_length_together_are_all_at_once(tower: DualTower, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same vectors, in the order given, and the same gradient, from fewer tokens."""
    monkeypatch.setattr("commonspace.rivals.clip._GROUP", 2)
    text, widths = tower.model.text.eval(), []
    ids_NL = tower.tokens(["a red fox in the snow by the blue house", "fox", "a bird", "snow on the roof", "two"])
    text.transformer.register_forward_pre_hook(
        lambda module, given, named: widths.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    found = []
    for one in (text, ByLength(text)):
        text.zero_grad()
        vectors_NE = one(ids_NL)
        (vectors_NE * torch.arange(vectors_NE.numel()).view_as(vectors_NE).cos()).sum().backward()
        found.append((vectors_NE.detach(), text.transformer.encoder.layer[0].output.dense.weight.grad.clone()))
    for whole, grouped in zip(*found, strict=True):
        torch.testing.assert_close(grouped, whole, rtol=1e-4, atol=1e-6)
    assert widths[0] == tuple(ids_NL.shape) and [rows for rows, _ in widths[1:]] == [2, 2, 1]
    assert sum(rows * wide for rows, wide in widths[1:]) < ids_NL.numel()


def test_training_moves_what_it_should_and_the_folder_gives_the_same_vectors(
    given: Given, tower: DualTower, tmp_path: Path
) -> None:
    tried = train_clip(options(), given, tmp_path / "rival_clip")
    assert [one.part for one in tried].count("projections") == 2 and {"text"} < {one.part for one in tried}
    assert {one.learning_rate for one in tried if one.part == "text"} == {None, 2e-5}, "locked is a choice too"
    trained = DualTower.load(tmp_path / "rival_clip")
    start, end = tower.model.state_dict(), trained.model.state_dict()
    assert not torch.equal(start["visual.head.mlp.fc1.weight"], end["visual.head.mlp.fc1.weight"])
    assert all(torch.equal(start[name], end[name]) for name in start if name.startswith("visual.trunk"))
    contents = [Content("a red fox"), Content(picture(1)), Content("snow", "blue bird")]
    trained.save(tmp_path / "again")
    np.testing.assert_array_equal(trained.embed(contents), DualTower.load(tmp_path / "again").embed(contents))
    np.testing.assert_allclose(np.linalg.norm(trained.embed(contents), axis=1), 1, rtol=1e-5)


def test_texts_train_past_their_projection(
    given: Given, tower: DualTower, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the second part scores better than the first, its transformer stays."""
    scores = iter([0.1, 0.2])
    monkeypatch.setattr("commonspace.rivals.clip.dev_score_of", lambda suite: lambda rival: next(scores))
    tried = train_clip(options(learning_rates=[1e-3]), given, tmp_path / "rival_clip")
    assert [(one.part, one.learning_rate) for one in tried] == [("projections", 1e-3), ("text", 2e-5), ("text", None)]
    start, end = tower.model.state_dict(), DualTower.load(tmp_path / "rival_clip").model.state_dict()
    layers = [name for name in start if "encoder.layer" in name and name.endswith("dense.weight")]
    assert layers and all(not torch.equal(start[name], end[name]) for name in layers)
    words = "text.transformer.embeddings.word_embeddings.weight"
    assert torch.equal(start[words], end[words])


def test_it_is_measured_on_what_it_reads(
    tower: DualTower, tier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower.save(tmp_path / "rival_clip")
    place = Surroundings(tier, tier, tmp_path / "results", features=False, draws=20)
    object.__setattr__(place, "near_duplicates", {})
    rows = read_rows(evaluate_rival(place, tmp_path / "rival_clip"))
    assert {(row.task, row.direction) for row in rows if row.metric == "R@1"} == {
        ("image_caption", "image->text"), ("image_caption", "text->image"), ("summary", "text->text"),
    }  # fmt: skip
    assert {(row.model, row.stage, row.prefix_policy, row.dim) for row in rows} == {("rival_clip", "rival", "none", 16)}
    assert "rival_clip reads one picture, or text; left out: document text->document" in capsys.readouterr().out
    with pytest.raises(ContentError, match=r"\['audio'\]: a dual tower reads one picture, or text"):
        tower.embed([Content("a fox"), Content(sound())])


def test_a_damaged_folder_is_named(tower: DualTower, tmp_path: Path) -> None:
    tower.save(tmp_path / "rival_clip")
    (tmp_path / "rival_clip" / "open_clip_model.safetensors").write_bytes(b"none")
    with pytest.raises(WeightsError, match=r"rival_clip: is no dual tower .* train it again"):
        DualTower.load(tmp_path / "rival_clip")
