"""Connectors: rows in, tokens of the backbone's width and size out."""

import pytest
import torch

from commonspace.errors import ConfigError
from commonspace.models.backbones.connector import Connector


def test_merging_joins_neighbours_and_repeats_the_last_row_of_an_odd_group():
    torch.manual_seed(0)
    connector = Connector(6, 8, positions=5, merge=2)
    rows_NRC = torch.randn(3, 5, 6)
    tokens_NTD = connector(rows_NRC)
    assert tokens_NTD.shape == (3, 3, 8)
    padded_NRC = torch.cat([rows_NRC, rows_NRC[:, -1:]], dim=1)
    assert torch.equal(connector(padded_NRC), tokens_NTD)
    changed_NRC = rows_NRC.clone()
    changed_NRC[:, 2:] += 1
    assert torch.equal(connector(changed_NRC)[:, 0], tokens_NTD[:, 0])


@pytest.mark.parametrize("merge", [1, 2])
def test_the_summary_is_the_token_of_the_mean_row_wherever_the_rows_stand(merge):
    torch.manual_seed(0)
    connector = Connector(6, 8, positions=5, merge=merge)
    rows_NRC = torch.randn(3, 5, 6)
    mean_N1C = rows_NRC.mean(1, keepdim=True)
    summary_ND = connector.summary(rows_NRC)
    torch.testing.assert_close(summary_ND, connector(mean_N1C)[:, 0])  # positions start at zero
    torch.nn.init.normal_(connector.positions)
    torch.testing.assert_close(connector.summary(rows_NRC.flip(1)), summary_ND)


def test_output_starts_at_the_scale_of_word_embeddings():
    torch.manual_seed(0)
    words_VD = 0.05 * torch.randn(500, 32) + 0.01
    connector = Connector(16, 32, positions=9)
    connector.match_scale(words_VD)
    tokens_NTD = connector(torch.randn(64, 9, 16))
    assert tokens_NTD.std().item() == pytest.approx(words_VD.std().item(), rel=0.1)
    assert torch.equal(connector.norm_out.bias, words_VD.mean(0))


def test_a_smaller_grid_takes_the_average_of_the_positions_it_covers():
    connector = Connector(4, 8, positions=16)
    torch.nn.init.normal_(connector.positions)
    table_DP = connector.positions.detach().T.reshape(8, 4, 4)
    expected_TD = torch.stack([table_DP[:, r : r + 2, c : c + 2].mean((1, 2)) for r in (0, 2) for c in (0, 2)])
    assert torch.allclose(connector._positions(4), expected_TD, atol=1e-6)
    assert connector._positions(16) is connector.positions


def test_a_grid_of_another_aspect_takes_its_places_from_the_same_square():
    connector = Connector(4, 8, positions=16)
    torch.nn.init.normal_(connector.positions)
    table_DP = connector.positions.detach().T.reshape(8, 4, 4)
    expected_TD = torch.stack([table_DP[:, 2 * r : 2 * r + 2, c].mean(1) for r in range(2) for c in range(4)])
    torch.testing.assert_close(connector._positions(8, (2, 4)), expected_TD)
    across, down = connector._positions(16, (2, 8)), connector._positions(16, (8, 2))
    assert across.shape == down.shape == (16, 8) and not torch.allclose(across, down)
    assert connector._positions(16, (4, 4)) is connector.positions
    rows_NRC = torch.randn(2, 8, 4)
    assert not torch.allclose(connector(rows_NRC, (2, 4)), connector(rows_NRC, (4, 2)))


def test_more_tokens_than_positions_stretch_the_table():
    connector = Connector(4, 8, positions=6)
    torch.nn.init.normal_(connector.positions)
    stretched_TD = connector._positions(12)
    assert stretched_TD.shape == (12, 8)
    assert stretched_TD.min() >= connector.positions.min() - 1e-6


def test_a_merge_below_one_is_refused():
    with pytest.raises(ConfigError, match="merge"):
        Connector(4, 8, positions=4, merge=0)
