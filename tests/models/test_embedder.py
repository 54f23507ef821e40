"""What must hold of the native model, whatever its weights."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from commonspace import Content, Embedder, Video
from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.models.embedder import length_groups, token_batches
from commonspace.models.folder import check_golden
from commonspace.processing.processor import Processor
from tests.media import numbered_frames, tone, video_bytes
from tests.models.tiny import clip, contents, picture, sound, tiny_embedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


def test_text_alone_gives_the_text_encoders_own_mean(embedder):
    ids = torch.tensor([embedder.processor.tokenizer.tokenizer.encode("a red fox").ids])
    expected_1D = embedder.backbone.text(input_ids=ids).last_hidden_state.mean(1)
    pooled_1D = embedder.pool([embedder.processor(Content("a red fox"))])
    assert torch.allclose(pooled_1D, expected_1D, atol=1e-6)


def test_neighbours_and_padding_do_not_move_a_vector(embedder):
    together_NE = embedder.embed(contents())
    for row, content in enumerate(contents()):
        np.testing.assert_allclose(embedder.embed([content])[0], together_NE[row], atol=1e-5)
    assert np.allclose(np.linalg.norm(together_NE, axis=1), 1, atol=1e-5)


def test_one_content_of_many_parts_is_one_vector_and_order_counts(embedder):
    one = Content("before", picture(1), sound(), clip(1), "after")
    other = Content("before", sound(), picture(1), clip(1), "after")
    vectors_NE = embedder.embed([one, other])
    assert vectors_NE.shape == (2, 32)
    assert np.abs(vectors_NE[0] - vectors_NE[1]).max() > 1e-3


def test_summaries_alone_are_those_of_the_whole_pass(embedder):
    given = [*contents(), *(Content("of", sound(seconds)) for seconds in (0.4, 1.6, 2.9, 1.6)), Content(sound(0.4))]
    batch = [embedder.processor(content) for content in given]
    for alone, whole in zip(embedder.backbone.summaries(batch), embedder.backbone(batch).summaries, strict=True):
        torch.testing.assert_close(alone, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("frames", [2, 3, 5])
def test_stretches_of_a_soundtrack_may_differ_in_rows(embedder, frames):
    video = Video(video_bytes(numbered_frames(frames), sound=tone(0.4, 48_000)))  # 25 rows, two a token
    together_NE = embedder.embed([Content(video), Content("a red fox"), Content(sound())])
    np.testing.assert_allclose(together_NE[0], embedder.embed([Content(video)])[0], atol=1e-5)


def test_the_last_token_moves_the_first_hidden_state(embedder):
    first, second = (embedder.processor(Content(text)) for text in ("a red fox", "a red bird"))
    states = embedder.backbone([first, second])
    assert (states.last_BLD[0, 0] - states.last_BLD[1, 0]).abs().max() > 1e-4


def test_forward_keeps_the_order_of_its_contents(embedder):
    pieces = [embedder.processor(content) for content in contents() * 8]
    whole_NE = embedder(pieces)
    alone_NE = torch.cat([embedder([p]) for p in pieces])
    assert torch.allclose(whole_NE, alone_NE, atol=1e-5)


def test_truncation_is_the_renormalised_prefix(embedder):
    full_NE, cut_N8 = embedder.embed(contents()), embedder.embed(contents(), dim=8)
    expected_N8 = full_NE[:, :8] / np.linalg.norm(full_NE[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(cut_N8, expected_N8, atol=1e-6)
    with pytest.raises(ConfigError, match="dim=33"):
        embedder.embed(["a"], dim=33)


def test_lengths_can_be_left_as_the_head_gives_them(embedder):
    raw_NE, unit_NE = embedder.embed(contents(), normalize=False), embedder.embed(contents())
    with torch.no_grad():
        expected_NE = embedder([embedder.processor(content) for content in contents()]).numpy()
    np.testing.assert_allclose(raw_NE, expected_NE, atol=1e-5)
    assert np.abs(np.linalg.norm(raw_NE, axis=1) - 1).max() > 0.1
    np.testing.assert_allclose(raw_NE / np.linalg.norm(raw_NE, axis=1, keepdims=True), unit_NE, atol=1e-6)
    np.testing.assert_array_equal(embedder.embed(contents(), dim=8, normalize=False), raw_NE[:, :8])


def test_vectors_come_as_numpy_or_torch(embedder):
    as_torch, as_numpy = embedder.embed(contents(), output="torch"), embedder.embed(contents())
    assert isinstance(as_torch, torch.Tensor) and not as_torch.requires_grad
    np.testing.assert_array_equal(as_torch.numpy(), as_numpy)
    with pytest.raises(ConfigError, match="output='list'"):
        embedder.embed(["a"], output="list")


def test_the_same_call_gives_the_same_bytes(embedder):
    assert embedder.embed(contents() * 3).tobytes() == embedder.embed(contents() * 3).tobytes()


@pytest.mark.parametrize("training", [False, True])
def test_threads_on_one_model_give_the_vectors_of_one_thread(training):
    """Also where the model was training: the mode is changed by the first thread in, restored by the last one out."""
    embedder = tiny_embedder().train(training)
    for module in embedder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5  # a thread that meets training mode gives other vectors
    expected_NE = embedder.embed(contents())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: embedder.embed(contents()), range(24)))
    for vectors_NE in found:
        np.testing.assert_allclose(vectors_NE, expected_NE, atol=1e-6)
    assert embedder.training is training


def test_what_was_cut_is_told_to_the_thread_that_asked(embedder):
    limits = replace(embedder.processor.preprocessing, max_audio_seconds=1, max_text_tokens=8)
    processor = Processor(limits, embedder.processor.tokenizer, on_limit="truncate")
    given = [
        Content(sound(2.0)),
        Content("a red fox in the snow runs over the bird"),
        Content("a fox"),
        Content(clip()),
    ]
    expected = [processor(content).truncated for content in given]
    assert [len(notes) for notes in expected] == [1, 1, 0, 0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: processor(given[n % 4]).truncated, range(200)))
    assert found == expected * 50


@pytest.mark.parametrize("kind", ["text", "image", "audio", "video"])
def test_every_trained_tensor_gets_a_gradient_from_the_modality_it_serves(kind):
    embedder = tiny_embedder().train()
    made = {
        "text": Content("a red fox"),
        "image": Content(picture()),
        "audio": Content(sound()),
        "video": Content(clip()),
    }
    embedder([embedder.processor(made[kind])]).square().sum().backward()
    moved = {name for name, p in embedder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    serving = {"text": (), "image": ("image_connector",), "audio": ("audio_connector",), "video": ("image_connector",)}
    expected = {
        name
        for name, p in embedder.named_parameters()
        if p.requires_grad
        and (name.startswith(("head", "backbone.text.encoder")) or any(part in name for part in serving[kind]))
        # a key's bias shifts all scores of a query alike, which the softmax takes out again
        and not name.endswith("key.bias")
    }
    if kind == "video":  # one token a frame shares the table of four
        assert "backbone.image_connector.positions" in moved
    assert expected <= moved, sorted(expected - moved)


def test_a_folder_gives_back_the_same_model_and_its_golden_vectors(embedder, tmp_path):
    embedder.save(tmp_path / "model", card="# a card\n")
    loaded = Embedder.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.embed(contents()), embedder.embed(contents()))
    assert check_golden(loaded, tmp_path / "model") < 1e-5
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "README.md", "config.json", "golden.json", "model.safetensors", "preprocessing.json", "tokenizer.json",
    ]  # fmt: skip
    embedder.save(tmp_path / "model")  # a folder is replaced whole
    assert not [p for p in tmp_path.iterdir() if p.name != "model"]


def test_a_changed_weight_fails_the_golden_check(embedder, tmp_path):
    embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    with torch.no_grad():
        loaded.head.bias += 0.5
    with pytest.raises(WeightsError, match="english"):
        check_golden(loaded, tmp_path / "model")


def test_towers_can_be_left_on_disk(embedder, tmp_path):
    embedder.save(tmp_path / "model")
    text_and_image = Embedder.load(tmp_path / "model", towers=("text", "image"))
    assert set(text_and_image.backbone.towers()) == {"image"}
    assert not [name for name in text_and_image.state_dict() if "audio" in name]
    some = [content for content in contents() if not content.modalities & {"audio"}]
    np.testing.assert_allclose(text_and_image.embed(some), embedder.embed(some), atol=1e-6)
    with pytest.raises(ContentError, match="audio tower"):
        text_and_image.embed([Content(sound())])


def test_what_is_beyond_a_limit_is_refused_or_cut(embedder, tmp_path):
    embedder.save(tmp_path / "model")
    long = ["fox", "bird"] * 100
    with pytest.raises(ContentError, match="has 202 tokens, at most 64 .* on_limit=truncate"):
        Embedder.load(tmp_path / "model").embed([" ".join(long)])
    cut = Embedder.load(tmp_path / "model", on_limit="truncate")
    np.testing.assert_array_equal(cut.embed([" ".join(long)]), embedder.embed([" ".join(long[:62])]))
    with pytest.raises(ConfigError, match="on_limit='cut': use 'error' or 'truncate'"):
        Embedder.load(tmp_path / "model", on_limit="cut")


def test_a_damaged_folder_is_named(embedder, tmp_path):
    embedder.save(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json"):
        Embedder.load(tmp_path / "model")
    with pytest.raises(WeightsError, match="nowhere"):
        Embedder.load(tmp_path / "nowhere")


def test_token_batches_cover_everything_within_the_budget():
    lengths = [3, 50, 7, 7, 120, 1, 64, 9]
    batches = list(token_batches(lengths, 64))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 64 or len(batch) == 1 for batch in batches)


def test_batches_on_a_cpu_are_small_whatever_the_budget(embedder):
    pieces = [embedder.processor(Content("a red fox in the snow " * (1 + n % 8))) for n in range(100)]
    batches = list(embedder.batches(pieces, 8192))
    assert sorted(i for batch in batches for i in batch) == list(range(len(pieces)))
    assert all(len(batch) * max(pieces[i].tokens for i in batch) <= 1024 for batch in batches)
    assert batches == list(embedder.batches(pieces, 1024)) != list(embedder.batches(pieces, 512))
    elsewhere = tiny_embedder().to("meta")
    assert list(elsewhere.batches(pieces, 8192)) == list(token_batches([p.tokens for p in pieces], 8192))


def test_length_groups_bound_the_padding():
    lengths = np.random.default_rng(0).integers(3, 200, 500).tolist()
    groups = length_groups(lengths, waste=0.15, smallest=8)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    padded = sum(len(group) * max(lengths[i] for i in group) for group in groups)
    assert padded < 1.2 * sum(lengths)
    assert len(length_groups([5] * 100)) == 1
