"""The published files of a set from the hub, at the commit its YAML pins."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from commonspace.errors import DataError
from data_prep.public.spec import Hub, PublicSet


def fetch_from_hub(spec: PublicSet, cache: Path) -> Path:
    """Download what a set's YAML names into `<cache>/public/<set>`, where an interrupted call goes on; that folder.

    A download that is whole by the names and sizes of the commit is taken as it is, without a network.

    Raises:
        DataError: the set is not on the hub as it is published, the hub cannot be reached, or files are missing or cut
            short after the download.
    """
    if not spec.hub:
        what = "\n  ".join(spec.download)
        raise DataError(f"{spec.name}: not on the hub as published. Give folder=FOLDER, with\n  {what}")
    from huggingface_hub import snapshot_download

    folder = Path(cache) / "public" / spec.name
    for hub in spec.hub:
        place, where = folder / hub.into, f"{spec.name}: {hub.repo} at {hub.revision[:12]}"
        try:
            sizes = _sizes(hub, folder)
            if _missing(place, sizes):
                snapshot_download(
                    hub.repo,
                    repo_type="dataset",
                    revision=hub.revision,
                    allow_patterns=list(hub.files),
                    local_dir=place,
                )
        except Exception as error:  # HTTP libraries, of which the hub's client has had three, raise errors of their own
            raise DataError(
                f"{where} cannot be fetched ({error}); accept its terms and log in with `hf auth login` where it asks "
                "for that, or download it elsewhere and give folder=FOLDER"
            ) from error
        _check_whole(where, place, sizes)
    return folder


def _sizes(hub: Hub, folder: Path) -> dict[str, int]:
    """The bytes of each file to be had. The commit's list is asked for once and kept in `folder`: it never changes."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import filter_repo_objects

    path = folder / f".{hub.repo.replace('/', '--')}-{hub.revision}.json"
    if not path.is_file():
        entries = HfApi().list_repo_tree(hub.repo, repo_type="dataset", revision=hub.revision, recursive=True)
        listed = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(json.dumps(listed), encoding="utf-8")
        os.replace(partial, path)
    listed = json.loads(path.read_text(encoding="utf-8"))
    return {name: listed[name] for name in filter_repo_objects(listed, allow_patterns=list(hub.files))}


def _missing(place: Path, sizes: Mapping[str, int]) -> list[str]:
    """Files that are not there with all of their bytes."""
    there = {name: place / name for name in sizes}
    return [name for name, path in there.items() if not path.is_file() or path.stat().st_size != sizes[name]]


def _check_whole(where: str, place: Path, sizes: Mapping[str, int]) -> None:
    if not sizes:
        raise DataError(f"{where}: has none of the files that `hub` in the set's YAML names; correct it")
    if missing := _missing(place, sizes):
        raise DataError(
            f"{where}: {len(missing)} of {len(sizes)} files are missing in {place} or cut short, as {missing[0]}: the "
            "download was interrupted. Give the command again where the hub can be reached"
        )
