"""A built tier as one tar file, to carry to a machine that cannot fetch, and back into a data folder there."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path

from rich.progress import Progress

from commonspace.errors import DataError
from commonspace.files import replaced, sha256_of
from data_prep.build import read_manifest
from data_prep.building import alone
from data_prep.merge import MANIFEST, replace_folder
from data_prep.unpack import Limits, unpack

_SUMS = "SHA256SUMS"
_LIMITS = Limits(members=1_000_000, member_bytes=2**40, total_bytes=2**43)  # our own tars: as large as the data is


def pack_tier(folder: Path, output: Path) -> Path:
    """Write `<data>/<tier>` to `output`, a list of sha256 sums first; two packs of the same shards are equal bytes.

    Raises:
        DataError: the tier was not built, or `output` is no .tar name or cannot be written.
    """
    folder, output = Path(folder), Path(output)
    if read_manifest(folder) is None:
        raise DataError(f"{folder}: holds no {MANIFEST}; build the tier with `commonspace data build` first")
    if output.suffix != ".tar":
        raise DataError(f"{output}: give the file a name that ends in .tar; shards do not compress further")
    files = _files(folder)
    sums = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in files).encode()
    try:
        with (
            replaced(output) as partial,
            Progress() as progress,
            tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.addfile(_member(f"{folder.name}/{_SUMS}", len(sums)), io.BytesIO(sums))
            for name in progress.track(files, description=f"pack {folder.name}"):
                with (folder / name).open("rb") as stream:
                    tar.addfile(_member(f"{folder.name}/{name}", (folder / name).stat().st_size), stream)
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror or error}); choose another place") from error
    return output


def unpack_tier(archive: Path, data: Path) -> Path:
    """Unpack what `pack_tier` wrote into `<data>/<tier>`, in place of a tier of that name, after checking every sum.

    Raises:
        DataError: the archive is missing, broken, or holds a file that is changed, missing or one too many; or another
            process builds that tier.
    """
    archive, data = Path(archive), Path(data)
    if not archive.is_file():
        raise DataError(f"{archive}: no such file; write it with `commonspace data pack` on the machine that fetched")
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=data) as scratch:
        inner = Path(scratch) / "tier"
        unpack(archive, inner, _LIMITS)
        tiers = list(inner.iterdir())
        if len(tiers) != 1 or not (tiers[0] / _SUMS).is_file():
            raise DataError(f"{archive}: not written by `commonspace data pack`; it lacks its {_SUMS}")
        _verify(archive, tiers[0])
        (tiers[0] / _SUMS).unlink()
        target = data / tiers[0].name
        with alone(target):
            replace_folder(target, tiers[0])
        shutil.rmtree(inner, ignore_errors=True)
    return target


def _verify(archive: Path, folder: Path) -> None:
    lines = (folder / _SUMS).read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {name for name in _files(folder) if name != _SUMS}
    if found != set(sums):
        odd = sorted(found ^ set(sums))[0]
        raise DataError(f"{archive}: {odd} is {'missing' if odd in sums else 'not on its list'}; copy the file again")
    for name, digest in sums.items():
        if sha256_of(folder / name) != digest:
            raise DataError(f"{archive}: {name} has another sha256 than when it was packed; copy the file again")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info
