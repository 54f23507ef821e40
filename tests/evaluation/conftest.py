"""A small made-up tier on disk, and models whose quality is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.made import HashModel, make_tier


@pytest.fixture
def tier(tmp_path: Path) -> Path:
    """A small tier, see `make_tier`."""
    return make_tier(tmp_path)


@pytest.fixture
def blind() -> HashModel:
    """Gives every content a vector of its own: chance."""
    return HashModel(lambda content: str(content.digest()))


@pytest.fixture
def constant() -> HashModel:
    """Gives every content the same vector."""
    return HashModel(lambda content: "same")
