"""That tokens, patches, mel frames and states are those of EmbeddingGemma 2's own processor and forward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commonspace import Audio, Content, Embedder, Image, Video
from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.models.adapters import Lora, attach
from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.checkpointing import checkpoint_activations
from commonspace.processing.gemma_media import GemmaMeasure
from tests.media import numbered_frames, tone, video_bytes
from tests.models.native import GEMMA, built_native, gemma_processor, tokens_of, whole_native, write_native
from tests.models.tiny import clip, picture, sound

TOKENS = tokens_of(GEMMA)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    made = built_native(tmp_path_factory.mktemp(GEMMA), GEMMA)
    made.processor = made.processor.with_numbers(image_max_tokens=70, frame_max_tokens=70, max_tokens=1024)
    return made


def wide(seed: int = 2) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 255, (50, 170, 3), dtype=np.uint8))


def our_inputs(embedder: Embedder, content: Content) -> dict[str, Any]:
    return embedder.backbone.inputs([embedder.processor(content)], torch.device("cpu"))[0]


def assert_same(embedder: Embedder, content: Content, inputs: dict[str, Any]) -> None:
    """Our inputs are the processor's but for its padding, and our states what the same weights give for those."""
    ours = our_inputs(embedder, content)
    assert torch.equal(ours["input_ids"], inputs["input_ids"])
    for values, places in (("pixel_values", "image_position_ids"), ("pixel_values_videos", "video_position_ids")):
        assert (values in ours) == (values in inputs)
        if values in ours:
            most = ours[places].shape[1]
            assert torch.equal(ours[places], inputs[places][:, :most]) and (inputs[places][:, most:] == -1).all()
            torch.testing.assert_close(ours[values], inputs[values][:, :most], atol=1e-6, rtol=0)
    if "input_features" in ours:
        mask_NT, length = inputs["input_features_mask"], ours["input_features"].shape[1]
        assert torch.equal(ours["input_features_mask"].sum(1), mask_NT.sum(1))
        torch.testing.assert_close(ours["input_features"], inputs["input_features"][:, :length], atol=1e-6, rtol=0)
    with torch.no_grad():
        expected = embedder.backbone.model(**inputs).last_hidden_state
        found = embedder.backbone([embedder.processor(content)]).last_BLD
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("text", ["a red fox", "a blue bird in the snow runs over the fox before a red bird barks"])
def test_text_alone_is_the_pretrained_models_own(embedder: Embedder, text: str) -> None:
    inputs = gemma_processor()(text=text, return_tensors="pt")
    with torch.no_grad():
        expected = whole_native(GEMMA)(**inputs).last_hidden_state
        pooled_1P = embedder.pool([embedder.processor(Content(text))])
    torch.testing.assert_close(pooled_1P, expected.mean(1), atol=1e-5, rtol=1e-4)
    assert pooled_1P.shape == (1, 48) and embedder.backbone.input_width == 32


def test_images_are_those_of_the_models_own_processor(embedder: Embedder) -> None:
    one, other = picture(1, 40), wide()
    content = Content("a red", one, "fox", other, "barks")
    text = f"a red{TOKENS['image']}fox{TOKENS['image']}barks"
    inputs = gemma_processor()(text=text, images=[[one.source, other.source]], return_tensors="pt")
    assert_same(embedder, content, inputs)


def test_sounds_are_those_of_the_models_own_processor(embedder: Embedder) -> None:
    first, second = tone(1.33), tone(0.7, hertz=600.0)
    content = Content("a", Audio(first, rate=16_000), "barks", Audio(second, rate=16_000), picture(1))
    text = f"a{TOKENS['audio']}barks{TOKENS['audio']}{TOKENS['image']}"
    inputs = gemma_processor()(text=text, audio=[first, second], images=[[picture(1).source]], return_tensors="pt")
    assert_same(embedder, content, inputs)


@pytest.mark.parametrize(("frames", "fps"), [(3, 4.0), (10, 4.0), (90, 2.0), (12, 29.97)])
@pytest.mark.parametrize("stamped", [False, True])
def test_clips_are_those_of_the_models_own_processor(
    embedder: Embedder, frames: int, fps: float, stamped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of less than a second, of several, and of more than there may be frames."""
    monkeypatch.setattr(embedder, "processor", embedder.processor.with_numbers(video_timestamps=stamped))
    frames_FHW3 = np.random.default_rng(3).integers(0, 255, (frames, 40, 60, 3), dtype=np.uint8)
    content = Content(Video(frames_FHW3, fps=fps, name="clip"))
    inputs = gemma_processor(max_frames=8)(
        text=TOKENS["video"], videos=[torch.from_numpy(frames_FHW3).permute(0, 3, 1, 2)], return_tensors="pt",
        videos_kwargs={"add_timestamps": stamped, "video_metadata": [metadata(frames, fps)]},
    )  # fmt: skip
    assert len(inputs["pixel_values_videos"]) == min(8, max(1, int(frames / fps)))
    assert_same(embedder, content, inputs)


def metadata(frames: int, fps: float) -> dict[str, Any]:
    return {"total_num_frames": frames, "fps": fps, "duration": frames / fps}


@pytest.mark.parametrize("seconds", [2.6, 0.4, 5.0])
def test_clips_and_their_sound_are_those_of_the_models_own_processor(
    embedder: Embedder, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the sound ends before the clip, and after it."""
    frames_FHW3 = np.random.default_rng(3).integers(0, 255, (13, 40, 40, 3), dtype=np.uint8)
    samples = tone(seconds)
    measure = GemmaMeasure(embedder.backbone.layout.sound)
    mel_MT = measure(torch.from_numpy(samples), embedder.processor.preprocessing)
    monkeypatch.setattr(embedder.processor._reader, "soundtrack", lambda part: mel_MT)
    inputs = gemma_processor()(
        text=f"{TOKENS['video']}{TOKENS['image']}", videos=[torch.from_numpy(frames_FHW3).permute(0, 3, 1, 2)],
        images=[[wide().source]], audio=[samples], audio_from_video_indices=[0], load_audio_from_video=True,
        return_tensors="pt", videos_kwargs={"add_timestamps": True, "video_metadata": [metadata(13, 5.0)]},
    )  # fmt: skip
    assert_same(embedder, Content(Video(frames_FHW3, fps=5.0, name="clip"), wide()), inputs)


def test_a_soundtrack_of_a_file_is_heard_second_by_second(embedder: Embedder) -> None:
    talk = Video(video_bytes(numbered_frames(12, 56, 56), fps=4, sound=tone(3.0, 48_000)), name="talk.mp4")
    ours = our_inputs(embedder, Content(talk))
    ids, placeholders = ours["input_ids"][0], embedder.backbone.layout.placeholders
    places = [int((ids == placeholders[kind]).nonzero()[0]) for kind in ("video", "audio")]
    assert places[0] < places[1] < int((ids == placeholders["video"]).nonzero()[-1])
    assert ours["input_features"].shape[0] == 1 and len(ours["pixel_values_videos"]) == 3
    mute = our_inputs(embedder, Content(Video(talk.source, name="talk.mp4", sound=False)))
    assert "input_features" not in mute and len(mute["pixel_values_videos"]) == 3


def test_a_clip_with_sound_is_left_out_whole_and_without_it_frame_by_frame(tmp_path: Path) -> None:
    embedder = built_native(tmp_path, GEMMA)
    talk = Video(video_bytes(numbered_frames(12, 56, 56), fps=4, sound=tone(3.0, 48_000)), name="talk.mp4")
    cut = embedder.processor.with_numbers(max_tokens=20, max_text_tokens=20).renewed("truncate")
    assert [piece.kind for piece in cut(Content("a fox", talk)).pieces] == ["text"]
    still = cut(Content("a fox", Video(talk.source, name="talk.mp4", sound=False)))
    assert [piece.kind for piece in still.pieces].count("image") == 2 and still.truncated


def test_the_patches_of_a_picture_are_seen_in_their_places(embedder: Embedder) -> None:
    """A picture and its mirror image differ, as do a wide one and the same patches upright."""
    values = wide().source
    vectors_NE = embedder.embed([Content(Image(one)) for one in (values, values[:, ::-1], values.transpose(1, 0, 2))])
    gaps = np.abs(vectors_NE[:, None] - vectors_NE).max(-1)
    assert gaps[np.triu_indices(3, 1)].min() > 1e-3


def test_a_model_without_ears_refuses_sounds(tmp_path: Path) -> None:
    embedder = built_native(tmp_path, GEMMA, audio=None)
    assert embedder.backbone.describe()["sound"] is None
    with pytest.raises(ContentError, match="this model has no audio tower"):
        embedder.embed([Content(sound())])


def test_folders_that_lack_something_are_refused(tmp_path: Path) -> None:
    kind, folder = BACKBONES[GEMMA], write_native(tmp_path, GEMMA) / BACKBONES[GEMMA].pretrained
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "audio_config": None}))
    with pytest.raises(WeightsError, match="has no audio tower; leave that out by null"):
        kind.of_weights(folder, ("image", "audio"))
    assert set(kind.of_weights(folder, ("image",)).towers()) == {"image"}
    (folder / "config.json").write_text(json.dumps({**config, "vision_config": None}))
    with pytest.raises(WeightsError, match="has no vision_config; use model=embedding_gemma2"):
        kind.of_weights(folder, ("audio",))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "processor_config.json").unlink()
    with pytest.raises(WeightsError, match="its images"):
        kind.of_weights(folder, ("image", "audio"))


def test_checkpointing_reaches_eyes_and_is_refused_for_ears(tmp_path: Path) -> None:
    """The layers of transformers' audio tower cannot compute themselves again."""
    embedder = built_native(tmp_path, GEMMA)
    with pytest.raises(ConfigError, match="layers of audio cannot compute themselves again; freeze that part"):
        checkpoint_activations(embedder.backbone)
    embedder.backbone.towers()["audio"].requires_grad_(False)
    assert checkpoint_activations(embedder.backbone) == ["text", "image"]
    batch = [embedder.processor(Content(clip()))]
    embedder.train()(batch).square().sum().backward()
    assert all(p.grad is not None for p in embedder.backbone.towers()["image"].parameters())


def test_adapters_go_on_the_transformer_alone(tmp_path: Path) -> None:
    embedder = built_native(tmp_path, GEMMA)
    kind = embedder.backbone
    names = attach(embedder, Lora(rf"backbone\.{kind.text_name}\.{kind.linear_maps}", 2))
    assert all(name.startswith("backbone.model.language_model.layers.") for name in names)
