"""A script that measures nothing, for test_measure.py."""

from __future__ import annotations

from benchmarks.measure import run


def measured(text: str) -> dict[str, str]:
    """What was given; ValueError where that is nothing."""
    if not text:
        raise ValueError("no text was given")
    return {"text": text}


if __name__ == "__main__":
    run(__doc__, print, measured)
