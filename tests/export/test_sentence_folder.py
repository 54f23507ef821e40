"""The exported folder gives our vectors in sentence-transformers, for every modality and mixture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pil
from sentence_transformers import SentenceTransformer

from commonspace import Content, Embedder, Image, Video
from commonspace.errors import ContentError
from commonspace.export import code, commonspace_module
from tests.media import numbered_frames, tone, video_bytes
from tests.models.tiny import clip, picture, sound

PICTURE = pil.fromarray(picture(1).source)
SOUND = {"array": sound().source, "sampling_rate": 16_000}
CLIP = {"array": clip(2).source, "video_metadata": {"fps": 4.0}}


@pytest.fixture(scope="module")
def model(exported: Path) -> SentenceTransformer:
    return SentenceTransformer(str(exported), trust_remote_code=True, device="cpu")


@pytest.fixture(scope="module")
def embedder(fox: Path) -> Embedder:
    return Embedder.load(fox)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of two seconds with its soundtrack."""
    path = tmp_path_factory.mktemp("media") / "talk.mp4"
    path.write_bytes(video_bytes(numbered_frames(8, 56, 56), fps=4, sound=tone(2.0, 48_000)))
    return path


def pairs(talk: Path) -> list[tuple[object, Content]]:
    """Inputs as sentence-transformers takes them, and the contents that they are."""
    mixed = [{"type": "text", "text": "before"}, {"type": "image", "image": PICTURE}, {"type": "text", "text": "after"}]
    return [
        ("a red fox", Content("a red fox")),
        (PICTURE, Content(picture(1))),
        (SOUND, Content(sound())),
        (CLIP, Content(clip(2))),
        ({"video": str(talk)}, Content(Video(talk))),
        ({"text": "a fox", "image": PICTURE}, Content("a fox", picture(1))),
        ({"video": CLIP, "audio": SOUND, "text": "barks"}, Content(clip(2), sound(), "barks")),
        ([{"role": "user", "content": mixed}], Content("before", picture(1), "after")),
        (Content("a", picture(1)), Content("a", picture(1))),
    ]


def test_each_input_alone_and_all_in_one_batch(model: SentenceTransformer, embedder: Embedder, talk: Path) -> None:
    inputs, contents = zip(*pairs(talk), strict=True)
    expected_NE = embedder.embed(contents)
    np.testing.assert_allclose(model.encode(list(inputs)), expected_NE, atol=1e-5)
    for value, expected_E in zip(inputs, expected_NE, strict=True):
        np.testing.assert_allclose(model.encode([value])[0], expected_E, atol=1e-5)
    assert len(np.unique(expected_NE.round(3), axis=0)) == len(inputs)


def test_prompts_are_our_prefixes(model: SentenceTransformer, embedder: Embedder) -> None:
    search = {"task": "search result"}
    for found, options in (
        (model.encode_query("a fox"), {**search, "role": "query"}),
        (model.encode_document("a fox"), {**search, "role": "document"}),
        (model.encode("a fox", prompt_name="clustering"), {"task": "clustering", "role": "query"}),
    ):
        np.testing.assert_allclose(found, embedder.embed(["a fox"], **options)[0], atol=1e-5)
    assert np.abs(model.encode_query("a fox") - model.encode("a fox")).max() > 1e-3
    np.testing.assert_allclose(model.encode_query(PICTURE), embedder.embed([Content(picture(1))])[0], atol=1e-5)


def test_prefixes_of_vectors_are_ours(exported: Path, embedder: Embedder) -> None:
    short = SentenceTransformer(str(exported), trust_remote_code=True, device="cpu", truncate_dim=8)
    expected_NE = embedder.embed(["a red fox"], dim=8)
    np.testing.assert_allclose(short.encode(["a red fox"], normalize_embeddings=True), expected_NE, atol=1e-5)
    assert short.get_embedding_dimension() == 8
    assert float(short.similarity(short.encode("a fox"), short.encode("a fox"))) == pytest.approx(1)


def test_it_says_what_it_takes(model: SentenceTransformer) -> None:
    assert model.modalities == ["text", "image", "video", "audio", "message"]
    assert model.supports(("audio", "image", "text")) and model.max_seq_length == 128
    assert model.get_embedding_dimension() == 32 and model.similarity_fn_name == "cosine"


def test_a_model_that_sees_alone_hears_nothing(exported: Path) -> None:
    towers = {"towers": ("text", "image"), "on_limit": "truncate"}
    seeing = SentenceTransformer(str(exported), trust_remote_code=True, device="cpu", model_kwargs=towers)
    assert seeing.modalities == ["text", "image", "video", "message"]
    assert seeing.encode("fox " * 500).shape == (32,), "cut, not refused"


def test_limits_are_enforced(model: SentenceTransformer) -> None:
    with pytest.raises(ContentError, match="at most 64 are taken"):
        model.encode("fox " * 500)


def test_options_without_effect_are_refused(model: SentenceTransformer, exported: Path) -> None:
    with pytest.raises(ValueError, match="have no effect"):
        model.encode("fox", processing_kwargs={"text": {"max_length": 3}})
    with pytest.raises(ValueError, match="dtype"):
        SentenceTransformer(str(exported), trust_remote_code=True, device="cpu", model_kwargs={"dtype": "float16"})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backend": "onnx"}, "backend='onnx' has no effect"),
        ({"config_kwargs": {"x": 1}}, r"config_kwargs \['x'\] have no effect"),
        ({"tokenizer_kwargs": {"x": 1}}, r"_kwargs \['x'\] have no effect"),
        ({"processor_kwargs": {"x": 1}}, r"processor_kwargs \['x'\] have no effect"),
    ],
)
def test_arguments_of_other_models_are_refused(options: dict[str, Any], message: str, exported: Path) -> None:
    with pytest.raises(ValueError, match=message):
        SentenceTransformer(str(exported), trust_remote_code=True, device="cpu", **options)


def test_a_lower_limit_is_the_models(exported: Path, tmp_path: Path) -> None:
    short = SentenceTransformer(str(exported), trust_remote_code=True, device="cpu")
    vector_E = short.encode("a red fox")
    short.max_seq_length = 8
    assert short.max_seq_length == 8
    np.testing.assert_array_equal(short.encode("a red fox"), vector_E)
    with pytest.raises(ContentError, match="at most 8 are taken"):
        short.encode("fox " * 20)
    short.save(str(tmp_path / "again"))
    assert short.max_seq_length == 8 and Embedder.load(tmp_path / "again").processor.preprocessing.max_tokens == 128
    short.max_seq_length = 128
    assert short.encode("fox " * 20).shape == (32,)
    for value in (0, 129, None, 8.5):
        with pytest.raises(ValueError, match="this model takes 1 to 128 tokens"):
            short.max_seq_length = value
    cut = SentenceTransformer(
        str(exported), trust_remote_code=True, device="cpu", model_kwargs={"on_limit": "truncate"}
    )
    cut.max_seq_length = 8
    assert cut.preprocess(["fox " * 20])["pieces"][0].tokens == 8


def test_without_trust_no_code_runs(exported: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        SentenceTransformer(str(exported), device="cpu")


def test_saved_again_it_is_the_same(model: SentenceTransformer, talk: Path, tmp_path: Path) -> None:
    model.save(str(tmp_path / "again"))
    again = SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    inputs = [value for value, _ in pairs(talk)]
    np.testing.assert_array_equal(again.encode(inputs), model.encode(inputs))
    assert again.prompts == model.prompts and (tmp_path / "again" / code.CODE / "commonspace/models").is_dir()


def test_gradients_reach_the_model(model: SentenceTransformer) -> None:
    module = model[0]
    module(model.preprocess(["a red fox"]))["sentence_embedding"][0, 0].backward()
    assert module.embedder.head.weight.grad.abs().sum() > 0
    module.zero_grad()


def test_it_stays_a_model_folder(exported: Path, embedder: Embedder) -> None:
    np.testing.assert_array_equal(Embedder.load(exported).embed(["a fox"]), embedder.embed(["a fox"]))


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No commonspace on the path, and none of it imported; what is imported meanwhile is forgotten afterwards."""

    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "commonspace"]

    kept = {name: sys.modules.pop(name) for name in ours()}
    monkeypatch.setattr(
        sys, "path", [place for place in sys.path if not (Path(place) / "commonspace/errors.py").exists()]
    )
    monkeypatch.setattr(sys, "path_importer_cache", {})
    yield
    for name in ours():
        del sys.modules[name]
    sys.modules.update(kept)


def test_it_loads_where_commonspace_is_not_installed(
    exported: Path, embedder: Embedder, tmp_path: Path, not_installed: None
) -> None:
    alone = SentenceTransformer(str(exported), trust_remote_code=True, device="cpu")
    assert Path(sys.modules["commonspace"].__file__).is_relative_to(exported)
    assert type(alone[0].embedder) is not type(embedder)
    expected_NE = embedder.embed(["a red fox", Content(Image(np.full((40, 40, 3), 90, np.uint8)))])
    np.testing.assert_allclose(alone.encode(["a red fox", np.full((40, 40, 3), 90, np.uint8)]), expected_NE, atol=1e-5)
    alone.save(str(tmp_path / "again"))
    assert (tmp_path / "again" / code.CODE).is_dir() and (tmp_path / "again/requirements.txt").is_file()


def test_the_code_that_is_carried_is_whole() -> None:
    """What it imports of the package is carried too, and its packages are those that this project declares."""
    assert code.CODE == commonspace_module.CODE
    carried = {path.relative_to(Path(code.__file__).parents[1]).with_suffix("").as_posix() for path in code.sources()}
    for path in code.sources():
        if path.suffix == ".py":
            for line in path.read_text().splitlines():
                words = line.split()
                if words[:1] == ["from"] and words[1].startswith("commonspace."):
                    name = words[1].removeprefix("commonspace.").replace(".", "/")
                    assert name in carried or f"{name}/__init__" in carried, f"{path}: {line}"
    listed = {line.split(">")[0].split("<")[0] for line in code.requirements()}
    assert {"torch", "transformers", "timm", "av", "sentence-transformers", "pyvips-binary"} <= listed
    assert not {"pytorch-lightning", "hydra-core", "wandb", "fastapi", "mteb"} & listed
