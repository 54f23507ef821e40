"""What must hold of every whole multimodal transformer as a backbone: built from folders as users have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace import Audio, Content, Embedder, Image, Video
from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.models.adapters import Lora, attach
from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.folder import check_golden, read_json
from commonspace.processing.preprocessing import Preprocessing
from tests.media import numbered_frames, tone, video_bytes
from tests.models.native import (
    CAUSAL,
    GEMMA,
    GEMMA3,
    HEARING,
    NATIVE,
    built_native,
    small_numbers,
    tokens_of,
    whole_native,
    write_native,
)
from tests.models.tiny import clip, contents, picture, sound


@pytest.fixture(scope="module", params=NATIVE)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def embedder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return built_native(tmp_path_factory.mktemp(family), family)


def talking_clip() -> Video:
    """Two seconds of frames with a soundtrack."""
    data = video_bytes(numbered_frames(8, 56, 56), fps=4, sound=tone(2.0, 48_000))
    return Video(data, name="talk.mp4")


def seen_and_heard(family: str) -> list[Content]:
    """Contents of every kind that a family takes."""
    if family not in HEARING:
        return [content for content in contents() if "audio" not in content.modalities]
    return [*contents(), Content("a", talking_clip(), "before", clip(5), sound(1.5), picture(6, 90))]


def test_neighbours_and_padding_do_not_move_a_vector(embedder: Embedder, family: str) -> None:
    together_NE = embedder.embed(seen_and_heard(family))
    for row, content in enumerate(seen_and_heard(family)):
        np.testing.assert_allclose(embedder.embed([content])[0], together_NE[row], atol=1e-5)
    assert np.allclose(np.linalg.norm(together_NE, axis=1), 1, atol=1e-5)
    assert len(np.unique(together_NE.round(3), axis=0)) == len(together_NE)


def test_the_order_of_parts_counts(embedder: Embedder) -> None:
    one, other = Content("before", picture(1), clip(1), "after"), Content("before", clip(1), picture(1), "after")
    vectors_NE = embedder.embed([one, other])
    assert np.abs(vectors_NE[0] - vectors_NE[1]).max() > 1e-3


@pytest.mark.parametrize("neighbour", [None, "a red fox in the snow runs over the bird"])
def test_the_last_token_moves_the_first_hidden_state(embedder: Embedder, neighbour: str | None) -> None:
    batch = [embedder.processor(Content(text)) for text in ("a red fox", "a red bird", neighbour) if text]
    with torch.no_grad():
        last_BLD = embedder.backbone(batch).last_BLD  # without padding and with it: two paths through attention
    assert (last_BLD[0, :2] - last_BLD[1, :2]).abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize("family", CAUSAL, indirect=True)
def test_every_token_sees_every_other_in_every_layer(embedder: Embedder) -> None:
    """By gradients: which inputs each layer's output of each token depends on, where one layer stands alone."""
    text = embedder.backbone.text
    for layer in text.layers:
        others, text.layers = text.layers, torch.nn.ModuleList([layer])
        try:
            input_1LD = torch.randn(1, 5, 32, requires_grad=True)
            output_1LD = text(inputs_embeds=input_1LD).last_hidden_state
            for place in range(5):
                (moved_1LD,) = torch.autograd.grad(output_1LD[0, place, 0], input_1LD, retain_graph=True)
                assert (moved_1LD[0].abs().sum(-1) > 0).all()
        finally:
            text.layers = others


@pytest.mark.parametrize("family", CAUSAL, indirect=True)
def test_the_model_as_it_comes_is_causal(family: str) -> None:
    text = whole_native(family).model.language_model
    input_1LD = torch.randn(1, 5, 32, requires_grad=True)
    (moved_1LD,) = torch.autograd.grad(text(inputs_embeds=input_1LD).last_hidden_state[0, 0, 0], input_1LD)
    assert (moved_1LD[0, 1:] == 0).all()


@pytest.mark.parametrize("family", CAUSAL, indirect=True)
@pytest.mark.parametrize("text", ["a red fox", "a blue bird in the snow runs over the fox before a red bird barks"])
def test_text_alone_is_the_pretrained_models_own(embedder: Embedder, family: str, text: str) -> None:
    ids_1L = torch.tensor([embedder.processor.tokenizer.tokenizer.encode(text).ids])
    own, length = whole_native(family).model, ids_1L.shape[1]
    own.set_attn_implementation("eager")
    full_11LL = torch.zeros(1, 1, length, length)  # added to scores: nothing is masked
    mask = {"full_attention": full_11LL, "sliding_attention": full_11LL} if family in ("omni", GEMMA3) else full_11LL
    with torch.no_grad():
        words_1LD = own.get_input_embeddings()(ids_1L)
        expected = own.language_model(inputs_embeds=words_1LD, attention_mask=mask, use_cache=False).last_hidden_state
        pieces = [embedder.processor(Content(text))]
        states, pooled_1P = embedder.backbone(pieces), embedder.pool(pieces)
    torch.testing.assert_close(states.last_BLD, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled_1P, expected.mean(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["text", "image", "audio", "video"])
def test_every_trained_tensor_gets_a_gradient_from_the_modality_it_serves(
    embedder: Embedder, family: str, kind: str
) -> None:
    if kind == "audio" and family not in HEARING:
        pytest.skip("it does not hear")
    made = {"text": "a red fox", "image": picture(), "audio": sound(), "video": clip()}
    embedder.zero_grad()
    embedder([embedder.processor(Content(made[kind]))]).square().sum().backward()
    moved = {name for name, p in embedder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    embedder.zero_grad()
    modules = embedder.backbone.tower_modules.get("image" if kind == "video" else kind, ())
    serving = ["head.", "backbone.model.language_model.", *(f"backbone.{module}." for module in modules)]
    expected = {
        name
        for name, p in embedder.named_parameters()
        if p.requires_grad
        and name.startswith(tuple(serving))
        and not name.endswith("k_proj.bias")  # shifts all scores of a query alike
    }
    assert len(expected) > 10 and expected <= moved, sorted(expected - moved)


def test_truncation_is_the_renormalised_prefix(embedder: Embedder, family: str) -> None:
    full_NE, cut_N8 = embedder.embed(seen_and_heard(family)), embedder.embed(seen_and_heard(family), dim=8)
    expected_N8 = full_NE[:, :8] / np.linalg.norm(full_NE[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(cut_N8, expected_N8, atol=1e-6)


def test_a_folder_gives_back_the_same_model_and_its_golden_vectors(
    embedder: Embedder, family: str, tmp_path: Path
) -> None:
    embedder.save(tmp_path / "model")
    assert read_json(tmp_path / "model/config.json")["backbone"] == family
    loaded = Embedder.load(tmp_path / "model")
    assert type(loaded.backbone) is type(embedder.backbone)
    np.testing.assert_array_equal(loaded.embed(seen_and_heard(family)), embedder.embed(seen_and_heard(family)))
    assert check_golden(loaded, tmp_path / "model") < 1e-5
    loaded.save(tmp_path / "again")
    for name in ("config.json", "preprocessing.json"):
        assert read_json(tmp_path / "again" / name) == read_json(tmp_path / "model" / name)
    assert check_golden(loaded, tmp_path / "again") < 1e-5  # where weights lie in memory moves the last digit


def test_towers_that_are_left_out_are_neither_read_nor_held(embedder: Embedder, family: str, tmp_path: Path) -> None:
    embedder.save(tmp_path / "model")
    seeing = Embedder.load(tmp_path / "model", towers=("text", "image"))
    assert set(seeing.backbone.towers()) == {"image"}
    assert not any("audio_tower" in name for name, _ in seeing.named_parameters())
    content = Content("a", picture(3))
    np.testing.assert_allclose(seeing.embed([content]), embedder.embed([content]), atol=1e-6)
    reading = Embedder.load(tmp_path / "model", towers=("text",))
    modules = [module for modules in reading.backbone.tower_modules.values() for module in modules]
    assert not any(module in name for name in reading.state_dict() for module in modules)
    np.testing.assert_allclose(reading.embed(["a red fox"]), embedder.embed(["a red fox"]), atol=1e-6)
    with pytest.raises(ContentError, match="loaded without its image tower"):
        reading.embed([content])
    seeing.save(tmp_path / "seeing")
    np.testing.assert_array_equal(Embedder.load(tmp_path / "seeing").embed([content]), seeing.embed([content]))


def test_a_model_can_be_built_without_a_tower(family: str, tmp_path: Path) -> None:
    embedder = built_native(tmp_path, family, audio=None)
    assert set(embedder.backbone.towers()) == {"image"} and embedder.embed([Content("a", picture())]).shape == (1, 32)


def test_what_is_deaf_refuses_sounds_and_says_what_it_left_out(tmp_path: Path) -> None:
    embedder = built_native(tmp_path, "qwen3_vl")
    with pytest.raises(ContentError, match="tone 440.0: this model has no audio tower"):
        embedder.embed([Content(sound())])
    assert embedder.processor(Content(talking_clip())).truncated == (
        "talk.mp4: its soundtrack is left out, this model does not hear",
    )


def test_dropout_reaches_the_transformer(embedder: Embedder) -> None:
    pieces = [embedder.processor(Content("a red fox in the snow"))]
    try:
        embedder.train().backbone.set_dropout(0.5)
        noisy = [embedder._vectors(pieces) for _ in range(2)]
        embedder.backbone.set_dropout(0.0)
        still = [embedder._vectors(pieces) for _ in range(2)]
    finally:
        embedder.eval()
    assert not torch.allclose(*noisy) and torch.equal(*still)


def test_adapters_find_their_layers(family: str, tmp_path: Path) -> None:
    embedder = built_native(tmp_path, family)
    kind = embedder.backbone
    names = attach(embedder, Lora(rf"backbone\.{kind.text_name}\.{kind.linear_maps}", 2))
    assert len(names) == len(kind.layers()) * {"qwen3_omni": 4, GEMMA: 9}.get(family, 7)


def test_names_of_special_tokens_inside_a_text_are_text(embedder: Embedder, family: str) -> None:
    for token in tokens_of(family).values():
        (piece,) = embedder.processor(Content(f"a {token} fox")).pieces
        assert embedder.processor.tokenizer.tokenizer.token_to_id(token) not in piece.value.tolist()


@pytest.mark.parametrize(
    "content",
    [
        Image(np.zeros((1, 1, 3), np.uint8)), Image(np.zeros((1, 900, 3), np.uint8)),
        Image(np.zeros((700, 2, 3), np.uint8)), Video(np.zeros((1, 8, 8, 3), np.uint8), fps=1.0),
    ],
)  # fmt: skip
def test_odd_sizes_are_embedded(embedder: Embedder, content: Image | Video) -> None:
    assert np.isfinite(embedder.embed([Content(content)])).all()


def test_a_long_sound_is_one_medium(tmp_path: Path) -> None:
    embedder = built_native(tmp_path, "omni")
    pieces = embedder.processor(Content(Audio(tone(5.2), rate=16_000)))
    assert [piece.tokens for piece in pieces.pieces] == [1, 150, 1]  # six seconds of 25


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pooling=input_and_last reads what connectors make, and omni has none"):
        built_native(tmp_path, "omni", pooling="input_and_last")
    with pytest.raises(ConfigError, match="model.vision='efficientnet-lite0': omni brings its own towers"):
        built_native(tmp_path / "vision", "omni", vision="efficientnet-lite0")
    with pytest.raises(ConfigError, match="model.audio: qwen3_vl has no audio tower; use null"):
        built_native(tmp_path / "audio", "qwen3_vl", audio="own")


def test_weights_of_another_model_or_in_part_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_native(tmp_path, "qwen3_vl") / BACKBONES["qwen3_vl"].pretrained
    with pytest.raises(WeightsError, match="model_type 'qwen3_vl' is no omni; known is qwen2_5_omni"):
        BACKBONES["omni"].of_weights(folder, ("image",))
    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("mlp.up_proj.weight"))
    save_file({name: t for name, t in tensors.items() if name != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="lacks .*mlp.up_proj"):
        BACKBONES["qwen3_vl"].of_weights(folder, ("image",))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="preprocessor_config.json"):
        BACKBONES["qwen3_vl"].of_weights(folder, ("image",))


@pytest.mark.parametrize("family", ["omni", "qwen3_omni"])
def test_the_thinker_of_a_folder_that_holds_a_talker_too_is_read(family: str, tmp_path: Path) -> None:
    """As on the hub: the thinker's config inside another, its tensors under a prefix, others beside them."""
    from safetensors.torch import load_file, save_file

    folder = write_native(tmp_path, family) / BACKBONES[family].pretrained
    alone = BACKBONES[family].of_weights(folder, ("image", "audio"))
    tensors = {f"thinker.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["talker.model.norm.weight"] = torch.ones(4)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    whole = {"omni": "qwen2_5_omni", "qwen3_omni": "qwen3_omni_moe"}[family]
    config = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({"model_type": whole, "thinker_config": config}))
    within = BACKBONES[family].of_weights(folder, ("image", "audio"))
    assert within.state_dict().keys() == alone.state_dict().keys()
    assert all(torch.equal(tensor, alone.state_dict()[name]) for name, tensor in within.state_dict().items())
    assert within.describe() == alone.describe()


def test_numbers_of_another_kind_are_refused(embedder: Embedder, family: str) -> None:
    from commonspace.models.build import processor_of

    numbers = small_numbers(family)
    other = small_numbers("omni" if family == GEMMA else GEMMA)
    for wrong in (Preprocessing(), other):
        message = f"takes {type(numbers).__name__}, not {type(wrong).__name__}"
        with pytest.raises(ConfigError, match=message):
            processor_of(embedder.backbone, wrong, embedder.processor.tokenizer)
    assert processor_of(embedder.backbone, numbers, embedder.processor.tokenizer)
