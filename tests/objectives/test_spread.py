from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from commonspace.errors import ConfigError
from commonspace.objectives.matryoshka import matryoshka
from commonspace.objectives.nce import nce_loss
from commonspace.objectives.spread import spread_loss, with_spread


def test_equals_the_double_loop():
    generator = torch.Generator().manual_seed(1)
    query, positive = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    expected = 0.0
    for rows in (F.normalize(query), F.normalize(positive)):
        for i in range(6):
            for j in range(6):
                expected += float(rows[i] @ rows[j]) ** 2 / 30 if i != j else 0.0
    loss, report = spread_loss(query, positive)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert (report["query_spread"] + report["positive_spread"]).item() == pytest.approx(loss.item())


def test_orthogonal_rows_cost_nothing_and_collapsed_rows_two():
    assert spread_loss(torch.eye(4), torch.eye(4))[0].item() == pytest.approx(0, abs=1e-6)
    assert spread_loss(torch.ones(4, 4), torch.ones(4, 4))[0].item() == pytest.approx(2)


def test_descent_spreads_rows():
    torch.manual_seed(0)
    rows = (torch.ones(4, 8) + 0.1 * torch.randn(4, 8)).requires_grad_()
    before = spread_loss(rows, rows)[0].item()
    optimizer = torch.optim.SGD([rows], lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        spread_loss(rows, rows)[0].backward()
        optimizer.step()
    assert spread_loss(rows, rows)[0].item() < before / 10


def test_one_row_is_refused():
    with pytest.raises(ConfigError, match="at least 2"):
        spread_loss(torch.ones(1, 3), torch.ones(1, 3))


def test_beside_a_loss_it_adds_its_weight():
    query, positive = torch.randn(2, 6, 5, dtype=torch.float64)
    loss, report = with_spread(nce_loss, 0.3)(query, positive, None, temperature=0.1)
    plain, plain_report = nce_loss(query, positive, temperature=0.1)
    term, _ = spread_loss(query, positive)
    torch.testing.assert_close(loss, plain + 0.3 * term)
    assert report == plain_report | {"spread": term}


def test_under_matryoshka_every_size_is_spread():
    query, positive = torch.randn(2, 6, 8, dtype=torch.float64)
    loss, _ = matryoshka(with_spread(nce_loss, 0.3), (4, 8))(query, positive, temperature=0.1)
    expected = sum(
        nce_loss(query[:, :size], positive[:, :size], temperature=0.1)[0]
        + 0.3 * spread_loss(query[:, :size], positive[:, :size])[0]
        for size in (4, 8)
    )
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_without_effect_is_refused(weight):
    with pytest.raises(ConfigError, match="positive weight"):
        with_spread(nce_loss, weight)
