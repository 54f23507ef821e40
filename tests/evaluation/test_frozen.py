"""Pooled frozen features: what they are the mean of, order of frames, and the copy on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.content import Content, Document, Video
from commonspace.errors import ContentError
from commonspace.evaluation.frozen import FrozenFeatures, texts_of
from tests.models.tiny import clip, picture, sound, tiny_embedder


@pytest.fixture(scope="module")
def features() -> FrozenFeatures:
    return FrozenFeatures(tiny_embedder())


def test_an_image_is_the_mean_of_its_grid(features: FrozenFeatures) -> None:
    contents = [Content(picture(0)), Content(picture(1), "French"), Content(picture(0))]
    found = features.vectors(contents, "image")
    piece = next(p for p in features.embedder.processor(contents[0]).pieces if p.kind == "image")
    with torch.no_grad():
        rows = features.embedder.backbone.vision(piece.value[None], piece.tokens)[0]
    np.testing.assert_allclose(found[0], rows.mean(0).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.allclose(found[0], found[1])


def test_a_sound_is_mean_and_maximum(features: FrozenFeatures) -> None:
    long, short = features.vectors([Content(sound(1.5)), Content(sound(0.5, 900))], "audio")
    assert long.shape == short.shape == (2 * features.embedder.backbone.audio.width,)
    assert (long[: len(long) // 2] <= long[len(long) // 2 :] + 1e-6).all()


def test_a_video_keeps_the_order_of_its_frames(features: FrozenFeatures) -> None:
    frames = clip(frames=6).source
    ways = [Content(Video(values, fps=4.0)) for values in (frames, frames[::-1].copy())]
    forward, backward = features.vectors(ways, "video")
    width = features.embedder.backbone.vision.width
    assert len(forward) == 4 * width + 2 * features.embedder.backbone.audio.width
    assert not np.allclose(forward[:width], backward[:width])
    assert (forward[4 * width :] == 0).all(), "a clip without sound"
    single = features.vectors([Content(clip(frames=1))], "video")[0]
    np.testing.assert_array_equal(single[:width], single[3 * width : 4 * width])


def test_texts_are_the_encoder_s_own_and_do_not_feel_their_neighbours(features: FrozenFeatures) -> None:
    contents = [Content("a red fox"), Content("fox"), Content(picture(0), "bird"), Content("a red fox runs over snow")]
    together = features.vectors(contents, "text")
    alone = FrozenFeatures(features.embedder).vectors([Content("bird")], "text")[0]
    np.testing.assert_allclose(together[2], alone, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        pooled = features.embedder.pool([features.embedder.processor(contents[0])])[0]
    np.testing.assert_allclose(together[0], pooled.numpy(), rtol=1e-3, atol=1e-5)


def test_bf16_texts_are_near_and_kept_apart(features: FrozenFeatures) -> None:
    quick = FrozenFeatures(features.embedder, precision="bf16-mixed")
    contents = [Content("a red fox"), Content("bird")]
    exact, near = features.vectors(contents, "text"), quick.vectors(contents, "text")
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.05)
    assert quick.fingerprint("text") != features.fingerprint("text")
    assert quick.fingerprint("image") == features.fingerprint("image")


def test_vectors_are_kept_on_disk_by_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [Content(picture(seed)) for seed in range(3)]
    first = FrozenFeatures(tiny_embedder(), tmp_path).vectors(contents, "image")
    again = FrozenFeatures(tiny_embedder(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(again, "_compute", lambda *_: pytest.fail("computed what is on disk"))
        np.testing.assert_array_equal(again.vectors(contents, "image"), first)
    other = FrozenFeatures(tiny_embedder(seed=1), tmp_path).vectors(contents, "image")
    assert not np.allclose(other, first) and len(list(tmp_path.glob("*.npz"))) == 2


def test_a_content_without_the_part_is_refused(features: FrozenFeatures) -> None:
    for content in (Content("a"), Content(picture(0), picture(1))):
        with pytest.raises(ContentError, match="one image"):
            features.vectors([content], "image")


def test_texts_of_documents_come_in_order() -> None:
    assert texts_of(Content("a", Document("b", picture(0), "c"), "d")) == ["a", "b", "c", "d"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["text", "image", "audio", "video"])
def test_a_gpu_gives_the_same(features: FrozenFeatures, kind: str) -> None:
    content = {"text": "a red fox", "image": picture(0), "audio": sound(), "video": clip()}[kind]
    found = FrozenFeatures(tiny_embedder().to("cuda")).vectors([Content(content)], kind)
    np.testing.assert_allclose(found, features.vectors([Content(content)], kind), rtol=1e-3, atol=1e-4)
