"""The teacher's table: every content of training, and inner products that are the models' mean cosine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from commonspace.content import Content
from commonspace.errors import DataError
from commonspace.evaluation.late_fusion import LateFusion, train_heads, training_rows
from commonspace.evaluation.late_fusion_grid import Settings
from commonspace.evaluation.teachers import write_teacher
from tests.evaluation.made import MadeFeatures, captions

FAST = Settings(steps=4, hidden=16, embedding_size=32)


@pytest.fixture(scope="module")
def models() -> list[LateFusion]:
    features = MadeFeatures()
    rows = training_rows(features, captions())  # type: ignore[arg-type]
    return [LateFusion(train_heads(rows, FAST, seed), features) for seed in range(3)]  # type: ignore[arg-type]


def contents() -> dict[int, Content]:
    sides = [side for record in captions() for side in (record.queries, record.positives)]
    return {variant.content.digest(): variant.content for side in sides for variant in side}


def test_every_variant_of_both_sides_is_in_the_table(models: list[LateFusion], tmp_path: Path) -> None:
    path = tmp_path / "teachers" / "image_caption.safetensors"
    assert write_teacher(path, models, captions()) == len(contents()) == 27 + 26 * 2 + 1
    table = load_file(path)
    assert table["ids"].dtype == np.int64 and table["ids"].tolist() == sorted(contents())
    assert table["vectors"].dtype == np.float16 and table["vectors"].shape == (len(contents()), 3 * 32)
    assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing half-written stays"


def test_inner_products_are_the_mean_of_the_models_cosines(models: list[LateFusion], tmp_path: Path) -> None:
    write_teacher(tmp_path / "t.safetensors", models, captions())
    table = load_file(tmp_path / "t.safetensors")
    vectors = table["vectors"].astype(np.float32)
    found = [contents()[digest] for digest in table["ids"].tolist()]
    cosines = [model.embed(found) @ model.embed(found).T for model in models]
    np.testing.assert_allclose(vectors @ vectors.T, np.mean(cosines, axis=0), atol=1e-3)


def test_nothing_to_write_is_said(models: list[LateFusion], tmp_path: Path) -> None:
    for some, records in (([], captions()), (models, [])):
        with pytest.raises(DataError, match="no models or no training records"):
            write_teacher(tmp_path / "t.safetensors", some, records)
