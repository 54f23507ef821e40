"""The layout of EmbeddingGemma 2: checked on token ids, without a model."""

from __future__ import annotations

import copy

import numpy as np

from commonspace.content import Content, Document, Image, Video
from commonspace.processing.gemma_layout import GemmaLayout
from commonspace.processing.gemma_preprocessing import GemmaPreprocessing
from commonspace.processing.gemma_processor import GemmaProcessor
from commonspace.processing.text import TextTokenizer
from tests.media import numbered_frames
from tests.models.native import GEMMA, native_tokenizer
from tests.processing.native import HEARD, PLACES, SEEN
from tests.processing.test_gemma_media import SOUND

LAYOUT = GemmaLayout(
    "EmbeddingGemma2Processor", 48, {"image": SEEN, "video": SEEN, "audio": HEARD}, PLACES, frames_per_step=1,
    audio_tokens=25, sound=SOUND,
)  # fmt: skip
CLIP = Video(numbered_frames(8), fps=4.0, name="clip")
PICTURE = Image(np.zeros((40, 40, 3), np.uint8))


def processor(**numbers: object) -> GemmaProcessor:
    small = {"image_max_tokens": 4, "frame_max_tokens": 4, "max_tokens": 256, "max_text_tokens": 32}
    return GemmaProcessor(GemmaPreprocessing(**{**small, **numbers}), TextTokenizer(native_tokenizer(GEMMA)), LAYOUT)


def shown(content: Content, **numbers: object) -> list:
    return [
        tuple(piece.value.tolist()) if piece.kind in ("mark", "special") else (piece.kind, piece.tokens)
        for piece in processor(**numbers)(content).pieces
    ]


def test_each_frame_stands_between_marks_of_its_own():
    frame = [(100,), ("image", 2), (101,)]
    assert shown(Content(CLIP)) == [(0,), *frame, *frame, (2,)]
    stamped = shown(Content(CLIP), video_timestamps=True)
    assert stamped == [("text", 4), *frame, ("text", 3), *frame, (2,)]  # the tokenizer's start stands with the text


def test_frames_are_taken_as_those_of_clips():
    pieces = [piece for piece in processor()(Content(PICTURE, CLIP)).pieces if piece.kind == "image"]
    assert [piece.value.ndim for piece in pieces] == [3, 4, 4]
    assert not np.array_equal(pieces[1].value, pieces[2].value)


def test_documents_are_their_parts():
    image = [(100,), ("image", 4), (101,)]
    assert shown(Content(Document("before", PICTURE, "after"))) == [("text", 2), *image, ("text", 2)]


def test_a_processor_travels_to_workers():
    one = processor()
    other = copy.deepcopy(one)  # by the same steps as pickle
    assert [len(made(Content("a <|image|> fox", CLIP)).pieces) for made in (one, other)] == [8, 8]
    assert one.renewed("truncate").with_numbers(max_tokens=64).preprocessing.max_tokens == 64
