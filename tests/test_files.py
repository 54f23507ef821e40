import errno
import hashlib
from pathlib import Path

import pytest

from commonspace.files import replaced, sha256_of, write_json, write_text


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "made" / "notes.txt"
    write_text(path, "before\n")
    with pytest.raises(OSError, match="No space"), replaced(path) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "before\n" and list(path.parent.iterdir()) == [path]


def test_a_block_that_ends_well_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "before\n")
    with replaced(path) as partial:
        assert partial != path and partial.parent == path.parent, "renamed, not copied"
        partial.write_text("after\n")
        assert path.read_text() == "before\n"
    assert path.read_text() == "after\n" and list(tmp_path.iterdir()) == [path]


def test_json_is_sorted_and_the_hash_is_of_its_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "state.json", {"b": 1, "a": [2]})
    expected = b'{\n "a": [\n  2\n ],\n "b": 1\n}\n'
    assert (tmp_path / "state.json").read_bytes() == expected
    assert sha256_of(tmp_path / "state.json") == hashlib.sha256(expected).hexdigest()
