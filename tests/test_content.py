"""The datum: parts keep their order, JSON goes there and back, equals have equal digests, errors help."""

from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image as PILImage

from commonspace.content import (
    MAX_FILE_BYTES,
    Audio,
    Content,
    Document,
    Image,
    Pdf,
    Text,
    Video,
    content_schema,
)
from commonspace.errors import ContentError

FILES = {"fox.png": b"png of a fox", "bark.ogg": b"ogg of a bark", "run.mp4": b"mp4 of a run", "den.pdf": b"pdf"}


def mixed() -> Content:
    return Content(
        "a red fox",
        Image(FILES["fox.png"], name="fox.png"),
        Audio(FILES["bark.ogg"], name="bark.ogg"),
        Document("above", Image(FILES["fox.png"], name="fox.png"), "below", Pdf(FILES["den.pdf"], name="den.pdf")),
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
        {"document": ["above", {"image": "fox.png"}, "below", {"pdf": "den.pdf"}]},
        {"video": "run.mp4", "sound": False},
    ]
    again = Content.from_json(value, FILES.__getitem__)
    assert again.digest() == mixed().digest()
    assert again.to_json(lambda medium: medium.label) == value


@pytest.mark.parametrize("value", ["half \ud83d", {"text": "half \ud83d"}, {"document": ["half \ud83d"]}])
def test_half_a_surrogate_pair_is_refused(value: object) -> None:
    with pytest.raises(ContentError, match=r"'half \\ud83d': holds half of a surrogate pair at character 5"):
        Content.from_json(value, FILES.__getitem__)
    with pytest.raises(ContentError, match="half of a surrogate pair at character 5"):
        Content("half \ud83d").digest()
    assert Content.from_json("whole \U0001f600", FILES.__getitem__).parts == (Text("whole \U0001f600"),)


@pytest.mark.parametrize("value", ["a fox", {"text": "a fox"}, ["a fox"]])
def test_a_lone_part_is_a_content(value: object) -> None:
    assert Content.from_json(value, FILES.__getitem__).parts == (Text("a fox"),)


FOX, BARK, RUN = (Image(FILES["fox.png"], "fox.png"), Audio(FILES["bark.ogg"], "bark.ogg"), FILES["run.mp4"])
FORMS = [
    Content("a fox"),
    Content(""),
    Content(FOX),
    Content(BARK),
    Content(Video(RUN, "run.mp4")),
    Content(Video(RUN, "run.mp4", sound=False)),
    Content(Document("a page")),
    Content(Document(FOX, FOX)),
    Content(Document.from_pdf(FILES["den.pdf"], name="den.pdf")),
    Content(Document.from_pdf(FILES["den.pdf"], "before", name="den.pdf")),
    Content("cover", Document("a", Pdf(FILES["den.pdf"], "den.pdf", "after"), FOX), "end"),
    mixed(),
]
READ_TOO = [{"text": "a fox"}, "a fox", {"image": "fox.png"}, [{"text": "a"}, "b"], {"video": "run.mp4", "sound": True}]
NO_FORMS: list[Any] = [
    [],
    None,
    3,
    [[]],
    [3],
    {},
    {"text": 3},
    {"picture": "fox.png"},
    {"image": ""},
    {"image": 3},
    {"image": "fox.png", "sound": False},
    {"image": "fox.png", "audio": "bark.ogg"},
    {"image": "fox.png", "text": "a fox"},
    {"audio": "bark.ogg", "rate": 16000},
    {"video": "run.mp4", "sound": "no"},
    {"video": "run.mp4", "sound": 0},
    {"video": "run.mp4", "fps": 3},
    {"pdf": "den.pdf"},
    {"document": []},
    {"document": "page"},
    {"document": [{"video": "run.mp4"}]},
    {"document": [{"document": ["a"]}]},
    {"document": [{"pdf": "den.pdf", "text": True}]},
    {"document": [{"pdf": "den.pdf", "text": None}]},
    {"document": [{"pdf": "den.pdf", "pages": 3}]},
    {"document": ["a"], "name": "b"},
]


def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(content_schema())
    return Draft202012Validator(content_schema())


@pytest.mark.parametrize("content", FORMS, ids=lambda content: str(content.to_json(lambda medium: medium.label))[:60])
def test_every_form_that_is_written_validates_and_reads_back(content: Content) -> None:
    value = content.to_json(lambda medium: medium.label)
    validator().validate(value)
    again = Content.from_json(value, FILES.__getitem__)
    assert again.digest() == content.digest() and again.to_json(lambda medium: medium.label) == value
    assert len({form.digest() for form in FORMS}) == len(FORMS)


@pytest.mark.parametrize("value", READ_TOO, ids=str)
def test_what_is_read_too_validates(value: Any) -> None:
    validator().validate(value)
    assert Content.from_json(value, FILES.__getitem__)


@pytest.mark.parametrize("value", NO_FORMS, ids=str)
def test_what_does_not_validate_is_not_read(value: Any) -> None:
    assert not validator().is_valid(value)
    with pytest.raises(ContentError):
        Content.from_json(value, FILES.__getitem__)


def test_the_schema_is_a_file_of_the_package() -> None:
    import commonspace

    path = Path(commonspace.__file__).with_name("content.schema.json")
    assert path.is_file() and commonspace.content_schema()["$schema"].endswith("2020-12/schema")


def test_digests_of_what_shards_hold_are_those_of_always() -> None:
    """Staged sources and pooled features are kept under them; another number would lose them all."""
    old = Content(
        "a red fox",
        Image(FILES["fox.png"]),
        Audio(FILES["bark.ogg"]),
        Document("above", Image(FILES["fox.png"]), "below"),
        Video(RUN, sound=False),
        Video(RUN),
    )
    assert old.digest() == -544460373135571123


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
        Content(Document(Image(b"ab"))),
        Content(Document(Pdf(b"ab"))),
        Content(Document(Pdf(b"ab", text="before"))),
        Content(Document(Pdf(b"ab", text="after"))),
    ]
    assert len({content.digest() for content in distinct}) == len(distinct)


def test_arrays_and_pictures_in_memory_have_digests_too() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert Content(Image(pixels)).digest() == Content(Image(PILImage.fromarray(pixels))).digest()
    assert Content(Image(pixels)).digest() != Content(Image(pixels.reshape(2, 8, 3))).digest()
    one, other = (PILImage.new("P", (2, 2)) for _ in range(2))
    one.putpalette([1, 2, 3])
    other.putpalette([3, 2, 1])
    assert Content(Image(one)).digest() != Content(Image(other)).digest()


def test_arrays_are_not_the_same_at_another_pace() -> None:
    samples, frames = np.zeros(8, np.float32), np.zeros((2, 4, 4, 3), np.uint8)
    assert Content(Audio(samples, rate=8000)).digest() != Content(Audio(samples, rate=16000)).digest()
    assert Content(Video(frames, fps=5)).digest() != Content(Video(frames, fps=6)).digest()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Content(), "at least one part"),
        (lambda: Content(3), "int is no part; use a str"),
        (lambda: Text(3), "a text part holds a str, not int"),
        (lambda: Document(Audio(b"x")), "a document holds texts, images and PDFs, not Audio"),
        (lambda: Document(), "a document needs at least one text"),
        (lambda: Content(Pdf(b"x")), "Pdf is no part; .* Document .which holds a Pdf."),
        (lambda: Pdf(np.zeros(4), name="a.pdf"), "a.pdf: a PDF is a path or encoded bytes, not ndarray"),
        (lambda: Pdf("a.pdf", text=True), "a.pdf: text=True; use 'before', 'after' or None"),
        (lambda: Audio(np.zeros(4), name="beep"), "beep: Audio of an array needs its rate"),
        (lambda: Audio(np.zeros(4), name="beep", rate=-1), "beep: Audio of an array needs its rate"),
        (lambda: Audio("beep.wav", rate=16000), "beep.wav: rate is for arrays alone"),
        (lambda: Video(np.zeros((2, 4, 4, 3))), "<video in memory>: Video of an array needs its fps"),
        (lambda: Video(b"x", fps=25), "fps is for arrays alone"),
        (lambda: Content.from_json({"picture": "fox.png"}, FILES.__getitem__), "is no part; write"),
        (lambda: Content.from_json({"image": "fox.png", "sound": False}, FILES.__getitem__), "is no part"),
        (lambda: Content.from_json([], FILES.__getitem__), "at least one part"),
        (lambda: Content(Image("gone.png")).digest(), "gone.png: cannot be read .*check the path"),
    ],
)
def test_errors_name_the_part_and_what_to_do(make, message: str) -> None:
    with pytest.raises(ContentError, match=message):
        make()


def test_what_never_ends_or_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe.wav", tmp_path / "large.mp4"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # a hole: nothing lies on the disk
    for source, message in (
        (pipe, "pipe.wav: cannot be read .is no regular file"),
        (tmp_path, "is no regular file"),
        (large, f"large.mp4: has {MAX_FILE_BYTES + 1} bytes, at most {MAX_FILE_BYTES}"),
        ("a\0b.png", "b.png: cannot be read"),
    ):
        with pytest.raises(ContentError, match=message):
            Video(source).read_bytes()
