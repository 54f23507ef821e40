from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from commonspace.content import Audio, Content, Document, Image, Pdf, Video
from commonspace.errors import ConfigError, ContentError
from commonspace.processing.pieces import MARKS, Pieces
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.processor import Processor
from commonspace.processing.text import TextTokenizer
from tests.media import numbered_frames, pdf_bytes, pdf_page, tone, video_bytes

P = Preprocessing(image_size=32, image_grid=3, document_grid=2, frame_grid=1, max_tokens=64, max_text_tokens=20)
PICTURE = Image(np.zeros((8, 8, 3), np.uint8), name="picture")
SOUND = Audio(tone(1), rate=16_000, name="sound")
CLIP = Video(numbered_frames(3), fps=5, name="clip")


@pytest.fixture
def processor(words: TextTokenizer) -> Processor:
    return Processor(P, words)


@pytest.fixture
def cutter(words: TextTokenizer) -> Processor:
    return Processor(P, words, on_limit="truncate")


def layout(pieces: Pieces) -> list:
    """Ids of texts, names of marks, and kind and tokens of media."""
    shown = []
    for piece in pieces.pieces:
        if piece.kind in ("text", "special"):
            assert piece.value.dtype == torch.int64 and piece.tokens == len(piece.value)
            shown.append(piece.value.tolist())
        elif piece.kind == "mark":
            assert piece.tokens == 1
            shown.append(MARKS[int(piece.value)])
        else:
            shown.append(f"{piece.kind} {piece.tokens}")
    return shown


def test_text_alone_is_what_the_tokenizer_gives(processor: Processor, words: TextTokenizer):
    for text in ("w4 w5 w6", ""):
        assert layout(processor(Content(text))) == [words.tokenizer.encode(text).ids]


def test_texts_follow_each_other(processor: Processor):
    pieces = processor(Content("w4 w5", "w6"))
    assert layout(pieces) == [[0, 4, 5], [6, 2]] and pieces.tokens == 5


def test_prefix_stands_before_text_alone_and_nowhere_else(words: TextTokenizer):
    prefixes = {"find": {"query": "w10 ", "document": "w11 "}}
    processor = Processor(replace(P, prefixes=prefixes), words)
    assert layout(processor(Content("w4", "w5"), task="find", role="query")) == [[0, 10, 4], [5, 2]]
    assert layout(processor(Content("w4"), task="find", role="document")) == [[0, 11, 4, 2]]
    assert layout(processor(Content("w4", PICTURE), task="find", role="query"))[0] == [0, 4]
    with pytest.raises(ConfigError, match="task='seek'"):
        processor(Content("w4"), task="seek", role="query")


def test_image(processor: Processor):
    image = ["begin_image", "image 9", "end_image"]
    assert layout(processor(Content(PICTURE))) == [[0], *image, [2]]
    assert layout(processor(Content("w4", PICTURE, "w5"))) == [[0, 4], *image, [5, 2]]
    assert processor(Content(PICTURE)).tokens == 13


def test_start_and_end_are_no_text_where_none_stands_beside_them(processor: Processor):
    kinds = [
        [piece.kind for piece in processor(content).pieces] for content in (Content(PICTURE), Content("w4", PICTURE))
    ]
    assert kinds[0] == ["special", "mark", "image", "mark", "special"]
    assert kinds[1] == ["text", "mark", "image", "mark", "special"]


def test_audio(processor: Processor):
    pieces = processor(Content(SOUND))
    assert layout(pieces) == [[0], "begin_audio", "audio 13", "end_audio", [2]]  # 25 rows, two a token, one left over
    assert pieces.pieces[2].value.shape == (80, 100)


def test_document(processor: Processor):
    pieces = processor(Content("w4", Document("w5", PICTURE, " ", "w6")))
    image = ["begin_image", "image 4", "end_image"]
    assert layout(pieces) == [[0, 4], "begin_document", [5], *image, [6], "end_document", [2]]


PAGES = pdf_bytes([pdf_page("w5 w6"), pdf_page(grey=0.5), pdf_page("w7")])
PAGE = ["begin_image", "image 4", "end_image"]


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        (None, [*PAGE, *PAGE, *PAGE]),
        ("before", [[5, 6], *PAGE, *PAGE, [7], *PAGE]),
        ("after", [*PAGE, [5, 6], *PAGE, *PAGE, [7]]),
    ],
)
def test_pages_of_a_pdf_are_images_of_a_document(text: str | None, inner: list, processor: Processor):
    pieces = processor(Content("w4", Document.from_pdf(PAGES, text=text)))
    assert layout(pieces) == [[0, 4], "begin_document", *inner, "end_document", [2]]
    drawn = [piece.value for piece in pieces.pieces if piece.kind == "image"]
    assert all(value.shape == (3, 32, 32) and value.dtype == torch.uint8 for value in drawn)
    assert drawn[1][0, 16, 16] == pytest.approx(128, abs=1) and drawn[1][0, 1, 16] == 255  # the page is half as high


def test_too_many_pages(processor: Processor, cutter: Processor):
    content = Content(Document("w4", Pdf(pdf_bytes([pdf_page(f"w{n}") for n in range(10, 18)]), "manual.pdf", "after")))
    with pytest.raises(ContentError, match=r"^manual.pdf: has 8 pages, at most 6 are taken \(max_pages\); .*truncate"):
        processor(content)
    pieces = Processor(replace(P, max_tokens=200), cutter.tokenizer, on_limit="truncate")(content)
    assert pieces.truncated == ("manual.pdf: the first 6 of 8 pages kept",)
    assert [item for item in layout(pieces) if isinstance(item, list)][1:-1] == [[4], *([n] for n in range(10, 16))]


def test_too_long_a_text_layer_names_its_page(processor: Processor):
    lines = b"BT /F1 6 Tf 10 50 Td (%s) Tj ET" % (b"w4 " * 20)
    content = Content(Document(Pdf(pdf_bytes([b"", lines]), name="manual.pdf", text="before")))
    with pytest.raises(ContentError, match=r"^manual.pdf, page 2: text 'w4 .*has 22 tokens, at most 20"):
        processor(content)


def test_a_pdf_that_cannot_be_read_is_named(processor: Processor):
    with pytest.raises(ContentError, match="^manual.pdf: is no PDF"):
        processor(Content(Document("w4", Pdf(b"none", name="manual.pdf"))))


def test_nothing_is_drawn_or_read_before_it_is_processed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr("pypdfium2.PdfDocument")
    Content(Document.from_pdf("gone.pdf", text="before"))
    Content(Document.from_pdf(PAGES)).digest()


def test_video_without_sound(processor: Processor):
    assert layout(processor(Content(CLIP))) == [[0], "begin_video", "image 1", "image 1", "image 1", "end_video", [2]]


def test_sound_of_a_video_is_encoded_whole_and_shared_out(processor: Processor):
    data = video_bytes(numbered_frames(3), sound=tone(0.3, 48_000))
    pieces = processor(Content(Video(data)))
    frame = "image 1"
    assert layout(pieces)[1:-1] == ["begin_video", frame, "audio 4", frame, "audio 5", frame, "audio 4", "end_video"]
    shares = [piece for piece in pieces.pieces if piece.kind == "audio"]
    assert [piece.rows for piece in shares] == [(0, 8), (8, 18), (18, 25)]
    assert all(piece.value is shares[0].value for piece in shares)
    assert "audio" not in str(layout(processor(Content(Video(data, sound=False)))))


@pytest.fixture
def stamped(words: TextTokenizer) -> Processor:
    words.tokenizer.add_tokens(["00:00", "00:01", "00:02"])
    return Processor(replace(P, video_timestamps=True), words)


def test_timestamps_stand_before_their_frames(stamped: Processor):
    ids = [stamped.tokenizer.ids(text) for text in ("00:00", "00:01", "00:02")]
    assert len({tuple(one) for one in ids}) == 3
    silent = [piece for one in ids for piece in (one, "image 1")]
    clip = numbered_frames(3)
    assert layout(stamped(Content(Video(clip, fps=1)))) == [[0], "begin_video", *silent, "end_video", [2]]
    sounding = layout(stamped(Content(Video(video_bytes(clip, 1, sound=tone(2.9, 48_000))))))
    assert sounding[1:-1] == [
        "begin_video", ids[0], "image 1", "audio 13", ids[1], "image 1", "audio 12", ids[2], "image 1", "audio 13",
        "end_video",
    ]  # fmt: skip


def test_a_timestamp_is_never_without_its_frame(stamped: Processor):
    clip = Content(Video(numbered_frames(3), fps=1))
    whole = stamped(clip).tokens
    for limit in range(10, whole):
        numbers = replace(stamped.preprocessing, max_tokens=limit, max_text_tokens=9)
        shown = layout(Processor(numbers, stamped.tokenizer, on_limit="truncate")(clip))
        stamps = sum(isinstance(item, list) for item in shown[1:-1])
        assert stamps == shown.count("image 1") < 3, shown


def test_order_is_kept(processor: Processor):
    forward, backward = layout(processor(Content(PICTURE, SOUND))), layout(processor(Content(SOUND, PICTURE)))
    assert forward[1:4] == backward[4:7] and forward[4:7] == backward[1:4]


def test_too_many_tokens(processor: Processor, cutter: Processor):
    content = Content(*["w4 " * 18] * 4)
    with pytest.raises(ContentError, match=r"has 74 tokens, at most 64 are taken \(max_tokens\)"):
        processor(content)
    pieces = cutter(content)
    assert pieces.tokens == 64 and pieces.truncated == ("cut from 74 to 64 tokens",)
    assert layout(pieces)[-1] == [4] * 8 + [2]


def test_too_long_a_text(processor: Processor, cutter: Processor):
    with pytest.raises(ContentError, match=r"text 'w4 w4 .*has 32 tokens, at most 20 .*\(max_text_tokens\)"):
        processor(Content("w4 " * 30))
    pieces = cutter(Content("w4 " * 30))
    assert layout(pieces) == [[0, *[4] * 18, 2]] and "cut from 32 to 20 tokens" in pieces.truncated[0]


def test_too_many_images(processor: Processor, cutter: Processor, words: TextTokenizer):
    pictures = [Image(np.full((4, 4, 3), i, np.uint8)) for i in range(8)]
    content = Content(*pictures[:3], Document("w4", *pictures[3:], "w5"))
    with pytest.raises(ContentError, match=r"has 8 images, at most 6 are taken \(max_images\)"):
        processor(content)
    wide = Processor(replace(P, max_tokens=200), words, on_limit="truncate")
    pieces = wide(content)
    kept = [int(piece.value[0, 16, 16]) for piece in pieces.pieces if piece.kind == "image"]
    assert kept == [0, 1, 2, 3, 4, 5] and pieces.truncated == ("the first 6 of 8 images kept",)
    assert layout(pieces)[-3:] == [[5], "end_document", [2]]


@pytest.mark.parametrize(
    "content",
    [
        Content("w4 " * 15, *[PICTURE] * 6),
        Content(Document("w4 " * 15, *[PICTURE] * 6, "w5 " * 15, "w6 " * 15)),
        Content(Audio(tone(9), rate=16_000)),
        Content("w4", PICTURE, Audio(tone(9), rate=16_000), PICTURE),
        Content("w4", Video(video_bytes(numbered_frames(8), 1, sound=tone(8, 48_000)))),
    ],
)
def test_truncated_contents_keep_their_beginning_and_close_their_marks(content: Content, cutter: Processor):
    whole = Processor(replace(P, max_tokens=1000), cutter.tokenizer)(content)
    pieces = cutter(content)
    shown = layout(pieces)
    assert 50 < pieces.tokens <= 64 and pieces.truncated
    open_marks = []
    for item in shown:
        if str(item).startswith("begin_"):
            open_marks.append(item)
        elif str(item).startswith("end_"):
            assert open_marks.pop() == item.replace("end", "begin")
    assert not open_marks and shown[-1][-1] == 2
    first_cut = next((i for i, (a, b) in enumerate(zip(shown, layout(whole), strict=False)) if a != b), len(shown))
    assert first_cut >= len(shown) - 4  # all that differs: the piece that was cut, and what closes after it


def test_a_sound_too_long_is_cut_and_said(words: TextTokenizer):
    numbers = replace(P, max_audio_seconds=1.0)
    sound = Audio(tone(3), rate=16_000, name="three.wav")
    with pytest.raises(ContentError, match="three.wav: is 3.0 s long"):
        Processor(numbers, words)(Content(sound))
    processor = Processor(numbers, words, on_limit="truncate")
    assert processor(Content(sound)).truncated == ("three.wav: cut from 3.0 to 1 s",)
    assert processor(Content(SOUND)).truncated == ()


def test_without_special_tokens_a_content_of_no_tokens_is_refused():
    """Decoders' tokenizers put nothing around a text; the mean over no tokens would be no vector."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bare = Processor(Preprocessing(), tokenizer)
    assert [piece.value.tolist() for piece in bare(Content("a a")).pieces] == [[0, 0]]
    for content in (Content(""), Content(" ", "")):
        with pytest.raises(ContentError, match="has no tokens"):
            bare(content)


def test_a_bad_option_is_refused(words: TextTokenizer):
    with pytest.raises(ConfigError, match="on_limit='cut'"):
        Processor(P, words, on_limit="cut")
    with pytest.raises(ConfigError, match="fingerprints"):
        Processor(P, words, features={})


def test_a_bad_part_inside_a_content_is_named(processor: Processor):
    content = Content("w4", Document("w5", Image(b"no image", name="shard.tar:key.3.png")))
    with pytest.raises(ContentError, match="^shard.tar:key.3.png: "):
        processor(content)
