"""Cross-encoders, language models and one that sees: small random models of the real classes, by plain formulas."""

from __future__ import annotations

import json
import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from commonspace.content import Audio, Content, Document, Image, Video
from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.mining.options import TeacherOptions
from commonspace.mining.pair_models import WINDOW, CrossEncoder, Generative, graded, weights_hash
from commonspace.mining.rendering import words_and_pictures
from commonspace.mining.shortening import shortened
from commonspace.mining.teachers import pair_teacher
from commonspace.mining.transcriber import Transcriber
from tests.mining.made import plain_pairs, write
from tests.models.tiny import WORDS, clip, picture, sound

TEMPLATE = (
    "{% for m in messages %}{{ m.role }} : {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}"
    "{% endif %}{% endfor %} | "
)
PAIRS = [
    (Content("a red fox"), Content("the fox runs over the snow")),
    (Content("blue bird"), Content(Document("a bird barks", "in the snow"))),
    (Content("snow"), Content("text")),
]


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<s>", "<pad>", "</s>", "<unk>", "<image>", *WORDS, "user", "yes", "no", "bad", "good", ":", "|", ".", "?"]
    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", unk_token="<unk>", eos_token="</s>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip


def tiny_text() -> dict:
    return {
        "vocab_size": len(tokenizer()), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 512, "initializer_range": 0.5, "pad_token_id": 1,
    }  # fmt: skip


def saved(folder: Path, model, processor) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    made = {
        f"cross_{labels}": saved(
            root / f"cross_{labels}",
            BertForSequenceClassification(BertConfig(**tiny_text(), num_labels=labels)),
            tokenizer(),
        )
        for labels in (1, 4)
    }
    words = tokenizer()
    words.chat_template = TEMPLATE
    made["language"] = saved(root / "language", LlamaForCausalLM(LlamaConfig(**tiny_text())), words)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16,
        initializer_range=0.5,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(**tiny_text()), image_token_index=4, image_seq_length=4
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer(), patch_size=16, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    )  # fmt: skip
    made["sees"] = saved(root / "sees", LlavaForConditionalGeneration(config), processor)
    return made


@pytest.mark.parametrize("labels", [1, 4])
def test_a_cross_encoder_scores_each_pair_as_if_alone(folders, labels: int) -> None:
    teacher = CrossEncoder(folders[f"cross_{labels}"], batch=2)
    found, words = teacher(PAIRS), tokenizer()
    texts = [("a red fox", "the fox runs over the snow"), ("blue bird", "a bird barks\nin the snow"), ("snow", "text")]
    model = BertForSequenceClassification.from_pretrained(folders[f"cross_{labels}"]).eval()
    for score, (query, target) in zip(found, texts, strict=True):
        with torch.no_grad():
            logits = model(**words(query, target, return_tensors="pt")).logits[0].tolist()
        powers = [math.exp(logit) for logit in logits]
        expected = sum(grade * power for grade, power in enumerate(powers)) / sum(powers) / max(1, labels - 1)
        if labels == 1:
            expected = 1 / (1 + math.exp(-logits[0]))
        assert score == pytest.approx(expected, abs=1e-5)
    assert len(set(found)) == 3


def test_grades_lie_between_the_worst_and_the_best() -> None:
    sure = torch.tensor([[30.0, 0.0, 0.0], [0.0, 30.0, 0.0], [0.0, 0.0, 30.0]])
    assert torch.allclose(graded(sure), torch.tensor([0.0, 0.5, 1.0]), atol=1e-6)
    assert torch.allclose(graded(torch.zeros(1, 1)), torch.tensor([0.5]))


def test_long_pairs_are_cut(folders) -> None:
    long = [(Content("a red fox"), Content("snow " * 400))]
    assert CrossEncoder(folders["cross_1"], max_tokens=16)(long) == pytest.approx(
        CrossEncoder(folders["cross_1"], max_tokens=16)([(Content("a red fox"), Content("snow " * 40))])
    )


def grade_by_hand(folder: Path, text: str, answers: list[str]) -> float:
    words, model = tokenizer(), LlamaForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        told = words(text, add_special_tokens=False, return_tensors="pt")  # the template writes what it wants of them
        logits = model(**told).logits[0, -1]
    powers = [math.exp(logits[words.encode(answer, add_special_tokens=False)[0]]) for answer in answers]
    return sum(grade * power for grade, power in enumerate(powers)) / sum(powers) / (len(answers) - 1)


@pytest.mark.parametrize("answers", [["no", "yes"], ["bad", "no", "good"]])
def test_a_language_model_grades(folders, answers: list[str]) -> None:
    teacher = Generative(
        folders["language"], answers=answers, prompt="text {target} query {query} ? {answers}", batch=2
    )
    found = teacher(PAIRS)
    told = ["the fox runs over the snow", "a bird barksin the snow", "text"]
    for score, (query, _), target in zip(found, PAIRS, told, strict=True):
        text = f"user : text {target} query {query.parts[0].text} ? {', '.join(answers)} | "
        assert score == pytest.approx(grade_by_hand(folders["language"], text, answers), abs=1e-5)


def test_a_language_model_says_how_likely_the_query_is(folders) -> None:
    teacher = Generative(folders["language"], signal="likelihood", prompt="text {target} query", batch=3)
    found, words = teacher(PAIRS), tokenizer()
    model = LlamaForCausalLM.from_pretrained(folders["language"]).eval()
    for score, (query, _), target in zip(found[::2], PAIRS[::2], ["the fox runs over the snow", "text"], strict=True):
        before = words.encode(f"user : text {target} query | ", add_special_tokens=False)
        after = words.encode(query.parts[0].text, add_special_tokens=False)
        with torch.no_grad():
            logits = model(torch.tensor([before + after])).logits[0]
        steps = [logits[len(before) - 1 + n].log_softmax(0)[token].item() for n, token in enumerate(after)]
        assert score == pytest.approx(sum(steps) / len(steps), abs=1e-5)


def test_a_model_that_sees_reads_pictures_where_they_stand(folders) -> None:
    teacher = Generative(folders["sees"], prompt="text {target} query {query} ?", batch=4)
    pairs = [
        (Content("a red fox"), Content(picture(1))),
        (Content("a red fox"), Content(picture(2))),
        (Content("a red fox"), Content("snow")),
        (Content("a blue bird"), Content(Document("before", picture(3), "after"))),
        (Content("bird"), Content(clip(1))),
    ]
    found = teacher(pairs)
    assert found == pytest.approx([teacher([one])[0] for one in pairs], abs=1e-5) and len(set(found)) == 5
    model = LlavaForConditionalGeneration.from_pretrained(folders["sees"]).eval()
    processor = LlavaProcessor.from_pretrained(folders["sees"])
    (shown,) = words_and_pictures(pairs[0][1])
    text = "user : text <image> query a red fox ? | "
    with torch.no_grad():
        logits = model(**processor(text=text, images=[shown], return_tensors="pt")).logits[0, -1]
    no, yes = (math.exp(logits[tokenizer().convert_tokens_to_ids(word)]) for word in ("no", "yes"))
    assert found[0] == pytest.approx(yes / (no + yes), abs=1e-5)
    likely = Generative(folders["sees"], signal="likelihood", batch=4)
    assert likely(pairs) == pytest.approx([likely([one])[0] for one in pairs], abs=1e-5)


@pytest.mark.parametrize("kind", ["language", "sees"])
def test_a_begin_mark_of_the_template_is_the_only_one(folders, kind: str) -> None:
    teacher = Generative(folders[kind])
    teacher.tokenizer.add_special_tokens({"bos_token": "<s>"})
    for begin, count in (("{{ bos_token }}", 1), ("", int(kind == "sees"))):  # Llava's template has none: it is added
        teacher.processor.chat_template = begin + TEMPLATE
        for target in (Content("snow"), Content(picture(1)))[: 1 + teacher.sees]:
            ids = teacher._inputs(Content("a red fox"), target)[0]["input_ids"][0].tolist()
            assert ids.count(0) == count and (ids[0] == 0) == bool(count)
    teacher.chats = False  # a base model, whose tokenizer begins a text
    assert teacher._inputs(Content("a"), Content("snow"))[0]["input_ids"][0].tolist().count(0) == 1


@pytest.mark.parametrize("kind", ["language", "sees"])
def test_inputs_of_a_few_batches_are_held_at_once(folders, kind: str) -> None:
    teacher, alive, most = Generative(folders[kind], batch=2), weakref.WeakSet(), []
    made = teacher._inputs

    def counted(*pair):
        inputs = made(*pair)
        alive.add(inputs[0]["input_ids"])
        most.append(len(alive))
        return inputs

    teacher._inputs = counted
    shown = [Content(picture(n)) if n % 2 and teacher.sees else Content("snow " * (n % 7 + 1)) for n in range(30)]
    pairs = [(Content("a red fox"), target) for target in shown]
    found = teacher(pairs)
    assert len(most) == 30 and max(most) <= WINDOW * 2
    assert found == pytest.approx([teacher([pair])[0] for pair in pairs], abs=1e-5)


@pytest.mark.parametrize("signal", ["grade", "likelihood"])
@pytest.mark.parametrize("kind", ["language", "sees"])
def test_logits_are_made_where_they_are_read(folders, kind: str, signal: str) -> None:
    teacher, widths = Generative(folders[kind], signal=signal, batch=3), []
    teacher.model.register_forward_hook(lambda *given: widths.append(given[2].logits.shape[1]))
    pairs = [(query, Content("snow " * length)) for (query, _), length in zip(PAIRS, (40, 43, 41), strict=True)]
    found = teacher(pairs)
    assert len(widths) == 1 and widths[0] <= (3 if signal == "grade" else 3 + 3 + 3)
    teacher._keeps = False  # a class whose forward cannot leave any out
    assert teacher(pairs) == pytest.approx(found, abs=1e-5) and widths[1] > 40


def told(teacher: Generative, query: Content, target: Content) -> list[str]:
    inputs, _ = teacher._inputs(query, target)
    return teacher.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])


def test_long_pairs_lose_the_end_of_the_target_and_never_the_question(folders) -> None:
    few = Generative(folders["language"], prompt="text {target} query {query} ? {answers}", max_tokens=24)
    begin, question = ["user", ":", "text"], ["?", "no", "<unk>", "yes", "|"]  # a comma is no word of this tokenizer
    fox = ["query", "a", "red", "fox", *question]
    assert told(few, Content("a red fox"), Content("the bird")) == [*begin, "the", "bird", *fox]
    cut = told(few, Content("a red fox"), Content("the bird " + "snow " * 700))
    assert cut == [*begin, "the", "bird", *["snow"] * 10, *fox]
    both = told(few, Content("a red " + "fox " * 700), Content("the " + "snow " * 700))
    assert both == [*begin, "the", *["snow"] * 6, *fox[:3], *["fox"] * 6, *question]
    query = told(few, Content("a red " + "fox " * 700), Content("snow"))
    assert query == [*begin, "snow", *fox[:3], *["fox"] * 12, *question]


def test_texts_are_cut_by_letters_where_a_tokenizer_tells_no_places() -> None:
    class Slow:
        is_fast = False

        def encode(self, text: str, add_special_tokens: bool) -> list[str]:
            return text.split()

    found = shortened({"target": ["aa " * 10, "bb " * 10], "query": ["cc"]}, 12, 99, Slow())
    assert found == {"target": ["aa " * 8, ""], "query": ["cc"]}


def test_long_queries_are_cut_before_their_likelihood(folders) -> None:
    teacher = Generative(folders["language"], signal="likelihood", prompt="text {target} query", max_tokens=16)
    inputs, ids = teacher._inputs(Content("a red fox " * 300), Content("the snow " * 300))
    assert inputs["input_ids"].shape == (1, 16) and inputs["input_ids"][0, -len(ids) :].tolist() == ids
    assert len(ids) == 6


def test_pictures_are_counted_and_stay_whole(folders) -> None:
    teacher = Generative(folders["sees"], prompt="text {target} query {query} ?", max_tokens=20)
    cut = told(teacher, Content("a red fox"), Content("the " * 300, picture(1), "snow " * 300))
    assert len(cut) == 20 and cut.count("<image>") == 4 and cut[-5:] == "a red fox ? |".split()
    with pytest.raises(ContentError, match="leave its texts 0 of 20 tokens; raise max_tokens"):
        told(teacher, Content("a red fox"), Content(*map(picture, range(1, 5))))


def test_no_pair_is_longer_than_the_models_positions(folders) -> None:
    teacher = Generative(folders["language"])
    assert len(told(teacher, Content("a"), Content("snow " * 5000))) == 512
    with pytest.raises(ConfigError, match=r"reads 20 tokens, which its prompt's 25 leave no room in; raise max_tokens"):
        Generative(folders["language"], max_tokens=20)


def test_a_contents_own_braces_are_no_prompt(folders) -> None:
    teacher = Generative(folders["language"], prompt="text {target} query {query}")
    shown = teacher._text  # what the model is told
    pieces: list = []
    teacher._text = lambda given: pieces.extend(given) or shown(given)
    teacher([(Content("snow"), Content("a {query} fox"))])
    assert pieces == ["text a {query} fox query snow"]


def test_what_a_teacher_cannot_read(folders) -> None:
    fox = Content("a red fox")
    with pytest.raises(ContentError, match="picture 1: is no text"):
        CrossEncoder(folders["cross_1"])([(fox, Content(picture(1)))])
    with pytest.raises(ContentError, match="sees no pictures"):
        Generative(folders["language"])([(fox, Content(picture(1)))])
    with pytest.raises(ContentError, match="is a sound"):
        Generative(folders["sees"])([(fox, Content(sound()))])
    with pytest.raises(ContentError, match="is no text"):
        Generative(folders["sees"], signal="likelihood")([(Content(picture(1)), fox)])


def test_folders_and_prompts_that_are_refused(folders, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no .safetensors"):
        weights_hash(tmp_path)
    with pytest.raises(ConfigError, match="begin with the same token"):
        Generative(folders["language"], answers=["yes a", "yes the"])
    with pytest.raises(ConfigError, match="must hold {target}"):
        Generative(folders["language"], prompt="query {query}")
    with pytest.raises(WeightsError):
        CrossEncoder(folders["language"])  # weights of another class: its head would be random
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (broken / "model.safetensors").write_bytes(b"half")
    with pytest.raises(WeightsError, match="broken"):
        CrossEncoder(broken)


def test_a_teacher_of_the_config_scores_records(folders, tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(3))
    entry = TeacherOptions.of({"kind": "cross_encoder", "model": str(folders["cross_1"]), "batch": 2})
    teacher = pair_teacher(entry, reader, ("query", "positive"), "cpu")
    found = teacher.scores(np.array([0, 1, 2]), np.array([1, 1, 0]))
    records = list(reader)
    pairs = [(records[a].queries[0].content, records[b].positives[0].content) for a, b in ((0, 1), (1, 1), (2, 0))]
    assert np.allclose(found, CrossEncoder(folders["cross_1"])(pairs), atol=1e-5)
    other = TeacherOptions.of({"kind": "cross_encoder", "model": str(folders["cross_1"]), "max_tokens": 8})
    assert pair_teacher(other, reader, ("query", "positive"), "cpu").fingerprint != teacher.fingerprint
    asked = [{"kind": "generative", "model": str(folders["language"])} | more for more in ({}, {"max_tokens": 300})]
    judges = [pair_teacher(TeacherOptions.of(one), reader, ("query", "positive"), "cpu") for one in asked]
    assert judges[0].fingerprint != judges[1].fingerprint
    assert np.isfinite(judges[1].scores(np.arange(3), np.arange(3))).all()


def test_contents_as_words_and_pictures() -> None:
    small = Image(np.zeros((30, 900, 3), dtype=np.uint8), name="wide")
    shown = words_and_pictures(Content("before", small, Document("in", picture(1)), clip(2, frames=9)), side=300)
    assert shown[0] == "before" and shown[1].size == (300, 10) and shown[2] == "in" and shown[3].size == (40, 40)
    assert len(shown[4:]) == 4 and all(frame.mode == "RGB" for frame in shown[4:])
    with pytest.raises(ContentError, match="is a sound"):
        words_and_pictures(Content(Audio(np.zeros(100, dtype=np.float32), rate=16000)))
    with pytest.raises(ContentError):
        words_and_pictures(Content(Video(b"no clip", name="bad.mp4")))


def whisper(folder: Path, *languages: str) -> Path:
    torch.manual_seed(0)
    marks = ["<s>", "<unk>", "<|notimestamps|>", "<|transcribe|>", *(f"<|{name}|>" for name in languages)]
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*marks, *WORDS])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=2, init_std=0.5,
        decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=40, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0, suppress_tokens=[], begin_suppress_tokens=[], max_target_positions=24,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return folder


def test_a_transcriber_says_how_likely_a_text_is_for_a_sound(tmp_path: Path) -> None:
    """By the feature extractor of Whisper's own authors, one pair at a time."""
    folder = whisper(tmp_path / "english")
    teacher, texts = Transcriber(folder, batch=2), ["a red fox", "snow", "the blue bird runs"]
    low, high = sound(0.5, 300.0), sound(1.2, 700.0)
    pairs = [(Content(low), Content(text)) for text in texts] + [(Content(texts[0]), Content(high))]
    found = teacher(pairs)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extract, words = WhisperFeatureExtractor(), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for score, part, text in zip(found, [low, low, low, high], [*texts, texts[0]], strict=True):
        features = extract(part.source, sampling_rate=16000, return_tensors="pt").input_features
        ids = words.encode(text).ids
        with torch.no_grad():
            logits = model(input_features=features, decoder_input_ids=torch.tensor([[0, 2, *ids]])).logits[0]
        steps = [logits[1 + n].log_softmax(0)[token].item() for n, token in enumerate(ids)]
        assert score == pytest.approx(sum(steps) / len(steps), abs=1e-3)
    assert len(set(found)) == 4
    with pytest.raises(ContentError, match="one of a pair must be a lone sound"):
        teacher([(Content("a"), Content("red"))])
    with pytest.raises(ContentError, match="picture 1: is no text"):
        teacher([(Content(low), Content(picture(1)))])


def test_weights_of_english_alone_are_known_by_what_they_say(tmp_path: Path) -> None:
    """The packaged ones name languages in their vocabulary."""
    folder = whisper(tmp_path / "english", "en")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "is_multilingual": False}))
    assert Transcriber(folder).decoder.start == [0, 2]
    with pytest.raises(ConfigError, match="English alone take no language"):
        Transcriber(folder, language="en")


def test_a_transcriber_of_many_languages_is_told_one(tmp_path: Path, folders) -> None:
    folder = whisper(tmp_path / "many", "en", "fr")
    assert Transcriber(folder, language="fr").decoder.start == [0, 5, 3, 2]
    with pytest.raises(ConfigError, match="need to know a language"):
        Transcriber(folder)
    with pytest.raises(ConfigError, match=r"has no <\|xx\|>"):
        Transcriber(folder, language="xx")
    with pytest.raises(ConfigError, match="takes Whisper's weights, these are of llama"):
        Transcriber(folders["language"])
