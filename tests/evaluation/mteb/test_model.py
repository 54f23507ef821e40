"""Our models as mteb's encoder: its mock tasks of every kind pass, and its vectors are those of `Embedder.embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonspace.content import Audio, Content, Image, Video
from commonspace.errors import ConfigError
from commonspace.evaluation.mteb.model import MtebModel, register
from tests.evaluation.mteb.conftest import model_of
from tests.media import noise, numbered_frames, picture_bytes, sound_bytes, tone, video_bytes
from tests.models.tiny import tiny_embedder


@pytest.mark.slow
def test_mock_tasks_of_every_kind_pass(model: MtebModel, mteb: Any, sounds_written: None) -> None:
    found = mteb.mock_run(model)
    status = {name: type(one).__name__ for name, one in found.items()}
    assert set(status.values()) == {"TaskResult"}, {n: found[n] for n, s in status.items() if s != "TaskResult"}
    assert [row[1] for row in found.modality_summary() if row[0].startswith("✓")] == ["text", "image", "audio", "video"]


@pytest.mark.slow
def test_mock_tasks_of_clips_with_their_sound_pass(model: MtebModel, mteb: Any, sounds_written: None) -> None:
    from mteb.mocks import MOCK_MULTIMODAL_TASKS

    wanted = ("VideoAudioRetrieval", "VAT2T", "AudioZeroshot", "AsymVideoAudio", "AudioSTS")
    tasks = [task for task in MOCK_MULTIMODAL_TASKS if any(part in task.metadata.name for part in wanted)]
    results = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False)
    assert len(results.task_results) == len(tasks) >= 6


@pytest.mark.parametrize(
    "towers, modalities",
    [
        ((), ["text"]),
        (("image",), ["text", "image", "video"]),
        (("audio",), ["text", "audio"]),
        (("image", "audio"), ["text", "image", "video", "audio"]),
    ],
)
def test_metadata_says_what_a_model_reads(towers: tuple[str, ...], modalities: list[str], mteb: Any) -> None:
    meta = model_of(towers=towers).mteb_model_meta
    assert meta.modalities == modalities and meta.embed_dim == [8, 16, 32] and meta.max_tokens == 128
    assert meta.name == "commonspace/tiny" and meta.experiment_kwargs is None
    from mteb.mocks.mock_run import get_compatible_mock_tasks

    compatible = get_compatible_mock_tasks(model_of(towers=towers))
    assert {kind for task in compatible for kind in task.metadata.modalities} == set(modalities)


def test_other_options_are_experiments_of_their_own() -> None:
    meta = model_of(prefixes="clustering", dim=8).mteb_model_meta
    assert meta.experiment_name == "dim_8__prefixes_clustering"


SOUNDS = [sound_bytes(tone(0.4)), sound_bytes(noise(0.7), rate=16_000)]
PICTURES = [picture_bytes(np.random.default_rng(i).integers(0, 255, (30, 40 + i, 3), dtype=np.uint8)) for i in range(2)]
CLIPS = [video_bytes(numbered_frames(5)), video_bytes(numbered_frames(9))]
COLUMNS: dict[str, tuple[list[str], list[Content]]] = {
    "i": (["image"], [Content(Image(one)) for one in PICTURES]),
    "a": (["audio"], [Content(Audio(one)) for one in SOUNDS]),
    "v": (["video"], [Content(Video(one, sound=False)) for one in CLIPS]),
    "it": (
        ["image", "text"],
        [Content(Image(one), text) for one, text in zip(PICTURES, ["red", "a fox"], strict=True)],
    ),
    "va": (
        ["audio", "video"],
        [Content(Video(clip, sound=False), Audio(sound)) for clip, sound in zip(CLIPS, SOUNDS, strict=True)],
    ),
}


@pytest.mark.parametrize("category", list(COLUMNS))
def test_rows_have_the_vectors_of_embed(category: str, model: MtebModel, mteb: Any) -> None:
    names, contents = COLUMNS[category]
    values = {"image": PICTURES, "audio": SOUNDS, "video": CLIPS, "text": ["red", "a fox"]}
    loader, metadata = loader_of({name: values[name] for name in names}, category)
    vectors = model.encode(loader, task_metadata=metadata, hf_split="test", hf_subset="default")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, model.embedder.embed(contents), atol=1e-6)
    assert abs(vectors[0] - vectors[1]).max() > 1e-3, "two different rows"


def test_decoded_media_have_their_vectors_too(model: MtebModel, mteb: Any) -> None:
    """A loader over no `datasets.Dataset`, as mteb makes for images in pairs: PIL images, sounds as arrays."""
    from io import BytesIO

    from PIL import Image as pil

    class Rows(list):
        features = {"image": None, "audio": None}  # noqa: RUF012

    class Loader(list):
        dataset = Rows()

    images = [pil.open(BytesIO(one)) for one in PICTURES]
    sounds = [{"array": tone(0.4), "sampling_rate": 16_000}, {"array": noise(0.7), "sampling_rate": 16_000}]
    metadata = loader_of({"image": PICTURES}, "i")[1]
    found = model.encode(
        Loader([{"image": images[:1], "audio": sounds[:1]}, {"image": images[1:], "audio": sounds[1:]}]),
        task_metadata=metadata, hf_split="test", hf_subset="default",
    )  # fmt: skip
    wanted = [
        Content(Image(picture), Audio(one["array"], rate=16_000)) for picture, one in zip(PICTURES, sounds, strict=True)
    ]
    np.testing.assert_allclose(found, model.embedder.embed(wanted), atol=1e-6)


@pytest.mark.parametrize("sides", ["query", "task"])
def test_texts_take_their_prefix_and_documents_their_title(sides: str, mteb: Any) -> None:
    from mteb._create_dataloaders import create_dataloader
    from mteb.types import PromptType

    model, metadata = model_of(sides=sides), mteb.get_task("NFCorpus").metadata
    from datasets import Dataset

    queries = Dataset.from_dict({"id": ["q0", "q1"], "text": ["a red fox", "a red fox"]})
    corpus = Dataset.from_dict({"id": ["d0", "d1"], "title": ["snow", ""], "text": ["the fox runs", "blue bird"]})
    found = {}
    for side, data in ((PromptType.query, queries), (PromptType.document, corpus)):
        loader = create_dataloader(data, task_metadata=metadata, prompt_type=side)
        found[side.value] = model.encode(
            loader, task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=side
        )
    embed = model.embedder.embed
    np.testing.assert_allclose(found["query"], embed(["a red fox"] * 2, task="search result", role="query"), atol=1e-6)
    titled = ["title: snow | text: the fox runs", "title: none | text: blue bird"]
    wanted = embed(titled if sides == "task" else ["snow the fox runs", "blue bird"])
    np.testing.assert_allclose(found["document"], wanted, atol=1e-6)


def test_equal_contents_are_embedded_once_and_sizes_are_prefixes(mteb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(dim=8)
    asked: list[int] = []
    embed = model.embedder.embed
    monkeypatch.setattr(
        type(model.embedder),
        "embed",
        lambda self, contents, **options: asked.append(len(contents)) or embed(contents, **options),
    )
    loader, metadata = loader_of({"text": ["red", "fox", "red", "red"]}, "t")
    vectors = model.encode(loader, task_metadata=metadata, hf_split="test", hf_subset="default")
    assert asked == [2] and vectors.shape == (4, 8)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_compressed_vectors_are_refused(model: MtebModel, mteb: Any) -> None:
    loader, metadata = loader_of({"text": ["red"]}, "t")
    with pytest.raises(ConfigError, match="precision='int8': vectors are float32"):
        model.encode(loader, task_metadata=metadata, hf_split="test", hf_subset="default", precision="int8")


def test_a_registered_folder_is_loaded_by_mteb(tmp_path: Path, mteb: Any) -> None:
    tiny_embedder(towers=()).save(tmp_path / "words")
    meta = register(tmp_path / "words")
    loaded = mteb.get_model("commonspace/words")
    assert mteb.get_model_meta("commonspace/words").revision == meta.revision and len(meta.revision) == 16
    loader, metadata = loader_of({"text": ["a red fox"]}, "t")
    found = loaded.encode(loader, task_metadata=metadata, hf_split="test", hf_subset="default")
    embedder = tiny_embedder(towers=())
    np.testing.assert_allclose(
        found, embedder.embed(["a red fox"], task="sentence similarity", role="query"), atol=1e-5
    )


def loader_of(columns: dict[str, list[Any]], category: str) -> tuple[Any, Any]:
    """mteb's own loader of some rows, media under the features that it knows, and the metadata of a task of them."""
    import datasets
    from mteb._create_dataloaders import create_dataloader
    from mteb.abstasks.task_metadata import TaskMetadata

    features = {"image": datasets.Image, "audio": datasets.Audio, "video": datasets.Video}
    data = datasets.Dataset.from_dict(columns)
    for name in columns:
        if name in features:
            data = data.cast_column(name, features[name]())
    one_kind = category in ("t", "i", "a", "v")
    metadata = TaskMetadata(
        name="rows",
        description="rows",
        dataset={"path": "none", "revision": "1"},
        type="STS",
        main_score="cosine_spearman",
        modalities=list(columns),
        category=f"{category}2{category}" if one_kind else None,
        eval_langs=["eng-Latn"],
    )
    return create_dataloader(data, task_metadata=metadata, batch_size=1), metadata
