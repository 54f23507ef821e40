"""Who a run is: one id, made from its config and its job, the same after a restart and in every process.

The id lies in the run folder, in a file named by the config's hash. A restarted run of the same config finds it and
goes on under the same id; a changed config is another run. Under SLURM every rank computes the same id from the job's
number; elsewhere the first process to create the file decides and the others read it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from commonspace.errors import ConfigError, DataError

log = logging.getLogger(__name__)
# Where a run lies and how it is watched does not change what it computes.
UNRELATED = ("paths", "logger", "tags", "callbacks", "resume", "output", "save", "hydra")
# Nor do how many processes share it out, in which way, and how patient they are: it may go on otherwise than it began.
UNRELATED_WITHIN = {
    "data": ("stall_seconds",),
    "trainer": ("accelerator", "devices", "num_nodes", "strategy", "save_shares"),
}


@dataclass(frozen=True)
class Identity:
    """An id, what it was made from, and whether it was found on disk (a restart) or made now."""

    run_id: str
    config_hash: str
    job: str
    created: float  # seconds since 1970
    restarted: bool = False


def config_hash(config: Mapping[str, Any]) -> str:
    """16 hex digits over everything in a resolved config that changes what a run computes."""
    kept = {
        key: {name: v for name, v in value.items() if name not in UNRELATED_WITHIN[key]}
        if key in UNRELATED_WITHIN and isinstance(value, Mapping)
        else value
        for key, value in config.items()
        if key not in UNRELATED
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def run_identity(folder: str | Path, config: Mapping[str, Any], *, fresh: bool = False) -> Identity:
    """The identity of a run in its folder; with `fresh` an earlier one of the same config is put aside, unless it is
    this job's own, which SLURM has put back into its queue.

    Safe to call from every process of a run; with `fresh` where the first is there first. Raises DataError where the
    file on disk is damaged.
    """
    folder, digest = Path(folder), config_hash(config)
    file = folder / f"identity-{digest}.json"
    if fresh and rank() == 0 and file.is_file() and not _is_own(_read(file)):
        file.replace(file.with_suffix(f".{time.time_ns()}.old"))
    if not file.is_file():
        job = _job()
        if earlier := len(list(folder.glob(f"{file.stem}.*.old"))):  # one job may run a config anew, again and again
            job = f"{job}-{earlier + 1}"
        made = Identity(f"{digest[:8]}-{job}", digest, job, time.time())
        if _create(file, made):
            return made
    return _read(file)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep a run's folder to this job while it trains: another with the same config would write the same checkpoints.

    The first process of several holds it, by a lock that ends with the process however that ends; on a file system
    that has none it warns. Raises ConfigError where another job has it.
    """
    if rank() != 0:
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as lock:
        try:
            fcntl.flock(
                lock, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # given back with the file, also by a process that is killed
        except BlockingIOError as error:
            raise ConfigError(
                f"{run}: another process trains this very run; wait for it, end it, or change its config, the seed say"
            ) from error
        except OSError as error:  # Lustre without flock
            log.warning("%s: cannot be locked (%s); do not start the same run twice", run, error.strerror)
        yield


def sweep_name() -> str | None:
    """What this job is part of, for W&B's group: a family of cells, which stays one group however often it is
    submitted; else hydra's multirun, or a SLURM array; None for a lone run."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.initialized():
        if family := HydraConfig.get().runtime.choices.get("ablation"):
            return f"ablation-{family}"
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return f"sweep-{Path(HydraConfig.get().sweep.dir).name}"
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"array-{array}" if array else None


def rank() -> int:
    """Rank of this process among those of its run, as launchers tell it before any process group exists."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def _job() -> str:
    """The number or name of the job that launchers tell, the same in all its processes; else one drawn by chance."""
    elastic = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # "none": torchrun was given no name
    return os.environ.get("SLURM_JOB_ID") or (elastic if elastic != "none" else secrets.token_hex(4))


def _is_own(identity: Identity) -> bool:
    """Whether an identity was made by this job of SLURM in an earlier turn."""
    turn = os.environ.get("SLURM_RESTART_COUNT", "0")
    return turn != "0" and identity.job.partition("-")[0] == os.environ.get("SLURM_JOB_ID")


def _create(file: Path, identity: Identity) -> bool:
    """Write the file whole unless another process was first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.partial")
    values = {key: value for key, value in asdict(identity).items() if key != "restarted"}
    temporary.write_text(json.dumps(values, indent=1) + "\n")
    try:
        os.link(temporary, file)  # fails if it exists: the only atomic way to create a file that is already filled
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _read(file: Path) -> Identity:
    try:
        return Identity(**json.loads(file.read_text()), restarted=True)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file}: no identity of a run ({error}); delete it to start the run anew") from error
