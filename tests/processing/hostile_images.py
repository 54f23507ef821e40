"""Images and drawings as nobody should make them."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator

from PIL import Image as pil

from tests.media import picture_bytes
from tests.processing.hostile_file import HostileFile, grain


def odd_images() -> Iterator[HostileFile]:
    """Images of unusual shapes, modes and formats that are sound nevertheless."""

    def taken(name: str, data: bytes) -> HostileFile:
        return HostileFile("image", name, data, "taken")

    colour = pil.fromarray(grain())
    for width, height in ((1, 1), (1, 2), (50_000, 1), (1, 50_000), (3, 999)):
        yield taken(f"{width}x{height}.png", picture_bytes(pil.new("RGB", (width, height), (9, 99, 200))))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield taken(f"mode {mode}.png", picture_bytes(colour.convert("L").convert(mode)))
    for mode in ("CMYK", "LAB", "YCbCr", "F", "I", "I;16", "RGBA", "RGBX"):
        yield taken(f"mode {mode}.tiff", picture_bytes(pil.new(mode, (30, 20)), "TIFF"))
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd"):
        yield taken(f"{compression}.tiff", picture_bytes(colour, "TIFF", compression=compression))
    for format in ("JPEG", "WEBP", "GIF", "AVIF", "BMP", "DIB", "ICO", "JPEG2000", "PPM", "QOI", "TGA", "PCX", "SGI"):
        yield taken(f"plain.{format.lower()}", picture_bytes(colour, format))
    yield taken("cmyk.jpg", picture_bytes(pil.new("CMYK", (30, 20), (9, 99, 20, 3)), "JPEG"))
    yield taken("progressive.jpg", picture_bytes(colour, "JPEG", progressive=True))
    yield taken("wrong.jpg", picture_bytes(colour, "PNG"))
    yield taken("interlaced.gif", picture_bytes(colour, "GIF", interlace=1))
    yield taken("see-through.png", picture_bytes(colour.convert("P"), transparency=3))
    frames = [pil.new("RGB", (20, 20), (60 * i, 0, 0)) for i in range(4)]
    for format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        options = {} if format == "TIFF" else {"duration": 50}
        yield taken(
            f"moving.{format.lower()}",
            picture_bytes(frames[0], format, save_all=True, append_images=frames[1:], **options),
        )
    for orientation in (*range(10), 65_535):
        exif = pil.Exif()
        exif[0x0112] = orientation
        yield taken(f"turned {orientation}.jpg", picture_bytes(colour, "JPEG", exif=exif))
    yield taken(
        "broken exif.jpg", picture_bytes(colour, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40)
    )


def broken_images() -> Iterator[HostileFile]:
    """Images that are cut off, lie about themselves or would be huge."""

    def refused(name: str, data: bytes, said: str) -> HostileFile:
        return HostileFile("image", name, data, "refused", said)

    whole = picture_bytes(pil.fromarray(grain()))
    yield refused("nothing.png", b"", "is empty")
    for width, height in ((0, 0), (0, 5), (2**31 - 1, 2**31 - 1), (2**31, 9), (60_000, 60_000), (1_001, 1_000)):
        yield refused(f"says {width}x{height}.png", _png(width, height), "")
    for format in ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000", "QOI", "TGA"):
        data = picture_bytes(pil.fromarray(grain()), format)
        yield refused(f"half.{format.lower()}", data[: len(data) // 2], "")
        yield HostileFile("image", f"header.{format.lower()}", data[:20], "refused")
    for format in ("PNG", "GIF", "WEBP", "JPEG", "TIFF", "JPEG2000", "BMP", "PPM"):
        bomb = picture_bytes(pil.new("L", (2_000, 2_000)), format)
        yield refused(f"bomb.{format.lower()}", bomb, "2000 x 2000 = 4000000 pixels")
    yield refused("icon that holds a bomb.ico", _icon(_bomb_png()), "4000 x 4000")
    yield refused(
        "icon of a bitmap bomb.ico", _icon(struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 32, *[0] * 6)), "9000 x 9000"
    )
    yield refused("huge tiles.tiff", _tiled(), "12000 x 12000")
    yield refused("letter bomb.png", _png(9, 9, _chunk(b"zTXt", b"k\0\0" + _deflated(30_000_000))), "too large")
    yield HostileFile(
        "image", "profile bomb.png", _png(9, 9, _chunk(b"iCCP", b"k\0\0" + _deflated(30_000_000))), "either"
    )
    yield refused(
        "script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "no image format"
    )
    yield refused("no pixels.png", whole[:33] + _chunk(b"IEND", b""), "")
    yield refused("zeros.png", bytes(5_000), "")


def drawings() -> Iterator[HostileFile]:
    """SVGs that name other files, draw for ever, or are no drawing."""
    masked = b'<rect width="9" height="9" mask="url(#m%d)"/>'
    masks = [b'<mask id="m%d">%s</mask>' % (i, masked % (i + 1) * 2) for i in range(24)]
    loops = {
        "masks": b"".join(masks) + masked % 0,
        "inner bomb": b'<image width="9" height="9" href="data:image/png;base64,%s"/>'
                      % base64.b64encode(picture_bytes(pil.new("1", (16_000, 16_000)))),
    }  # fmt: skip
    for name, inside in loops.items():
        yield HostileFile("image", f"{name}.svg", _svg(inside), "refused", "")
    entities = b"".join(b'<!ENTITY e%d "%s">' % (i + 1, b"&e%d;" % i * 10) for i in range(9))
    laughs = b'<!DOCTYPE svg [<!ENTITY e0 "<g/>">%s]>' % entities + _svg(b"&e9;")
    yield HostileFile("image", "laughs.svg", laughs, "refused", "cannot be drawn")
    uses = b"".join(b'<g id="a%d">%s</g>' % (i + 1, b'<use href="#a%d"/>' % i * 10) for i in range(8))
    yield HostileFile("image", "uses.svg", _svg(b'<g id="a0"/>' + uses + b'<use href="#a8"/>'), "refused", "")
    deep = _svg(b"<g>" * 20_000 + b"</g>" * 20_000)
    yield HostileFile("image", "deep.svg", deep, "refused", "cannot be drawn")
    yield HostileFile("image", "cut off.svg", _svg(b"<rect/>")[:-9], "refused", "cannot be drawn")
    for size in (b"0", b"-5", b"nan", b"1e9", b"0.001"):
        yield HostileFile("image", f"{size.decode()} wide.svg", _svg(b"<rect/>", size), "either")
    yield HostileFile("image", "plain.svg", _svg(b'<rect width="9" height="9" fill="#00f"/>'), "taken")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _deflated(count: int) -> bytes:
    return zlib.compress(bytes(count), 9)


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    """A grey PNG by its header alone, with pixels for a few rows."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IDAT", _deflated(100)) + _chunk(b"IEND", b"")


def _bomb_png() -> bytes:
    return picture_bytes(pil.new("1", (4_000, 4_000)))


def _icon(body: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(body), 22) + body


def _tiled() -> bytes:
    """A TIFF of 9 x 9 pixels in one tile of 12,000 x 12,000."""
    body = _deflated(1_000_000)
    tags = [
        (256, 9),
        (257, 9),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, 12_000),
        (323, 12_000),
        (324, 8),
        (325, len(body)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory + bytes(4)


def _svg(inside: bytes, size: bytes = b"9") -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s">%s</svg>' % (size, size, inside)
