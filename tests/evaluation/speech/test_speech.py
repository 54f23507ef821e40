"""Speech against transcripts on made clips: what is asked, how it is ranked, what is kept, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from commonspace.configuration import compose
from commonspace.content import Audio, Content
from commonspace.errors import ConfigError, DataError, WeightsError
from commonspace.evaluation.comparison import read_comparisons
from commonspace.evaluation.inhouse import run as tables
from commonspace.evaluation.inhouse.layout import read_tables
from commonspace.evaluation.results import Scored, read_all, read_rows
from commonspace.evaluation.results_index import PAPER_TABLES, SPEECH
from commonspace.evaluation.speech import run, transcripts
from commonspace.evaluation.speech.clips import Clip, read_clips, read_texts, spoken_form
from commonspace.evaluation.speech.forms import ASKED, CASCADE, FORMS, GOLD, NATIVE, Asking, column, compare_forms
from commonspace.evaluation.speech.questions import CROSS, DIRECTIONS, IN_ENGLISH, build_questions, name_of_question
from commonspace.evaluation.speech.transcripts import error_rate, error_rows, transcribe
from tests.evaluation.made import HashModel, picture, record, write
from tests.media import sound_bytes, tone
from tests.mining.test_pair_models import whisper
from tests.models.tiny import tiny_embedder

SCORED = Scored("m", "model")
SAID = {
    "bear": {"en": "A bear.", "fr": "Un ours.", "es": "Un oso."},
    "cat": {"en": "A cat.", "fr": "Un chat.", "es": "Un gato."},
    "puma": {"en": "A puma.", "fr": "Un puma.", "es": "¡Un puma!"},
}


def made_tier(root: Path, split: str = "heldout") -> Path:
    """A clip and a caption of every concept in every language, a stamp that is not read out, a source that is mute."""
    spoken, captions = [], []
    for name, texts in SAID.items():
        for language, text in texts.items():
            sound = Audio(sound_bytes(tone(0.3, hertz=200 + 40 * len(spoken))))
            spoken.append(record(f"{name}-{language}", "speech", name, Content(sound), (language, Content(text))))
        captions.append((name, "made", texts))
    captions += [
        ("fox", "made", {"en": "A fox.", "fr": "Un renard.", "de": "Ein Fuchs."}),
        ("owl", "other", {"en": "Owl"}),
    ]
    drawn = [
        replace(
            record(name, "image_caption", name, Content(picture(name)), *((k, Content(t)) for k, t in texts.items())),
            source=source,
        )
        for name, source, texts in captions
    ]
    write(root, "speech", spoken, split)
    write(root, "image_caption", drawn, split)
    return root


def asking(root: Path, near: dict[int, str] | None = None) -> Asking:
    clips = read_clips(root, "heldout")
    texts = read_texts(root, "heldout", clips)
    near = near or {}
    return Asking(clips, texts, build_questions(clips, texts, "heldout", near), near, 50)


def heard_right(asked: Asking) -> dict[str, str]:
    return {clip.key: clip.words for clip in asked.clips if clip.language == "en"}


class Angles:
    """Texts and sounds at angles of a circle: who ranks before whom can be told by hand."""

    def __init__(self, angles: dict[str, float], words: dict[int, str]) -> None:
        self.angles, self.words, self.tasks = angles, words, []

    def embed(self, contents: Sequence[Content], *, task=None, role=None, progress=False) -> np.ndarray:
        self.tasks.append((task, role))
        texts = [self.words.get(content.digest()) or content.parts[0].text for content in contents]
        degrees = np.radians([self.angles[text] for text in texts])
        return np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)


ANGLES = {
    "A bear.": 0, "A cat.": 40, "A puma.": 90, "A fox.": 150, "Un ours.": 5, "Un chat.": 48, "Un puma.": 85,
    "Un renard.": 170, "Un oso.": 2, "Un gato.": 33, "¡Un puma!": 95, "a bare": 4, "a hat": 12, "a tuna": 160,
}  # fmt: skip


def test_pools_are_of_one_language_and_all_its_texts(tmp_path: Path) -> None:
    asked = asking(made_tier(tmp_path))
    by_name = {one.task.name: one for one in asked.questions}
    assert list(by_name) == list(DIRECTIONS)
    counts = {name: len(one.clips) for name, one in by_name.items()}
    assert counts == dict(zip(DIRECTIONS, (3, 6, 6, 6, 4), strict=True)), "puma in French and Spanish asks neither"
    english = by_name[IN_ENGLISH].task
    assert {content.parts[0].text for content in english.gallery} == {"A bear.", "A cat.", "A puma.", "A fox."}
    assert set(by_name[CROSS].task.pools) == {3, 4} and set(by_name[CROSS].task.languages) == {"fr->es", "es->fr"}
    assert english.languages == ("en",) * 3 and not english.grouped and by_name[CROSS].task.grouped


def test_no_text_of_the_language_spoken_answers_across_languages(tmp_path: Path) -> None:
    asked = asking(made_tier(tmp_path))
    seen = 0
    for one in asked.questions:
        for query, clip_row in enumerate(one.clips):
            clip, right = asked.clips[clip_row], [asked.texts[one.texts[n]] for n in one.task.relevance.of(query)]
            assert name_of_question(clip.language, right[0].language) == one.task.name
            assert all(clip.concept in text.concepts for text in right) and len({text.language for text in right}) == 1
            if one.task.name in ASKED[GOLD]:
                pool = {t for t, g in zip(one.texts, one.task.gallery_groups, strict=True) if g == right[0].language}
                assert clip.language not in {asked.texts[row].language for row in pool}
                assert spoken_form(clip.words) not in {spoken_form(asked.texts[row].text) for row in pool}
                seen += 1
    assert seen == 16


def test_transcripts_are_ranked_as_by_hand(tmp_path: Path) -> None:
    asked = asking(made_tier(tmp_path))
    words = {clip.digest: clip.words for clip in asked.clips}
    heard = {"bear-en": "a bare", "cat-en": "a hat", "puma-en": "a tuna"}
    model = Angles(ANGLES, words)
    done = asked.evaluate(model, SCORED, FORMS, heard, "sentence similarity")

    def ranks(form: str, name: str) -> dict[str, int]:
        table = done[form].ranks
        return table[table["task"] == name].set_index("query")["rank"].to_dict()

    assert ranks(CASCADE, "speech_english") == {"bear-en:en": 1, "cat-en:en": 2, "puma-en:en": 2}
    assert ranks(CASCADE, "speech_from_english") == {
        "bear-en:fr": 1, "bear-en:es": 1, "cat-en:fr": 2, "cat-en:es": 2, "puma-en:fr": 2, "puma-en:es": 1,
    }  # fmt: skip
    assert set(ranks(NATIVE, "speech_english").values()) == {1}
    assert set(ranks(GOLD, "speech_from_english").values()) == {1}
    assert {form: set(one.ranks["task"]) for form, one in done.items()} == {
        NATIVE: set(DIRECTIONS), CASCADE: set(ASKED[CASCADE]), GOLD: set(ASKED[GOLD]),
    }  # fmt: skip
    assert {row.model for row in done[CASCADE].rows} == {column("m", CASCADE)} == {"m_cascade"}
    prompted = ("sentence similarity", "query")
    assert model.tasks == [(None, None), (None, None), prompted, prompted], "texts, sounds, transcripts, gold words"
    others = {"m_cascade": done[CASCADE], "m_gold": done[GOLD], "raw_gold": done[GOLD]}
    found = compare_forms(done[NATIVE], others, "m", 50)
    gaps = {(one.baseline, one.task): one for one in found if one.metric == "R@1"}
    assert Counter(name for name, _ in gaps) == {"m_cascade": 2, "m_gold": 3, "raw_gold": 3}
    one = gaps["m_cascade", "speech_english"]
    assert (one.model, one.first, one.second) == ("m_native", 1.0, pytest.approx(1 / 3))
    assert one.difference.value == pytest.approx(2 / 3) and one.difference.queries == 3 == one.difference.units
    assert one.p_holm >= one.difference.p


def test_a_perfect_decoder_makes_the_cascade_native_where_words_are_all_the_model_hears(tmp_path: Path) -> None:
    asked = asking(made_tier(tmp_path))
    words = {clip.digest: clip.words for clip in asked.clips}
    model = HashModel(lambda content: words.get(content.digest()) or content.parts[0].text)
    done = asked.evaluate(model, SCORED, FORMS, heard_right(asked), None)
    for form in (CASCADE, GOLD):
        own = done[form].ranks
        native = done[NATIVE].ranks[done[NATIVE].ranks["task"].isin(ASKED[form])]
        assert native.reset_index(drop=True).equals(own.reset_index(drop=True))
        assert form == CASCADE or own["rank"].max() > 1, "words of another language are found by chance alone"
    others = {column("m", form): done[form] for form in (CASCADE, GOLD)}
    assert all(one.difference.value == 0 for one in compare_forms(done[NATIVE], others, "m", 50))


def test_near_to_training_is_a_sound_its_words_or_an_answer(tmp_path: Path) -> None:
    made_tier(tmp_path)
    sounds = {clip.key: clip.digest for clip in read_clips(tmp_path, "heldout")}
    near = {sounds["cat-en"]: "audio", Content("A bear.").digest(): "text"}
    asked = asking(tmp_path, near)
    model = HashModel(lambda content: str(content.digest()))
    table = asked.evaluate(model, SCORED, (NATIVE,), {}, None)[NATIVE].ranks
    marked = table[table["near_duplicate"] != ""]
    assert set(marked[marked["near_duplicate"] == "audio"]["query"]) == {"cat-en:en", "cat-en:fr", "cat-en:es"}
    assert set(marked[marked["near_duplicate"] == "text"]["query"]) == {
        "bear-en:en", "bear-en:fr", "bear-en:es", "bear-fr:en", "bear-es:en",
    }  # fmt: skip


class Decoder:
    """Writes the length of a sound in words, and counts."""

    heard: list[Audio] = []  # noqa: RUF012
    most = 99

    def __init__(self, folder: Path, *, device: str, language: str | None) -> None:
        self.folder = folder

    def transcribe(self, sound: Audio) -> str:
        if len(self.heard) == self.most:
            raise KeyboardInterrupt
        self.heard.append(sound)
        return f"{len(sound.read_bytes())} bytes"


def test_what_was_heard_once_is_not_heard_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = read_clips(made_tier(tmp_path / "tier"), "heldout")[:4]
    folder = tmp_path / "decoder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    heard: list[Audio] = []
    for name, value in (("heard", heard), ("most", 2)):
        monkeypatch.setattr(Decoder, name, value)
    monkeypatch.setattr(transcripts, "SpeechDecoder", Decoder)
    with pytest.raises(KeyboardInterrupt):
        transcribe(clips, folder, tmp_path / "cache")
    monkeypatch.setattr(Decoder, "most", 99)
    first = transcribe(clips, folder, tmp_path / "cache")
    assert heard == [clip.sound for clip in clips], "a killed run goes on where it stopped"
    monkeypatch.setattr(transcripts, "SpeechDecoder", lambda *given, **options: pytest.fail("a decoder was loaded"))
    assert transcribe(clips, folder, tmp_path / "cache") == first and len(set(first)) == 1
    monkeypatch.setattr(transcripts, "SpeechDecoder", Decoder)
    (folder / "model.safetensors").write_bytes(b"others")
    transcribe(clips, folder, tmp_path / "cache")
    assert len(heard) == 8, "other weights hear for themselves"


def clip(words: str, source: str = "a", concept: str | None = None) -> Clip:
    return Clip(words, concept or words, source, "en", Audio(b"OggS"), words, 0)


def test_word_errors_are_counted_in_what_is_spoken() -> None:
    clips = [clip("A bear."), clip("seventh", "b"), clip("call-forward on no answer")]
    heard = ["a bear", "7th", "Call forward, on no answers!"]
    assert error_rate(clips[:1], heard[:1]) == 0
    assert error_rate(clips, heard) == pytest.approx(2 / 8)
    rows = {row.source: row for row in error_rows(clips, heard, Scored("w", "baseline"), "dev", 200)}
    assert {name: (row.value, row.queries) for name, row in rows.items()} == {
        "all": (pytest.approx(0.25), 3), "a": (pytest.approx(1 / 7), 2), "b": (pytest.approx(1.0), 1),
    }  # fmt: skip
    low, high = rows["all"].ci95
    assert low == 0 and high == pytest.approx(1.0) and rows["all"].metric == "WER" and rows["all"].split == "dev"
    assert "all" in {row.source for row in error_rows(clips[:1], heard[:1], Scored("w", "baseline"), "dev", 20)}


@pytest.mark.parametrize(
    "text, form",
    [("¡Un puma!", "un puma"), ("d'appel", "d appel"), ("ｆｏｘ—Den", "fox den"), ("मुर्गी।", "मुर्गी"), ("#", "#")],
)
def test_spoken_forms(text: str, form: str) -> None:
    assert spoken_form(text) == form


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """A tier, a model and a decoder, all small, as words of the command."""
    for split in ("dev", "heldout"):
        made_tier(tmp_path / "data/mini", split)
    tiny_embedder().save(tmp_path / "model")
    return [
        f"embedder={tmp_path / 'model'}", f"paths.data={tmp_path / 'data'}", f"paths.cache={tmp_path / 'cache'}",
        f"output={tmp_path / 'mini'}", "data.features=false", "bootstrap=20", "model.vision=null", "e5=false",
    ]  # fmt: skip


@pytest.mark.parametrize("split", ["dev", "heldout"])
def test_the_command_writes_rows_and_of_held_out_a_page(split: str, tmp_path: Path, places: list[str]) -> None:
    words = [*places, f"data.split={split}", f"decoder={whisper(tmp_path / 'listener')}"]
    run.main(compose("evaluate_speech", words))
    folder = tmp_path / "mini/speech"
    models = {"chance", "listener", "model_native", "model_cascade", "model_gold"}
    assert {row.model for row in read_all(folder)} == models and {row.split for row in read_all(folder)} == {split}
    assert {row.metric for row in read_rows(folder / "listener.jsonl")} == {"WER"}
    assert {one.baseline for one in read_comparisons(folder)} == {"model_cascade", "model_gold"}
    traced = {path.name.removesuffix(".lineage.json") for path in folder.glob("*.lineage.json")}
    assert traced == {"model_native", "model_cascade", "model_gold"}
    assert (tmp_path / "mini" / SPEECH).exists() == (folder / "speech.png").exists() == (split == "heldout")
    if split == "heldout":
        text = (tmp_path / "mini" / SPEECH).read_text()
        assert "| speech_english en->en | 3 | 4 |" in text and "| listener | all | 3 |" in text
        assert (
            "speech_english (en->en): model_native is" in text and "![Speech against transcripts](speech.png)" in text
        )


def test_another_model_leaves_the_first_ones_differences(tmp_path: Path, places: list[str]) -> None:
    words = [*places, f"decoder={whisper(tmp_path / 'listener')}"]
    for name in ("one", "two", "two"):
        run.main(compose("evaluate_speech", [*words, f"name={name}", "data.split=dev"]))
    found = [one.model for one in read_comparisons(tmp_path / "mini/speech")]
    assert sorted(found) == ["one_native"] * 10 + ["two_native"] * 10


def test_table_3_is_of_these_rows(tmp_path: Path, places: list[str]) -> None:
    run.main(compose("evaluate_speech", [*places, f"decoder={whisper(tmp_path / 'listener')}", "name=soup"]))
    out = tmp_path / "mini"
    tables.main(compose("evaluate_tables", [f"output={out}"]))
    table = (out / PAPER_TABLES).read_text().partition("## Table 3")[2].partition("## Table 4")[0]
    assert "| speech_cross_language xx->yy | MRR@10 | 2 | 3 |" in table
    assert "| soup_native - soup_gold | speech_to_english (xx->en) | MRR@10 |" in table
    assert "- e5_gold: speech_from_english en->xx, speech_to_english xx->en, speech_cross_language xx->yy" in table
    assert "soup_gold:" not in table, "in English gold words are not asked, and not missed"


def test_gold_and_cascade_are_asked_what_the_tables_expect_of_them() -> None:
    plain = compose("evaluate_tables")
    for table in read_tables(plain.models, plain.tables, "mini"):
        for one in table.columns:
            form = one.name.partition("_")[2]
            if table.folder == "speech" and form:
                assert one.answers == frozenset(ASKED.get(form, DIRECTIONS)), one.name


@pytest.mark.parametrize(
    "change, error, message",
    [
        (
            "decoder=whisper-tiny.en",
            WeightsError,
            "whisper-tiny.en: .* is not there; run `commonspace data fetch weights",
        ),
        ("decoder={folder}/encoder", WeightsError, "encoder: lacks .*decoder.* of a WhisperForConditionalGeneration"),
        ("decoder={folder}/model", ConfigError, "model: what transcribes takes Whisper's weights"),
        (
            "data.tier=full",
            DataError,
            "full/speech: no heldout split, and clips are of it; run `commonspace data build`",
        ),
        ("data.tier=french", DataError, "no clip of heldout is in English, .* but in fr; take another split or tier"),
        ("embedder={folder}/deaf", ConfigError, "deaf: has no audio tower, and clips are sounds"),
    ],
)
def test_what_cannot_be_asked_says_what_to_do(
    change: str, error: type[Exception], message: str, tmp_path: Path, places: list[str]
) -> None:
    whisper(tmp_path / "listener")
    if "encoder" in change:
        lose_decoder(whisper(tmp_path / "encoder"))
    if "french" in change:
        sound = Content(Audio(sound_bytes(tone(0.3))))
        write(tmp_path / "data/french", "speech", [record("f", "speech", "cat", sound, ("fr", Content("Un chat.")))])
    if "deaf" in change:
        tiny_embedder(towers=("image",)).save(tmp_path / "deaf")
    words = [*places, f"decoder={tmp_path / 'listener'}", change.format(folder=tmp_path)]
    with pytest.raises(error, match=message):
        run.main(compose("evaluate_speech", words))


def lose_decoder(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "decoder" not in k}, path, metadata={"format": "pt"})
