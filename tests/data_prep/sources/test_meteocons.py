from __future__ import annotations

import json

import numpy as np

from data_prep.sources.meteocons import SOURCE


def test_weather_icons_move_and_their_filled_look_says_so(write, read, tmp_path, frames_of):
    bar = '<rect width="0" height="512"><animate attributeName="width" dur="1s" values="0;512" fill="freeze"/></rect>'
    icons = {"rain-day": bar, "rain-day-fill": bar, "code-red": '<rect width="9" height="9"/>'}
    write("package/icons.json", json.dumps({"icons": {name: {"body": body} for name, body in icons.items()}}))
    records, drops = read(SOURCE, root=tmp_path)
    first, second = records["video"]
    assert first.concept == second.concept == "weather rain day"
    assert second.positives[0].content.parts[0].text == "a moving weather icon, filled: rain day"
    dark = [float((frame.mean(axis=2) < 128).mean()) for frame in frames_of(first)]
    np.testing.assert_allclose(dark, np.linspace(0, 1, 8), atol=0.03)
    assert drops == {"nothing in it is animated": 1}
