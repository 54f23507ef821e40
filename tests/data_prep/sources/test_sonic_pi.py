from __future__ import annotations

import pytest

from data_prep.sources.sonic_pi import SOURCE, sample_name


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("elec_blip2", "electronic blip"),
        ("bd_haus", "bass drum"),
        ("drum_cymbal_open", "open cymbal"),
        ("drum_bass_hard", "hard bass drum"),
        ("drum_roll", "drum roll"),
        ("tabla_te_m", "tabla stroke"),
        ("mehackit_phone1", "electronic phone"),
        ("loop_amen_full", "music loop"),
        ("loop_3d_printer", "3D printer"),
        ("unknown_thing", ""),
    ],
)
def test_samples_are_named_by_what_they_are(stem, name):
    assert sample_name(stem) == name


def test_samples_are_read_once_each(write, read, sound, tmp_path):
    root = "usr/share/sonic-pi/samples"
    for name, pitch in {"misc_burp": 300, "misc_crow": 400, "perc_bell": 400, "what_ever": 500}.items():
        write(f"{root}/{name}.flac", sound(pitch=pitch))
    write(f"{root}/elec_pop.flac", b"fLaC broken")
    records, drops = read(SOURCE, root=tmp_path)
    found = {record.concept: record.extra["category"] for record in records["sound"]}
    assert found == {"burp": "misc", "crow": "misc"}
    assert drops == {
        "sound that no name describes": 1,
        "sound that cannot be read": 1,
        "sound that repeats another one, sample for sample": 1,
    }
