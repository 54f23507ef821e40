"""Presets of the compact model with other towers: built from folders as users have them, held to the invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from commonspace import Content, Embedder, Image
from commonspace.configuration import compose
from commonspace.errors import ConfigError
from commonspace.models.build import ModelOptions, build_model
from commonspace.models.folder import check_golden, read_json
from commonspace.models.towers.audio import AudioTower
from commonspace.models.towers.kinds import tower_class
from commonspace.processing.preprocessing import Preprocessing
from commonspace.stages.optimiser import unfreeze_towers
from tests.models.pretrained import PRESETS, write_preset
from tests.models.tiny import clip, contents, picture, sound
from tests.stages.training import MODEL

CLASSES = {
    "compact_naflex": ("naflex", "whisper"),
    "compact_open_clip": ("open_clip", "whisper"),
    "compact_audio_vit": ("timm", "mel_vit"),
}


def wide(seed: int, height: int, width: int) -> Image:
    values = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image(values, name=f"{height} x {width}")


MORE = [
    Content(wide(1, 20, 90)), Content(wide(2, 90, 20)), Content(wide(3, 40, 40), "after"), Content(sound(2.3)),
    Content(wide(4, 1, 1)), Content(wide(5, 1, 500)),
]  # fmt: skip


def made(root, preset: str, *overrides: str) -> Embedder:
    config = compose("train", [f"model={preset}", *MODEL, *PRESETS[preset], *overrides])
    model = OmegaConf.to_container(config.model, resolve=True)
    torch.manual_seed(0)
    return build_model(ModelOptions.of(model), Preprocessing.of(model), weights=str(root))


@pytest.fixture(scope="module", params=PRESETS)
def preset(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def root(preset: str, tmp_path_factory: pytest.TempPathFactory):
    return write_preset(tmp_path_factory.mktemp(preset), preset)


@pytest.fixture(scope="module")
def embedder(root, preset: str) -> Embedder:
    embedder = made(root, preset)
    unfreeze_towers(embedder, 1, audio=True)
    return embedder


def test_the_towers_are_of_their_class(embedder: Embedder, preset: str) -> None:
    towers = embedder.backbone.towers()
    assert (type(towers["image"]), type(towers["audio"])) == tuple(tower_class(kind) for kind in CLASSES[preset])


def test_neighbours_and_padding_do_not_move_a_vector(embedder: Embedder) -> None:
    given = [*contents(), *MORE]
    together_NE = embedder.embed(given)
    for row, content in enumerate(given):
        np.testing.assert_allclose(embedder.embed([content])[0], together_NE[row], atol=1e-5)


def test_summaries_alone_are_those_of_the_whole_pass(embedder: Embedder) -> None:
    batch = [embedder.processor(content) for content in [*contents(), *MORE]]
    for alone, whole in zip(embedder.backbone.summaries(batch), embedder.backbone(batch).summaries, strict=True):
        torch.testing.assert_close(alone, whole, atol=1e-6, rtol=1e-5)


def test_a_step_gives_every_trained_tensor_a_gradient(embedder: Embedder) -> None:
    batch = [Content("a red fox"), Content(wide(1, 20, 90)), Content(picture()), Content(sound()), Content(clip())]
    embedder.zero_grad()
    embedder([embedder.processor(content) for content in batch]).square().sum().backward()
    still = {
        name
        for name, p in embedder.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any()) and not name.endswith("key.bias")
    }
    embedder.zero_grad()
    assert not still and any("vision" in name for name, p in embedder.named_parameters() if p.requires_grad)


def test_a_folder_gives_back_the_same_model_and_its_golden_vectors(embedder: Embedder, preset: str, tmp_path) -> None:
    embedder.save(tmp_path / "model")
    config = read_json(tmp_path / "model/config.json")
    assert (config["vision"]["class"], config["audio"]["class"]) == CLASSES[preset]
    assert config["vision"]["weights"] == compose("train", [f"model={preset}"]).model.vision
    loaded = Embedder.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.embed(contents()), embedder.embed(contents()), atol=1e-6)
    assert check_golden(loaded, tmp_path / "model") < 1e-5
    loaded.save(tmp_path / "again")
    assert read_json(tmp_path / "again/config.json") == config
    without = Embedder.load(tmp_path / "model", towers=("text",))
    np.testing.assert_allclose(without.embed(["a red fox"]), embedder.embed(["a red fox"]), atol=1e-6)


@pytest.mark.parametrize(
    "other, override, message",
    [
        ("compact_naflex", "model.image_patch=null", "image_patch=None: naflexvit.* patches of 16 pixels"),
        ("compact_naflex", "model.image_patch=32", "image_patch=32: naflexvit"),
        ("compact_open_clip", "model.image_size=96", "image_size=96: this open_clip tower takes 64"),
        ("compact_open_clip", "model.image_patch=16", "image_patch=16: an open_clip tower takes squares"),
        ("compact_audio_vit", "model.image_patch=16", "image_patch=16: test_efficientnet takes squares"),
        ("compact_audio_vit", "model.audio_frames_per_row=4", "audio_frames_per_row=4: vit_tiny_patch16_224 takes 16"),
        ("compact_audio_vit", "model.audio_mels=80", "audio_mels=80: vit_tiny_patch16_224 takes 32"),
        ("compact_open_clip", "model.audio_frames_per_row=16", "frames_per_row=16: this Whisper encoder takes 4"),
        ("compact_open_clip", "model.audio_mels=128", "audio_mels=128: this Whisper encoder takes 80"),
    ],
)
def test_preprocessing_that_a_tower_does_not_take_is_refused(other, override, message, tmp_path) -> None:
    with pytest.raises(ConfigError, match=message):
        made(write_preset(tmp_path, other), other, override)


def test_a_folder_of_format_3_loads(tmp_path) -> None:
    """It had one class a tower, whose config stood alone, and fewer numbers of preprocessing."""
    from commonspace.models.folder import write_json
    from tests.models.tiny import tiny_embedder

    embedder = tiny_embedder()
    embedder.save(tmp_path / "model")
    config = read_json(tmp_path / "model/config.json")
    old = {name: config[name]["config"] for name in ("vision", "audio")}
    write_json(tmp_path / "model/config.json", {**config, **old, "format": 3})
    numbers = read_json(tmp_path / "model/preprocessing.json")
    del numbers["image_patch"], numbers["audio_frames_per_row"]
    write_json(tmp_path / "model/preprocessing.json", numbers)
    loaded = Embedder.load(tmp_path / "model")
    assert isinstance(loaded.backbone.audio, AudioTower) and check_golden(loaded, tmp_path / "model") < 1e-5
