from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep.build import build_tier
from data_prep.pack import pack_tier, unpack_tier


@pytest.fixture
def tier(tmp_path, source_of, row, png) -> Path:
    rows = [row(f"a{n}", png(size=(9, 9 + n)), f"p{n}", f"thing {n}") for n in range(12)]
    build_tier("tiny", [source_of("one", rows)], tmp_path / "cache", tmp_path / "data", workers=1)
    return tmp_path / "data/tiny"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewritten(archive: Path, change) -> Path:
    """The archive with `change(name, data)` applied: new data, or None to leave the member out."""
    with tarfile.open(archive) as tar:
        members = [(item.name, tar.extractfile(item).read()) for item in tar if item.isfile()]
    with tarfile.open(archive, "w") as tar:
        for name, data in members:
            data = change(name, data)
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return archive


def test_there_and_back(tmp_path, tier):
    output = pack_tier(tier, tmp_path / "carry/tiny.tar")
    assert [path.name for path in output.parent.iterdir()] == ["tiny.tar"]
    back = unpack_tier(output, tmp_path / "elsewhere")
    assert back == tmp_path / "elsewhere/tiny" and files(back) == files(tier)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["tiny"]
    assert len(ShardReader(back / "image_caption", "train")) > 5


def test_two_packs_are_equal(tmp_path, tier):
    assert pack_tier(tier, tmp_path / "a.tar").read_bytes() == pack_tier(tier, tmp_path / "b.tar").read_bytes()


def test_unpacking_replaces_an_older_tier(tmp_path, tier):
    output = pack_tier(tier, tmp_path / "tiny.tar")
    (tmp_path / "elsewhere/tiny/old_task").mkdir(parents=True)
    assert files(unpack_tier(output, tmp_path / "elsewhere")) == files(tier)
    assert not (tmp_path / "elsewhere/tiny/old_task").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda name, data: data[:-1] + b"!" if name.endswith("train.json") else data, "train.json has another sha256"),
        (lambda name, data: None if name.endswith("train.parquet") else data, "train.parquet is missing"),
        (lambda name, data: None if name.endswith("SHA256SUMS") else data, "lacks its SHA256SUMS"),
    ],
)
def test_what_was_changed_on_the_way_is_named(tmp_path, tier, change, word):
    output = rewritten(pack_tier(tier, tmp_path / "tiny.tar"), change)
    with pytest.raises(DataError, match=word):
        unpack_tier(output, tmp_path / "elsewhere")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_file_that_is_not_on_the_list_is_named(tmp_path, tier):
    output = pack_tier(tier, tmp_path / "tiny.tar")
    with tarfile.open(output, "a") as tar:
        tar.addfile(tarfile.TarInfo("tiny/extra.txt"), io.BytesIO())
    with pytest.raises(DataError, match=r"extra\.txt is not on its list"):
        unpack_tier(output, tmp_path / "elsewhere")


def test_a_path_that_leaves_the_folder_is_refused(tmp_path, tier):
    output = pack_tier(tier, tmp_path / "tiny.tar")
    with tarfile.open(output, "a") as tar:
        tar.addfile(tarfile.TarInfo("tiny/../../escaped.txt"), io.BytesIO())
    with pytest.raises(DataError, match="outside its folder"):
        unpack_tier(output, tmp_path / "elsewhere")
    assert not list(tmp_path.rglob("escaped.txt"))


def test_a_truncated_pack_is_refused(tmp_path, tier):
    output = pack_tier(tier, tmp_path / "tiny.tar")
    output.write_bytes(output.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"tiny\.tar"):
        unpack_tier(output, tmp_path / "elsewhere")


def test_what_cannot_be_packed_or_found(tmp_path, tier):
    with pytest.raises(DataError, match="build the tier"):
        pack_tier(tmp_path / "nothing", tmp_path / "x.tar")
    with pytest.raises(DataError, match=r"ends in \.tar"):
        pack_tier(tier, tmp_path / "x.zip")
    with pytest.raises(DataError, match="no such file"):
        unpack_tier(tmp_path / "x.tar", tmp_path)
