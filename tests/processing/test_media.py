from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as pil

from commonspace.content import Audio, Content, Document, Image, Pdf, Video
from commonspace.processing.media import with_grid
from commonspace.processing.pieces import Pieces
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.processor import Processor
from commonspace.processing.text import TextTokenizer
from tests.media import numbered_frames, pdf_bytes, pdf_page, picture_bytes, sound_bytes, tone, video_bytes

P = Preprocessing(image_size=32, image_grid=2, document_grid=2, frame_grid=1)
TOWERS = {"image": "vision", "audio": "hearing"}


def rows_of(value: torch.Tensor, tokens: int) -> torch.Tensor:
    """A stand-in for a tower: as many rows as the real one gives, their values told by the input."""
    if value.dtype == torch.uint8:
        return value.float().mean((1, 2, 3)).repeat_interleave(tokens)[:, None].half()
    return value.unflatten(1, (-1, 4)).mean((0, 2))[:, None].half()


@pytest.fixture
def store() -> dict[str, torch.Tensor]:
    return {}


@pytest.fixture
def processor(words: TextTokenizer, store: dict) -> Processor:
    return Processor(P, words, features=store, fingerprints=TOWERS)


CONTENTS = [
    Content("w4", Image(picture_bytes(np.full((9, 9, 3), 7, np.uint8)))),
    Content(Audio(sound_bytes(tone(1.5)))),
    Content(Video(video_bytes(numbered_frames(3), sound=tone(0.3, 48_000)))),
    Content(Video(video_bytes(numbered_frames(3)))),
    Content(Document("w4", Image(np.full((9, 9, 3), 70, np.uint8)))),
    Content(Document(Pdf(pdf_bytes([pdf_page(grey=0.2), pdf_page("w5", grey=0.7)]), text="before"))),
]


def fill(processor: Processor, store: dict, content: Content) -> None:
    for request in processor.requests(content):
        value = request.load()
        if value is not None:
            store[request.key] = rows_of(value, request.tokens)


def as_rows(pieces: Pieces) -> list[tuple]:
    """Every media piece as the rows the backbone gets for it, whether kept or computed now."""
    found = []
    for piece in pieces.pieces:
        if piece.kind in ("image", "audio"):
            value = piece.value
            if not piece.is_feature:
                value = rows_of(value[None] if piece.kind == "image" else value, piece.tokens)
                value = value[slice(*piece.rows)] if piece.rows else value
            found.append((piece.kind, piece.tokens, value.flatten().tolist()))
    return found


@pytest.mark.parametrize("content", CONTENTS)
def test_kept_features_stand_in_for_the_media(content: Content, processor: Processor, store: dict):
    live = processor(content)
    assert not any(piece.is_feature for piece in live.pieces)
    fill(processor, store, content)
    kept = processor(content)
    assert all(piece.is_feature for piece in kept.pieces if piece.kind in ("image", "audio"))
    assert [piece.tokens for piece in kept.pieces] == [piece.tokens for piece in live.pieces]
    assert as_rows(kept) == as_rows(live)


def native_rows(value: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """A stand-in for a tower of native aspects, one number of each cell in each of four columns."""
    cells = torch.nn.functional.adaptive_avg_pool2d(value.float().mean(1), grid)
    return cells.flatten()[:, None].expand(-1, 4).half()


@pytest.mark.parametrize("content", [CONTENTS[0], *CONTENTS[2:]])
def test_kept_features_of_native_aspects_know_their_grid(content: Content, words: TextTokenizer, store: dict):
    numbers = replace(P, image_patch=8, frame_grid=2, image_grid=3)
    processor = Processor(numbers, words, features=store, fingerprints=TOWERS)
    live = processor(content)
    for request in processor.requests(content):
        value = request.load()
        if request.tower == "image":
            grid = request.grid(value)
            store[request.key] = with_grid(native_rows(value, grid), grid)
    kept = processor(content)
    for one, other in zip(live.pieces, kept.pieces, strict=True):
        assert (one.kind, one.tokens, one.grid) == (other.kind, other.tokens, other.grid)
        if one.kind == "image":
            assert one.tokens == one.grid[0] * one.grid[1] <= 9 and other.is_feature
            assert torch.equal(other.value, native_rows(one.value[None], one.grid))


def test_kept_media_are_not_decoded(processor: Processor, store: dict, monkeypatch: pytest.MonkeyPatch):
    contents = [*CONTENTS[:3], CONTENTS[5]]
    for content in contents:
        fill(processor, store, content)
    for name in ("read_image", "draw_page", "read_audio", "read_frames", "read_soundtrack"):
        monkeypatch.delattr(f"commonspace.processing.media.{name}")
    for content in contents:
        processor(content)


def test_each_page_has_a_feature_of_its_own_whatever_its_text_is_for(processor: Processor):
    data = pdf_bytes([b"", b"", b""])
    keys = [request.key for request in processor.requests(Content(Document(Pdf(data))))]
    assert len(set(keys)) == 3
    assert [request.key for request in processor.requests(Content(Document(Pdf(data, text="after"))))] == keys
    assert all(request.load().shape == (1, 3, 32, 32) for request in processor.requests(Content(Document(Pdf(data)))))


def test_timestamps_stand_beside_kept_frames(words: TextTokenizer, store: dict):
    numbers = replace(P, video_timestamps=True)
    processor = Processor(numbers, words, features=store, fingerprints=TOWERS)
    live = processor(CONTENTS[2])
    fill(processor, store, CONTENTS[2])
    kept = processor(CONTENTS[2])
    assert [piece.kind for piece in kept.pieces] == [piece.kind for piece in live.pieces]
    assert [piece.kind for piece in kept.pieces].count("text") == 3
    assert as_rows(kept) == as_rows(live)


def test_an_image_alone_and_in_a_document_share_a_feature(processor: Processor):
    image = Image(picture_bytes(np.zeros((4, 4, 3), np.uint8)))
    keys = [
        request.key for content in (Content(image), Content(Document(image))) for request in processor.requests(content)
    ]
    assert keys[0] == keys[1]


def test_what_changes_a_tensor_changes_its_key(words: TextTokenizer):
    def keys(content: Content, on_limit: str = "error") -> list[str]:
        processor = Processor(P, words, on_limit=on_limit, fingerprints=TOWERS)
        return [request.key for request in processor.requests(content)]

    frames, sound = numbered_frames(3), tone(1)
    assert keys(Content(Video(frames, fps=5))) != keys(Content(Video(frames, fps=6)))
    assert keys(Content(Audio(sound, rate=16_000))) != keys(Content(Audio(sound, rate=8_000)))
    assert keys(Content(Audio(b"x"))) != keys(Content(Audio(b"x")), "truncate")
    assert keys(Content(Audio(b"x", name="a.gsm"))) != keys(Content(Audio(b"x", name="a.wav")))
    one, other = (pil.new("P", (2, 2)) for _ in range(2))
    one.putpalette([1, 2, 3])
    other.putpalette([3, 2, 1])
    assert keys(Content(Image(one))) != keys(Content(Image(other)))
    assert len(keys(Content(Video(frames, fps=5)))) == 2 and len(keys(Content(Video(frames, fps=5, sound=False)))) == 1


def test_a_tower_that_trains_has_no_features(words: TextTokenizer, store: dict):
    processor = Processor(P, words, features=store, fingerprints={"audio": "hearing"})
    assert [request.key for request in processor.requests(CONTENTS[0])] == [""]
    assert not any(piece.is_feature for piece in processor(CONTENTS[0]).pieces)
