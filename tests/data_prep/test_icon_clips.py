from __future__ import annotations

import io

import av
import numpy as np
import pytest

from commonspace.errors import DataError
from data_prep.icon_clips import icon_clip

BAR = '<rect width="0" height="{0}" fill="currentColor"><animate attributeName="width" dur="0.8s" values="0;{0}" \
fill="freeze"/></rect>'


@pytest.mark.parametrize("box", [24, 512])
def test_an_icon_fills_the_clip_whatever_its_units(box):
    data, seconds = icon_clip(BAR.format(box), box)
    dark = [float((f.to_ndarray(format="gray") < 128).mean()) for f in av.open(io.BytesIO(data)).decode(video=0)]
    np.testing.assert_allclose(dark, np.linspace(0, 1, 8), atol=0.03)
    assert seconds == pytest.approx(0.8)


def test_what_only_seems_to_move_is_refused():
    with pytest.raises(DataError, match="nothing moves in it"):
        icon_clip(BAR.format(24).replace("0;24", "0;0"), 24)
