"""Neighbours that enter as their mean: which, with what vectors, and that contents within the number are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from commonspace import Content
from commonspace.errors import ContentError
from commonspace.models.backbones.merging import entering, merge
from commonspace.processing.pieces import Pieces
from tests.models.backbones.test_positions import LONG, lengthened
from tests.models.tiny import contents, picture, tiny_embedder


def test_runs_stay_within_their_piece_and_ends_alone() -> None:
    pieces = lengthened("restart", 600).processor(Content("fox " * 9, picture(1), "snow " * 5))
    # <s> and nine words | mark, four of the image, mark | five words and </s>: 22 tokens
    plan = entering(pieces, 16)
    assert plan.counts == (6, 1, 2, 1, 4) and plan.tokens == 14
    words, image, rest = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5], [6, 7, 7, 8, 8, 9], [10, 10, 11, 11, 12, 13]
    assert plan.runs_L.tolist() == words + image + rest
    assert entering(pieces, 22).runs_L is None and entering(pieces, None).counts == entering(pieces, 22).counts
    one = lengthened("restart", 600).processor(Content("fox " * 30))
    assert entering(one, 16).runs_L.tolist() == [0, *np.repeat(np.arange(1, 11), 3).tolist(), 11]


def test_the_run_is_the_shortest_that_fits() -> None:
    pieces = lengthened("restart", 600).processor(LONG)
    for most in (40, 64, 100, 200):
        assert entering(pieces, most).tokens <= most
        run = np.bincount(entering(pieces, most).runs_L).max()
        assert run > 1 and _in_loops(pieces, run) == entering(pieces, most).tokens
        assert run == 2 or _in_loops(pieces, run - 1) > most, "one less would not fit"


def _in_loops(pieces: Pieces, run: int) -> int:
    """Tokens that enter in runs of `run`; the first token is <s>, the last a piece of its own."""
    total = 1
    for number, piece in enumerate(pieces.pieces):
        inner = piece.tokens - (number == 0)
        total += piece.tokens if piece.kind in ("mark", "special") else -(-inner // run)
    return total


def test_merged_vectors_are_means_in_loops() -> None:
    pieces = [lengthened("restart", 600).processor(content) for content in (LONG, Content("a red fox"))]
    plans = [entering(one, 64) for one in pieces]
    longest = pieces[0].tokens
    tokens_BLD = torch.randn(2, longest, 3)
    kind_BL = torch.full((2, longest), -1)
    kind_BL[0], kind_BL[1, : pieces[1].tokens] = 1, 0
    merged_BND, kinds_BN = merge(tokens_BLD, kind_BL, plans)
    for place in range(plans[0].tokens):
        rows = [row for row, run in enumerate(plans[0].runs_L) if run == place]
        torch.testing.assert_close(merged_BND[0, place], tokens_BLD[0, rows].mean(0))
    assert torch.equal(merged_BND[1, : pieces[1].tokens], tokens_BLD[1, : pieces[1].tokens])
    assert kinds_BN.shape == (2, plans[0].tokens) and kinds_BN[1].tolist().count(-1) == plans[0].tokens - 5


def test_contents_within_the_number_keep_their_vectors_bit_for_bit() -> None:
    merged = lengthened("limit", None, 64)
    np.testing.assert_array_equal(merged.embed(contents()), tiny_embedder().embed(contents()))
    beside = merged.embed([*contents(), LONG])
    np.testing.assert_allclose(beside[:-1], tiny_embedder().embed(contents()), atol=1e-5)
    np.testing.assert_allclose(merged.embed([LONG])[0], beside[-1], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "input_and_last"])
def test_every_token_of_a_merged_content_counts(pooling: str) -> None:
    embedder = tiny_embedder(pooling=pooling)
    embedder.backbone.set_lengths(merge_beyond=64)
    embedder.processor = lengthened("limit", None, 64).processor
    other = Content("red fox " * 69 + "red bird", *LONG.parts[1:])
    assert np.abs(embedder.embed([LONG])[0] - embedder.embed([other])[0]).max() > 1e-5
    embedder([embedder.processor(LONG)]).square().sum().backward()
    assert embedder.backbone.image_connector.linear.weight.grad.abs().sum() > 0


def test_more_pieces_than_tokens_are_refused() -> None:
    embedder = lengthened("limit", None, 16)
    with pytest.raises(ContentError, match="cannot enter as 16 tokens"):
        embedder.embed([Content(*[picture(n) for n in range(6)])])
