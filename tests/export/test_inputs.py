"""What sentence-transformers takes as an input is the content that it says."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pil

from commonspace import Audio, Content, Document, Image, Text, Video
from commonspace.errors import ContentError
from commonspace.export.inputs import content_of

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
PICTURE = pil.fromarray(PIXELS)
SAMPLES = np.linspace(-1, 1, 800, dtype=np.float32)
FRAMES = np.random.default_rng(1).integers(0, 255, (3, 6, 8, 3), dtype=np.uint8)


def parts(value: Any) -> list[tuple[type, Any]]:
    """Kinds and sources of the parts of an input."""
    made = content_of(value, 16_000).parts
    return [(type(part), part.text if isinstance(part, Text) else getattr(part, "source", None)) for part in made]


def test_strings_are_texts() -> None:
    for text in ("a red fox", "fox.jpg", "http://a b.png", "https://example.org/page", ""):
        assert parts(text) == [(Text, text)], "no such file, no such medium: words"


@pytest.mark.parametrize("name, kind", [("fox.JPG", Image), ("bark.ogg", Audio), ("fox.webm", Video)])
def test_a_string_that_names_a_file_is_its_medium(name: str, kind: type, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert parts(str(tmp_path / name)) == [(kind, str(tmp_path / name))]


def test_a_data_uri_is_its_bytes() -> None:
    uri = "data:image/png;base64," + base64.b64encode(b"pixels").decode()
    assert parts(uri) == parts({"image": uri}) == [(Image, b"pixels")]
    with pytest.raises(ContentError, match="is no base64"):
        content_of("data:image/png;base64,***", 16_000)


@pytest.mark.parametrize("value", ["https://x.org/a.png", "http://x.org/a.mp4?size=2", {"audio": "https://x.org/a"}])
def test_no_url_is_fetched(value: Any) -> None:
    with pytest.raises(ContentError, match="no URL is fetched"):
        content_of(value, 16_000)


def test_pictures_and_arrays() -> None:
    assert parts(PICTURE) == [(Image, PICTURE)]
    for value in (PIXELS, PIXELS.transpose(2, 0, 1), torch.from_numpy(PIXELS).permute(2, 0, 1), {"image": PIXELS}):
        ((kind, source),) = parts(value)
        assert kind is Image and np.array_equal(source, PIXELS)


def test_sounds_have_their_rate() -> None:
    for value, rate in (
        ({"array": SAMPLES, "sampling_rate": 8000}, 8000),
        (SAMPLES, 16_000),
        ({"audio": SAMPLES}, 16_000),
    ):
        (part,) = content_of(value, 16_000).parts
        assert isinstance(part, Audio) and part.rate == rate and np.array_equal(part.source, SAMPLES)
    decoder = SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(SAMPLES)[None], sample_rate=48_000)
    )
    (part,) = content_of({"audio": decoder}, 16_000).parts
    assert part.rate == 48_000 and part.source.shape == (1, 800)


@pytest.mark.parametrize("frames", [FRAMES, FRAMES.transpose(0, 3, 1, 2), [pil.fromarray(one) for one in FRAMES]])
def test_clips_have_their_frames_and_pace(frames: Any) -> None:
    for value, fps in (({"array": frames, "video_metadata": {"fps": 5}}, 5.0), ({"video": frames}, 24.0)):
        (part,) = content_of(value, 16_000).parts
        assert isinstance(part, Video) and part.fps == fps and np.array_equal(part.source, FRAMES)


def test_a_mapping_is_its_parts_in_order() -> None:
    value = {"image": [PICTURE, PIXELS], "text": "a fox", "audio": {"array": SAMPLES, "sampling_rate": 8000}}
    assert [kind for kind, _ in parts(value)] == [Image, Image, Text, Audio]
    assert [kind for kind, _ in parts({"text": "a", "image": PIXELS})] == [Text, Image]


def test_messages_are_their_parts_in_order() -> None:
    content = [
        {"type": "text", "text": "before"},
        {"type": "image", "image": PICTURE},
        {"type": "audio", "base64": base64.b64encode(b"sound").decode()},
        {"type": "document", "document": ["title", PICTURE]},
        {"type": "video", "path": "fox.mp4"},
    ]
    message = {"role": "user", "content": content}
    expected = [(Text, "before"), (Image, PICTURE), (Audio, b"sound"), (Document, None), (Video, "fox.mp4")]
    assert parts(message) == parts([message]) == expected
    assert parts([{"role": "system", "content": "hear:"}, message])[0] == (Text, "hear:")


def test_a_prompt_stands_before_text_alone() -> None:
    assert content_of("a fox", 16_000, "query: ").parts == (Text("query: a fox"),)
    assert content_of(Content("a", "fox"), 16_000, "query: ").parts == (Text("query: a"), Text("fox"))
    assert content_of({"text": "a", "image": PICTURE}, 16_000, "query: ").parts[0] == Text("a")


@pytest.mark.parametrize(
    "value, message",
    [
        (3, "an input of type int"),
        ({"txt": "a"}, "the keys \\['txt'\\]"),
        ({}, "the keys"),
        ({"array": SAMPLES}, "needs its sampling_rate"),
        ({"audio": {"samples": SAMPLES}}, "a medium with the keys"),
        ([{"role": "user", "content": [{"text": "no type"}]}], "has a type"),
        ([{"role": "user", "content": [{"type": "image"}]}], "has its image under"),
        (("a", "b"), "an input of type tuple"),
        (np.zeros((1, 1, 1, 1, 1)), "an input of type ndarray"),
        ({"text": 3}, "a text part holds a str"),
    ],
)
def test_what_is_not_understood_says_why(value: Any, message: str) -> None:
    with pytest.raises(ContentError, match=message):
        content_of(value, 16_000)
