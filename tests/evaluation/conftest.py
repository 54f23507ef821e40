"""A small made-up tier on disk, and models whose quality is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.content import Content, Text
from tests.evaluation.made import FRUITS, HashModel, captions, clip, picture, record, write


@pytest.fixture
def tier(tmp_path: Path) -> Path:
    """Shards of images with captions in two languages, clips of two actions, and composed queries."""
    write(tmp_path, "image_caption", captions())
    moves = [
        record(
            f"v{i}-{action}",
            "video",
            "flare:wyvern",
            Content(clip(f"{i} {action}")),
            ("en", Content(f"a wyvern {action}, facing {i}")),
            action=action,
            has_sound=i < 4,
        )
        for action in ("moving", "dying")
        for i in range(6)
    ]
    write(tmp_path, "video", moves)
    asked = [
        record(
            f"s{i}-{code}",
            "stamp_language",
            name,
            Content(picture(name), Text(words)),
            (code, Content(f"{name} ({code})")),
            language=code,
        )
        for i, name in enumerate(FRUITS[:5])
        for code, words in (("fr", "French"), ("de", "German"))
    ]
    write(tmp_path, "stamp_language", asked)
    return tmp_path


@pytest.fixture
def blind() -> HashModel:
    """Gives every content a vector of its own: chance."""
    return HashModel(lambda content: str(content.digest()))


@pytest.fixture
def constant() -> HashModel:
    """Gives every content the same vector."""
    return HashModel(lambda content: "same")
