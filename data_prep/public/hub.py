"""The published files of a set from the hub, at the commit its YAML pins."""

from __future__ import annotations

from pathlib import Path

from commonspace.errors import DataError
from data_prep.public.spec import PublicSet


def fetch_from_hub(spec: PublicSet, cache: Path) -> Path:
    """Download what a set's YAML names into `<cache>/public/<set>`, where an interrupted call goes on; that folder.

    Raises:
        DataError: the set is not on the hub as it is published, or the hub cannot be reached.
    """
    if not spec.hub:
        what = "\n  ".join(spec.download)
        raise DataError(f"{spec.name}: not on the hub as published. Give folder=FOLDER, with\n  {what}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    folder = Path(cache) / "public" / spec.name
    for hub in spec.hub:
        try:
            snapshot_download(
                hub.repo,
                repo_type="dataset",
                revision=hub.revision,
                allow_patterns=list(hub.files),
                local_dir=folder / hub.into,
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise DataError(
                f"{spec.name}: {hub.repo} at {hub.revision[:12]} cannot be fetched ({error}); accept its terms and log "
                "in with `hf auth login` where it asks for that, or download it elsewhere and give folder=FOLDER"
            ) from error
    return folder
