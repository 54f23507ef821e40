from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image as PILImage

from commonspace.content import Content, Document, Image, Video
from commonspace.data.sample import Variant
from data_prep.clips import encode_clip
from data_prep.contact_sheet import write_sheet


def sheet(path) -> PILImage.Image:
    return PILImage.open(path).convert("RGB")


def test_pictures_fill_rows_of_ten_once_each(tmp_path, row, png):
    colours = [png(f"rgb({n * 20},0,0)") for n in range(11)]
    records = [row(f"k{n}", data, "name", "c") for n, data in enumerate(colours + colours)]
    path = write_sheet(records, tmp_path / "sheet.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert sheet(path).size == (880, 176)
    assert sheet(path).getpixel((44, 130))[0] > 150 and sheet(path).getpixel((132, 130)) > (240, 240, 240)


def test_noise_stays_below_150_kilobytes(tmp_path, row):
    generator = np.random.default_rng(0)
    records = []
    for number in range(50):
        buffer = io.BytesIO()
        PILImage.fromarray(generator.integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(buffer, "PNG")
        records.append(row(f"k{number}", buffer.getvalue(), "name", "c"))
    path = write_sheet(records, tmp_path / "sheet.png")
    assert path.stat().st_size <= 150_000 and sheet(path).size == (880, 352)


def test_documents_and_clips_show_what_is_in_them(tmp_path, row, png):
    document = replace(row("d", "q", "p", "c"), positives=(Variant(Content(Document("a", Image(png("blue"))))),))
    clip = encode_clip([PILImage.new("RGB", (64, 64), (number * 30, 200, 0)) for number in range(8)], rate=8)
    video = replace(row("v", "q", "p", "c"), queries=(Variant(Content(Video(clip))),))
    picture = sheet(write_sheet([document, video], tmp_path / "sheet.png"))
    assert picture.getpixel((44, 44))[2] > 200  # the document's figure
    reds = [picture.getpixel((88 * column + 44, 44))[0] for column in range(1, 6)]
    assert reds == sorted(reds) and reds[-1] > reds[0] + 100  # the clip's frames in order


def test_broken_pictures_are_passed_over_and_no_picture_is_no_sheet(tmp_path, row, png):
    assert write_sheet([row("k", b"not a picture", "name", "c")], tmp_path / "sheet.png") is None
    assert write_sheet([row("k", "only", "texts", "c")], tmp_path / "sheet.png") is None
    assert write_sheet([row("k", b"broken", "n", "c"), row("l", png(), "n", "c")], tmp_path / "sheet.png")
