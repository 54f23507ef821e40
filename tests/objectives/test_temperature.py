from __future__ import annotations

import pytest
import torch

from commonspace.errors import ConfigError
from commonspace.objectives.nce import nce_loss
from commonspace.objectives.temperature import ModalityTemperature, Temperature


def test_a_fixed_temperature_has_no_parameters_and_leaves_no_trace_in_checkpoints():
    temperature = Temperature(0.03, tasks={"code": 0.1})
    assert not list(temperature.parameters()) and not temperature.state_dict()
    assert temperature.values() == pytest.approx({"": 0.03, "code": 0.1})
    assert temperature("speech").item() == pytest.approx(0.03)


def test_a_learned_temperature_gets_the_gradient_of_its_own_task_only():
    temperature = Temperature(0.05, learned=True, tasks={"code": 0.1})
    query, positive = torch.randn(2, 6, 4)
    nce_loss(query, positive, temperature=temperature("code"))[0].backward()
    gradient = temperature.log_temperature.grad
    assert gradient[0] == 0 and gradient[1] != 0
    # d loss / d log t, by a central difference
    low, high = (
        nce_loss(query.double(), positive.double(), temperature=0.1 * 2.718281828**e)[0] for e in (-1e-4, 1e-4)
    )
    assert gradient[1].item() == pytest.approx(((high - low) / 2e-4).item(), rel=1e-2)


@pytest.mark.parametrize(("push", "edge"), [(-1.0, 0.01), (1.0, 0.2)])
def test_a_learned_temperature_stops_at_its_bounds_and_comes_back(push, edge):
    temperature = Temperature(0.05, learned=True, minimum=0.01, maximum=0.2)
    optimizer = torch.optim.SGD(temperature.parameters(), lr=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        (-push * temperature().log()).backward()
        optimizer.step()
    assert temperature().item() == pytest.approx(edge)
    optimizer.zero_grad()
    (push * 0.5 * temperature().log()).backward()
    optimizer.step()
    assert temperature().item() != pytest.approx(edge, rel=0.1)


def test_a_pair_takes_the_mean_of_its_sides():
    temperature = ModalityTemperature({"text": 0.01, "image": 0.02, "audio": 0.04}, learned=True)
    pairs = temperature.pairs([{"text"}, {"image", "text"}], [{"audio"}, {"image"}])
    torch.testing.assert_close(pairs, torch.tensor([0.025, 0.0175]))
    pairs.sum().backward()
    assert (temperature.log_temperature.grad[1:] != 0).all()
    with pytest.raises(ConfigError, match="modality video; there is one for text, image, audio"):
        temperature.pairs([{"video"}], [{"text"}])


def test_modalities_without_a_temperature_share_the_initial_one_where_there_is_one():
    temperature = ModalityTemperature({"audio": 0.04}, learned=True, initial=0.01)
    pairs = temperature.pairs([{"text"}, {"audio"}], [{"image"}, {"image", "audio"}])
    torch.testing.assert_close(pairs, torch.tensor([0.01, 0.0325]))
    pairs[0].backward()
    assert temperature.log_temperature.grad[0] != 0 and temperature.log_temperature.grad[1] == 0


def test_equal_modalities_are_one_temperature():
    query, positive = torch.randn(2, 3, 4)
    temperature = ModalityTemperature({"text": 0.05, "image": 0.05}).pairs([{"text"}] * 3, [{"image"}] * 3)
    single = nce_loss(query, positive, temperature=Temperature(0.05)())[0]
    torch.testing.assert_close(nce_loss(query, positive, temperature=temperature)[0], single)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": 0.0}, "must be positive"),
        ({"initial": float("nan")}, "must be positive"),
        ({"minimum": 0.01}, "this one is fixed"),
        ({"learned": True, "initial": 0.001}, "within"),
        ({"learned": True, "tasks": {"code": 3.0}}, "temperature of code is 3.0"),
    ],
)
def test_idle_and_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Temperature(**arguments)
