"""Which modalities a content is made of, read off its pieces."""

from __future__ import annotations

import pytest

from commonspace import Content, Document
from tests.models.tiny import clip, picture, sound, tiny_embedder

PROCESS = tiny_embedder().processor


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Content("a fox"), {"text"}),
        (Content(""), {"text"}),
        (Content(picture()), {"image"}),
        (Content(sound()), {"audio"}),
        (Content(clip()), {"video"}),
        (Content("before", clip(), picture()), {"text", "video", "image"}),
        (Content(Document("page", picture(1))), {"text", "image"}),
        (Content(sound(), "after"), {"audio", "text"}),
    ],
    ids=["text", "empty", "image", "sound", "video", "several", "document", "sound_text"],
)
def test_modalities(content, expected):
    assert PROCESS(content).modalities == expected
