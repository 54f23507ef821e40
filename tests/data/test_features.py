"""The feature cache: what was put comes back, damage raises, an interruption loses only what was under way."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from commonspace.data.features import FeatureCache
from commonspace.errors import DataError


def rows(number: int, width: int = 6) -> torch.Tensor:
    return torch.arange(number * width, dtype=torch.float32).view(number, width) / 8 + number


@pytest.fixture
def cache(tmp_path) -> FeatureCache:
    cache = FeatureCache(tmp_path)
    assert cache.put({f"k{n}": rows(n) for n in range(1, 30)}) == 29
    return cache


def test_what_was_put_comes_back_as_float16(cache):
    for number in range(1, 30):
        value = cache.get(f"k{number}")
        assert value.dtype == torch.float16 and torch.equal(value, rows(number).half())
    assert cache.get("other") is None and "k3" in cache and len(cache) == 29


def test_a_key_is_kept_once(cache):
    size = cache.bytes
    assert cache.put({"k1": rows(9)}) == 0
    assert cache.bytes == size and torch.equal(cache.get("k1"), rows(1).half())


def test_readers_open_in_their_own_process_and_see_additions_after_a_refresh(cache, tmp_path):
    reader = pickle.loads(pickle.dumps(cache))  # noqa: S301 (made one line above)
    assert len(pickle.dumps(cache)) < 1000
    assert reader.get("late") is None
    FeatureCache(tmp_path).put({"late": rows(2)})
    assert reader.get("late") is None
    reader.refresh()
    assert torch.equal(reader.get("late"), rows(2).half())


def _put(folder: str, start: int) -> int:
    cache = FeatureCache(folder)
    return sum(cache.put({f"k{n}": rows(1 + n % 5), f"j{n}": rows(2)}) for n in range(start, start + 20))


def test_two_writers_take_turns(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        added = list(pool.map(_put, [str(tmp_path)] * 2, [0, 10]))
    cache = FeatureCache(tmp_path)
    assert sum(added) == len(cache) == 60
    assert all(torch.equal(cache.get(f"k{n}"), rows(1 + n % 5).half()) for n in range(30))


def test_an_interrupted_write_is_forgotten(cache):
    with (cache.folder / "values.bin").open("ab") as file:
        file.write(b"half of a feature")
    with (cache.folder / "index.bin").open("ab") as file:
        file.write(b"half")
    cache.refresh()
    assert len(cache) == 29
    cache.put({"next": rows(3)})
    assert torch.equal(cache.get("next"), rows(3).half()) and len(cache) == 30


@pytest.mark.parametrize(
    "name, cut, message", [("values.bin", 40, "has .* bytes"), ("index.bin", None, "not an index")]
)
def test_damage_raises(cache, name, cut, message):
    path = cache.folder / name
    path.write_bytes(path.read_bytes()[:-cut] if cut else b"#" + path.read_bytes()[1:])
    cache.refresh()
    with pytest.raises(DataError, match=rf"{name}.*{message}.*delete"):
        cache.get("k1")


def test_a_changed_byte_is_named_by_key(cache):
    path = cache.folder / "values.bin"
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    cache.refresh()
    with pytest.raises(DataError, match="k1 is damaged"):
        cache.get("k1")


def test_what_cannot_be_a_feature_is_refused(cache):
    with pytest.raises(DataError, match="bad.*finite"):
        cache.put({"good": rows(1), "bad": torch.full((1, 2), torch.nan)})
    assert "good" not in cache


def test_a_file_system_without_locks_is_named(cache, monkeypatch):
    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(DataError, match="lock: cannot be locked .Function not implemented.; .* paths.cache"):
        cache.put({"new": rows(3)})
