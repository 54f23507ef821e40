"""Tiers mixed to one: what is left out and why, a split broken on purpose, an interrupted call, a full disk."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image as PILImage

from commonspace.commands import COMMANDS
from commonspace.configuration import compose
from commonspace.content import Audio, Content, Document, Image
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, DataError
from data_prep.build import build_progress
from data_prep.cli import mix as mix_by_options
from data_prep.quality import chunks, languages, signals
from data_prep.quality import mix as mixing
from data_prep.quality.languages import another, load_identifier
from data_prep.quality.mix import MixOptions, mix
from data_prep.quality.rules import Limits, Nearness
from tests.media import RATE, noise, sound_bytes

LONG = "A red fox walks along the river bank in the early morning light, slowly and alone, row "


def photo(number: int, size: int = 64, quality: int | None = None, wide: float = 1.0) -> bytes:
    """A picture of its own for each number; with `quality` the same picture encoded again."""
    values = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
    picture = PILImage.fromarray(values).resize((round(size * wide), size), PILImage.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG" if quality else "PNG", **({"quality": quality} if quality else {}))
    return buffer.getvalue()


def sentence(number: int) -> str:
    """A long sentence unlike those of other numbers."""
    words = np.random.default_rng(number).integers(0, 10**6, 12)
    return "words " + " ".join(f"w{word}" for word in words)


def melody(seed: int) -> np.ndarray:
    """A second of tones of its own for each number, float32 [samples]."""
    random = np.random.default_rng(seed)
    pitches = random.uniform(200, 3000, (8, 3)).repeat(RATE // 8, axis=0)
    return (0.1 * np.sin(2 * np.pi * np.cumsum(pitches, axis=0) / RATE).sum(axis=1)).astype(np.float32)


class Tiers:
    """Writes small tiers below one folder."""

    def __init__(self, root: Path) -> None:
        self.data, self.cache = root / "data", root / "cache"

    def tier(self, name: str, side: str, task: str, pairs: list[tuple], language: str | None = "en") -> None:
        """Add a split: pairs of contents, or of texts and bytes of pictures."""
        records = []
        for number, sides in enumerate(pairs):
            query, positive = (self.content(side) for side in sides)
            key = f"{name}-{task}-{side}-{number}"
            records.append(Record(key, task, name, key, (Variant(query),), (Variant(positive, language),)))
        self.records(name, side, task, records)

    def records(self, name: str, side: str, task: str, records: list[Record]) -> None:
        """Add a split of records."""
        licences = dict.fromkeys((record.source for record in records), "CC0")
        with ShardWriter(self.data / name / task, task, side, licences) as writer:
            for record in records:
                writer.write(record)
        path = self.data / name / "manifest.json"
        about = json.loads(path.read_text()) if path.is_file() else {"fingerprint": name, "tasks": {}, "sources": {}}
        about["sources"][name] = {"licence": "CC0", "role": "train", "tasks": {}, "drops": {}}
        path.write_text(json.dumps(about))

    @staticmethod
    def content(side) -> Content:
        if isinstance(side, Content):
            return side
        return Content(Image(side) if isinstance(side, bytes) else side)

    def mix(self, *tiers: str, output: str = "mix", **options):
        return mix(tiers, output, self.data, self.cache, MixOptions(**options), workers=1)

    def keys(self, task: str, side: str = "train", output: str = "mix") -> list[str]:
        return [record.key for record in ShardReader(self.data / output / task, side)]


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path)


def numbers(keys: list[str]) -> list[str]:
    return ["-".join((key.split("-")[0], key.split("-")[-1])) for key in keys]


def test_repeated_pairs_are_left_out_within_and_across_tiers(tiers: Tiers) -> None:
    first = [(photo(0), sentence(0)), (photo(1), sentence(1)), (photo(0), sentence(0)), (photo(0), sentence(5))]
    again = sentence(1).replace("words", "word")
    second = [(photo(1, quality=70), again), (photo(2), sentence(1)), (photo(1, quality=60), sentence(9))]
    tiers.tier("one", "train", "image_caption", first)
    tiers.tier("two", "train", "image_caption", second)
    report = tiers.mix("one", "two")
    assert report["dropped"] == {"repeated pair": 1, "near-repeated pair": 1}
    assert numbers(tiers.keys("image_caption")) == ["one-0", "one-1", "one-3", "two-1", "two-2"]
    report = tiers.mix("one", "two", duplicates="medium")
    assert report["dropped"] == {"repeated medium": 2, "repeated pair": 1, "near-repeated pair": 1}
    assert numbers(tiers.keys("image_caption")) == ["one-0", "one-1", "two-1"]
    report = tiers.mix("two", "one", nearness=Nearness(None, None, None))
    assert report["dropped"] == {"repeated pair": 1}  # equal bytes alone; the first tier named takes precedence
    assert numbers(tiers.keys("image_caption"))[0] == "two-0"
    report = tiers.mix("one", "two", duplicates="none")
    assert report["dropped"] == {"repeated pair": 1}


def test_texts_and_sounds_repeat_too(tiers: Tiers) -> None:
    voices = [melody(seed) for seed in (1, 2)]
    rows = [
        (Content(Audio(sound_bytes(voices[0]))), "a short name"),
        (Content(Audio(sound_bytes(voices[0] * 0.5, format="FLAC"))), "A  short NAME"),
        (Content(Audio(sound_bytes(voices[1]))), "a short name"),
    ]
    tiers.tier("one", "train", "sound", rows)
    tiers.tier("one", "train", "question", [(sentence(1), sentence(2)), (sentence(1) + ".", sentence(2) + " ")])
    report = tiers.mix("one")
    assert report["dropped"] == {"near-repeated pair": 2}
    assert numbers(tiers.keys("sound")) == ["one-0", "one-2"] and numbers(tiers.keys("question")) == ["one-0"]


def test_unfit_rows_are_left_out_by_each_limit(tiers: Tiers) -> None:
    pairs = [
        (photo(0), "a caption that is fine"),
        (photo(1), "hm"),
        (photo(2), "x" * 300),
        (photo(3, size=20), "a small picture"),
        (photo(4, wide=6.0), "a banner"),
        (photo(5), "подпись не по-английски"),
        (b"GIF89a broken", "a picture that cannot be read"),
    ]
    tiers.tier("one", "train", "image_caption", pairs)
    limits = Limits(characters=(3, 200), least_side=32, aspect=4.0, scripts=None)
    assert tiers.mix("one", limits=limits)["dropped"] == {
        "text over 200 characters": 1,
        "text not in a script of its language": 1,
        "text below 3 characters": 1,
        "picture longer than 4.0 to 1": 1,
        "picture below 32 pixels": 1,
        "a medium cannot be read": 1,
    }
    assert numbers(tiers.keys("image_caption")) == ["one-0"]
    limits = Limits(scripts=("CYRILLIC",), language_script=False)
    assert tiers.mix("one", limits=limits)["dropped"] == {"other script": 5, "a medium cannot be read": 1}
    seconds = [(Content(Audio(sound_bytes(noise(length, seed=9)))), f"{length} s") for length in (0.2, 1.0, 3.0)]
    tiers.tier("two", "train", "sound", seconds)
    report = tiers.mix("two", limits=Limits(seconds=(0.5, 2.0)))
    assert report["dropped"] == {"sound over 2.0 s": 1, "sound below 0.5 s": 1}


def broken_split(tiers: Tiers) -> dict[str, str]:
    """A training set into which what is evaluated has slipped in every way; {number of the row: rule}."""
    voice = melody(4)
    tiers.tier("ours", "heldout", "image_caption", [(photo(100), "a lone fox"), (photo(101), LONG + "one.")])
    tiers.tier("ours", "dev", "sound", [(Content(Audio(sound_bytes(voice))), "a hiss")])
    tiers.tier("ours", "heldout", "question", [(sentence(200), sentence(201))])
    again = sound_bytes(voice * 0.7, format="FLAC")
    rows = [
        (photo(1), "a lone fox"),  # a short text that many have: no leak
        (photo(100), "a lone fox"),
        (photo(100), "another caption"),
        (photo(100, quality=80), "encoded again"),
        (Content(Document(Image(photo(101, quality=75)))), "a page that is a picture"),
        (photo(2), LONG.upper() + "ONE."),
        (photo(3), LONG + "one so."),
        (Content(Audio(again)), "a sound encoded again"),
        (sentence(201), sentence(200)),
        (photo(4), sentence(4)),
    ]
    tiers.tier("theirs", "train", "image_caption", rows)
    rules = "same pair,same medium,near picture,near picture,same text,near text,near sound,same pair".split(",")
    return {f"theirs-{number}": rule for number, rule in enumerate(rules, start=1)}


STATED = [  # language, text, whether it stays
    ("da", "The harbour was quiet, and the fishermen had gone home before the storm came in from the sea.", False),
    ("da", "Havnen var stille, og fiskerne var gået hjem, før stormen kom ind fra havet den aften.", True),
    ("fr", "Der Hafen war still, und die Fischer waren nach Hause gegangen, bevor der Sturm vom Meer kam.", False),
    ("de", "Der Hafen war still, und die Fischer waren nach Hause gegangen, bevor der Sturm vom Meer kam.", True),
    ("nb", "Havna var stille, og fiskarane hadde gått heim før stormen kom inn frå havet den kvelden.", True),
    ("sr@latin", "Luka je bila mirna, a ribari su otišli kući prije nego što je oluja došla s mora.", True),
    ("pt_BR", "O porto estava calmo e os pescadores tinham ido para casa antes de a tempestade chegar do mar.", True),
    (
        "zh_CN",
        "港口很安静，在暴风雨从海上来临之前，渔民们已经回家了，街上没有人，只有一只狐狸沿着河岸慢慢地走着。",
        True,
    ),
    ("da", "The harbour.", True),
    ("tlh", "The harbour was quiet, and the fishermen had gone home before the storm came in from the sea.", True),
    (None, "The harbour was quiet, and the fishermen had gone home before the storm came in from the sea.", True),
]


def test_a_text_in_another_language_than_stated_is_left_out(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (language, text, _) in enumerate(STATED):
        tiers.tier("one", "train", f"task{number:02d}", [(photo(number), text), (photo(50 + number), "x")], language)
    limits = Limits(language=(0.9, 30), language_script=False)  # of which the filler "x" knows nothing
    report = tiers.mix("one", limits=limits)
    kept = ["one-0" in numbers(tiers.keys(f"task{number:02d}")) for number in range(len(STATED))]
    assert kept == [stays for _, _, stays in STATED]
    assert report["dropped"] == {"text in another language than stated": 2}
    identifier = load_identifier()
    shares = [another(Content(text), code, identifier)[1] for code, text, stays in STATED if not stays and code]
    between = replace(limits, language=(sum(shares) / 2, 30))
    assert 0.9 < min(shares) < max(shares) and sum(tiers.mix("one", limits=between)["dropped"].values()) == 1
    assert tiers.mix("one", limits=replace(limits, language=(0.9, 200)))["dropped"] == {}
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    assert tiers.mix("one", limits=replace(limits, language=None))["dropped"] == {}
    with pytest.raises(ConfigError, match=r"limits.language: needs py3langid; pip install 'commonspace\[quality\]'"):
        tiers.mix("one", limits=limits)


def test_languages_are_identified_by_several_processes(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the chunks that one process writes."""
    monkeypatch.setattr(chunks, "ROWS", 3)
    tiers.tier("one", "train", "question", [(text, text) for _, text, _ in STATED], "da")
    split = mixing.splits_of(tiers.data / "one", "one")
    plain = languages.identify(split, tiers.cache / "plain", 1, build_progress())
    started = []
    pool = chunks.ProcessPoolExecutor
    monkeypatch.setattr(
        chunks, "ProcessPoolExecutor", lambda *args, **more: started.append(args) or pool(*args, **more)
    )
    several = languages.identify(split, tiers.cache / "several", 2, build_progress())
    assert several[0].equals(plain[0]) and len(several[0]) == len(STATED) and started == [(2,)]
    assert "en" in several[0].column("positive_other").to_pylist()


def test_what_is_evaluated_is_found_in_training_and_left_out(tiers: Tiers) -> None:
    expected = broken_split(tiers)
    report = tiers.mix("theirs", against=("ours",))
    found = {"-".join((one["tier"], one["key"].split("-")[-1])): one["why"] for one in report["leaks"]}
    assert found == {key: f"evaluated: {rule}" for key, rule in expected.items()}
    assert numbers(tiers.keys("image_caption")) == ["theirs-0", "theirs-9"]
    assert report["evaluated_rows"] == 4
    assert not (tiers.data / "mix/sound").exists()  # of `against` nothing is taken


def test_a_split_broken_on_purpose_is_refused(tiers: Tiers) -> None:
    broken_split(tiers)
    message = "theirs/image_caption: 8 training rows hold .* .same pair 2, same medium 1, near picture 2"
    with pytest.raises(DataError, match=message):
        tiers.mix("theirs", against=("ours",), leaks="refuse")
    assert not (tiers.data / "mix").exists()
    tiers.tier("more", "train", "second", [(photo(1), "text of ours")])
    tiers.tier("ours", "heldout", "second", [(photo(1), "text of ours")])
    with pytest.raises(DataError, match=r"(?s)theirs/image_caption: 9 .*more/second: 1 .*leaks=drop leaves them out"):
        tiers.mix("theirs", "more", against=("ours",), leaks="refuse")  # every split is named, not the first alone
    tiers.mix("theirs", against=("ours",))
    tiers.mix("mix", against=("ours",), output="again", leaks="refuse")  # what was mixed is clean


def test_each_rule_is_needed_for_what_it_finds(tiers: Tiers) -> None:
    broken_split(tiers)
    report = tiers.mix("theirs", against=("ours",), nearness=Nearness(None, None, None))
    assert report["dropped"] == {"evaluated: same pair": 2, "evaluated: same text": 1, "evaluated: same medium": 1}


def test_evaluation_rows_stay_and_pairs_of_two_tiers_come_once(tiers: Tiers) -> None:
    held = [(photo(1), "x"), (photo(1, quality=90), "x")]
    tiers.tier("one", "heldout", "image_caption", held)
    tiers.tier("one", "train", "image_caption", [(photo(5), "yes")])
    tiers.tier("two", "heldout", "image_caption", [(photo(1), "x"), (photo(2), "hm")])
    report = tiers.mix("one", "two", limits=Limits(characters=(2, 9)))
    assert report["tasks"] == {"image_caption": {"train": 1, "dev": 0, "heldout": 3}}
    assert numbers(tiers.keys("image_caption", "heldout")) == ["one-0", "one-1", "two-1"]


def test_the_mixture_reads_like_a_built_tier(tiers: Tiers) -> None:
    tiers.tier("one", "train", "image_caption", [(photo(n), sentence(n)) for n in range(3)])
    tiers.tier("two", "train", "image_caption", [(photo(n), sentence(n)) for n in range(2, 5)], language="de")
    tiers.mix("one", "two")
    reader = ShardReader(tiers.data / "mix/image_caption", "train")
    reader.verify()
    assert [reader.read(row).key for row in range(len(reader))] == list(reader.column("key"))
    assert reader.licences == {"one": "CC0", "two": "CC0"} and len(reader) == 5
    source = ShardReader(tiers.data / "one/image_caption", "train")
    paths = [reader.folder / "train-00000.tar", source.folder / "train-00000.tar"]
    assert paths[0].samefile(paths[1])  # linked, not copied
    card = (tiers.data / "mix/README.md").read_text()
    assert "| two | CC0 | train | 2 | 1 |" in card and "en 3, de 2" in card
    manifest = json.loads((tiers.data / "mix/manifest.json").read_text())
    assert manifest["tasks"] == {"image_caption": {"train": 5, "dev": 0, "heldout": 0}}


def test_rows_are_measured_once_and_an_interrupted_call_goes_on(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS", 2)
    tiers.tier("one", "train", "image_caption", [(photo(n), sentence(n)) for n in range(7)])
    real, starts = signals.measure_chunk, []

    def measure(split, start, stop, path):
        starts.append(start)
        if len(starts) == 3:
            raise KeyboardInterrupt
        real(split, start, stop, path)

    monkeypatch.setattr(signals, "measure_chunk", measure)
    with pytest.raises(KeyboardInterrupt):
        tiers.mix("one")
    assert not (tiers.data / "mix").exists()
    tiers.mix("one")
    assert starts == [0, 2, 4, 4, 6]
    tiers.mix("one", duplicates="medium")
    assert len(starts) == 5 and not list(tiers.cache.rglob("*.partial"))


def test_a_full_disk_leaves_the_old_mixture(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    from commonspace.data import shard_join

    tiers.tier("one", "train", "image_caption", [(photo(n), sentence(n)) for n in range(3)])
    tiers.mix("one")
    before = (tiers.data / "mix/manifest.json").read_bytes()

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shard_join.pq, "write_table", full)
    with pytest.raises(DataError, match="mix-building/image_caption/train: cannot be written .No space left"):
        tiers.mix("one")
    assert (tiers.data / "mix/manifest.json").read_bytes() == before
    assert sorted(path.name for path in tiers.data.iterdir()) == ["mix", "one"]


def plain(**changes) -> dict:
    """The options of the command, as its YAML gives them."""
    command: Callable = COMMANDS["data mix"].calls
    config = compose("data_mix", ["tiers=[one]", "output=mix"])
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return command(config)[0]


def test_the_command_does_what_its_options_say(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers.tier("one", "train", "image_caption", [(photo(0), "hm"), (photo(1), sentence(1))])
    places = {"data": tiers.data, "cache": tiers.cache}
    assert mix_by_options(**plain(limits__characters=[3, 200]) | places)["dropped"] == {"text below 3 characters": 1}
    assert compose("data_mix", ["tiers=[one]", "output=mix", "near.sound=null"]).near.sound is None
    monkeypatch.setattr(signals, "measure_chunk", lambda *_: pytest.fail("measured before it was refused"))
    shutil.rmtree(tiers.cache)
    for changes, message in (
        ({"limits__characters": [9, 3]}, "limits.characters: .9, 3. is no"),
        ({"limits__language": [90, 40]}, "limits.language: .90, 40. is no .probability, letters."),
        ({"limits__language": [0.9]}, "limits.language: .0.9. is no"),
        ({"duplicates": "all"}, "duplicates: 'all' is none of pair, medium, none"),
        ({"leaks": "show"}, "leaks: 'show' is none of drop, refuse"),
        ({"near__image": 65}, "near.image: 65 is no whole number from 0 to 32"),
        ({"near__image": 6.5}, "near.image: 6.5 is no whole number from 0 to 32"),
        ({"near__text": True}, "near.text: True is no number from 0 to 1"),
        ({"limits__characters": ["few", "many"]}, "limits.characters: .'few', 'many'. is no"),
        ({"limits__least_side": "32px"}, "limits.least_side: '32px' is no number of 1 or more"),
        ({"limits__aspect": 0.5}, "limits.aspect: 0.5 is no number of 1 or more"),
        ({"limits__scripts": ["LATIN", "CYRILIC"]}, "limits.scripts: no letter is of 'CYRILIC'.* CYRILLIC"),
        ({"limits__scripts": "LATIN"}, "limits.scripts: 'LATIN' is no list"),
        ({"limits__language_script": "maybe"}, "limits.language_script: 'maybe' is neither"),
        ({"agreement__model": "x", "agreement__least": 90}, "agreement.least: 90 is no number from -1 to 1"),
        ({"agreement__model": "nowhere"}, "agreement.model: nowhere/config.json: cannot be read"),
        ({"agreement__batch_tokens": 0}, "batch_tokens: 0 is no whole number"),
        ({"least_characters": 2.5}, "least_characters: 2.5 is no whole number"),
        ({"likeness__least": 0.9}, "likeness.least: has no effect without likeness.model"),
        ({"likeness__model": "x"}, "likeness.least: None is no cosine"),
        ({"likeness__model": "nowhere", "likeness__least": 0.9}, "likeness.model: nowhere/config.json: cannot be read"),
        ({"agreement__least": 0.2}, "need a model that scores"),
        ({"agreement__tasks": ["image_caption"], "agreement__model": "x"}, "no effect without agreement.least"),
        ({"agreement__tasks": ["sound"], "agreement__model": "x", "agreement__least": 0.1}, "no tier has sound"),
        ({"tiers": ["one", "one"]}, "each once"),
        ({"output": "one"}, "is one of the tiers"),
        ({"tiers": ["none"]}, "holds no manifest.json"),
    ):
        with pytest.raises(ConfigError, match=message):
            mix_by_options(**plain(**changes) | places)


def test_a_mixture_without_training_rows_is_refused(tiers: Tiers) -> None:
    tiers.tier("one", "train", "image_caption", [(photo(0), "hm")])
    with pytest.raises(DataError, match="no training row is left; left out were .'text below 3 characters': 1"):
        tiers.mix("one", limits=Limits(characters=(3, 9)))
    assert not (tiers.data / "mix").exists()
