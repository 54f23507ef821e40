"""The pass over all media: each once, what is known is not decoded again, what is broken is named."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image as PILImage
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn

from commonspace.content import Audio, Content, Document, Image
from commonspace.data import feature_build
from commonspace.data.feature_build import build_features, tier_readers
from commonspace.data.features import FeatureCache, attach_features
from commonspace.data.sample import Record, Variant
from commonspace.errors import ConfigError, DataError
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.processor import Processor
from tests.models.pretrained import write_preset
from tests.models.test_presets import made
from tests.models.tiny import tiny_embedder


class Tower(nn.Module):
    """Gives rows that tell what it saw; counts how often it ran."""

    def __init__(self, width: int, *, frozen: bool = True) -> None:
        super().__init__()
        self.width, self.frozen, self.fingerprint, self.calls = width, frozen, f"tower{width}", 0
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, value: torch.Tensor, tokens: int | None = None) -> torch.Tensor:
        self.calls += 1
        means = value.float().flatten(1).mean(1)
        count = tokens or value.shape[-1] // 4
        return (means[:, None, None] * self.weight).expand(-1, count, self.width) + torch.arange(self.width) / 8


class Model(nn.Module):
    """As much of an embedder as `attach_features` needs."""

    def __init__(self, **towers: Tower) -> None:
        super().__init__()
        tokenizer = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, "[UNK]"))
        self.processor = Processor(Preprocessing(image_size=16), tokenizer, on_limit="truncate")
        self.backbone = nn.Module()
        self.backbone.towers, self.backbone.own_towers = lambda: towers, False


def png(grey: int) -> bytes:
    file = io.BytesIO()
    PILImage.new("RGB", (20, 10), (grey, grey, grey)).save(file, "png")
    return file.getvalue()


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(int(16000 * seconds), 0.1, np.float32), 16000, format="wav")
    return file.getvalue()


def records() -> list[Record]:
    contents = [Content(Image(png(10 * n))) for n in range(6)]
    contents += [Content("a", Image(png(0))), Content(Document("a", Image(png(10))))]  # seen before, at the same grid
    contents += [Content(Audio(wav(seconds))) for seconds in (0.5, 1.0, 2.0)]
    contents += [Content(Image(b"\x89PNG broken"))]
    return [
        Record(f"r{n}", "any", "made", f"c{n}", (Variant(content),), (Variant(Content("a")),))
        for n, content in enumerate(contents)
    ]


@pytest.fixture
def model() -> Model:
    return Model(image=Tower(6), audio=Tower(4))


@pytest.mark.parametrize("workers", [0, 2])
def test_each_medium_runs_once_and_training_then_takes_it(make_shards, model, tmp_path, workers):
    reader = make_shards(records(), "any")
    store = attach_features(model, tmp_path)
    report = build_features(
        [reader], model.processor, model.backbone.towers(), store, workers=workers, progress=False, keep_every=3
    )
    assert (report.computed, report.known, len(store)) == (9, 0, 9)
    assert len(report.failed) == 1 and "any/train-00000.tar:r11" in report.failed[0]

    plain = Model(**model.backbone.towers()).processor
    for record in list(reader)[:-1]:
        cached, raw = model.processor(record.queries[0].content), plain(record.queries[0].content)
        assert cached.tokens == raw.tokens
        for kept, decoded in zip(cached.pieces, raw.pieces, strict=True):
            if kept.kind in ("image", "audio"):
                tokens = [kept.tokens] if kept.kind == "image" else []
                rows = model.backbone.towers()[kept.kind](decoded.value[None], *tokens)[0]
                assert kept.is_feature and torch.equal(kept.value, rows.half())


def test_a_second_pass_decodes_nothing(make_shards, model, tmp_path):
    reader = make_shards(records(), "any")
    store = attach_features(model, tmp_path)
    towers = model.backbone.towers()
    build_features([reader], model.processor, towers, store, progress=False)
    calls = [tower.calls for tower in towers.values()]
    assert calls == [1, 2]  # all images at once; sounds of 1 s together, the one of 2 s alone
    report = build_features([reader], model.processor, towers, FeatureCache(store.folder), progress=False)
    assert (report.computed, report.known) == (0, 9)
    assert [tower.calls for tower in towers.values()] == calls


def test_an_interrupted_pass_goes_on(make_shards, model, tmp_path):
    reader = make_shards(records(), "any")
    store = attach_features(model, tmp_path)
    towers = model.backbone.towers()
    whole, towers["image"].forward = towers["image"].forward, _stop_after(towers["image"], 2)
    with pytest.raises(KeyboardInterrupt):
        build_features([reader], model.processor, towers, store, batch=1, keep_every=1, progress=False)
    assert len(store) == 2
    towers["image"].forward = whole
    assert build_features([reader], model.processor, towers, store, progress=False).computed == 7


def test_images_of_native_aspects_are_kept_with_their_grid(make_shards, tmp_path):
    """What training reads from the store gives the vectors that the real tower gives."""
    preset = "compact_naflex"
    embedder = made(write_preset(tmp_path / "weights", preset), preset, "model.image_grid=3", "model.image_size=96")
    sizes = [(20, 90), (90, 20), (40, 40), (1, 300), (40, 50)]
    images = [Image(noise(n, *size)) for n, size in enumerate(sizes)]
    contents = [*(Content(image, "after") for image in images), Content(Document("before", *images[:2]))]
    expected_NE = embedder.embed(contents)
    reader = make_shards(
        [
            Record(f"r{n}", "any", "made", f"c{n}", (Variant(content),), (Variant(Content("a")),))
            for n, content in enumerate(contents)
        ],
        "any",
    )
    store, towers = attach_features(embedder, tmp_path), embedder.backbone.towers()
    assert build_features([reader], embedder.processor, towers, store, batch=2, progress=False).computed == 7
    kept = [piece for content in contents for piece in embedder.processor(content).pieces if piece.kind == "image"]
    assert all(piece.is_feature and len(piece.value) == piece.tokens for piece in kept)
    assert {piece.grid for piece in kept} >= {(1, 4), (4, 1), (3, 3)}
    np.testing.assert_allclose(embedder.embed(contents), expected_NE, atol=2e-3)  # kept in float16


def noise(seed: int, height: int, width: int) -> bytes:
    file = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    PILImage.fromarray(values).save(file, "png")
    return file.getvalue()


def _stop_after(tower: Tower, calls: int):
    forward = tower.forward

    def stopping(*arguments: object) -> torch.Tensor:
        if tower.calls == calls:
            raise KeyboardInterrupt
        return forward(*arguments)

    return stopping


def test_towers_that_train_are_not_cached(tmp_path):
    model = Model(image=Tower(6, frozen=False), audio=Tower(4))
    store = attach_features(model, tmp_path)
    store.put({})
    piece = next(p for p in model.processor(Content(Image(png(3)))).pieces if p.kind == "image")
    assert not piece.is_feature
    with pytest.raises(ConfigError, match=r"data\.features=false"):
        attach_features(Model(image=Tower(6, frozen=False)), tmp_path)


def test_readers_of_a_tier(make_shards, tmp_path):
    make_shards(records()[:2], "any")
    make_shards(records()[2:4], "any", split="dev")
    assert [(r.task, r.split) for r in tier_readers(tmp_path)] == [("any", "train"), ("any", "dev")]
    with pytest.raises(DataError, match="other.*commonspace data build"):
        tier_readers(tmp_path, ["any", "other"])
    with pytest.raises(DataError, match="no shards"):
        tier_readers(tmp_path / "empty")


def test_a_tiers_towers_run_where_models_do_beside_as_many_decoders_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from commonspace.configuration import compose

    devices: list[str] = []

    def build(readers, processor, towers, store, workers) -> feature_build.FeatureReport:
        assert workers == 3
        devices.extend(next(tower.parameters()).device.type for tower in towers.values())
        return feature_build.FeatureReport()

    monkeypatch.setattr("commonspace.models.device.best_device", lambda: "meta")
    monkeypatch.setattr("commonspace.models.build.build_model", lambda *options, **places: tiny_embedder())
    monkeypatch.setattr(feature_build, "attach_features", lambda embedder, cache: FeatureCache(cache / "none"))
    monkeypatch.setattr(feature_build, "tier_readers", lambda *places: [])
    monkeypatch.setattr(feature_build, "build_features", build)
    feature_build.build_tier(compose("data_features", ["data.tier=tiny", "data.workers=3"]))
    assert devices == ["meta", "meta"]
