from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.svg import MAX_BYTES, check_entities, render_svg

_SQUARE = b'<rect x="10" y="10" width="80" height="80" fill="#ff0000"/>'


def _svg(body: bytes = _SQUARE, head: bytes = b"", size: bytes = b'width="100" height="100"') -> bytes:
    return head + b'<svg xmlns="http://www.w3.org/2000/svg" ' + size + b">" + body + b"</svg>"


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(PILImage.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_a_drawing_is_rendered_on_white_and_the_page_around_it_trimmed() -> None:
    pixels = _decode(render_svg(_svg(), "square.svg", side=200))
    assert pixels.shape[0] == pixels.shape[1]
    assert 166 <= pixels.shape[0] <= 172  # 80% of 200 px, and a margin of 4 on each side
    assert pixels[0, 0].min() > 245
    red = pixels[84, 84]
    assert red[0] > 240
    assert red[1:].max() < 15


def test_a_page_in_points_is_not_cut() -> None:
    """100pt are 133 px: a rectangle that reaches to 130 px lies inside the page."""
    body = b'<rect x="2" y="2" width="20" height="20"/><rect x="110" y="110" width="20" height="20" fill="#00f"/>'
    pixels = _decode(render_svg(_svg(body, size=b'width="100pt" height="100pt"'), "points.svg", side=133))
    assert pixels[-15, -15, 2] > 200
    assert pixels[-15, -15, 0] < 60


def test_long_side_is_the_side_asked_for() -> None:
    wide = _svg(
        b'<rect width="400" height="100" fill="red"/><rect width="9" height="9"/>', size=b'width="400" height="100"'
    )
    assert _decode(render_svg(wide, "wide.svg", side=64)).shape[:2] == (16, 64)


@pytest.mark.parametrize(
    "declaration",
    [
        b'<!ENTITY a SYSTEM "file:///etc/hostname">',
        b'<!ENTITY a PUBLIC "-//x" "http://example.org/x">',
        b'<!ENTITY % a "x">',
        b'<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">',
    ],
)
def test_external_and_growing_entities_are_refused(declaration: bytes) -> None:
    head = b"<?xml version='1.0'?><!DOCTYPE svg [" + declaration + b"]>"
    with pytest.raises(DataError, match=r"bad\.svg.*entities"):
        render_svg(_svg(head=head), "bad.svg")


def test_plain_entities_of_illustrator_pass() -> None:
    head = b"<!DOCTYPE svg [<!ENTITY ns_svg \"http://www.w3.org/2000/svg\"><!ENTITY x 'y'>]>"
    check_entities(head, "illustrator.svg")
    body = b'<svg xmlns="&ns_svg;" width="50" height="50"><rect width="30" height="30" fill="red"/></svg>'
    assert _decode(render_svg(head + body, "illustrator.svg")).size


NESTED = '<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + _svg(b"&b;").decode()


@pytest.mark.parametrize(
    ("svg", "reason"),
    [
        (gzip.compress(NESTED.encode()), "compressed by gzip"),
        (NESTED.encode("utf-16"), "no utf-8 text"),
        (NESTED.encode("utf-16-be"), "no utf-8 text"),
        (f'<?xml version="1.0" encoding="utf-16"?>{NESTED}'.encode("utf-16"), "no utf-8 text"),
        (f"<?xml version='1.0' encoding = 'UTF-7'?>{NESTED}".replace("!", "+ACE-").encode(), "declares encoding utf-7"),
        (f'<?xml version="1.0" encoding="cp037"?>{NESTED}'.encode("cp037"), "no utf-8 text"),
        (f'<?xml version="1.0" encoding="iso-8859-1"?>{NESTED}'.encode(), "nested entities"),
    ],
)
def test_entities_cannot_hide_in_another_encoding(svg: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"hidden\.svg.*{reason}"):
        render_svg(svg, "hidden.svg")


@pytest.mark.parametrize("encoding", ["UTF-8", "us-ascii", "ISO-8859-1"])
def test_the_encodings_of_old_drawings_pass(encoding: str) -> None:
    note = "" if encoding == "us-ascii" else "<!-- d\u00e9j\u00e0 -->"
    svg = f'<?xml version="1.0" encoding="{encoding}"?>{note}'.encode(encoding) + _svg()
    assert _decode(render_svg(svg, "old.svg")).size
    assert _decode(render_svg(b"\xef\xbb\xbf" + _svg(), "mark.svg")).size


def test_linked_files_are_not_read(tmp_path) -> None:
    PILImage.new("RGB", (50, 50), "lime").save(tmp_path / "secret.png")
    link = f'<image href="file://{tmp_path}/secret.png" width="50" height="50"/>'.encode()
    pixels = _decode(render_svg(_svg(_SQUARE + link), "link.svg"))
    assert not ((pixels[..., 1] > 200) & (pixels[..., 0] < 60)).any()


@pytest.mark.parametrize(
    ("svg", "reason"),
    [
        (b"not a drawing", "cannot be rendered"),
        (_svg(b""), "nothing is visible"),
        (_svg(b"<rect"), "cannot be rendered"),
        (_svg(size=b'width="4000" height="2"'), "zero-sized"),
        (_svg(size=b'width="1000" height="20"'), "rendered to 256x5"),
        (_svg() + b" " * MAX_BYTES, "over the limit"),
    ],
)
def test_drawings_that_show_nothing_are_refused_by_name(svg: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"x\.svg.*{reason}"):
        render_svg(svg, "x.svg")
