"""One import of mteb, a small tier of real media, and a stand-in for the one thing mteb's mock sounds want."""

from __future__ import annotations

import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from commonspace.content import Content, Document, Image, Video
from commonspace.evaluation.mteb.model import MtebModel
from tests.evaluation.made import record, write
from tests.media import numbered_frames, picture_bytes, video_bytes
from tests.models.tiny import WORDS, tiny_embedder


@pytest.fixture(scope="session")
def mteb() -> Any:
    """The package, without progress bars."""
    import datasets
    import mteb

    datasets.disable_progress_bars()
    return mteb


@pytest.fixture
def sounds_written(mteb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """mteb's mock sounds are written by torchcodec; where it has no FFmpeg, `_Writer` stands in, but never in CI."""
    if shutil.which("ffmpeg") is None:
        assert os.environ.get("CI") != "true", "needs FFmpeg; .ci/run installs it"
        package, encoders = types.ModuleType("torchcodec"), types.ModuleType("torchcodec.encoders")
        encoders.AudioEncoder = _Writer  # type: ignore[attr-defined]
        package.encoders = encoders  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torchcodec", package)
        monkeypatch.setitem(sys.modules, "torchcodec.encoders", encoders)


class _Writer:
    """Writes the mock sounds' arrays as WAV, as `torchcodec.encoders.AudioEncoder` would; reading stays our own."""

    def __init__(self, samples: Any, *, sample_rate: int) -> None:
        self.samples, self.rate = samples, sample_rate

    def to_file_like(self, file: Any, format: str, num_channels: int | None = None) -> None:
        soundfile.write(file, self.samples.numpy(), self.rate, format=format)


def model_of(**options: Any) -> MtebModel:
    """A random tiny model of every modality on the CPU, cutting what is long."""
    embedder = tiny_embedder(towers=options.pop("towers", ("image", "audio")))
    embedder.processor = embedder.processor.renewed("truncate")
    return MtebModel("tiny", "1", embedder=embedder, device="cpu", **options)


@pytest.fixture(scope="session")
def model() -> MtebModel:
    """See `model_of`."""
    return model_of()


@pytest.fixture(scope="session")
def suite_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA/mini: captions of pictures, summaries, two languages, clips, and documents, which are no rows of columns."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)

    def words(count: int = 6) -> str:
        return " ".join(rng.choice(WORDS, count))

    def drawn() -> Image:
        return Image(picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)), name="drawn.png")

    def moving(seed: int) -> Video:
        return Video(video_bytes(numbered_frames(4 + seed)), name="moving.mp4")

    tier, say = root / "mini", [words() for _ in range(60)]
    for split in ("heldout", "dev"):
        captions = [
            record(f"c{i}", "image_caption", f"t{i // 2}", Content(drawn()), ("en", Content(say[i]))) for i in range(12)
        ]
        summaries = [record(f"s{i}", "summary", f"s{i}", Content(words(3)), ("en", Content(say[i]))) for i in range(12)]
        pairs = [
            record(f"x{code}{i}", "crosslingual", f"x{i}", Content(say[i]), (code, Content(words(4))), language=code)
            for code in ("de", "pt_BR")
            for i in range(20)
        ]
        clips = [record(f"v{i}", "video", f"v{i}", Content(moving(i)), ("en", Content(say[i]))) for i in range(3)]
        pages = [
            record(f"d{i}", "document", f"d{i}", Content(say[i]), ("en", Content(Document(words(), drawn()))))
            for i in range(3)
        ]
        rows = {
            "image_caption": captions,
            "summary": summaries,
            "crosslingual": pairs,
            "video": clips,
            "document": pages,
        }
        for name, made in rows.items():
            write(tier, name, made, split)
    return root
