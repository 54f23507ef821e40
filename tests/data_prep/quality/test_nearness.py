"""Near things are found as comparing everything with everything would find them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from commonspace.evaluation.fingerprints import audio_matches
from data_prep.quality import minhash
from data_prep.quality.nearness import (
    earliest_image,
    earliest_sound,
    earliest_text,
    near_image,
    near_sound,
    near_text,
)


def plainly(count: int, near) -> np.ndarray:
    """The rule in words: the first item that is near and is itself its own first."""
    found = list(range(count))
    for row in range(count):
        found[row] = next((other for other in range(row) if found[other] == other and near(other, row)), row)
    return np.array(found)


def hashes(count: int = 300) -> np.ndarray:
    """Random hashes, a third of them some bits off an earlier one."""
    random = np.random.default_rng(0)
    values = random.integers(0, 2**63, count, np.uint64)
    for row in range(count // 3, 2 * count // 3):
        values[row] = values[random.integers(row)]
        for bit in random.integers(0, 64, random.integers(0, 9)):
            values[row] ^= np.uint64(1) << np.uint64(bit)
    return values


@pytest.mark.parametrize("distance", [0, 3, 6])
def test_pictures_as_by_comparing_all(distance: int) -> None:
    values = hashes()
    bits = np.bitwise_count(values[:, None] ^ values[None])
    found = earliest_image(values, distance)
    assert (found == plainly(len(values), lambda one, other: bits[one, other] <= distance)).all()
    assert 0 < (found != np.arange(len(values))).sum() < 150
    near = near_image(values[200:], values[:200], distance)
    assert (near == (bits[200:, :200] <= distance).any(axis=1)).all()
    assert not near_image(values, values[:0], distance).any()


def sentences() -> list[str]:
    """Sentences of random words, half of them with a word or two changed."""
    random = np.random.default_rng(1)
    words = [f"{''.join(chr(97 + letter) for letter in random.integers(0, 26, 6))}" for _ in range(200)]
    texts = [" ".join(random.choice(words, 20)) for _ in range(60)]
    for row in range(60):
        changed = texts[row].split()
        for place in random.integers(0, 20, row % 4):
            changed[place] = words[place]
        texts.append(" ".join(changed))
    return texts


def jaccard(one: str, other: str) -> float:
    sets = [{text[start : start + 5] for start in range(len(text) - 4)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_minhash_estimates_the_share_of_shingles() -> None:
    texts = sentences()
    signatures = np.stack([minhash.signature(text) for text in texts])
    errors = [
        minhash.shared(signatures[row : row + 1], signatures[other : other + 1])[0] - jaccard(texts[row], texts[other])
        for row in range(60)
        for other in (row + 60, (row + 61) % 120)
    ]
    assert abs(np.mean(errors)) < 0.02 and np.abs(errors).max() < 0.25
    assert minhash.signature("five!") is None and minhash.signature("一个人在跑步吗") is not None


def plain_signature(text: str) -> np.ndarray:
    """splitmix64's last steps over every shingle in each order, one by one."""
    codes, full = [ord(char) for char in text], 2**64 - 1
    shingles = {
        sum(code * int(weight) for code, weight in zip(codes[start:], minhash._WEIGHTS, strict=False)) & full
        for start in range(len(codes) - minhash.SHINGLE + 1)
    }
    least = []
    for key in map(int, minhash._KEYS):
        mixed = [(shingle ^ key) * 0xBF58476D1CE4E5B9 & full for shingle in shingles]
        least.append(min(((one ^ one >> 27) * 0x94D049BB133111EB & full) >> 32 for one in mixed))
    return np.array(least, np.uint32)


@pytest.mark.parametrize("length", [6, 35, 36, 37, 67, 68, 69, 300])
def test_signatures_by_blocks_are_those_of_the_plain_formula(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    text = (" ".join(sentences()[:3]) + "狐 😀")[-length:]
    monkeypatch.setattr(minhash, "_BLOCK", 32)
    np.testing.assert_array_equal(minhash.signature(text), plain_signature(text))


def test_a_long_text_takes_little_memory() -> None:
    """All shingles in all orders were held before: a gigabyte for a million characters."""
    text = " ".join(map(str, range(60_000)))
    tracemalloc.start()
    try:
        minhash.signature(text)
        assert len(text) > 300_000 and tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_texts_as_by_comparing_all() -> None:
    texts = sentences()
    signatures = np.stack([minhash.signature(text) for text in texts])
    share = (signatures[:, None] == signatures[None]).mean(axis=2)
    found = earliest_text(signatures, 0.8)
    assert (found == plainly(len(texts), lambda one, other: share[one, other] >= 0.8)).all()
    assert 20 < (found != np.arange(len(texts))).sum() <= 60
    near = near_text(signatures[60:], signatures[:60], 0.8)
    assert (near == (share[60:, :60] >= 0.8).any(axis=1)).all() and 0 < near.sum() < 60


@pytest.mark.parametrize("seed", range(5))
def test_chains_of_likeness_as_by_comparing_all(seed: int) -> None:
    """Each signature is some places off an earlier one; from 52 equal places on, two always share a band."""
    random = np.random.default_rng(seed)
    signatures = random.integers(0, 2**32, (250, minhash.PLACES), np.uint32)
    for row in range(5, 250):
        signatures[row] = signatures[random.integers(row)]
        places = random.integers(0, minhash.PLACES, random.integers(0, 14))
        signatures[row, places] = random.integers(0, 2**32, len(places))
    share = (signatures[:, None] == signatures[None]).mean(axis=2)
    expected = plainly(250, lambda one, other: share[one, other] >= 0.8)
    assert (earliest_text(signatures, 0.8) == expected).all()
    near_to_one_left_out = (np.tril(share >= 0.8, -1) & (expected != np.arange(250))).any(axis=1)
    assert (near_to_one_left_out & (expected == np.arange(250))).sum() > 5  # likeness is not passed on
    near = near_text(signatures[150:], signatures[:150], 0.8)
    assert (near == (share[150:, :150] >= 0.8).any(axis=1)).all() and near.sum() > 0


@pytest.mark.parametrize("what", ["texts", "texts of two collections", "pictures"])
def test_many_likenesses_of_one_take_little_memory(what: str) -> None:
    """Every pair of them, in each band, was held before: over a gigabyte."""
    random = np.random.default_rng(3)
    signatures = np.tile(random.integers(0, 2**32, minhash.PLACES, np.uint32), (1000, 1))
    signatures[np.arange(1000), random.integers(0, minhash.PLACES, 1000)] = np.arange(1000)
    bits = np.uint64(1) << random.integers(0, 64, (2, 1000), np.uint64)
    tracemalloc.start()
    try:
        if what == "texts":
            found = earliest_text(signatures, 0.8) == 0
        elif what == "pictures":
            found = earliest_image(np.uint64(12345) ^ bits[0] ^ bits[1], 6) == 0
        else:
            found = near_text(signatures[:600], signatures[600:], 0.8)
        assert found.all() and tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def test_sounds_as_by_comparing_all() -> None:
    random = np.random.default_rng(2)
    prints = [random.choice([-1, 0, 1], (40, 16), p=(0.4, 0.2, 0.4)).astype(np.int8) for _ in range(12)]
    for row in range(6):
        noisy = np.where(random.random((40, 16)) < 0.02, -prints[row], prints[row])
        prints.append(np.concatenate([noisy[row % 3 :], np.zeros((row % 3, 16), np.int8)]).astype(np.int8))
    pairs = [[audio_matches([one], [other])[0] for other in prints] for one in prints]
    found = earliest_sound(prints, 0.9)
    assert (found == plainly(18, lambda one, other: pairs[other][one] >= 0.9)).all()
    assert list(found[12:]) == list(range(6))
    assert list(near_sound(prints[10:], prints[:6], 0.9)) == [False, False, *[True] * 6]
