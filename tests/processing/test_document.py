from __future__ import annotations

import pytest

from commonspace.content import Content, Document, Image, Text
from commonspace.errors import ContentError
from commonspace.processing.document import document_parts, images


def test_blank_texts_are_dropped_and_order_is_kept():
    figure = Image(b"")
    parts = document_parts(Document("  \n", "title", figure, "", "body"))
    assert parts == [Text("title"), figure, Text("body")]


def test_a_document_of_nothing_is_refused():
    with pytest.raises(ContentError, match="neither a text nor an image"):
        document_parts(Document(" ", "\n"))


def test_images_of_a_content_in_order():
    first, second, third = (Image(b"") for _ in range(3))
    assert list(images(Content(first, "x", Document("y", second), third))) == [first, second, third]
