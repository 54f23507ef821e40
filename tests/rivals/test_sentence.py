"""Models of sentence-transformers: measured as the library gives them, and trained by it on our rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import BertModel

from commonspace.configuration import compose
from commonspace.content import Content
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, ContentError, DataError, WeightsError
from commonspace.evaluation.results import read_rows
from commonspace.evaluation.rivals import SentenceTransformerRival, answerable, is_rival, load_rival
from commonspace.evaluation.run import evaluate_rival
from commonspace.evaluation.suite import build_suite
from commonspace.evaluation.surroundings import Surroundings
from commonspace.rivals.sentence import drawn_rows, fit_once, loss_of, train_sentence_transformers
from commonspace.rivals.tries import Given, best_of
from tests.models.tiny import picture, tiny_embedder
from tests.negatives import write_negatives

E5 = {"query": "query: ", "document": "text: "}


def options(**changes: Any) -> dict[str, Any]:
    """Those of the config, small."""
    told = OmegaConf.to_container(
        compose("rival", ["rival=sentence_transformers", "rival.negatives=null"]).rival, resolve=True
    )
    small = {"tasks": ["summary", "document"], "token_budget": 150, "batch_size": 4, "mini_batch_size": 2}
    return {
        **told,
        **small,
        "negatives": None,
        "matryoshka_sizes": [32, 8],
        "precision": "32-true",
        "prompts": E5,
        **changes,
    }


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """A folder that the library wrote, prompts in it."""
    model = load_rival(weights / "multilingual-e5-small", E5).model
    model.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    return tmp_path / "theirs"


def test_vectors_are_those_of_the_library(folder: Path, weights: Path) -> None:
    texts = ["a red fox", "the blue bird runs over snow"]
    contents = [Content(text) for text in texts]
    rival, plain = load_rival(folder), SentenceTransformer(str(folder))
    for role, prompt in (("query", "query: "), ("document", "text: "), (None, "")):
        wanted = plain.encode([prompt + text for text in texts], normalize_embeddings=True)
        np.testing.assert_allclose(rival.embed(contents, task="rival", role=role), wanted, atol=1e-6)
    bare = load_rival(weights / "multilingual-e5-small", {"query": "title: "})
    wanted = plain.encode([f"title: {text}" for text in texts], normalize_embeddings=True)
    np.testing.assert_allclose(bare.embed(contents, role="query"), wanted, atol=1e-6)
    assert rival.prompted and bare.prompted and not load_rival(weights / "multilingual-e5-small").prompted


def test_weights_with_a_tokenizer_alone_keep_it(weights: Path) -> None:
    """Pooled by hand: the mean of the transformer's states over the tokens that tokenizer.json gives."""
    folder, text = weights / "multilingual-e5-small", "a red fox runs"
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids])
    with torch.no_grad():
        wanted = BertModel.from_pretrained(folder, add_pooling_layer=False)(ids).last_hidden_state.mean(1)
    found = load_rival(folder).embed([Content(text), Content("a red fox runs over the blue bird")])
    np.testing.assert_allclose(found[:1], torch.nn.functional.normalize(wanted, dim=1), atol=1e-5)


def test_it_is_measured_on_texts_and_documents(
    folder: Path, tier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Surroundings(tier, tier, tmp_path / "results", features=False, draws=20)
    object.__setattr__(place, "near_duplicates", {})
    rows = read_rows(evaluate_rival(place, folder, name="rival_st"))
    assert {row.task for row in rows} == {"summary", "document"}
    assert {(row.model, row.stage, row.prefix_policy) for row in rows} == {("rival_st", "rival", "task")}
    assert "left out: image_caption image->text, image_caption text->image" in capsys.readouterr().out
    summary = next(task for task in place.suite.tasks if task.name == "summary")
    plain = SentenceTransformer(str(folder))
    asked, given = (
        plain.encode([prompt + content.parts[0].text for content in contents], normalize_embeddings=True)
        for prompt, contents in (("query: ", summary.queries), ("text: ", summary.gallery))
    )
    first = np.mean([summary.relevance.of(row)[0] == best for row, best in enumerate((asked @ given.T).argmax(1))])
    found = next(
        row for row in rows if (row.task, row.metric, row.suite, row.subset) == ("summary", "R@1", "heldout", "all")
    )
    assert found.value == pytest.approx(first, abs=1e-6) and found.queries == len(summary.queries)


def test_pictures_are_refused(folder: Path, tier: Path) -> None:
    rival = load_rival(folder)
    with pytest.raises(ContentError, match=r"\['image'\]: this model of sentence-transformers reads text"):
        rival.embed([Content("a fox"), Content(picture(1))])
    with pytest.raises(ConfigError, match="the model reads text, and no task .* image_caption image->text"):
        answerable(build_suite(tier, "heldout", ["image_caption"]), rival)


def test_whose_a_folder_is(folder: Path, weights: Path, tmp_path: Path) -> None:
    tiny_embedder().save(tmp_path / "ours")
    assert is_rival(folder) and is_rival(weights / "multilingual-e5-small")
    assert not is_rival(tmp_path / "ours") and not is_rival(tmp_path / "absent") and not is_rival(tmp_path)
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(Exception, match="theirs: sentence-transformers cannot load it") as found:
        load_rival(folder)
    assert isinstance(found.value, WeightsError)


def test_training_lowers_its_own_loss(given: Given) -> None:
    told, model = (
        options(tasks=["summary"]),
        SentenceTransformerRival(given.pretrained("multilingual-e5-small"), E5).model,
    )
    rows = drawn_rows(told, given, model)["summary"]

    def loss() -> float:
        sides = [
            model.eval().preprocess([E5[role] + row[side] for row in rows])
            for role, side in (("query", "anchor"), ("document", "positive"))
        ]
        return loss_of(model, told)(sides, None).item()

    before = loss()
    fit_once(model, {"summary": rows * 8}, told, 3e-3, seed=1)
    assert loss() < 0.9 * before


def test_the_folder_is_asked_as_it_was_trained(given: Given, tmp_path: Path) -> None:
    tried = train_sentence_transformers(options(learning_rates=[1e-3]), given, tmp_path / "rival_st")
    assert [one.learning_rate for one in tried] == [1e-3] and 0 <= tried[0].dev <= 1
    trained = load_rival(tmp_path / "rival_st")
    assert trained.model.prompts == E5 and is_rival(tmp_path / "rival_st")
    start = load_rival(given.pretrained("multilingual-e5-small"), E5)
    content = [Content("a red fox")]
    assert np.abs(trained.embed(content, role="query") - start.embed(content, role="query")).max() > 1e-3


def test_a_task_has_its_share_of_the_budget(given: Given, weights: Path) -> None:
    model = load_rival(weights / "multilingual-e5-small").model
    rows = drawn_rows(options(), given, model)
    for task, drawn in rows.items():
        tokens = [len(model.tokenizer(text)["input_ids"]) for row in drawn for text in row.values()]
        assert 75 <= sum(tokens) < 75 + 40, task
    assert set(rows) == {"summary", "document"} and rows == drawn_rows(options(), given, model)


def test_mined_negatives_stand_beside_their_rows(given: Given, weights: Path, tmp_path: Path) -> None:
    model, reader = (
        load_rival(weights / "multilingual-e5-small").model,
        ShardReader(given.data / "summary", "train"),
    )
    write_negatives(tmp_path / "mined" / "summary.parquet", reader, {"s1": ["s2", "s3"]}, {"s1": [0.9, 0.8]})
    told = options(negatives=str(tmp_path / "mined"), token_budget=10_000)
    rows = drawn_rows(told, given, model)
    assert [row["negative"] for row in rows["summary, negatives"]] == [
        reader.read(2).positives[0].content.parts[0].text
    ]
    assert len(rows["summary"]) == len(reader) - 1
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none: has no list; run `commonspace mine`"):
        drawn_rows({**told, "negatives": str(tmp_path / "none")}, given, model)
    with pytest.raises(DataError, match=r"absent.train\.json"):
        drawn_rows(options(tasks=["absent"]), given, model)


def test_the_best_try_stays(weights: Path) -> None:
    model, scores = torch.nn.Linear(1, 1, bias=False), iter([0.2, 0.5, 0.3])
    start = model.weight.item()

    def fit(rate: float) -> None:
        assert model.weight.item() == start, "every try begins where the first did"
        model.weight.data += rate

    tried = best_of(model, [1.0, 2.0, 3.0], fit, lambda: next(scores), "whole", 0)
    assert [one.learning_rate for one in tried] == [2.0, 3.0, 1.0] and model.weight.item() == pytest.approx(start + 2)
