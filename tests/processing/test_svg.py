from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil

from commonspace.errors import ContentError
from commonspace.processing import svg
from commonspace.processing.svg import draw_svg
from tests.media import picture_bytes


def drawing(inside: str, before: str = "") -> bytes:
    return f'{before}<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20">{inside}</svg>'.encode()


BLUE = '<rect width="40" height="20" fill="#00f"/>'
STEP = '<rect width="9" height="9" mask="url(#m{})"/>'
MASKS = "".join(f'<mask id="m{i}">{STEP.format(i + 1) * 2}</mask>' for i in range(30))
ENDLESS = drawing(MASKS + STEP.format(0))


def colours(data: bytes) -> list[tuple[int, ...]]:
    """What is drawn, over white."""
    layer = draw_svg(data, "a.svg", 40)
    picture = pil.new("RGBA", layer.size, (255, 255, 255, 255))
    picture.alpha_composite(layer)
    return sorted({colour for _, colour in picture.convert("RGB").getcolors()})


@pytest.mark.parametrize(
    ("inside", "before"),
    [
        ('<image href="file://{folder}/red.png" width="40" height="20"/>', ""),
        ('<image href="{folder}/red.png" width="40" height="20"/>', ""),
        ('<image href="red.png" width="40" height="20"/>', ""),
        ('<use href="file://{folder}/red.svg#r"/>', ""),
        ('<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file://{folder}/red.svg"/>', ""),
        ("<style>@import url(file://{folder}/red.css);</style>", ""),
        ("", '<?xml version="1.0"?><?xml-stylesheet href="file://{folder}/red.css"?>'),
    ],
)
def test_no_other_file_is_read(inside: str, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "red.png").write_bytes(picture_bytes(np.full((9, 9, 3), (255, 0, 0), np.uint8)))
    (tmp_path / "red.svg").write_bytes(drawing('<rect id="r" width="40" height="20" fill="red"/>'))
    (tmp_path / "red.css").write_text("rect { fill: red }")
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path)
    assert colours(drawing(BLUE + inside.format(folder=folder), before.format(folder=folder))) == [(0, 0, 255)]


def test_no_entity_is_read_from_a_file(tmp_path: Path):
    (tmp_path / "secret").write_text('<rect width="40" height="20" fill="red"/>')
    before = f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
    with pytest.raises(ContentError, match="^a.svg: cannot be drawn as SVG .*Entity 'x'"):
        colours(drawing(f"{BLUE}&x;", before))


def test_an_endless_drawing_is_ended_and_the_next_one_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(svg, "SECONDS", 1)
    with pytest.raises(ContentError, match="^a.svg: is an SVG that is not drawn within 1 s"):
        draw_svg(ENDLESS, "a.svg", 40)
    monkeypatch.undo()
    assert colours(drawing(BLUE)) == [(0, 0, 255)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    svg._renderer(os.getpid()).end()
    monkeypatch.setattr(svg, "MEMORY", 400 * 1024**2)
    with pytest.raises(ContentError, match="^a.svg: .*(cannot be drawn|400 MiB)"):
        draw_svg(drawing('<rect width="9" height="9"/>' * 200_000), "a.svg", 40)
    svg._renderer(os.getpid()).end()


def test_a_process_that_was_ended_is_started_again():
    assert colours(drawing(BLUE)) == [(0, 0, 255)]
    child = svg._renderer(os.getpid())._child
    child.kill()
    child.wait()
    assert colours(drawing(BLUE)) == [(0, 0, 255)]
