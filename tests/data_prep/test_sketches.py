from __future__ import annotations

import numpy as np
from PIL import Image as PILImage

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from data_prep.sketches import MAX_PAIRS, flatness, sketch_pairs, style_of


def _captioned(key: str, concept: str, style: str | None, source: str = "a", task: str = "image_caption") -> Record:
    query = Variant(Content(Image(key.encode())))
    return Record(key, task, source, concept, (query,), (Variant(Content(concept), "en"),), extra={"style": style})


def test_style_follows_the_colours_and_ignores_transparent_ground() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 4), dtype=np.uint8)
    noise[..., 3] = 255
    noise[:, :20] = 0  # half of it is empty
    photo, drawing = PILImage.fromarray(noise), PILImage.new("RGB", (40, 40), "red")
    assert style_of(photo) == "photo"
    assert flatness(photo) < 0.01
    assert style_of(drawing) == "drawing"
    assert flatness(PILImage.new("RGBA", (9, 9), (1, 2, 3, 0))) == 0
    shaded = np.random.default_rng(1).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    shaded[::4] = 9
    assert style_of(PILImage.fromarray(shaded)) is None  # a quarter is flat: neither


def test_pairs_join_a_drawing_and_a_photo_of_one_concept() -> None:
    rows = [_captioned("d", "cat", "drawing"), _captioned("p", "cat", "photo"), _captioned("q", "dog", "photo")]
    rows += [_captioned("n", "dog", None), _captioned("t", "dog", "drawing", task="other")]
    (pair,) = sketch_pairs(rows)
    assert (pair.task, pair.concept) == ("sketch", "cat")
    assert pair.queries[0].content.parts[0].source == b"d"
    assert pair.positives[0].content.parts[0].source == b"p"


def test_across_pairs_two_sources_only_and_concepts_are_capped() -> None:
    rows = [_captioned("d", "cat", "drawing", "a"), _captioned("p", "cat", "photo", "b")]
    assert list(sketch_pairs(rows)) == []
    assert len(list(sketch_pairs(rows, across=True))) == 1
    many = [_captioned(f"d{n}", "cat", "drawing") for n in range(5)] + [
        _captioned(f"p{n}", "cat", "photo") for n in range(5)
    ]
    pairs = list(sketch_pairs(many))
    assert len(pairs) == len({pair.key for pair in pairs}) == MAX_PAIRS
