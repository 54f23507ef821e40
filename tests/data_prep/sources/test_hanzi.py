from __future__ import annotations

import bz2
import json

import numpy as np

from data_prep.sources.hanzi import SOURCE


def test_a_character_is_written_stroke_by_stroke(write, read, tmp_path, frames_of):
    readings = "# Unihan\nU+4E00\tkDefinition\tone; a, an; alone; more\nU+4E00\tkMandarin\tyī\nU+4E8C\tkMandarin\tèr\n"
    grades = "U+4E00\tkGradeLevel\t1\nU+4E8C\tkGradeLevel\t1\nU+4E09\tkGradeLevel\t6\n"
    root = "usr/share/unicode"
    write(f"{root}/Unihan_Readings.txt.bz2", bz2.compress(readings.encode()))
    write(f"{root}/Unihan_DictionaryLikeData.txt.bz2", bz2.compress(grades.encode()))
    lines = [[[100, 700], [900, 700]], [[100, 100], [900, 100]]]
    write("package/一.json", json.dumps({"medians": lines}))
    records, drops = read(SOURCE, root=tmp_path)
    [record] = records["video"]
    assert record.positives[0].content.parts[0].text == "the character 一 (yī) being written: one; a, an; alone"
    clips = frames_of(record)
    ink = [[float((half < 128).mean()) for half in np.split(frame.mean(axis=2), 2)] for frame in clips]
    upper, lower = (np.array(column) for column in zip(*ink, strict=True))
    assert len(clips) == 8 and (np.diff(upper[:4]) > 0).all() and lower[:4].max() < 0.005
    assert (np.diff(lower[3:]) > 0).all() and np.ptp(upper[3:]) < 0.01
    assert drops == {"character without a definition": 1, "character of a later school year": 1}
