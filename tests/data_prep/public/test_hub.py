"""Sets from the hub: which commit is asked for, and that a download is whole before anything is built of it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from huggingface_hub.hf_api import RepoFile, RepoFolder

from commonspace.errors import DataError
from data_prep.public.hub import fetch_from_hub
from data_prep.public.spec import set_of

FILES = {f"triplet/{name}-00000-of-00001.parquet": 10 * (n + 1) for n, name in enumerate(("train", "dev", "test"))}


class FakeHub:
    """The hub, as long as `online`; a download ends after `most` files, as one that is interrupted does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        self.online, self.most, self.asked, self.listed = True, 100, [], []
        self.files = {**FILES, "pair/train-00000-of-00001.parquet": 7, "README.md": 1}
        self.download = inspect.signature(huggingface_hub.snapshot_download)
        self.tree = inspect.signature(huggingface_hub.HfApi.list_repo_tree)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", self.list_repo_tree)

    def list_repo_tree(self, *args, **options):
        self.listed.append(self.tree.bind(None, *args, **options).arguments)
        if not self.online:
            raise RuntimeError("no network")  # of the client's HTTP library, whose errors are no OSError
        return [
            RepoFolder(path="triplet", oid="0"),
            *(RepoFile(path=p, size=s, oid="0") for p, s in self.files.items()),
        ]

    def snapshot_download(self, *args, **options):
        call = self.download.bind(*args, **options).arguments
        self.asked.append(call)
        for name in list(FILES)[: self.most] if self.online else ():  # without a network it warns, and returns
            path = Path(call["local_dir"]) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(self.files[name]))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(monkeypatch)


def test_pinned_commits_are_asked_for(tmp_path: Path, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.public.hub._check_whole", lambda *_: None)
    fake.files = {"qrels/train-00000-of-00001.parquet": 1, **dict.fromkeys(FILES, 1)}
    assert fetch_from_hub(set_of("coir"), tmp_path) == tmp_path / "public/coir"
    assert [call["repo_id"] for call in fake.asked][:2] == ["CoIR-Retrieval/apps", "CoIR-Retrieval/cosqa"]
    assert {call["local_dir"].name for call in fake.asked} >= {"apps", "cosqa"}
    for call in (*fake.asked, *fake.listed):
        assert len(call["revision"]) == 40 and call["repo_type"] == "dataset"


def test_what_is_not_on_the_hub_or_out_of_reach_is_said(tmp_path: Path, fake: FakeHub) -> None:
    with pytest.raises(DataError, match="coco: not on the hub as published. Give folder=FOLDER, with\n  dataset_coco"):
        fetch_from_hub(set_of("coco"), tmp_path)
    fake.online = False
    with pytest.raises(DataError, match="sentence-transformers/all-nli at cc6c526380e2 cannot be fetched .no network."):
        fetch_from_hub(set_of("nli"), tmp_path)
    fake.online, fake.files = True, {"README.md": 1}
    with pytest.raises(DataError, match="all-nli at cc6c526380e2: has none of the files that `hub`"):
        fetch_from_hub(set_of("nli"), tmp_path)


def test_an_interrupted_download_is_refused_without_a_network_and_gone_on_with(tmp_path: Path, fake: FakeHub) -> None:
    fake.most = 1
    message = (
        r"all-nli at cc6c526380e2: 2 of 3 files are missing in .*nli or cut short, as triplet/dev-.*: the download"
    )
    for fake.online in (True, False):
        with pytest.raises(DataError, match=message):
            fetch_from_hub(set_of("nli"), tmp_path)
    fake.most, fake.online = 100, True
    folder = fetch_from_hub(set_of("nli"), tmp_path)
    assert sorted(path.name for path in folder.glob("triplet/*")) == sorted(Path(name).name for name in FILES)


def test_files_of_a_folder_that_was_never_listed_are_not_taken_for_all(tmp_path: Path, fake: FakeHub) -> None:
    path = tmp_path / "public/nli/triplet/train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    fake.online = False
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch_from_hub(set_of("nli"), tmp_path)


def test_a_whole_download_needs_no_network(tmp_path: Path, fake: FakeHub) -> None:
    folder = fetch_from_hub(set_of("nli"), tmp_path)
    fake.online, asked = False, len(fake.asked)
    assert fetch_from_hub(set_of("nli"), tmp_path) == folder and len(fake.asked) == asked
    (folder / "triplet/dev-00000-of-00001.parquet").write_bytes(b"cut")
    with pytest.raises(DataError, match="1 of 3 files are missing in .* or cut short, as triplet/dev-00000"):
        fetch_from_hub(set_of("nli"), tmp_path)
