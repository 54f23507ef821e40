"""SVGs to pictures, drawn in a process of their own that is ended when it takes too long or too much memory.

An SVG is a program: some hundred bytes of nested masks or dashes draw for hours. librsvg, which draws, reads no file
and no address that an SVG names; only the time and the memory are left to be held here.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path

from PIL import Image as pil

from commonspace.errors import ContentError
from commonspace.processing.decoding import cause

SECONDS = 10  # of processor time for one drawing
PATIENCE = 6  # times as many seconds by the clock: other processes may want the processor too
MEMORY = 2 * 1024**3  # bytes of address space of the process that draws
_CHILD = Path(__file__).with_name("svg_child.py")


def is_svg(data: bytes) -> bool:
    """Whether the bytes begin as an SVG does."""
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith((b"<?xml", b"<!--", b"<!DOCTYPE svg", b"<svg")) and b"<svg" in data[:65536]


def draw_svg(data: bytes, label: str, size: int) -> pil.Image:
    """RGBA picture of an SVG, drawn so that its longer side has `size` pixels.

    Raises ContentError that names the SVG where it is broken, or is not drawn within `SECONDS` and `MEMORY`.
    """
    if importlib.util.find_spec("pyvips") is None:
        raise ContentError(f"{label}: is an SVG, which needs pyvips; pip install 'pyvips[binary]'")
    try:
        width, height, answer = _renderer(os.getpid()).draw(data, size)
    except TimeoutError as error:
        raise ContentError(f"{label}: is an SVG that is not drawn within {SECONDS} s; simplify it") from error
    except (OSError, EOFError) as error:
        raise ContentError(
            f"{label}: cannot be drawn as SVG (drawing it failed; it may take {MEMORY >> 20} MiB); simplify it"
        ) from error
    if not width:
        said = cause(ValueError(answer.decode(errors="replace")))
        raise ContentError(f"{label}: cannot be drawn as SVG ({said}); replace the file")
    return pil.frombytes("RGBA", (width, height), answer)


class _Renderer:
    """The process that draws: started by the first drawing, anew after one that had to be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        atexit.register(self.end)

    def draw(self, data: bytes, size: int) -> tuple[int, int, bytes]:
        with self._lock:
            try:
                child = self._started()
                until = time.monotonic() + SECONDS * PATIENCE
                assert child.stdin is not None
                child.stdin.write(struct.pack(">III", size, SECONDS, len(data)) + data)
                child.stdin.flush()
                width, height, length = struct.unpack(">III", _read(child, 12, until))
                return width, height, _read(child, length, until)
            except BaseException:
                self.end()
                raise

    def end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.end()
            self._child = subprocess.Popen(
                [sys.executable, "-P", str(_CHILD), str(MEMORY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "VIPS_CONCURRENCY": "1"},
            )
        return self._child


@lru_cache
def _renderer(process: int) -> _Renderer:
    """That of this process: one which was forked must not share its parent's pipes."""
    return _Renderer()


def _read(child: subprocess.Popen[bytes], length: int, until: float) -> bytes:
    """`length` bytes of what the child says; TimeoutError where its time is over, EOFError where it ends else."""
    data = bytearray()
    assert child.stdout is not None
    waiting = select.poll()
    waiting.register(child.stdout, select.POLLIN)
    while len(data) < length:
        if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError
        block = os.read(child.stdout.fileno(), length - len(data))
        if not block:
            raise TimeoutError if child.wait() == -signal.SIGXCPU else EOFError
        data += block
    return bytes(data)
