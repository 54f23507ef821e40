"""Where a table's data sets lie: below `root`, in a folder of their own, or on the hub, and in which layout they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.paper.rows import DataSet, Row, Table

HUB = "hub"


def placed(table: Table, asked: Sequence[Row], root: str, folders: Mapping[str, str]) -> dict[str, DataSet]:
    """The sets of the rows that are asked, as they are read: those of the hub in the layout that they have there.

    folders  {set: folder} of those that lie elsewhere than below root
    Raises ConfigError, before anything is fetched or read, that names every set that lies nowhere.
    """
    if unknown := sorted(set(folders) - set(table.sets)):
        raise ConfigError(f"folders: {', '.join(unknown)} is no set of {table.name}; it has {', '.join(table.sets)}")
    sets = [table.sets[name] for name in dict.fromkeys(str(row.set) for row in asked)]
    if root != HUB:
        return {one.name: replace(one, hub=None) for one in sets}
    if lacking := [one.name for one in sets if one.hub is None and one.name not in folders]:
        raise ConfigError(
            f"root=hub: of {table.name} {', '.join(lacking)} lie on no hub in a form that is read; fetch them "
            f"(docs/paper_tables.md has the layouts) and give their folders, 'folders={{{lacking[0]}: FOLDER, ...}}', "
            "or leave their rows out, only=[ROW, ...]"
        )
    return {one.name: replace(one, hub=None) if one.name in folders else one.on_hub() for one in sets}


def place(root: str, folders: Mapping[str, str], cache: Path) -> Callable[[DataSet], Path]:
    """What finds the folder of a set that is placed: its own, one below `root`, or a copy of its repository.

    Copies lie under CACHE/paper, each revision in its own folder, for files of another would be read too.
    """

    def find(data: DataSet) -> Path:
        if data.name in folders:
            return Path(folders[data.name])
        return Path(root) / data.folder if data.hub is None else _fetched(data, cache)

    return find


def _fetched(data: DataSet, cache: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    assert data.hub is not None
    repo, revision = data.hub["repo"], data.hub["revision"]
    copy = cache / "paper" / data.folder / revision[:12]
    try:
        snapshot_download(repo, repo_type="dataset", revision=revision, local_dir=copy)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(
            f"{data.name}: {repo} at {revision[:12]} cannot be fetched ({error}); accept its terms and log in with `hf "
            f"auth login` where it asks for that, or fetch it as published and give 'folders={{{data.name}: FOLDER}}'"
        ) from error
    return copy
