from __future__ import annotations

import pytest

from commonspace.errors import DataError
from data_prep.sources.hydrogen import SOURCE


def test_a_kit_gives_a_few_recordings_of_each_instrument(write, read, sound, tmp_path):
    root = "usr/share/hydrogen/data/drumkits/Kit"
    layers = "".join(f"<layer><filename>snare {n}.wav</filename></layer>" for n in range(5))
    write(
        f"{root}/drumkit.xml",
        f"<drumkit_info><instrumentList><instrument><name>Pearl Snare 1</name>{layers}</instrument>"
        "<instrument><name>Open HH</name><filename>hat.wav</filename></instrument>"
        "<instrument><name>7</name><filename>hat.wav</filename></instrument>"
        "<instrument><name>Ride</name><filename>gone.wav</filename></instrument></instrumentList></drumkit_info>",
    )
    for number in range(5):
        write(f"{root}/snare {number}.wav", sound(pitch=300 + 50 * number))
    write(f"{root}/hat.wav", sound(pitch=900))
    records, drops = read(SOURCE, root=tmp_path)
    names = [record.positives[0].content.parts[0].text for record in records["sound"]]
    assert names == ["snare drum"] * 3 + ["open hi-hat"]
    assert "snare 4.wav" in records["sound"][0].queries[0].content.parts[0].name
    assert drops == {
        "further recording of one instrument": 2,
        "sound that no name describes": 1,
        "sound that cannot be read": 1,
    }


@pytest.mark.parametrize("text", ["<drumkit_info>", '<!DOCTYPE x [<!ENTITY a "b">]><drumkit_info/>'])
def test_a_broken_kit_is_named(write, read, tmp_path, text):
    write("usr/share/hydrogen/data/drumkits/Kit/drumkit.xml", text)
    with pytest.raises(DataError, match=r"Kit.drumkit\.xml"):
        read(SOURCE, root=tmp_path)
