"""What is evaluated is found wherever a training row holds it; what whole tasks share leaves no row out."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.content import Audio, Content, Document, Image, Text, Video
from commonspace.data.sample import Record, Variant
from data_prep.quality.contained import MOST, further_of, items_of
from data_prep.quality.leaks import SHARED
from tests.data_prep.quality.test_mix import LONG, Tiers, melody, numbers, photo, sentence
from tests.media import numbered_frames, sound_bytes, video_bytes

CLIP = video_bytes(numbered_frames(4))
QUESTION = "What is the word for that which is shown in this picture here, in {}?"


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path)


def picture(number: int, quality: int | None = None) -> Image:
    return Image(photo(number, quality=quality))


def sound(number: int, loud: float = 1.0, kind: str = "WAV") -> Audio:
    return Audio(sound_bytes(melody(number) * loud, format=kind))


def row(queries: list[Content], positives: list[Content], *negatives: Content, number: int = 0) -> Record:
    variants = (tuple(map(Variant, side)) for side in (queries, positives))
    return Record(f"x-{number}", "t", "x", f"concept {number}", *variants, negatives)


def mixed(tiers: Tiers, held: list[Record], train: list[Record]) -> dict[str, str]:
    """{key: rule} of what is left out of training; a clean row stays."""
    clean = row([Content(picture(999))], [Content("clean")], number=999)
    tiers.records("ours", "heldout", "t", held)
    tiers.tier("theirs", "train", "other", [("w1", "w2")])  # a manifest
    tiers.tier("ours", "train", "other", [("w3", "w4")])
    tiers.records("theirs", "train", "t", [*train, clean])
    report = tiers.mix("theirs", against=("ours",))
    assert numbers(tiers.keys("t"))[-1] == "x-999"
    left = {one["key"]: one["why"].removeprefix("evaluated: ") for one in report["leaks"]}
    assert sum(report["dropped"].values()) == len(left)
    return left


HELD = [
    row([Content(Video(CLIP))], [Content("clip caption")], number=100),
    row([Content(picture(1))], [Content(LONG + "one.")], number=101),
    row([Content(picture(5))], [Content("short one"), Content(sentence(2))], number=102),
    row([Content(sound(6), "what is heard?")], [Content("a tune")], number=103),
]


@pytest.mark.parametrize(
    "held, why",
    [
        (row([Content(Video(CLIP), "what happens?")], [Content("an answer")]), "same medium"),
        (row([Content(Video(CLIP, sound=False))], [Content("a silent clip")]), "same medium"),
        (row([Content("a page")], [Content(Document("a text", picture(1), "more"))]), "same medium"),
        (row([Content(picture(7), picture(1), "compare")], [Content("they differ")]), "same medium"),
        (row([Content(picture(8))], [Content("x"), Content(LONG.upper() + "ONE.")]), "same text"),
        (row([Content(picture(9))], [Content("y")], Content(LONG + "one.")), "same text"),
        (row([Content(picture(10))], [Content("z")], Content(picture(5))), "same medium"),
        (row([Content(picture(11))], [Content(sentence(2))]), "same text"),
        (row([Content("a page")], [Content(Document(picture(12), LONG + "one.", "another text"))]), "same text"),
        (row([Content("q"), Content("q again", sound(6))], [Content("a")]), "same medium"),
        (row([Content(picture(13), picture(1, quality=80), "compare")], [Content("they differ")]), "near picture"),
        (row([Content("a caption")], [Content(picture(14)), Content(picture(5, quality=80))]), "near picture"),
        (row([Content("a name")], [Content("a noise")], Content(sound(6, 0.5, "FLAC"))), "near sound"),
        (row([Content(picture(15))], [Content("x"), Content(LONG + "one so.")]), "near text"),
    ],
)
def test_what_is_evaluated_is_found_in_every_place(tiers: Tiers, held: Record, why: str) -> None:
    assert mixed(tiers, HELD, [held]) == {"x-0": why}


def test_what_an_evaluation_row_brings_as_negative_is_not_asked(tiers: Tiers) -> None:
    held = row([Content(sentence(1))], [Content(sentence(2))], Content(sentence(3)))
    assert mixed(tiers, [held], [row([Content("w1")], [Content(sentence(3))])]) == {}


@pytest.mark.parametrize("questions", [["Danish"], ["Danish", "Swedish", "Polish"]], ids=["one", "near alike"])
def test_a_question_of_a_whole_task_tells_no_item(tiers: Tiers, questions: list[str]) -> None:
    """Also where the evaluation asks it of a few alone and training of many; one that stands alone is an item."""

    def asks(number: int) -> Record:
        language = questions[number % len(questions)]
        return row([Content(picture(number), QUESTION.format(language))], [Content(f"w{number}")], number=number)

    held, train = [asks(number) for number in (100, 101)], [asks(number) for number in range(3 * SHARED)]
    assert mixed(tiers, held, train) == {}
    assert mixed(tiers, held, [asks(100)]) == {"x-100": "same pair"}
    alone = row([Content(QUESTION.format("Danish"))], [Content("a question")], number=102)
    assert set(mixed(tiers, [*held, alone], train).values()) <= {"same text", "near text"}
    assert len(tiers.keys("t")) == 1


@pytest.mark.parametrize("concepts", [SHARED - 1, SHARED])
def test_an_icon_of_many_evaluated_documents_tells_none_of_them(tiers: Tiers, concepts: int) -> None:
    def page(number: int) -> Record:
        return row([Content(f"w{number}")], [Content(Document(picture(0), Text(sentence(number))))], number=number)

    held, train = [page(100 + number) for number in range(concepts)], [page(number) for number in range(1, 9)]
    everything = {f"x-{number}": "same medium" for number in range(1, 9)}
    assert mixed(tiers, held, train) == ({} if concepts == SHARED else everything)
    assert mixed(tiers, [*held, row([Content("an icon")], [Content(picture(0))], number=200)], train) == everything


def test_a_picture_of_many_questions_is_what_each_of_them_asks(tiers: Tiers) -> None:
    """It stands beside text in rows of many concepts, yet no icon: nothing but documents of several parts has those."""

    def asks(number: int) -> Record:
        return row([Content(picture(0), f"question {number}?")], [Content(f"w{number}")], number=number)

    assert mixed(tiers, [asks(100 + n) for n in range(2 * SHARED)], [asks(1)]) == {"x-1": "same medium"}


def test_what_is_held_of_a_row_is_bounded_and_texts_beyond_are_found_by_words(tiers: Tiers) -> None:
    captions = [Content(sentence(number)) for number in range(3 * MOST)]
    assert len(further_of([], captions)) == MOST and len(items_of(captions)) == 3 * MOST
    train = [row([Content(picture(1))], captions)]
    assert mixed(tiers, [row([Content("w1")], [captions[-1]])], train) == {"x-0": "same text"}


def test_texts_below_the_least_characters_are_not_held(tiers: Tiers) -> None:
    held, train = (
        row([Content("w1")], [Content("a"), Content("two words")]),
        row([Content("w2")], [Content("two words")]),
    )
    assert mixed(tiers, [held], [train]) == {}
    report = tiers.mix("theirs", against=("ours",), least_characters=9)
    assert report["dropped"] == {"evaluated: same text": 1}
