"""A real cluster of two nodes on this machine, for the whole session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.slurm.jobs import ROOT, Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, and the environment in which sbatch and srun reach it."""
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) or os.geteuid() != 0:
        reason = "needs root, slurm-wlm and munge: apt-get install -y --no-install-recommends slurm-wlm munge"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; .ci/run installs them")
        pytest.skip(reason)
    folder, script = tmp_path_factory.mktemp("cluster"), str(ROOT / "slurm/cluster.sh")
    # Its input ends with this process, however that ends: no daemon stays behind a session that was killed.
    keeper = subprocess.Popen(
        ["bash", "-c", 'read -r; exec bash "$0" down "$1"', script, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        started = subprocess.run(
            ["bash", script, "up", str(folder)],
            env={**os.environ, "SLURM_FIRST_PORT": str(free_ports(3))}, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert started.returncode == 0, started.stdout + started.stderr
        settings = dict(pair.split("=", 1) for pair in started.stdout.split() if "=" in pair)
        yield Cluster({**os.environ, **settings})
    finally:
        keeper.stdin.close()
        keeper.wait(timeout=60)


def free_ports(count: int) -> int:
    """The first of so many neighbouring ports that nobody listens on: two sessions may share this machine."""
    for first in range(17817 + os.getpid() % 1000 * 8, 60000, 8):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for number, one in enumerate(sockets):
                one.bind(("127.0.0.1", first + number))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free ports")
