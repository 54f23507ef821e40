"""Contents beyond the table of positions: what they get, and that those within it are left as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from commonspace import Content, Document, Embedder
from commonspace.errors import ConfigError, ContentError
from commonspace.models.backbones.positions import PositionTable, restarted, stretched
from commonspace.models.folder import read_json
from tests.models.pretrained import built
from tests.models.tiny import clip, contents, picture, sound, tiny_embedder

LONG = Content("red fox " * 70, picture(1), sound(), Document("snow " * 30, picture(2), "blue bird " * 30))
ROWS = 128  # of the tiny table


def lengthened(positions: str, most: int | None = None, merge: int | None = None) -> Embedder:
    """The tiny model, its processor taking 600 tokens."""
    embedder = tiny_embedder()
    embedder.backbone.set_lengths(positions, most, merge)
    embedder.processor = embedder.processor.with_numbers(max_tokens=600, max_text_tokens=600)
    return embedder


def test_places_between_rows_are_mixed_by_nearness() -> None:
    table = nn.Embedding(3, 2)
    wide = PositionTable.of(table)
    got = wide(torch.tensor([[0.0, 0.25, 1.5, 2.0]]))[0]
    row = table.weight
    torch.testing.assert_close(got, torch.stack([row[0], 0.75 * row[0] + 0.25 * row[1], (row[1] + row[2]) / 2, row[2]]))
    assert torch.equal(wide(torch.arange(3)), row) and wide.weight is table.weight


def test_stretched_places_are_even_from_the_first_row_to_the_last() -> None:
    np.testing.assert_allclose(stretched(7, 4), [0, 0.5, 1, 1.5, 2, 2.5, 3])
    np.testing.assert_array_equal(stretched(4, 4), [0, 1, 2, 3])


def test_positions_start_again_at_each_part() -> None:
    """Text, image, sound, video and the parts of a document; what is inside a video counts on."""
    content = Content("a fox", picture(1), clip(1), Document("snow", picture(2), "bird"))
    pieces = tiny_embedder().processor(content)
    counts = [piece.tokens for piece in pieces.pieces]
    # <s> a fox | [ 2x2 ] | [ frame frame frame ] | then [document goes on, snow | [ 2x2 ] | bird </s>... document] </s>
    text, image, video = [0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4]
    got = restarted(pieces, counts, 8).tolist()
    assert got[:14] == text + image + video
    assert got[14:] == [5, 0, *image, 0, 1, 2], "marks of the document go on from the part before them"


def test_a_part_beyond_the_table_starts_again_after_its_last_row() -> None:
    pieces = tiny_embedder().processor(Content("fox " * 9))
    assert restarted(pieces, [11], 4).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    assert restarted(pieces, [11], 11).tolist() == list(range(11)), "within the table nothing starts again"


@pytest.mark.parametrize("positions", ["interpolate", "restart"])
def test_contents_within_the_table_keep_their_vectors_bit_for_bit(positions: str) -> None:
    plain, longer = tiny_embedder(), lengthened(positions, 600)
    np.testing.assert_array_equal(longer.embed(contents()), plain.embed(contents()))
    beside = longer.embed([*contents(), LONG])
    np.testing.assert_allclose(beside[:-1], plain.embed(contents()), atol=1e-5)


@pytest.mark.parametrize("positions", ["interpolate", "restart"])
def test_states_are_those_of_the_transformer_on_such_positions(positions: str) -> None:
    """The same numbers by hand: word and media vectors plus positions, through BERT's own layers with eager scores."""
    embedder = lengthened(positions, 600)
    pieces, backbone = embedder.processor(LONG), embedder.backbone
    assert pieces.tokens > 2 * ROWS
    seen: list[torch.Tensor] = []
    hook = backbone.text.embeddings.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        states = backbone([pieces]).last_BLD[0]
        hook.remove()
        bert, rows = backbone.text, backbone.text.embeddings.position_embeddings.weight
        if positions == "interpolate":
            grid = nn.functional.interpolate(rows.T[None], size=pieces.tokens, mode="linear", align_corners=True)
            added = grid[0].T
        else:
            added = rows[restarted(pieces, [piece.tokens for piece in pieces.pieces], ROWS)]
        types = bert.embeddings.token_type_embeddings.weight[0]
        hidden = bert.embeddings.LayerNorm(seen[0][0] + added + types)[None]
        for layer in bert.encoder.layer:
            hidden = layer(hidden)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    torch.testing.assert_close(states, hidden[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("positions", ["interpolate", "restart"])
def test_a_long_content_keeps_the_invariants(positions: str) -> None:
    embedder = lengthened(positions, 600)
    together = embedder.embed([LONG, Content("a red fox"), Content("snow " * 200)], batch_tokens=4096)
    np.testing.assert_allclose(embedder.embed([LONG])[0], together[0], atol=1e-5)
    turned = Content(*LONG.parts[::-1])
    assert np.abs(embedder.embed([turned])[0] - together[0]).max() > 1e-3
    embedder.zero_grad()
    embedder([embedder.processor(LONG)]).square().sum().backward()
    assert embedder.backbone.text.embeddings.position_embeddings.weight.grad.abs().sum() > 0


def test_beyond_the_positions_is_refused() -> None:
    with pytest.raises(ContentError, match="the backbone has 128 positions"):
        lengthened("limit").embed([LONG])
    with pytest.raises(ContentError, match="the backbone has 200 positions"):
        lengthened("restart", 200).embed([LONG])


@pytest.mark.parametrize(
    "positions, most, merge", [("restart", 600, None), ("interpolate", 600, 200), ("limit", None, 64)]
)
def test_a_folder_keeps_it_and_older_folders_have_the_limit(positions: str, most, merge, tmp_path) -> None:
    import json

    embedder = lengthened(positions, most, merge)
    embedder.save(tmp_path / "model")
    config = read_json(tmp_path / "model/config.json")
    assert (config["positions"], config["max_positions"], config["merge_beyond"]) == (positions, most, merge)
    loaded = Embedder.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.embed([LONG]), embedder.embed([LONG]))
    for name in ("positions", "max_positions", "merge_beyond"):
        del config[name]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    old = Embedder.load(tmp_path / "model").backbone
    assert (old.positions, old.max_tokens, old.merge_beyond) == ("limit", ROWS, None)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("stretch", None), "choose one of limit, interpolate, restart"),
        (("limit", 600), "max_positions=600 has no effect"),
        (("restart", None), "needs model.max_positions above the 128 rows"),
        (("restart", 128), "needs model.max_positions above the 128 rows"),
        (("limit", None, 200), "merge_beyond=200: this backbone takes 16 to 128"),
        (("limit", None, 4), "merge_beyond=4"),
    ],
)
def test_what_has_no_effect_is_refused(wrong: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_embedder().backbone.set_lengths(*wrong)


def test_an_embedder_takes_them_with_its_limits() -> None:
    embedder = tiny_embedder()
    with pytest.raises(ConfigError, match="model.max_tokens=600: the backbone takes 128 tokens"):
        embedder.set_lengths(max_tokens=600)
    embedder.set_lengths("restart", 600, max_tokens=600, max_text_tokens=600)
    np.testing.assert_array_equal(embedder.embed([LONG]), lengthened("restart", 600).embed([LONG]))
    embedder.set_lengths(merge_beyond=64, max_tokens=600)
    np.testing.assert_array_equal(embedder.embed([LONG]), lengthened("limit", None, 64).embed([LONG]))


def test_kinds_without_a_table_and_limits_above_it_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="causal_lm has no table of learned positions"):
        built(tmp_path, "qwen3", positions="restart", max_positions=600)
