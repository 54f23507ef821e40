from __future__ import annotations

import struct

import pytest

from commonspace.errors import WeightsError
from commonspace.models.readers.binary import Cursor


def test_values_one_after_another():
    cursor = Cursor(struct.pack("<IhQ3f", 7, -2, 1 << 40, 1.0, 2.0, 3.0), "file")
    assert cursor.number("I") == 7 and cursor.numbers("hQ") == (-2, 1 << 40)
    assert cursor.array("<f4", 3).tolist() == [1.0, 2.0, 3.0]
    assert bytes(cursor.at(0, 4)) == b"\x07\0\0\0" and cursor.position == len(cursor.data)


def test_an_early_end_is_named():
    cursor = Cursor(b"\0" * 5, "model.bin")
    with pytest.raises(WeightsError, match="model.bin: ends at byte 5, but 8 bytes are expected at 0"):
        cursor.number("Q")
    with pytest.raises(WeightsError, match="16 bytes are expected at 100"):
        cursor.at(100, 16)
    with pytest.raises(WeightsError, match="-4 bytes"):
        cursor.take(-4)
