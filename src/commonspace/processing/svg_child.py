"""Draws SVGs for `commonspace.processing.svg`, in a process of its own whose memory is limited.

Run as a script with that limit in bytes. On stdin requests: size, seconds of processor time and length (three
big-endian uint32), then an SVG; a drawing that takes longer ends the process by SIGXCPU.
On stdout answers: width, height and length (three), then RGBA rows; of width 0 an error's text.
"""

from __future__ import annotations

import resource
import struct
import sys
import time

import pyvips


def main() -> None:
    """Draw what comes on standard input until it ends, within as many bytes of memory as the first argument says."""
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pyvips.cache_set_max(0)  # no drawing is asked for twice
    while header := sys.stdin.buffer.read(12):
        size, seconds, length = struct.unpack(">III", header)
        data = sys.stdin.buffer.read(length)
        until = int(time.process_time()) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        try:
            width, height, answer = draw(data, size)
        except Exception as error:
            width, height, answer = 0, 0, str(error).encode()
        sys.stdout.buffer.write(struct.pack(">III", width, height, len(answer)) + answer)
        sys.stdout.buffer.flush()


def draw(data: bytes, size: int) -> tuple[int, int, bytes]:
    """Width, height and RGBA bytes of an SVG whose longer side is to have `size` pixels."""
    natural = pyvips.Image.svgload_buffer(data)
    drawn = pyvips.Image.svgload_buffer(data, scale=size / max(natural.width, natural.height))
    # A natural size is whole pixels: what is smaller than one comes out larger than asked for.
    if max(drawn.width, drawn.height) > 2 * size or drawn.bands != 4:
        raise ValueError(f"is drawn as {drawn.width} x {drawn.height} x {drawn.bands}")
    return drawn.width, drawn.height, drawn.colourspace("srgb").write_to_memory()


if __name__ == "__main__":
    main()
