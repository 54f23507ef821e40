"""What must hold of every backbone, whatever its transformer: built from folders as users have them."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn
from transformers import EmbeddingGemma2Model

from commonspace import Content, Embedder
from commonspace.errors import ConfigError, WeightsError
from commonspace.models.adapters import Lora, attach
from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.build import ModelOptions, build_model
from commonspace.models.folder import check_golden, read_json
from commonspace.processing.preprocessing import Preprocessing
from tests.models.pretrained import FAMILIES, KIND, WINDOW, built, whole_model
from tests.models.tiny import clip, contents, picture, sound
from tests.models.tower_folders import write_open_clip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def embedder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return built(tmp_path_factory.mktemp(family), family)


def test_neighbours_and_padding_do_not_move_a_vector(embedder: Embedder) -> None:
    together_NE = embedder.embed(contents())
    for row, content in enumerate(contents()):
        np.testing.assert_allclose(embedder.embed([content])[0], together_NE[row], atol=1e-5)
    assert np.allclose(np.linalg.norm(together_NE, axis=1), 1, atol=1e-5)


def test_what_stands_at_padding_gives_no_gradient(embedder: Embedder) -> None:
    """A token of padding far behind a short text has an empty window in sliding layers; that must give no NaN."""
    short, long = (embedder.processor(Content(text)) for text in ("a", " ".join(["red fox"] * 20)))
    alone, both = [], []
    for batch, into in (([short], alone), ([short, long], both)):
        embedder.zero_grad()
        embedder._vectors(batch)[0].square().sum().backward()
        into += [p.grad.clone() for p in embedder.backbone.text.parameters() if p.grad is not None]
    embedder.zero_grad()
    assert len(alone) == len(both) > 0
    for one, other in zip(alone, both, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)  # 4e-5 without AMX


def test_the_order_of_parts_counts(embedder: Embedder) -> None:
    one = Content("before", picture(1), sound(), clip(1), "after")
    other = Content("before", sound(), picture(1), clip(1), "after")
    vectors_NE = embedder.embed([one, other])
    assert np.abs(vectors_NE[0] - vectors_NE[1]).max() > 1e-3


def test_the_last_token_moves_the_first_hidden_state(embedder: Embedder) -> None:
    first, second = (embedder.processor(Content(text)) for text in ("a red fox", "a red bird"))
    for batch in ([first, second], [first, second, embedder.processor(Content("a red fox in the snow runs"))]):
        states = embedder.backbone(batch)  # without padding and with it: two paths through attention
        length = int(states.mask_BL[0].sum())
        middle = (embedder.processor.tokenizer.end and length - 2) or length - 1
        assert (states.last_BLD[0, :middle] - states.last_BLD[1, :middle]).abs().amax(-1).min() > 1e-4


def test_truncation_is_the_renormalised_prefix(embedder: Embedder) -> None:
    full_NE, cut_N8 = embedder.embed(contents()), embedder.embed(contents(), dim=8)
    expected_N8 = full_NE[:, :8] / np.linalg.norm(full_NE[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(cut_N8, expected_N8, atol=1e-6)


@pytest.mark.parametrize("kind", ["text", "image", "audio", "video"])
def test_every_trained_tensor_gets_a_gradient_from_the_modality_it_serves(embedder: Embedder, kind: str) -> None:
    made = {"text": "a red fox", "image": picture(), "audio": sound(), "video": clip()}
    embedder.zero_grad()
    embedder([embedder.processor(Content(made[kind]))]).square().sum().backward()
    moved = {name for name, p in embedder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    embedder.zero_grad()
    connector = {"image": "image_connector", "video": "image_connector", "audio": "audio_connector"}.get(kind)
    served = {id(p) for layer in embedder.backbone.layers() for p in layer.parameters()}
    expected = {
        name
        for name, p in embedder.named_parameters()
        if p.requires_grad
        and (id(p) in served or name.startswith("head") or (connector and connector in name))
        and not name.endswith("key.bias")  # shifts all scores of a query alike
    }
    expected |= {"backbone.marks.weight"} if connector else {_words(embedder)}
    assert expected <= moved, sorted(expected - moved)


def _words(embedder: Embedder) -> str:
    words = embedder.backbone.text.get_input_embeddings().weight
    return next(name for name, p in embedder.named_parameters() if p is words)


def test_a_folder_gives_back_the_same_model_and_its_golden_vectors(embedder: Embedder, family: str, tmp_path) -> None:
    embedder.save(tmp_path / "model")
    assert read_json(tmp_path / "model/config.json")["backbone"] == KIND.get(family, "compact")
    loaded = Embedder.load(tmp_path / "model")
    assert type(loaded.backbone) is type(embedder.backbone)
    np.testing.assert_array_equal(loaded.embed(contents()), embedder.embed(contents()))
    assert check_golden(loaded, tmp_path / "model") < 1e-5
    text_alone = Embedder.load(tmp_path / "model", towers=("text",))
    np.testing.assert_allclose(text_alone.embed(["a red fox"]), embedder.embed(["a red fox"]), atol=1e-6)
    loaded.save(tmp_path / "again")
    assert read_json(tmp_path / "again/config.json") == read_json(tmp_path / "model/config.json")


def test_dropout_of_the_transformer_is_not_that_of_adapters(embedder: Embedder) -> None:
    model = copy.deepcopy(embedder)
    attach(model, Lora(rf"backbone\.text\.{model.backbone.linear_maps}", 2, dropout=0.25))
    for share in (0.5, 0.0):
        model.backbone.set_dropout(share)
        own = [m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout) and "lora" in name]
        assert own and set(own) == {0.25}


def test_media_enter_at_the_size_of_words(embedder: Embedder) -> None:
    """Gemma takes word embeddings times the root of the width; connectors and marks start at that size too."""
    words = embedder.backbone.text.get_input_embeddings()
    size = words(torch.arange(3, words.num_embeddings)).std().item()
    batch = [embedder.processor(Content(picture(seed))) for seed in range(4)]
    summaries = embedder.backbone.summaries(batch)
    assert summaries.vector_BSD[summaries.weight_BS > 1].std().item() == pytest.approx(size, rel=0.3)
    assert embedder.backbone.marks.weight.std().item() == pytest.approx(size, rel=0.3)


def test_dropout_reaches_the_transformer(family: str, embedder: Embedder) -> None:
    piece = [embedder.processor(Content("a red fox in the snow"))]
    try:
        embedder.train().backbone.set_dropout(0.5)
        noisy = [embedder._vectors(piece) for _ in range(2)]
        embedder.backbone.set_dropout(0.0)
        still = [embedder._vectors(piece) for _ in range(2)]
    finally:
        embedder.eval()
    assert not torch.allclose(*noisy) and torch.equal(*still)


def test_adapters_find_their_layers(family: str, tmp_path) -> None:
    from commonspace.models.adapters import Lora, attach

    embedder = built(tmp_path, family)
    names = attach(embedder, Lora(rf"backbone\.text\.{embedder.backbone.linear_maps}", 2))
    layers = len(embedder.backbone.layers())
    assert len(names) == layers * {"compact": 6, "embedding_gemma2": 9, "open_clip_text": 2}.get(family, 7)


def _own_states(family: str, tmp_path, ids: list[int]) -> torch.Tensor:
    """The pretrained model's own states [L, D], both ways, by masks made here and added to eager scores."""
    ids_1L = torch.tensor([ids])
    if family == "open_clip_text":
        clip = write_open_clip(tmp_path)
        input_1LD = clip.token_embedding(ids_1L) + clip.positional_embedding[: len(ids)]
        return clip.ln_final(clip.transformer(input_1LD, attn_mask=torch.zeros(len(ids), len(ids))))[0]
    model = whole_model(family)
    if isinstance(model, EmbeddingGemma2Model):
        return model(input_ids=ids_1L).last_hidden_state[0]
    model.set_attn_implementation("eager")
    places = torch.arange(len(ids))
    far = (places[:, None] - places).abs() > WINDOW
    masks = {"full_attention": torch.zeros(1, 1, len(ids), len(ids))}
    masks["sliding_attention"] = masks["full_attention"].masked_fill(far, torch.finfo(torch.float32).min)
    return model.model(input_ids=ids_1L, attention_mask=masks, use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("family", KIND, scope="module")
@pytest.mark.parametrize("text", ["a red fox", "a blue bird in the snow runs over the fox before a red bird barks"])
def test_text_alone_is_the_pretrained_models_own(family: str, embedder: Embedder, text: str, tmp_path) -> None:
    ids = embedder.processor.tokenizer.tokenizer.encode(text).ids
    with torch.no_grad():
        expected_LD = _own_states(family, tmp_path, ids)
        states = embedder.backbone([embedder.processor(Content(text))])
        pooled_1P = embedder.pool([embedder.processor(Content(text))])
    torch.testing.assert_close(states.last_BLD[0], expected_LD, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled_1P[0], expected_LD.mean(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", KIND)
def test_weights_that_are_not_whole_are_refused(family: str, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    from tests.models.pretrained import write_text_folder

    folder = write_text_folder(tmp_path / "text", family)
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    lost = next(name for name in tensors if re.match(r"(?!visual).*mlp\.(up_proj|c_fc)\.weight", name))
    save_file({name: t for name, t in tensors.items() if name != lost}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"(lacks|does not fit) .*mlp\.(up_proj|c_fc)"):
        BACKBONES[KIND[family]].read_text(folder)


def test_another_models_weights_are_refused(tmp_path) -> None:
    from tests.models.pretrained import write_text_folder

    folder = write_text_folder(tmp_path / "text", "qwen3")
    with pytest.raises(WeightsError, match="'qwen3' is not embedding_gemma2"):
        BACKBONES["embedding_gemma2"].read_text(folder)
    folder = write_text_folder(tmp_path / "other", "embedding_gemma2")
    with pytest.raises(WeightsError, match="'embedding_gemma2' is no decoder known here; known are qwen3, gemma3_text"):
        BACKBONES["causal_lm"].read_text(folder)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="model.name='gpt' is no kind of backbone"):
        build_model(ModelOptions(name="gpt"), Preprocessing())


def test_pooling_that_sets_two_widths_side_by_side_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="32 and 48 wide: use mean or last"):
        built(tmp_path, "embedding_gemma2", pooling="input_and_last")


def test_configs_name_the_same_kinds() -> None:
    from commonspace.configuration import compose

    for name, kind in BACKBONES.items():
        model = compose("train", [f"model={name}", "data.features=false"]).model
        assert (model.name, model.backbone) == (name, kind.pretrained)
