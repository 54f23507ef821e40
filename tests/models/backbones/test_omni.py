"""That tokens, pixels, sounds and positions are those that the models' own processors and functions give."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from commonspace import Audio, Content, Embedder, Image, Video
from commonspace.errors import ConfigError
from commonspace.models.backbones.native_batch import model_inputs
from commonspace.models.build import ModelOptions, build_model
from commonspace.models.folder import check_golden
from tests.media import numbered_frames, tone, video_bytes
from tests.models.native import (
    QWEN,
    built_native,
    image_processor,
    native_tokenizer,
    small_numbers,
    tokens_of,
    whole_native,
)
from tests.models.tiny import clip, picture, sound

HEARING = ("omni", "qwen3_omni")
# What each family's processor reads off its tokenizer, in the order of `tokens_of`.
_ATTRIBUTES = (
    "vision_bos_token", "vision_eos_token", "audio_bos_token", "audio_eos_token", "image_token", "video_token",
    "audio_token",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Embedder]:
    return {family: built_native(tmp_path_factory.mktemp(family), family) for family in QWEN}


def own_processor(family: str) -> transformers.ProcessorMixin:
    """The model's own processor, around the tiny tokenizer; its budgets are those of `small_numbers`."""
    names = dict(zip(_ATTRIBUTES, tokens_of(family).values(), strict=True))
    if family == "qwen3_vl":
        names |= {"vision_start_token": names["vision_bos_token"], "vision_end_token": names["vision_eos_token"]}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=native_tokenizer(family), extra_special_tokens=names, pad_token="<pad>", unk_token="<unk>"
    )
    side = 28 if family == "omni" else 32
    images = image_processor(family, size={"shortest_edge": 4 * side**2, "longest_edge": 9 * side**2})
    look = {
        "patch_size": side // 2, "image_mean": images.image_mean, "image_std": images.image_std,
        "size": {"shortest_edge": 4 * side**2, "longest_edge": 4 * side**2},
    }  # fmt: skip
    if family == "qwen3_vl":  # counts the pixels of all frames of a clip together: four here
        look["size"] = {"shortest_edge": 16 * side**2, "longest_edge": 16 * side**2}
        videos = transformers.Qwen3VLVideoProcessor(do_sample_frames=False, **look)
        return transformers.Qwen3VLProcessor(image_processor=images, tokenizer=tokenizer, video_processor=videos)
    own = {"omni": transformers.Qwen2_5OmniProcessor, "qwen3_omni": transformers.Qwen3OmniMoeProcessor}[family]
    ears = WhisperFeatureExtractor(feature_size=128, chunk_length=300)
    videos = transformers.Qwen2VLVideoProcessor(**look)
    return own(image_processor=images, video_processor=videos, feature_extractor=ears, tokenizer=tokenizer)


def our_inputs(embedder: Embedder, content: Content) -> dict[str, torch.Tensor]:
    backbone = embedder.backbone
    pieces = [embedder.processor(content)]
    return model_inputs(pieces, backbone.layout, backbone.patches, backbone._positions, torch.device("cpu"))[0]


def quiet_end(seconds: int) -> np.ndarray:
    """A tone of whole seconds that ends in silence, so that what an extractor pads it with does not matter."""
    samples = tone(seconds)
    samples[-800:] = 0
    return samples


def same_states(embedder: Embedder, content: Content, inputs: dict, **options: object) -> None:
    """Our forward gives what the same weights give for the processor's inputs, positions by the model itself."""
    with torch.no_grad():
        expected = embedder.backbone.model(**inputs, **options).last_hidden_state
        found = embedder.backbone([embedder.processor(content)]).last_BLD
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", QWEN)
def test_images_are_those_of_the_models_own_processor(made: dict[str, Embedder], family: str) -> None:
    embedder, tokens = made[family], tokens_of(family)
    small, wide = picture(1, 40), Image(np.random.default_rng(2).integers(0, 255, (50, 170, 3), dtype=np.uint8))
    content = Content("a red", small, "fox", wide, "barks")
    block = tokens["vision_start"] + tokens["image"] + tokens["vision_end"]
    inputs = own_processor(family)(
        text=f"a red{block}fox{block}barks", images=[small.source, wide.source], return_tensors="pt",
        **({"return_mm_token_type_ids": True} if family == "qwen3_vl" else {}),
    )  # fmt: skip
    ours = our_inputs(embedder, content)
    assert torch.equal(ours["input_ids"], inputs["input_ids"])
    assert torch.equal(ours["image_grid_thw"], inputs["image_grid_thw"])
    torch.testing.assert_close(ours["pixel_values"], inputs["pixel_values"], atol=1e-5, rtol=0)
    same_states(embedder, content, inputs)


@pytest.mark.parametrize("family", HEARING)
def test_sounds_are_those_of_the_models_own_processor(made: dict[str, Embedder], family: str) -> None:
    embedder, tokens, samples = made[family], tokens_of(family), quiet_end(3)
    content = Content("a", Audio(samples, rate=16_000), "barks", picture(1, 40))
    text = "a" + tokens["audio_start"] + tokens["audio"] + tokens["audio_end"] + "barks"
    text += tokens["vision_start"] + tokens["image"] + tokens["vision_end"]
    inputs = own_processor(family)(text=text, audio=[samples], images=[picture(1, 40).source], return_tensors="pt")
    ours = our_inputs(embedder, content)
    assert torch.equal(ours["input_ids"], inputs["input_ids"])
    length = int(inputs["feature_attention_mask"].sum())
    assert ours["input_features"].shape[-1] == length == 300
    torch.testing.assert_close(ours["input_features"], inputs["input_features"][..., :length], atol=1e-5, rtol=0)
    same_states(embedder, content, inputs)


@pytest.mark.parametrize("family", HEARING)
@pytest.mark.parametrize("fps", [4.0, 1.0, 0.3])
def test_clips_and_their_sound_are_those_of_the_models_own_processor(
    made: dict[str, Embedder], family: str, fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where steps are longer than a turn of two seconds."""
    embedder, tokens = made[family], tokens_of(family)
    frames_FHW3 = np.random.default_rng(3).integers(0, 255, (5, 40, 40, 3), dtype=np.uint8)
    samples = quiet_end(5)
    content = Content("a fox", Video(frames_FHW3, fps=fps, name="clip"), "barks")
    mel_MT = our_inputs(embedder, Content(Audio(samples, rate=16_000)))["input_features"][0]
    monkeypatch.setattr(embedder.processor._reader, "soundtrack", lambda part: mel_MT)
    text = f"a fox{tokens['vision_start']}{tokens['video']}{tokens['vision_end']}barks"
    exact = round(2048 / fps) / 2048  # as we count
    area = 4 * embedder.backbone.layout.token_pixels**2
    inputs = own_processor(family)(
        text=text, videos=[torch.from_numpy(frames_FHW3).permute(0, 3, 1, 2)], audio=[samples],
        audio_from_video_indices=[0], load_audio_from_video=True, return_tensors="pt",
        videos_kwargs={"fps": 1 / exact, "size": {"shortest_edge": area, "longest_edge": area}},
    )  # fmt: skip
    ours = our_inputs(embedder, content)
    assert torch.equal(ours["input_ids"], inputs["input_ids"])
    torch.testing.assert_close(ours["pixel_values_videos"], inputs["pixel_values_videos"], atol=1e-5, rtol=0)
    seconds = torch.as_tensor(inputs.pop("video_second_per_grid"))
    assert seconds.tolist() == pytest.approx([2 * exact])
    same_states(embedder, content, inputs, video_second_per_grid=torch.tensor([2 * exact]), use_audio_in_video=True)


@pytest.mark.parametrize("family", HEARING)
def test_each_token_of_a_clip_stands_at_its_own_time(made: dict[str, Embedder], family: str) -> None:
    """Counted in a loop: time runs from the first token after the marks, both kinds on one clock."""
    embedder, ids = made[family], native_tokenizer(family)
    data = video_bytes(numbered_frames(24, 56, 56), fps=4, sound=tone(6.0, 48_000))
    ours = our_inputs(embedder, Content("a", Video(data, name="talk.mp4"), "b"))
    rate, step = embedder.backbone.layout.positions_per_second, 2.0  # one frame a second is taken
    video, audio = (ids.token_to_id(tokens_of(family)[kind]) for kind in ("video", "audio"))
    start, counts = 1 + (1 if family == "omni" else 2), {video: 0, audio: 0}
    for place, one in enumerate(ours["input_ids"][0].tolist()):
        if one not in counts:
            continue
        passed = (counts[one] // 4) * step * rate if one == video else counts[one]
        expected = start + (int(passed) if family == "omni" else passed)
        assert ours["position_ids"][0, 0, place].item() == pytest.approx(expected), (place, one)
        counts[one] += 1
    assert counts[video] == 3 * 4 and counts[audio] >= 6 * embedder.backbone.layout.audio_tokens
    kinds = [kind for kind, _ in groupby(one for one in ours["input_ids"][0].tolist() if one in counts)]
    assert kinds[:4] == [video, audio, video, audio]


@pytest.mark.parametrize("family", HEARING)
def test_positions_of_a_whole_content_are_the_models_own(made: dict[str, Embedder], family: str) -> None:
    """Where its function takes all media of a content at once, segment by segment gives the same."""
    embedder = made[family]
    ours = our_inputs(embedder, Content("a", picture(1), clip(1), "red fox", sound(2.0), "b", picture(2, 90), clip(3)))
    whole, _ = embedder.backbone.model.get_rope_index(
        ours["input_ids"], ours["image_grid_thw"], ours["video_grid_thw"],
        attention_mask=torch.ones_like(ours["input_ids"]), audio_seqlens=torch.tensor([200]),
        second_per_grids=torch.tensor([0.5, 0.5]),
    )  # fmt: skip
    torch.testing.assert_close(ours["position_ids"], whole.float())


def test_qwen3_vl_stamps_each_step_of_a_clip(made: dict[str, Embedder]) -> None:
    embedder, tokens = made["qwen3_vl"], tokens_of("qwen3_vl")
    frames_FHW3 = np.random.default_rng(3).integers(0, 255, (4, 40, 40, 3), dtype=np.uint8)
    content = Content("a fox", Video(frames_FHW3, fps=2.0, name="clip"), "barks", picture(1, 40))
    image = tokens["vision_start"] + tokens["image"] + tokens["vision_end"]
    inputs = own_processor("qwen3_vl")(
        text=f"a fox{tokens['video']}barks{image}", videos=[torch.from_numpy(frames_FHW3).permute(0, 3, 1, 2)],
        images=[picture(1, 40).source], return_tensors="pt", return_mm_token_type_ids=True,
        videos_kwargs={"video_metadata": [{"total_num_frames": 4, "fps": 2.0, "frames_indices": [0, 1, 2, 3]}]},
    )  # fmt: skip
    ours = our_inputs(embedder, content)
    assert torch.equal(ours["input_ids"], inputs["input_ids"])
    torch.testing.assert_close(ours["pixel_values_videos"], inputs["pixel_values_videos"], atol=1e-5, rtol=0)
    same_states(embedder, content, inputs)


@pytest.mark.parametrize("family", QWEN)
def test_a_causal_mask_is_the_pretrained_models_own_and_stays_in_its_folder(family: str, tmp_path: Path) -> None:
    embedder = built_native(tmp_path, family, attention="causal", pooling="last")
    own = whole_native(family).model
    for content in (Content("a red fox runs"), Content("a", picture(1, 40), "fox")):
        inputs = our_inputs(embedder, content)
        with torch.no_grad():
            expected = own(**inputs).last_hidden_state
            found = embedder.backbone([embedder.processor(content)]).last_BLD
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    batch = [embedder.processor(Content(text)) for text in ("a red fox", "a red bird in the snow")]
    first, second = embedder.backbone(batch).last_BLD.detach()  # padded: a batch of its own kind of mask
    torch.testing.assert_close(first[:2], second[:2], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(first[2], second[2])
    embedder.save(tmp_path / "model")
    again = Embedder.load(tmp_path / "model")
    assert again.backbone.described["attention"] == "causal" and check_golden(again, tmp_path / "model") < 1e-5


@pytest.mark.parametrize("name", ["gemma3", "embedding_gemma2_whole", "compact"])
def test_only_qwens_models_keep_their_mask(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.attention='causal': {name} takes full"):
        build_model(ModelOptions(name, vision=None, audio=None, attention="causal"), small_numbers())


def test_what_stands_around_contents_stays_in_the_folder_and_is_the_last_token(tmp_path: Path) -> None:
    around = {"before": "<|im_start|>a query\n", "after": "\nin the text:<|im_end|>"}
    embedder = built_native(tmp_path, "omni", around, attention="causal", pooling="last", head_init="plain")
    whole = native_tokenizer("omni").encode(around["before"] + "a red fox" + around["after"]).ids
    with torch.no_grad():
        (state_LD,) = whole_native("omni").model(input_ids=torch.tensor([whole])).last_hidden_state
    expected = torch.nn.functional.normalize(state_LD[-1], dim=0).numpy()
    np.testing.assert_allclose(embedder.embed(["a red fox"])[0], expected, atol=1e-5)  # neither centred nor turned
    embedder.save(tmp_path / "model")
    again = Embedder.load(tmp_path / "model")
    content = Content("a", picture(1, 40), sound(1.0))
    np.testing.assert_allclose(again.embed([content]), embedder.embed([content]), atol=1e-6)
