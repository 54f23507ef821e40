"""Runs every hostile file through the processor and a tiny model, and says on stdout what came of each.

Its own process, so that a crash, a hang and memory show: `python -m tests.processing.run_hostile FOLDER`. A file that
fails is kept in FOLDER. Before a file its name is said, after it one line of JSON (see `Report`).
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from commonspace.errors import ContentError
from commonspace.models.embedder import Embedder
from commonspace.processing import svg
from commonspace.processing.pieces import Pieces
from commonspace.processing.processor import Processor
from tests.models.tiny import tiny_embedder
from tests.processing.hostile import files
from tests.processing.hostile_file import MOST_PIXELS, HostileFile

HANG_SECONDS = 300  # by the clock, of one file: beyond it this process ends and says where it was
HEADROOM = 1_500_000_000  # bytes of address space that all files together may add
LIMITS = {"image_max_pixels": MOST_PIXELS, "max_audio_seconds": 5.0, "max_video_seconds": 20.0}


@dataclass(frozen=True)
class Report:
    """What came of one file. cpu in seconds, peak in bytes of resident memory that it added for a while."""

    name: str
    size: int
    outcome: str
    message: str
    cpu: float
    peak: int


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    svg.SECONDS, svg.PATIENCE = 1, 100
    embedder = tiny_embedder()
    numbers = replace(embedder.processor.preprocessing, **LIMITS)
    embedder.processor = Processor(numbers, embedder.processor.tokenizer)
    cases = list(files())
    for case in cases:
        if case.name in ("plain.svg", "plain.png", "PCM_16.wav", "with sound.mp4"):
            _outcome(case, embedder)  # libraries load and pools fill before memory is measured
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, used + HEADROOM))
    for case in cases:
        _run(case, embedder, Path(sys.argv[1]))


def _run(case: HostileFile, embedder: Embedder, folder: Path) -> None:
    print(case.name, flush=True)
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = _status("VmRSS"), time.process_time()
    outcome, message = _outcome(case, embedder)
    report = Report(
        case.name, len(case.data), outcome, message, time.process_time() - started, _status("VmHWM") - before
    )
    faulthandler.cancel_dump_traceback_later()
    if outcome == "failed":
        (folder / case.name.replace("/", "_")).write_bytes(case.data)
    print(json.dumps(asdict(report)), flush=True)


def _outcome(case: HostileFile, embedder: Embedder) -> tuple[str, str]:
    """What became of it ("taken", "refused" or "failed"), and what was said."""
    try:
        pieces = embedder.processor(case.content)
        _check_pieces(pieces, embedder.processor.preprocessing.image_size)
        vector = embedder.embed_pieces([pieces])
        assert vector.shape == (1, 32) and torch.isfinite(vector).all(), "no finite vector"
        torch.testing.assert_close(vector.norm(), torch.tensor(1.0), atol=1e-4, rtol=0)
    except ContentError as error:
        return "refused", str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "taken", ""


def _check_pieces(pieces: Pieces, size: int) -> None:
    """Shapes and kinds as `Piece` promises them."""
    media = [piece for piece in pieces.pieces if piece.kind in ("image", "audio")]
    assert media, "nothing came of it"
    for piece in media:
        if piece.kind == "image":
            assert piece.value.shape == (3, size, size) and piece.value.dtype == torch.uint8
        else:
            assert piece.value.shape[0] == 80 and piece.value.shape[1] % 100 == 0 and piece.value.dtype == torch.float32
            assert piece.value.shape[1] > 0 and torch.isfinite(piece.value).all()


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
