"""Every public set: its YAML is sound, and small files in its published layout become the shards they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commonspace.configuration import compose
from commonspace.content import Audio, Document, Image, Text, Video
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, DataError
from data_prep.public import hub
from data_prep.public.build import READERS, build_public
from data_prep.public.page import page
from data_prep.public.spec import all_sets, read_set, set_of
from tests.data_prep.public import published

ROOT = Path(__file__).parents[3]
NAMED = (
    "coco flickr30k docci textcaps cc3m cc12m datacomp msr_vtt vatex youcook2 audiocaps clotho vggsound codesearchnet "
    "coir miracl nq hotpotqa fever nli vidore recipe1m artcap bge pixmo_docs"
).split()
# (train, dev, held-out) of the small files, and what else was left out
EXPECTED = {
    "coco": ((2, 1, 1), {}),
    "flickr30k": ((2, 1, 1), {}),
    "docci": ((2, 1, 1), {"split qual_test": 1}),
    "textcaps": ((2, 0, 1), {}),
    "cc3m": ((4, 1, 0), {}),
    "cc12m": ((3, 0, 0), {}),
    "datacomp": ((5, 0, 0), {}),
    "artcap": ((0, 0, 2), {}),
    "recipe1m": ((1, 1, 1), {}),
    "msr_vtt": ((2, 1, 1), {}),
    "vatex": ((1, 1, 1), {}),
    "youcook2": ((2, 0, 2), {}),
    "audiocaps": ((2, 1, 1), {}),
    "clotho": ((2, 1, 1), {}),
    "vggsound": ((1, 0, 1), {}),
    "codesearchnet": ((2, 2, 2), {}),
    "coir": ((4, 0, 0), {}),
    "miracl": ((4, 0, 4), {}),
    "hotpotqa": ((3, 1, 1), {}),
    "fever": ((3, 1, 1), {}),
    "nq": ((4, 2, 0), {}),
    "nli": ((3, 1, 1), {}),
    "vidore": ((4, 2, 0), {}),
    "bge": ((3, 0, 0), {}),
    "pixmo_docs": ((4, 2, 0), {}),
}
KINDS = {
    "image_caption": (Image, Text),
    "painting": (Image, Text),
    "recipe_image": (Image, Text),
    "sound": (Audio, Text),
    "msr_vtt": (Video, Text),
    "vatex": (Video, Text),
    "youcook2": (Video, Text),
    "page": (Text, Document),
    "document_question": (Text, Document),
}


def built(name: str, tmp_path: Path, **options):
    """The manifest of a set's small files, and its records by side."""
    folder = tmp_path / "files"
    published.SETS[name](folder)
    manifest = build_public(replace(set_of(name), bytes={}), folder, tmp_path / "data", workers=1, **options)
    task = tmp_path / "data" / name / set_of(name).task
    return manifest, {path.stem: list(ShardReader(task, path.stem)) for path in task.glob("*.json")}


def test_every_set_the_project_names_is_there() -> None:
    assert sorted(all_sets()) == sorted(NAMED) == sorted(EXPECTED) == sorted(published.SETS)


@pytest.mark.parametrize("name", NAMED)
def test_its_yaml_is_sound(name: str) -> None:
    spec = set_of(name)
    READERS[spec.reader](spec, Path())  # refuses options it does not know
    assert (ROOT / f"configs/task/{spec.task}.yaml").is_file()
    assert all((spec.title, spec.licence, spec.home, spec.size, spec.download, spec.serves, spec.layout))
    first = (ROOT / f"data_prep/public/sets/{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    ways = {"image": "image", "sound": "audio", "video": "video", "page": "document"}
    query, positive = KINDS.get(spec.task, (Text, Text))
    direction = str(OmegaConf.load(ROOT / f"configs/task/{spec.task}.yaml").direction)
    assert direction == f"{query.__name__.lower()} -> {positive.__name__.lower()}" or spec.task in ways


@pytest.mark.parametrize("name", NAMED)
def test_its_published_files_become_shards(name: str, tmp_path: Path) -> None:
    manifest, records = built(name, tmp_path)
    (train, dev, heldout), drops = EXPECTED[name]
    spec = set_of(name)
    assert manifest["tasks"] == {spec.task: {"train": train, "dev": dev, "heldout": heldout}}
    assert manifest["sources"][name]["drops"] == drops
    assert {side: len(found) for side, found in records.items()} == {
        side: count for side, count in zip(("train", "dev", "heldout"), (train, dev, heldout), strict=True) if count
    }
    query, positive = KINDS.get(spec.task, (Text, Text))
    for record in (record for found in records.values() for record in found):
        assert isinstance(record.queries[0].content.parts[0], query)
        assert isinstance(record.positives[0].content.parts[0], positive)
        assert (record.task, record.source) == (spec.task, name)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [name]  # no parts are left behind


def texts(variants) -> list[str]:
    return [part.text for variant in variants for part in variant.content.parts]


def test_captions_pictures_and_languages_are_those_of_the_files(tmp_path: Path) -> None:
    _, records = built("coco", tmp_path / "coco")
    (record,) = records["heldout"]
    assert texts(record.positives) == [f"Scene 3 told {way}." for way in range(5)]
    assert record.queries[0].content.parts[0].source == published.picture(3)
    assert {variant.language for variant in record.positives} == {"en"}

    _, records = built("vatex", tmp_path / "vatex")
    languages = [variant.language for variant in records["train"][0].positives]
    assert languages == ["en"] * 10 + ["zh_CN"] and texts(records["train"][0].positives)[-1] == "一个人0。"
    assert len(records["heldout"][0].positives) == 10

    _, records = built("recipe1m", tmp_path / "recipe1m")
    assert texts(records["train"][0].positives) == [
        "Dish 0\ningredients 0 0\ningredients 0 1\ninstructions 0 0\ninstructions 0 1"
    ]


def test_negatives_come_with_the_pairs_that_have_them(tmp_path: Path) -> None:
    _, records = built("nli", tmp_path / "nli")
    assert [content.parts[0].text for content in records["dev"][0].negatives] == ["dev 0 runs."]
    _, records = built("nq", tmp_path / "nq")
    assert len(records["train"][0].negatives) == 8
    assert texts(records["train"][0].positives) == ["positive 0\ntrain text 0 0"]
    _, records = built("miracl", tmp_path / "miracl")
    question = {record.extra["published"]: record for found in records.values() for record in found}
    one = question["dev/sw/1/3#0"]
    assert texts(one.queries) == ["sw dev question 1?"] and texts(one.positives) == ["T3#0\nsw passage 3#0"]
    assert [content.parts[0].text for content in one.negatives] == ["T9#1\nsw passage 9#1"]
    assert one.positives[0].language == "sw"


def test_code_does_not_hold_its_own_documentation(tmp_path: Path) -> None:
    _, records = built("codesearchnet", tmp_path)
    for record in records["train"]:
        (doc,), (code,) = texts(record.queries), texts(record.positives)
        assert doc not in code and "return 0" in code


def test_stretches_of_a_video_become_clips_of_their_own(tmp_path: Path) -> None:
    import io

    import av

    _, records = built("youcook2", tmp_path)
    lengths = []
    for record in records["train"]:
        with av.open(io.BytesIO(record.queries[0].content.parts[0].source)) as clip:
            frames = [frame.to_ndarray(format="gray").mean() for frame in clip.decode(video=0)]
            assert clip.streams.audio
        lengths.append((len(frames), round(frames[0])))
    assert [count for count, _ in lengths] == [4, 4]  # a second each, four frames a second
    # seconds 0 and 1 of frames whose brightness is four times their number, ten a second
    assert lengths[1][1] - lengths[0][1] == pytest.approx(40, abs=6)


def test_sets_of_many_languages_do_not_say_that_they_are_english(tmp_path: Path) -> None:
    manifest, records = built("datacomp", tmp_path)
    assert manifest["sources"]["datacomp"]["languages"] == {}
    assert {record.positives[0].language for record in records["train"]} == {None}


def test_what_is_left_out_of_a_set_and_under_which_terms_it_is_are_said() -> None:
    coir, audiocaps = set_of("coir"), set_of("audiocaps")
    tasks = (
        "apps cosqa synthetic-text2sql codefeedback-st codefeedback-mt codetrans-contest codetrans-dl stackoverflow-qa"
    )
    assert [one.into for one in coir.hub] == [one.repo.split("/")[1] for one in coir.hub] == tasks.split()
    assert "left out are CodeSearchNet and CodeSearchNet-CCR" in coir.size
    assert "MIT" in audiocaps.licence and "academic purposes only" in audiocaps.licence


def test_in_domain_video_is_in_no_default_mixture() -> None:
    kept_out = {one.task for one in all_sets().values() if not one.default}
    assert kept_out == {"msr_vtt", "vatex", "youcook2"}
    users = set()
    for path in (ROOT / "configs/data").glob("*.yaml"):
        entries = OmegaConf.to_container(OmegaConf.load(path)).get("defaults", [])
        tasks = {value for entry in entries if isinstance(entry, dict) for value in entry.values()}
        users |= {path.stem} if tasks & kept_out else set()
    assert users == {"public_video", "omniembed"}  # table 6 of the paper, and a recipe of others that trains on it
    experiments = (ROOT / "configs/experiment").rglob("*.yaml")
    of_others = [path for path in experiments if "/data: omniembed" in path.read_text()]
    assert [path.parent.name for path in of_others] == ["reproduce"]


def test_the_page_is_as_the_files_say() -> None:
    assert (ROOT / "docs/public_sets.md").read_text(encoding="utf-8") == page(), "python -m data_prep.public.page"


def test_a_yaml_that_says_something_else_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "data_prep/public/sets/nli.yaml").read_text()
    for change, message in (
        (("licence:", "license:"), "unknown license"),
        (("name: nli", "name: other"), "must be the file's"),
        (("reader: pairs", "reader: zips"), "'zips' is none of"),
        (("test: heldout", "test: exam"), "'exam' is none of"),
        (("cc6c526380e29912b5c6fa03682da4daf773c013", "main"), "'main' is no commit"),
        (("home:", "# home:"), "home is missing"),
    ):
        path = tmp_path / "nli.yaml"
        path.write_text(text.replace(*change))
        with pytest.raises(DataError, match=message):
            read_set(path)
    (tmp_path / "nli.yaml").write_text(text.replace("  key:", "  kye:"))
    with pytest.raises(DataError, match="nli: read: unknown kye"):
        READERS["pairs"](read_set(tmp_path / "nli.yaml"), tmp_path)
    with pytest.raises(ConfigError, match="there is no public set 'nlli'; there are artcap"):
        set_of("nlli")


def test_the_command_builds_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commonspace.cli import overrides_of, split_command
    from commonspace.commands import COMMANDS
    from commonspace.configuration import compose
    from data_prep.cli import build_public as build_by_options

    published.nli(tmp_path / "files")
    words = ["data", "build", "public", "nli", f"folder={tmp_path / 'files'}", "limit=1", "workers=1", "name=few"]
    name, rest = split_command([*words, f"paths.data={tmp_path / 'data'}", f"paths.cache={tmp_path / 'cache'}"])
    (arguments,) = COMMANDS[name].calls(compose(COMMANDS[name].root, overrides_of(name, rest)))
    build_by_options(**arguments)
    assert len(ShardReader(tmp_path / "data/few/entailment", "train")) == 1
    monkeypatch.setattr(hub, "fetch_from_hub", lambda spec, cache: tmp_path / "files")
    build_by_options(**{**arguments, "folder": None, "name": "nli", "limit": None})
    assert len(ShardReader(tmp_path / "data/nli/entailment", "train")) == 3


def test_the_commands_of_the_page_draw_only_tasks_that_their_tiers_have() -> None:
    text = (ROOT / "docs/public_sets.md").read_text(encoding="utf-8")
    lines = text.split("```bash\n")[1].split("```")[0].replace("\\\n", " ").splitlines()
    (mixed,), (trained,) = ([line.split() for line in lines if f" {word} " in line] for word in ("mix", "train"))
    (tiers,) = (word.partition("=")[2].strip("[]").split(",") for word in mixed if word.startswith("tiers="))
    there = {all_sets()[tier].task for tier in tiers if tier != "mini"}
    there |= set(
        compose("train", ["data=finetune", "stage=finetune"]).data.tasks
    )  # every task mini has training rows of
    drawn = {name for name, task in compose("train", trained[2:]).data.tasks.items() if task.rate > 0}
    assert drawn <= there and {all_sets()[tier].task for tier in tiers if tier != "mini"} <= drawn
