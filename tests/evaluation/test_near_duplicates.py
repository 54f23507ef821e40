"""What counts as seen in training: rescaled and re-encoded images, equal texts, equal and re-recorded sounds."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image as pil
from PIL import ImageDraw, ImageFilter

from commonspace.content import Audio, Content, Image
from commonspace.data.sample import Record
from commonspace.errors import DataError
from commonspace.evaluation import near_duplicates
from commonspace.evaluation.fingerprints import audio_fingerprint, audio_matches, hash_matches, image_hash
from commonspace.processing.preprocessing import Preprocessing
from tests.evaluation.made import record, write

NUMBERS = Preprocessing()


def drawing(seed: int, size: int = 160, kind: str = "PNG") -> Image:
    rng = np.random.default_rng(seed)
    canvas = pil.new("RGB", (160, 160), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(canvas)
    for _ in range(7):
        x, y = np.sort(rng.integers(0, 160, (2, 2)), axis=0)
        pen.ellipse([*x.tolist(), *(y + 1).tolist()], fill=tuple(rng.integers(0, 256, 3).tolist()))
    out = io.BytesIO()
    canvas.resize((size, size), pil.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(0.5)).save(out, kind)
    return Image(out.getvalue(), name=f"{seed}-{size}.{kind.lower()}")


def melody(seed: int, gain: float = 0.3, noise: float = 0.0, kind: str = "WAV") -> Audio:
    rng = np.random.default_rng(seed)
    shapes = np.repeat(rng.uniform(0.2, 1, size=(20, 50)), 16, axis=1)  # how loud each band is, tenth by tenth
    pieces = [np.fft.irfft(np.fft.rfft(rng.normal(size=1600))[:-1] * shape, 1600) for shape in shapes]
    wave = np.concatenate(pieces)[::2] / 8
    wave = gain * wave + noise * np.random.default_rng(0).normal(size=len(wave))
    out = io.BytesIO()
    soundfile.write(out, wave, 8000, format=kind)
    return Audio(out.getvalue(), name=f"{seed}.{kind.lower()}")


def pair(key: str, query: Content | Image | Audio, text: str) -> Record:
    content = query if isinstance(query, Content) else Content(query)
    task = "speech" if "audio" in content.modalities else "image_caption"
    return record(key, task, text, content, ("en", Content(text)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    train = [pair(f"t{seed}", drawing(seed), f"thing {seed}") for seed in range(12)]
    held = [
        pair("scaled", drawing(3, size=90, kind="JPEG"), "a scaled thing"),
        pair("fresh", drawing(100), "a fresh thing"),
        pair("texts", drawing(101), " THING \u00a0 5"),
    ]
    write(tmp_path, "image_caption", train, "train")
    write(tmp_path, "image_caption", held, "heldout")
    write(tmp_path, "speech", [pair(f"s{seed}", melody(seed), f"sound {seed}") for seed in range(6)], "train")
    sounds = [
        pair("louder", melody(2, gain=0.6, noise=0.002, kind="FLAC"), "a louder sound"),
        pair("same", melody(4), "the same sound"),
        pair("other", melody(50), "another sound"),
    ]
    write(tmp_path, "speech", sounds, "heldout")
    composed = record(
        "c", "stamp_language", "x", Content(drawing(5, size=70), "French"), ("fr", Content("quelque chose"))
    )
    write(tmp_path, "stamp_language", [composed], "heldout")
    return tmp_path


def test_marks_and_reasons(root: Path) -> None:
    marked = near_duplicates.mark(root, ("heldout",))
    assert marked == {
        Content(drawing(3, size=90, kind="JPEG")).digest(): "image hash",
        Content(drawing(5, size=70), "French").digest(): "image hash",
        Content(" THING \u00a0 5").digest(): "text",
        Content(melody(2, gain=0.6, noise=0.002, kind="FLAC")).digest(): "audio",
        Content(melody(4)).digest(): "audio",
    }
    assert near_duplicates.counts(marked, [*marked, 1]) == {"audio": 2, "image hash": 2, "text": 1}


def test_marks_are_kept_until_something_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = near_duplicates.mark(root, ("heldout",))
    with monkeypatch.context() as patch:
        patch.setattr(near_duplicates, "_collect", lambda *_: pytest.fail("read the shards again"))
        assert near_duplicates.mark(root, ("heldout",)) == first
    write(root, "speech", [pair("s", melody(50), "sound")], "train")
    assert Content(melody(50)).digest() in near_duplicates.mark(root, ("heldout",))
    (root / "near_duplicates.parquet").write_bytes(b"cut")
    with pytest.raises(DataError, match="delete it"):
        near_duplicates.mark(root, ("heldout",))


def test_features_count_apart_and_centred(root: Path) -> None:
    fresh = Content(drawing(100)).digest()
    twin = Content(drawing(1)).digest()

    def vectors(contents) -> np.ndarray:
        """All lie far from the origin in one direction, so only centred cosines tell them apart."""
        rows = [
            np.random.default_rng(abs(twin if c.digest() == fresh else c.digest())).normal(size=32) for c in contents
        ]
        return (np.array(rows) + 50).astype(np.float32)

    marked = near_duplicates.mark(root, ("heldout",), image_vectors=vectors, features_name="made")
    assert marked[fresh] == "image feature"
    assert marked[Content(drawing(3, size=90, kind="JPEG")).digest()] == "image hash"
    assert Content(drawing(101)).digest() not in marked
    assert fresh not in near_duplicates.mark(root, ("heldout",)), "without features that rule is not applied"


def test_distances_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    train, query = rng.integers(0, 2, (50, 64)).astype(bool), rng.integers(0, 2, (9, 64)).astype(bool)
    query[0] = train[7]
    query[0, :6] ^= True
    nearest = [min((row != other).sum() for other in train) for row in query]
    assert hash_matches(query, train, 64).tolist() == nearest
    assert hash_matches(query, train, 6).tolist() == [6] + [-1] * 8


def test_fingerprints_of_unlike_media_are_far_apart() -> None:
    hashes = np.stack([image_hash(drawing(seed), NUMBERS) for seed in range(12)])
    gaps = (hashes[:, None] != hashes[None]).sum(-1)[np.triu_indices(12, 1)]
    assert gaps.min() > near_duplicates.HASH_DISTANCE
    prints = [audio_fingerprint(melody(seed), NUMBERS) for seed in range(8)]
    assert (audio_matches(prints[:4], prints[4:]) < 0.8).all()
    assert (audio_matches(prints[:4], prints) > 0.999).all()
    assert (audio_matches([prints[0][:10]], prints) == 0).all(), "a fragment is no duplicate"


def test_no_heldout_split_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "speech", [pair("s", melody(1), "sound")], "train")
    with pytest.raises(DataError, match="no held-out shards"):
        near_duplicates.mark(tmp_path, ("heldout",))
