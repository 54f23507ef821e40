"""That tokens, pixels and states are those of Gemma 3's own processor and forward, its masks made full."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from commonspace import Content, Embedder, Image, Video
from commonspace.errors import ContentError
from tests.models.native import GEMMA3, built_native, gemma3_processor, tokens_of
from tests.models.tiny import clip, picture, sound

BEGIN = tokens_of(GEMMA3)["vision_start"]  # what its processor takes for an image


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return built_native(tmp_path_factory.mktemp(GEMMA3), GEMMA3)


def wide() -> Image:
    return Image(np.random.default_rng(2).integers(0, 255, (50, 170, 3), dtype=np.uint8))


def test_images_are_those_of_the_models_own_processor(embedder: Embedder) -> None:
    one, other = picture(1, 40), wide()
    content = Content("a red", one, "fox", other, other, "barks")
    inputs = gemma3_processor()(
        text=f"a red{BEGIN}fox{BEGIN}{BEGIN}barks", images=[[one.source, other.source, other.source]],
        return_tensors="pt",
    )  # fmt: skip
    inputs.pop("token_type_ids", None)  # which ask for causal masks
    ours, _ = embedder.backbone.inputs([embedder.processor(content)], torch.device("cpu"))
    assert torch.equal(ours["input_ids"], inputs["input_ids"])
    torch.testing.assert_close(ours["pixel_values"], inputs["pixel_values"], atol=1e-5, rtol=0)
    with torch.no_grad():
        expected = embedder.backbone.model(**inputs).last_hidden_state
        found = embedder.backbone([embedder.processor(content)]).last_BLD
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("neighbour", [None, "a red fox in the snow"])
def test_all_masks_are_full_but_for_padding_and_the_windows(embedder: Embedder, neighbour: str | None) -> None:
    """Read where each layer gets its own; windows reach both ways."""
    masks: list[torch.Tensor | None] = []
    layers = embedder.backbone.layers()
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, given: masks.append(given["attention_mask"]), with_kwargs=True)
        for layer in layers
    ]
    contents = [Content("a fox", wide(), clip(), "barks"), *([Content(neighbour)] if neighbour else [])]
    batch = [embedder.processor(content) for content in contents]
    embedder.backbone(batch)
    for hook in hooks:
        hook.remove()
    lengths, window = [pieces.tokens for pieces in batch], embedder.backbone.text.config.sliding_window
    places = torch.arange(max(lengths))
    near = (places[:, None] - places).abs() <= window
    kinds = embedder.backbone.text.config.layer_types
    assert set(kinds) == {"sliding_attention", "full_attention"} and not near.all() and len(masks) == len(layers)
    for kind, mask in zip(kinds, masks, strict=True):
        for row, length in enumerate(lengths):
            seen = torch.ones_like(near) if mask is None else mask[row, 0].bool()
            expected = near if kind == "sliding_attention" else torch.ones_like(near)
            assert torch.equal(seen[:length, :length], expected[:length, :length])
            assert not seen[:length, length:].any()


def test_a_clip_is_its_frames_and_its_sound_is_left_out(embedder: Embedder) -> None:
    pieces = embedder.processor(Content("a", clip(1)))
    assert [piece.value.ndim for piece in pieces.pieces if piece.kind == "image"] == [3, 3, 3]
    stamped = embedder.processor.with_numbers(video_timestamps=True)(Content(clip(1)))
    assert [piece.kind for piece in stamped.pieces][:4] == ["text", "mark", "image", "mark"]
    with pytest.raises(ContentError, match="this model has no audio tower"):
        embedder.embed([Content(sound())])
    data = video(4)
    assert embedder.processor(Content(data)).truncated == (
        "talk.mp4: its soundtrack is left out, this model does not hear",
    )
    assert not embedder.processor(Content(Video(data.source, name="talk.mp4", sound=False))).truncated


def video(frames: int) -> Video:
    from tests.media import numbered_frames, tone, video_bytes

    return Video(video_bytes(numbered_frames(frames, 56, 56), fps=4, sound=tone(1.0, 48_000)), name="talk.mp4")
