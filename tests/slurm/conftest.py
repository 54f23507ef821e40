"""A real cluster of two nodes on this machine, for the whole session."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which sbatch and srun reach the cluster."""
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) or os.geteuid() != 0:
        reason = "needs root, slurm-wlm and munge: apt-get install -y --no-install-recommends slurm-wlm munge"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; .ci/run installs them")
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    started = subprocess.run(
        ["bash", str(ROOT / "slurm/cluster.sh"), "up", str(folder)], capture_output=True, text=True, timeout=180
    )
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        settings = dict(pair.split("=", 1) for pair in started.stdout.split() if "=" in pair)
        yield {**os.environ, **settings}
    finally:
        subprocess.run(["bash", str(ROOT / "slurm/cluster.sh"), "down", str(folder)], timeout=30, check=False)
