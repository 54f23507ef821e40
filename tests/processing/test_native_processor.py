"""The layout of a pretrained model's own: checked on token ids, without a model."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from commonspace.content import Audio, Content, Document, Image, Video
from commonspace.errors import ConfigError, ContentError
from commonspace.processing.native_layout import NativeLayout
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.native_processor import NativeProcessor
from commonspace.processing.text import TextTokenizer
from tests.media import numbered_frames, pdf_bytes, pdf_page, tone, video_bytes
from tests.models.native import native_tokenizer
from tests.processing.native import OMNI, QWEN3_OMNI, QWEN3_VL

P = NativePreprocessing(
    image_max_tokens=4, frame_min_tokens=4, frame_max_tokens=4, video_max_frames=8, max_tokens=256, max_text_tokens=32
)
PICTURE = Image(np.zeros((60, 60, 3), np.uint8), name="picture")
CLIP = Video(numbered_frames(5), fps=2, name="clip")


def processor(layout: NativeLayout = OMNI, on_limit: str = "error", **numbers: object) -> NativeProcessor:
    tokenizer = TextTokenizer(native_tokenizer("omni"))
    return NativeProcessor(NativePreprocessing(**{**P.to_json(), **numbers}), tokenizer, layout, on_limit)


def shown(pieces) -> list:
    """Marks as their ids, texts as words, media as (kind, tokens, rows)."""
    made: list = []
    for piece in pieces.pieces:
        if piece.kind == "mark":
            made.append(tuple(piece.value.tolist()))
        elif piece.kind == "text":
            made.append(piece.tokens)
        else:
            made.append((piece.kind, piece.tokens, piece.rows))
    return made


def test_media_stand_between_their_own_marks():
    pieces = processor()(Content("a fox", PICTURE, Audio(tone(1.0), rate=16_000), CLIP))
    assert shown(pieces) == [
        2, (100,), ("image", 4, None), (101,), (102,), ("audio", 25, None), (103,), (100,), ("image", 12, None), (101,),
    ]  # fmt: skip
    assert pieces.tokens == 2 + 6 + 27 + 14
    clip = pieces.pieces[-2]
    assert clip.value.shape[:2] == (5, 3) and clip.step == 0.5  # five frames are three steps


@pytest.mark.parametrize("layout", [OMNI, QWEN3_OMNI])
def test_a_soundtrack_is_shared_out_among_the_steps(layout: NativeLayout):
    talk = Video(video_bytes(numbered_frames(16), fps=2, sound=tone(8.0, 48_000)), name="talk.mp4")
    pieces = processor(layout, max_tokens=512)(Content(talk, "barks"))
    first, *media, last = shown(pieces)[:-1]
    assert (first, last) == ((100, 102), (103, 101))
    assert [kind for kind, _, _ in media][:4] == ["image", "audio", "image", "audio"]
    for kind in ("image", "audio"):
        rows = [rows for found, _, rows in media if found == kind]
        assert rows[0][0] == 0 and all(one[1] == other[0] for one, other in pairwise(rows))
        assert len({id(piece.value) for piece in pieces.pieces if piece.kind == kind}) == 1
    assert sum(count for kind, count, _ in media if kind == "image") == 16
    plain = processor(layout)(Content(Video(talk.source, name="talk.mp4", sound=False)))
    assert shown(plain) == [(100,), ("image", 16, None), (101,)]


def test_each_step_of_qwen3_vl_is_stamped():
    pieces = processor(QWEN3_VL)(Content(CLIP))
    assert shown(pieces) == [6, (100,), ("image", 4, None), (101,)] * 3
    assert [len(piece.value) for piece in pieces.pieces if piece.kind == "image"] == [2, 2, 1]


def test_documents_are_their_parts():
    document = Document("before", PICTURE, "after")
    assert shown(processor()(Content(document))) == [1, (100,), ("image", 4, None), (101,), 1]
    pdf = Document.from_pdf(pdf_bytes([pdf_page("a red fox"), pdf_page("in the snow")]), text="before")
    assert [one if isinstance(one, int) else one[0] for one in shown(processor()(Content(pdf)))] == [
        3, 100, "image", 101, 3, 100, "image", 101,
    ]  # fmt: skip


def test_what_does_not_fit_is_refused_or_left_out_whole():
    content = Content("a fox", PICTURE, CLIP, "after")
    with pytest.raises(ContentError, match="a content has 23 tokens, at most 20 are taken"):
        processor(max_tokens=20, max_text_tokens=20)(content)
    cut = processor(on_limit="truncate", max_tokens=20, max_text_tokens=20)(content)
    assert shown(cut) == [2, (100,), ("image", 4, None), (101,)]
    assert cut.truncated == ("cut from 23 to 8 tokens",)
    stamped = processor(QWEN3_VL, "truncate", max_tokens=30, max_text_tokens=20)(Content(CLIP))
    assert shown(stamped) == [6, (100,), ("image", 4, None), (101,)] * 2


def test_renewing_changes_the_rule_at_limits_alone():
    one = processor(QWEN3_OMNI)
    other = one.renewed("truncate")
    assert type(other) is NativeProcessor and other.on_limit == "truncate" and other.layout is one.layout
    assert other.preprocessing is one.preprocessing and other.tokenizer is one.tokenizer


def test_copies_take_names_of_special_tokens_as_text_too():
    one = processor()
    for copied in (copy.deepcopy(one), one.renewed("truncate")):
        assert copied(Content("a <|IMAGE|> fox")).pieces[0].value.tolist() == one.tokenizer.ids("a <|IMAGE|> fox")
        assert one.tokenizer.tokenizer.token_to_id("<|IMAGE|>") not in one.tokenizer.ids("a <|IMAGE|> fox")


def test_outputs_of_its_towers_are_not_kept():
    with pytest.raises(ConfigError, match="set data.features=false"):
        processor().requests(Content(PICTURE))


def test_a_placeholder_that_the_tokenizer_gives_for_a_text_is_refused():
    taken = NativeLayout("Qwen2_5OmniProcessor", 28, OMNI.marks, {"image": processor().tokenizer.ids("fox")[0]})
    with pytest.raises(ContentError, match="text 'a fox': names a token that stands for media"):
        processor(taken)(Content("a fox"))


AROUND = {"before": "<|im_start|>query ", "after": " in text <|im_end|>"}


def test_what_stands_around_contents_has_its_own_special_tokens():
    tokenizer = native_tokenizer("omni")
    ids = [tokenizer.token_to_id(word) for word in ("<|im_start|>", "query", "a", "fox", "in", "text", "<|im_end|>")]
    (before, text, after) = processor(**AROUND)(Content("a fox")).pieces
    assert [*before.value.tolist(), *text.value.tolist(), *after.value.tolist()] == ids
    assert shown(processor(**AROUND)(Content(PICTURE))) == [
        ("special", 2, None), (100,), ("image", 4, None), (101,), ("special", 3, None),
    ]  # fmt: skip
    named = processor(**AROUND)(Content("a <|im_end|> fox")).pieces[1].value.tolist()
    assert ids[-1] not in named  # inside a text it is text
    copied = copy.deepcopy(processor(**AROUND))(Content("a fox"))
    assert [piece.value.tolist() for piece in copied.pieces] == [p.value.tolist() for p in (before, text, after)]


def test_what_stands_around_is_never_cut():
    cut = processor(**AROUND, on_limit="truncate", max_text_tokens=8)(Content("a red fox runs over the snow"))
    assert shown(cut) == [("special", 2, None), 3, ("special", 3, None)] and cut.truncated
    media = processor(**AROUND, on_limit="truncate", max_tokens=12, max_text_tokens=12)(Content("a", PICTURE, PICTURE))
    assert media.tokens == 12 and shown(media)[-1] == ("special", 3, None)
    with pytest.raises(ContentError, match="has 12 tokens, at most 11 are taken"):
        processor(**AROUND, max_tokens=11, max_text_tokens=11)(Content("a", PICTURE))


@pytest.mark.parametrize(
    "around, message",
    [
        ({"after": "<|stop|>"}, r"model.after: <\|stop\|> is no token of this model's tokenizer"),
        ({"before": "a <|IMAGE|>"}, r"model.before: <\|IMAGE\|> stands for media"),
        ({"after": 3}, "preprocessing.after=3 must be a text"),
    ],
)
def test_what_cannot_stand_around_is_said(around: dict, message: str):
    layout = replace(
        OMNI, placeholders={**OMNI.placeholders, "image": native_tokenizer("omni").token_to_id("<|IMAGE|>")}
    )
    with pytest.raises(ConfigError, match=message):
        processor(layout, **around)
