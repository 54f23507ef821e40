"""The datum: parts keep their order, JSON goes there and back, equals have equal digests, errors help."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from commonspace.content import Audio, Content, Document, Image, Text, Video
from commonspace.errors import ContentError

FILES = {"fox.png": b"png of a fox", "bark.ogg": b"ogg of a bark", "run.mp4": b"mp4 of a run"}


def mixed() -> Content:
    return Content(
        "a red fox",
        Image(FILES["fox.png"], name="fox.png"),
        Audio(FILES["bark.ogg"], name="bark.ogg"),
        Document("above", Image(FILES["fox.png"], name="fox.png"), "below"),
        Video(FILES["run.mp4"], name="run.mp4", sound=False),
    )


def test_parts_keep_their_order_and_a_string_is_text() -> None:
    assert [type(part) for part in mixed().parts] == [Text, Image, Audio, Document, Video]
    assert mixed().parts[0] == Text("a red fox")
    digests = {Content(*order).digest() for order in permutations(["a", "b", Image(b"c")])}
    assert len(digests) == 6, "order is part of what a content is"


def test_what_a_content_is_made_of() -> None:
    assert mixed().modalities == {"text", "image", "audio", "document", "video"}
    assert Content("a", "b").is_text and not mixed().is_text and not Content(Document("a")).is_text


def test_json_goes_there_and_back() -> None:
    value = mixed().to_json(lambda medium: medium.label)
    assert value == [
        "a red fox",
        {"image": "fox.png"},
        {"audio": "bark.ogg"},
        {"document": ["above", {"image": "fox.png"}, "below"]},
        {"video": "run.mp4", "sound": False},
    ]
    again = Content.from_json(value, FILES.__getitem__)
    assert again.digest() == mixed().digest()
    assert again.to_json(lambda medium: medium.label) == value


@pytest.mark.parametrize("value", ["a fox", {"text": "a fox"}, ["a fox"]])
def test_a_lone_part_is_a_content(value: object) -> None:
    assert Content.from_json(value, FILES.__getitem__).parts == (Text("a fox"),)


def test_digests_follow_what_is_embedded_and_not_its_name(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(FILES["fox.png"])
    one, other = Content(Image(tmp_path / "fox.png")), Content(Image(FILES["fox.png"], name="elsewhere"))
    assert one.digest() == other.digest()
    assert -(2**63) <= one.digest() < 2**63
    distinct = [
        Content("ab"),
        Content("a", "b"),
        Content(Document("ab")),
        Content(Image(b"ab")),
        Content(Audio(b"ab")),
        Content(Video(b"ab")),
        Content(Video(b"ab", sound=False)),
        Content(Document("a"), "b"),
        Content(Document("a", "b")),
    ]
    assert len({content.digest() for content in distinct}) == len(distinct)


def test_arrays_and_pictures_in_memory_have_digests_too() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert Content(Image(pixels)).digest() == Content(Image(PILImage.fromarray(pixels))).digest()
    assert Content(Image(pixels)).digest() != Content(Image(pixels.reshape(2, 8, 3))).digest()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Content(), "at least one part"),
        (lambda: Content(3), "int is no part; use a str"),
        (lambda: Text(3), "a text part holds a str, not int"),
        (lambda: Document(Audio(b"x")), "a document holds texts and images, not Audio"),
        (lambda: Audio(np.zeros(4), name="beep"), "beep: an audio array needs its rate"),
        (lambda: Video(np.zeros((2, 4, 4, 3))), "<video in memory>: a video array needs its fps"),
        (lambda: Content.from_json({"picture": "fox.png"}, FILES.__getitem__), "is no part; write"),
        (lambda: Content.from_json({"image": "fox.png", "sound": False}, FILES.__getitem__), "is no part"),
        (lambda: Content.from_json([], FILES.__getitem__), "at least one part"),
        (lambda: Content(Image("gone.png")).digest(), "gone.png: cannot be read .*check the path"),
    ],
)
def test_errors_name_the_part_and_what_to_do(make, message: str) -> None:
    with pytest.raises(ContentError, match=message):
        make()
