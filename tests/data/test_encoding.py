"""Drawing and encoding: seeded, canonical at its probability, ids of raw content."""

from __future__ import annotations

from collections import Counter

import pytest

from commonspace.content import Content, Image, Video
from commonspace.data.encoding import TaskOptions, draw, encode, sample_seed
from commonspace.data.sample import Record, Sample, Variant
from commonspace.errors import ConfigError, ContentError, DataError


def record(negatives=(), languages=("en", "fr", "de", "es")) -> Record:
    return Record(
        "k", "any", "made", "c", (Variant(Content("query")),),
        tuple(Variant(Content(f"answer {language}"), language) for language in languages), tuple(negatives),
    )  # fmt: skip


def test_one_seed_one_sample():
    options = TaskOptions()
    drawn = [draw(record(), seed, options).positive.parts[0].text for seed in range(50)]
    assert drawn == [draw(record(), seed, options).positive.parts[0].text for seed in range(50)]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("canonical", [0.0, 0.4, 1.0])
def test_the_canonical_variant_comes_at_its_probability(canonical):
    options = TaskOptions(canonical=canonical)
    counts = Counter(draw(record(), sample_seed(9, n), options).positive.parts[0].text for n in range(3000))
    assert counts["answer en"] / 3000 == pytest.approx(canonical, abs=0.03)
    for language in ("fr", "de", "es"):
        assert counts[f"answer {language}"] / 3000 == pytest.approx((1 - canonical) / 3, abs=0.03)


def test_a_single_variant_needs_no_luck():
    sample = draw(record(languages=("en",)), 1, TaskOptions(canonical=0.0))
    assert sample.positive == Content("answer en")


def test_seeds_of_samples_differ():
    assert len({sample_seed(step, row) for step in range(100) for row in range(100)}) == 10_000


def test_ids_hash_raw_content_without_prefix(processor):
    options = TaskOptions(prompt="search result")
    sample = draw(record(), 3, options)
    encoded = encode(sample, 3, options, processor)
    assert encoded.query_id == sample.query_id == Content("query").digest()
    wrong = Content("wrong")
    assert encode(draw(record([wrong]), 3, options), 3, options, processor).negative_ids == [wrong.digest()]
    assert bytes(encoded.query.pieces[0].value.tolist()) == b"search result|query|query"


def test_hard_negatives_are_drawn_and_never_the_answer():
    own = [Content("wrong"), Content("answer en"), Content("query")]
    options = TaskOptions(canonical=1.0, negatives=3)
    for seed in range(20):
        assert draw(record(own), seed, options).negatives == (Content("wrong"),)
    one = Counter(
        draw(record([Content(f"n{n}") for n in range(4)]), seed, TaskOptions()).negatives for seed in range(400)
    )
    assert len(one) == 4 and all(len(negatives) == 1 for negatives in one) and min(one.values()) > 60
    assert draw(record([Content("wrong")]), 0, TaskOptions(negatives=0)).negatives == ()


def test_mined_negatives_are_read_only_when_drawn():
    asked = []

    def read(row: int) -> Record:
        asked.append(row)
        return record(languages=("fr", "en")) if row == 5 else record(languages=("xx",))

    options = TaskOptions(canonical=0.0, negatives=2)
    other = Record(
        "o", "any", "made", "c", (Variant(Content("q")),), (Variant(Content("no"), "no"), Variant(Content("ja"), "fr"))
    )
    sample = draw(other, 1, options, mined=[5, 6], read=read)
    assert sorted(asked) == [5, 6] and set(sample.negatives) == {Content("answer fr"), Content("answer xx")}
    asked.clear()
    draw(other, 1, TaskOptions(negatives=1), mined=[5, 6, 7, 8], read=read)
    assert len(asked) == 1


def test_nothing_is_processed_twice_in_a_batch(processor):
    calls = []

    def counting(content, task=None, role=None):
        calls.append(content)
        return processor(content, task, role)

    done: dict = {}
    for seed in range(6):
        encode(draw(record(languages=("en",)), seed, TaskOptions()), seed, TaskOptions(), counting, done)
    assert len(calls) == 2


def test_errors_name_the_sample(processor):
    broken = Record(
        "k", "any", "made", "c", (Variant(Content(Image(b"broken", name="fox.png"))),), (Variant(Content("a")),)
    )
    with pytest.raises(ContentError, match=r"train-00000\.tar:k: fox\.png: is not an image"):
        encode(draw(broken, 0, TaskOptions(), "train-00000.tar:k"), 0, TaskOptions(), processor)

    def damaged(content, task=None, role=None):
        raise DataError("values.bin: damaged")

    with pytest.raises(DataError, match=r"somewhere:k: values\.bin"):
        encode(draw(record(), 0, TaskOptions(), "somewhere:k"), 0, TaskOptions(), damaged)


@pytest.mark.parametrize(
    "options", [{"canonical": 1.5}, {"prompt": "x", "prefix_dropout": -0.1}, {"negatives": -1}, {"prefix_dropout": 0.3}]
)
def test_options_without_sense_or_effect(options):
    with pytest.raises(ConfigError):
        TaskOptions(**options)


def test_clips_lose_their_sound_where_a_task_asks_for_it_and_keep_their_id():
    heard = []

    def processor(content, task=None, role=None):
        heard.append(content)
        return content

    clip = Content("before", Video(b"clip", name="x.mp4", sound=True))
    sample = Sample("video", clip, Content("a fox"), (), 1, 2, (), "x")
    for soundtrack in (True, False):
        encoded = encode(sample, 0, TaskOptions(soundtrack=soundtrack), processor)
        assert encoded.query_id == 1
    with_sound, _, without, text = heard
    assert [with_sound.parts[1].sound, without.parts[1].sound] == [True, False]
    assert without.parts[0] == with_sound.parts[0] and text == Content("a fox")


def test_swapped_sides_ask_from_target_to_query(processor):
    options = TaskOptions(prompt="search result", canonical=1.0, negatives=3, swap=True)
    sample = draw(record([Content("wrong")]), 3, options)
    assert (sample.query, sample.positive, sample.negatives) == (Content("answer en"), Content("query"), ())
    encoded = encode(sample, 3, options, processor)
    assert encoded.query_id == Content("answer en").digest() and encoded.positive_id == Content("query").digest()
    assert bytes(encoded.query.pieces[0].value.tolist()) == b"search result|query|answer en"
