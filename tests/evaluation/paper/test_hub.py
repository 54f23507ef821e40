"""Tables from the hub: repositories in mteb's forms, read as root=hub reads them; the download alone is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pandas as pd
import pytest

from commonspace.configuration import compose
from commonspace.content import Image, Text, Video
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.paper import run
from commonspace.evaluation.paper.layouts import LAYOUTS
from commonspace.evaluation.paper.places import place, placed
from commonspace.evaluation.paper.pools import Pool
from commonspace.evaluation.paper.rows import pool_of, read_table
from commonspace.models.embedder import Embedder
from tests.evaluation.paper.conftest import table_of
from tests.evaluation.paper.on_hub import QUERIES, write_hub
from tests.media import numbered_frames, video_bytes

# The tasks of mteb whose data sets stand for a set of the paper's tables.
TASKS = {
    "mscoco": "MSCOCOT2IRetrieval",
    "flickr30k": "Flickr30kT2IRetrieval",
    "msrvtt": "MSRVTTT2V",
    "vatex": "VATEXT2VRetrieval.v2",
    "youcook2": "YouCook2T2VRetrieval",
    "vidore_esg": "Vidore2ESGReportsRetrieval",
    "vidore_economics": "Vidore2EconomicsReportsRetrieval",
    "vidore_biomedical": "Vidore2BioMedicalLecturesRetrieval",
    "vidore_esg_human": "Vidore2ESGReportsHLRetrieval",
}
LOCAL = ["guiec", "imagenet", "docci", "textcaps", "encyclopedic_vqa"]  # of table 1


@pytest.fixture(scope="session")
def repositories(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_hub(tmp_path_factory.mktemp("hub"))
    copytree(root / "vidore", folder / "vidore")
    return folder


@pytest.fixture
def fetched(repositories: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is fetched, as (repository, revision): copies of the small repositories, with the marks of a download."""
    import huggingface_hub

    asked: list[tuple[str, str]] = []

    def copy(repo: str, *, repo_type: str, revision: str, local_dir: Path) -> str:
        assert repo_type == "dataset"
        asked.append((repo, revision))
        copytree(repositories / repo, local_dir, dirs_exist_ok=True)
        marks = Path(local_dir) / ".cache/huggingface/download"
        marks.mkdir(parents=True, exist_ok=True)
        (marks / "README.md.metadata").write_text(f"{revision}\n0\n0\n")
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", copy)
    return asked


def hub_pool(table_name: str, name: str, cache: Path) -> Pool:
    table = table_of(table_name)
    (row,) = (one for one in table.rows if one.row == name)
    sets = placed(table, [row], "hub", {})
    return pool_of(row, sets[str(row.set)], place("hub", {}, cache), "error")


def test_copies_are_those_that_mteb_pins() -> None:
    import mteb

    pinned = {name: mteb.get_task(task).metadata.dataset for name, task in TASKS.items()}
    seen = set()
    for table in map(table_of, ("table1", "table3", "table4", "table6", "figure3")):
        for one in table.sets.values():
            if one.hub:
                assert (one.hub["repo"], one.hub["revision"]) == (
                    pinned[one.name]["path"],
                    pinned[one.name]["revision"],
                )
                seen.add(one.name)
    assert seen == set(TASKS)


@pytest.mark.parametrize(
    "table, row, queries, items, right, kinds",
    [
        ("table1", "T->I MSCOCO", 5, 3, [[0], [0, 2], [1], [2], [0, 2]], (Text, Image)),
        ("table1", "I->T MSCOCO", 3, 4, [[0, 1], [2], [3, 1]], (Image, Text)),
        ("table1", "T->I Flickr30k", 5, 3, [[0], [0, 2], [1], [2], [0, 2]], (Text, Image)),
        ("figure3", "I->T Flickr30k", 3, 4, [[0, 1], [2], [3, 1]], (Image, Text)),
        ("table6", "MSR-VTT", 3, 3, [[0], [1], [2]], (Text, Video)),
        ("table6", "VATEX", 4, 4, [[0], [1], [2], [3]], (Text, Video)),
        ("table6", "YouCook2", 2, 2, [[0], [1]], (Text, Video)),
        ("table1", "Doc ESG reports", 2, 4, [[0, 1], [2]], (Text, Image)),
    ],
)
def test_pools_are_those_of_the_copies(
    table: str, row: str, queries: int, items: int, right: list, kinds: tuple, fetched: list, tmp_path: Path
) -> None:
    asked = hub_pool(table, row, tmp_path)
    assert (len(asked.queries), len(asked.items)) == (queries, items)
    assert [list(some) for some in asked.right] == right
    assert tuple(type(side[0].parts[0]) for side in (asked.queries, asked.items)) == kinds
    assert len(fetched) == 1


def test_texts_and_media_are_those_of_the_judgements(fetched: list, repositories: Path, tmp_path: Path) -> None:
    asked = hub_pool("table1", "I->T MSCOCO", tmp_path)
    said = [[asked.items[item].parts[0].text for item in some] for some in asked.right]
    assert said == [[QUERIES["q7"], QUERIES["q9"]], [QUERIES["q2"]], [QUERIES["q5"], QUERIES["q9"]]]
    stored = pd.read_parquet(repositories / "mteb/mbeir_mscoco_task0/corpus/test-00000-of-00001.parquet")
    assert [one.parts[0].source for one in asked.queries] == [one["bytes"] for one in stored["image"]]
    clips = hub_pool("table6", "MSR-VTT", tmp_path).items
    assert [one.parts[0].source for one in clips] == [video_bytes(numbered_frames(3 + n)) for n in range(3)]
    assert not any(one.parts[0].sound for one in clips), "the row is text to video"


def test_captions_are_those_that_mteb_itself_reads(
    repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    for name in ("mteb/mbeir_mscoco_task0", "mteb/flickr30kt2i"):
        theirs = RetrievalDatasetLoader(str(repositories / name), revision=None).load()
        ours = LAYOUTS["mteb_captions"](repositories / name)
        said = dict(zip(theirs["queries"]["id"], theirs["queries"]["text"], strict=True))
        judged = {item: set() for item in theirs["corpus"]["id"]}
        for query, items in theirs["relevant_docs"].items():
            for item, score in items.items():
                judged[item] |= {said[query]} if score else set()
        assert [set(texts) for texts in ours.texts] == list(judged.values())
        assert len(ours.media) == len(theirs["corpus"])


def test_a_folder_is_read_anew_whatever_its_name_was_read_with(repositories: Path, tmp_path: Path) -> None:
    """datasets keeps what it read of a folder by its last name alone."""
    first = copytree(repositories / "mteb/MSR-VTT", tmp_path / "a/set")
    second = copytree(repositories / "mteb/VATEX_test_1k", tmp_path / "b/set")
    assert [len(LAYOUTS["mteb_pairs"](one, text="caption").media) for one in (first, second)] == [3, 4]


def config_of(table: str, folder: Path, runs: Path, *more: str) -> Any:
    options = [f"experiment=paper/{table}", f"embedder={folder}", f"paths.runs={runs}", f"paths.cache={runs}/cache"]
    return compose("evaluate_paper", [*options, "bootstrap=20", *more])


def test_a_table_runs_from_the_hub_alone(
    fetched: list, folder: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.main(config_of("table6", folder, tmp_path, "root=hub"))
    found = json.loads((tmp_path / "paper/table6/tiny.json").read_text())["rows"]
    assert {name: (one["queries"], one["pool"]) for name, one in found.items()} == {
        "MSR-VTT": (3, 3.0), "YouCook2": (2, 2.0), "VATEX": (4, 4.0)
    }  # fmt: skip
    assert found["VATEX"]["copy"] == "mteb/VATEX_test_1k@b7ec075d006c"
    run.main(config_of("table6", folder, tmp_path, f"root={root}", "name=files"))
    text = (tmp_path / "paper/table6/README.md").read_text()
    assert "- VATEX: tiny read mteb/VATEX_test_1k@b7ec075d006c\n" in text and "files read" not in text
    (line,) = (one for one in text.splitlines() if one.startswith("| VATEX |"))
    assert "| 6 / 4 | 3 / 4 |" in line, "two models, asked of different files"
    monkeypatch.setattr(Embedder, "embed", lambda *given, **options: pytest.fail("a figure was made again"))
    run.main(config_of("table6", folder, tmp_path, "root=hub"))


def test_sets_without_a_copy_are_named_or_come_from_their_folders(
    fetched: list, folder: Path, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"of table1 {', '.join(LOCAL)} lie on no hub .*folders={{guiec: FOLDER"):
        run.main(config_of("table1", folder, tmp_path, "root=hub"))
    with pytest.raises(ConfigError, match="root=hub: of table3 mseb lie on no hub"):
        run.main(config_of("table3", folder, tmp_path, "root=hub"))
    with pytest.raises(ConfigError, match="folders: coco is no set of table1; it has guiec, imagenet, mscoco"):
        run.main(config_of("table1", folder, tmp_path, "root=hub", "folders={coco: x}"))
    assert not fetched, "refused before anything is fetched"
    given = ",".join(f"{name}: {root / name}" for name in LOCAL)
    run.main(config_of("table1", folder, tmp_path, "root=hub", f"folders={{{given}}}"))
    found = json.loads((tmp_path / "paper/table1/tiny.json").read_text())["rows"]
    assert list(found) == [row.row for row in table_of("table1").rows], "every row has its figure"
    assert {repo for repo, _ in fetched} == {one.hub["repo"] for one in table_of("table1").sets.values() if one.hub}
    with pytest.raises(ConfigError, match="of table1 docci lie on no hub"):
        run.main(config_of("table1", folder, tmp_path, "root=hub", "only=['T->I DOCCI','T->I MSCOCO']"))


def test_a_folder_of_its_own_stands_before_root(folder: Path, root: Path, tmp_path: Path) -> None:
    options = (f"root={root}", "only=[MSR-VTT]")
    with pytest.raises(DataError, match="elsewhere/MSRVTT_JSFUSION_test.csv: cannot be read"):
        run.main(config_of("table6", folder, tmp_path, *options, f"folders={{msrvtt: {tmp_path}/elsewhere}}"))
    copytree(root / "msrvtt", tmp_path / "elsewhere")
    run.main(config_of("table6", folder, tmp_path, *options, f"folders={{msrvtt: {tmp_path}/elsewhere}}"))
    found = json.loads((tmp_path / "paper/table6/tiny.json").read_text())["rows"]
    assert found["MSR-VTT"]["queries"] == 3 and "copy" not in found["MSR-VTT"]


def test_a_repository_that_is_out_of_reach_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refuse(*_: Any, **__: Any) -> None:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        DataError, match="msrvtt: mteb/MSR-VTT at 4661603cee25 cannot be fetched .*folders={msrvtt: FOLD"
    ):
        hub_pool("table6", "MSR-VTT", tmp_path)


def test_copies_that_lack_something_say_what(repositories: Path, tmp_path: Path) -> None:
    captions, pairs = LAYOUTS["mteb_captions"], LAYOUTS["mteb_pairs"]
    folder = copytree(repositories / "mteb/flickr30kt2i", tmp_path / "flickr")
    with pytest.raises(DataError, match="flickr: has no column video in corpus, only id, modality, image"):
        captions(folder, kind="video")
    with pytest.raises(ConfigError, match="flickr: kind 'modality' is neither image nor video"):
        captions(folder, kind="modality")
    file = folder / "corpus/test-00000-of-00001.parquet"
    whole = pd.read_parquet(file)
    whole.iloc[:2].to_parquet(file)
    with pytest.raises(DataError, match="flickr: judges i2 and 0 more that its corpus lacks"):
        captions(folder)
    whole.assign(image=None).astype({"image": "object"}).to_parquet(file)
    with pytest.raises(DataError, match="flickr: row 0 has no image; fetch the set with its media"):
        captions(folder)
    file.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="flickr: corpus: cannot be read"):
        captions(folder)
    with pytest.raises(DataError, match="MSR-VTT: has no config queries, corpus, only default"):
        captions(copytree(repositories / "mteb/MSR-VTT", tmp_path / "MSR-VTT"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: is no data set as the hub has them"):
        captions(tmp_path / "empty")
    with pytest.raises(DataError, match="MSR-VTT: has no column sentence in its rows, only video_id, caption, video"):
        pairs(repositories / "mteb/MSR-VTT", text="sentence")
    with pytest.raises(DataError, match="MSR-VTT: its rows: cannot be read .*validation"):
        pairs(repositories / "mteb/MSR-VTT", text="caption", split="validation")


@pytest.mark.parametrize(
    "hub, message",
    [
        ({"repo": "a/b"}, "hub: needs a repo, and as revision a commit of 40"),
        ({"repo": "a/b", "revision": "main"}, "hub: needs a repo, and as revision a commit of 40"),
        ({"repo": "a/b", "revision": "0" * 40, "sha": "x"}, "hub: sha is none of repo, revision, layout, options"),
        ({"repo": "a/b", "revision": "0" * 40, "options": {}}, "hub: options go with a layout of its own"),
        ({"repo": "a/b", "revision": "0" * 40, "layout": "beir"}, "layout 'beir' is none of karpathy"),
        ({"repo": "a/b", "revision": "0" * 40, "layout": "imagenet"}, "a direction goes with captions, and imagenet"),
        ({"repo": "a/b", "revision": "0" * 40, "layout": "mteb_pairs"}, "layout mteb_pairs needs text"),
    ],
)
def test_copies_that_cannot_be_read_are_refused(hub: dict, message: str) -> None:
    sets = [{"name": "a", "layout": "docci", "folder": "a", "hub": hub}]
    with pytest.raises(ConfigError, match=message):
        read_table("t", sets, [{"row": "x", "set": "a", "direction": "text->image", "metric": "R@1"}])
