"""Tables of examples: pictures and sounds are those of the contents, and which queries are chosen."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import torch

from commonspace import Audio, Content, Document, Image, Video
from commonspace.evaluation.suite import build_suite
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.examples import dev_examples
from commonspace.tracking.media import SECONDS, SIDE, Example, examples_table
from tests.evaluation.made import record, write
from tests.models.tiny import WORDS, tiny_embedder


def flat(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((40, 40, 3), colour, dtype=np.uint8)


def test_a_row_shows_and_plays_what_its_contents_hold() -> None:
    wave = io.BytesIO()
    soundfile.write(wave, np.full((8000 * 12, 2), 0.25), 8000, format="WAV", subtype="FLOAT")
    clip = Video(np.stack([flat((0, 0, 255)), flat((9, 9, 9))]), fps=2.0)
    query = Content("what is this", Image(flat((255, 0, 0))), Audio(wave.getvalue(), name="x.wav"))
    answer = Content(Document("a page", Image(flat((0, 255, 0)))))
    broken = Content(Image(b"\x89PNG broken"), Audio(b"OggS broken"))
    made = Example("figure", "failure", 7, query, answer, 0.1, (Content(clip), broken), (0.5, 0.4))
    table = examples_table([made, Example("figure", "success", 1, answer, answer, 0.9, (answer,), (0.9,))])
    row = dict(zip(table.columns, table.data[0], strict=True))
    assert (row["task"], row["kind"], row["rank"], row["found_1_score"]) == ("figure", "failure", 7, 0.5)
    assert row["query_text"] == "what is this" and row["answer_text"] == "a page" and row["answer_sound"] is None
    colours = [np.asarray(row[f"{side}_picture"].image).reshape(-1, 3) for side in ("query", "answer", "found_1")]
    assert [colour[len(colour) // 2].argmax() for colour in colours] == [0, 1, 2], "red, green, the clip's first frame"
    assert np.asarray(row["query_picture"].image).shape == (SIDE, SIDE, 3)
    heard, rate = soundfile.read(row["query_sound"]._path)
    assert rate == 8000 and len(heard) == SECONDS * 8000 and np.allclose(heard, 0.25, atol=1e-3)
    assert row["found_2_picture"] is None and row["found_2_sound"] is None
    assert dict(zip(table.columns, table.data[1], strict=True))["found_2_text"] is None


def test_the_hardest_failures_come_first_and_as_many_that_were_found(tmp_path: Path) -> None:
    rows = [
        record(f"s{i}", "summary", word, Content(f"query {word}"), ("en", Content(f"text {word}")))
        for i, word in enumerate(WORDS[:6])
    ]
    write(tmp_path, "summary", rows, "dev")
    dev = DevRetrieval(build_suite(tmp_path, "dev"), tiny_embedder().processor)
    (task,) = dev.tasks
    query_Q, item_G = dev.sides(task)
    # Of six queries two fail: 0 finds 1's answer by far, 2 finds 3's by a little.
    vectors_NE = torch.zeros(len(dev.pieces), 6)
    own = [task.relevance.of(query)[0] for query in range(6)]
    for query in range(6):
        vectors_NE[query_Q[query], query] = vectors_NE[item_G[own[query]], query] = 1.0
    vectors_NE[query_Q[0]] = torch.tensor([0.1, 0.9, 0, 0, 0, 0])
    vectors_NE[query_Q[2]] = torch.tensor([0, 0, 0.5, 0.6, 0, 0])
    found = dev_examples(dev, vectors_NE, 2)
    texts = [(one.kind, one.rank, one.query.parts[0].text) for one in found]
    assert texts[:2] == [("failure", 2, task.queries[0].parts[0].text), ("failure", 2, task.queries[2].parts[0].text)]
    assert [kind for kind, *_ in texts] == ["failure", "failure", "success", "success"]
    assert found[0].answer == task.gallery[own[0]] and found[0].found[0] == task.gallery[own[1]]
    assert [one.query for one in dev_examples(dev, vectors_NE, 1)] == [found[0].query, found[2].query]
    assert dev_examples(dev, vectors_NE, 0) == []
