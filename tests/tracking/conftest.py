"""Small real runs, written offline by the loggers that training uses."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from commonspace.config_values import resolved
from commonspace.configuration import compose
from commonspace.errors import DataError
from commonspace.tracking.reader import find_logs, read_log


def until_written(folder: Path, seconds: float = 10) -> None:
    """Wait for every log to be whole: W&B's service may write it some milliseconds after `finish` returns."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if all(read_log(path).state == "finished" for path in find_logs(folder)):
                return
        except DataError:
            pass
        time.sleep(0.02)
    pytest.fail(f"{folder}: W&B wrote no whole log in {seconds} s")


@pytest.fixture(scope="session")
def offline_run(tmp_path_factory: pytest.TempPathFactory):
    """A function that writes one run of a few steps and returns (folder, identity, resolved config)."""

    from commonspace.tracking.identity import run_identity
    from commonspace.tracking.logger import make_loggers

    def write(folder: Path, overrides=(), steps=range(6), losses=None, finish=True):
        config = compose("train", ["experiment=tiny/pretrain", f"paths.runs={folder}", *overrides])
        plain = resolved(config)
        identity = run_identity(folder, plain)
        for logger in make_loggers(folder, plain, identity, arithmetic={"global_batch": 512}):
            for step in steps:
                logger.log_metrics(
                    {"train/loss": losses[step] if losses else 1 / (step + 1), "train/note/x": step}, step
                )
            logger.save()
            if finish and hasattr(logger.experiment, "finish"):
                logger.experiment.finish()
        if finish:
            until_written(folder)
        return folder, identity, plain

    return write
