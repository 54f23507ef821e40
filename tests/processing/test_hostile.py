"""Whatever the file: a finite vector, or a ContentError that names it and says why. No crash, no hang, no bomb."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.processing.hostile import files
from tests.processing.hostile_file import HostileFile
from tests.processing.run_hostile import Report

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 1500  # by the clock, for a machine that does much else; it takes about 20 s of processor time
MOST_BYTES = 60_000_000  # that one file may add to the memory for a while; the largest adds about 5 MB
MOST_SECONDS = 10  # of processor time for one file

pytestmark = pytest.mark.slow
Results = list[tuple[HostileFile, Report]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every file with what came of it, in a process of its own."""
    folder = tmp_path_factory.mktemp("failed")
    run = subprocess.run(
        [sys.executable, "-m", "tests.processing.run_hostile", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, f"ended with {run.returncode} after {lines[-1:]}; see {folder}\n{run.stderr[-3000:]}"
    reports = [Report(**json.loads(line)) for line in lines if line.startswith("{")]
    cases = list(files())
    assert [report.name for report in reports] == [case.name for case in cases], "the seed does not decide the files"
    return list(zip(cases, reports, strict=True))


def test_there_are_enough_and_all_are_different(results: Results):
    kinds = Counter(case.kind for case, _ in results)
    assert len(results) >= 400 and min(kinds.values()) >= 100, kinds
    assert len({case.name for case, _ in results}) == len(results)
    changed = Counter(report.outcome for case, report in results if case.outcome == "either")
    assert min(changed.values()) >= 30, f"{changed}: all alike, so the changes test little"


def test_each_is_taken_whole_or_refused_by_name(results: Results):
    wrong = [
        f"{case.name}: {report.outcome}, not {case.outcome}: {report.message}"
        for case, report in results
        if report.outcome not in (("taken", "refused") if case.outcome == "either" else (case.outcome,))
    ]
    assert not wrong, "\n".join(wrong)


def test_each_refusal_names_the_file_and_the_cause(results: Results):
    wrong = [
        f"{case.name}: {report.message!r} lacks the name, a cause or {case.said!r}"
        for case, report in results
        if report.outcome == "refused"
        and not (
            report.message.startswith(f"{case.name}: ")
            and case.said in report.message
            and len(report.message) > len(case.name) + 15
            and "object at 0x" not in report.message
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_time_and_memory_are_bounded(results: Results):
    slow = [f"{report.name}: {report.cpu:.1f} s" for _, report in results if report.cpu > MOST_SECONDS]
    large = [f"{report.name}: {report.peak / 1e6:.0f} MB" for _, report in results if report.peak > MOST_BYTES]
    assert not slow and not large, "\n".join([*slow, *large])
