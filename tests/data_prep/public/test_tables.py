"""Tables that a download left in part: judged pairs without their passages, and files that others number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commonspace.errors import DataError
from data_prep.public.build import build_public
from data_prep.public.spec import set_of
from tests.data_prep.public import published


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


def counts(name: str, files: Path, **options) -> tuple[int, ...]:
    manifest = build_public(set_of(name), files, files.parent / "data", **{"workers": 1, **options})
    return tuple(manifest["tasks"][set_of(name).task].values())


def cut(path: Path, lines: int) -> str:
    """Leave the first lines of a table; what was in it."""
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:lines]))
    return whole


@pytest.mark.parametrize("workers", [1, 2])
def test_a_split_whose_passages_are_missing_ends_the_build(files: Path, workers: int) -> None:
    published.hotpotqa(files)
    whole = cut(files / "corpus.jsonl", 4)  # d4 is the only passage of the test queries
    message = (
        r"qrels/test\.tsv: 1 of the 1 pairs that HotpotQA.* judges there lack their query or passage in corpus\.jsonl, "
        r"as q3 and d4\. Finish the download of these tables, or say missing=1 to"
    )
    with pytest.raises(DataError, match=message):
        counts("hotpotqa", files, workers=workers)
    assert not (files.parent / "data/hotpotqa").exists()
    (files / "corpus.jsonl").write_text(whole)
    assert counts("hotpotqa", files, workers=workers) == (3, 1, 1)


def test_a_tier_without_judged_pairs_is_no_tier_of_all(files: Path) -> None:
    published.hotpotqa(files)
    cut(files / "corpus.jsonl", 4)
    cut(files / "queries.jsonl", 3)
    with pytest.raises(DataError, match=r"in queries\.jsonl and corpus\.jsonl, as q3 and d4"):
        counts("hotpotqa", files)
    assert counts("hotpotqa", files, missing=1) == (3, 1, 0)
    manifest = json.loads((files.parent / "data/hotpotqa/manifest.json").read_text())
    assert manifest["sources"]["hotpotqa"]["drops"] == {"judged query or document is not in the tables": 1}
    with pytest.raises(DataError, match=r"qrels/test\.tsv: 1 of the 1 pairs"):
        counts("hotpotqa", files)


def test_parts_that_an_earlier_call_let_pass_are_asked_again(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_prep.public import build as building

    published.hotpotqa(files)
    cut(files / "corpus.jsonl", 4)
    with monkeypatch.context() as patch:
        patch.setattr(building, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            counts("hotpotqa", files, missing=1)
    with pytest.raises(DataError, match=r"qrels/test\.tsv: 1 of the 1 pairs"):
        counts("hotpotqa", files)


def test_the_share_counts_what_is_judged_right_whatever_the_limit(files: Path) -> None:
    published.miracl(files)
    path = files / "miracl-corpus-v1.0-sw/docs-1.jsonl.gz"
    rows = [{"docid": name, "title": "T", "text": f"passage {name}"} for name in ("3#0", "77#7")]
    published.put_lines(path, rows)  # without 9#0 and 9#1, which are judged irrelevant
    assert counts("miracl", files) == (4, 0, 4)
    published.put_lines(path, rows[1:])
    message = (
        r"sw-dev\.tsv: 1 of the 2 pairs .* in miracl-corpus-v1\.0-sw/docs-\*\.jsonl\.gz, as 1 and 3#0.* missing=0\.5 to"
    )
    with pytest.raises(DataError, match=message):
        counts("miracl", files, limit=1)
    assert counts("miracl", files, missing=0.5) == (4, 0, 3)


def test_files_that_say_how_many_they_are_must_all_be_there(files: Path) -> None:
    published.vidore(files)
    (files / "data/train-00000-of-00002.parquet").rename(files / "data/train-00000-of-00082.parquet")
    (files / "data/train-00001-of-00002.parquet").rename(files / "data/train-00005-of-00082.parquet")
    message = (
        r"data: 80 of the 82 files train-\*-of-00082 of .* are missing: train-00001-of-00082, train-00002-of-00082, "
        r"train-00003-of-00082, train-00004-of-00082, train-00006-of-00082, \.\.\.\. Finish the download"
    )
    with pytest.raises(DataError, match=message):
        counts("vidore", files)


def test_numbers_may_begin_at_one_and_names_go_on_behind_them(files: Path) -> None:
    published.coir(files)
    queries = files / "apps/queries"
    whole = queries / "queries-00000-of-00001.parquet"
    whole.rename(queries / "queries-00001-of-00001.parquet")
    assert counts("coir", files) == (4, 0, 0)
    (queries / "queries-00001-of-00001.parquet").rename(queries / "queries-00001-of-00002-6ab5c5eda798a0f9.parquet")
    with pytest.raises(DataError, match=r"apps/queries: 1 of the 2 files .* missing: queries-00000-of-00002\. Finish"):
        counts("coir", files)
