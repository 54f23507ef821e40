"""EmbeddingGemma 2 with its own towers loads in sentence-transformers without code of ours, and gives our vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as pil
from sentence_transformers import SentenceTransformer

from commonspace import Content, Embedder
from commonspace.export.gemma import why_not_plain
from commonspace.export.run import export
from tests.models.native import GEMMA, built_native
from tests.models.tiny import clip, picture, sound, tiny_embedder

PICTURE = pil.fromarray(picture(1).source)
SOUND = {"array": sound().source, "sampling_rate": 16_000}
CLIP = {
    "array": torch.from_numpy(clip(2).source).permute(0, 3, 1, 2),
    "video_metadata": {"fps": 4.0, "total_num_frames": 3, "duration": 0.75},
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """Its head centres and scales, as a trained one does."""
    made = built_native(tmp_path_factory.mktemp(GEMMA), GEMMA)
    made.processor = made.processor.with_numbers(image_max_tokens=70, frame_max_tokens=70, max_tokens=1024)
    torch.nn.init.normal_(made.pooled_mean_P)
    torch.nn.init.uniform_(made.pooled_scale_P, 0.5, 2)
    torch.nn.init.normal_(made.head.bias)
    return made


@pytest.fixture(scope="module")
def folder(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plain")
    embedder.save(place / "model", "# gem\n\nA card.\n")
    told = export(embedder, place / "model", place / "out", "sentence-transformers")
    assert "own modules" in told
    return place / "out"


@pytest.fixture(scope="module")
def model(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


def pairs() -> list[tuple[object, Content]]:
    return [
        ("a red fox", Content("a red fox")),
        (PICTURE, Content(picture(1))),
        (SOUND, Content(sound())),
        ({"video": CLIP}, Content(clip(2))),
        ({"text": "a red", "image": PICTURE, "audio": SOUND}, Content("a red", picture(1), sound())),
    ]


def test_vectors_are_ours(model: SentenceTransformer, embedder: Embedder) -> None:
    inputs, contents = zip(*pairs(), strict=True)
    expected_NE = embedder.embed(contents)
    np.testing.assert_allclose(model.encode(list(inputs)), expected_NE, atol=1e-5)
    for value, expected_E in zip(inputs, expected_NE, strict=True):
        np.testing.assert_allclose(model.encode([value])[0], expected_E, atol=1e-5)
    assert len(np.unique(expected_NE.round(3), axis=0)) == len(inputs)


def test_the_order_of_a_message_is_kept(model: SentenceTransformer, embedder: Embedder) -> None:
    content = [
        {"type": "text", "text": "before"},
        {"type": "image", "image": PICTURE},
        {"type": "text", "text": "after"},
    ]
    found_E = model.encode([[{"role": "user", "content": content}]])[0]
    np.testing.assert_allclose(found_E, embedder.embed([Content("before", picture(1), "after")])[0], atol=1e-5)


def test_prompts_stand_before_text_alone(model: SentenceTransformer, embedder: Embedder) -> None:
    expected_E = embedder.embed(["a fox"], task="search result", role="query")[0]
    np.testing.assert_allclose(model.encode_query("a fox"), expected_E, atol=1e-5)
    message = [{"role": "user", "content": [{"type": "text", "text": "a fox"}]}]
    np.testing.assert_allclose(model.encode_query([message])[0], expected_E, atol=1e-5)
    value, content = pairs()[4]
    np.testing.assert_allclose(model.encode_query([value, "a fox"])[0], embedder.embed([content])[0], atol=1e-5)


def test_prefixes_of_vectors_are_ours(model: SentenceTransformer, embedder: Embedder) -> None:
    found_E = model.encode("a red fox", truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(found_E, embedder.embed(["a red fox"], dim=8)[0], atol=1e-5)


def test_nothing_of_ours_is_in_the_folder(folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".py", ".bin", ".pt"))]
    assert {"model.safetensors", "2_Dense/model.safetensors", "chat_template.jinja", "README.md"} <= names
    card = (folder / "README.md").read_text()
    assert "trust_remote_code" not in card and "Embedder.load" not in card and "A card." in card


def test_what_keeps_a_model_from_it(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_plain(embedder) == ""
    assert "compact has parts" in why_not_plain(tiny_embedder())
    for numbers, reason in (({"image_max_tokens": 9}, "budgets"), ({"video_timestamps": True}, "time stamps")):
        with monkeypatch.context() as patch:
            patch.setattr(embedder, "processor", embedder.processor.with_numbers(**numbers))
            assert reason in why_not_plain(embedder)
    with monkeypatch.context() as patch:
        patch.setattr(embedder, "pooling", "last")
        assert "another pooling" in why_not_plain(embedder)
